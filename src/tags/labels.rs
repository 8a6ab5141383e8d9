//! Labels: the `prefix.path=value` tags of one registration, read against the option table into
//! drafts of routers, services and middlewares. A label that cannot be read breaks only the draft
//! that it belongs to, and says so with tag and column.
//!
//! Order and names are those of Traefik's label parser (<https://github.com/traefik/paerser>): keys
//! are sorted by their bytes, the last of equal keys counts, and names that differ only in case
//! are one name in the spelling of the first.

use super::drafts::{ByName, Draft, Drafts, ServerDraft, ServiceDraft};
use super::grown::{Form, Grown};
pub use super::label::Label;
use crate::declare::options::{Found, Kind, find, is_served_kind, nearest};
use crate::declare::{self, MiddlewareKind, Options};
use crate::diagnostic::Diagnostic;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What a definition is, by its section and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Router,
    Service,
    Middleware,
    TcpRouter,
    TcpService,
    TcpMiddleware,
    UdpRouter,
    UdpService,
    TlsStore,
}

impl Place {
    /// In messages.
    fn word(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Service => "service",
            Self::Middleware => "middleware",
            Self::TcpRouter => "TCP router",
            Self::TcpService => "TCP service",
            Self::TcpMiddleware => "TCP middleware",
            Self::UdpRouter => "UDP router",
            Self::UdpService => "UDP service",
            Self::TlsStore => "TLS store",
        }
    }

    /// `None` for what tags cannot declare.
    fn of(section: &str, kind: &str) -> Option<Self> {
        Some(match (section, kind.to_ascii_lowercase().as_str()) {
            ("http", "routers") => Self::Router,
            ("http", "services") => Self::Service,
            ("http", "middlewares") => Self::Middleware,
            ("tcp", "routers") => Self::TcpRouter,
            ("tcp", "services") => Self::TcpService,
            ("tcp", "middlewares") => Self::TcpMiddleware,
            ("udp", "routers") => Self::UdpRouter,
            ("udp", "services") => Self::UdpService,
            ("tls", "stores") => Self::TlsStore,
            _ => return None,
        })
    }
}

/// Reads the labels of one registration.
pub fn read(labels: &[Label<'_>]) -> Drafts {
    let mut reader = Reader::default();
    let mut last: BTreeMap<&str, &Label<'_>> = BTreeMap::new();
    for label in labels {
        last.insert(label.key, label);
    }
    // keys that differ only in case are one too, but the first of them gives the name
    let mut counts: BTreeMap<String, &str> = BTreeMap::new();
    for key in last.keys() {
        counts.insert(key.to_lowercase(), key);
    }
    for label in last.values() {
        if counts.get(&label.key.to_lowercase()) == Some(&label.key) {
            reader.label(label);
        } else {
            reader.name(label);
        }
    }
    for label in std::mem::take(&mut reader.alone) {
        reader.section(&label);
    }
    reader.finish()
}

#[derive(Default)]
struct Reader<'a> {
    /// Sections with a value, looked at when all the rest is read.
    alone: Vec<Label<'a>>,
    grown: BTreeMap<Place, ByName<Grown>>,
    problems: Vec<Diagnostic>,
    not_served: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    fn label(&mut self, label: &Label<'a>) {
        let Some(section) = section_of(label.key) else {
            self.outside(label);
            return;
        };
        let path = match elements(label.key) {
            Ok(path) => path,
            Err(part) => {
                let problem = Diagnostic::error(
                    "empty_path_element",
                    format!("`{}` has an empty element, so it is ignored", label.key),
                );
                self.problems.push(problem.with_origin(label.origin(part)));
                return;
            }
        };
        let place = path.get(1).and_then(|kind| Place::of(section, kind));
        let option = match find(&path) {
            Found::Option(option) => option,
            Found::Section => {
                self.name(label);
                self.alone.push(*label);
                return;
            }
            Found::Entry(below) => {
                self.no_value(label);
                if let Some(place) = place {
                    let draft = self.draft(place, path.get(2).copied().unwrap_or_default(), label);
                    draft.value.set(below, path.get(3..).unwrap_or_default(), Value::Null);
                }
                return;
            }
            Found::Unknown { at, nearest } => {
                let message = format!("unknown option `{}` in `{}`", path[at], label.key);
                let mut problem = Diagnostic::error("unknown_option", message).with_origin(label.origin(path[at]));
                if let Some(nearest) = nearest {
                    problem = problem.with_help(format!("did you mean `{nearest}`?"));
                }
                self.refuse(place, &path, label, problem);
                return;
            }
        };
        let read = option.kind.parse(label.value).map_err(|e| (e.code(), e.to_string())).and_then(|value| {
            let acts = option.acts.with(&value).map_err(|e| ("bad_value", e))?;
            Ok((value, acts))
        });
        let (value, acts) = match read {
            Ok(read) => read,
            Err((code, why)) => {
                let problem = Diagnostic::error(code, format!("`{}`: {why}", below(&path)));
                self.refuse(place, &path, label, problem.with_origin(label.origin(label.value)));
                return;
            }
        };
        let Some(place) = place else {
            self.nothing_serves(section, &path, label);
            return;
        };
        let draft = self.draft(place, path.get(2).copied().unwrap_or_default(), label);
        if matches!(place, Place::Router | Place::TcpRouter) && option.path.ends_with(".rule") {
            draft.tag = label.tag.clone();
        }
        draft.value.set(option, path.get(3..).unwrap_or_default(), value);
        let remark = match place {
            Place::Router | Place::Service | Place::TcpRouter | Place::TcpService | Place::TcpMiddleware => true,
            // of a kind that is not served there is one remark at the end
            Place::Middleware => option.path.split('.').nth(3).is_some_and(is_served_kind),
            _ => {
                self.nothing_serves(section, &path, label);
                false
            }
        };
        if remark && !acts && option.kind != Kind::Ignored {
            let (word, name) = (place.word(), path.get(2).copied().unwrap_or_default());
            // what may keep strangers out is never left away, nor a count that is to be one over all instances
            let refuses = option.path.ends_with(".tls.options") || option.path.contains(".rateLimit.redis.");
            let without = if refuses { "is refused" } else { "acts without it" };
            let option_of = below(&path);
            let message =
                format!("`{option_of}` is known and not served yet, so {word} `{name}` {without}: {}", option.doc);
            let problem = Diagnostic::warning("not_served", message);
            self.problems.push(problem.with_origin(label.origin(path[path.len() - 1])));
        }
    }

    /// Takes no more than the name from a label, for another one counts.
    fn name(&mut self, label: &Label<'_>) {
        let (path, place) = placed(label.key);
        if let (Some(place), Some(name)) = (place, path.get(2)) {
            self.draft(place, name, label);
        }
    }

    /// A section with a value: other labels may stand below it, and then the value means nothing. Alone it is an error.
    fn section(&mut self, label: &Label<'_>) {
        let (path, place) = placed(label.key);
        let name = path.get(2).map(|name| name.to_lowercase());
        let draft = place.and_then(|place| self.grown.get(&place)?.get(&name?));
        if draft.is_some_and(|draft| draft.value.has_below(path.get(3..).unwrap_or_default())) {
            self.no_value(label);
            return;
        }
        let problem = Diagnostic::error("unknown_option", format!("`{}` is a section and takes no value", label.key))
            .with_origin(label.origin(label.key))
            .with_help("name an option below it");
        self.refuse(place, &path, label, problem);
    }

    fn no_value(&mut self, label: &Label<'_>) {
        let message = format!("`{}` takes no value; what it says means nothing, here as in Traefik", label.key);
        self.problems.push(Diagnostic::warning("ignored_value", message).with_origin(label.origin(label.value)));
    }

    fn draft(&mut self, place: Place, name: &str, label: &Label<'_>) -> &mut Draft<Grown> {
        self.grown.entry(place).or_default().entry(name.to_lowercase()).or_insert_with(|| Draft {
            name: name.into(),
            value: Grown::default(),
            broken: false,
            tag: label.shown(),
        })
    }

    /// A problem that breaks the definition that the path belongs to.
    fn refuse(&mut self, place: Option<Place>, path: &[&str], label: &Label<'_>, mut problem: Diagnostic) {
        if let (Some(place), Some(name)) = (place, path.get(2)) {
            problem.message.push_str(&format!(", so {} `{name}` is refused", place.word()));
        }
        self.problems.push(problem);
        if let (Some(place), Some(name)) = (place, path.get(2)) {
            self.draft(place, name, label).broken = true;
        }
    }

    /// UDP, transports and TLS stores: one remark for each definition.
    fn nothing_serves(&mut self, section: &str, path: &[&str], label: &Label<'_>) {
        let what = path.iter().take(3).copied().collect::<Vec<_>>().join(".");
        if self.not_served.insert(what.to_lowercase()) {
            let message = format!(
                "`{what}` is known and not served yet, so it does nothing: there are no {section} {} from tags",
                path[1].to_lowercase()
            );
            self.problems.push(Diagnostic::warning("not_served", message).with_origin(label.origin(label.key)));
        }
    }

    /// A key outside of dynamic configuration. Traefik passes over it in silence.
    fn outside(&mut self, label: &Label<'_>) {
        let first = label.key.split('.').next().unwrap_or_default();
        let key = label.key.to_ascii_lowercase();
        if matches!(key.as_str(), "enable" | "nomad.canary" | "consulcatalog.canary" | "consulcatalog.connect") {
            return;
        }
        let mut problem =
            Diagnostic::warning("ignored_option", format!("`{}` does nothing, here as in Traefik", label.key));
        if let Some(nearest) = nearest(first, ["http", "tcp", "udp", "tls", "enable"].into_iter()) {
            problem = problem.with_help(format!("did you mean `{nearest}`?"));
        }
        self.problems.push(problem.with_origin(label.origin(label.key)));
    }

    fn finish(mut self) -> Drafts {
        let mut drafts = Drafts {
            routers: self.typed(Place::Router, |typed, _| typed),
            services: self.services(Place::Service),
            tcp_routers: self.typed(Place::TcpRouter, |typed, _| typed),
            tcp_services: self.services(Place::TcpService),
            udp_routers: self.typed(Place::UdpRouter, |typed, _| typed),
            udp_services: self.services(Place::UdpService),
            tcp_middlewares: self.printed(Place::TcpMiddleware, |kinds| declare::TcpMiddleware {
                kinds: Options(kinds),
                ..declare::TcpMiddleware::default()
            }),
            tls_stores: self.printed(Place::TlsStore, |options| declare::TlsStore {
                options: Options(options),
                ..declare::TlsStore::default()
            }),
            middlewares: ByName::new(),
            problems: Vec::new(),
        };
        for draft in self.grown.get(&Place::Middleware).into_iter().flat_map(BTreeMap::values) {
            let mut kinds = draft.value.names();
            if let (Some(only), None) = (kinds.next(), kinds.next())
                && !is_served_kind(only)
            {
                let message = format!(
                    "middleware `{}` is a `{only}`, which is known and not served yet; a router that names it is refused",
                    draft.name
                );
                self.problems.push(Diagnostic::warning("not_served", message).with_origin(draft.origin()));
            }
        }
        drafts.middlewares = self.printed(Place::Middleware, MiddlewareKind::of);
        drafts.problems = self.problems;
        drafts
    }

    /// Takes the definitions of a place, as trees in Traefik's form.
    fn printed<T>(&mut self, place: Place, make: impl Fn(Map<String, Value>) -> T) -> ByName<T> {
        let grown = self.grown.remove(&place).unwrap_or_default().into_iter();
        grown.map(|(folded, draft)| (folded, draft.map(|value| make(value.finish(Form::Printed))))).collect()
    }

    /// Takes the definitions of a place, as typed values.
    fn typed<T, U>(&mut self, place: Place, make: impl Fn(T, ServerDraft) -> U) -> ByName<U>
    where
        T: Default + DeserializeOwned,
    {
        let mut typed = ByName::new();
        for (folded, draft) in self.grown.remove(&place).unwrap_or_default() {
            let mut broken = draft.broken;
            let mut origin = draft.origin();
            let name = draft.name.clone();
            let mut done = draft.map(|value| {
                let mut map = value.finish(Form::Typed);
                let server =
                    map.get_mut("loadBalancer").and_then(Value::as_object_mut).and_then(|lb| lb.remove("server"));
                let server = server.map(serde_json::from_value).unwrap_or_else(|| Ok(ServerDraft::default()));
                let both = server.and_then(|server| Ok((serde_json::from_value(Value::Object(map))?, server)));
                let (typed, server) = both.unwrap_or_else(|e| {
                    broken = true;
                    let message = format!("`{name}` cannot be read: {e}");
                    self.problems
                        .push(Diagnostic::error("bad_value", message).with_origin(std::mem::take(&mut origin)));
                    Default::default()
                });
                make(typed, server)
            });
            done.broken = broken;
            typed.insert(folded, done);
        }
        typed
    }

    /// Takes the services of a place. One that is no load balancer is broken; what is broken gets
    /// servers all the same.
    fn services<T: Default + DeserializeOwned>(&mut self, place: Place) -> ByName<ServiceDraft<T>> {
        for draft in self.grown.get_mut(&place).into_iter().flat_map(BTreeMap::values_mut) {
            if !draft.broken && !draft.value.has("loadBalancer") {
                draft.broken = true;
                let message = format!(
                    "service `{}` is refused: it has no `loadBalancer`, and tags can declare no other kind",
                    draft.name
                );
                let problem = Diagnostic::error("not_a_load_balancer", message).with_origin(draft.origin());
                self.problems.push(problem);
            }
        }
        self.typed(place, |service, server| ServiceDraft { service, server })
    }
}

/// The part of dynamic configuration that a key belongs to. As in Traefik, what starts like a
/// section belongs to it (`httpx.…` is an error, not a remark), and of TLS only the default store.
fn section_of(key: &str) -> Option<&'static str> {
    let starts = |with: &str| key.get(..with.len()).is_some_and(|k| k.eq_ignore_ascii_case(with));
    ["http", "tcp", "udp"].into_iter().find(|s| starts(s)).or_else(|| starts("tls.stores.default").then_some("tls"))
}

/// The elements of a key; `domains[0]` is two, `domains` and `[0]`. The error is the empty element's place.
fn elements(key: &str) -> Result<Vec<&str>, &str> {
    let mut path = Vec::new();
    for part in key.split('.') {
        if part.is_empty() || part.starts_with('[') {
            return Err(part);
        }
        match part.find('[') {
            Some(at) if part.ends_with(']') => path.extend([&part[..at], &part[at..]]),
            _ => path.push(part),
        }
    }
    Ok(path)
}

/// The elements of a key that was read before, and the place that they belong to.
fn placed(key: &str) -> (Vec<&str>, Option<Place>) {
    let path = elements(key).unwrap_or_default();
    let place = section_of(key).and_then(|section| Place::of(section, path.get(1)?));
    (path, place)
}

/// The path behind the name, for messages.
fn below(path: &[&str]) -> String {
    path.get(3..).unwrap_or_default().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn drafts(tags: &[&str]) -> Drafts {
        let tags: Vec<Arc<str>> = tags.iter().map(|t| Arc::from(*t)).collect();
        let labels: Vec<Label<'_>> = tags.iter().filter_map(|t| Label::cut(t, "traefik", true)?.ok()).collect();
        read(&labels)
    }

    fn codes(drafts: &Drafts) -> Vec<&str> {
        drafts.problems.iter().map(|p| &*p.code).collect()
    }

    #[test]
    fn an_option_that_is_not_served_says_what_becomes_of_its_middleware() {
        let d = drafts(&[
            "traefik.http.middlewares.m.rateLimit.average=1",
            "traefik.http.middlewares.m.rateLimit.redis.endpoints=127.0.0.1:6379",
        ]);
        assert_eq!(codes(&d), ["not_served"]);
        let message = &d.problems[0].message;
        assert!(message.contains("so middleware `m` is refused"), "{message}");
    }

    #[test]
    fn options_in_any_case_belong_to_one_router() {
        let d = drafts(&[
            "traefik.HTTP.Routers.a.RULE=Host(`w`)",
            "traefik.http.ROUTERS.A.EntryPoints=web, websecure",
            "traefik.http.routers.a.TLS.CertResolver=le",
            "traefik.http.routers.a.tls.domains[1].main=b.example",
            "traefik.http.routers.a.tls.domains[0].main=a.example",
            "traefik.http.routers.a.tls.domains[0].sans=c.example,d.example",
        ]);
        assert_eq!(codes(&d), [] as [&str; 0]);
        assert_eq!(d.routers.len(), 1);
        let router = d.routers["a"].value.clone();
        assert_eq!(&*router.rule, "Host(`w`)");
        assert_eq!(router.entry_points, ["web".into(), "websecure".into()]);
        let tls = router.tls.unwrap();
        assert_eq!(&*tls.cert_resolver, "le");
        let mains: Vec<&str> = tls.domains.iter().map(|d| &*d.main).collect();
        assert_eq!(mains, ["a.example", "b.example"]);
        assert_eq!(tls.domains[0].sans.len(), 2);
    }

    #[test]
    fn tls_that_is_not_true_switches_the_section_off() {
        let d = drafts(&["traefik.http.routers.a.tls=no", "traefik.http.routers.a.tls.certresolver=le"]);
        assert_eq!(d.routers["a"].value.clone().tls, None);
        let d = drafts(&["traefik.http.routers.a.tls="]);
        assert!(d.routers["a"].value.clone().tls.is_some());
    }

    #[test]
    fn a_bad_option_breaks_its_own_definition_only_and_names_the_place() {
        let d = drafts(&[
            "traefik.http.routers.a.rule=Host(`a`)",
            "traefik.http.routers.a.priority=many",
            "traefik.http.routers.b.rule=Host(`b`)",
            "traefik.http.routers.c.entrypoint=web",
            "traefik.http.services.s.loadbalancer.server.wieght=1",
            "traefik.http..x=1",
        ]);
        assert_eq!(codes(&d), ["empty_path_element", "bad_value", "unknown_option", "unknown_option"]);
        assert!(d.routers["a"].broken && d.routers["c"].broken && d.services["s"].broken);
        assert!(!d.routers["b"].broken);
        assert_eq!(d.problems[1].origin.column, Some(33));
        assert_eq!(d.problems[2].origin.column, Some(24));
        assert_eq!(d.problems[2].help.as_deref(), Some("did you mean `entryPoints`?"));
        assert_eq!(d.problems[3].help.as_deref(), Some("did you mean `weight`?"));
    }

    #[test]
    fn no_remark_shows_a_secret() {
        let d = drafts(&[
            "traefik.http.services.s.loadbalancer.healthcheck.headers.Authorization=hunter2",
            "traefik.http.middlewares.f.forwardauth.tls.key=hunter2",
            "traefik.http.middlewares.p.plugin.own.deep=hunter2",
        ]);
        assert_eq!(codes(&d), ["not_served"; 2]);
        assert!(d.problems.iter().all(|p| !format!("{p:?}").contains("hunter2")), "{:?}", d.problems);
    }

    #[test]
    fn columns_count_characters() {
        let d = drafts(&["traefik.http.routers.ä.entrypoint=web"]);
        assert_eq!(d.problems[0].origin.column, Some(24));
    }

    #[test]
    fn what_is_not_served_is_a_warning_and_a_middleware_is_kept_as_declared() {
        let d = drafts(&[
            "traefik.http.routers.a.observability.metrics=false",
            "traefik.http.services.s.loadbalancer.sticky=true",
            "traefik.http.middlewares.m.basicauth.removeheader=true",
            "traefik.http.middlewares.m.basicauth.users=a:b",
            "traefik.http.middlewares.h.headers.customrequestheaders.X-Y=z",
            "traefik.http.middlewares.s.stripprefix.prefixes=/a,/b",
            "traefik.tcp.routers.db.rule=HostSNI(`*`)",
            "traefik.tcp.routers.db.tls=true",
        ]);
        assert!(d.problems.iter().all(|p| !p.is_error() && &*p.code == "not_served"), "{:?}", d.problems);
        assert_eq!(d.problems.len(), 1);
        assert!(!d.routers["a"].broken && !d.services["s"].broken && !d.tcp_routers["db"].broken);
        assert!(d.tcp_routers["db"].value.tls.is_some());
        let middleware = |name: &str| serde_json::to_value(&d.middlewares[name].value).unwrap();
        assert_eq!(middleware("m"), json!({"basicAuth": {"removeHeader": true, "users": ["a:b"]}}));
        assert_eq!(middleware("h"), json!({"headers": {"customRequestHeaders": {"X-Y": "z"}}}));
        assert!(d.problems.iter().all(|p| !p.to_string().contains("a:b")), "a diagnostic shows no secret");
        let strip = MiddlewareKind::StripPrefix { prefixes: vec!["/a".into(), "/b".into()] };
        assert_eq!(d.middlewares["s"].value, strip);
    }

    #[test]
    fn a_middleware_of_two_kinds_is_declared_and_a_service_is_a_load_balancer() {
        let d = drafts(&[
            "traefik.http.middlewares.m.addprefix.prefix=/x",
            "traefik.http.middlewares.m.stripprefix.prefixes=/y",
            "traefik.http.services.m.mirroring.service=a",
        ]);
        assert_eq!(codes(&d), ["not_a_load_balancer"]);
        assert!(!d.middlewares["m"].broken && d.services["m"].broken);
        let both = json!({"addPrefix": {"prefix": "/x"}, "stripPrefix": {"prefixes": ["/y"]}});
        assert_eq!(serde_json::to_value(&d.middlewares["m"].value).unwrap(), both);
    }

    #[test]
    fn keys_outside_of_the_configuration_are_remarked() {
        let d = drafts(&[
            "traefik.foo.bar=1",
            "traefik.enable=true",
            "traefik.htp.routers.a.rule=x",
            "traefik.tls.options.a.b=c",
        ]);
        assert_eq!(codes(&d), ["ignored_option", "ignored_option", "ignored_option"]);
        assert!(d.problems.iter().any(|p| p.help.as_deref() == Some("did you mean `http`?")));
    }
}
