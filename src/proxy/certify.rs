//! What the data side asks of who orders certificates: the answers to an authority's challenges (RFC 8555, 8.3; RFC 8737), and
//! whether a certificate that is missing is on its way.
//!
//! What always holds: only a request below the challenges' path, a handshake of nothing but `acme-tls/1` and one for a host
//! without a certificate ask at all; what has to be waited for has a limit, and after it the handshake goes on as it can.

use super::client::Client;
use super::settings::Settings;
use crate::http::{Exchange, HeaderValue, Made, Reason, StatusCode, canonical_host, name};
use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where an authority looks for the answer to HTTP-01.
const PATH: &str = "/.well-known/acme-challenge/";
/// Longest token that is looked up; they have 43 characters or fewer with every known authority.
const TOKEN_LIMIT: usize = 256;
/// The protocol of TLS-ALPN-01.
const PROTOCOL: &[u8] = b"acme-tls/1";
/// How long a look at what other instances solve may take.
const LOOK: Duration = Duration::from_secs(3);
/// How long a handshake waits for its certificate to be issued.
const ISSUE: Duration = Duration::from_secs(20);

/// An answer that is there, is not, or has to be waited for.
pub enum Known<T> {
    /// It is there.
    Yes(T),
    /// There is none.
    No,
    /// Somebody has to look.
    Ask(BoxFuture<'static, Option<T>>),
}

impl<T> Known<T> {
    async fn within(self, limit: Duration) -> Option<T> {
        match self {
            Self::Yes(answer) => Some(answer),
            Self::No => None,
            Self::Ask(look) => tokio::time::timeout(limit, look).await.ok().flatten(),
        }
    }
}

/// Who knows of certificates in the making. Called by workers: nothing of it may wait but the futures.
pub trait Certifier: Send + Sync {
    /// The key authorization that belongs to a token of a host.
    fn http_challenge(&self, host: &str, token: &str) -> Known<Arc<str>>;

    /// What a handshake of `acme-tls/1` for a host is answered by.
    fn tls_challenge(&self, host: &str) -> Known<Arc<ServerConfig>>;

    /// Where a host has no certificate and one may be coming: ends when it has, or when it will not.
    fn coming(&self, host: &str) -> Option<BoxFuture<'static, ()>>;
}

/// See [`Certifier`]; nobody by default.
#[derive(Clone, Default)]
pub struct Certification(Option<Arc<dyn Certifier>>);

impl Certification {
    /// By this one.
    pub fn by(certifier: Arc<dyn Certifier>) -> Self {
        Self(Some(certifier))
    }
}

impl fmt::Debug for Certification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certification").finish_non_exhaustive()
    }
}

/// Whether a request may be an authority's: the others pay a comparison for it.
pub(super) fn may_be_challenge(settings: &Settings, path: &str) -> bool {
    path.starts_with(PATH) && settings.certification.0.is_some()
}

/// The answer to HTTP-01; `None` where the request is somebody else's.
pub(super) async fn answer(client: &Client, exchange: &Exchange) -> Option<Made> {
    let certifier = client.open.worker.settings.certification.0.as_ref()?;
    let token = exchange.request.routing_path().strip_prefix(PATH)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if token.is_empty() || token.len() > TOKEN_LIMIT || !token.bytes().all(good) {
        return None;
    }
    let known = certifier.http_challenge(&canonical_host(exchange.request.host()), token);
    let authorization = known.within(LOOK).await?;
    let mut made = Made::new(StatusCode::OK, String::from(&*authorization), Reason::AcmeChallenge);
    made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Some(made)
}

/// Whether a client's first message is an authority's look at TLS-ALPN-01: it offers that protocol and no other
/// (RFC 8737, 3).
pub(super) fn is_tls_challenge<'a>(mut offered: impl Iterator<Item = &'a [u8]>) -> bool {
    offered.next() == Some(PROTOCOL) && offered.next().is_none()
}

/// What an authority's handshake goes by.
pub(super) async fn tls_challenge(settings: &Settings, host: Option<&str>) -> Option<Arc<ServerConfig>> {
    let certifier = settings.certification.0.as_ref()?;
    certifier.tls_challenge(host?).within(LOOK).await
}

/// Waits for a host's certificate if it has none and one may be coming.
pub(super) async fn wait(settings: &Settings, host: Option<&str>) {
    if let Some(certifier) = &settings.certification.0
        && let Some(coming) = host.and_then(|host| certifier.coming(host))
    {
        // One that comes later is there for the next handshake.
        drop(tokio::time::timeout(ISSUE, coming).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_protocol_alone_is_an_authoritys() {
        let is = |offered: &[&[u8]]| is_tls_challenge(offered.iter().copied());
        assert!(is(&[b"acme-tls/1"]));
        assert!(!is(&[b"acme-tls/1", b"h2"]));
        assert!(!is(&[b"h2", b"acme-tls/1"]));
        assert!(!is(&[]));
    }
}
