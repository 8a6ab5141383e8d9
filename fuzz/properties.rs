//! What must hold for any input: one function a fuzz target. They are run by the targets under
//! `fuzz/targets`, with inputs that libFuzzer makes up, and as plain tests over the committed
//! corpora (`tests/it/corpora.rs`), so that a finding stays mended without a fuzzer at hand.
//!
//! A function returns for input that it takes and panics for a property that does not hold.

#[path = "h1.rs"]
pub mod h1;

use rust_lb::catalog::{Health, Instance, Inventory, Service, ServiceKey, World};
use rust_lb::declare::{Dynamic, GoDuration, file, rest};
use rust_lb::model::{Provider, canonical_host, format_duration, parse_duration, parse_size};
use rust_lb::rule::{self, ConnectionView, Kind, Matcher, RequestView, Syntax};
use rust_lb::table::{self, Accepted, BuildOptions};
use rust_lb::tags::{Decoder, LegacyMode, TagOptions};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A property, by the name of its target and of its corpus's folder.
pub type Property = fn(&[u8]);

/// All targets.
pub const ALL: &[(&str, Property)] = &[
    ("rules", rules),
    ("traefik_tags", traefik_tags),
    ("urlprefix_tags", urlprefix_tags),
    ("site_tags", site_tags),
    ("durations", durations),
    ("dynamic_files", dynamic_files),
    ("h1_requests", h1::requests),
    ("h1_answers", h1::answers),
    ("h1_differential", h1::hyper::differential),
];

/// A request whose every part is the text under test.
struct Asked<'a>(&'a str);

impl RequestView for Asked<'_> {
    fn host(&self) -> &str {
        self.0
    }
    fn path(&self) -> &str {
        self.0
    }
    fn method(&self) -> &str {
        self.0
    }
    fn query(&self) -> &str {
        self.0
    }
    fn any_header(&self, _: &str, f: &mut dyn FnMut(&str) -> bool) -> bool {
        f(self.0)
    }
    fn client_ip(&self) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))
    }
}

impl ConnectionView for Asked<'_> {
    fn server_name(&self) -> &str {
        self.0
    }
    fn any_alpn(&self, f: &mut dyn FnMut(&str) -> bool) -> bool {
        f(self.0)
    }
    fn client_ip(&self) -> Option<IpAddr> {
        None
    }
}

/// Rules: the first line says `http` or `tcp` and `v2` or `v3`, the second is what a request is made of, the
/// rest is the rule. An error points into the text; a rule printed and parsed again is the same; what
/// it matches satisfies one of its hints' hosts.
pub fn rules(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut parts = text.splitn(3, '\n');
    let (Some(head), Some(asked), Some(text)) = (parts.next(), parts.next(), parts.next()) else { return };
    let kind = if head.contains("tcp") { Kind::Tcp } else { Kind::Http };
    let syntax = if head.contains("v2") { Syntax::V2 } else { Syntax::V3 };
    let rule = match rule::parse(text, kind, syntax) {
        Ok(rule) => rule,
        Err(error) => {
            assert!(text.get(error.span.clone()).is_some(), "the error's place {:?} is not in the text", error.span);
            return;
        }
    };
    let printed = rule.to_string();
    let again = rule::parse(&printed, kind, syntax).expect("what is printed is a rule");
    assert_eq!(again, rule, "printed as {printed}");
    assert_eq!(again.to_string(), printed);
    let (_, _) = (rule::priority(text, &rule), rule.domains());
    let Ok(matcher) = Matcher::compile(&rule) else { return };
    match kind {
        Kind::Tcp => drop(matcher.matches_connection(&Asked(asked))),
        Kind::Http => {
            let host = canonical_host(asked);
            let request = Asked(&host);
            if matcher.matches(&request) {
                let key = rule::host_key(&host);
                let hints = rule::hints(&rule);
                assert!(
                    hints.iter().any(|hint| hint.host.as_ref().is_none_or(|host| **host == *key)),
                    "`{text}` takes `{host}`, which is under none of {hints:?}"
                );
            }
        }
    }
}

/// A world out of lines: `# name` begins a service (`# name @consul` one of Consul's), `- address port` an
/// instance, every other line is a tag of the instance before.
fn world(text: &str) -> World {
    let mut sources: BTreeMap<Provider, BTreeMap<ServiceKey, Service>> = BTreeMap::new();
    let (mut provider, mut key) = (Provider::Nomad, ServiceKey { namespace: "default".into(), name: "web".into() });
    let mut index = 0;
    for line in text.lines().take(64) {
        index += 1;
        if let Some(name) = line.strip_prefix("# ") {
            let (name, consul) = name.strip_suffix(" @consul").map_or((name, false), |name| (name, true));
            provider = if consul { Provider::ConsulCatalog } else { Provider::Nomad };
            key = ServiceKey { namespace: if consul { "" } else { "default" }.into(), name: name.into() };
            continue;
        }
        let services = sources.entry(provider).or_default();
        let service =
            services.entry(key.clone()).or_insert_with(|| Service { key: key.clone(), instances: Vec::new() });
        let place = line.strip_prefix("- ").map(|place| place.split_once(' ').unwrap_or((place, "80")));
        if let Some((address, port)) = place.or(service.instances.is_empty().then_some(("10.0.0.1", "80"))) {
            service.instances.push(Instance {
                id: format!("i{index:03}").into(),
                node: "n1".into(),
                address: address.into(),
                node_address: "10.0.0.9".into(),
                port: port.parse().unwrap_or_default(),
                tags: Vec::new(),
                health: Health::Passing,
                checks: None,
                datacenter: "dc1".into(),
                create_index: index,
                job: "job".into(),
                alloc: "".into(),
            });
        }
        if let (None, Some(instance)) = (place, service.instances.last_mut()) {
            instance.tags.push(line.into());
        }
    }
    let inventory = |services: BTreeMap<ServiceKey, Service>| Inventory {
        services: services.into_iter().map(|(key, service)| (key, Arc::new(service))).collect(),
    };
    World { sources: sources.into_iter().map(|(provider, s)| (provider, Arc::new(inventory(s)))).collect() }
}

/// Decodes and builds: twice the same, printed and read again the same, and a place that a problem names is there.
fn tags(text: &str, adapt: impl Fn(&mut TagOptions)) {
    let world = world(text);
    let mut tag_options = TagOptions::default();
    adapt(&mut tag_options);
    let options: BTreeMap<_, _> =
        [Provider::Nomad, Provider::ConsulCatalog].into_iter().map(|p| (p, tag_options.clone())).collect();
    let mut decoder = Decoder::new(options.clone());
    let decoded = decoder.decode(&world);
    assert_eq!(decoder.decode(&world), decoded, "what did not change is decoded to the same");
    assert_eq!(Decoder::new(options).decode(&world), decoded, "decoding depends on the world alone");
    for problem in &decoded.diagnostics {
        if let (Some(tag), Some(column)) = (&problem.origin.tag, problem.origin.column) {
            let column = usize::try_from(column).expect("a column is a small number");
            assert!((1..=tag.chars().count() + 1).contains(&column), "{problem:?}");
        }
    }
    for dynamic in decoded.declarations.values() {
        // Traefik's form leaves out a length of zero, which is then read as the default; from then on nothing changes
        let again = |printed: &serde_json::Value| {
            let read: Dynamic = serde_json::from_value(printed.clone()).expect("what is printed is read");
            serde_json::to_value(&read).expect("declarations are printed")
        };
        let second = again(&serde_json::to_value(dynamic).expect("declarations are printed"));
        assert_eq!(again(&second), second);
    }
    let entry_point = |name: &str, tls| table::EntryPoint {
        name: name.into(),
        tls,
        as_default: false,
        middlewares: Vec::new(),
        tls_options: Default::default(),
    };
    let options = BuildOptions {
        entry_points: vec![entry_point("web", false), entry_point("websecure", true)],
        primary: Provider::Nomad,
        internal: Dynamic::default(),
    };
    let built = table::build(&decoded.declarations, &Accepted::default(), &options);
    let again = table::build(&decoded.declarations, &built.accepted, &options);
    assert_eq!(again.diagnostics, built.diagnostics, "what did not change is built to the same");
    assert_eq!(again.table.routers, built.table.routers);
    for router in built.table.routers.values().take(8) {
        for (entry_point, tls) in [("web", false), ("websecure", true)] {
            built.table.find(entry_point, tls, &Asked(&router.rule));
        }
    }
}

/// Tags in Traefik's dialect, as [`world`] reads them.
pub fn traefik_tags(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    tags(text, |options| options.exposed_by_default = true);
}

/// Tags in Fabio's dialect; the first line may name a matcher, `globs off`, and `any port`.
pub fn urlprefix_tags(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (head, text) = text.split_once('\n').unwrap_or(("", text));
    tags(text, |options| {
        options.legacy.mode = LegacyMode::Merge;
        options.legacy.matcher = head.split(' ').find_map(|word| word.parse().ok()).unwrap_or_default();
        options.legacy.glob_disabled = head.contains("globs off");
        options.legacy.any_port = head.contains("any port");
    });
}

/// Tags in HinD's dialect, beside others.
pub fn site_tags(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    tags(text, |options| options.legacy.mode = LegacyMode::Merge);
}

/// Durations and sizes: what is read, printed and read again is the same.
pub fn durations(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(length) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(length)), Ok(length), "{text}");
    }
    if let Ok(length) = text.parse::<GoDuration>() {
        assert_eq!(length.to_string().parse(), Ok(length), "{text}");
    }
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&size.to_string()), Ok(size), "{text}");
    }
}

/// Files of dynamic configuration: the first line says `yaml`, `toml` or `rest`. A place that a problem names is in the
/// text; what is printed is read without an error, and from then on nothing changes (the first time defaults may come in).
pub fn dynamic_files(input: &[u8]) {
    let at = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    let (form, text) = (input.get(..at).unwrap_or_default(), input.get(at + 1..).unwrap_or_default());
    let decoded = match form {
        b"rest" => rest::decode(text).ok(),
        b"toml" => file::decode(text, &"t.toml".into()).ok(),
        _ => file::decode(text, &"t.yaml".into()).ok(),
    };
    let Some(decoded) = decoded else { return };
    let lines = text.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() + 1;
    for problem in &decoded.problems {
        let line = problem.origin.line.map_or(0, |line| usize::try_from(line).expect("a line is a small number"));
        assert!(line <= lines, "{problem:?}");
    }
    let print = |dynamic: &Dynamic| serde_json::to_string(dynamic).expect("declarations are printed");
    let again = |text: &str| {
        let decoded = rest::decode(text.as_bytes()).unwrap_or_else(|e| panic!("{text} is refused: {e:?}"));
        let errors: Vec<_> = decoded.problems.iter().filter(|p| p.is_error() && &*p.code == "unknown_option").collect();
        assert!(errors.is_empty(), "{errors:?} in {text}");
        print(&decoded.dynamic)
    };
    let second = again(&print(&decoded.dynamic));
    assert_eq!(again(&second), second);
}
