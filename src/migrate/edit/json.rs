//! Services in JSON: Nomad's jobs as its API takes them and as HCL in JSON, and Consul's definitions. Values are found by
//! where they stand in the text, so that only lists of tags are ever written.

use super::list::{Element, List};
use super::names::Names;
use super::reading::{Beyond, Reading, legacy_texts};
use super::text::Text;
use super::{Kind, Unreadable};
use crate::migrate::{Service, Tag};
use hcl_edit::expr::Expression;
use hcl_edit::template::HeredocTemplate;
use hcl_edit::{Ident, Span};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// Objects in objects beyond this are not looked at.
const DEEPEST: usize = 32;

/// Reads a document; `None`: it is neither a job nor has it services.
pub(super) fn read<'t>(file: Arc<str>, text: &'t Text) -> Result<(Option<Kind>, Reading<'t>), Unreadable> {
    let broken = |error: serde_json::Error| {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (line, column) = (number(error.line()), number(error.column()));
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Unreadable { line, column, message }
    };
    let whole: &RawValue = serde_json::from_str(&text.body).map_err(broken)?;
    let mut reader = Reader { reading: Reading::new(file, text), live: false, runtime: false };
    let Some(top) = object(whole) else { return Ok((None, reader.reading)) };
    let kind = if let Some(job) = get(&top, "job") {
        match object(job) {
            Some(fields) if has_groups(&fields) => {
                reader.api_job(&fields);
                Kind::NomadJson
            }
            _ => {
                reader.live = true;
                for (name, body) in named(job, 0) {
                    reader.inside(body, &Around { names: vec![name], ..Around::default() }, 0);
                }
                Kind::NomadHclJson
            }
        }
    } else if has_groups(&top) {
        reader.api_job(&top);
        Kind::NomadJson
    } else if get(&top, "service").is_some() || get(&top, "services").is_some() {
        for key in ["service", "services"] {
            for one in get(&top, key).into_iter().flat_map(each) {
                reader.definition(one);
            }
        }
        Kind::ConsulJson
    } else if get(&top, "name").and_then(string).is_some() && get(&top, "tags").and_then(array).is_some() {
        // What Consul's API takes to register a service.
        reader.definition(whole);
        Kind::ConsulJson
    } else {
        return Ok((None, reader.reading));
    };
    Ok((Some(kind), reader.reading))
}

fn has_groups(fields: &Fields<'_>) -> bool {
    get(fields, "taskgroups").is_some_and(|groups| array(groups).is_some())
}

/// The members of an object, in order.
type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Takes an object apart by one level.
fn object(value: &RawValue) -> Option<Fields<'_>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Fields<'de>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            #[derive(Deserialize)]
            struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
            let mut fields = Vec::new();
            while let Some((Key(key), value)) = map.next_entry()? {
                fields.push((key, value));
            }
            Ok(fields)
        }
    }
    if !value.get().starts_with('{') {
        return None;
    }
    serde_json::Deserializer::from_str(value.get()).deserialize_map(Members).ok()
}

fn array(value: &RawValue) -> Option<Vec<&RawValue>> {
    if value.get().starts_with('[') { serde_json::from_str(value.get()).ok() } else { None }
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn number(value: &RawValue) -> Option<u32> {
    serde_json::from_str(value.get()).ok()
}

/// A member; as in Nomad's and Consul's readers, case does not count.
fn get<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// The elements of a list, or the one value that stands alone.
fn each(value: &RawValue) -> Vec<&RawValue> {
    array(value).unwrap_or_else(|| vec![value])
}

/// Labelled blocks of HCL in JSON: `{"label": {…}}`, `[{"label": [{…}]}]`.
fn named(value: &RawValue, depth: usize) -> Vec<(String, &RawValue)> {
    let mut found = Vec::new();
    if depth > 2 {
        return found;
    }
    for one in each(value) {
        for (label, body) in object(one).unwrap_or_default() {
            found.extend(each(body).into_iter().map(|body| (label.to_string(), body)));
        }
    }
    found
}

/// What a service stands in.
#[derive(Debug, Clone, Default)]
struct Around {
    names: Vec<String>,
    namespace: Arc<str>,
    count: u32,
    canaries: u32,
}

struct Reader<'t> {
    reading: Reading<'t>,
    /// Texts are templates of HCL.
    live: bool,
    /// Nomad's clients put their variables into texts.
    runtime: bool,
}

impl<'t> Reader<'t> {
    /// Where a value begins.
    fn start(&self, value: &RawValue) -> usize {
        (value.get().as_ptr() as usize).saturating_sub(self.reading.text.body.as_ptr() as usize)
    }

    /// A job as the API has it.
    fn api_job(&mut self, job: &Fields<'t>) {
        self.runtime = true;
        let name = get(job, "id").or_else(|| get(job, "name")).and_then(string).unwrap_or_default();
        let namespace: Arc<str> = get(job, "namespace").and_then(string).unwrap_or_default().into();
        for group in get(job, "taskgroups").into_iter().flat_map(each).filter_map(object) {
            let update = get(&group, "update").and_then(object).or_else(|| get(job, "update").and_then(object));
            let canary = update.and_then(|update| get(&update, "canary").and_then(number));
            let mut around = Around {
                names: vec![name.clone(), get(&group, "name").and_then(string).unwrap_or_default()],
                namespace: namespace.clone(),
                count: get(&group, "count").and_then(number).unwrap_or(1),
                canaries: canary.unwrap_or(1),
            };
            for service in get(&group, "services").into_iter().flat_map(each) {
                self.service(service, &around);
            }
            for task in get(&group, "tasks").into_iter().flat_map(each).filter_map(object) {
                around.names.push(get(&task, "name").and_then(string).unwrap_or_default());
                for service in get(&task, "services").into_iter().flat_map(each) {
                    self.service(service, &around);
                }
                around.names.pop();
            }
        }
    }

    /// The body of a job, group or task in HCL's JSON.
    fn inside(&mut self, body: &'t RawValue, around: &Around, depth: usize) {
        let Some(fields) = object(body) else { return };
        let mut around = around.clone();
        if depth == 0 {
            around.namespace = get(&fields, "namespace").and_then(string).unwrap_or_default().into();
        }
        around.count = get(&fields, "count").and_then(number).unwrap_or(around.count);
        for update in get(&fields, "update").into_iter().flat_map(each).filter_map(object) {
            around.canaries = get(&update, "canary").and_then(number).unwrap_or(around.canaries);
        }
        for (key, value) in &fields {
            match &**key {
                "service" => each(value).into_iter().for_each(|service| self.service(service, &around)),
                "group" | "task" if depth < DEEPEST => {
                    for (label, body) in named(value, 0) {
                        let mut around = around.clone();
                        around.names.push(label);
                        self.inside(body, &around, depth + 1);
                    }
                }
                "dynamic" => {
                    for (label, made) in named(value, 0) {
                        let content = object(made).and_then(|fields| get(&fields, "content"));
                        for content in content.into_iter().flat_map(each).filter(|_| label == "service") {
                            self.service(content, &around);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn service(&mut self, value: &'t RawValue, around: &Around) {
        let Some(fields) = object(value) else { return };
        let name = match get(&fields, "name").and_then(string) {
            Some(name) if !name.is_empty() => self.template(&name).0,
            _ => around.names.join("-"),
        };
        let nomad = get(&fields, "provider").and_then(string).is_some_and(|provider| provider == "nomad");
        let service = Service {
            name: name.as_str().into(),
            namespace: if nomad { around.namespace.clone() } else { Arc::default() },
            count: around.count,
            place: self.reading.place(self.start(value)),
            ..Service::default()
        };
        self.tags(get(&fields, "tags"), service.clone());
        let canary = get(&fields, "canarytags").or_else(|| get(&fields, "canary_tags"));
        if let Some(canary) = canary.filter(|tags| array(tags).is_some_and(|tags| !tags.is_empty())) {
            self.tags(Some(canary), Service { count: around.canaries, ..service.clone() });
        }
        self.sidecars(&fields, &service);
    }

    /// A definition of Consul's.
    fn definition(&mut self, value: &'t RawValue) {
        let Some(fields) = object(value) else { return };
        let name = get(&fields, "name").and_then(string).unwrap_or_default();
        let address = get(&fields, "address").and_then(string);
        let port = get(&fields, "port").and_then(number).and_then(|port| u16::try_from(port).ok());
        let service = Service {
            name: name.into(),
            address: address.zip(port).map(|(address, port)| (address.into(), port)),
            place: self.reading.place(self.start(value)),
            ..Service::default()
        };
        self.tags(get(&fields, "tags"), service.clone());
        self.sidecars(&fields, &service);
    }

    fn sidecars(&mut self, fields: &Fields<'t>, service: &Service) {
        for connect in get(fields, "connect").into_iter().flat_map(each).filter_map(object) {
            let sidecar = get(&connect, "sidecarservice").or_else(|| get(&connect, "sidecar_service"));
            for sidecar in sidecar.into_iter().flat_map(each) {
                let Some(tags) = object(sidecar).and_then(|fields| get(&fields, "tags")) else { continue };
                let name = format!("{}-sidecar-proxy", service.name).into();
                let place = self.reading.place(self.start(sidecar));
                self.tags(Some(tags), Service { name, place, address: None, ..service.clone() });
            }
        }
    }

    fn tags(&mut self, tags: Option<&'t RawValue>, service: Service) {
        let (mut lists, mut beyond) = (Vec::new(), Vec::new());
        if let Some(tags) = tags {
            let at = self.start(tags);
            match (array(tags), string(tags)) {
                (Some(values), _) => lists.push(self.list(at, tags, &values)),
                (None, Some(word)) => {
                    let why: Arc<str> = "the tags are one text and no list".into();
                    beyond.extend(self.legacy_in(&word, at).into_iter().map(|tag| (tag, why.clone())));
                }
                // `null` is no list, either, and says nothing.
                (None, None) => {}
            }
        }
        self.reading.service(service, &lists, beyond);
    }

    /// Legacy tags in a text that may be a template.
    fn legacy_in(&self, word: &str, at: usize) -> Vec<Beyond> {
        let (text, holes) = self.template(word);
        let mut found = legacy_texts(&text, &holes, at);
        // Those inside of its expressions.
        if self.live
            && let Ok(template) = hcl_edit::parser::parse_template(word)
        {
            let whole = Expression::from(HeredocTemplate::new(Ident::new("TAGS"), template));
            let its = Names::default().legacy_within(word, &whole);
            found = its.into_iter().map(|tag| Beyond { at, ..tag }).collect();
        }
        found
    }

    fn list(&mut self, at: usize, whole: &RawValue, values: &[&RawValue]) -> usize {
        let mut elements = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let at = self.start(value);
            let end = at + value.get().len();
            let rest = &self.reading.text.body[end..];
            let comma = (number + 1 < values.len()).then(|| rest.find(',').map(|comma| end + comma)).flatten();
            let tag = string(value).map(|word| {
                let (text, holes) = self.template(&word);
                Tag { text: text.into(), holes, place: self.reading.place(at) }
            });
            elements.push(Element { at: at..end, comma, tag });
        }
        let inside = at + 1..(at + whole.get().len()).saturating_sub(1);
        self.reading.list(List { inside, elements, conditional: false, lenient: false })
    }

    /// A text with its expressions as holes, where texts are templates.
    fn template(&self, word: &str) -> (String, Vec<Arc<str>>) {
        if !self.live {
            return if self.runtime { runtime_holes(word) } else { (word.to_owned(), Vec::new()) };
        }
        if !(word.contains("${") || word.contains("%{")) {
            return (word.to_owned(), Vec::new());
        }
        let Ok(template) = hcl_edit::parser::parse_template(word) else { return (word.to_owned(), Vec::new()) };
        let (mut text, mut holes) = (String::new(), Vec::new());
        for part in template.iter() {
            match part.as_literal() {
                Some(literal) => text.push_str(literal),
                None => {
                    holes.push(part.span().and_then(|at| word.get(at)).unwrap_or("").into());
                    text.push(Tag::HOLE);
                }
            }
        }
        (text, holes)
    }
}

/// What a Nomad client replaces in the texts of a job
/// (<https://developer.hashicorp.com/nomad/docs/reference/runtime-variable-interpolation>).
const RUNTIME: [&str; 9] = ["NOMAD_", "node.", "attr.", "meta.", "env.", "JOB}", "TASKGROUP}", "TASK}", "BASE}"];

/// A text with a client's variables as holes; any other `${…}` is text, as it is for Nomad.
fn runtime_holes(word: &str) -> (String, Vec<Arc<str>>) {
    let (mut text, mut holes) = (String::new(), Vec::new());
    let mut rest = word;
    while let Some(at) = rest.find("${") {
        let end = rest[at..].find('}').map(|end| at + end + 1);
        match end.filter(|_| RUNTIME.iter().any(|name| rest[at + 2..].starts_with(name))) {
            Some(end) => {
                text.push_str(&rest[..at]);
                text.push(Tag::HOLE);
                holes.push(rest[at..end].into());
                rest = &rest[end..];
            }
            None => {
                text.push_str(&rest[..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    text.push_str(rest);
    (text, holes)
}

/// A text as a JSON literal; `live`: its expressions are those of HCL.
pub(super) fn quoted(pieces: &[super::Piece<'_>], holes: &[Arc<str>], live: bool) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            super::Piece::Hole(number) => out.push_str(holes.get(*number).map_or("", |hole| hole)),
            super::Piece::Text(text) if live => out.push_str(&text.replace("${", "$${").replace("%{", "%%{")),
            super::Piece::Text(text) => out.push_str(text),
        }
    }
    serde_json::Value::from(out).to_string()
}
