//! How an authority is talked to: reqwest, which the process has anyway, behind instant-acme's
//! `HttpClient`. So there is one TLS stack, every request has its time and its size, and what
//! instant-acme does not tell is kept of the last answer: `Retry-After` (RFC 8555, 6.6), `Link` (7.4.2) and
//! the body.

use super::authority::Authority;
use super::error::{AcmeError, Phase, Problem, said};
use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, LINK, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Larger than any answer of an authority: chains are a few kilobytes.
const BODY_LIMIT: usize = 512 * 1024;
/// `Link` fields kept.
const LINKS: usize = 16;
/// No authority is believed to be away for longer.
const RETRY_LIMIT: Duration = Duration::from_secs(14 * 86_400);

/// What is kept of an answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) status: Option<StatusCode>,
    pub(super) retry_after: Option<Duration>,
    pub(super) links: Vec<String>,
    pub(super) body: Bytes,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Broken(String),
    #[error("an answer of more than {BODY_LIMIT} bytes")]
    TooLarge,
}

/// A conversation with an authority. Clones share what was seen.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    http: reqwest::Client,
    limit: Duration,
    seen: Arc<Mutex<Seen>>,
}

/// When to come again: seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(after.min(RETRY_LIMIT))
}

/// An error with all of its causes; reqwest's own text says little.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        if !text.ends_with(&line) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&line);
        }
        next = cause.source();
    }
    said(if text.is_empty() { "no reason given" } else { &text })
}

impl Transport {
    pub(super) fn new(http: reqwest::Client, limit: Duration) -> Self {
        Self { http, limit, seen: Arc::default() }
    }

    /// The last answer.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A plain GET, for resources that ask for no signature.
    pub(super) async fn get(&self, url: &str) -> Result<Seen, TransportError> {
        let request = self.http.get(url);
        self.send(request).await?;
        Ok(self.seen())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response<Full<Bytes>>, TransportError> {
        let failed = |error: reqwest::Error| match error.is_timeout() {
            true => TransportError::TimedOut(self.limit),
            false => TransportError::Broken(causes(&error)),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
        let mut response = request.send().await.map_err(failed)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(TransportError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let body = body.freeze();
        let links = response.headers().get_all(LINK).iter().filter_map(|link| link.to_str().ok());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen {
            status: Some(response.status()),
            retry_after: retry_after(response.headers(), SystemTime::now()),
            links: links.take(LINKS).map(str::to_owned).collect(),
            body: body.clone(),
        };
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }

    /// The error for what instant-acme says of the last answer.
    pub(super) fn error(&self, error: Error, phase: Phase) -> AcmeError {
        let seen = self.seen();
        let status = seen.status.map_or(0, |status| status.as_u16());
        let retry_after = seen.retry_after;
        match error {
            Error::Api(problem) => refusal(Problem::from(&problem), phase, status, retry_after),
            Error::Other(other) => match other.downcast::<TransportError>() {
                Ok(error) => unreachable(*error, phase),
                Err(other) => AcmeError::Nonsense { phase, detail: said(&other.to_string()) },
            },
            _ if status >= 400 => AcmeError::Status { phase, status, retry_after },
            error @ (Error::Crypto | Error::KeyRejected) => AcmeError::Key(error.to_string()),
            error => AcmeError::Nonsense { phase, detail: said(&error.to_string()) },
        }
    }
}

/// The error for a problem document.
pub(super) fn refusal(mut problem: Problem, phase: Phase, status: u16, retry_after: Option<Duration>) -> AcmeError {
    problem.status = problem.status.or((status >= 400).then_some(status));
    if problem.kind == "rateLimited" || problem.status == Some(429) {
        return AcmeError::RateLimited { phase, problem, retry_after };
    }
    AcmeError::Refused { phase, problem, retry_after }
}

/// The error for no answer.
pub(super) fn unreachable(error: TransportError, phase: Phase) -> AcmeError {
    match error {
        TransportError::TimedOut(limit) => AcmeError::TimedOut { phase, limit, retry_after: None },
        TransportError::Broken(detail) => AcmeError::Connection { phase, detail },
        error @ TransportError::TooLarge => AcmeError::Nonsense { phase, detail: error.to_string() },
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            // The process's own name; instant-acme's stands in it.
            parts.headers.remove(USER_AGENT);
            let request = this.http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
            this.send(request).await.map(BytesResponse::from).map_err(|error| Error::Other(Box::new(error)))
        })
    }
}

/// Whether the URL's host is this machine.
fn is_here(url: &reqwest::Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// A client for an authority: no redirects, no proxy, its roots, HTTP/1.1 (a conversation is one request after
/// another). Reads the system's roots: blocks.
///
/// # Errors
/// The URL or a root cannot be used.
pub(super) fn http_client(
    authority: &Authority,
    connect: Duration,
    limit: Duration,
) -> Result<reqwest::Client, AcmeError> {
    let config = |text: String| AcmeError::Config(text);
    let url = reqwest::Url::parse(&authority.directory)
        .map_err(|error| config(format!("`{}` is no URL: {error}", said(&authority.directory))))?;
    let secure = match url.scheme() {
        "https" => true,
        "http" if is_here(&url) => false,
        _ => return Err(config(format!("`{}`: https is needed", said(&authority.directory)))),
    };
    let mut roots = RootCertStore::empty();
    for text in &authority.roots {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|error| config(format!("a root is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| config(format!("a root cannot be used: {error}")))?;
        }
        if roots.len() == before {
            return Err(config("a root holds no PEM certificate".to_owned()));
        }
    }
    if authority.system_roots || authority.roots.is_empty() {
        // What of the system's is broken does not matter, unless all is.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() && secure {
        return Err(config("the system has no root certificates, and none are configured".to_owned()));
    }
    let name = match &authority.server_name {
        Some(name) => Some(
            ServerName::try_from(name.clone())
                .map_err(|error| config(format!("server name `{}`: {error}", said(name))))?,
        ),
        None => None,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| config(error.to_string()))?;
    let tls = match (name, secure) {
        (Some(name), true) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| config(error.to_string()))?;
            let named = Named { name, verifier };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(named)).with_no_client_auth()
        }
        _ => builder.with_root_certificates(roots).with_no_client_auth(),
    };
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("rust-lb/", env!("CARGO_PKG_VERSION"), " instant-acme/0.8"))
        .connect_timeout(connect)
        .timeout(limit)
        .https_only(secure)
        .http1_only()
        .pool_max_idle_per_host(1)
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| config(causes(&error)))
}

/// Verifies as always, but for a configured name instead of the URL's.
#[derive(Debug)]
struct Named {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:40:37 GMT"), Some(Duration::ZERO), "a date that has passed");
        assert_eq!(read("99999999999999"), Some(RETRY_LIMIT));
        assert_eq!(read("soon"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn an_authority_is_asked_over_https() {
        let second = Duration::from_secs(1);
        let of = |url: &str| http_client(&Authority::new(url), second, second);
        for url in ["http://ca.test/dir", "ftp://127.0.0.1/", "dir", "", "http://127.0.0.1.ca.test/"] {
            assert!(matches!(of(url), Err(AcmeError::Config(_))), "{url}");
        }
        for url in ["http://127.0.0.1:1/dir", "http://[::1]:1/dir", "http://localhost/dir"] {
            assert!(of(url).is_ok(), "{url}");
        }
        let mut authority = Authority::new("https://ca.test/dir");
        authority.roots = vec!["no certificate".to_owned()];
        assert!(matches!(http_client(&authority, second, second), Err(AcmeError::Config(_))));
    }
}
