//! The form of `/v1/services`: namespaces, in each its services with the union of their instances' tags. Names are borrowed
//! and tags looked at where they stand: a list of ten thousand names is 2 MB and comes with every change.

use crate::catalog::names::{Routes, Text};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Reads the whole, or null, to each namespace and its services.
pub(super) struct Namespaces<'r>(pub Routes<'r>);

/// What a namespace has.
#[derive(Default)]
pub(super) struct Services<'a> {
    /// Names that are routed.
    pub routed: Vec<Cow<'a, str>>,
    /// There is a service, routed or not.
    pub any: bool,
}

impl<'de> DeserializeSeed<'de> for Namespaces<'_> {
    type Value = Vec<(Cow<'de, str>, Services<'de>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Namespaces<'_> {
    type Value = Vec<(Cow<'de, str>, Services<'de>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of namespaces")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut namespaces = Vec::new();
        while let Some(namespace) = entries.next_element_seed(Namespace(self.0))? {
            namespaces.push(namespace);
        }
        Ok(namespaces)
    }
}

/// Reads one namespace.
struct Namespace<'r>(Routes<'r>);

impl<'de> DeserializeSeed<'de> for Namespace<'_> {
    type Value = (Cow<'de, str>, Services<'de>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Namespace<'_> {
    type Value = (Cow<'de, str>, Services<'de>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a namespace and its services")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut name, mut services) = (Cow::default(), Services::default());
        while let Some(member) = members.next_key::<Text<'_>>()? {
            match &*member.0 {
                "Namespace" => name = members.next_value::<Option<Text<'_>>>()?.unwrap_or_default().0,
                "Services" => services = members.next_value_seed(List(self.0))?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok((name, services))
    }
}

/// Reads the services of a namespace, or null.
struct List<'r>(Routes<'r>);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Services<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Services<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of services")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Services::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut services = Services::default();
        while let Some((name, routed)) = entries.next_element_seed(Service(self.0))? {
            services.any = true;
            if routed {
                services.routed.push(name);
            }
        }
        Ok(services)
    }
}

/// Reads one service to its name and whether it is routed.
struct Service<'r>(Routes<'r>);

impl<'de> DeserializeSeed<'de> for Service<'_> {
    type Value = (Cow<'de, str>, bool);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Service<'_> {
    type Value = (Cow<'de, str>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service and its tags")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut name, mut routed) = (None, self.0.all);
        while let Some(member) = members.next_key::<Text<'_>>()? {
            match &*member.0 {
                "ServiceName" => name = Some(members.next_value::<Text<'_>>()?.0),
                "Tags" => routed = members.next_value_seed(self.0)?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok((name.ok_or_else(|| de::Error::missing_field("ServiceName"))?, routed))
    }
}
