//! What proxy, middlewares, upstream and logging share of HTTP: [`Head`] (a request or response
//! head), [`Reason`] (why the proxy itself made an answer) and [`Protocol`].
//!
//! The codec below is hyper's for now; it stays behind these types, so that it can change without them.

mod reason;
pub mod target;

pub use reason::Reason;

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// As the access log writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}
