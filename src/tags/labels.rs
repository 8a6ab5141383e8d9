//! Labels: the `prefix.path=value` tags of one registration, read against the option table into
//! drafts of routers, services and middlewares. A label that cannot be read breaks only the draft
//! that it belongs to, and says so with tag and column.
//!
//! Order and names are those of Traefik's label parser (<https://github.com/traefik/paerser>): keys
//! are sorted by their bytes, the last of equal keys counts, and names that differ only in case
//! are one name in the spelling of the first.

use super::apply::{Applied, MiddlewareDraft, RouterDraft, ServiceDraft};
use super::options::{Found, Target, find, nearest};
use crate::declare::{MiddlewareKind, NotServed};
use crate::diagnostic::{Diagnostic, Origin};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A tag of the prefix, cut at its `=`.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// The tag as registered.
    pub tag: &'a Arc<str>,
    /// What stands between `prefix.` and `=`.
    pub key: &'a str,
    /// What stands behind `=`.
    pub value: &'a str,
}

impl<'a> Label<'a> {
    /// Cuts a tag; `None` if it has another prefix. `trim` drops blanks around key and value, as
    /// Traefik does for Nomad and not for Consul. A tag without `=` is `Err`.
    pub fn cut(tag: &'a Arc<str>, prefix: &str, trim: bool) -> Option<Result<Self, Diagnostic>> {
        let rest = tag.strip_prefix(prefix)?.strip_prefix('.')?;
        let Some((key, value)) = rest.split_once('=') else {
            let problem = Diagnostic::warning("ignored_tag", format!("a `{prefix}.` tag without `=` does nothing"));
            return Some(Err(problem.with_origin(Origin { tag: Some(tag.clone()), ..Origin::default() })));
        };
        let (key, value) = if trim { (key.trim(), value.trim()) } else { (key, value) };
        Some(Ok(Self { tag, key, value }))
    }

    /// Where a part of the tag stands, in characters from 1.
    fn column(&self, part: &str) -> u32 {
        let offset = (part.as_ptr() as usize).saturating_sub(self.tag.as_ptr() as usize);
        let before = self.tag.get(..offset).map_or(0, |t| t.chars().count());
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    fn origin(&self, part: &str) -> Origin {
        Origin { tag: Some(self.shown()), column: Some(self.column(part)), ..Origin::default() }
    }

    /// The tag as messages may show it: without the value where that is a secret.
    fn shown(&self) -> Arc<str> {
        let last = self.key.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        if ["user", "password", "secret", "token"].iter().any(|s| last.contains(s))
            || self.key.to_ascii_lowercase().contains(".plugin.")
        {
            let head = self.tag.find('=').map_or(&**self.tag, |at| &self.tag[..=at]);
            return format!("{head}***").into();
        }
        self.tag.clone()
    }
}

/// A definition as far as it could be read.
#[derive(Debug, Clone)]
pub struct Draft<T> {
    /// Its name in the spelling of its first label.
    pub name: Arc<str>,
    /// What was read.
    pub value: T,
    /// Something of it could not be read.
    pub broken: bool,
    /// The tag to show for it: a router's rule, else its first.
    pub tag: Arc<str>,
}

/// Everything that the labels of one registration declare.
#[derive(Debug, Clone, Default)]
pub struct Drafts {
    /// Routers by folded name.
    pub routers: BTreeMap<String, Draft<RouterDraft>>,
    /// Services by folded name.
    pub services: BTreeMap<String, Draft<ServiceDraft>>,
    /// Middlewares by folded name.
    pub middlewares: BTreeMap<String, Draft<Option<MiddlewareKind>>>,
    /// TCP or UDP routers or services are declared: no HTTP service is made by itself.
    pub tcp_or_udp: bool,
    /// What could not be read, or is not served.
    pub problems: Vec<Diagnostic>,
}

#[derive(Default)]
struct MiddlewareParts {
    served: MiddlewareDraft,
    /// Kinds in Traefik's spelling; whether served.
    kinds: BTreeMap<String, bool>,
    options: BTreeMap<Arc<str>, Arc<str>>,
}

/// Reads the labels of one registration.
pub fn read(labels: &[Label<'_>]) -> Drafts {
    let mut reader = Reader::default();
    let mut last: BTreeMap<&str, &Label<'_>> = BTreeMap::new();
    for label in labels {
        last.insert(label.key, label);
    }
    for label in last.values() {
        reader.label(label);
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    drafts: Drafts,
    middlewares: BTreeMap<String, Draft<MiddlewareParts>>,
    load_balancers: BTreeSet<String>,
    not_served: BTreeSet<String>,
}

impl Reader {
    fn label(&mut self, label: &Label<'_>) {
        let Some(section) = section_of(label.key) else {
            self.outside(label);
            return;
        };
        let path = match elements(label.key) {
            Ok(path) => path,
            Err(part) => {
                let problem = Diagnostic::error("empty_path_element", format!("`{}` has an empty element", label.key));
                self.drafts.problems.push(problem.with_origin(label.origin(part)));
                return;
            }
        };
        let name = path.get(2).copied().unwrap_or_default();
        if matches!(section, "tcp" | "udp") && path.len() > 3 {
            let kind = path[1].to_ascii_lowercase();
            self.drafts.tcp_or_udp |= matches!(kind.as_str(), "routers" | "services");
        }
        match find(&path) {
            Found::Option(def) => {
                let value = match def.kind.parse(label.value) {
                    Ok(value) => value,
                    Err(e) => {
                        let problem = Diagnostic::error(e.code(), format!("`{}`: {e}", below(&path)));
                        self.refuse(section, &path, label, problem.with_origin(label.origin(label.value)));
                        return;
                    }
                };
                let index = path.iter().find_map(|p| p.strip_prefix('[')).map_or("", |p| p.trim_end_matches(']'));
                let applied = match (section, path.get(1).map(|p| p.to_ascii_lowercase()).as_deref(), def.target) {
                    ("http", Some("routers"), target) => {
                        let draft = draft(&mut self.drafts.routers, name, label);
                        match target {
                            Target::Router(apply) => {
                                if def.path.ends_with(".rule") {
                                    draft.tag = label.tag.clone();
                                }
                                apply(&mut draft.value, index, value)
                            }
                            _ => Ok(Applied::NotServed),
                        }
                    }
                    ("http", Some("services"), target) => {
                        let draft = draft(&mut self.drafts.services, name, label);
                        if path.get(3).is_some_and(|p| p.eq_ignore_ascii_case("loadBalancer")) {
                            self.load_balancers.insert(name.to_lowercase());
                        }
                        match target {
                            Target::Service(apply) => apply(&mut draft.value, index, value),
                            _ => Ok(Applied::NotServed),
                        }
                    }
                    ("http", Some("middlewares"), target) => {
                        let draft = draft(&mut self.middlewares, name, label);
                        let mut spelled = def.path.split('.').skip(3);
                        let kind = spelled.next().unwrap_or_default();
                        let served = draft.value.kinds.entry(kind.to_owned()).or_default();
                        match target {
                            Target::Middleware(apply) => {
                                *served = true;
                                apply(&mut draft.value.served, index, value)
                            }
                            _ => {
                                let option = option_path(&def.path, &path);
                                draft.value.options.insert(option, label.value.into());
                                // one remark for the whole middleware follows at the end
                                if SERVED_KINDS.contains(&kind) { Ok(Applied::NotServed) } else { Ok(Applied::Served) }
                            }
                        }
                    }
                    _ => {
                        self.other_not_served(section, &path, label);
                        return;
                    }
                };
                match applied {
                    Ok(Applied::Served) => {}
                    Ok(Applied::NotServed) if def.kind == super::options::Kind::Ignored => {}
                    Ok(Applied::NotServed) => {
                        let message = format!("`{}` is known and not served yet: {}", below(&path), def.doc);
                        let problem = Diagnostic::warning("not_served", message);
                        self.drafts.problems.push(problem.with_origin(label.origin(path[path.len() - 1])));
                    }
                    Err(message) => {
                        let problem = Diagnostic::error("bad_value", format!("`{}`: {message}", below(&path)));
                        self.refuse(section, &path, label, problem.with_origin(label.origin(label.value)));
                    }
                }
            }
            Found::Section => {
                let problem =
                    Diagnostic::error("unknown_option", format!("`{}` is a section and takes no value", label.key))
                        .with_origin(label.origin(label.key))
                        .with_help("name an option below it");
                self.refuse(section, &path, label, problem);
            }
            Found::Unknown { at, nearest } => {
                let message = format!("unknown option `{}` in `{}`", path[at], label.key);
                let mut problem = Diagnostic::error("unknown_option", message).with_origin(label.origin(path[at]));
                if let Some(nearest) = nearest {
                    problem = problem.with_help(format!("did you mean `{nearest}`?"));
                }
                self.refuse(section, &path, label, problem);
            }
        }
    }

    /// A problem that breaks the definition that the path belongs to.
    fn refuse(&mut self, section: &str, path: &[&str], label: &Label<'_>, problem: Diagnostic) {
        self.drafts.problems.push(problem);
        let Some(name) = path.get(2).copied() else { return };
        match (section, path[1].to_ascii_lowercase().as_str()) {
            ("http", "routers") => draft(&mut self.drafts.routers, name, label).broken = true,
            ("http", "middlewares") => draft(&mut self.middlewares, name, label).broken = true,
            ("http", "services") => {
                draft(&mut self.drafts.services, name, label).broken = true;
                // one word about it is enough
                self.load_balancers.insert(name.to_lowercase());
            }
            _ => {}
        }
    }

    /// TCP, UDP, transports and TLS stores: one remark for each definition.
    fn other_not_served(&mut self, section: &str, path: &[&str], label: &Label<'_>) {
        let what = path.iter().take(3).copied().collect::<Vec<_>>().join(".");
        if self.not_served.insert(what.to_lowercase()) {
            let message = format!("`{what}` is known and not served yet: there is no {section} {} from tags", path[1]);
            self.drafts.problems.push(Diagnostic::warning("not_served", message).with_origin(label.origin(label.key)));
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
        self.drafts.problems.push(problem.with_origin(label.origin(label.key)));
    }

    fn finish(mut self) -> Drafts {
        for (folded, service) in &mut self.drafts.services {
            if !self.load_balancers.contains(folded) {
                service.broken = true;
                let message =
                    format!("service `{}` has no `loadBalancer`; tags can declare no other kind", service.name);
                let origin = Origin { tag: Some(service.tag.clone()), ..Origin::default() };
                self.drafts.problems.push(Diagnostic::error("not_a_load_balancer", message).with_origin(origin));
            }
        }
        for (folded, parts) in self.middlewares {
            let Draft { name, value, mut broken, tag } = parts;
            let origin = Origin { tag: Some(tag.clone()), ..Origin::default() };
            let mut kind = None;
            let mut kinds = value.kinds.keys();
            match (kinds.next(), kinds.next()) {
                (Some(only), None) => {
                    if !SERVED_KINDS.contains(&only.as_str()) {
                        let message = format!(
                            "middleware `{name}` is a `{only}`, which is known and not served yet; a router that names it is refused"
                        );
                        self.drafts.problems.push(Diagnostic::warning("not_served", message).with_origin(origin));
                    }
                    kind = Some(middleware_kind(only, &value));
                }
                (Some(_), Some(_)) => {
                    broken = true;
                    let all: Vec<&str> = value.kinds.keys().map(String::as_str).collect();
                    let message = format!("middleware `{name}` must be of one kind, got `{}`", all.join("`, `"));
                    self.drafts.problems.push(Diagnostic::error("several_kinds", message).with_origin(origin));
                }
                (None, _) => broken = true,
            }
            self.drafts.middlewares.insert(folded, Draft { name, value: kind, broken, tag });
        }
        self.drafts
    }
}

const SERVED_KINDS: &[&str] = &["addPrefix", "stripPrefix", "redirectScheme"];

fn middleware_kind(kind: &str, parts: &MiddlewareParts) -> MiddlewareKind {
    let served = &parts.served;
    match kind {
        "addPrefix" => MiddlewareKind::AddPrefix { prefix: served.add_prefix.clone() },
        "stripPrefix" => MiddlewareKind::StripPrefix { prefixes: served.strip_prefixes.clone() },
        "redirectScheme" => MiddlewareKind::RedirectScheme {
            scheme: served.redirect_scheme.clone(),
            port: served.redirect_port.clone(),
            permanent: served.redirect_permanent,
        },
        _ => MiddlewareKind::NotServed(NotServed { kind: kind.into(), options: parts.options.clone() }),
    }
}

fn draft<'a, T: Default>(
    drafts: &'a mut BTreeMap<String, Draft<T>>,
    name: &str,
    label: &Label<'_>,
) -> &'a mut Draft<T> {
    drafts.entry(name.to_lowercase()).or_insert_with(|| Draft {
        name: name.into(),
        value: T::default(),
        broken: false,
        tag: label.shown(),
    })
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

/// The path behind the name, for messages.
fn below(path: &[&str]) -> String {
    path.get(3..).unwrap_or_default().join(".")
}

/// The path below a middleware's kind: Traefik's spelling, with the names that the person gave.
fn option_path(spelled: &str, path: &[&str]) -> Arc<str> {
    let mut names: Vec<&str> = spelled.split('.').collect();
    for (at, part) in path.iter().enumerate() {
        match names.get(at).copied() {
            Some("*") => names[at] = part,
            Some("**") | None => {
                names.truncate(at);
                names.extend(&path[at..]);
                break;
            }
            Some(_) => {}
        }
    }
    names.get(4..).unwrap_or_default().join(".").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(tags: &[&str]) -> Drafts {
        let tags: Vec<Arc<str>> = tags.iter().map(|t| Arc::from(*t)).collect();
        let labels: Vec<Label<'_>> = tags.iter().filter_map(|t| Label::cut(t, "traefik", true)?.ok()).collect();
        read(&labels)
    }

    fn codes(drafts: &Drafts) -> Vec<&str> {
        drafts.problems.iter().map(|p| &*p.code).collect()
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
        let router = d.routers["a"].value.clone().finish();
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
        assert_eq!(d.routers["a"].value.clone().finish().tls, None);
        let d = drafts(&["traefik.http.routers.a.tls="]);
        assert!(d.routers["a"].value.clone().finish().tls.is_some());
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
        assert_eq!(d.problems.len(), 5);
        assert!(d.tcp_or_udp && !d.routers["a"].broken && !d.services["s"].broken);
        let Some(MiddlewareKind::NotServed(m)) = &d.middlewares["m"].value else { panic!("{:?}", d.middlewares["m"]) };
        assert_eq!((&*m.kind, &*m.options["removeHeader"], &*m.options["users"]), ("basicAuth", "true", "a:b"));
        let Some(MiddlewareKind::NotServed(h)) = &d.middlewares["h"].value else { panic!() };
        assert_eq!(&*h.options["customRequestHeaders.X-Y"], "z");
        assert!(d.problems.iter().all(|p| !p.to_string().contains("a:b")), "a diagnostic shows no secret");
        assert_eq!(
            d.middlewares["s"].value,
            Some(MiddlewareKind::StripPrefix { prefixes: vec!["/a".into(), "/b".into()] })
        );
    }

    #[test]
    fn one_middleware_has_one_kind_and_a_service_is_a_load_balancer() {
        let d = drafts(&[
            "traefik.http.middlewares.m.addprefix.prefix=/x",
            "traefik.http.middlewares.m.stripprefix.prefixes=/y",
            "traefik.http.services.m.mirroring.service=a",
        ]);
        assert_eq!(codes(&d), ["not_a_load_balancer", "several_kinds"]);
        assert!(d.middlewares["m"].broken && d.services["m"].broken);
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
