//! The check of an HTTP server: a request of its own on a connection of its own, of whose answer only the
//! head is read. Redirects are followed as Go's client does it for Traefik: ten at most.
//!
//! What always holds: fields and the Host that are configured go to the server's own host only, wherever it redirects to.

use super::ProbeError;
use crate::table::HttpCheck;
use crate::upstream::connect::{self, Alpn};
use crate::upstream::resolve::Addresses;
use crate::upstream::{Endpoint, Settings, Stream};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::rc::Rc;
use tokio_util::task::AbortOnDropHandle;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// An answer's head of HTTP/1.1 is no larger, nor what is read beyond it.
const MAX_HEAD: usize = 16 * 1_024;
/// What the checks call themselves.
pub(super) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("rust-lb/", env!("CARGO_PKG_VERSION"), " (health check)"));

/// Something to be asked for.
#[derive(Debug, Clone)]
struct Place {
    endpoint: Endpoint,
    /// Path and query, from `/` on.
    target: String,
}

impl Place {
    fn scheme(&self) -> &'static str {
        if self.endpoint.tls { "https" } else { "http" }
    }

    /// Host and port as they are written; without the port that the scheme means anyway.
    fn authority(&self) -> String {
        authority(&self.endpoint)
    }

    /// Where a redirect leads (RFC 3986, 5.2, without taking dots out of paths).
    fn led_to(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let absolute;
        let location = match location.strip_prefix("//") {
            Some(rest) => {
                absolute = format!("{}://{rest}", self.scheme());
                &absolute
            }
            None => location,
        };
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let has_scheme = location.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
        let target = match location.chars().next() {
            _ if has_scheme => return Self::of(&location.parse().ok()?),
            None if query.is_empty() => path.to_owned(),
            None => format!("{path}?{query}"),
            Some('/') => location.to_owned(),
            Some('?') => format!("{path}{location}"),
            Some(_) => {
                let directory = path.rfind('/').map_or("/", |at| &path[..=at]);
                format!("{directory}{location}")
            }
        };
        Some(Self { endpoint: self.endpoint.clone(), target })
    }

    fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return None;
        }
        let endpoint = Endpoint { tls, h2c: false, host: host.into(), port };
        Some(Self { endpoint, target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned() })
    }
}

/// Host and port of a server as a request names them.
pub(super) fn authority(endpoint: &Endpoint) -> String {
    let Endpoint { host, port, tls, .. } = endpoint;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    match (tls, port) {
        (false, 80) | (true, 443) => host,
        _ => format!("{host}:{port}"),
    }
}

/// Whether a place is the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    /// It is the server.
    Server,
    /// It has the server's host: what is configured is sent, but for the Host.
    Host,
    /// It is another one's.
    No,
}

/// Runs it; the caller keeps the time.
pub(super) async fn check(
    check: &HttpCheck,
    endpoint: &Endpoint,
    base: Option<&str>,
    addresses: &Rc<Addresses>,
    settings: &Settings,
) -> Result<(), ProbeError> {
    let target = match &*check.target {
        "" => base.unwrap_or("/").to_owned(),
        target => target.to_owned(),
    };
    let mut place = Place { endpoint: endpoint.clone(), target };
    let mut addresses = addresses.clone();
    let mut method = check.method.clone();
    let mut own = Own::Server;
    for _ in 0..=MAX_REDIRECTS {
        let answer = ask(check, &method, &place, own, &addresses, settings).await?;
        let status = answer.status();
        let led = check.follow_redirects.then(|| answer.headers().get(header::LOCATION)).flatten();
        let (Some(location), true) = (led, redirects(status)) else { return judge(check.status, status.as_u16()) };
        let next = location.to_str().ok().and_then(|location| place.led_to(location)).ok_or(ProbeError::Nowhere)?;
        if next.endpoint != place.endpoint {
            own = match next.endpoint.host == endpoint.host && own != Own::No {
                true => Own::Host,
                false => Own::No,
            };
            addresses = Rc::new(Addresses::new(next.endpoint.host.clone(), next.endpoint.port));
        }
        place = next;
        if matches!(status.as_u16(), 301..=303) && method != Method::HEAD {
            method = Method::GET;
        }
    }
    Err(ProbeError::Redirects(MAX_REDIRECTS))
}

fn redirects(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn judge(wanted: Option<u16>, got: u16) -> Result<(), ProbeError> {
    match wanted {
        None if (200..400).contains(&got) => Ok(()),
        None => Err(ProbeError::Status(got)),
        Some(wanted) if wanted == got => Ok(()),
        Some(wanted) => Err(ProbeError::OtherStatus(got, wanted)),
    }
}

/// The head of one answer; the connection is closed by then.
async fn ask(
    check: &HttpCheck,
    method: &Method,
    place: &Place,
    own: Own,
    addresses: &Rc<Addresses>,
    settings: &Settings,
) -> Result<Response<()>, ProbeError> {
    let Place { endpoint, target } = place;
    let offered: &[&[u8]] = if endpoint.tls && settings.http2 { &[b"h2", b"http/1.1"] } else { &[] };
    let dialed = connect::connect(endpoint, addresses, settings, None, offered).await?;
    let is_http2 = endpoint.h2c || dialed.alpn == Alpn::Http2;
    let host = match check.hostname.as_ref().filter(|_| own == Own::Server) {
        Some(host) => host.clone(),
        None => HeaderValue::try_from(place.authority()).map_err(http::Error::from)?,
    };
    let mut request = Request::builder().method(method).header(header::USER_AGENT, AGENT);
    if is_http2 {
        let authority = host.to_str().unwrap_or_default();
        request = request.uri(format!("{}://{authority}{target}", place.scheme()));
    } else {
        request = request.uri(&**target).header(header::HOST, host).header(header::CONNECTION, "close");
    }
    let mut request = request.body(Empty::<Bytes>::new())?;
    for (name, value) in check.headers.iter().filter(|_| own != Own::No) {
        // As Go: a Host of its own is said by `hostname`.
        if *name != header::HOST {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let answer = if is_http2 {
        let (mut sender, _connection) = http2(dialed.stream).await?;
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(dialed.stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::task::spawn_local(connection));
        sender.send_request(request).await?
    };
    Ok(answer.map(|_: Incoming| ()))
}

/// Speaks HTTP/2 on a connection; it is closed when the second value is dropped.
pub(super) async fn http2<B>(
    stream: Stream,
) -> Result<(http2::SendRequest<B>, AbortOnDropHandle<hyper::Result<()>>), ProbeError>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (sender, connection) = http2::Builder::new(OnThisThread)
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .initial_stream_window_size(u32::from(u16::MAX))
        .initial_connection_window_size(u32::from(u16::MAX))
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((sender, AbortOnDropHandle::new(tokio::task::spawn_local(connection))))
}

/// Runs what HTTP/2 wants to be run.
#[derive(Debug, Clone, Copy)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(uri: &str) -> Place {
        Place::of(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn redirects_lead_somewhere() {
        let here = place("http://10.0.0.1:8080/a/b?q=1");
        for (location, there) in [
            ("/x", "http://10.0.0.1:8080/x"),
            ("x?y", "http://10.0.0.1:8080/a/x?y"),
            ("?z", "http://10.0.0.1:8080/a/b?z"),
            ("", "http://10.0.0.1:8080/a/b?q=1"),
            ("#part", "http://10.0.0.1:8080/a/b?q=1"),
            ("//other/x", "http://other/x"),
            ("https://other:444", "https://other:444/"),
            ("http://[2001:db8::1]:81/x#part", "http://[2001:db8::1]:81/x"),
        ] {
            let led = here.led_to(location).unwrap();
            assert_eq!(format!("{}://{}{}", led.scheme(), led.authority(), led.target), there, "{location}");
        }
        for nowhere in ["ftp://h/", "http://u:p@h/", "http://", "javascript:alert(1)", "http://h:0/"] {
            assert!(here.led_to(nowhere).is_none(), "{nowhere}");
        }
    }

    #[test]
    fn statuses() {
        assert!(judge(None, 200).is_ok() && judge(None, 399).is_ok() && judge(Some(418), 418).is_ok());
        assert_eq!(judge(None, 400).unwrap_err().to_string(), "status 400");
        assert_eq!(judge(Some(200), 204).unwrap_err().to_string(), "status 204, expected 200");
    }
}
