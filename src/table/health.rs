//! Health checks of a table: declared options taken apart and judged, so that whoever probes finds nothing
//! in them that cannot be sent.
//!
//! What always holds: a check that cannot work is refused with a diagnostic and not run, its servers count as
//! well; lengths of time are never zero. Options and defaults are Traefik's
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/http/load-balancing/service/#health-check>).

use super::resolve::origin_of;
use crate::declare::{self, GoDuration, Source};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use std::time::Duration;

/// Between two checks, where nothing or nothing useful is said.
const INTERVAL: Duration = Duration::from_secs(30);
/// For an answer, likewise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Checks follow each other no faster.
const SHORTEST: Duration = Duration::from_millis(20);
/// Bytes that are sent to a TCP server or expected of it at most (Traefik's limit).
const MAX_PAYLOAD: usize = 65_535;
/// Failures that may be borne at most, of `maxFailedAttempts`.
const MAX_FAILURES: i64 = 1_000;

/// How a service's servers are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    /// The check.
    pub check: Check,
    /// As declared, for the store and the API.
    pub declared: declare::HealthCheck,
}

/// A check and its times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Another port than the server's.
    pub port: Option<u16>,
    /// From one check of a healthy server to the next.
    pub interval: Duration,
    /// The same of an unhealthy one.
    pub unhealthy_interval: Duration,
    /// For all of one check, connecting included.
    pub timeout: Duration,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// An HTTP request.
    Http(HttpCheck),
    /// The gRPC Health Checking Protocol (<https://grpc.io/docs/guides/health-checking/>).
    Grpc(GrpcCheck),
    /// A TCP connection, what is sent by it, and how the answer begins.
    Tcp(TcpCheck),
}

/// A scheme that a check goes by in place of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckScheme {
    /// Without TLS.
    Http,
    /// Over TLS.
    Https,
    /// HTTP/2 without TLS.
    H2c,
}

/// An HTTP request, and the answer that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Scheme, if not the server's.
    pub scheme: Option<CheckScheme>,
    /// Path and query; empty means the server's own path.
    pub target: String,
    /// Method.
    pub method: Method,
    /// The status that is wanted; `None` means 200 to 399.
    pub status: Option<u16>,
    /// Host, if not the server's.
    pub hostname: Option<HeaderValue>,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Fields that are sent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A gRPC health request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrpcCheck {
    /// Scheme, if not the server's: `http` and `h2c` mean without TLS.
    pub scheme: Option<CheckScheme>,
    /// `:authority`, if not the server's.
    pub hostname: Option<HeaderValue>,
    /// Metadata that is sent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpCheck {
    /// What is sent first.
    pub send: Vec<u8>,
    /// How the answer must begin; empty means that none is waited for.
    pub expect: Vec<u8>,
}

/// When a server that fails requests is left alone
/// (<https://doc.traefik.io/traefik/reference/routing-configuration/http/load-balancing/service/#passive-health-check>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Passive {
    /// Failures count for so long, and the server is first left alone for so long.
    pub window: Duration,
    /// Failures in a row, within the window, after which it is left alone.
    pub failures: u32,
    declared: (GoDuration, i64),
}

impl Passive {
    /// A rule. `failures` is at least 1.
    pub fn new(window: Duration, failures: u32) -> Self {
        let millis = GoDuration::from_millis(i64::try_from(window.as_millis()).unwrap_or(i64::MAX));
        let failures = failures.max(1);
        Self { window, failures, declared: (millis, failures.into()) }
    }

    /// As declared.
    pub fn declared(&self) -> declare::PassiveHealthCheck {
        let (failure_window, max_failed_attempts) = self.declared;
        declare::PassiveHealthCheck { failure_window, max_failed_attempts }
    }
}

/// What is said about options, with their places.
pub(super) struct Remarks<'a> {
    pub name: &'a str,
    pub source: &'a Source,
    pub provider: Provider,
    pub problems: &'a mut Vec<Diagnostic>,
}

impl Remarks<'_> {
    fn error(&mut self, option: &str, why: String) {
        let message = format!("service `{}`: its health is not checked: {why}", self.name);
        let origin = origin_of(self.source, self.provider, option);
        self.problems.push(Diagnostic::error("bad_health_check", message).with_origin(origin));
    }

    fn warn(&mut self, option: &str, what: String) {
        let message = format!("service `{}`: {what}", self.name);
        let origin = origin_of(self.source, self.provider, option);
        self.problems.push(Diagnostic::warning("health_check", message).with_origin(origin));
    }

    pub(super) fn limit(&mut self, option: &str, what: String) {
        let message = format!("service `{}`: {what}", self.name);
        let origin = origin_of(self.source, self.provider, option);
        self.problems.push(Diagnostic::warning("bad_limit", message).with_origin(origin));
    }

    fn time(&mut self, option: &str, said: GoDuration, default: Duration) -> Duration {
        match said.length() {
            Some(time) if time >= SHORTEST => time,
            Some(time) if !time.is_zero() => {
                self.warn(option, format!("`{option}` of the health check is {said}; it is taken as {SHORTEST:?}"));
                SHORTEST
            }
            _ => {
                let told = format!("`{option}` of the health check must be above zero; it is taken as {default:?}");
                self.warn(option, told);
                default
            }
        }
    }
}

/// The declared check of an HTTP service; `None` when it cannot be run, with the reason in `remarks`.
pub(super) fn health(declared: &declare::HealthCheck, remarks: &mut Remarks<'_>) -> Option<Health> {
    let before = remarks.problems.iter().filter(|problem| problem.is_error()).count();
    let scheme = match &*declared.scheme {
        "" => None,
        "http" => Some(CheckScheme::Http),
        "https" => Some(CheckScheme::Https),
        "h2c" => Some(CheckScheme::H2c),
        other => {
            remarks.error("scheme", format!("expected the scheme `http`, `https` or `h2c`, got `{other}`"));
            None
        }
    };
    let hostname = match &*declared.hostname {
        "" => None,
        host => {
            let fits = host.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.as_str().contains('@'));
            let value = HeaderValue::from_str(host).ok().filter(|_| fits);
            if value.is_none() {
                remarks.error("hostname", format!("`{host}` is no host name"));
            }
            value
        }
    };
    let mut headers = Vec::new();
    for (name, value) in &declared.headers {
        match (HeaderName::try_from(&**name), HeaderValue::from_str(value)) {
            // what frames the request is not to be said by anybody else
            (Ok(name), Ok(_)) if is_framing(&name) => {
                remarks.error("headers", format!("the field `{name}` cannot be set"));
            }
            (Ok(name), Ok(value)) => headers.push((name, value)),
            // a value may be secret
            _ => {
                remarks.error("headers", format!("`{}` is no field, or its value cannot be sent", name.escape_debug()))
            }
        }
    }
    let kind = match &*declared.mode {
        "grpc" => CheckKind::Grpc(GrpcCheck { scheme, hostname, headers }),
        mode => {
            if !matches!(mode, "" | "http") {
                let told =
                    format!("`mode` of the health check is `http` or `grpc`, got `{mode}`; it is taken as `http`");
                remarks.warn("mode", told);
            }
            CheckKind::Http(http_check(declared, scheme, hostname, headers, remarks))
        }
    };
    let port = match u16::try_from(declared.port) {
        Ok(port) => (port != 0).then_some(port),
        Err(_) => {
            remarks.error("port", format!("`{}` is no port", declared.port));
            None
        }
    };
    let interval = remarks.time("interval", declared.interval, INTERVAL);
    let unhealthy_interval = match declared.unhealthy_interval {
        Some(said) => remarks.time("unhealthyInterval", said, INTERVAL),
        None => interval,
    };
    let timeout = remarks.time("timeout", declared.timeout, TIMEOUT);
    let check = Check { kind, port, interval, unhealthy_interval, timeout };
    let errors = remarks.problems.iter().filter(|problem| problem.is_error()).count();
    (errors == before).then(|| Health { check, declared: declared.clone() })
}

fn is_framing(name: &HeaderName) -> bool {
    use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
    [CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE].contains(name)
}

fn http_check(
    declared: &declare::HealthCheck,
    scheme: Option<CheckScheme>,
    hostname: Option<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
    remarks: &mut Remarks<'_>,
) -> HttpCheck {
    let method = match &*declared.method {
        "" => Method::GET,
        method => Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
            remarks.error("method", format!("`{}` is no method", method.escape_debug()));
            Method::GET
        }),
    };
    if method == Method::CONNECT {
        remarks.error("method", "`CONNECT` asks for a tunnel".to_owned());
    }
    let status = match declared.status {
        0 => None,
        status => match u16::try_from(status).ok().filter(|status| (200..=599).contains(status)) {
            Some(status) => Some(status),
            None => {
                remarks.error("status", format!("no answer has the status {status}"));
                None
            }
        },
    };
    let path = &*declared.path;
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    let target = match path {
        "" => String::new(),
        path if path.starts_with("//") || has_scheme(path) => {
            remarks.error("path", format!("`path` must be relative to the server, got `{path}`"));
            String::new()
        }
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    if !target.is_empty() && PathAndQuery::try_from(&*target).is_err() {
        remarks.error("path", format!("`{}` is no path that can be asked for", path.escape_debug()));
    }
    let follow_redirects = declared.follow_redirects.unwrap_or(true);
    HttpCheck { scheme, target, method, status, hostname, follow_redirects, headers }
}

/// Whether a reference begins with a scheme (RFC 3986, 4.2: a colon before the first slash).
fn has_scheme(path: &str) -> bool {
    let first = path.split(['/', '?']).next().unwrap_or_default();
    first.contains(':')
}

/// The declared check of a TCP service
/// (<https://doc.traefik.io/traefik/reference/routing-configuration/tcp/service/#health-check>).
pub(super) fn tcp_check(declared: &declare::TcpHealthCheck, remarks: &mut Remarks<'_>) -> Option<Check> {
    for (option, said) in [("send", &declared.send), ("expect", &declared.expect)] {
        if said.len() > MAX_PAYLOAD {
            remarks.error(option, format!("`{option}` is longer than {MAX_PAYLOAD} bytes"));
            return None;
        }
    }
    let Ok(port) = u16::try_from(declared.port) else {
        remarks.error("port", format!("`port` must be from 0 (the server's) to 65535, got {}", declared.port));
        return None;
    };
    let interval = remarks.time("interval", declared.interval, INTERVAL);
    let unhealthy = declared.unhealthy_interval;
    Some(Check {
        kind: CheckKind::Tcp(TcpCheck {
            send: declared.send.as_bytes().into(),
            expect: declared.expect.as_bytes().into(),
        }),
        port: Some(port).filter(|port| *port != 0),
        interval,
        unhealthy_interval: unhealthy.map_or(interval, |said| remarks.time("unhealthyInterval", said, interval)),
        timeout: remarks.time("timeout", declared.timeout, TIMEOUT),
    })
}

/// The declared rule for servers that fail requests.
pub(super) fn passive(declared: &declare::PassiveHealthCheck, remarks: &mut Remarks<'_>) -> Option<Passive> {
    let Some(window) = declared.failure_window.length().filter(|window| !window.is_zero()) else {
        let told = format!(
            "`failureWindow` of the passive health check must be above zero, got {}; failures are not counted",
            declared.failure_window
        );
        remarks.warn("failureWindow", told);
        return None;
    };
    if declared.max_failed_attempts < 1 {
        let told = format!(
            "`maxFailedAttempts` must be at least 1, got {}; failures are not counted",
            declared.max_failed_attempts
        );
        remarks.warn("maxFailedAttempts", told);
        return None;
    }
    let failures = u32::try_from(declared.max_failed_attempts.min(MAX_FAILURES)).unwrap_or(1);
    if declared.max_failed_attempts > MAX_FAILURES {
        remarks.warn("maxFailedAttempts", format!("`maxFailedAttempts` is taken as {MAX_FAILURES}, the most"));
    }
    Some(Passive { window, failures, declared: (declared.failure_window, declared.max_failed_attempts) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::HealthCheck;

    fn read(declared: &HealthCheck) -> (Option<Health>, Vec<String>) {
        let mut problems = Vec::new();
        let source = Source::default();
        let mut remarks = Remarks { name: "s", source: &source, provider: Provider::File, problems: &mut problems };
        let health = health(declared, &mut remarks);
        (health, problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn what_is_declared_is_what_is_asked() {
        let declared = HealthCheck {
            path: "health?deep=1#x".into(),
            method: "HEAD".into(),
            status: 204,
            port: 81,
            hostname: "h.test:8080".into(),
            follow_redirects: Some(false),
            headers: [("X-A".into(), "b".into())].into(),
            interval: GoDuration::from_seconds(2),
            ..HealthCheck::default()
        };
        let (health, problems) = read(&declared);
        assert_eq!(problems, Vec::<String>::new());
        let check = health.unwrap().check;
        assert_eq!((check.port, check.interval, check.unhealthy_interval), (Some(81), check.interval, check.interval));
        let CheckKind::Http(http) = check.kind else { panic!("{:?}", check.kind) };
        assert_eq!((&*http.target, http.method, http.status), ("/health?deep=1", Method::HEAD, Some(204)));
        assert_eq!((http.hostname.unwrap(), http.follow_redirects), (HeaderValue::from_static("h.test:8080"), false));
        assert_eq!(http.headers, [("x-a".parse().unwrap(), HeaderValue::from_static("b"))]);
    }

    #[test]
    fn what_cannot_work_is_refused_and_odd_times_are_set_right() {
        let bad = [
            HealthCheck { path: "http://evil/".into(), ..HealthCheck::default() },
            HealthCheck { path: "//evil/".into(), ..HealthCheck::default() },
            HealthCheck { path: "/a b".into(), ..HealthCheck::default() },
            HealthCheck { scheme: "ftp".into(), ..HealthCheck::default() },
            HealthCheck { method: "G T".into(), ..HealthCheck::default() },
            HealthCheck { method: "CONNECT".into(), ..HealthCheck::default() },
            HealthCheck { status: 42, ..HealthCheck::default() },
            HealthCheck { status: -1, ..HealthCheck::default() },
            HealthCheck { port: 70_000, ..HealthCheck::default() },
            HealthCheck { port: -1, ..HealthCheck::default() },
            HealthCheck { hostname: "a b".into(), ..HealthCheck::default() },
            HealthCheck { headers: [("a b".into(), "".into())].into(), ..HealthCheck::default() },
            HealthCheck { headers: [("x".into(), "a\r\nb".into())].into(), ..HealthCheck::default() },
            HealthCheck { headers: [("Content-Length".into(), "4".into())].into(), ..HealthCheck::default() },
        ];
        for declared in bad {
            let (health, problems) = read(&declared);
            assert_eq!((health, problems.len()), (None, 1), "{declared:?} {problems:?}");
        }
        let odd = HealthCheck {
            interval: GoDuration::from_seconds(-1),
            unhealthy_interval: Some(GoDuration::default()),
            timeout: GoDuration::from_millis(1),
            mode: "smtp".into(),
            ..HealthCheck::default()
        };
        let (health, problems) = read(&odd);
        let check = health.unwrap().check;
        assert_eq!((check.interval, check.unhealthy_interval, check.timeout), (INTERVAL, INTERVAL, SHORTEST));
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn rules_for_failures() {
        let mut problems = Vec::new();
        let source = Source::default();
        let mut remarks = Remarks { name: "s", source: &source, provider: Provider::File, problems: &mut problems };
        let rule = |window, most| declare::PassiveHealthCheck {
            failure_window: GoDuration::from_seconds(window),
            max_failed_attempts: most,
        };
        let good = passive(&rule(3, 2), &mut remarks).unwrap();
        assert_eq!((good.window.as_secs(), good.failures, good.declared()), (3, 2, rule(3, 2)));
        assert_eq!(passive(&rule(0, 2), &mut remarks), None);
        assert_eq!(passive(&rule(1, 0), &mut remarks), None);
        assert_eq!(passive(&rule(1, i64::MAX), &mut remarks).unwrap().failures, 1_000);
        assert_eq!(problems.len(), 3);
    }
}
