//! One exchange as the two APIs see it: a request taken apart, an answer put together the way Go's
//! HTTP server sends it (Content-Length up to 2048 bytes, chunked above).

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// What Go buffers before it gives up counting and sends chunks.
const GO_BUFFER: usize = 2048;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request with its body read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path with escapes resolved, as Go's `URL.Path`.
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) version: Version,
    /// Cancelled when the agent is told to end: blocked queries answer what they have.
    pub(crate) draining: CancellationToken,
}

impl Request {
    /// The token: from the product's header, or as a bearer.
    pub(crate) fn token(&self, header: &str) -> Option<String> {
        let text = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = || {
            let (scheme, token) = text("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        };
        text(header).or_else(bearer).filter(|token| !token.is_empty()).map(str::to_owned)
    }
}

/// The parameters behind `?`, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name, true), unescape(value, true))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// Resolves `%xx`, and `+` in queries; what is no escape stays as it is.
pub(crate) fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |n: usize| bytes.get(at + n).and_then(|b| char::from(*b).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) if plus => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `index` and `wait` of a blocking query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) index: u64,
    pub(crate) wait: Duration,
}

/// Reads `index` and `wait`. Both products take Go durations only, a negative or zero wait as
/// their default of five minutes, and a longer one than `max` as `max`.
pub(crate) fn parse_wait(query: &Query, max: Duration) -> Result<Wait, &'static str> {
    const DEFAULT: Duration = Duration::from_secs(300);
    let wait = match query.get("wait").filter(|text| !text.is_empty()) {
        None => DEFAULT,
        Some(text) => go_duration(text).ok_or("Invalid wait time")?,
    };
    let index = match query.get("index").filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => text.parse().map_err(|_| "Invalid index")?,
    };
    Ok(Wait { index, wait: if wait.is_zero() { DEFAULT } else { wait.min(max) } })
}

/// A Go duration; negative ones count as zero. Unlike Traefik's, a bare number other than 0 is none.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if body.bytes().all(|b| b.is_ascii_digit()) && !body.trim_start_matches('0').is_empty() {
        return None;
    }
    let length = crate::model::parse_duration(body).ok()?;
    Some(if text.starts_with('-') { Duration::ZERO } else { length })
}

/// What becomes of a request.
pub(crate) enum Reply {
    /// An answer.
    Answer(Answer),
    /// The connection is taken out of HTTP's hands, as Go's `Hijack` does.
    Take(Box<dyn FnOnce(TcpStream) -> BoxFuture<'static, ()> + Send>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    pub(crate) fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// 200 with a JSON body, indented by four blanks and ended by a line feed where `pretty`.
    pub(crate) fn json(value: &Value, pretty: bool) -> Self {
        let mut body = Vec::new();
        let written = if pretty {
            let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut body, format))
        } else {
            serde_json::to_writer(&mut body, value)
        };
        debug_assert!(written.is_ok(), "a value always serialises");
        if pretty {
            body.push(b'\n');
        }
        Self::new(StatusCode::OK, body).with("Content-Type", JSON)
    }

    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, text.into()).with("Content-Type", TEXT)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// As hyper sends it.
    pub(crate) fn into_response(self) -> hyper::Response<Body> {
        let body = if self.body.len() > GO_BUFFER {
            let bytes = self.body;
            let pieces = (0..bytes.len()).step_by(16 * GO_BUFFER);
            let frames = pieces.map(move |at| {
                let end = bytes.len().min(at + 16 * GO_BUFFER);
                Ok::<_, Infallible>(Frame::data(bytes.slice(at..end)))
            });
            StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
        } else {
            Full::new(self.body).boxed_unsync()
        };
        let mut response = hyper::Response::new(body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response
                    .headers_mut()
                    .append(HeaderName::from_bytes(name.as_bytes()).unwrap_or(hyper::header::VARY), value);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_waits_as_go_does() {
        let max = Duration::from_secs(600);
        let of = |text: &str| parse_wait(&Query::parse(text), max);
        let ok = |index, wait| Ok(Wait { index, wait: Duration::from_millis(wait) });
        assert_eq!(of(""), ok(0, 300_000));
        assert_eq!(of("index=7&wait=500ms"), ok(7, 500));
        assert_eq!(of("index=7&wait=-1s"), ok(7, 300_000));
        assert_eq!(of("wait=0"), ok(0, 300_000));
        assert_eq!(of("wait=1h"), ok(0, 600_000));
        for bad in ["wait=10", "wait=bogus", "wait=1"] {
            assert_eq!(of(bad), Err("Invalid wait time"), "{bad}");
        }
        for bad in ["index=abc", "index=-1"] {
            assert_eq!(of(bad), Err("Invalid index"), "{bad}");
        }
    }

    #[test]
    fn resolves_escapes_and_leaves_what_is_none() {
        assert_eq!(unescape("a%2Fb+c%zz%4", false), "a/b+c%zz%4");
        assert_eq!(unescape("a+b%C3%A4", true), "a bä");
        assert_eq!(Query::parse("a=1&b&a=2").all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert!(Query::parse("stale").has("stale"));
    }
}
