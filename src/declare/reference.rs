//! The reference of dynamic configuration: every option that Traefik 3.7 takes from tags
//! (<https://doc.traefik.io/traefik/reference/dynamic-configuration/docker/>) and besides from files
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/other-providers/file/>), once, with
//! the kind of its value, whether it acts, and what it is for. An option that does not act is known and not
//! served: it is declared and printed, its tag gives a warning, and a middleware made of such
//! options is refused where a router names it.

use super::options::Acts::{self, Always, If};
use super::options::Kind::{self, Bool, Duration, Ignored, Int, List, Section as Alone, Text};
use serde_json::{Value, json};

/// Options that belong together.
pub(super) struct Section {
    /// Path that they share.
    pub path: &'static str,
    /// What they are for.
    pub doc: &'static str,
    /// Options that act: path below the section (empty: the section itself), kind, when, documentation.
    pub served: &'static [(&'static str, Kind, Acts, &'static str)],
    /// Options that do not act yet: paths below the section, separated by blanks, by kind. Before
    /// one that Traefik's JSON shows even when it is zero stands `!`.
    pub known: &'static [(Kind, &'static str)],
}

/// All options of tags by section.
pub(super) static SECTIONS: &[Section] = &[
    Section {
        path: "http.routers.*",
        doc: "what a request must look like and who answers it",
        served: &[
            ("entryPoints", List, Always, "the entry points that it answers on; without it the default ones"),
            ("middlewares", List, Always, "the middlewares in order of execution, `name` or `name@provider`"),
            ("service", Text, Always, "the service that answers; needed only where the tags define several"),
            ("rule", Text, Always, "the rule that a request must match; without it the default rule is taken"),
            ("ruleSyntax", Text, Always, "`v3` or `v2`, the version of the rule language"),
            ("priority", Int, Always, "the higher one is tried first; 0 means the length of the rule"),
            ("tls", Alone, Always, "answers TLS connections only"),
            ("tls.options", Text, Always, "the name of TLS options"),
            ("tls.certResolver", Text, Always, "who asks for certificates"),
            ("tls.domains[].main", Text, Always, "main name of a certificate to ask for"),
            ("tls.domains[].sans", List, Always, "further names of that certificate"),
        ],
        known: &[(Ignored, "parentRefs tls.resolvedOptions defaultRule deniedEncodedPathCharacters")],
    },
    Section {
        path: "http.routers.*.observability",
        doc: "logs, metrics and traces of one router",
        served: &[],
        known: &[(Bool, "!accessLogs !metrics !tracing"), (Text, "traceVerbosity"), (Ignored, "metadata")],
    },
    Section {
        path: "http.services.*",
        doc: "servers and how one of them is chosen",
        served: &[
            (
                "loadBalancer.server.url",
                Text,
                Always,
                "address of the server instead of the registered one: `http://host:port`",
            ),
            ("loadBalancer.server.weight", Int, If(weight), "share of this instance among the servers"),
            (
                "loadBalancer.server.scheme",
                Text,
                Always,
                "`http`, `https` or `h2c` (HTTP/2 without TLS), how the server is reached",
            ),
            (
                "loadBalancer.server.preservePath",
                Bool,
                Always,
                "whether the path of its `url` goes before that of requests",
            ),
            ("loadBalancer.server.port", Text, Always, "port of the server instead of the registered one"),
            (
                "loadBalancer.strategy",
                Text,
                If(|v| Ok(matches!(v.as_str(), Some("" | "wrr")))),
                "how a server is chosen: `wrr` (default)",
            ),
            ("middlewares", List, Always, "the middlewares that every request to the service passes"),
            (
                "loadBalancer.passHostHeader",
                Bool,
                Always,
                "whether the client's Host goes to the server (default: true)",
            ),
            (
                "loadBalancer.serversTransport",
                Text,
                Always,
                "how the servers are reached: the name of a serversTransport, `name` or `name@provider`",
            ),
        ],
        known: &[(
            Ignored,
            "loadBalancer.server.fenced loadBalancer.nginxUpstreamHashBy highestRandomWeight weighted \
              mirroring failover",
        )],
    },
    Section {
        path: "http.services.*.loadBalancer.sticky",
        doc: "keeps a client on one server by a cookie",
        served: &[],
        known: &[
            (Alone, ". cookie"),
            (Text, "cookie.name cookie.sameSite cookie.path cookie.domain"),
            (Bool, "cookie.secure cookie.httpOnly"),
            (Int, "cookie.maxAge"),
            (Ignored, "cookie.expires"),
        ],
    },
    Section {
        path: "http.services.*.loadBalancer.healthCheck",
        doc: "asks the servers whether they are well",
        served: &[],
        known: &[
            (Text, "scheme mode path method hostname headers.*"),
            (Int, "status port"),
            (Duration, "interval unhealthyInterval timeout"),
            (Bool, "followRedirects"),
        ],
    },
    Section {
        path: "http.services.*.loadBalancer.passiveHealthCheck",
        doc: "leaves out servers that fail requests",
        served: &[],
        known: &[(Duration, "failureWindow"), (Int, "maxFailedAttempts")],
    },
    Section {
        path: "http.services.*.loadBalancer.responseForwarding",
        doc: "how often an answer is flushed to the client",
        served: &[],
        known: &[(Duration, "flushInterval")],
    },
    Section {
        path: "http.serversTransports.*",
        doc: "how servers are reached: TLS, time-outs",
        served: &[
            ("serverName", Text, Always, "the name that `https://` servers are asked for (SNI) and must prove"),
            ("certificates[].certFile", Text, Always, "chain of a client certificate: a PEM file, or the PEM text"),
            ("certificates[].keyFile", Text, Always, "its key: a PEM file, or the PEM text"),
            ("insecureSkipVerify", Bool, Always, "do not verify servers' certificates"),
            ("rootCAs", List, Always, "authorities to trust instead of the system's: PEM files, or PEM texts"),
            ("cipherSuites", List, Always, "cipher suites of TLS 1.2, by their names in Go; TLS 1.3 has its own"),
            ("minVersion", Text, Always, "least version of TLS: `VersionTLS12` (default) or `VersionTLS13`"),
            ("maxVersion", Text, Always, "highest version of TLS: `VersionTLS13` (default) or `VersionTLS12`"),
            ("peerCertURI", Text, Always, "a URI that the server's certificate must name; deprecated: `peerCertSANs`"),
            ("peerCertSANs[].type", Text, Always, "kind of a name: `URI` or `DNSName`"),
            ("peerCertSANs[].value", Text, Always, "a name, one of which the server's certificate must have"),
            ("maxIdleConnsPerHost", Int, Always, "idle connections that a worker keeps to a server (default: 200)"),
            ("disableHTTP2", Bool, Always, "speak HTTP/1.1 only"),
            ("!forwardingTimeouts.dialTimeout", Duration, Always, "connecting to a server (default: 30s; 0: no limit)"),
            (
                "!forwardingTimeouts.responseHeaderTimeout",
                Duration,
                Always,
                "waiting for an answer's head (0: no limit)",
            ),
            ("!forwardingTimeouts.idleConnTimeout", Duration, Always, "keeping an idle connection (default: 90s)"),
            (
                "!forwardingTimeouts.readIdleTimeout",
                Duration,
                Always,
                "silence of an HTTP/2 server after which it is asked whether it is there (0: never)",
            ),
            ("!forwardingTimeouts.pingTimeout", Duration, Always, "how long it has to answer that (default: 15s)"),
            (
                "rustLbProxyProtocol",
                Alone,
                Always,
                "tell servers who the client is by the PROXY protocol (rust-lb's own)",
            ),
            ("rustLbProxyProtocol.version", Int, Always, "version of the PROXY protocol: 1 or 2 (default)"),
            ("spiffe", Alone, If(no_workload_api), "identities by a SPIFFE workload API; not served"),
        ],
        known: &[
            (Text, "spiffe.trustDomain"),
            (List, "spiffe.ids"),
            (Duration, "forwardingTimeouts.readTimeout forwardingTimeouts.writeTimeout"),
        ],
    },
    Section {
        path: "tcp.routers.*",
        doc: "which TCP connections a service gets",
        served: &[],
        known: &[
            (List, "entryPoints middlewares tls.domains[].sans"),
            (Text, "service rule ruleSyntax tls.options tls.certResolver tls.domains[].main"),
            (Int, "priority"),
            (Alone, "tls"),
            (Bool, "tls.passthrough"),
        ],
    },
    Section {
        path: "tcp.services.*",
        doc: "TCP servers",
        served: &[],
        known: &[
            (Ignored, "loadBalancer.server.address weighted"),
            (
                Text,
                "loadBalancer.server.port loadBalancer.serversTransport loadBalancer.healthCheck.send \
              loadBalancer.healthCheck.expect",
            ),
            (Bool, "loadBalancer.server.tls"),
            (Alone, "loadBalancer.proxyProtocol loadBalancer.healthCheck"),
            (
                Int,
                "loadBalancer.proxyProtocol.version loadBalancer.terminationDelay \
              loadBalancer.healthCheck.port",
            ),
            (
                Duration,
                "loadBalancer.healthCheck.interval loadBalancer.healthCheck.unhealthyInterval \
              loadBalancer.healthCheck.timeout",
            ),
        ],
    },
    Section {
        path: "tcp.middlewares.*",
        doc: "what happens to a TCP connection on its way",
        served: &[],
        known: &[(Int, "inFlightConn.amount"), (List, "ipWhiteList.sourceRange ipAllowList.sourceRange")],
    },
    Section {
        path: "tcp.serversTransports.*",
        doc: "how TCP servers are reached",
        served: &[],
        known: &[
            (Duration, "dialKeepAlive dialTimeout terminationDelay"),
            (Alone, "proxyProtocol tls tls.spiffe"),
            (Int, "proxyProtocol.version"),
            (
                Text,
                "tls.serverName tls.certificates[].certFile tls.certificates[].keyFile tls.peerCertURI \
              tls.peerCertSANs[].type tls.peerCertSANs[].value tls.spiffe.trustDomain",
            ),
            (Bool, "tls.insecureSkipVerify"),
            (List, "tls.rootCAs tls.spiffe.ids"),
        ],
    },
    Section {
        path: "udp.routers.*",
        doc: "which UDP packets a service gets",
        served: &[],
        known: &[(List, "entryPoints"), (Text, "service")],
    },
    Section {
        path: "udp.services.*",
        doc: "UDP servers",
        served: &[],
        known: &[(Ignored, "loadBalancer.server.address weighted"), (Text, "loadBalancer.server.port")],
    },
    Section {
        path: "tls.stores.*",
        doc: "the default certificate",
        served: &[],
        known: &[
            (Ignored, "defaultCertificate"),
            (Text, "defaultGeneratedCert.resolver defaultGeneratedCert.domain.main"),
            (List, "defaultGeneratedCert.domain.sans"),
        ],
    },
];

/// SPIFFE: certificates and roots come from a workload API, which is not spoken. A server is not trusted without them.
fn no_workload_api(value: &Value) -> Result<bool, String> {
    match value.as_bool() {
        Some(false) => Ok(true),
        _ => {
            Err("a SPIFFE workload API is not spoken yet; name the servers' ids as `peerCertSANs` of the type `URI`, \
                  with `rootCAs` and `certificates` from files"
                .to_owned())
        }
    }
}

/// A weight that can be used.
pub(super) fn weight(value: &Value) -> Result<bool, String> {
    let number = value.as_i64().unwrap_or_default();
    let fits = u32::try_from(number).is_ok();
    if fits { Ok(true) } else { Err(format!("expected a weight from 0 to {}, got `{number}`", u32::MAX)) }
}

/// What Traefik fills in when a section is there, by the section's path. Typed declarations have
/// their defaults themselves.
pub(crate) fn defaults(section: &str) -> Value {
    match section {
        "http.services.*.mirroring" => json!({"maxBodySize": -1, "mirrorBody": true}),
        "http.middlewares.*.forwardAuth" => json!({"maxBodySize": -1}),
        "http.middlewares.*.retry" => json!({"maxRequestBodyBytes": 2_097_152}),
        "http.middlewares.*.compress" => json!({"encodings": ["gzip", "br", "zstd"]}),
        "http.middlewares.*.rateLimit" => json!({"burst": 1, "period": "1s"}),
        "http.middlewares.*.rateLimit.redis" => json!({
            "endpoints": ["localhost:6379"], "readTimeout": "3s", "writeTimeout": "3s", "dialTimeout": "5s",
        }),
        "http.middlewares.*.circuitBreaker" => json!({
            "checkPeriod": "100ms", "fallbackDuration": "10s", "recoveryDuration": "10s", "responseCode": 503,
        }),
        _ => json!({}),
    }
}
