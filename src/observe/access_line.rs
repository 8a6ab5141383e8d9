//! One access log line, in Traefik's JSON fields or one of its common formats
//! (<https://doc.traefik.io/traefik/observability/access-logs/>). Pure but for the number of the
//! line, written into a buffer that is used again.
//!
//! Additions to Traefik's fields: `ProxyReason`, the code of an answer that the proxy made itself;
//! `ProxyCause`, `ProxySide`, `ProxyRetry` and `ProxyContext`, what went wrong; `SampleRate`, for how
//! many requests a line stands where only some are logged.

use super::access::Numbers;
use super::access_options::{Field, Format, Mode, Options};
use super::line::Line;
use super::record::{HeadView, RequestRecord, WhichHead};
use super::zone::{Second, Style, Zone, split_time};
use crate::http::Context;
use crate::model::split_port;
use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// A buffer that has grown beyond this is not kept.
const LARGEST_KEPT: usize = 256 * 1024;

/// Writes lines into its buffer.
pub(super) struct Encoder {
    options: Options,
    numbers: Numbers,
    buffer: Vec<u8>,
    local: Second,
    utc: Second,
    ended: Second,
    /// Requests since the last one that was logged as a sample.
    passed: u32,
}

impl Encoder {
    pub(super) fn new(options: Options, numbers: Numbers) -> Self {
        let style = match options.format {
            Format::Json => Style::Rfc3339,
            Format::Common | Format::Generic => Style::Common,
        };
        Self {
            numbers,
            buffer: Vec::new(),
            local: Second::new(options.zone.clone(), style),
            utc: Second::new(Zone::utc(), style),
            ended: Second::new(options.zone.clone(), style),
            passed: options.sample,
            options,
        }
    }

    /// Bytes waiting.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The lines written since the last call.
    pub(super) fn take(&mut self) -> Bytes {
        let lines = Bytes::copy_from_slice(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(LARGEST_KEPT);
        lines
    }

    /// Writes the request's line; false when it is not to be logged.
    pub(super) fn encode(&mut self, record: &RequestRecord<'_>) -> bool {
        // Counted whether it is logged or not, as Traefik does.
        let number = self.numbers.next();
        let internal = record.router.is_some_and(|router| router.ends_with("@internal"));
        if (internal && !self.options.internals) || !self.options.filters.keep(record) {
            return false;
        }
        let Some(rate) = self.sampled(record) else { return false };
        match self.options.format {
            Format::Json => self.json(record, number, rate),
            Format::Common | Format::Generic => self.common(record, number),
        }
        true
    }

    /// For how many requests the line stands; `None` when the request is passed over.
    fn sampled(&mut self, record: &RequestRecord<'_>) -> Option<u32> {
        let every = self.options.sample;
        if every <= 1 || record.failure.is_some() || record.status >= 500 {
            return Some(1);
        }
        self.passed += 1;
        (self.passed >= every).then(|| {
            self.passed = 0;
            every
        })
    }

    fn json(&mut self, r: &RequestRecord<'_>, number: u64, rate: u32) {
        let Self { options, buffer, local, utc, ended, .. } = self;
        let start = buffer.len();
        let mut out = Json { line: Line::new(buffer), dropped: &options.fields };
        // What Traefik counts as the server's answer includes the one that it makes for a failed server.
        let origin_status = match (r.origin_status, r.server) {
            (0, Some(_)) => r.status,
            (status, _) => status,
        };
        let origin_size = if origin_status == 0 { 0 } else { r.response_bytes };
        let client = r.client.ip().to_canonical();
        out.with(Field::ClientAddr, |line| {
            line.raw("\"");
            address(line, client, r.client.port());
            line.raw("\"");
        });
        out.with(Field::ClientHost, |line| match r.forwarded_for {
            Some(client) => line.quoted(client),
            None => {
                line.raw("\"");
                line.ip(client);
                line.raw("\"");
            }
        });
        out.with(Field::ClientPort, |line| {
            line.raw("\"");
            line.number(u64::from(r.client.port()));
            line.raw("\"");
        });
        out.plain(Field::ClientUsername, "-");
        out.number(Field::DownstreamContentSize, r.response_bytes);
        out.number(Field::DownstreamStatus, u64::from(r.status));
        out.number(Field::Duration, nanos(r.duration));
        if origin_size != r.response_bytes {
            out.number(Field::GzipRatio, 0);
        }
        out.number(Field::OriginContentSize, origin_size);
        out.number(Field::OriginDuration, nanos(r.origin_duration));
        out.number(Field::OriginStatus, u64::from(origin_status));
        out.number(Field::Overhead, nanos(r.duration.saturating_sub(r.origin_duration)));
        if let Some(failure) = &r.failure {
            out.plain(Field::ProxyCause, failure.cause.as_str());
            if failure.context != Context::None {
                // Failures are rare enough for the formatting machinery.
                let mut text = String::new();
                let _ = write!(text, "{}", failure.context);
                out.text(Field::ProxyContext, &text);
            }
        }
        if let Some(reason) = r.reason {
            out.plain(Field::ProxyReason, reason.as_str());
        }
        if let Some(failure) = &r.failure {
            out.plain(Field::ProxyRetry, failure.retry.as_str());
            out.plain(Field::ProxySide, failure.side.as_str());
        }
        if !r.host.is_empty() {
            out.text(Field::RequestAddr, r.host);
        }
        out.number(Field::RequestContentSize, r.request_bytes);
        out.number(Field::RequestCount, number);
        let (host, port) = host_and_port(r.host);
        if !r.host.is_empty() {
            out.text(Field::RequestHost, host);
        }
        out.text(Field::RequestMethod, r.method);
        out.text(Field::RequestPath, path(r.target, options.fields.query));
        if !r.host.is_empty() {
            out.text(Field::RequestPort, port);
        }
        out.plain(Field::RequestProtocol, r.protocol.as_str());
        out.plain(Field::RequestScheme, if r.tls.is_some() { "https" } else { "http" });
        out.number(Field::RetryAttempts, u64::from(r.retries));
        if let Some(router) = r.router {
            out.text(Field::RouterName, router);
        }
        if options.sample > 1 {
            out.number(Field::SampleRate, u64::from(rate));
        }
        if let Some(server) = r.server {
            out.text(Field::ServiceAddr, address_of(server));
        }
        if let Some(service) = r.service {
            out.text(Field::ServiceName, service);
        }
        if let Some(server) = r.server {
            out.text(Field::ServiceURL, server);
        }
        let (unix, fraction) = split_time(r.started);
        for (field, second) in [(Field::StartLocal, local), (Field::StartUTC, utc)] {
            out.with(field, |line| {
                line.raw("\"");
                second.write(line, unix, fraction);
                line.raw("\"");
            });
        }
        if let Some(tls) = &r.tls {
            out.plain(Field::TLSCipher, tls.cipher);
            out.plain(Field::TLSVersion, tls.version);
        }
        out.text(Field::EntryPointName, r.entry_point);
        let mut line = out.line;
        if let Some(heads) = r.heads {
            for (head, prefix) in [
                (WhichHead::Downstream, "downstream_"),
                (WhichHead::Origin, "origin_"),
                (WhichHead::Request, "request_"),
            ] {
                headers(&mut line, options, heads, head, prefix);
            }
        }
        line.raw(",\"level\":\"info\",\"msg\":\"\",\"time\":\"");
        let (unix, _) = split_time(end(r));
        ended.write(&mut line, unix, 0);
        line.raw("\"}\n");
        // Every key came with a comma before it, the first one too.
        if let Some(first) = buffer.get_mut(start) {
            *first = b'{';
        }
    }

    /// What a dropped field leaves is `-`.
    fn common(&mut self, r: &RequestRecord<'_>, number: u64) {
        let Self { options, buffer, local, utc, .. } = self;
        let fields = &options.fields;
        let mut line = Line::new(buffer);
        match r.forwarded_for {
            _ if !fields.has(Field::ClientHost) => line.raw("-"),
            Some(client) => line.escaped(client),
            None => line.ip(r.client.ip().to_canonical()),
        }
        line.raw(" - - [");
        let (unix, _) = split_time(r.started);
        if fields.has(Field::StartUTC) {
            utc.write(&mut line, unix, 0);
        } else if fields.has(Field::StartLocal) {
            local.write(&mut line, unix, 0);
        } else {
            line.raw("-");
        }
        line.raw("] \"");
        let word = |line: &mut Line<'_>, field, text: &str| {
            line.escaped(if fields.has(field) && !text.is_empty() { text } else { "-" });
        };
        word(&mut line, Field::RequestMethod, r.method);
        line.raw(" ");
        word(&mut line, Field::RequestPath, path(r.target, fields.query));
        line.raw(" ");
        word(&mut line, Field::RequestProtocol, r.protocol.as_str());
        line.raw("\" ");
        let count = |line: &mut Line<'_>, field, n: u64| {
            if fields.has(field) { line.number(n) } else { line.raw("-") }
        };
        count(&mut line, Field::DownstreamStatus, u64::from(r.status));
        line.raw(" ");
        count(&mut line, Field::DownstreamContentSize, r.response_bytes);
        for name in ["referer", "user-agent"] {
            line.raw(" \"");
            agent(&mut line, options, r.heads, name);
            line.raw("\"");
        }
        if options.format == Format::Common {
            line.raw(" ");
            count(&mut line, Field::RequestCount, number);
            for (field, text) in [(Field::RouterName, r.router), (Field::ServiceURL, r.server)] {
                line.raw(" \"");
                word(&mut line, field, text.map_or("", |text| text));
                line.raw("\"");
            }
            line.raw(" ");
            let millis = if fields.has(Field::Duration) { r.duration.as_millis() } else { 0 };
            line.number(u64::try_from(millis).unwrap_or(u64::MAX));
            line.raw("ms");
        }
        line.raw("\n");
    }
}

/// The fields of a JSON line, each with its comma, without those that are dropped.
struct Json<'l, 'o> {
    line: Line<'l>,
    dropped: &'o super::access_options::Fields,
}

impl<'l> Json<'l, '_> {
    #[inline]
    fn with(&mut self, field: Field, value: impl FnOnce(&mut Line<'l>)) {
        if self.dropped.has(field) {
            self.line.raw(field.key());
            value(&mut self.line);
        }
    }

    #[inline]
    fn number(&mut self, field: Field, n: u64) {
        self.with(field, |line| line.number(n));
    }

    #[inline]
    fn text(&mut self, field: Field, text: &str) {
        self.with(field, |line| line.quoted(text));
    }

    /// A text of our own, in which nothing is to be escaped.
    #[inline]
    fn plain(&mut self, field: Field, text: &'static str) {
        self.with(field, |line| {
            line.raw("\"");
            line.raw(text);
            line.raw("\"");
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When the answer had ended; what cannot be added up is taken for the start.
fn end(r: &RequestRecord<'_>) -> SystemTime {
    r.started.checked_add(r.duration).unwrap_or(r.started)
}

/// The target, without its query where that is not logged.
fn path(target: &str, query: bool) -> &str {
    if query { target } else { target.split_once('?').map_or(target, |(path, _)| path) }
}

fn address(line: &mut Line<'_>, ip: std::net::IpAddr, port: u16) {
    if ip.is_ipv6() {
        line.raw("[");
        line.ip(ip);
        line.raw("]");
    } else {
        line.ip(ip);
    }
    line.raw(":");
    line.number(u64::from(port));
}

/// The header fields of a head: those of one name in one value, separated by commas, as Go joins them.
fn headers(line: &mut Line<'_>, options: &Options, heads: &dyn HeadView, head: WhichHead, prefix: &str) {
    let mut all: SmallVec<[(&str, &[u8]); 32]> = SmallVec::new();
    heads.each(head, &mut |name, value| all.push((name, value)));
    for (at, (name, value)) in all.iter().enumerate() {
        let same = |other: &&(&str, &[u8])| other.0.eq_ignore_ascii_case(name);
        // A name is a token; what is none is no field and could end the text.
        let token = name.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        let mode = options.fields.headers.mode(name);
        if mode == Mode::Drop || !token || all[..at].iter().any(|other| same(&other)) {
            continue;
        }
        line.raw(",\"");
        line.raw(prefix);
        line.canonical(name);
        line.raw("\":\"");
        if mode == Mode::Redact {
            line.raw("REDACTED");
        } else {
            line.json_bytes(value);
            for (_, more) in all[at + 1..].iter().filter(same) {
                line.raw(",");
                line.json_bytes(more);
            }
        }
        line.raw("\"");
    }
}

/// The value of one of the two header fields of the common formats.
fn agent(line: &mut Line<'_>, options: &Options, heads: Option<&dyn HeadView>, wanted: &str) {
    let mut found = None;
    if let Some(heads) = heads {
        heads.each(WhichHead::Request, &mut |name, value| {
            if found.is_none() && name.eq_ignore_ascii_case(wanted) {
                found = Some(value);
            }
        });
    }
    match (options.fields.headers.mode(wanted), found.and_then(|value| std::str::from_utf8(value).ok())) {
        (Mode::Keep, Some(text)) if !text.is_empty() => line.escaped(text),
        (Mode::Redact, _) => line.raw("REDACTED"),
        _ => line.raw("-"),
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

#[cfg(test)]
#[path = "access_line_tests.rs"]
mod tests;
