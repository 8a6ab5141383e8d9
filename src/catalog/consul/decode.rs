//! Consul's answers as bytes to the domain's words
//! (<https://developer.hashicorp.com/consul/api-docs/catalog#list-services>,
//! <https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service>).
//!
//! What always holds: any bytes give a value or an error, never a panic; members that are absent
//! or null are empty; a port that is no port is 0. An instance is as healthy as its worst check,
//! its node's checks included; maintenance outranks critical, since it was asked for.

use crate::catalog::http::Error;
use crate::catalog::names::{Names, Routes, Text};
use crate::catalog::{Checks, Health, Instance};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The service that the servers register themselves.
pub const SERVERS: &str = "consul";

/// Check that puts a node into maintenance.
const NODE_MAINTENANCE: &str = "_node_maintenance";
/// Check of the node itself.
const NODE: &str = "serfHealth";
/// Begin of the check that puts an instance into maintenance.
const SERVICE_MAINTENANCE: &str = "_service_maintenance";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawEntry<'a> {
    #[serde(borrow)]
    node: RawNode<'a>,
    #[serde(borrow)]
    service: RawService<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    checks: Vec<RawCheck<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNode<'a> {
    #[serde(borrow, default, deserialize_with = "nullable")]
    node: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    address: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    datacenter: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService<'a> {
    #[serde(borrow, rename = "ID")]
    id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    tags: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    address: Text<'a>,
    #[serde(default, deserialize_with = "nullable")]
    port: i64,
    #[serde(default, deserialize_with = "nullable")]
    create_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck<'a> {
    #[serde(borrow, default, rename = "CheckID", deserialize_with = "nullable")]
    check_id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    status: Text<'a>,
    #[serde(borrow, default, rename = "ServiceID", deserialize_with = "nullable")]
    service_id: Text<'a>,
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Decode(e.to_string()))
}

/// What the list says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List<'a> {
    /// The names that are routed.
    pub routed: Names<'a>,
    /// The servers' own service is among the names.
    pub servers: bool,
    /// It has no name at all.
    pub is_empty: bool,
}

/// The answer of `/v1/catalog/services` in one namespace: names with the union of their instances' tags, in random order.
///
/// # Errors
/// What is not JSON of that form.
pub fn list<'a>(body: &'a [u8], namespace: &'a str, routes: Routes<'_>) -> Result<List<'a>, Error> {
    let decode = |e: serde_json::Error| Error::Decode(e.to_string());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = deserializer.deserialize_any(Listing(routes)).map_err(decode)?;
    deserializer.end().map_err(decode)?;
    let routed = Names::new(vec![(namespace.into(), read.routed)]);
    Ok(List { routed, servers: read.servers, is_empty: !read.any })
}

/// Reads names and their tags, or null.
struct Listing<'r>(Routes<'r>);

#[derive(Default)]
struct Listed<'a> {
    routed: Vec<Cow<'a, str>>,
    servers: bool,
    any: bool,
}

impl<'de> Visitor<'de> for Listing<'_> {
    type Value = Listed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names and their tags")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Listed::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut listed = Listed::default();
        while let Some(Text(name)) = members.next_key()? {
            listed.any = true;
            listed.servers |= name == SERVERS;
            if members.next_value_seed(self.0)? {
                listed.routed.push(name);
            }
        }
        Ok(listed)
    }
}

/// The answer of `/v1/health/service/:name`.
///
/// # Errors
/// What is not JSON of that form.
pub fn service(body: &[u8]) -> Result<Vec<Instance>, Error> {
    let entries: Option<Vec<RawEntry<'_>>> = json(body)?;
    Ok(entries.unwrap_or_default().iter().map(instance).collect())
}

fn instance(raw: &RawEntry<'_>) -> Instance {
    Instance {
        id: raw.service.id.shared(),
        node: raw.node.node.shared(),
        address: raw.service.address.shared(),
        node_address: raw.node.address.shared(),
        port: u16::try_from(raw.service.port).unwrap_or(0),
        tags: raw.service.tags.iter().map(Text::shared).collect(),
        health: health(&raw.checks),
        datacenter: raw.node.datacenter.shared(),
        create_index: raw.service.create_index,
        job: Arc::from(""),
        alloc: Arc::from(""),
        checks: checks(&raw.checks),
    }
}

/// The checks that are the instance's own: those with a service's id.
fn checks(all: &[RawCheck<'_>]) -> Option<Checks> {
    let maintenance = |check: &RawCheck<'_>| check.check_id.0.starts_with(SERVICE_MAINTENANCE);
    let own = || all.iter().filter(|check| !check.service_id.0.is_empty());
    if own().all(maintenance) {
        return None;
    }
    let critical = |check: &RawCheck<'_>| &*check.status.0 == "critical";
    let out = all.iter().any(|check| match &*check.check_id.0 {
        NODE => critical(check),
        NODE_MAINTENANCE => true,
        _ => maintenance(check) && critical(check),
    });
    let state = |check: &RawCheck<'_>| Health::named(&check.status.0).unwrap_or(Health::Unknown);
    Some(Checks { own: own().map(state).collect(), out })
}

fn health(checks: &[RawCheck<'_>]) -> Health {
    let of = |check: &RawCheck<'_>| {
        let id = &*check.check_id.0;
        match &*check.status.0 {
            _ if id == NODE_MAINTENANCE || id.starts_with(SERVICE_MAINTENANCE) => (4, Health::Maintenance),
            "maintenance" => (4, Health::Maintenance),
            "critical" => (3, Health::Critical),
            "passing" => (0, Health::Passing),
            "warning" => (1, Health::Warning),
            _ => (2, Health::Unknown),
        }
    };
    checks.iter().map(of).max_by_key(|(rank, _)| *rank).map_or(Health::Passing, |(_, health)| health)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::http::testing::{Recording, recordings};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ALL: Routes<'_> = Routes { tag: &|_| false, all: true };

    #[test]
    fn reads_every_recorded_answer() {
        let (mut lists, mut services) = (0, 0);
        for recording in recordings("consul") {
            for exchange in recording.good() {
                let path = exchange.path();
                if path.starts_with("/v1/catalog/services") {
                    let body = exchange.body();
                    let listed = list(body.as_bytes(), "", ALL).unwrap_or_else(|e| panic!("{path}: {e}"));
                    let read = serde_json::from_str::<BTreeMap<String, Vec<String>>>(&body).unwrap();
                    let names: Vec<_> = read.keys().map(|name| ("", name.as_str())).collect();
                    assert_eq!(listed.routed.iter().collect::<Vec<_>>(), names, "{path}");
                    assert_eq!((listed.servers, listed.is_empty), (read.contains_key(SERVERS), read.is_empty()));
                    lists += 1;
                } else if path.starts_with("/v1/health/service/") {
                    let found = service(exchange.body().as_bytes()).unwrap_or_else(|e| panic!("{path}: {e}"));
                    assert!(found.iter().all(|i| !i.id.is_empty() && !i.node_address.is_empty()), "{path}");
                    services += 1;
                }
            }
        }
        assert!(lists > 25 && services > 20, "{lists} {services}");
    }

    #[test]
    fn health_is_the_worst_check_of_service_and_node() {
        let recording = Recording::read("consul", "health-service.json");
        let exchange = recording.good().find(|e| e.path() == "/v1/health/service/web").unwrap();
        let found = service(exchange.body().as_bytes()).unwrap();
        let states: Vec<_> = found.iter().map(|i| (&*i.id, i.health)).collect();
        assert_eq!(states, [("web-1", Health::Passing), ("web-2", Health::Critical), ("web-3", Health::Warning)]);
        let one = |checks: &str| {
            let json = format!(r#"[{{"Node":{{"Address":"10.0.0.1"}},"Service":{{"ID":"a"}},"Checks":{checks}}}]"#);
            service(json.as_bytes()).unwrap().remove(0).health
        };
        assert_eq!(one("[]"), Health::Passing);
        assert_eq!(one("null"), Health::Passing);
        assert_eq!(
            one(r#"[{"CheckID":"serfHealth","Status":"critical"},{"CheckID":"x","Status":"passing"}]"#),
            Health::Critical
        );
        assert_eq!(one(r#"[{"CheckID":"_node_maintenance","Status":"critical"}]"#), Health::Maintenance);
        assert_eq!(one(r#"[{"CheckID":"_service_maintenance:a","Status":"critical"}]"#), Health::Maintenance);
        assert_eq!(one(r#"[{"Status":"passing"},{"Status":"dreaming"},{"Status":"warning"}]"#), Health::Unknown);
    }

    #[test]
    fn an_empty_address_is_left_to_the_node() {
        let recording = Recording::read("consul", "health-service.json");
        let exchange = recording.good().find(|e| e.path().starts_with("/v1/health/service/nocheck")).unwrap();
        let found = service(exchange.body().as_bytes()).unwrap();
        assert_eq!((&*found[0].address, found[0].dial_address()), ("", Some("127.0.0.1")));
    }

    #[test]
    fn refuses_what_is_no_answer() {
        assert_eq!(service(b"null").unwrap(), []);
        let listed = |json: &'static str| list(json.as_bytes(), "n", Routes { tag: &|tag| tag == "on", all: false });
        assert_eq!(listed("null").unwrap(), List { is_empty: true, ..List::default() });
        let some = listed(r#"{"b":["x","on"],"a":null,"consul":[],"\u0061b":["on"]}"#).unwrap();
        assert_eq!(some.routed.iter().collect::<Vec<_>>(), [("n", "ab"), ("n", "b")]);
        assert!(some.servers && !some.is_empty);
        for bad in ["", "{", "[]", "{} {}", r#"{"a":{}}"#, r#"{"a":[1]}"#] {
            assert!(listed(bad).is_err(), "{bad}");
        }
        for bad in ["", "[", r#"[{"Node":{}}]"#, r#"{"Errors":[]}"#, "[[]]"] {
            assert!(service(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (list(&bytes, "", ALL), service(&bytes));
        }

        #[test]
        fn no_cut_or_bent_answer_makes_it_panic(cut in 0usize..2000, at in 0usize..4000, byte in any::<u8>()) {
            let recording = Recording::read("consul", "health-service.json");
            let exchange = recording.good().find(|e| e.path() == "/v1/health/service/web").unwrap();
            let mut body = exchange.body().into_bytes();
            let length = body.len();
            body[at % length] = byte;
            body.truncate(length.saturating_sub(cut));
            let _ = (list(&body, "", ALL), service(&body));
        }
    }
}
