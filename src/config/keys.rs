//! Every option that rust-lb serves, defined once: its path, the kind of its value, its default,
//! what it does and whether it acts. Reading, checking, defaults, suggestions and messages all
//! derive from this table. What Traefik knows besides is listed in `traefik_keys.txt`.

/// What a value may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A group of keys without a value of its own.
    Section,
    /// A group that may stand alone (`{}`, `true`) and be switched off (`false`).
    Switch,
    /// A group that may be a plain value instead, which then is the value of this key in it.
    Short(&'static str),
    /// `true` or `false`, as Go's `strconv.ParseBool` reads them.
    Bool,
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// Path of a file or directory.
    Path,
    /// Several paths.
    Paths,
    /// `10s`, `1h30m`, or seconds.
    Duration,
    /// A duration or `off`.
    DurationOrOff,
    /// A whole number within bounds, both included.
    Count(u64, u64),
    /// Bytes, with an optional unit.
    Size,
    /// Numbers above zero, ascending.
    Buckets,
    /// Texts, as a list or separated by commas.
    List,
    /// Addresses and networks (CIDR).
    Nets,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words.
    SomeOf(&'static [&'static str]),
    /// Whatever stands there; for keys that are known but not served.
    Loose,
    /// Any keys below.
    Any,
}

/// What saying a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is served.
    Acts,
    /// It is accepted and needs no effect; a text says why, and is shown as a note.
    Ignored(&'static str),
    /// It is known, but not served yet; a text says what happens instead.
    NotYet(&'static str),
    /// It is known, not served yet, and protects something: passing it over would weaken what the
    /// person set up, so saying it is an error. A text says what would happen.
    Guard(&'static str),
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Dotted path in Traefik's spelling; `*` stands for a name, `[]` for a place in a list.
    pub path: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Default as it would be written; empty means none.
    pub default: &'static str,
    /// What saying it does.
    pub effect: Effect,
    /// What it is for, in a few words.
    pub doc: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { path, kind, default, effect: Effect::Acts, doc }
}

const fn later(path: &'static str, kind: Kind, instead: &'static str) -> Key {
    Key { path, kind, default: "", effect: Effect::NotYet(instead), doc: "" }
}

const fn guard(path: &'static str, kind: Kind, default: &'static str, otherwise: &'static str) -> Key {
    Key { path, kind, default, effect: Effect::Guard(otherwise), doc: "" }
}

const fn idle(path: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Key {
    Key { path, kind, default, effect: Effect::Ignored(why), doc: "" }
}

use Kind::{
    Bool, Buckets, Count, Duration, DurationOrOff, List, Loose, Nets, OneOf, Path, Paths, Secret, Section, Short, Size,
    SomeOf, Switch, Text,
};

/// Levels as Traefik names them (<https://doc.traefik.io/traefik/reference/install-configuration/observability/logs-and-accesslogs/>).
const LEVELS: &[&str] = &["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC"];
const MODES: &[&str] = &["keep", "drop", "redact"];
const WAITED_FOR: &str = "changes are waited for, so it has no effect";
const REUSE_PORT: &str = "the workers share the port anyway; `rustLb.overlap` shares it with another process";
const NO_REPORTS: &str = "";
/// As Traefik names them, and the two curves of its older documents.
const KEY_TYPES: &[&str] = &["EC256", "EC384", "RSA2048", "RSA3072", "RSA4096", "RSA8192"];
const ENCODED: &str = "take paths with this character encoded";

/// The options at the top of the file.
pub(super) const KEYS: &[Key] = &[
    key("entryPoints", Section, "", "entry points by name"),
    key("entryPoints.*", Switch, "", "an entry point"),
    key("entryPoints.*.address", Text, "", "`[host]:port` to listen on"),
    key("entryPoints.*.asDefault", Bool, "false", "routers that name no entry point use it"),
    key("entryPoints.*.forwardedHeaders.insecure", Bool, "false", "believe everybody's `X-Forwarded-*`"),
    key("entryPoints.*.forwardedHeaders.trustedIPs", Nets, "", "whose `X-Forwarded-*` are believed"),
    key("entryPoints.*.http.maxHeaderBytes", Size, "1048576", "limit of a request's head"),
    key("entryPoints.*.allowACMEByPass", Bool, "false", "`/.well-known/acme-challenge/` is not redirected"),
    key("entryPoints.*.forwardedHeaders.addXForwardedSchemeHeaders", Bool, "false", "say `X-Forwarded-Scheme`, too"),
    key("entryPoints.*.forwardedHeaders.connection", List, "", "fields named by `Connection` that middlewares see"),
    key("entryPoints.*.forwardedHeaders.notAppendXForwardedFor", Bool, "false", "add no peer to `X-Forwarded-For`"),
    key("entryPoints.*.http.encodeQuerySemicolons", Bool, "false", "semicolons in queries become `%3B` and not `&`"),
    key("entryPoints.*.http.sanitizePath", Bool, "true", "clean `//`, `.` and `..` out of paths"),
    key("entryPoints.*.http.middlewares", List, "", "middlewares in front of those of each router"),
    key("entryPoints.*.http.tls.options", Text, "default", "TLS options of routers without a `tls` section"),
    key(
        "entryPoints.*.http.underscoreHeadersStrategy",
        OneOf(&["keep", "delete", "reject"]),
        "keep",
        "what becomes of fields with `_` in their names",
    ),
    key("entryPoints.*.http.encodedCharacters.allowEncodedBackSlash", Bool, "true", ENCODED),
    key("entryPoints.*.http.encodedCharacters.allowEncodedHash", Bool, "true", ENCODED),
    key("entryPoints.*.http.encodedCharacters.allowEncodedNullCharacter", Bool, "true", ENCODED),
    key("entryPoints.*.http.encodedCharacters.allowEncodedPercent", Bool, "true", ENCODED),
    key("entryPoints.*.http.encodedCharacters.allowEncodedQuestionMark", Bool, "true", ENCODED),
    key("entryPoints.*.http.encodedCharacters.allowEncodedSemicolon", Bool, "true", ENCODED),
    key("entryPoints.*.http.encodedCharacters.allowEncodedSlash", Bool, "true", ENCODED),
    key("entryPoints.*.http.redirections.entryPoint", Section, "", "redirect to another entry point"),
    key("entryPoints.*.http.redirections.entryPoint.to", Text, "", "entry point or `:port` to redirect to"),
    key("entryPoints.*.http.redirections.entryPoint.scheme", Text, "https", "scheme to redirect to"),
    key(
        "entryPoints.*.http.redirections.entryPoint.priority",
        Count(0, 9_223_372_036_854_775_807),
        "9223372036854775806",
        "routers of a higher priority are not redirected",
    ),
    key("entryPoints.*.http.redirections.entryPoint.permanent", Bool, "true", "301 or 308 instead of 302 or 307"),
    key("entryPoints.*.http.tls", Switch, "", "routers on it answer TLS"),
    key("entryPoints.*.http.tls.certResolver", Text, "", "who orders certificates of routers without a `tls` section"),
    key("entryPoints.*.http.tls.domains", Section, "", "names to order certificates for instead of those of the rules"),
    key("entryPoints.*.http.tls.domains.[].main", Text, "", "a name"),
    key("entryPoints.*.http.tls.domains.[].sans", List, "", "further names"),
    later("entryPoints.*.http3", Switch, "HTTP/1.1 and HTTP/2 are served"),
    key("entryPoints.*.proxyProtocol", Switch, "", "PROXY protocol headers before connections"),
    key("entryPoints.*.proxyProtocol.insecure", Bool, "false", "read everybody's"),
    key("entryPoints.*.proxyProtocol.trustedIPs", Nets, "", "whose headers are read; others send none"),
    idle("entryPoints.*.reusePort", Bool, "false", REUSE_PORT),
    key("entryPoints.*.transport.keepAliveMaxRequests", Count(0, u64::MAX), "0", "requests of one connection"),
    key("entryPoints.*.transport.keepAliveMaxTime", Duration, "0s", "age up to which a connection is kept alive"),
    key("entryPoints.*.http2.maxConcurrentStreams", Count(1, 2_147_483_647), "250", "streams of one connection"),
    key("entryPoints.*.transport.lifeCycle.graceTimeOut", Duration, "10s", "how long requests may go on at the end"),
    key(
        "entryPoints.*.transport.lifeCycle.requestAcceptGraceTimeout",
        Duration,
        "0s",
        "how long requests are still accepted at the end",
    ),
    key("entryPoints.*.transport.respondingTimeouts.idleTimeout", Duration, "180s", "a connection without a request"),
    key("entryPoints.*.transport.respondingTimeouts.readTimeout", Duration, "60s", "a request that does not come on"),
    key("entryPoints.*.transport.respondingTimeouts.writeTimeout", Duration, "0s", "an answer that is not taken"),
    key("providers", Section, "", "where services come from"),
    key("providers.nomad", Switch, "", "Nomad's service catalog"),
    key("providers.nomad.namespaces", List, "default", "namespaces to read; `*` means all"),
    key("providers.nomad.endpoint.region", Text, "", "region; the agent's if empty"),
    key(
        "providers.nomad.allocationChecks",
        Bool,
        "true",
        "ask allocations for their checks, and use servers whose checks fail only where none is better",
    ),
    key("providers.consulCatalog", Switch, "", "Consul's service catalog"),
    key("providers.consulCatalog.namespaces", List, "", "namespaces to read (Consul Enterprise)"),
    key("providers.consulCatalog.partition", Text, "", "admin partition (Consul Enterprise)"),
    key("providers.consulCatalog.endpoint.datacenter", Text, "", "datacenter; the agent's if empty"),
    key("providers.consulCatalog.endpoint.scheme", OneOf(&["http", "https"]), "", "scheme of an address without one"),
    guard(
        "providers.consulCatalog.connectByDefault",
        Bool,
        "false",
        "services would be reached without the mesh's encryption and intentions",
    ),
    key(
        "providers.consulCatalog.strictChecks",
        SomeOf(&["passing", "warning", "critical", "maintenance"]),
        "passing,warning",
        "states in which an instance is routed",
    ),
    key(
        "providers.consulCatalog.watchConnections",
        Count(1, 1_000_000),
        "128",
        "services watched one by one; above it two doorbell queries are",
    ),
    key("providers.file", Switch, "", "files of dynamic configuration"),
    key("providers.file.filename", Path, "", "file of dynamic configuration"),
    key("providers.file.directory", Path, "", "directory of files of dynamic configuration (`.yaml`, `.yml`, `.toml`)"),
    key("providers.file.watch", Bool, "true", "take up changes of the files"),
    idle("providers.file.debugLogGeneratedTemplate", Bool, "false", "templates are refused, so it has no effect"),
    key("providers.rest", Switch, "", "dynamic configuration by `PUT /api/providers/rest`"),
    key("providers.rest.insecure", Bool, "false", "take it without the token of `rustLb.api.tokenFile`"),
    later(
        "providers.consul",
        Switch,
        "this is Traefik's KV provider; for Consul's services say `providers.consulCatalog`",
    ),
    later("providers.plugin.*", Kind::Any, "plugins are not run yet"),
    idle("providers.providersThrottleDuration", Duration, "2s", "a change is applied at once, so it has no effect"),
    key("serversTransport.insecureSkipVerify", Bool, "false", "do not verify servers' certificates"),
    key("serversTransport.rootCAs", Paths, "", "PEM files of authorities to trust instead of the system's"),
    guard("serversTransport.spiffe", Switch, "false", "servers would be trusted whatever their SPIFFE id is"),
    key("serversTransport.maxIdleConnsPerHost", Count(0, 1_000_000), "200", "idle connections kept to a server"),
    key("serversTransport.forwardingTimeouts.dialTimeout", Duration, "30s", "connecting to a server"),
    key("serversTransport.forwardingTimeouts.responseHeaderTimeout", Duration, "0s", "waiting for an answer's head"),
    key("serversTransport.forwardingTimeouts.idleConnTimeout", Duration, "90s", "keeping an idle connection"),
    key("log", Switch, "", "the log of the process"),
    key("log.level", OneOf(LEVELS), "INFO", "least level that is logged"),
    key("log.format", OneOf(&["common", "json"]), "", "text or JSON; by default text on a terminal"),
    key("log.filePath", Path, "", "file to write to instead of stderr"),
    key("log.noColor", Bool, "false", "no colours"),
    key("accessLog", Switch, "", "one line a request"),
    key("accessLog.format", OneOf(&["common", "json", "genericCLF"]), "common", "how a line is written"),
    key("accessLog.filePath", Path, "", "file to write to instead of stdout"),
    key("accessLog.bufferingSize", Count(0, 10_000_000), "0", "lines that may wait for the writer, at least"),
    key("accessLog.addInternals", Bool, "false", "log requests for the proxy's own routes too"),
    key("accessLog.filters.statusCodes", List, "", "statuses to log, like `200` or `500-599`"),
    key("accessLog.filters.retryAttempts", Bool, "false", "log requests that were tried again"),
    key("accessLog.filters.minDuration", Duration, "0s", "log requests that took longer"),
    key("accessLog.fields.defaultMode", OneOf(&["keep", "drop"]), "keep", "what is done with fields"),
    key("accessLog.fields.names.*", OneOf(MODES), "", "what is done with a field"),
    key("accessLog.fields.headers.defaultMode", OneOf(MODES), "drop", "what is done with header fields"),
    key("accessLog.fields.headers.names.*", OneOf(MODES), "", "what is done with a header field"),
    key("accessLog.fields.queryParameters.defaultMode", OneOf(&["keep", "drop"]), "keep", "log a target's query"),
    key("metrics.prometheus", Switch, "", "metrics on the admin entry point"),
    key("metrics.prometheus.buckets", Buckets, "0.1,0.3,1.2,5", "bounds of durations in seconds"),
    key("metrics.prometheus.addEntryPointsLabels", Bool, "true", "metrics by entry point"),
    key("metrics.prometheus.addRoutersLabels", Bool, "false", "metrics by router"),
    key("metrics.prometheus.addServicesLabels", Bool, "true", "metrics by service"),
    guard(
        "metrics.prometheus.manualRouting",
        Bool,
        "false",
        "metrics would be served on the admin entry point without a router of your own before them",
    ),
    key("api", Switch, "", "the admin API"),
    key("api.insecure", Bool, "false", "the admin entry point listens on all addresses"),
    idle("api.dashboard", Bool, "true", NO_REPORTS),
    idle("api.disableDashboardAd", Bool, "false", NO_REPORTS),
    idle("global.checkNewVersion", Bool, "true", NO_REPORTS),
    idle("global.sendAnonymousUsage", Bool, "false", NO_REPORTS),
    idle("ping", Switch, "", NO_REPORTS),
    key("certificatesResolvers", Section, "", "who orders certificates, by name"),
    key("certificatesResolvers.*", Switch, "", "a certificate resolver"),
    later("certificatesResolvers.*.tailscale", Loose, "certificates are not had from Tailscale"),
    key("certificatesResolvers.*.acme", Switch, "", "certificates by ACME (RFC 8555)"),
    key(
        "certificatesResolvers.*.acme.caServer",
        Text,
        "https://acme-v02.api.letsencrypt.org/directory",
        "URL of the authority's directory",
    ),
    key("certificatesResolvers.*.acme.email", Text, "", "whom the authority may write to"),
    idle(
        "certificatesResolvers.*.acme.emailAddresses",
        List,
        "",
        "it concerns certificates for mail (RFC 8823), which no authority issues for hosts",
    ),
    key(
        "certificatesResolvers.*.acme.storage",
        Path,
        "",
        "Traefik's `acme.json`, whose certificates are served until they are due; new ones go to the certificate directory",
    ),
    key("certificatesResolvers.*.acme.keyType", OneOf(KEY_TYPES), "EC256", "kind of the certificates' keys"),
    key("certificatesResolvers.*.acme.eab.kid", Text, "", "key id of the binding to an account elsewhere"),
    key("certificatesResolvers.*.acme.eab.hmacEncoded", Secret, "", "its key, in base64url"),
    key("certificatesResolvers.*.acme.caCertificates", Paths, "", "PEM files of who signs the authority's own server"),
    key("certificatesResolvers.*.acme.caSystemCertPool", Bool, "false", "trust the system's roots besides"),
    key("certificatesResolvers.*.acme.caServerName", Text, "", "name to verify instead of the host"),
    key("certificatesResolvers.*.acme.preferredChain", Text, "", "common name of the root of the chain to take"),
    key("certificatesResolvers.*.acme.profile", Text, "", "profile to order by"),
    idle(
        "certificatesResolvers.*.acme.certificatesDuration",
        Count(1, 1_000_000),
        "2160",
        "renewal goes by the life of each certificate and by what the authority says of it (RFC 9773)",
    ),
    key("certificatesResolvers.*.acme.clientTimeout", Duration, "30s", "limit of a request to the authority"),
    idle(
        "certificatesResolvers.*.acme.clientResponseHeaderTimeout",
        Duration,
        "30s",
        "`clientTimeout` bounds the whole request",
    ),
    key(
        "certificatesResolvers.*.acme.certificateTimeout",
        Duration,
        "30s",
        "limit of waiting for the certificate itself",
    ),
    idle(
        "certificatesResolvers.*.acme.disableCommonName",
        Bool,
        "false",
        "no common name is ever asked for: certificates go by their alternative names",
    ),
    key("certificatesResolvers.*.acme.httpChallenge", Switch, "", "the HTTP-01 challenge"),
    key("certificatesResolvers.*.acme.httpChallenge.entryPoint", Text, "", "entry point on port 80; all answer"),
    key("certificatesResolvers.*.acme.httpChallenge.delay", Duration, "0s", "before the authority is told to look"),
    key("certificatesResolvers.*.acme.tlsChallenge", Switch, "", "the TLS-ALPN-01 challenge"),
    key("certificatesResolvers.*.acme.tlsChallenge.delay", Duration, "0s", "before the authority is told to look"),
    key("certificatesResolvers.*.acme.dnsChallenge", Switch, "", "the DNS-01 challenge"),
    key("certificatesResolvers.*.acme.dnsChallenge.provider", Text, "", "who keeps the zone"),
    key("certificatesResolvers.*.acme.dnsChallenge.resolvers", List, "", "name servers to ask, `host:port`"),
    key(
        "certificatesResolvers.*.acme.dnsChallenge.delayBeforeCheck",
        Duration,
        "0s",
        "`propagation.delayBeforeChecks`",
    ),
    key(
        "certificatesResolvers.*.acme.dnsChallenge.disablePropagationCheck",
        Bool,
        "false",
        "`propagation.disableChecks`",
    ),
    key("certificatesResolvers.*.acme.dnsChallenge.propagation", Section, "", "when a record counts as seen by all"),
    key("certificatesResolvers.*.acme.dnsChallenge.propagation.disableChecks", Bool, "false", "do not look"),
    key(
        "certificatesResolvers.*.acme.dnsChallenge.propagation.delayBeforeChecks",
        Duration,
        "0s",
        "before the first look",
    ),
    key(
        "certificatesResolvers.*.acme.dnsChallenge.propagation.requireAllRNS",
        Bool,
        "false",
        "ask all `resolvers`, too",
    ),
    key(
        "certificatesResolvers.*.acme.dnsChallenge.propagation.disableANSChecks",
        Bool,
        "false",
        "do not ask the zone's own name servers",
    ),
    later("experimental.plugins.*.settings", Kind::Any, "plugins are not run yet"),
    later("experimental.localPlugins.*.settings", Kind::Any, "plugins are not run yet"),
    key("rustLb", Section, "", "what only rust-lb knows"),
    key("rustLb.legacyTags", Short("mode"), "", "what `urlprefix-` and `https://` tags do, for all catalogs"),
    key("rustLb.workers", Count(1, 1024), "", "worker threads; as many as cores by default"),
    key(
        "rustLb.stateDir",
        Path,
        "/var/lib/rust-lb",
        "directory of the last good table and of the copy of the certificates",
    ),
    key("rustLb.overlap", Bool, "false", "share ports with another process on purpose"),
    key("rustLb.maxConnections", Count(1, 10_000_000), "10000", "connections open at once on each entry point"),
    key("rustLb.certificates.directory", Path, "/pv/CERTS", "directory of certificates"),
    key("rustLb.certificates.selfSigned", Bool, "false", "sign by Caddy's local authority and order nothing"),
    key(
        "rustLb.certificates.resolver",
        Text,
        "",
        "resolver for hosts of `https://` tags and of `FQDN`; `default` in the HinD set-up, `none` for none",
    ),
    key(
        "rustLb.certificates.store",
        OneOf(&["directory", "consul"]),
        "directory",
        "where ordered certificates are kept",
    ),
    key("rustLb.certificates.consul.prefix", Text, "rust-lb/certificates/", "beginning of their keys in Consul"),
    key("rustLb.certificates.onDemand", Switch, "", "order at the first handshake, for exact hosts that a route names"),
    key("rustLb.certificates.onDemand.ask", Text, "", "URL that is asked first, with `?domain=`; 200 allows"),
    key("rustLb.certificates.onDemand.perDomain", Count(0, 1_000_000), "5", "orders an hour for a registered domain"),
    key("rustLb.certificates.onDemand.perProcess", Count(0, 1_000_000), "20", "orders an hour in all"),
    key(
        "rustLb.certificates.onDemand.perService",
        Count(0, 1_000_000),
        "10",
        "orders a day for the hosts of a service",
    ),
    key("rustLb.certificates.onDemand.remember", Duration, "10m", "how long a refusal is remembered"),
    key(
        "rustLb.certificates.warnBefore",
        Duration,
        "168h",
        "time before the end of a certificate from which it is told",
    ),
    key("rustLb.primary", OneOf(&["nomad", "consul"]), "nomad", "catalog that wins between equals"),
    key("rustLb.domainSuffix", Text, "localhost", "domain of services without a rule"),
    key("rustLb.securityHeaders", Bool, "false", "add security headers where the server set none"),
    key("rustLb.history.size", Count(0, 100_000), "100", "changes kept for `/api/history`"),
    key("rustLb.linger.for", Duration, "10s", "how long a route outlives its last server"),
    key("rustLb.linger.wait", Duration, "5s", "how long a request waits for a server"),
    key("rustLb.drain.limit", Duration, "1h", "how long a server that left keeps what it has; 0 means for ever"),
    key("rustLb.slowStart", Duration, "0s", "how long a server that is new comes to its share; 0 means at once"),
    key("rustLb.resetHold", Duration, "10m", "how long removals are held after a catalog reset"),
    key("rustLb.lastGood.maxAge", DurationOrOff, "24h", "age up to which the last good table is served at start"),
    key("rustLb.api.tokenFile", Path, "", "file with the token for writes on the admin API"),
    key("rustLb.accessLog.sample", Count(1, 1_000_000_000), "1", "log one request in so many, and all that fail"),
    key("rustLb.errors.reveal", Nets, "", "who may ask with `X-Rust-Lb-Cause` why a request failed"),
    key("rustLb.notify.url", Secret, "", "webhook that is told of trouble with certificates and catalogs"),
    key("rustLb.fabio", Section, "", "what Fabio has as flags"),
    key("rustLb.fabio.auth", Section, "", "schemes of `auth=` by name"),
    key("rustLb.fabio.auth.*", Short("file"), "", "a scheme: an htpasswd file, or Fabio's `type=basic;file=…`"),
    key("rustLb.fabio.auth.*.file", Text, "", "htpasswd file, read again when it changes"),
    key("rustLb.fabio.auth.*.realm", Text, "", "what clients are told that it is for; the scheme's name if empty"),
    key(
        "rustLb.panicThreshold",
        Count(0, 100),
        "0",
        "percent of healthy servers below which all of a service's servers are used; with 0 only where none is healthy",
    ),
];

/// What both catalog providers know, below `providers.nomad` and `providers.consulCatalog`.
pub(super) const CATALOG: &[Key] = &[
    key("endpoint", Short("address"), "", "the agent's API"),
    key("endpoint.address", Text, "", "`http://host:port`, `https://host:port` or `unix:///path`"),
    key("endpoint.token", Secret, "", "ACL token"),
    key("endpoint.tokenFile", Path, "", "file with the ACL token, read again when it is refused"),
    key("endpoint.tls.ca", Path, "", "PEM file of the authorities to trust"),
    key("endpoint.tls.cert", Path, "", "PEM file of the client certificate"),
    key("endpoint.tls.key", Path, "", "PEM file of the client key"),
    key("endpoint.tls.serverName", Text, "", "name to verify instead of the host"),
    key("endpoint.tls.insecureSkipVerify", Bool, "false", "do not verify the agent's certificate"),
    key("stale", Bool, "false", "ask with `stale` first"),
    key("exposedByDefault", Bool, "false", "route services without `traefik.enable=true`"),
    key("defaultRule", Text, "", "rule of services without one"),
    key("prefix", Text, "traefik", "prefix of the tags"),
    key("constraints", Text, "", "expression over tags that a service must meet"),
    key("watch", Bool, "true", "wait for changes"),
    idle("refreshInterval", Duration, "15s", WAITED_FOR),
    idle("throttleDuration", Duration, "0s", "a change is applied at once, so it has no effect"),
    key("legacyTags", Short("mode"), "", "what `urlprefix-` and `https://` tags do"),
];

/// Below `rustLb.legacyTags` and each catalog's `legacyTags`.
pub(super) const LEGACY: &[Key] = &[
    key("mode", OneOf(&["fallback", "merge", "off"]), "fallback", "when legacy tags count"),
    key("prefix", Text, "urlprefix-", "prefix of Fabio's tags"),
    key("dialects", SomeOf(&["traefik", "urlprefix", "site"]), "traefik,urlprefix,site", "dialects that are read"),
    key("matcher", OneOf(&["prefix", "iprefix", "glob"]), "prefix", "how paths of Fabio's tags are compared"),
    key("globDisabled", Bool, "false", "hosts of Fabio's tags are literal"),
    key(
        "serviceStatus",
        SomeOf(&["passing", "warning", "critical", "maintenance"]),
        "passing",
        "states of checks in which an instance is routed by Fabio's tags",
    ),
    key("checksRequired", OneOf(&["one", "all"]), "one", "how many checks of an instance must be in such a state"),
];

/// Where the shared tables stand.
pub(super) const MOUNTS: &[(&str, &[Key])] = &[
    ("", KEYS),
    ("providers.nomad", CATALOG),
    ("providers.consulCatalog", CATALOG),
    ("rustLb.legacyTags", LEGACY),
    ("providers.nomad.legacyTags", LEGACY),
    ("providers.consulCatalog.legacyTags", LEGACY),
];

/// Short names of flags (`--workers 4`) and variables (`RUST_LB_WORKERS`).
pub(super) const ALIASES: &[(&str, &str)] =
    &[("workers", "rustLb.workers"), ("stateDir", "rustLb.stateDir"), ("overlap", "rustLb.overlap")];

/// The default entry points (the HinD set-up), used when none is named.
pub(super) const DEFAULT_ENTRY_POINTS: &[(&str, &str)] = &[
    ("entryPoints.web", "true"),
    ("entryPoints.web.address", ":80"),
    ("entryPoints.web.transport.lifeCycle.graceTimeOut", "30s"),
    ("entryPoints.websecure", "true"),
    ("entryPoints.websecure.address", ":443"),
    ("entryPoints.websecure.http.tls", "true"),
    ("entryPoints.websecure.transport.lifeCycle.graceTimeOut", "30s"),
];

/// The default providers, used when none is named.
pub(super) const DEFAULT_PROVIDERS: &[(&str, &str)] =
    &[("providers.nomad", "true"), ("providers.consulCatalog", "true")];

/// What is watched and added by default, unless a static file in Traefik's form says it.
pub(super) const DEFAULT_OBSERVATION: &[(&str, &str)] = &[
    ("accessLog", "true"),
    ("accessLog.format", "json"),
    ("accessLog.addInternals", "true"),
    ("metrics.prometheus", "true"),
    ("metrics.prometheus.addRoutersLabels", "true"),
    ("rustLb.securityHeaders", "true"),
];
