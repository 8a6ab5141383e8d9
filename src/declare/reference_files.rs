//! What the reference of tags lacks: options that only files and the REST provider can say, or say
//! in another form (a list of servers, services made of other services, certificates).

use super::composite::status_range;
use super::options::Acts::{Always, If};
use super::options::Kind::{Bool, Ignored, Int, List, Section as Alone, Text};
use super::reference::{Section, weight};
use serde_json::Value;

/// The options by section.
pub(super) static FILE_SECTIONS: &[Section] = &[
    Section {
        path: "http.routers.*",
        doc: "which Gateway of Kubernetes it belongs to",
        served: &[],
        known: &[(Ignored, "parentRefs")],
    },
    Section {
        path: "http.services.*.loadBalancer",
        doc: "one server",
        served: &[
            ("servers[].url", Text, Always, "address of the server: `http://host:port`"),
            ("servers[].weight", Int, If(weight), "its share among the servers"),
            ("servers[].preservePath", Bool, Always, "whether the path of its URL goes before that of requests"),
        ],
        known: &[(Ignored, "servers[].fenced")],
    },
    Section {
        path: "http.services.*.weighted",
        doc: "other services by weight",
        served: &[
            ("services[].name", Text, Always, "name of a service, `name` or `name@provider`"),
            ("services[].weight", Int, If(weight), "its share (default: 1; 0 gets nothing)"),
            ("sticky", Alone, Always, "keeps a client on one of the services"),
            ("sticky.cookie", Alone, Always, "by a cookie"),
            ("sticky.cookie.name", Text, Always, "the cookie's name; without it one made of the service's"),
            ("sticky.cookie.sameSite", Text, Always, "`none`, `lax` or `strict`"),
            ("sticky.cookie.path", Text, Always, "path that the cookie is for (default: `/`)"),
            ("sticky.cookie.domain", Text, Always, "domain that the cookie is for"),
            ("sticky.cookie.maxAge", Int, Always, "seconds for which it is kept; 0 means for the session"),
            ("sticky.cookie.secure", Bool, Always, "the cookie goes over TLS only"),
            ("sticky.cookie.httpOnly", Bool, Always, "the cookie is out of reach of scripts"),
            ("healthCheck", Alone, Always, "services without a usable server are passed over, here with or without it"),
        ],
        known: &[],
    },
    Section {
        path: "http.services.*.highestRandomWeight",
        doc: "other services by the client's address",
        served: &[
            ("services[].name", Text, Always, "name of a service, `name` or `name@provider`"),
            ("services[].weight", Int, If(weight), "its share of the clients (default: 1; 0 gets none)"),
            ("healthCheck", Alone, Always, "services without a usable server are passed over, here with or without it"),
        ],
        known: &[],
    },
    Section {
        path: "http.services.*.mirroring",
        doc: "copies of requests to other services",
        served: &[
            ("service", Text, Always, "the service that answers"),
            ("mirrors[].name", Text, Always, "a service that gets copies, whose answers nobody sees"),
            ("mirrors[].percent", Int, If(percent), "how many of 100 requests it gets"),
            ("mirrorBody", Bool, Always, "whether copies have the request's body (default: true)"),
            (
                "maxBodySize",
                Int,
                Always,
                "requests with a longer body, in bytes, are not copied (default: -1, no limit)",
            ),
            ("healthCheck", Alone, Always, "the health of the service that answers counts, here with or without it"),
        ],
        known: &[],
    },
    Section {
        path: "http.services.*.failover",
        doc: "another service where the first one has no servers",
        served: &[
            ("service", Text, Always, "the service that answers while it has a usable server"),
            ("fallback", Text, Always, "the service that answers otherwise"),
            ("healthCheck", Alone, Always, "the health of both counts, here with or without it"),
            ("errors.status", List, If(statuses), "statuses after which the fallback is asked: `503`, `500-599`"),
            ("errors.maxRequestBodyBytes", Int, Always, "longest body that is kept for the fallback"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.forwardAuth",
        doc: "asks another server whether to let a request in",
        served: &[],
        known: &[(Text, "addAuthCookiesToResponseRegex")],
    },
    Section {
        path: "tcp.services.*",
        doc: "TCP servers",
        served: &[
            ("loadBalancer.servers[].address", Text, Always, "`host:port`"),
            ("loadBalancer.servers[].tls", Bool, Always, "whether the server is reached by TLS"),
            ("weighted.services[].name", Text, Always, "a service among which connections are shared out"),
            ("weighted.services[].weight", Int, Always, "its share (default: 1)"),
            (
                "weighted.healthCheck",
                Alone,
                Always,
                "services without a usable server are passed over, here with or without it",
            ),
        ],
        known: &[],
    },
    Section {
        path: "udp.services.*",
        doc: "UDP servers",
        served: &[],
        known: &[
            (Text, "loadBalancer.servers[].address weighted.services[].name"),
            (Int, "weighted.services[].weight"),
        ],
    },
    Section {
        path: "tls.certificates[]",
        doc: "a certificate with its key",
        served: &[
            ("certFile", Text, Always, "the chain, its own certificate first: a file or PEM"),
            ("keyFile", Text, Always, "its private key: a file or PEM"),
            ("stores", List, Always, "stores that it belongs to; only `default` serves anybody"),
        ],
        known: &[],
    },
    Section {
        path: "tls.options.*",
        doc: "which TLS a router takes",
        served: &[
            ("minVersion", Text, Always, "least version: `VersionTLS12` (default) or `VersionTLS13`"),
            ("maxVersion", Text, Always, "latest version"),
            ("cipherSuites", List, Always, "cipher suites of TLS 1.2, by Go's names"),
            ("curvePreferences", List, Always, "groups of the key exchange"),
            ("alpnProtocols", List, Always, "protocols: `h2`, `http/1.1`"),
            ("sniStrict", Bool, Always, "no handshake without a certificate for the host"),
            ("disableSessionTickets", Bool, Always, "every connection has a full handshake"),
            ("clientAuth.caFiles", List, Always, "files of the authorities of clients' certificates"),
            ("clientAuth.clientAuthType", Text, Always, "whether clients need a certificate, and which"),
        ],
        known: &[(Bool, "preferServerCipherSuites")],
    },
    Section {
        path: "tls.stores.*",
        doc: "the default certificate",
        served: &[
            ("defaultCertificate.certFile", Text, Always, "chain for hosts without a certificate: a file or PEM"),
            ("defaultCertificate.keyFile", Text, Always, "its private key: a file or PEM"),
        ],
        known: &[],
    },
];

/// Parts of 100.
fn percent(value: &Value) -> Result<bool, String> {
    match value.as_i64() {
        Some(0..=100) => Ok(true),
        _ => Err(format!("expected a number from 0 to 100, got `{value}`")),
    }
}

/// Statuses and ranges of them.
fn statuses(value: &Value) -> Result<bool, String> {
    let mut texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.try_for_each(|text| status_range(text).map(drop)).map(|()| true)
}
