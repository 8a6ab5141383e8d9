//! From the tree of a document to declarations, by the reference of options. What it holds of
//! Traefik's decoder (<https://github.com/traefik/paerser>): names of options count whatever their
//! case, a value may be written as text, number or boolean, a list of texts may be one text with
//! commas, a key without a value says nothing, and a section that is there brings its defaults.

use super::file::{Decoded, origin};
use super::options::{self, Kind, Node as Known, OptionDef};
use super::reference::defaults;
use super::words::{not_served, word};
use super::{MiddlewareKind, Options, Place, Source};
use crate::diagnostic::Diagnostic;
use crate::document::{Member, Node, Spot, Value as Said};
use crate::model::Provider;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Longest value that a message shows.
const SHOWN: usize = 120;

/// Reads one document.
pub(super) struct Reader<'a> {
    provider: Provider,
    file: Option<&'a Arc<str>>,
    out: Decoded,
    /// Something of the definition that is being read cannot be used.
    broken: bool,
    /// Options that do not act are remarked one by one.
    remark: bool,
    /// The kind of the middleware that is being read, where it is not served or not with all of its options.
    partly: Option<(&'static str, Spot)>,
    /// Options that do not act are left out when they say nothing, as in Traefik's JSON.
    printed: bool,
    /// Where its options stand.
    places: Vec<(&'static str, (u32, u32))>,
    /// Where the reader is.
    path: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(provider: Provider, file: Option<&'a Arc<str>>) -> Self {
        Self {
            provider,
            file,
            out: Decoded::default(),
            broken: false,
            remark: false,
            partly: None,
            printed: false,
            places: Vec::new(),
            path: Vec::new(),
        }
    }

    /// Reads the members of the document's top.
    pub fn read(mut self, members: Vec<Member>) -> Decoded {
        // what is wrong here, outside of definitions, leaves unknown what is declared
        for (section, member, known) in self.known(members, options::of_files()) {
            let Some(parts) = self.group(&member.node, &section) else { continue };
            self.path = vec![section.clone()];
            for (part, member, known) in self.known(parts, known) {
                self.path = vec![section.clone(), part.clone()];
                self.part(&section, &part, member, known);
            }
            self.path.clear();
        }
        self.out
    }

    /// Takes note of a problem outside of definitions.
    fn unclear(&mut self) {
        self.out.unclear |= std::mem::take(&mut self.broken);
    }

    /// The members whose names are known, with their spelling; others are told.
    fn known(&mut self, members: Vec<Member>, node: &'static Known) -> Vec<(String, Member, &'static Known)> {
        let mut found: Vec<(String, Member, &'static Known)> = Vec::new();
        for member in members {
            match node.below(&member.name) {
                Some(known) if found.iter().any(|(name, ..)| *name == known.spelling) => {
                    self.twice(&member);
                }
                Some(known) => found.push((known.spelling.to_owned(), member, known)),
                None => self.unknown(&member, node),
            }
        }
        self.unclear();
        found
    }

    /// The members of a group, if it is one that says something.
    fn group(&mut self, node: &Node, name: &str) -> Option<Vec<Member>> {
        match &node.value {
            Said::Map(members) => Some(members.clone()),
            Said::Null => None,
            _ => {
                self.error("bad_value", node.at, format!("`{name}`: expected keys with values"), None);
                self.unclear();
                None
            }
        }
    }

    /// A part of a section: definitions by name, or a list of certificates.
    fn part(&mut self, section: &str, part: &str, member: Member, known: &'static Known) {
        let Some(each) = known.any.as_deref() else { return };
        if known.list {
            let Said::List(items) = member.node.value else {
                if member.node.value != Said::Null {
                    self.error("bad_value", member.node.at, format!("`{section}.{part}`: expected a list"), None);
                }
                return;
            };
            for (index, item) in items.into_iter().enumerate() {
                self.path.push(format!("[{index}]"));
                self.definition(section, part, Member { name: String::new(), at: item.at, node: item }, each);
                self.path.pop();
            }
            return;
        }
        let Some(members) = self.group(&member.node, part) else { return };
        for member in members {
            self.path.push(member.name.clone());
            self.definition(section, part, member, each);
            self.path.pop();
        }
    }

    /// One definition, by itself.
    fn definition(&mut self, section: &str, part: &str, member: Member, known: &'static Known) {
        (self.broken, self.places, self.partly) = (false, Vec::new(), None);
        let kind = (section, part);
        let word = word(section, part);
        let name: Arc<str> = member.name.as_str().into();
        if name.contains('@') {
            let help = Some("the provider is added behind the name: leave out what is behind `@`".to_owned());
            self.error("bad_name", member.at, format!("{word} `{name}` has an `@` in its name"), help);
            return;
        }
        let served = matches!(kind, ("http", "routers" | "services" | "serversTransports") | ("tcp", _));
        let is_middleware = kind == ("http", "middlewares");
        self.remark = served;
        // typed definitions know their defaults themselves, the others are kept as Traefik prints them
        self.printed = !matches!(part, "routers" | "services");
        let map = match &member.node.value {
            Said::Map(members) => {
                if is_middleware {
                    self.middleware_kinds(&name, member.at, members);
                }
                self.section(known, members)
            }
            Said::Null => return self.nothing_said(&member),
            _ => {
                self.error("bad_value", member.node.at, format!("{word} `{name}`: expected keys with values"), None);
                Map::new()
            }
        };
        let options = || Options(map.clone());
        let acts = match kind {
            ("tls", "options") => true,
            ("tls", "certificates") => {
                super::TlsCertificate { options: options(), ..Default::default() }.parts().is_some()
            }
            ("tls", "stores") => &*name == "default",
            _ => served || is_middleware,
        };
        if !acts && !self.broken {
            let what = if name.is_empty() { word.to_owned() } else { format!("{word} `{name}`") };
            let message = format!("{what} is known and not served yet: {}", not_served(section, part));
            self.out.problems.push(Diagnostic::warning("not_served", message).with_origin(self.origin(member.at)));
        }
        let place = self.file.map(|file| {
            let options = std::mem::take(&mut self.places);
            Arc::new(Place { file: file.clone(), at: (member.at.line, member.at.column), options })
        });
        let source = Source { place, ..Source::default() };
        self.declare(kind, name, member.at, map, source);
    }

    /// Puts a definition, or that it is broken, where it belongs.
    fn declare(&mut self, kind: (&str, &str), name: Arc<str>, at: Spot, map: Map<String, Value>, source: Source) {
        macro_rules! typed {
            ($($section:ident).+) => {
                if let Some(mut value) = self.typed(kind, &name, at, map) {
                    take(&mut value, source);
                    self.out.dynamic.$($section).+.insert(name, Arc::new(value));
                }
            };
        }
        macro_rules! tree {
            ($($section:ident).+, $type:ident) => {
                if !self.broken {
                    let value = super::$type { options: Options(map), source };
                    self.out.dynamic.$($section).+.insert(name, Arc::new(value));
                }
            };
        }
        match kind {
            ("http", "routers") => {
                typed!(http.routers);
            }
            ("http", "services") => {
                let mut value: super::Service = self.typed(kind, &name, at, map.clone()).unwrap_or_else(|| {
                    // the servers of today count even where something else cannot be read
                    serde_json::from_value(Value::Object(map)).unwrap_or_default()
                });
                value.source = source;
                if self.broken {
                    // none were read: those that were accepted stay
                    value.load_balancer = value.load_balancer.filter(|lb| !lb.servers.is_empty());
                    self.out.dynamic.http.broken.services.insert(name, Arc::new(value));
                } else {
                    self.out.dynamic.http.services.insert(name, Arc::new(value));
                }
            }
            ("http", "middlewares") if !self.broken => {
                let value = super::Middleware { kind: MiddlewareKind::of(map), source };
                if let (MiddlewareKind::NotServed(_), Some((kind, at))) = (&value.kind, self.partly) {
                    let message = format!(
                        "middleware `{name}` is a `{kind}`, which is known and not served yet; a router that names it is \
                         refused"
                    );
                    self.out.problems.push(Diagnostic::warning("not_served", message).with_origin(self.origin(at)));
                }
                self.out.dynamic.http.middlewares.insert(name, Arc::new(value));
            }
            ("http", "middlewares") => drop(self.out.dynamic.http.broken.middlewares.insert(name)),
            ("http", "serversTransports") if self.broken => {
                self.out.dynamic.http.broken.servers_transports.insert(name);
            }
            ("http", "serversTransports") => {
                tree!(http.servers_transports, ServersTransport);
            }
            ("tcp", "routers") => {
                typed!(tcp.routers);
            }
            ("tcp", "services") => {
                let mut value: super::TcpService = self.typed(kind, &name, at, map.clone()).unwrap_or_else(|| {
                    // as with HTTP, the servers of today count
                    serde_json::from_value(Value::Object(map)).unwrap_or_default()
                });
                value.source = source;
                let tcp = &mut self.out.dynamic.tcp;
                let services = if self.broken { &mut tcp.broken.services } else { &mut tcp.services };
                services.insert(name, Arc::new(value));
            }
            ("tcp", "middlewares") if !self.broken => {
                let value = super::TcpMiddleware { kinds: Options(map), source };
                self.out.dynamic.tcp.middlewares.insert(name, Arc::new(value));
            }
            ("tcp", "middlewares") => drop(self.out.dynamic.tcp.broken.middlewares.insert(name)),
            ("tcp", "serversTransports") if self.broken => {
                self.out.dynamic.tcp.broken.servers_transports.insert(name);
            }
            ("tcp", "serversTransports") => {
                tree!(tcp.servers_transports, ServersTransport);
            }
            ("udp", "routers") => {
                typed!(udp.routers);
            }
            ("udp", "services") => {
                typed!(udp.services);
            }
            ("tls", "options") => {
                tree!(tls.options, TlsOptions);
            }
            ("tls", "stores") => {
                tree!(tls.stores, TlsStore);
            }
            ("tls", "certificates") if !self.broken => {
                let value = super::TlsCertificate { options: Options(map), source };
                self.out.dynamic.tls.certificates.push(Arc::new(value));
            }
            _ => {}
        }
    }

    /// A definition as a typed value; `None` if it is broken.
    fn typed<T: DeserializeOwned>(
        &mut self,
        kind: (&str, &str),
        name: &Arc<str>,
        at: Spot,
        map: Map<String, Value>,
    ) -> Option<T> {
        if !self.broken {
            match serde_json::from_value(Value::Object(map)) {
                Ok(value) => return Some(value),
                Err(e) => {
                    let message = format!("{} `{name}` cannot be read: {e}", word(kind.0, kind.1));
                    self.error("bad_value", at, message, None);
                }
            }
        }
        match kind {
            ("http", "routers") => drop(self.out.dynamic.http.broken.routers.insert(name.clone())),
            ("tcp", "routers") => drop(self.out.dynamic.tcp.broken.routers.insert(name.clone())),
            _ => {}
        }
        None
    }

    /// Which kind of middleware is read, and whether its options are remarked one by one.
    fn middleware_kinds(&mut self, name: &str, at: Spot, members: &[Member]) {
        let said: Vec<&Member> = members.iter().filter(|member| member.node.value != Said::Null).collect();
        let [only] = said[..] else {
            self.remark = true;
            if said.is_empty() {
                self.error("bad_value", at, format!("middleware `{name}` is of no kind"), None);
            } else {
                let message = format!("middleware `{name}` is of several kinds; it can be of one");
                self.error("bad_value", at, message, Some("make a middleware of each".to_owned()));
            }
            return;
        };
        let kinds = options::of_files().below("http").and_then(|http| http.below("middlewares"));
        let kind = kinds.and_then(|kinds| kinds.below("*")).and_then(|kinds| kinds.below(&only.name));
        let Some(kind) = kind.map(|kind| kind.spelling).filter(|kind| !kind.is_empty()) else { return };
        self.remark = options::is_served_kind(kind);
        self.partly = (!self.remark).then_some((kind, only.at));
    }

    /// A section's members in Traefik's form.
    fn section(&mut self, node: &'static Known, members: &[Member]) -> Map<String, Value> {
        let mut map = match defaults(&node.path) {
            Value::Object(defaults) if self.printed => defaults,
            _ => Map::new(),
        };
        let mut seen: Vec<&'static str> = Vec::new();
        for member in members {
            let Some(known) = node.below(&member.name) else {
                self.unknown(member, node);
                continue;
            };
            // names that people choose are told apart by their case, names of options are not
            let name = if known.spelling.is_empty() {
                member.name.clone()
            } else if seen.contains(&known.spelling) {
                self.twice(member);
                continue;
            } else {
                seen.push(known.spelling);
                known.spelling.to_owned()
            };
            self.path.push(name.clone());
            match self.value(known, member) {
                Some(Some(value)) => drop(map.insert(name, value)),
                Some(None) => drop(map.remove(&name)),
                None => {}
            }
            self.path.pop();
        }
        map
    }

    /// What a member says: `None` for nothing, `Some(None)` for what Traefik's JSON leaves out.
    fn value(&mut self, known: &'static Known, member: &Member) -> Option<Option<Value>> {
        let at = member.node.at;
        self.place(known, at);
        if let Some(def) = known.rest {
            return (def.kind != Kind::Ignored).then(|| Some(free(&member.node.value)));
        }
        if member.node.value == Said::Null {
            self.nothing_said(member);
            return None;
        }
        if let Some(each) = known.any.as_deref().filter(|_| known.list) {
            let Said::List(items) = &member.node.value else {
                self.expected("a list", &member.node);
                return None;
            };
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                self.path.push(format!("[{index}]"));
                match &item.value {
                    Said::Map(members) => list.push(Value::Object(self.section(each, members))),
                    _ => self.expected("keys with values", item),
                }
                self.path.pop();
            }
            return Some(Some(Value::Array(list)));
        }
        let sections = known.is_section() || known.any.is_some();
        match (&member.node.value, known.option) {
            (Said::Map(members), option) if sections || option.is_some_and(|def| def.kind == Kind::Section) => {
                if let Some(def) = option {
                    self.acts(def, &Value::Bool(true), member.at);
                }
                Some(Some(Value::Object(self.section(known, members))))
            }
            (Said::Text(text) | Said::Plain(text), Some(def)) if def.kind == Kind::Section => {
                match options::go_bool(text) {
                    Some(true) => {
                        self.acts(def, &Value::Bool(true), member.at);
                        Some(Some(Value::Object(self.section(known, &[]))))
                    }
                    Some(false) => None,
                    None => {
                        self.expected("keys with values, or `true`", &member.node);
                        None
                    }
                }
            }
            (Said::Map(_), Some(def)) => {
                self.expected(def.kind.expected(), &member.node);
                None
            }
            (_, Some(def)) if def.kind != Kind::Section => self.leaf(def, member),
            _ => {
                self.expected("keys with values", &member.node);
                None
            }
        }
    }

    /// An option with a value of its own.
    fn leaf(&mut self, def: &'static OptionDef, member: &Member) -> Option<Option<Value>> {
        let value = match (&member.node.value, def.kind) {
            (Said::List(items), Kind::List) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match &item.value {
                        Said::Text(text) | Said::Plain(text) => texts.push(Value::from(text.as_str())),
                        _ => self.expected("a text", item),
                    }
                }
                if texts.is_empty() {
                    return None;
                }
                Value::Array(texts)
            }
            (Said::Text(text), kind) => self.parsed(kind, text, &member.node)?,
            (Said::Plain(text), Kind::Int) => self.parsed(Kind::Int, &decimal(text), &member.node)?,
            (Said::Plain(text), kind) => self.parsed(kind, text, &member.node)?,
            _ => {
                self.expected(def.kind.expected(), &member.node);
                return None;
            }
        };
        if value.is_null() {
            return None;
        }
        self.acts(def, &value, member.at);
        Some(if self.printed && !def.shown && def.kind.is_zero(&value) { None } else { Some(value) })
    }

    fn parsed(&mut self, kind: Kind, text: &str, node: &Node) -> Option<Value> {
        match kind.parse(text) {
            Ok(value) => Some(value),
            Err(e) if self.secret() => {
                let message = format!("`{}`: expected {}", self.below(), kind.expected());
                // without a place, since the line would be shown
                self.broken = true;
                let origin = origin(self.provider, self.file, None);
                self.out.problems.push(Diagnostic::error(e.code(), message).with_origin(origin));
                None
            }
            Err(e) => {
                let mut why = e.to_string();
                if why.len() > SHOWN {
                    why.truncate(why.floor_char_boundary(SHOWN));
                    why.push('…');
                }
                let message = format!("`{}`: {why}", self.below());
                self.error(e.code(), node.at, message, None);
                None
            }
        }
    }

    /// Remarks an option that does not act, and refuses a value that cannot.
    fn acts(&mut self, def: &'static OptionDef, value: &Value, at: Spot) {
        match def.acts.with(value) {
            Ok(true) => {}
            Ok(false) if !self.remark => {}
            Ok(false) => {
                let message = format!("`{}` is known and not served yet: {}", self.below(), def.doc);
                self.out.problems.push(Diagnostic::warning("not_served", message).with_origin(self.origin(at)));
            }
            Err(why) => self.error("bad_value", at, format!("`{}`: {why}", self.below()), None),
        }
    }

    fn expected(&mut self, what: &str, node: &Node) {
        let got = match &node.value {
            Said::Null => "nothing".to_owned(),
            Said::Map(_) => "keys with values".to_owned(),
            Said::List(_) => "a list".to_owned(),
            Said::Text(_) | Said::Plain(_) if self.secret() => "a text".to_owned(),
            Said::Text(text) | Said::Plain(text) => format!("`{}`", text.chars().take(SHOWN).collect::<String>()),
        };
        self.error("bad_value", node.at, format!("`{}`: expected {what}, got {got}", self.below()), None);
    }

    fn unknown(&mut self, member: &Member, node: &Known) {
        let shown: String = member.name.chars().take(SHOWN).collect();
        let message = if self.path.is_empty() {
            format!("unknown section `{shown}`")
        } else {
            format!("unknown option `{shown}` in `{}`", self.path.join("."))
        };
        let help = node.nearest(&member.name).map(|nearest| format!("did you mean `{nearest}`?"));
        self.error("unknown_option", member.at, message, help);
    }

    fn twice(&mut self, member: &Member) {
        let path = self.path.join(".");
        let message = format!("`{}` stands twice in `{path}`, since case does not count", member.name);
        self.error("said_twice", member.at, message, None);
    }

    fn nothing_said(&mut self, member: &Member) {
        let message = format!("`{}` has no value and says nothing, here as in Traefik", member.name);
        let problem = Diagnostic::warning("empty_value", message).with_origin(self.origin(member.at));
        self.out.problems.push(problem.with_help("write `{}` for a section that is to stand alone"));
    }

    /// A problem that breaks the definition that is being read.
    fn error(&mut self, code: &str, at: Spot, message: String, help: Option<String>) {
        self.broken = true;
        let mut problem = Diagnostic::error(code, message).with_origin(self.origin(at));
        problem.help = help;
        self.out.problems.push(problem);
    }

    fn origin(&self, at: Spot) -> crate::diagnostic::Origin {
        origin(self.provider, self.file, (at.line != 0).then_some(at))
    }

    /// Remembers where an option of a router or a service stands.
    fn place(&mut self, known: &'static Known, at: Spot) {
        if self.file.is_some() && matches!(self.path.len(), 4 | 5) {
            self.places.push((&known.path, (at.line, at.column)));
        }
    }

    fn below(&self) -> String {
        self.path.join(".")
    }

    /// Whether what stands here may be a secret, so that no message shows it.
    fn secret(&self) -> bool {
        let last = self.path.last().map(|last| last.to_ascii_lowercase()).unwrap_or_default();
        let words = ["user", "password", "secret", "token", "authorization", "apikey", "api-key", "keyfile"];
        words.iter().any(|word| last.contains(word)) || last == "key" || self.path.iter().any(|part| part == "plugin")
    }
}

/// Something that knows where it was declared.
trait Declared {
    fn source(&mut self) -> &mut Source;
}

macro_rules! declared {
    ($($kind:ident)*) => {
        $(impl Declared for super::$kind {
            fn source(&mut self) -> &mut Source {
                &mut self.source
            }
        })*
    };
}

declared!(Router TcpRouter TcpService UdpRouter UdpService);

fn take(value: &mut impl Declared, source: Source) {
    *value.source() = source;
}

/// A number as YAML and TOML may write it, in decimal.
fn decimal(text: &str) -> String {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    let number =
        radix.iter().find_map(|(prefix, radix)| i64::from_str_radix(digits.strip_prefix(prefix)?, *radix).ok());
    number.map_or(plain.clone(), |number| format!("{sign}{number}"))
}

/// A value of a plug-in's own options.
fn free(said: &Said) -> Value {
    match said {
        Said::Null => Value::Null,
        Said::Text(text) => Value::from(text.as_str()),
        Said::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())),
        Said::List(items) => items.iter().map(|item| free(&item.value)).collect(),
        Said::Map(members) => {
            Value::Object(members.iter().map(|member| (member.name.clone(), free(&member.node.value))).collect())
        }
    }
}
