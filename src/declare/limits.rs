//! Middlewares that limit, retry and break, as declared: `rateLimit`, `inFlightReq`, `retry`, `circuitBreaker`, and how a
//! client is told apart from others
//! (<https://doc.traefik.io/traefik/middlewares/http/overview/>).
//!
//! What always holds: a value that nobody said reads as zero, as in Traefik's JSON; what Traefik fills in stands in the
//! reference ([`super::reference`]).

use super::{GoDuration, Options, is_default};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which address is the client's (<https://doc.traefik.io/traefik/middlewares/http/ipallowlist/#ipstrategy>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IpStrategy {
    /// The how-manieth address of `X-Forwarded-For`, from the right; 0: none.
    #[serde(skip_serializing_if = "is_default")]
    pub depth: i64,
    /// The first address of `X-Forwarded-For` from the right that is not one of these.
    #[serde(rename = "excludedIPs", skip_serializing_if = "Vec::is_empty")]
    pub excluded_ips: Vec<Arc<str>>,
    /// Addresses of IPv6 that agree in so many bits count as one.
    #[serde(rename = "ipv6Subnet", skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet: Option<i64>,
}

/// What requests of one source have in common; one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceCriterion {
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_strategy: Option<IpStrategy>,
    /// The value of this field.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub request_header_name: Arc<str>,
    /// The host.
    #[serde(skip_serializing_if = "is_default")]
    pub request_host: bool,
}

/// Options of `rateLimit` (<https://doc.traefik.io/traefik/middlewares/http/ratelimit/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimit {
    /// Requests in a period; 0: no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub average: i64,
    /// The period; 0: a second.
    #[serde(skip_serializing_if = "is_default")]
    pub period: GoDuration,
    /// Requests that may come at once, at least 1.
    #[serde(skip_serializing_if = "is_default")]
    pub burst: i64,
    /// Who is limited; the client's address if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_criterion: Option<SourceCriterion>,
    /// Buckets in Redis; not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Options>,
}

/// Options of `inFlightReq` (<https://doc.traefik.io/traefik/middlewares/http/inflightreq/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InFlightReq {
    /// Requests at a time.
    #[serde(skip_serializing_if = "is_default")]
    pub amount: i64,
    /// Who is limited; each host if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_criterion: Option<SourceCriterion>,
}

/// Options of `retry` (<https://doc.traefik.io/traefik/middlewares/http/retry/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Tries, the first one included.
    #[serde(skip_serializing_if = "is_default")]
    pub attempts: i64,
    /// How long a request is tried again; 0: no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: GoDuration,
    /// The first pause between tries; 0: none.
    #[serde(skip_serializing_if = "is_default")]
    pub initial_interval: GoDuration,
    /// Largest body of a request that is tried again because of a status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_body_bytes: Option<i64>,
    /// Statuses (`503`, `500-599`) after which a request is tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Arc<str>>,
    /// Not after a server could not be reached.
    #[serde(skip_serializing_if = "is_default")]
    pub disable_retry_on_network_error: bool,
    /// After a status also POST, PATCH and LOCK.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_non_idempotent_method: bool,
    /// rust-lb's own: share of a service's requests, in per cent, that may be tried again; 20 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust_lb_budget_percent: Option<i64>,
    /// rust-lb's own: tries a second that are allowed besides; 3 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust_lb_budget_per_second: Option<i64>,
}

/// Options of `circuitBreaker` (<https://doc.traefik.io/traefik/middlewares/http/circuitbreaker/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// When it opens.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub expression: Arc<str>,
    /// How often that is looked at; 0: every 100 ms.
    #[serde(skip_serializing_if = "is_default")]
    pub check_period: GoDuration,
    /// How long it stays open; 0: 10 s.
    #[serde(skip_serializing_if = "is_default")]
    pub fallback_duration: GoDuration,
    /// How long it takes to close; 0: 10 s.
    #[serde(skip_serializing_if = "is_default")]
    pub recovery_duration: GoDuration,
    /// Status while it is open.
    #[serde(skip_serializing_if = "is_default")]
    pub response_code: i64,
}
