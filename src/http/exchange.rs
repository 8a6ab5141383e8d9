//! One request on its way, as middlewares and balancing see it.

use super::{HeaderName, HeaderValue, Headers, Protocol, RequestHead};
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;

/// A request, who sent it over what, and what was decided about it so far.
#[derive(Debug)]
pub struct Exchange {
    /// The request's head.
    pub request: RequestHead,
    /// Entry point that it came in by.
    pub entry_point: Arc<str>,
    /// TCP peer.
    pub peer: SocketAddr,
    /// Whether the client came over TLS.
    pub tls: bool,
    /// What the client speaks.
    pub protocol: Protocol,
    /// Prefixes that middlewares cut off, in order; each becomes an `X-Forwarded-Prefix` line.
    pub prefixes: SmallVec<[Arc<str>; 1]>,
    /// The Host that a middleware wants servers to get.
    pub host: Option<HeaderValue>,
    /// What servers are told of the user that a middleware let in.
    pub identity: Identity,
    /// `X-Forwarded-For` as a peer sent it that is not believed; access rules shut out by it.
    pub claimed_for: Option<HeaderValue>,
    /// Fields as they were before middlewares changed them, where the request may be routed again.
    pub original: Option<Box<Headers>>,
}

/// A user that was let in, as servers learn of it.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The credentials do not go on.
    pub hide_credentials: bool,
    /// The address of the TCP peer does not go on in `X-Forwarded-For`.
    pub hide_peer: bool,
    /// Fields that are set, in place of the client's.
    pub fields: SmallVec<[(HeaderName, HeaderValue); 1]>,
}

impl Exchange {
    /// Undoes what middlewares changed, so that the request can be routed again.
    pub fn reset(&mut self) {
        self.request.reset_path();
        self.prefixes.clear();
        self.host = None;
        self.identity = Identity::default();
        if let Some(original) = &self.original {
            self.request.headers = Headers::clone(original);
        }
    }

    /// Keeps the fields as they are now for [`Self::reset`]: for a request that may be routed again.
    pub fn keep_fields(&mut self) {
        if self.original.is_none() {
            self.original = Some(Box::new(self.request.headers.clone()));
        }
    }

    /// The Host that a server gets: what a middleware said, else the client's, or the server's own
    /// where the client's does not go on.
    pub fn host_for<'a>(&'a self, pass_host_header: bool, own: &'a str) -> &'a [u8] {
        match &self.host {
            Some(host) => host.as_bytes(),
            // HTTP/1.0 may say none.
            None if pass_host_header && !self.request.host().is_empty() => self.request.host().as_bytes(),
            None => own.as_bytes(),
        }
    }
}
