//! Services in HCL: in Nomad's jobs (of groups, tasks, sidecars, dynamic blocks) and in Consul's definitions.

use super::expression::{Collector, Templates};
use super::names::{Names, is_key, member};
use super::reading::Reading;
use super::text::Text;
use super::{Kind, Unreadable};
use crate::migrate::{Service, Tag};
use hcl_edit::Span;
use hcl_edit::expr::{Expression, Object};
use hcl_edit::structure::{Block, Body, Structure};
use std::collections::HashSet;
use std::sync::Arc;

/// Blocks in blocks beyond this are not looked at; the parser has a bound of its own.
const DEEPEST: usize = 64;

/// Reads a document; `None`: it is neither a job nor has it services.
pub(super) fn read<'t>(file: Arc<str>, text: &'t Text) -> Result<(Option<Kind>, Reading<'t>), Unreadable> {
    let body = hcl_edit::parser::parse_body(&text.body).map_err(|error| {
        let at = error.location();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Unreadable { line: number(at.line()), column: number(at.column()), message: error.message().to_owned() }
    })?;
    let mut reading = Reading::new(file, text);
    let names = Names::of(&body);
    if body.has_blocks("job") {
        let mut job = Reader { reading: &mut reading, names: &names, templates: Templates::Live, turns: Vec::new() };
        for block in body.get_blocks("job") {
            let name = block.labels.first().map_or("", |label| label.as_str());
            job.inside(&block.body, &Around { names: vec![name.to_owned()], ..Around::default() }, 0);
        }
        return Ok((Some(Kind::NomadHcl), reading));
    }
    let named = |structure: &Structure| match structure {
        Structure::Block(block) => matches!(block.ident.as_str(), "service" | "services"),
        Structure::Attribute(attribute) => matches!(attribute.key.as_str(), "service" | "services"),
    };
    if !body.iter().any(named) {
        return Ok((None, reading));
    }
    let mut definitions =
        Reader { reading: &mut reading, names: &names, templates: Templates::Plain, turns: Vec::new() };
    for scope in Scope::Body(&body).nested(&["service", "services"]) {
        definitions.definition(scope);
    }
    Ok((Some(Kind::ConsulHcl), reading))
}

/// What a service block stands in.
#[derive(Debug, Clone, Default)]
struct Around {
    /// Names of job, group and task.
    names: Vec<String>,
    namespace: Arc<str>,
    count: u32,
    canaries: u32,
}

struct Reader<'r, 't, 'b> {
    reading: &'r mut Reading<'t>,
    names: &'r Names<'b>,
    templates: Templates,
    /// What the dynamic blocks around go through.
    turns: Vec<&'b Expression>,
}

impl<'b> Reader<'_, '_, 'b> {
    /// Looks through the blocks of a job.
    fn inside(&mut self, body: &'b Body, around: &Around, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let mut around = around.clone();
        if depth == 0 {
            around.namespace = self.text(body, "namespace").unwrap_or_default().into();
        }
        if let Some(count) = self.number(body, "count") {
            around.count = count;
        }
        for update in body.get_blocks("update") {
            around.canaries = self.number(&update.body, "canary").unwrap_or(around.canaries);
        }
        for block in body.blocks() {
            self.block(block, block.ident.as_str(), &block.body, &around, depth);
        }
    }

    fn block(&mut self, block: &'b Block, ident: &str, body: &'b Body, around: &Around, depth: usize) {
        let label = block.labels.first().map(|label| label.as_str());
        match (ident, label) {
            ("service", _) => self.service(body, block.ident.span().map_or(0, |at| at.start), around),
            ("dynamic", Some(made)) => {
                let turns = self.turns.len();
                self.turns.extend(body.get_attribute("for_each").map(|turns| &turns.value));
                for content in body.get_blocks("content") {
                    self.block(block, made, &content.body, around, depth + 1);
                }
                self.turns.truncate(turns);
            }
            ("group" | "task", _) => {
                let mut around = around.clone();
                around.names.push(label.unwrap_or("").to_owned());
                self.inside(body, &around, depth + 1);
            }
            // No other block of a job has services.
            _ => {}
        }
    }

    /// A service of a job: its tags, those of its canaries, and its sidecar's.
    fn service(&mut self, body: &Body, at: usize, around: &Around) {
        let name = self.text(body, "name").unwrap_or_else(|| around.names.join("-"));
        let nomad = self.text(body, "provider").is_some_and(|provider| provider == "nomad");
        let service = Service {
            name: name.as_str().into(),
            namespace: if nomad { around.namespace.clone() } else { Arc::default() },
            count: around.count,
            place: self.reading.place(at),
            ..Service::default()
        };
        self.tags(body.get_attribute("tags").map(|a| &a.value), service.clone());
        if let Some(canary) = body.get_attribute("canary_tags") {
            self.tags(Some(&canary.value), Service { count: around.canaries.max(1), ..service.clone() });
        }
        for sidecar in body.get_blocks("connect").flat_map(|connect| connect.body.get_blocks("sidecar_service")) {
            if let Some(tags) = sidecar.body.get_attribute("tags") {
                let name = format!("{name}-sidecar-proxy").into();
                let place = self.reading.place(sidecar.span().map_or(at, |span| span.start));
                self.tags(Some(&tags.value), Service { name, place, ..service.clone() });
            }
        }
    }

    /// A definition of Consul's.
    fn definition(&mut self, scope: Scope<'_>) {
        let name = scope.get("name").and_then(|e| self.word(e)).unwrap_or_default();
        let address = scope.get("address").and_then(|e| self.word(e));
        let port = scope.get("port").and_then(|e| self.whole(e)).and_then(|port| u16::try_from(port).ok());
        let service = Service {
            name: name.as_str().into(),
            address: address.zip(port).map(|(address, port)| (address.into(), port)),
            place: self.reading.place(scope.start()),
            ..Service::default()
        };
        self.tags(scope.get("tags"), service);
        for sidecar in scope.nested(&["connect"]).iter().flat_map(|connect| connect.nested(&["sidecar_service"])) {
            if let Some(tags) = sidecar.get("tags") {
                let place = self.reading.place(sidecar.start());
                let name = format!("{name}-sidecar-proxy").into();
                self.tags(Some(tags), Service { name, place, ..Service::default() });
            }
        }
    }

    fn tags(&mut self, tags: Option<&Expression>, service: Service) {
        let name = service.name.clone();
        let (names, templates) = (self.names, self.templates);
        let mut collector = Collector {
            reading: &mut *self.reading,
            names,
            templates,
            service: &name,
            turns: &self.turns,
            lists: Vec::new(),
            beyond: Vec::new(),
            seen: HashSet::new(),
        };
        if let Some(tags) = tags {
            collector.collect(tags, false, 0);
        }
        let Collector { lists, beyond, .. } = collector;
        self.reading.service(service, &lists, beyond);
    }

    fn text(&self, body: &Body, key: &str) -> Option<String> {
        self.word(&body.get_attribute(key)?.value)
    }

    /// A text; expressions in it become holes, as do names that this document does not define.
    fn word(&self, expression: &Expression) -> Option<String> {
        match self.names.follow(expression) {
            Expression::String(text) => Some(text.as_str().to_owned()),
            Expression::StringTemplate(template) => {
                let part = |part: &hcl_edit::template::Element| match part.as_literal() {
                    Some(literal) => literal.to_string(),
                    None => Tag::HOLE.to_string(),
                };
                Some(template.iter().map(part).collect())
            }
            _ => Some(Tag::HOLE.to_string()),
        }
    }

    fn number(&self, body: &Body, key: &str) -> Option<u32> {
        self.whole(&body.get_attribute(key)?.value)
    }

    fn whole(&self, expression: &Expression) -> Option<u32> {
        match self.names.follow(expression) {
            Expression::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
            _ => None,
        }
    }
}

/// Keys with values: a block's body or an object.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Body(&'a Body),
    Object(&'a Object),
}

impl<'a> Scope<'a> {
    fn get(self, name: &str) -> Option<&'a Expression> {
        match self {
            Self::Body(body) => body.get_attribute(name).map(|attribute| &attribute.value),
            Self::Object(object) => member(object, name),
        }
    }

    /// Where it begins.
    fn start(self) -> usize {
        match self {
            Self::Body(body) => body.iter().next().and_then(Span::span).map_or(0, |at| at.start),
            Self::Object(object) => object.span().map_or(0, |at| at.start),
        }
    }

    /// The blocks, objects and lists of objects of these names.
    fn nested(self, names: &[&str]) -> Vec<Scope<'a>> {
        let mut found = Vec::new();
        match self {
            Self::Body(body) => {
                for structure in body.iter() {
                    match structure {
                        Structure::Block(block) if names.contains(&block.ident.as_str()) => {
                            found.push(Self::Body(&block.body));
                        }
                        Structure::Attribute(attribute) if names.contains(&attribute.key.as_str()) => {
                            objects(&attribute.value, &mut found);
                        }
                        _ => {}
                    }
                }
            }
            Self::Object(object) => {
                for (key, value) in object.iter() {
                    if names.iter().any(|name| is_key(key, name)) {
                        objects(value.expr(), &mut found);
                    }
                }
            }
        }
        found
    }
}

fn objects<'a>(expression: &'a Expression, found: &mut Vec<Scope<'a>>) {
    match expression {
        Expression::Object(object) => found.push(Scope::Object(object)),
        Expression::Array(array) => found.extend(array.iter().filter_map(|e| e.as_object()).map(Scope::Object)),
        _ => {}
    }
}
