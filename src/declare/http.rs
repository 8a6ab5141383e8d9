//! HTTP routers and services with every option that Traefik 3.7 takes for them. Absent options
//! read as Traefik's defaults, and what Traefik leaves out of its JSON is left out here.

use super::{Failover, GoDuration, HighestRandomWeight, Mirroring, Source, Weighted, is_default};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An HTTP router (<https://doc.traefik.io/traefik/routing/routers/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Router {
    /// Entry point names; empty means the default ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry_points: Vec<Arc<str>>,
    /// Middleware names, in order of execution; unqualified names belong to the same provider.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<Arc<str>>,
    /// Service name; unqualified names belong to the same provider.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub service: Arc<str>,
    /// The rule.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rule: Arc<str>,
    /// `v2` or `v3`; empty means v3.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rule_syntax: Arc<str>,
    /// 0 means: the length of the rule.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i64,
    /// Present: the router answers TLS connections only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouterTls>,
    /// What is logged, counted and traced; declared, not served yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,
    /// Where it was declared (service, instance, tag), for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// TLS section of a router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterTls {
    /// Name of TLS options.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub options: Arc<str>,
    /// Name of a certificate resolver.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cert_resolver: Arc<str>,
    /// Domains to ask certificates for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
}

/// A certificate's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Domain {
    /// Main name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub main: Arc<str>,
    /// Further names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<Arc<str>>,
}

/// What is logged, counted and traced of one router; absent means as configured for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observability {
    /// Whether requests are logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<bool>,
    /// Whether requests are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
    /// Whether requests are traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<bool>,
    /// `minimal` or `detailed`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub trace_verbosity: Arc<str>,
}

impl Default for Observability {
    fn default() -> Self {
        Self { access_logs: None, metrics: None, tracing: None, trace_verbosity: "minimal".into() }
    }
}

/// An HTTP service. Exactly one kind is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Middlewares that every request to the service passes, behind those of the router.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<Arc<str>>,
    /// Servers behind a balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Other services by weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Weighted>,
    /// Other services by the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highest_random_weight: Option<HighestRandomWeight>,
    /// Copies of requests to other services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirroring: Option<Mirroring>,
    /// Another service where the first one has no servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// Servers and how one of them is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// Keeps a client on one server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// The servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// How a server is chosen.
    #[serde(skip_serializing_if = "Strategy::is_unsaid")]
    pub strategy: Strategy,
    /// Asks the servers whether they are well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Leaves out servers that fail requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive_health_check: Option<PassiveHealthCheck>,
    /// Whether the client's Host goes to the server (Traefik's default: true).
    pub pass_host_header: bool,
    /// How answers are passed on; declared, not served yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_forwarding: Option<ResponseForwarding>,
    /// Name of the transport that reaches the servers; empty means `serversTransport` of the static configuration.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub servers_transport: Arc<str>,
    /// Requests that a server works on at once (rust-lb's own); absent means any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust_lb_max_requests: Option<i64>,
    /// Requests that may wait for a place at a server (rust-lb's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust_lb_max_queue: Option<i64>,
    /// How long they wait (rust-lb's own); absent means `rustLb.linger.wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust_lb_queue_timeout: Option<GoDuration>,
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            sticky: None,
            servers: Vec::new(),
            strategy: Strategy::Wrr,
            health_check: None,
            passive_health_check: None,
            pass_host_header: true,
            response_forwarding: Some(ResponseForwarding::default()),
            servers_transport: Arc::default(),
            rust_lb_max_requests: None,
            rust_lb_max_queue: None,
            rust_lb_queue_timeout: None,
        }
    }
}

impl LoadBalancer {
    /// What it says besides its servers.
    #[must_use]
    pub fn without_servers(&self) -> Self {
        Self {
            servers: Vec::new(),
            sticky: self.sticky.clone(),
            strategy: self.strategy.clone(),
            health_check: self.health_check.clone(),
            passive_health_check: self.passive_health_check.clone(),
            pass_host_header: self.pass_host_header,
            response_forwarding: self.response_forwarding.clone(),
            servers_transport: self.servers_transport.clone(),
            rust_lb_max_requests: self.rust_lb_max_requests,
            rust_lb_max_queue: self.rust_lb_max_queue,
            rust_lb_queue_timeout: self.rust_lb_queue_timeout,
        }
    }
}

/// How a server is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Smooth weighted round robin.
    #[default]
    Wrr,
    /// Of two that are drawn, the one with fewer requests in flight.
    P2c,
    /// Rendezvous hash of the TCP peer's address, by weight.
    Hrw,
    /// The least product of response time and requests in flight.
    LeastTime,
    /// Rendezvous hash of the TCP peer's address, as Caddy's `ip_hash` (HinD).
    IpHash,
    /// The fewest requests in flight.
    LeastConn,
    /// Drawn by weight.
    Random,
    /// Rendezvous hash of the field of this name: `hash_header:X-User`.
    HashHeader(Arc<str>),
    /// Rendezvous hash of the cookie of this name: `hash_cookie:session`.
    HashCookie(Arc<str>),
    /// What nobody knows, by its name.
    Other(Arc<str>),
}

impl Strategy {
    /// What stands before the name of a field.
    const HASH_HEADER: &str = "hash_header:";
    /// What stands before the name of a cookie.
    const HASH_COOKIE: &str = "hash_cookie:";
    /// All of them, in words.
    pub const KNOWN: &str = "`wrr`, `p2c`, `hrw`, `leasttime`, `least_conn`, `random`, `ip_hash`, `hash_header:NAME` \
        or `hash_cookie:NAME`";

    /// The name that it is declared by.
    pub fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Wrr => "wrr",
            Self::P2c => "p2c",
            Self::Hrw => "hrw",
            Self::LeastTime => "leasttime",
            Self::IpHash => "ip_hash",
            Self::LeastConn => "least_conn",
            Self::Random => "random",
            Self::HashHeader(name) => return Cow::Owned(format!("{}{name}", Self::HASH_HEADER)),
            Self::HashCookie(name) => return Cow::Owned(format!("{}{name}", Self::HASH_COOKIE)),
            Self::Other(name) => name,
        })
    }

    fn is_unsaid(&self) -> bool {
        matches!(self, Self::Other(name) if name.is_empty())
    }
}

/// Whether a text may be a method, or the name of a field or a cookie (`token`: RFC 9110, 5.6.2).
pub fn is_token(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(fits)
}

impl From<&str> for Strategy {
    fn from(name: &str) -> Self {
        // What cannot be the name of a field or a cookie is no strategy.
        let token = |name: &&str| is_token(name);
        if let Some(name) = name.strip_prefix(Self::HASH_HEADER).filter(token) {
            return Self::HashHeader(name.into());
        }
        if let Some(name) = name.strip_prefix(Self::HASH_COOKIE).filter(token) {
            return Self::HashCookie(name.into());
        }
        match name {
            "wrr" => Self::Wrr,
            "p2c" => Self::P2c,
            "hrw" => Self::Hrw,
            "leasttime" => Self::LeastTime,
            "ip_hash" => Self::IpHash,
            "least_conn" => Self::LeastConn,
            "random" => Self::Random,
            other => Self::Other(other.into()),
        }
    }
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_str())
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&*Arc::<str>::deserialize(deserializer)?))
    }
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// `http://host:port`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub url: Arc<str>,
    /// Weight; `None` means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whether the URL's path goes before the request's.
    #[serde(skip_serializing_if = "is_default")]
    pub preserve_path: bool,
}

/// Keeps a client on one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Sticky {
    /// By a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
}

/// The cookie that says which server a client belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cookie {
    /// Its name; empty means one made of the service's.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Arc<str>,
    /// Sent over TLS only.
    #[serde(skip_serializing_if = "is_default")]
    pub secure: bool,
    /// Out of reach of scripts.
    #[serde(skip_serializing_if = "is_default")]
    pub http_only: bool,
    /// `none`, `lax` or `strict`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub same_site: Arc<str>,
    /// Seconds; 0 means for the session, less means at once.
    #[serde(skip_serializing_if = "is_default")]
    pub max_age: i64,
    /// Path that it is sent for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Arc<str>>,
    /// Host that it is sent to.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: Arc<str>,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: Arc::default(),
            secure: false,
            http_only: false,
            same_site: Arc::default(),
            max_age: 0,
            path: Some("/".into()),
            domain: Arc::default(),
        }
    }
}

/// Asks the servers whether they are well
/// (<https://doc.traefik.io/traefik/routing/services/#health-check>).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// Scheme; empty means the server's.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub scheme: Arc<str>,
    /// `http` or `grpc`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub mode: Arc<str>,
    /// Path to ask for.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub path: Arc<str>,
    /// Method; empty means GET.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub method: Arc<str>,
    /// Expected status; 0 means any from 200 to 399.
    #[serde(skip_serializing_if = "is_default")]
    pub status: i64,
    /// Port; 0 means the server's.
    #[serde(skip_serializing_if = "is_default")]
    pub port: i64,
    /// Time between two checks of a healthy server.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: GoDuration,
    /// Time between two checks of an unhealthy server; absent means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_interval: Option<GoDuration>,
    /// How long an answer may take.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: GoDuration,
    /// Host header; empty means the server's.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub hostname: Arc<str>,
    /// Whether redirects are followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow_redirects: Option<bool>,
    /// Headers to send.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Arc<str>, Arc<str>>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            scheme: Arc::default(),
            mode: "http".into(),
            path: Arc::default(),
            method: Arc::default(),
            status: 0,
            port: 0,
            interval: GoDuration::from_seconds(30),
            unhealthy_interval: None,
            timeout: GoDuration::from_seconds(5),
            hostname: Arc::default(),
            follow_redirects: Some(true),
            headers: BTreeMap::new(),
        }
    }
}

/// Leaves out servers that fail requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PassiveHealthCheck {
    /// Time in which the failures must fall, and for which the server is left out.
    #[serde(skip_serializing_if = "is_default")]
    pub failure_window: GoDuration,
    /// Failures in a row that are borne.
    #[serde(skip_serializing_if = "is_default")]
    pub max_failed_attempts: i64,
}

impl Default for PassiveHealthCheck {
    fn default() -> Self {
        Self { failure_window: GoDuration::from_seconds(10), max_failed_attempts: 1 }
    }
}

/// How answers are passed on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResponseForwarding {
    /// Time between two flushes to the client; below zero means after every write.
    #[serde(skip_serializing_if = "is_default")]
    pub flush_interval: GoDuration,
}

impl Default for ResponseForwarding {
    fn default() -> Self {
        Self { flush_interval: GoDuration::from_millis(100) }
    }
}
