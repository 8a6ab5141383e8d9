//! What proxy, middlewares, upstream and logging share of HTTP: [`Exchange`] (a request, who sent
//! it, and what was decided about it), [`RequestHead`] and [`AnswerHead`] over [`Headers`], the
//! streaming [`Body`], [`Reason`] (why the proxy itself made an answer), [`Failure`] (what went wrong)
//! and [`Protocol`].
//!
//! What always holds: nobody outside `proxy` and `upstream` sees the types of the codec below
//! (hyper's for now), so that it can change without middlewares, balancing and logging noticing.

mod body;
#[cfg(test)]
mod body_tests;
mod cookie;
mod copied;
#[cfg(test)]
mod copied_tests;
mod exchange;
mod failure;
mod fields;
#[cfg(test)]
mod fields_tests;
pub mod h1;
pub mod h2;
mod h2_body;
mod head;
mod made;
pub mod name;
mod reason;
pub mod target;
mod tls;

pub use body::{Body, BodyError, Pipe, Transfer, Upload, UploadFailure};
pub use cookie::cookie;
pub use copied::{Copied, CopyBody, CopyFate, CopyMemory, Tap, Tapped};
pub use exchange::{Exchange, Identity};
pub use failure::{
    BadAnswer, CLIENT_CLOSED_REQUEST, Cause, Context, Failure, Phase, Retry, Side, TlsFailure, TooLarge,
};
pub use fields::Headers;
pub(crate) use fields::{NameSet, Room};
pub use h2_body::H2Body;
pub use head::{AnswerHead, RequestHead};
pub use made::Made;
pub use reason::Reason;
pub use tls::TlsInfo;

// The vocabulary that heads are written in. These are plain values of the `http` crate, not the codec's.
pub use crate::model::{canonical_host, split_port};
pub use ::http::{HeaderValue, Method, StatusCode};
pub use name::HeaderName;

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
