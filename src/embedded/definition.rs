//! What `PUT /v1/agent/service/register` takes: a service and its checks, in the agent's form.
//!
//! Names of fields are read without regard to case and underscores, as Go and Consul's aliases do.
//! The refusals are the agent's, measured at Consul 1.8.7.

use super::exchange::go_duration;
use super::store::consul::{CheckEntry, ServiceEntry, Status};
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::time::Duration;

/// Why a registration was refused; the text of the 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDefinition {
    /// Not JSON, or a field of the wrong type.
    #[error("Request decode failed: {0}")]
    Decode(String),
    /// No `Name`.
    #[error("Missing service name")]
    NoName,
    /// A check that could never run.
    #[error("Invalid check: {0}")]
    Check(&'static str),
    /// A check's `Status` that is none.
    #[error("Status for checks must 'passing', 'warning', 'critical'")]
    Status,
}

/// How a check comes to its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Runs {
    /// Critical when no update came for so long.
    Ttl(Duration),
    Http {
        url: String,
        method: String,
        every: Duration,
        timeout: Duration,
    },
    Tcp {
        address: String,
        every: Duration,
        timeout: Duration,
    },
    /// By updates alone: a kind that the embedded agent does not run, or one without a clock.
    Never,
}

/// A service with its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub(crate) service: ServiceEntry,
    pub(crate) checks: Vec<(CheckEntry, Runs)>,
}

impl Definition {
    /// A service at an address, without a check; its id is its name.
    pub fn new(name: impl Into<String>, address: SocketAddr) -> Self {
        let name = name.into();
        let service = ServiceEntry {
            id: name.clone(),
            name,
            tags: Vec::new(),
            address: address.ip().to_string(),
            port: address.port().into(),
            meta: Value::Null,
            weights: (1, 1),
            enable_tag_override: false,
        };
        Self { service, checks: Vec::new() }
    }

    /// With this id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.service.id = id.into();
        self
    }

    /// With these tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.service.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Without an address of its own: the node's counts.
    pub fn at_node(mut self) -> Self {
        self.service.address.clear();
        self
    }

    /// With a check in this state that only updates change; call it last, it is named after the id.
    pub fn check(mut self, status: Status) -> Self {
        let check = CheckEntry {
            id: format!("service:{}", self.service.id),
            name: format!("Service '{}' check", self.service.name),
            status,
            notes: String::new(),
            output: String::new(),
            kind: "ttl".into(),
        };
        self.checks = vec![(check, Runs::Never)];
        self
    }

    /// Reads the agent's JSON form.
    ///
    /// # Errors
    /// What the agent refuses with 400.
    pub fn from_json(body: &[u8]) -> Result<Self, BadDefinition> {
        let body: Value = serde_json::from_slice(body).map_err(|error| BadDefinition::Decode(error.to_string()))?;
        let fields = Fields::of(&body)?;
        let name = fields.text("Name")?;
        if name.is_empty() {
            return Err(BadDefinition::NoName);
        }
        let id = match fields.text("ID")? {
            id if id.is_empty() => name.clone(),
            id => id,
        };
        let weights = match fields.get("Weights") {
            None => (1, 1),
            Some(weights) => {
                let weights = Fields::of(weights)?;
                (weights.number("Passing")?.unwrap_or(1), weights.number("Warning")?.unwrap_or(1))
            }
        };
        let mut checks = Vec::new();
        let many = fields.get("Checks").map(|checks| list("Checks", checks)).transpose()?.unwrap_or(&[]);
        for check in fields.get("Check").into_iter().chain(many) {
            let check = Fields::of(check)?;
            if !check.0.is_empty() {
                checks.push(read_check(&check)?);
            }
        }
        let several = checks.len() > 1;
        for (n, (check, _)) in checks.iter_mut().enumerate() {
            if check.id.is_empty() {
                check.id = if several { format!("service:{id}:{}", n + 1) } else { format!("service:{id}") };
            }
            if check.name.is_empty() {
                check.name = format!("Service '{name}' check");
            }
        }
        let service = ServiceEntry {
            tags: fields.texts("Tags")?,
            address: fields.text("Address")?,
            port: fields.number("Port")?.unwrap_or(0),
            meta: fields.get("Meta").cloned().unwrap_or(Value::Null),
            enable_tag_override: fields.get("EnableTagOverride").and_then(Value::as_bool).unwrap_or(false),
            weights,
            id,
            name,
        };
        Ok(Self { service, checks })
    }
}

fn read_check(fields: &Fields) -> Result<(CheckEntry, Runs), BadDefinition> {
    let status = match fields.text("Status")?.as_str() {
        "" => Status::Critical,
        text => Status::parse(text).ok_or(BadDefinition::Status)?,
    };
    let every = fields.duration("Interval")?;
    let timeout = fields.duration("Timeout")?.filter(|t| !t.is_zero()).unwrap_or(Duration::from_secs(10));
    let (http, tcp) = (fields.text("HTTP")?, fields.text("TCP")?);
    let other = ["GRPC", "Args", "Script", "DockerContainerID", "AliasNode", "AliasService"];
    let other = other.into_iter().find(|name| fields.get(name).is_some());
    let every = || match every {
        Some(every) if !every.is_zero() => Ok(every),
        _ => Err(BadDefinition::Check("Interval must be > 0 for Script, HTTP, or TCP checks")),
    };
    let (kind, runs) = if !http.is_empty() {
        let method = match fields.text("Method")? {
            method if method.is_empty() => "GET".to_owned(),
            method => method,
        };
        ("http", Runs::Http { url: http, method, every: every()?, timeout })
    } else if !tcp.is_empty() {
        ("tcp", Runs::Tcp { address: tcp, every: every()?, timeout })
    } else if let Some(other) = other {
        match other {
            "GRPC" => ("grpc", Runs::Never),
            "AliasNode" | "AliasService" => ("alias", Runs::Never),
            _ => ("script", Runs::Never),
        }
    } else {
        match fields.duration("TTL")? {
            Some(ttl) if !ttl.is_zero() => ("ttl", Runs::Ttl(ttl)),
            _ => return Err(BadDefinition::Check("TTL must be > 0 for TTL checks")),
        }
    };
    let id = match fields.text("CheckID")? {
        id if id.is_empty() => fields.text("ID")?,
        id => id,
    };
    let (name, notes) = (fields.text("Name")?, fields.text("Notes")?);
    Ok((CheckEntry { id, name, status, notes, output: String::new(), kind: kind.into() }, runs))
}

/// The fields of an object that are there and not null.
struct Fields<'a>(Vec<(String, &'a Value)>);

fn plain(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

fn wrong(name: &str, value: &Value, wanted: &str) -> BadDefinition {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    BadDefinition::Decode(format!("json: cannot unmarshal {is} into Go struct field .{name} of type {wanted}"))
}

fn list<'a>(name: &str, value: &'a Value) -> Result<&'a [Value], BadDefinition> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(name, value, "[]"))
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value) -> Result<Self, BadDefinition> {
        let object: &Map<_, _> = value.as_object().ok_or_else(|| wrong("", value, "struct"))?;
        Ok(Self(
            object.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (plain(name), value)).collect(),
        ))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let name = plain(name);
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Result<String, BadDefinition> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(value) => value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, value, "string")),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, BadDefinition> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, value, "string"));
        list(name, value)?.iter().map(text).collect()
    }

    fn number(&self, name: &str) -> Result<Option<i64>, BadDefinition> {
        let number = |value: &Value| value.as_i64().ok_or_else(|| wrong(name, value, "int"));
        self.get(name).map(number).transpose()
    }

    /// A Go duration as text, or nanoseconds as a number.
    fn duration(&self, name: &str) -> Result<Option<Duration>, BadDefinition> {
        let duration = |value: &Value| match value {
            Value::String(text) if text.is_empty() => Ok(Duration::ZERO),
            Value::String(text) => go_duration(text)
                .ok_or_else(|| BadDefinition::Decode(format!("time: invalid duration {text:?} in field .{name}"))),
            _ => value.as_u64().map(Duration::from_nanos).ok_or_else(|| wrong(name, value, "time.Duration")),
        };
        self.get(name).map(duration).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Definition, BadDefinition> {
        Definition::from_json(json.as_bytes())
    }

    #[test]
    fn reads_a_service_with_its_checks() {
        let read = read(
            r#"{"name":"web","port":80,"tags":["a"],"meta":{"k":"v"},"enable_tag_override":true,"Checks":[
                {"TTL":"1h"},{"http":"http://h/","Interval":"2s","Status":"passing"},{"TCP":"h:1","interval":1000000000,"CheckID":"mine"}]}"#,
        )
        .unwrap();
        assert_eq!((read.service.id.as_str(), read.service.port), ("web", 80));
        assert!(read.service.enable_tag_override);
        let checks: Vec<_> = read.checks.iter().map(|(c, _)| (c.id.as_str(), c.kind.as_str(), c.status)).collect();
        let expected = [
            ("service:web:1", "ttl", Status::Critical),
            ("service:web:2", "http", Status::Passing),
            ("mine", "tcp", Status::Critical),
        ];
        assert_eq!(checks, expected);
        assert_eq!(read.checks[0].1, Runs::Ttl(Duration::from_secs(3600)));
    }

    #[test]
    fn one_check_is_named_after_the_service() {
        let read = read(r#"{"ID":"w1","Name":"web","Check":{"TTL":"1h"}}"#).unwrap();
        assert_eq!(
            (read.checks[0].0.id.as_str(), read.checks[0].0.name.as_str()),
            ("service:w1", "Service 'web' check")
        );
    }

    #[test]
    fn refuses_with_the_texts_of_the_agent() {
        for (json, text) in [
            (r#"{"ID":"x"}"#, "Missing service name"),
            (r#"{"Name":"x","Check":{"Status":"passing"}}"#, "Invalid check: TTL must be > 0 for TTL checks"),
            (
                r#"{"Name":"x","Check":{"HTTP":"http://h/"}}"#,
                "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks",
            ),
            (
                r#"{"Name":"x","Check":{"TTL":"1h","Status":"odd"}}"#,
                "Status for checks must 'passing', 'warning', 'critical'",
            ),
            (
                r#"{"Name":"x","Port":"abc"}"#,
                "Request decode failed: json: cannot unmarshal string into Go struct field .Port of type int",
            ),
        ] {
            assert_eq!(read(json).unwrap_err().to_string(), text, "{json}");
        }
        for bad in ["", "nojson", "[]", r#"{"Name":1}"#, r#"{"Name":"x","Checks":{}}"#, r#"{"Name":"x","Tags":"a"}"#] {
            assert!(matches!(read(bad), Err(BadDefinition::Decode(_))), "{bad}");
        }
        assert_eq!(read(r#"{"Name":"x","Check":{},"Tags":null}"#).unwrap().checks, []);
    }
}
