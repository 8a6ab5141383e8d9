//! What the access log writes: format, filters, fields and sampling, in plain values. Their
//! meaning is Traefik's (<https://doc.traefik.io/traefik/reference/install-configuration/observability/logs-and-accesslogs/>)
//! but for sampling, which is an addition.

use super::record::{RequestRecord, WantedHeads};
use super::zone::Zone;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Traefik's common format.
    Common,
    /// The common format without Traefik's additions (`genericCLF`).
    Generic,
    /// One JSON object a line.
    Json,
}

/// What is written, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// How.
    pub format: Format,
    /// File; `None` means standard output.
    pub file: Option<PathBuf>,
    /// Lines that may wait for the writer at least (`bufferingSize`); more may.
    pub buffering: usize,
    /// Requests for the proxy's own routes are logged too (`addInternals`).
    pub internals: bool,
    /// Which requests are logged.
    pub filters: Filters,
    /// What of them.
    pub fields: Fields,
    /// One request in so many is logged; those that failed always. 1 logs all.
    pub sample: u32,
    /// Of `StartLocal` and `time`.
    pub zone: Zone,
}

impl Options {
    /// Everything that Traefik writes by default, of all requests.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            file: None,
            buffering: 0,
            internals: true,
            filters: Filters::default(),
            fields: Fields::default(),
            sample: 1,
            zone: Zone::utc(),
        }
    }

    /// Which heads the log looks at.
    pub(super) fn wanted_heads(&self) -> WantedHeads {
        let any = |h: &Headers| h.default != Mode::Drop || h.names.values().any(|mode| *mode != Mode::Drop);
        match self.format {
            Format::Json => WantedHeads { request: any(&self.fields.headers), answers: any(&self.fields.headers) },
            // Two fields of the request's head.
            Format::Common | Format::Generic => {
                let shown = |name| self.fields.headers.mode(name) == Mode::Keep;
                WantedHeads { request: shown("user-agent") || shown("referer"), answers: false }
            }
        }
    }
}

/// Which requests are logged: those that one of these asks for; all where none is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    /// Statuses, from and to, both included.
    pub statuses: Vec<(u16, u16)>,
    /// Those that were tried again.
    pub retried: bool,
    /// Those that took longer; zero means none.
    pub min_duration: Duration,
}

impl Filters {
    /// Whether the request is logged.
    pub(super) fn keep(&self, record: &RequestRecord<'_>) -> bool {
        let asked = !self.statuses.is_empty() || self.retried || !self.min_duration.is_zero();
        !asked
            || self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&record.status))
            || (self.retried && record.retries > 0)
            || (!self.min_duration.is_zero() && record.duration > self.min_duration)
    }
}

/// What is done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is written.
    Keep,
    /// It is not written.
    Drop,
    /// `REDACTED` is written in its place.
    Redact,
}

/// What of a request is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    dropped: u64,
    /// Header fields.
    pub headers: Headers,
    /// Whether `RequestPath` has the query.
    pub query: bool,
}

impl Default for Fields {
    /// Traefik's: all fields, no headers, with the query.
    fn default() -> Self {
        Self { dropped: 0, headers: Headers::default(), query: true }
    }
}

impl Fields {
    /// All fields, or none.
    pub fn all(keep: bool) -> Self {
        Self { dropped: if keep { 0 } else { u64::MAX }, ..Self::default() }
    }

    /// Keeps or drops a field by its name, in whatever case; false when there is none of that name.
    pub fn set(&mut self, name: &str, keep: bool) -> bool {
        let found = Field::ALL.iter().find(|field| field.name().eq_ignore_ascii_case(name));
        if let Some(field) = found {
            let bit = 1 << *field as u64;
            self.dropped = if keep { self.dropped & !bit } else { self.dropped | bit };
        }
        found.is_some()
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.dropped & (1 << field as u64) == 0
    }
}

/// Fields that let whoever reads the log act for somebody else. Where all fields are kept they are
/// redacted, unlike in Traefik; naming one is a wish for it.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-nomad-token",
    "x-consul-token",
    "x-vault-token",
];

/// What is done with header fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// With those that are not named.
    pub default: Mode,
    /// By name, in lower case.
    pub names: BTreeMap<String, Mode>,
}

impl Default for Headers {
    fn default() -> Self {
        Self { default: Mode::Drop, names: BTreeMap::new() }
    }
}

impl Headers {
    pub(super) fn mode(&self, name: &str) -> Mode {
        // Few are named, and names of heads come in any case.
        let named = self.names.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        match (named, self.default) {
            (Some((_, mode)), _) => *mode,
            (None, Mode::Keep) if CREDENTIALS.iter().any(|field| field.eq_ignore_ascii_case(name)) => Mode::Redact,
            (None, default) => default,
        }
    }
}

macro_rules! fields {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// A field of a JSON line that can be dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Field { $($name),* }

        impl Field {
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As configuration and lines have it.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The name as a line has it, with what stands around it.
            pub(super) fn key(self) -> &'static str {
                match self { $(Self::$name => concat!(",\"", $text, "\":")),* }
            }
        }
    };
}

fields! {
    ClientAddr = "ClientAddr",
    ClientHost = "ClientHost",
    ClientPort = "ClientPort",
    ClientUsername = "ClientUsername",
    DownstreamContentSize = "DownstreamContentSize",
    DownstreamStatus = "DownstreamStatus",
    Duration = "Duration",
    GzipRatio = "GzipRatio",
    OriginContentSize = "OriginContentSize",
    OriginDuration = "OriginDuration",
    OriginStatus = "OriginStatus",
    Overhead = "Overhead",
    ProxyCause = "ProxyCause",
    ProxyContext = "ProxyContext",
    ProxyReason = "ProxyReason",
    ProxyRetry = "ProxyRetry",
    ProxySide = "ProxySide",
    RequestAddr = "RequestAddr",
    RequestContentSize = "RequestContentSize",
    RequestCount = "RequestCount",
    RequestHost = "RequestHost",
    RequestMethod = "RequestMethod",
    RequestPath = "RequestPath",
    RequestPort = "RequestPort",
    RequestProtocol = "RequestProtocol",
    RequestScheme = "RequestScheme",
    RetryAttempts = "RetryAttempts",
    RouterName = "RouterName",
    SampleRate = "SampleRate",
    ServiceAddr = "ServiceAddr",
    ServiceName = "ServiceName",
    ServiceURL = "ServiceURL",
    StartLocal = "StartLocal",
    StartUTC = "StartUTC",
    TLSCipher = "TLSCipher",
    TLSVersion = "TLSVersion",
    EntryPointName = "entryPointName",
}

const _: () = assert!(Field::ALL.len() <= 64, "the mask has a bit for each");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_set_by_name_in_any_case() {
        let mut fields = Fields::default();
        assert!(fields.set("clientusername", false) && !fields.has(Field::ClientUsername));
        assert!(fields.has(Field::ClientAddr) && !fields.set("Username", false));
        let mut none = Fields::all(false);
        assert!(Field::ALL.iter().all(|field| !none.has(*field)));
        assert!(none.set("RequestPath", true) && none.has(Field::RequestPath));
    }

    #[test]
    fn credentials_are_shown_only_where_they_are_named() {
        let mut headers = Headers { default: Mode::Keep, ..Headers::default() };
        assert_eq!(headers.mode("User-Agent"), Mode::Keep);
        assert_eq!((headers.mode("X-Nomad-Token"), headers.mode("cookie")), (Mode::Redact, Mode::Redact));
        headers.names.insert("cookie".to_owned(), Mode::Keep);
        assert_eq!(headers.mode("Cookie"), Mode::Keep);
        headers.default = Mode::Drop;
        assert_eq!(headers.mode("Authorization"), Mode::Drop);
    }

    #[test]
    fn heads_are_wanted_only_where_something_of_them_is_written() {
        let mut options = Options::new(Format::Json);
        assert_eq!(options.wanted_heads(), WantedHeads::default());
        options.fields.headers.names.insert("cookie".to_owned(), Mode::Redact);
        assert_eq!(options.wanted_heads(), WantedHeads { request: true, answers: true });
        options.format = Format::Common;
        assert_eq!(options.wanted_heads(), WantedHeads::default());
        options.fields.headers.default = Mode::Keep;
        assert_eq!(options.wanted_heads(), WantedHeads { request: true, answers: false });
    }
}
