//! HTTP services that are made of other services
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/http/load-balancing/service/>): by weight, by the
//! client's address, with copies of requests, with another one to fall back on. Services are named as routers name them:
//! `name` of the same provider, or `name@provider`.

use super::{Sticky, is_default};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Other services by weight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Weighted {
    /// The services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<WeightedService>,
    /// Keeps a client on one of the services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Traefik looks at the health of the services only with it; here they are always looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ServicesHealth>,
}

/// Other services by the client's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HighestRandomWeight {
    /// The services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<WeightedService>,
    /// See [`Weighted::health_check`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ServicesHealth>,
}

/// One of several services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightedService {
    /// Its name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Arc<str>,
    /// Its share; `None` means 1, and 0 gets nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// That the health of the services counts; has no options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServicesHealth {}

/// Copies of requests to other services.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirroring {
    /// The service that answers.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub service: Arc<str>,
    /// Whether the copies have the request's body.
    pub mirror_body: bool,
    /// Requests with a longer body, in bytes, are not copied; below 0 means no limit.
    pub max_body_size: i64,
    /// Who gets copies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// See [`Weighted::health_check`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ServicesHealth>,
}

impl Default for Mirroring {
    fn default() -> Self {
        Self { service: Arc::default(), mirror_body: true, max_body_size: -1, mirrors: Vec::new(), health_check: None }
    }
}

/// A service that gets copies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirror {
    /// Its name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Arc<str>,
    /// How many of 100 requests are copied to it.
    #[serde(skip_serializing_if = "is_default")]
    pub percent: i64,
}

/// Another service where the first one has no servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// The first one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub service: Arc<str>,
    /// The other one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub fallback: Arc<str>,
    /// See [`Weighted::health_check`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ServicesHealth>,
    /// Answers of the first one after which the other one is asked, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<FailoverErrors>,
}

/// Which answers count as failures.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverErrors {
    /// Longest body that is kept to be sent again; below 0 means no limit of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_body_bytes: Option<i64>,
    /// Statuses and ranges of them, `500-599`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Arc<str>>,
}

impl Default for FailoverErrors {
    fn default() -> Self {
        Self { max_request_body_bytes: Some(-1), status: Vec::new() }
    }
}

/// The statuses that a text names: one, or a range such as `500-599`.
///
/// # Errors
/// Why it names none.
pub fn status_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=999).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("expected a status or a range such as `500-599`, got `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_those_of_traefik() {
        let mirroring: Mirroring = serde_json::from_value(json!({"service": "a"})).unwrap();
        assert_eq!(
            serde_json::to_value(&mirroring).unwrap(),
            json!({"service": "a", "mirrorBody": true, "maxBodySize": -1})
        );
        let said = json!({"services": [{"name": "a", "weight": 3}], "healthCheck": {}});
        let weighted: Weighted = serde_json::from_value(said.clone()).unwrap();
        assert_eq!(serde_json::to_value(&weighted).unwrap(), said);
        let failover: Failover = serde_json::from_value(json!({"errors": {"status": ["500-599"]}})).unwrap();
        let errors = json!({"errors": {"maxRequestBodyBytes": -1, "status": ["500-599"]}});
        assert_eq!(serde_json::to_value(&failover).unwrap(), errors);
    }

    #[test]
    fn statuses_and_ranges_of_them() {
        assert_eq!(status_range("503"), Ok(503..=503));
        assert_eq!(status_range("500-599"), Ok(500..=599));
        for bad in ["", "x", "-", "5", "599-500", "500-", "1000"] {
            assert!(status_range(bad).is_err(), "{bad}");
        }
    }
}
