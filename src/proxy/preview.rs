//! A request's way through the proxy without a socket, for `explain`: *head*, *route* and the head
//! that a server would get, by the very functions that serve requests.

use super::head::{self, Arrival, Checked};
use super::hop;
use super::request::View;
use crate::http::{Body, Exchange, HeaderValue, Headers, Made};
use crate::table::RequestView;
use std::net::SocketAddr;
use std::sync::Arc;

/// A request behind *head*.
pub struct Preview {
    /// What rules and middlewares see.
    pub exchange: Exchange,
    upgrade: Option<HeaderValue>,
    peer_text: Option<HeaderValue>,
}

impl Preview {
    /// Takes a request in as an entry point does. `trusted` tells whether what the peer says of
    /// those before it (`X-Forwarded-…`) is believed.
    ///
    /// # Errors
    /// The answer to a head that is not acceptable.
    pub fn arrive(
        request: ::http::Request<()>,
        entry_point: &Arc<str>,
        peer: SocketAddr,
        tls: bool,
        trusted: bool,
    ) -> Result<Self, Made> {
        let peer_text = HeaderValue::try_from(peer.ip().to_string()).ok();
        let arrival = Arrival { entry_point, peer, peer_text: peer_text.as_ref(), tls, trusted, hostname: None };
        let Checked { exchange, upgrade } = head::arrive(&arrival, request.into_parts().0)?;
        Ok(Self { exchange, upgrade, peer_text })
    }

    /// The request as rules see it.
    pub fn view(&self) -> impl RequestView + '_ {
        View::of(&self.exchange)
    }

    /// The fields that a server gets of a request without a body.
    pub fn headers(&self, host: HeaderValue) -> Headers {
        hop::for_server(&self.exchange, self.peer_text.as_ref(), host, self.upgrade.as_ref(), &Body::default())
    }
}
