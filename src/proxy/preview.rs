//! A request's way through the proxy without a socket, for `explain`: *head*, *route* and the head
//! that a server would get, by the very functions that serve requests.

use super::head::{self, Arrival, Checked};
use super::hop;
use super::request::View;
use super::settings::HeadRules;
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
    rules: HeadRules,
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
        rules: &HeadRules,
    ) -> Result<Self, Made> {
        let peer_text = HeaderValue::try_from(peer.ip().to_string()).ok();
        let arrival = Arrival { entry_point, peer, peer_text: peer_text.as_ref(), tls, trusted, hostname: None, rules };
        let Checked { exchange, upgrade } = head::arrive(&arrival, request.into_parts().0)?;
        Ok(Self { exchange, upgrade, peer_text, rules: rules.clone() })
    }

    /// The request as rules see it.
    pub fn view(&self) -> impl RequestView + '_ {
        View::of(&self.exchange)
    }

    /// The fields that a server gets of a request without a body.
    pub fn headers(&self, host: HeaderValue) -> Headers {
        let peer = self.peer_text.as_ref().filter(|_| self.rules.append_forwarded_for);
        hop::for_server(&self.exchange, peer, host, self.upgrade.as_ref(), &Body::default())
    }

    /// What the entry point says to the path of a request that a router takes.
    ///
    /// # Errors
    /// The answer to a path that has encoded characters which are refused.
    pub fn encoded(&self) -> Result<(), Made> {
        head::encoded(&self.exchange, &self.rules)
    }
}
