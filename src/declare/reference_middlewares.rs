//! The reference of HTTP middlewares (<https://doc.traefik.io/traefik/middlewares/http/overview/>): the part of
//! [`super::reference`] for them.

use super::options::Acts::Always;
use super::options::Kind::{Bool, Duration, Ignored, Int, List, Section as Alone, Text};
use super::reference::Section;

/// All options of HTTP middlewares by section.
pub(super) static MIDDLEWARES: &[Section] = &[
    Section {
        path: "http.middlewares.*.addPrefix",
        doc: "changes the path before it reaches the server",
        served: &[("prefix", Text, Always, "puts this before the path")],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.stripPrefix",
        doc: "cuts a prefix off the path",
        served: &[("prefixes", List, Always, "cuts the first of these that fits off the path")],
        known: &[(Bool, "!forceSlash")],
    },
    Section {
        path: "http.middlewares.*.stripPrefixRegex",
        doc: "cuts off the path what an expression matches",
        served: &[("regex", List, Always, "cuts off the path's beginning what the first of these that fits matches")],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.replacePath",
        doc: "replaces the path",
        served: &[("path", Text, Always, "the path that servers get; the old one goes in `X-Replaced-Path`")],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.replacePathRegex",
        doc: "rewrites the path by an expression",
        served: &[
            ("regex", Text, Always, "rewrites what this matches of the escaped path"),
            ("replacement", Text, Always, "what stands there instead, with `${1}` for what groups matched"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.chain",
        doc: "several middlewares under one name",
        served: &[("middlewares", List, Always, "the middlewares in order of execution, `name` or `name@provider`")],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.ipWhiteList",
        doc: "lets only some addresses in (old name of ipAllowList)",
        served: &[
            ("sourceRange", List, Always, "addresses and networks that are let in"),
            ("ipStrategy", Alone, Always, "which address is the client's; without it the TCP peer's"),
            ("ipStrategy.depth", Int, Always, "the how-manieth address of X-Forwarded-For, from the right"),
            (
                "ipStrategy.excludedIPs",
                List,
                Always,
                "the first address of X-Forwarded-For from the right that is none of these",
            ),
            ("!ipStrategy.ipv6Subnet", Int, Always, "addresses of IPv6 that agree in so many bits count as one"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.ipAllowList",
        doc: "lets only some addresses in",
        served: &[
            ("sourceRange", List, Always, "addresses and networks that are let in"),
            ("rejectStatusCode", Int, Always, "status for the others instead of 403"),
            ("ipStrategy", Alone, Always, "which address is the client's; without it the TCP peer's"),
            ("ipStrategy.depth", Int, Always, "the how-manieth address of X-Forwarded-For, from the right"),
            (
                "ipStrategy.excludedIPs",
                List,
                Always,
                "the first address of X-Forwarded-For from the right that is none of these",
            ),
            ("!ipStrategy.ipv6Subnet", Int, Always, "addresses of IPv6 that agree in so many bits count as one"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.headers",
        doc: "sets headers, CORS and security headers",
        served: &[
            ("customRequestHeaders.*", Text, Always, "sets this field of requests; empty takes it off"),
            ("customResponseHeaders.*", Text, Always, "sets this field of answers; empty takes it off"),
            ("accessControlAllowCredentials", Bool, Always, "CORS: credentials are allowed"),
            ("accessControlAllowHeaders", List, Always, "CORS: fields that requests may have"),
            ("accessControlAllowMethods", List, Always, "CORS: methods that requests may have"),
            ("accessControlAllowOriginList", List, Always, "CORS: origins that are allowed, or `*`"),
            ("accessControlAllowOriginListRegex", List, Always, "CORS: expressions for origins that are allowed"),
            ("accessControlExposeHeaders", List, Always, "CORS: fields of answers that scripts may read"),
            ("!accessControlMaxAge", Int, Always, "CORS: seconds for which the answer to a preflight may be kept"),
            ("addVaryHeader", Bool, Always, "CORS: adds `Origin` to `Vary`"),
            ("allowedHosts", List, Always, "hosts that are served; others are answered 500"),
            ("hostsProxyHeaders", List, Always, "fields that may tell the host for `allowedHosts`"),
            ("sslProxyHeaders.*", Text, Always, "the value of this field that says that the client came over TLS"),
            ("!stsSeconds", Int, Always, "`max-age` of Strict-Transport-Security, over TLS; 0: it is not sent"),
            ("stsIncludeSubdomains", Bool, Always, "adds `includeSubDomains` to it"),
            ("stsPreload", Bool, Always, "adds `preload` to it"),
            ("forceSTSHeader", Bool, Always, "sends it without TLS, too"),
            ("frameDeny", Bool, Always, "`X-Frame-Options: DENY`"),
            ("customFrameOptionsValue", Text, Always, "another value of X-Frame-Options"),
            ("contentTypeNosniff", Bool, Always, "`X-Content-Type-Options: nosniff`"),
            ("browserXssFilter", Bool, Always, "`X-XSS-Protection: 1; mode=block`"),
            ("customBrowserXSSValue", Text, Always, "another value of X-XSS-Protection"),
            ("contentSecurityPolicy", Text, Always, "Content-Security-Policy"),
            ("contentSecurityPolicyReportOnly", Text, Always, "Content-Security-Policy-Report-Only"),
            ("publicKey", Text, Always, "Public-Key-Pins, over TLS"),
            ("referrerPolicy", Text, Always, "Referrer-Policy"),
            ("permissionsPolicy", Text, Always, "Permissions-Policy"),
            ("isDevelopment", Bool, Always, "refuses no host and sends no Strict-Transport-Security"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.headers",
        doc: "of Traefik 2; it does nothing in Traefik 3 either (see `redirectScheme`, `redirectRegex`, `permissionsPolicy`)",
        served: &[],
        known: &[(Text, "!featurePolicy !sslHost"), (Bool, "!sslRedirect !sslTemporaryRedirect !sslForceHost")],
    },
    Section {
        path: "http.middlewares.*.encodedCharacters",
        doc: "which encoded characters a path may hold",
        served: &[],
        known: &[(
            Bool,
            "allowEncodedSlash allowEncodedBackSlash allowEncodedNullCharacter allowEncodedSemicolon \
              allowEncodedPercent allowEncodedQuestionMark allowEncodedHash",
        )],
    },
    Section {
        path: "http.middlewares.*.errors",
        doc: "other pages for error answers",
        served: &[],
        known: &[
            (List, "status errorRequestHeaders"),
            (Int, "statusRewrites.*"),
            (Text, "service query"),
            (Ignored, "nginxHeaders"),
        ],
    },
    Section {
        path: "http.middlewares.*.rateLimit",
        doc: "limits requests by time",
        served: &[
            ("average", Int, Always, "requests in a period, of one source; 0: no limit"),
            ("period", Duration, Always, "the period (default: 1s)"),
            ("burst", Int, Always, "requests that may come at once (default: 1)"),
            (
                "sourceCriterion.ipStrategy.depth",
                Int,
                Always,
                "the how-manieth address of X-Forwarded-For, from the right",
            ),
            (
                "sourceCriterion.ipStrategy.excludedIPs",
                List,
                Always,
                "the first address of X-Forwarded-For from the right that is none of these",
            ),
            (
                "!sourceCriterion.ipStrategy.ipv6Subnet",
                Int,
                Always,
                "addresses of IPv6 that agree in so many bits count as one",
            ),
            (
                "sourceCriterion.requestHeaderName",
                Text,
                Always,
                "requests with the same value of this field count together",
            ),
            ("sourceCriterion.requestHost", Bool, Always, "requests for the same host count together"),
        ],
        known: &[
            (Int, "redis.db redis.poolSize redis.minIdleConns redis.maxActiveConns"),
            (Duration, "!redis.readTimeout !redis.writeTimeout !redis.dialTimeout"),
            (List, "redis.endpoints"),
            (Text, "redis.tls.ca redis.tls.cert redis.tls.key redis.username redis.password"),
            (Bool, "redis.tls.insecureSkipVerify"),
        ],
    },
    Section {
        path: "http.middlewares.*.redirectRegex",
        doc: "redirects by an expression over the URL",
        served: &[
            ("regex", Text, Always, "redirects URLs that this matches"),
            ("replacement", Text, Always, "the new URL, with `${1}` for what groups matched"),
            ("permanent", Bool, Always, "301 instead of 302"),
        ],
        known: &[(Ignored, "statusCode")],
    },
    Section {
        path: "http.middlewares.*.redirectScheme",
        doc: "redirects to another scheme",
        served: &[
            ("scheme", Text, Always, "redirects to this scheme"),
            ("port", Text, Always, "port to redirect to; without it the default one of the scheme"),
            ("permanent", Bool, Always, "301 instead of 302"),
        ],
        known: &[(Ignored, "forcePermanentRedirect")],
    },
    Section {
        path: "http.middlewares.*.basicAuth",
        doc: "asks for a user and a password",
        served: &[
            ("users", List, Always, "`name:hash`, as `htpasswd` writes them"),
            ("usersFile", Text, Always, "file of such lines, read again when it changes"),
            ("realm", Text, Always, "what the client is told that it is for"),
            ("headerField", Text, Always, "field in which servers get the user's name"),
            ("removeHeader", Bool, Always, "servers do not get the credentials"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.digestAuth",
        doc: "asks for a user and a password by digest",
        served: &[],
        known: &[(Text, "usersFile realm headerField"), (List, "users"), (Bool, "removeHeader")],
    },
    Section {
        path: "http.middlewares.*.forwardAuth",
        doc: "asks another server whether to let a request in",
        served: &[],
        known: &[
            (Text, "address tls.ca tls.cert tls.key authResponseHeadersRegex headerField authSigninURL"),
            (
                Bool,
                "tls.insecureSkipVerify !tls.caOptional !trustForwardHeader forwardBody \
              preserveLocationHeader preserveRequestMethod",
            ),
            (List, "authResponseHeaders authRequestHeaders addAuthCookiesToResponse"),
            (Int, "!maxResponseBodySize !maxBodySize"),
        ],
    },
    Section {
        path: "http.middlewares.*.inFlightReq",
        doc: "limits requests at a time",
        served: &[
            ("amount", Int, Always, "requests at a time, of one source (without a criterion: for one host)"),
            (
                "sourceCriterion.ipStrategy.depth",
                Int,
                Always,
                "the how-manieth address of X-Forwarded-For, from the right",
            ),
            (
                "sourceCriterion.ipStrategy.excludedIPs",
                List,
                Always,
                "the first address of X-Forwarded-For from the right that is none of these",
            ),
            (
                "!sourceCriterion.ipStrategy.ipv6Subnet",
                Int,
                Always,
                "addresses of IPv6 that agree in so many bits count as one",
            ),
            (
                "sourceCriterion.requestHeaderName",
                Text,
                Always,
                "requests with the same value of this field count together",
            ),
            ("sourceCriterion.requestHost", Bool, Always, "requests for the same host count together"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.buffering",
        doc: "reads requests and answers as a whole first",
        served: &[],
        known: &[
            (Int, "maxRequestBodyBytes memRequestBodyBytes maxResponseBodyBytes memResponseBodyBytes"),
            (Text, "retryExpression"),
            (Ignored, "disableRequestBuffer disableResponseBuffer"),
        ],
    },
    Section {
        path: "http.middlewares.*.circuitBreaker",
        doc: "stops asking a service that fails",
        served: &[
            ("expression", Text, Always, "when it opens, such as `ResponseCodeRatio(500, 600, 0, 600) > 0.25`"),
            ("checkPeriod", Duration, Always, "how often that is looked at (default: 100ms)"),
            ("fallbackDuration", Duration, Always, "how long it stays open (default: 10s)"),
            ("recoveryDuration", Duration, Always, "how long it takes to close (default: 10s)"),
            ("responseCode", Int, Always, "status of the answers while it is open (default: 503)"),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.compress",
        doc: "compresses answers",
        served: &[],
        known: &[
            (Alone, "."),
            (List, "excludedContentTypes includedContentTypes encodings"),
            (Int, "minResponseBodyBytes"),
            (Text, "defaultEncoding"),
        ],
    },
    Section {
        path: "http.middlewares.*.passTLSClientCert",
        doc: "tells the server about the client certificate",
        served: &[],
        known: &[(
            Bool,
            "pem info.notAfter info.notBefore info.sans info.serialNumber info.subject.country \
              info.subject.province info.subject.locality info.subject.organization \
              info.subject.organizationalUnit info.subject.commonName info.subject.serialNumber \
              info.subject.domainComponent info.issuer.country info.issuer.province info.issuer.locality \
              info.issuer.organization info.issuer.commonName info.issuer.serialNumber \
              info.issuer.domainComponent",
        )],
    },
    Section {
        path: "http.middlewares.*.retry",
        doc: "tries another time",
        served: &[
            ("attempts", Int, Always, "tries, the first one included"),
            ("timeout", Duration, Always, "how long a request is tried again (0: no limit)"),
            ("initialInterval", Duration, Always, "the first pause between tries (0: none)"),
            (
                "!maxRequestBodyBytes",
                Int,
                Always,
                "largest body that is said again after a `status`; it must have come with the head in one piece",
            ),
            ("status", List, Always, "statuses after which a request is tried again: `503`, `500-599`"),
            ("disableRetryOnNetworkError", Bool, Always, "not where no server could be reached"),
            ("retryNonIdempotentMethod", Bool, Always, "after a `status` also POST, PATCH and LOCK"),
            (
                "!rustLbBudgetPercent",
                Int,
                Always,
                "share of the service's requests that may be tried again, in per cent (default: 20; rust-lb's own)",
            ),
            (
                "!rustLbBudgetPerSecond",
                Int,
                Always,
                "tries a second that are allowed besides (default: 3; rust-lb's own)",
            ),
        ],
        known: &[],
    },
    Section {
        path: "http.middlewares.*.contentType",
        doc: "guesses the content type",
        served: &[],
        known: &[(Alone, "."), (Bool, "!autoDetect")],
    },
    Section {
        path: "http.middlewares.*.grpcWeb",
        doc: "takes gRPC-Web requests",
        served: &[],
        known: &[(List, "allowOrigins")],
    },
    Section {
        path: "http.middlewares.*",
        doc: "kinds that other providers than catalogs declare",
        served: &[],
        known: &[(
            Ignored,
            "requestHeaderModifier responseHeaderModifier requestRedirect URLRewrite \
              authTLSPassCertificateToUpstream snippet rewriteTarget upstreamVHost appRoot",
        )],
    },
    Section { path: "http.middlewares.*.plugin", doc: "a plug-in", served: &[], known: &[(Text, "**")] },
];
