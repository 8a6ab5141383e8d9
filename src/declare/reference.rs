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
                Always,
                "how a server is chosen: `wrr` (default), `p2c`, `hrw`, `leasttime`; rust-lb's own: `least_conn`, `random`, \
                 `ip_hash`, `hash_header:NAME`, `hash_cookie:NAME`",
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
            (
                "loadBalancer.rustLbMaxRequests",
                Int,
                Always,
                "requests that one server works on at once, those of all workers together; one that has so many is passed \
                 over, and where all have, requests wait (rust-lb's own)",
            ),
            (
                "loadBalancer.rustLbMaxQueue",
                Int,
                Always,
                "requests that may wait for a place at a server; more get 503 (default: 100; rust-lb's own)",
            ),
            (
                "loadBalancer.rustLbQueueTimeout",
                Duration,
                Always,
                "how long they wait at most (default: `rustLb.linger.wait`; rust-lb's own)",
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
        served: &[
            (".", Alone, Always, "keeps a client on one server"),
            ("cookie", Alone, Always, "by a cookie"),
            ("cookie.name", Text, Always, "the cookie's name; without it one made of the service's"),
            ("cookie.sameSite", Text, Always, "`none`, `lax` or `strict`"),
            ("cookie.path", Text, Always, "path that the cookie is for (default: `/`)"),
            ("cookie.domain", Text, Always, "domain that the cookie is for"),
            ("cookie.secure", Bool, Always, "the cookie goes over TLS only"),
            ("cookie.httpOnly", Bool, Always, "the cookie is out of reach of scripts"),
            ("cookie.maxAge", Int, Always, "seconds for which it is kept; 0 means for the session, less means it ends"),
        ],
        known: &[(Ignored, "cookie.expires")],
    },
    Section {
        path: "http.services.*.loadBalancer.healthCheck",
        doc: "asks the servers whether they are well",
        served: &[
            ("scheme", Text, Always, "`http`, `https` or `h2c`; without it the server's"),
            ("mode", Text, Always, "`http` (default) or `grpc`, the gRPC health checking protocol"),
            ("path", Text, Always, "path and query that are asked for"),
            ("method", Text, Always, "method of the request (default: GET)"),
            ("hostname", Text, Always, "Host of the request; without it the server's"),
            ("headers.*", Text, Always, "fields of the request"),
            ("status", Int, Always, "status that is wanted; without it any from 200 to 399"),
            ("port", Int, Always, "port that is asked, if not the server's"),
            ("interval", Duration, Always, "time between two checks of a healthy server (default: 30s)"),
            ("unhealthyInterval", Duration, Always, "the same of an unhealthy one; without it as `interval`"),
            ("timeout", Duration, Always, "how long a check may take (default: 5s)"),
            ("followRedirects", Bool, Always, "whether redirects are followed (default: true)"),
        ],
        known: &[],
    },
    Section {
        path: "http.services.*.loadBalancer.passiveHealthCheck",
        doc: "leaves out servers that fail requests",
        served: &[
            ("failureWindow", Duration, Always, "failures count for so long, and the server is left out for so long"),
            ("maxFailedAttempts", Int, Always, "failures in a row after which a server is left out"),
        ],
        known: &[],
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
        served: &[
            ("entryPoints", List, Always, "the entry points that it is on; without it the default ones"),
            ("middlewares", List, Always, "the TCP middlewares in order of execution, `name` or `name@provider`"),
            ("service", Text, Always, "the TCP service; needed only where the tags define several"),
            (
                "rule",
                Text,
                Always,
                "the rule that a connection must match: `HostSNI`, `HostSNIRegexp`, `ClientIP`, `ALPN`",
            ),
            ("ruleSyntax", Text, Always, "`v3` or `v2`, the version of the rule language"),
            ("priority", Int, Always, "the higher one is tried first; 0 means the length of the rule"),
            ("tls", Alone, Always, "takes TLS connections only, and ends TLS here"),
            ("tls.passthrough", Bool, Always, "the server gets TLS as it is"),
            ("tls.options", Text, Always, "the name of TLS options"),
            ("tls.certResolver", Text, Always, "who asks for certificates"),
            ("tls.domains[].main", Text, Always, "main name of a certificate to ask for"),
            ("tls.domains[].sans", List, Always, "further names of that certificate"),
        ],
        known: &[],
    },
    Section {
        path: "tcp.services.*",
        doc: "TCP servers",
        served: &[
            ("loadBalancer.server.port", Text, Always, "port of the server instead of the registered one"),
            ("loadBalancer.server.tls", Bool, Always, "whether the server is reached by TLS"),
            (
                "loadBalancer.serversTransport",
                Text,
                Always,
                "how the servers are reached: the name of a TCP serversTransport, `name` or `name@provider`",
            ),
            ("loadBalancer.proxyProtocol", Alone, Always, "tell servers who the client is by the PROXY protocol"),
            ("loadBalancer.proxyProtocol.version", Int, Always, "version of the PROXY protocol: 1 or 2 (default)"),
            (
                "loadBalancer.terminationDelay",
                Int,
                Always,
                "milliseconds that one direction lives on after the other has ended (default: 100); below zero: for ever",
            ),
            ("loadBalancer.healthCheck", Alone, Always, "asks the servers whether they take connections"),
            ("loadBalancer.healthCheck.send", Text, Always, "what is sent first"),
            (
                "loadBalancer.healthCheck.expect",
                Text,
                Always,
                "how the answer must begin; without it any connection will do",
            ),
            ("loadBalancer.healthCheck.port", Int, Always, "port that is asked, if not the server's"),
            (
                "loadBalancer.healthCheck.interval",
                Duration,
                Always,
                "time between two checks of a healthy server (default: 30s)",
            ),
            (
                "loadBalancer.healthCheck.unhealthyInterval",
                Duration,
                Always,
                "the same of an unhealthy one; without it as `interval`",
            ),
            ("loadBalancer.healthCheck.timeout", Duration, Always, "how long a check may take (default: 5s)"),
        ],
        known: &[(Ignored, "loadBalancer.server.address weighted")],
    },
    Section {
        path: "tcp.middlewares.*",
        doc: "what happens to a TCP connection on its way",
        served: &[
            ("inFlightConn.amount", Int, Always, "connections that one client may have at once"),
            ("ipAllowList.sourceRange", List, Always, "clients that get through: addresses and networks"),
            ("ipWhiteList.sourceRange", List, Always, "the old name of `ipAllowList`"),
            (
                "rustLbDenyList.sourceRange",
                List,
                Always,
                "clients that do not get through (rust-lb's own, for Fabio's `deny=`)",
            ),
        ],
        known: &[],
    },
    Section {
        path: "tcp.serversTransports.*",
        doc: "how TCP servers are reached",
        served: &[
            ("dialTimeout", Duration, Always, "until a connection is made (default: 30s)"),
            (
                "terminationDelay",
                Duration,
                Always,
                "how long one direction lives on after the other has ended (default: 100ms); below zero: for ever",
            ),
            ("proxyProtocol", Alone, Always, "tell servers who the client is by the PROXY protocol"),
            ("proxyProtocol.version", Int, Always, "version of the PROXY protocol: 1 or 2 (default)"),
            ("tls", Alone, Always, "how servers that are reached by TLS are verified"),
            ("tls.serverName", Text, Always, "the name to ask for and to verify instead of the server's host"),
            ("tls.insecureSkipVerify", Bool, Always, "certificates are not verified"),
            ("tls.rootCAs", List, Always, "authorities to trust instead of the system's: files or PEM"),
            ("tls.certificates[].certFile", Text, Always, "certificate to show: a file or PEM"),
            ("tls.certificates[].keyFile", Text, Always, "its key: a file or PEM"),
            ("tls.peerCertURI", Text, Always, "URI that the server's certificate must have"),
            ("tls.peerCertSANs[].type", Text, Always, "kind of a name that it must have: `URI` or `DNSName`"),
            ("tls.peerCertSANs[].value", Text, Always, "that name"),
            ("tls.spiffe", Alone, If(no_workload_api), "identities by a SPIFFE workload API; not served"),
        ],
        known: &[(Duration, "dialKeepAlive"), (Text, "tls.spiffe.trustDomain"), (List, "tls.spiffe.ids")],
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
