//! Why a health check failed, in words for the log, the API and metrics' readers.

use crate::upstream::ConnectError;
use std::io;
use std::time::Duration;

/// Why a health check failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// Too late.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// It is not HTTP, its head is too large, or the connection broke before it came.
    #[error("no answer over HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The status is not the one that is wanted.
    #[error("status {0}")]
    Status(u16),
    /// Likewise.
    #[error("status {0}, expected {1}")]
    OtherStatus(u16, u16),
    /// It leads round and round.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// It leads nowhere.
    #[error("a redirect to a place that cannot be asked")]
    Nowhere,
    /// The request cannot be put together.
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    /// The TCP answer is another one.
    #[error("the answer does not begin as expected")]
    Unexpected,
    /// gRPC without the health service.
    #[error("the gRPC server does not implement the health protocol")]
    Unimplemented,
    /// A gRPC failure, by its code.
    #[error("gRPC status {0}")]
    Grpc(String),
    /// The health service says no.
    #[error("the gRPC server says {0}")]
    NotServing(&'static str),
    /// No message of the health protocol.
    #[error("the answer is no message of the gRPC health protocol")]
    NotGrpc,
}

impl ProbeError {
    /// Whether this machine ran out of something, of which the server knows nothing.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_ours())
    }
}
