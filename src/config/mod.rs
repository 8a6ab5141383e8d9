//! Static configuration: what was said (file, environment, flags) and what it settles to
//! (checked, defaults filled). Only this module and `cli` read the environment.

mod access_log;
mod certificates;
mod entry_points;
mod example;
mod fabio;
mod file;
mod from_document;
mod hind;
mod keys;
mod load;
mod merge;
mod providers;
mod raw;
mod resolve;
mod schema;
mod settle;
mod sources;
mod value;

pub use access_log::{AccessFormat, AccessLog, FieldMode, Filters};
pub use certificates::{
    CertificateStore, Certificates, CertificatesResolver, DEFAULT_RESOLVER, DnsChallenge, OnDemand,
};
pub use example::example;
pub use file::MAX_FILE_BYTES;
pub use load::{DEFAULT_PATHS, Input, Loaded, Note, load};
pub use sources::{notify_fd, standby, wants_check, wants_detached_drain, wants_single_process};

use crate::model::Secret;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Everything settled; what `runtime` starts from. Every field has its default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The static file that was read, if any.
    pub file: Option<PathBuf>,
    /// Entry points by name; the admin entry point `traefik` is always there.
    pub entry_points: BTreeMap<Arc<str>, EntryPoint>,
    /// Nomad provider; `None` when it is off.
    pub nomad: Option<NomadProvider>,
    /// Consul catalog provider; `None` when it is off.
    pub consul: Option<ConsulProvider>,
    /// Files of dynamic configuration; `None` when they are off.
    pub files: Option<FileProvider>,
    /// Dynamic configuration through the API; `None` when it is off.
    pub rest: Option<RestProvider>,
    /// Log of the process.
    pub log: Log,
    /// Access log; `None` when it is off.
    pub access_log: Option<AccessLog>,
    /// Prometheus metrics on the admin entry point; `None` when off.
    pub metrics: Option<Metrics>,
    /// `api.insecure`.
    pub api_insecure: bool,
    /// Life cycle of entry points at the end.
    pub lifecycle: LifeCycle,
    /// Time-outs and limits towards servers (`serversTransport`).
    pub servers_transport: ServersTransport,
    /// Certificates: where they are, and who orders them.
    pub certificates: Certificates,
    /// rust-lb's own section.
    pub own: Own,
    /// HinD's environment variables.
    pub hind: Hind,
}

/// The name of the admin entry point.
pub const ADMIN_ENTRY_POINT: &str = "traefik";

/// An entry point (<https://doc.traefik.io/traefik/routing/entrypoints/>).
#[derive(Debug, Clone, PartialEq)]
pub struct EntryPoint {
    /// Name.
    pub name: Arc<str>,
    /// Addresses to bind: `:80` gives the wildcard address of IPv6 with IPv4 mapped, else IPv4's.
    pub address: BindAddress,
    /// `http.tls`: routers on it answer TLS by default.
    pub tls: bool,
    /// `asDefault`: routers that name no entry point use it.
    pub as_default: bool,
    /// `http.redirections.entryPoint`.
    pub redirect: Option<Redirection>,
    /// `forwardedHeaders`.
    pub forwarded_headers: Trusted,
    /// `transport.respondingTimeouts`.
    pub timeouts: RespondingTimeouts,
    /// `transport.lifeCycle`.
    pub lifecycle: LifeCycle,
    /// `allowACMEByPass`: the redirection leaves `/.well-known/acme-challenge/` alone.
    pub allow_acme_bypass: bool,
    /// `http.middlewares`: in front of those of each router.
    pub middlewares: Vec<Arc<str>>,
    /// `http.tls.options`: those of routers without a `tls` section; empty for the default ones.
    pub tls_options: Arc<str>,
    /// `http.tls.certResolver`: that of routers without a `tls` section; empty for none.
    pub cert_resolver: Arc<str>,
    /// `http.tls.domains`: what it orders for instead of the names in their rules.
    pub cert_domains: Vec<String>,
    /// What becomes of requests' heads.
    pub head: HeadRules,
    /// `proxyProtocol`: whose headers are read; `None` without.
    pub proxy_protocol: Option<Trusted>,
    /// `transport.keepAliveMaxRequests` (0: any number).
    pub keep_alive_max_requests: u64,
    /// `transport.keepAliveMaxTime` (0: none).
    pub keep_alive_max_time: Duration,
    /// Limit of a request's head in bytes (`http.maxHeaderBytes`, 1 MiB).
    pub max_header_bytes: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// `http2.maxConcurrentStreams` (250).
    pub max_concurrent_streams: u32,
}

/// Where an entry point listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAddress {
    /// Host part, an IPv6 address without its brackets; empty means all addresses.
    pub host: String,
    /// Port; 0 lets the kernel choose.
    pub port: u16,
}

/// `http.redirections.entryPoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// Target entry point name or `:port`.
    pub to: Arc<str>,
    /// Scheme, `https` by default.
    pub scheme: Arc<str>,
    /// 301/308 instead of 302/307; true by default.
    pub permanent: bool,
    /// Routers of a higher priority are not redirected.
    pub priority: i64,
}

/// Who is believed (`insecure`, `trustedIPs`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trusted {
    /// Everybody.
    pub insecure: bool,
    /// Peers in these networks.
    pub trusted_ips: Vec<IpNet>,
}

/// `forwardedHeaders.*` and `http.*` as far as they concern heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRules {
    /// `http.sanitizePath`.
    pub sanitize_path: bool,
    /// `http.encodeQuerySemicolons`.
    pub encode_query_semicolons: bool,
    /// `http.encodedCharacters`: those that are not allowed, by the end of their keys (`Slash`).
    pub denied_characters: Vec<&'static str>,
    /// `http.underscoreHeadersStrategy`: `keep`, `delete` or `reject`.
    pub underscores: String,
    /// `forwardedHeaders.connection`.
    pub connection: Vec<String>,
    /// `forwardedHeaders.notAppendXForwardedFor`.
    pub not_append_forwarded_for: bool,
    /// `forwardedHeaders.addXForwardedSchemeHeaders`.
    pub scheme_headers: bool,
}

impl Default for HeadRules {
    fn default() -> Self {
        Self {
            sanitize_path: true,
            encode_query_semicolons: false,
            denied_characters: Vec::new(),
            underscores: "keep".to_owned(),
            connection: Vec::new(),
            not_append_forwarded_for: false,
            scheme_headers: false,
        }
    }
}

/// Time-outs on the client side. They measure lack of progress; zero means none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RespondingTimeouts {
    /// From the first byte to the end of the request's head, and between reads of its body (60 s).
    pub read: Duration,
    /// Between writes of an answer that make progress (0: none).
    pub write: Duration,
    /// A kept-alive connection without a request (180 s).
    pub idle: Duration,
}

/// `transport.lifeCycle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeCycle {
    /// How long new requests are still accepted after SIGTERM (0 s).
    pub request_accept_grace: Duration,
    /// How long requests in flight may go on (10 s; HinD set-up 30 s).
    pub grace: Duration,
}

/// `serversTransport`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServersTransport {
    /// `forwardingTimeouts.dialTimeout` (30 s).
    pub dial_timeout: Duration,
    /// `forwardingTimeouts.responseHeaderTimeout` (0: none).
    pub response_header_timeout: Duration,
    /// `forwardingTimeouts.idleConnTimeout` (90 s).
    pub idle_conn_timeout: Duration,
    /// `maxIdleConnsPerHost` (200), counted per worker and server.
    pub max_idle_per_server: usize,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: bool,
    /// `rootCAs`: files of PEM certificates to trust instead of the system's.
    pub root_cas: Vec<PathBuf>,
}

/// `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Level, `info` by default.
    pub level: tracing::Level,
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    /// File; `None` means stderr.
    pub file: Option<PathBuf>,
    /// `noColor`.
    pub no_color: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text.
    Common,
    /// One JSON object a line.
    Json,
}

/// `metrics.prometheus`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Histogram buckets in seconds (0.1, 0.3, 1.2, 5).
    pub buckets: Vec<f64>,
    /// `addEntryPointsLabels` (true).
    pub entry_points_labels: bool,
    /// `addRoutersLabels` (false by Traefik's default; true in the HinD set-up).
    pub routers_labels: bool,
    /// `addServicesLabels` (true).
    pub services_labels: bool,
}

/// How a provider's API is reached over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// PEM file of the authorities to trust.
    pub ca: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Client key.
    pub key: Option<PathBuf>,
    /// Name to verify instead of the host.
    pub server_name: Option<String>,
    /// Do not verify.
    pub insecure_skip_verify: bool,
}

/// A token: the text itself, or a file that is read again when the catalog refuses (403).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Token {
    /// None.
    #[default]
    None,
    /// Given directly.
    Value(Secret),
    /// Read from a file, trimmed.
    File(PathBuf),
}

/// What both catalog providers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogCommon {
    /// `http://host:port`, `https://…` or `unix:///path`.
    pub endpoint: String,
    /// TLS to the endpoint.
    pub tls: ClientTls,
    /// Token.
    pub token: Token,
    /// Ask with `stale` first.
    pub stale: bool,
    /// `exposedByDefault`.
    pub exposed_by_default: bool,
    /// Default rule (Go template); services enabled without a rule get it.
    pub default_rule: String,
    /// Tag prefix, `traefik`.
    pub prefix: String,
    /// `constraints` expression; empty means none.
    pub constraints: String,
    /// Legacy dialects of this provider.
    pub legacy_tags: LegacyTags,
}

/// `providers.nomad`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NomadProvider {
    /// Shared keys.
    pub common: CatalogCommon,
    /// Namespaces; `["*"]` means all.
    pub namespaces: Vec<String>,
    /// Region; empty means the agent's.
    pub region: String,
    /// Whether allocations are asked for their checks (`allocationChecks`).
    pub allocation_checks: bool,
}

/// `providers.consulCatalog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulProvider {
    /// Shared keys.
    pub common: CatalogCommon,
    /// Namespaces (Consul Enterprise); empty means the token's.
    pub namespaces: Vec<String>,
    /// Admin partition; empty means the default.
    pub partition: String,
    /// Datacenter; empty means the agent's.
    pub datacenter: String,
    /// States in which an instance is routed (`strictChecks`: passing, warning).
    pub strict_checks: Vec<String>,
    /// Blocked `health/service` queries at once; above it the doorbell strategy runs.
    pub watch_connections: usize,
}

/// `providers.file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProvider {
    /// The file, or the directory of files.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Changes are taken up.
    pub watch: bool,
}

/// `providers.rest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestProvider {
    /// Taken without a token.
    pub insecure: bool,
}

/// `legacyTags`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyTags {
    /// When legacy tags count.
    pub mode: LegacyMode,
    /// `urlprefix-`.
    pub prefix: String,
    /// Which dialects are read at all.
    pub dialects: Vec<crate::config::Dialect>,
    /// `prefix`, `iprefix` or `glob`.
    pub matcher: String,
    /// Hosts are literal.
    pub glob_disabled: bool,
    /// States of checks in which an instance is routed.
    pub service_status: Vec<String>,
    /// All checks of an instance must be in such a state, not only one.
    pub all_checks: bool,
}

/// A scheme of Fabio's `auth=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FabioAuth {
    /// Its htpasswd file.
    pub file: PathBuf,
    /// What clients are told that it is for.
    pub realm: String,
}

/// When legacy tags count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyMode {
    /// Only for services without a `traefik.*` tag that routes them.
    Fallback,
    /// Always.
    Merge,
    /// Never.
    Off,
}

/// A dialect that may be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `traefik.*`.
    Traefik,
    /// `urlprefix-`.
    Urlprefix,
    /// `https://host`.
    Site,
}

/// Which catalog wins between equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primary {
    /// Nomad (default).
    Nomad,
    /// Consul.
    Consul,
}

/// The `rustLb` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Worker threads.
    pub workers: usize,
    /// State directory.
    pub state_dir: PathBuf,
    /// `TRAEFIK_PROVIDER_PRIMARY`.
    pub primary: Primary,
    /// `DOMAIN_SUFFIX`.
    pub domain_suffix: String,
    /// Add security headers where the server did not set them.
    pub security_headers: bool,
    /// Changes kept for `/api/history`.
    pub history_size: usize,
    /// How long a route outlives its last server.
    pub linger_for: Duration,
    /// How long a request waits for a server to appear.
    pub linger_wait: Duration,
    /// How long a server that left the catalog keeps what it has; zero means for ever.
    pub drain_limit: Duration,
    /// How long a server that is new comes to its share.
    pub slow_start: Duration,
    /// Percent of healthy servers below which all of a service's servers are used; 0: only where none is healthy.
    pub panic_threshold: u8,
    /// How long removals are held after a catalog reset.
    pub reset_hold: Duration,
    /// Age up to which the last good table is served at start; `None` means off.
    pub last_good_max_age: Option<Duration>,
    /// `fabio.auth`: schemes of `auth=` by name.
    pub fabio_auth: BTreeMap<String, FabioAuth>,
    /// Peers that may ask why their requests fail (`errors.reveal`); empty means nobody.
    pub reveal: Vec<IpNet>,
    /// File with the token for writes on the admin API.
    pub api_token_file: Option<PathBuf>,
    /// Ports are shared with another process on purpose (`--overlap`).
    pub overlap: bool,
}

/// HinD's environment variables (shared names; what they do to HinD's Caddy they do to rust-lb).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hind {
    /// `FQDN`, split at commas.
    pub fqdn: Vec<String>,
    /// `NOMAD_ADDR_EXTRA`, split at commas.
    pub nomad_addr_extra: Vec<String>,
    /// `TRUSTED_PROXIES`.
    pub trusted_proxies: Vec<IpNet>,
    /// `ALLOWED_REMOTE_IPS_CONTROL_PLANE`.
    pub allowed_remote_ips_control_plane: Vec<IpNet>,
    /// `ALLOWED_REMOTE_IPS_SERVICES`.
    pub allowed_remote_ips_services: Vec<IpNet>,
}

/// An address in use: which entry point listens where, after binding.
pub type Bound = BTreeMap<Arc<str>, Vec<SocketAddr>>;
