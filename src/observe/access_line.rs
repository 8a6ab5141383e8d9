//! One access log line, in Traefik's JSON fields or its common format
//! (<https://doc.traefik.io/traefik/observability/access-logs/>). Pure but for the number of the
//! line, written into a buffer that is used again.
//!
//! Times are UTC in both formats (`StartLocal` too). `ProxyReason` is an addition: the reason code
//! of an answer that the proxy made itself.

use super::access::{Format, Numbers};
use super::record::RequestRecord;
use crate::model::split_port;
use bytes::{Bytes, BytesMut};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Text of a second, kept as long as the second lasts.
#[derive(Default)]
struct Second {
    unix: i64,
    text: String,
}

impl Second {
    fn get(&mut self, unix: i64, format: &str) -> &str {
        if self.unix != unix || self.text.is_empty() {
            self.unix = unix;
            self.text.clear();
            let time = jiff::Timestamp::from_second(unix).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            // Writing to a String does not fail.
            let _ = write!(self.text, "{}", time.strftime(format));
        }
        &self.text
    }
}

/// Seconds since the epoch and the nanoseconds in them; times before it count as the epoch.
fn split_time(time: SystemTime) -> (i64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos())
}

/// Writes lines into its buffer.
pub(super) struct Encoder {
    format: Format,
    numbers: Numbers,
    buffer: BytesMut,
    started: Second,
    ended: Second,
}

impl Encoder {
    pub(super) fn new(format: Format, numbers: Numbers) -> Self {
        Self { format, numbers, buffer: BytesMut::new(), started: Second::default(), ended: Second::default() }
    }

    /// Bytes waiting.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The lines written since the last call. The buffer's memory comes back once they are written.
    pub(super) fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    pub(super) fn encode(&mut self, record: &RequestRecord<'_>) {
        let number = self.numbers.next();
        let mut line = Line(&mut self.buffer);
        match self.format {
            Format::Json => json(&mut line, &mut self.started, &mut self.ended, record, number),
            Format::Common => common(&mut line, &mut self.started, record, number),
        }
    }
}

/// Writing into memory does not fail, hence no results.
struct Line<'a>(&'a mut BytesMut);

impl Line<'_> {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, n: impl std::fmt::Display) {
        let _ = write!(self.0, "{n}");
    }

    /// `"key":` with the comma before it; keys are plain words.
    fn key(&mut self, key: &str) {
        self.raw(",\"");
        self.raw(key);
        self.raw("\":");
    }

    fn json_text(&mut self, text: &str) {
        let mut sink = Sink(self.0);
        let _ = serde_json::to_writer(&mut sink, text);
    }

    fn text_field(&mut self, key: &str, text: &str) {
        self.key(key);
        self.json_text(text);
    }

    fn number_field(&mut self, key: &str, n: impl std::fmt::Display) {
        self.key(key);
        self.number(n);
    }

    /// Client's text in the common format: what could end a field or a line is escaped.
    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    let _ = write!(self.0, "\\{c}");
                }
                c if c.is_control() => {
                    let _ = write!(self.0, "{}", c.escape_default());
                }
                c => {
                    let _ = self.0.write_char(c);
                }
            }
        }
    }

    /// ` "text"`, or ` "-"` for nothing.
    fn quoted(&mut self, text: Option<&str>) {
        self.raw(" \"");
        self.escaped(text.filter(|t| !t.is_empty()).unwrap_or("-"));
        self.raw("\"");
    }

    /// An instant as Go's RFC3339Nano writes it: fraction without trailing zeros.
    fn instant(&mut self, second: &str, nanos: u32) {
        self.raw(second);
        if nanos > 0 {
            let digits = nanos + 1_000_000_000;
            let mut text = [0u8; 10];
            let mut rest = &mut text[..];
            let _ = write!(rest, "{digits}");
            text[0] = b'.';
            let end = text.iter().rposition(|d| *d != b'0').map_or(1, |last| last + 1);
            self.0.extend_from_slice(&text[..end]);
        }
        self.raw("Z");
    }
}

struct Sink<'a>(&'a mut BytesMut);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `host` and `port` as Go's `net.SplitHostPort` gives them, `-` for no port.
fn host_and_port(authority: &str) -> (&str, &str) {
    match split_port(authority) {
        (host, Some(port)) => (host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host), port),
        (host, None) => (host, "-"),
    }
}

/// `host:port` of a server's URL.
fn address_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    rest.rsplit_once('@').map_or(rest, |(_, host)| host)
}

const SECOND: &str = "%Y-%m-%dT%H:%M:%S";

fn json(line: &mut Line<'_>, started: &mut Second, ended: &mut Second, r: &RequestRecord<'_>, number: u64) {
    // What Traefik counts as the server's answer includes the one that it makes for a failed server.
    let origin_status = match (r.origin_status, r.server) {
        (0, Some(_)) => r.status,
        (status, _) => status,
    };
    let origin_size = if origin_status == 0 { 0 } else { r.response_bytes };
    let client = r.client.ip().to_canonical();
    let (host, port) = host_and_port(r.host);
    line.raw("{\"ClientAddr\":\"");
    line.number(std::net::SocketAddr::new(client, r.client.port()));
    line.raw("\"");
    line.key("ClientHost");
    line.raw("\"");
    line.number(client);
    line.raw("\"");
    line.key("ClientPort");
    line.raw("\"");
    line.number(r.client.port());
    line.raw("\"");
    line.text_field("ClientUsername", "-");
    line.number_field("DownstreamContentSize", r.response_bytes);
    line.number_field("DownstreamStatus", r.status);
    line.number_field("Duration", r.duration.as_nanos());
    if origin_size != r.response_bytes {
        line.number_field("GzipRatio", 0);
    }
    line.number_field("OriginContentSize", origin_size);
    line.number_field("OriginDuration", r.origin_duration.as_nanos());
    line.number_field("OriginStatus", origin_status);
    line.number_field("Overhead", r.duration.saturating_sub(r.origin_duration).as_nanos());
    if let Some(reason) = r.reason {
        line.text_field("ProxyReason", reason.as_str());
    }
    line.text_field("RequestAddr", r.host);
    line.number_field("RequestContentSize", r.request_bytes);
    line.number_field("RequestCount", number);
    line.text_field("RequestHost", host);
    line.text_field("RequestMethod", r.method);
    line.text_field("RequestPath", r.target);
    line.text_field("RequestPort", port);
    line.text_field("RequestProtocol", r.protocol.as_str());
    line.text_field("RequestScheme", if r.tls { "https" } else { "http" });
    line.number_field("RetryAttempts", r.retries);
    if let Some(router) = r.router {
        line.text_field("RouterName", router);
    }
    if let Some(server) = r.server {
        line.text_field("ServiceAddr", address_of(server));
    }
    if let Some(service) = r.service {
        line.text_field("ServiceName", service);
    }
    if let Some(server) = r.server {
        line.text_field("ServiceURL", server);
    }
    let (second, nanos) = split_time(r.started);
    let text = started.get(second, SECOND);
    for key in ["StartLocal", "StartUTC"] {
        line.key(key);
        line.raw("\"");
        line.instant(text, nanos);
        line.raw("\"");
    }
    line.text_field("entryPointName", r.entry_point);
    line.raw(",\"level\":\"info\",\"msg\":\"\"");
    let (second, _) = split_time(r.started + r.duration.min(Duration::from_secs(1 << 31)));
    line.key("time");
    line.raw("\"");
    line.instant(ended.get(second, SECOND), 0);
    line.raw("\"}\n");
}

fn common(line: &mut Line<'_>, started: &mut Second, r: &RequestRecord<'_>, number: u64) {
    line.number(r.client.ip().to_canonical());
    line.raw(" - - [");
    line.raw(started.get(split_time(r.started).0, "%d/%b/%Y:%H:%M:%S +0000"));
    line.raw("] \"");
    line.escaped(r.method);
    line.raw(" ");
    line.escaped(r.target);
    line.raw(" ");
    line.raw(r.protocol.as_str());
    line.raw("\" ");
    line.number(r.status);
    line.raw(" ");
    line.number(r.response_bytes);
    line.quoted(r.referer);
    line.quoted(r.user_agent);
    line.raw(" ");
    line.number(number);
    line.quoted(r.router.map(|s| &**s));
    line.quoted(r.server.map(|s| &**s));
    line.raw(" ");
    line.number(r.duration.as_millis());
    line.raw("ms\n");
}

#[cfg(test)]
#[path = "access_line_tests.rs"]
mod tests;
