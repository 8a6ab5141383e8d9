//! Nomad's answers as bytes to the domain's words
//! (<https://developer.hashicorp.com/nomad/api-docs/services>,
//! <https://developer.hashicorp.com/nomad/api-docs/events>).
//!
//! What always holds: any bytes give a value or an error, never a panic; members that are absent
//! or null are empty; a port that is no port is 0.

mod list;

use self::list::Namespaces;
use crate::catalog::http::Error;
use crate::catalog::names::{Names, Routes, Text};
use crate::catalog::{Health, Instance, ServiceKey};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::sync::Arc;

/// What the list says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List<'a> {
    /// The names that are routed.
    pub routed: Names<'a>,
    /// Namespaces with any service.
    pub namespaces: Vec<Cow<'a, str>>,
}

impl List<'_> {
    /// It names no service at all.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }
}

/// One registration with the index at which it was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Which service it is of.
    pub key: ServiceKey,
    /// The instance.
    pub instance: Instance,
}

/// One event of topic Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Raft index of the change.
    pub index: u64,
    /// Registered, as opposed to taken away: every type but `ServiceRegistration` takes away.
    pub registered: bool,
    /// The instance as it is, or as it was before it was taken away.
    pub registration: Registration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRegistration<'a> {
    #[serde(borrow, rename = "ID")]
    id: Text<'a>,
    #[serde(borrow)]
    service_name: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    namespace: Text<'a>,
    #[serde(borrow, default, rename = "NodeID", deserialize_with = "nullable")]
    node_id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    datacenter: Text<'a>,
    #[serde(borrow, default, rename = "JobID", deserialize_with = "nullable")]
    job_id: Text<'a>,
    #[serde(borrow, default, rename = "AllocID", deserialize_with = "nullable")]
    alloc_id: Text<'a>,
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
struct RawLine<'a> {
    #[serde(borrow, default, deserialize_with = "nullable")]
    events: Vec<RawEvent<'a>>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawEvent<'a> {
    #[serde(borrow, default, deserialize_with = "nullable")]
    topic: Text<'a>,
    #[serde(borrow, default, rename = "Type", deserialize_with = "nullable")]
    kind: Text<'a>,
    #[serde(default, deserialize_with = "nullable")]
    index: u64,
    #[serde(borrow, default)]
    payload: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPayload<'a> {
    #[serde(borrow)]
    service: RawRegistration<'a>,
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Decode(e.to_string()))
}

/// The answer of `/v1/services`; names and tags come in random order.
///
/// # Errors
/// What is not JSON of that form.
pub fn list<'a>(body: &'a [u8], routes: Routes<'_>) -> Result<List<'a>, Error> {
    let decode = |e: serde_json::Error| Error::Decode(e.to_string());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let namespaces = Namespaces(routes).deserialize(&mut deserializer).map_err(decode)?;
    deserializer.end().map_err(decode)?;
    let mut list = List::default();
    let mut routed = Vec::with_capacity(namespaces.len());
    for (namespace, services) in namespaces.into_iter().filter(|(_, services)| services.any) {
        list.namespaces.push(namespace.clone());
        routed.push((namespace, services.routed));
    }
    list.routed = Names::new(routed);
    Ok(list)
}

/// The answer of `/v1/service/:name`.
///
/// # Errors
/// What is not JSON of that form.
pub fn service(body: &[u8]) -> Result<Vec<Registration>, Error> {
    let registrations: Option<Vec<RawRegistration<'_>>> = json(body)?;
    Ok(registrations.unwrap_or_default().iter().map(registration).collect())
}

/// One line of `/v1/event/stream`; a heartbeat has no events. Other topics are left out, and so
/// is an event whose payload is no service.
///
/// # Errors
/// What is not JSON of that form, and an error that the server sends in the stream.
pub fn line(line: &[u8]) -> Result<Vec<Event>, Error> {
    let line: RawLine<'_> = json(line)?;
    if let Some(error) = line.error {
        return Err(Error::status(500, error.get().as_bytes()));
    }
    let events = line.events.into_iter().filter(|event| event.topic.0 == "Service");
    Ok(events
        .filter_map(|event| {
            let payload: RawPayload<'_> = serde_json::from_str(event.payload?.get()).ok()?;
            Some(Event {
                index: event.index,
                registered: event.kind.0 == "ServiceRegistration",
                registration: registration(&payload.service),
            })
        })
        .collect())
}

fn registration(raw: &RawRegistration<'_>) -> Registration {
    Registration {
        key: ServiceKey { namespace: raw.namespace.shared(), name: raw.service_name.shared() },
        instance: Instance {
            id: raw.id.shared(),
            node: raw.node_id.shared(),
            address: raw.address.shared(),
            node_address: Arc::from(""),
            port: u16::try_from(raw.port).unwrap_or(0),
            tags: raw.tags.iter().map(Text::shared).collect(),
            health: Health::Unknown,
            datacenter: raw.datacenter.shared(),
            create_index: raw.create_index,
            job: raw.job_id.shared(),
            alloc: raw.alloc_id.shared(),
            checks: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::http::testing::{Recording, recordings};
    use proptest::prelude::*;

    const ALL: Routes<'_> = Routes { tag: &|_| false, all: true };

    #[test]
    fn reads_every_recorded_answer() {
        let (mut lists, mut services, mut lines) = (0, 0, 0);
        for recording in recordings("nomad") {
            for exchange in recording.good() {
                let path = exchange.path();
                if path.starts_with("/v1/services") {
                    let body = exchange.body();
                    let listed = list(body.as_bytes(), ALL).unwrap_or_else(|e| panic!("{path}: {e}"));
                    let read = serde_json::from_str::<serde_json::Value>(&body).unwrap();
                    let mut names: Vec<_> = read
                        .as_array()
                        .unwrap()
                        .iter()
                        .flat_map(|namespace| {
                            let services = namespace["Services"].as_array().unwrap().iter();
                            services
                                .map(|s| (namespace["Namespace"].as_str().unwrap(), s["ServiceName"].as_str().unwrap()))
                        })
                        .collect();
                    names.sort();
                    assert_eq!(listed.routed.iter().collect::<Vec<_>>(), names, "{path}");
                    assert_eq!(listed.is_empty(), names.is_empty(), "{path}");
                    lists += 1;
                } else if let Some(rest) = path.strip_prefix("/v1/service/") {
                    let found = service(exchange.body().as_bytes()).unwrap_or_else(|e| panic!("{path}: {e}"));
                    let name = rest.split('?').next().unwrap();
                    assert!(found.iter().all(|r| &*r.key.name == name && !r.instance.id.is_empty()), "{path}");
                    services += 1;
                } else if path.starts_with("/v1/event/stream?topic=Service") {
                    for text in exchange.lines() {
                        let events = line(text.as_bytes()).unwrap_or_else(|e| panic!("{path}: {e}"));
                        assert!(events.iter().all(|e| e.index > 0 && !e.registration.instance.id.is_empty()), "{path}");
                        lines += 1;
                    }
                }
            }
        }
        assert!(lists > 60 && services > 30 && lines > 20, "{lists} {services} {lines}");
    }

    #[test]
    fn odd_services_are_read_as_they_are() {
        let recording = Recording::read("nomad", "odd-services.json");
        let read = |name: &str| {
            let path = format!("/v1/service/{name}");
            let exchange = recording.good().find(|e| e.path() == path).unwrap_or_else(|| panic!("no {path}"));
            service(exchange.body().as_bytes()).unwrap()
        };
        assert_eq!(read("noport")[0].instance.port, 0);
        assert!(read("notags")[0].instance.tags.is_empty());
        assert_eq!(&*read("litport")[0].instance.address, "");
        assert_eq!(read("litport")[0].instance.dial_address(), None);
    }

    #[test]
    fn takes_away_on_every_type_but_registration() {
        let text = |kind: &str| {
            format!(
                r#"{{"Index":28,"Events":[{{"Topic":"Service","Type":"{kind}","Index":28,"Payload":{{"Service":{{
                "ID":"a","ServiceName":"web","Namespace":"default","Port":80,"Tags":null}}}}}},
                {{"Topic":"Node","Type":"NodeStreamEvent","Index":28,"Payload":{{"Node":{{}}}}}}]}}"#
            )
        };
        for (kind, registered) in [
            ("ServiceRegistration", true),
            ("ServiceDeregistration", false),
            ("PlanResult", false),
            ("JobDeregistered", false),
        ] {
            let events = line(text(kind).as_bytes()).unwrap();
            assert_eq!(
                events.iter().map(|e| (e.index, e.registered)).collect::<Vec<_>>(),
                [(28, registered)],
                "{kind}"
            );
        }
        assert_eq!(line(b"{}").unwrap(), []);
        assert!(line(br#"{"Error":{"Code":403,"Message":"Permission denied"}}"#).is_err());
    }

    #[test]
    fn impossible_ports_and_nulls_do_no_harm() {
        let one = |json: &str| service(json.as_bytes()).unwrap().remove(0).instance;
        for port in ["70000", "-1", "null"] {
            assert_eq!(
                one(&format!(r#"[{{"ID":"a","ServiceName":"w","Port":{port},"Tags":null,"Address":null}}]"#)).port,
                0
            );
        }
        assert_eq!(service(b"null").unwrap(), []);
        let listed = |json: &'static str| list(json.as_bytes(), Routes { tag: &|tag| tag == "on", all: false });
        assert_eq!(listed("null").unwrap(), List::default());
        let some = listed(
            r#"[null,{"Namespace":"a","Services":null},{"Services":[{"Tags":["on"],"ServiceName":"w"},{"ServiceName":"x"},null],"Namespace":"b"}]"#,
        );
        assert!(some.is_err(), "a service that is null");
        let some = listed(
            r#"[{"Namespace":"a","Services":null},{"Services":[{"Tags":["on"],"More":{},"ServiceName":"w"},{"ServiceName":"x"}],"Namespace":"b"}]"#,
        );
        let some = some.unwrap();
        assert_eq!((some.routed.iter().collect::<Vec<_>>(), some.namespaces), (vec![("b", "w")], vec!["b".into()]));
        for bad in ["", "[", "{}", "[] []", r#"[{"Services":[{"Tags":[]}]}]"#, r#"[{"Services":[{"ServiceName":1}]}]"#]
        {
            assert!(listed(bad).is_err(), "{bad}");
        }
        for bad in ["", "[", r#"[{"ID":"a"}]"#, r#"{"a":1}"#, r#"[{"ID":1,"ServiceName":"w"}]"#] {
            assert!(service(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (list(&bytes, ALL), service(&bytes), line(&bytes));
        }

        #[test]
        fn no_cut_or_bent_answer_makes_it_panic(cut in 0usize..900, at in 0usize..900, byte in any::<u8>()) {
            let recording = Recording::read("nomad", "lifecycle.json");
            let exchange = recording.good().find(|e| e.path() == "/v1/service/web").unwrap();
            let mut body = exchange.body().into_bytes();
            let length = body.len();
            body[at % length] = byte;
            body.truncate(length.saturating_sub(cut));
            let _ = (list(&body, ALL), service(&body), line(&body));
        }
    }
}
