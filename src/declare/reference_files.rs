//! What the reference of tags lacks: options that only files and the REST provider can say, or say
//! in another form (a list of servers, services made of other services, certificates).

use super::options::Acts::{Always, If};
use super::options::Kind::{Bool, Ignored, Int, List, Section as Alone, Text};
use super::reference::{Section, weight};

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
        served: &[],
        known: &[
            (Text, "services[].name sticky.cookie.name sticky.cookie.sameSite sticky.cookie.path sticky.cookie.domain"),
            (Int, "services[].weight sticky.cookie.maxAge"),
            (Bool, "sticky.cookie.secure sticky.cookie.httpOnly"),
            (Alone, "sticky sticky.cookie healthCheck"),
        ],
    },
    Section {
        path: "http.services.*.highestRandomWeight",
        doc: "other services by the client's address",
        served: &[],
        known: &[(Text, "services[].name"), (Int, "services[].weight"), (Alone, "healthCheck")],
    },
    Section {
        path: "http.services.*.mirroring",
        doc: "copies of requests to other services",
        served: &[],
        known: &[
            (Text, "service mirrors[].name"),
            (Bool, "mirrorBody"),
            (Int, "maxBodySize mirrors[].percent"),
            (Alone, "healthCheck"),
        ],
    },
    Section {
        path: "http.services.*.failover",
        doc: "another service where the first one has no servers",
        served: &[],
        known: &[
            (Text, "service fallback"),
            (Alone, "healthCheck"),
            (List, "errors.status"),
            (Int, "errors.maxRequestBodyBytes"),
        ],
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
        ],
        known: &[(Alone, "weighted.healthCheck")],
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
        served: &[],
        known: &[(Text, "certFile keyFile"), (List, "stores")],
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
        served: &[],
        known: &[(Text, "defaultCertificate.certFile defaultCertificate.keyFile")],
    },
];
