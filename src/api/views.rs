//! The JSON shapes of the API: Traefik's representations of routers, services, middlewares and
//! entry points, made from our values. No secret comes through here: user information in URLs and
//! the options of middlewares that are not served are masked.

use super::page::Item;
use super::tcp_views;
use super::{Connections, Options, Refused, Routing, Source};
use crate::catalog::SourceStatus;
use crate::config::EntryPoint;
use crate::declare::{self, MiddlewareKind};
use crate::explain::masked;
use crate::model::{Provider, format_duration};
use crate::table;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) fn as_rfc3339<S: serde::Serializer>(t: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&jiff::Timestamp::try_from(*t).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// A URL without what stands before `@` in its authority.
fn without_user(url: &str) -> Cow<'_, str> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        Some(at) => Cow::Owned(format!("{}***{}", &url[..start], &url[start + at..])),
        None => Cow::Borrowed(url),
    }
}

/// The provider behind the `@` of a qualified name.
pub(super) fn provider_of(id: &str) -> &str {
    id.rsplit_once('@').map_or("", |(_, provider)| provider)
}

pub(super) fn qualified(name: &str, provider: Provider) -> String {
    if name.contains('@') { name.to_owned() } else { format!("{name}@{provider}") }
}

/// Puts fields at the end in order; a value of another kind stays empty.
pub(super) fn object(value: Value) -> Item {
    match value {
        Value::Object(item) => item,
        _ => Item::new(),
    }
}

fn router_item(declared: &declare::Router, entry_points: &[Arc<str>], priority: i64, errors: &[String]) -> Item {
    let mut item = Item::new();
    let mut using: Vec<&Arc<str>> = entry_points.iter().collect();
    using.sort_unstable();
    if !entry_points.is_empty() {
        item.insert("entryPoints".to_owned(), json!(entry_points));
    }
    // A definition of plain texts always serialises.
    for (key, value) in object(serde_json::to_value(declared).unwrap_or_default()) {
        item.entry(key).or_insert(value);
    }
    item.insert("priority".to_owned(), json!(priority));
    let observability = json!({"accessLogs": true, "metrics": true, "tracing": false, "traceVerbosity": "minimal"});
    item.insert("observability".to_owned(), observability);
    if !errors.is_empty() {
        item.insert("error".to_owned(), json!(errors));
    }
    item.insert("status".to_owned(), json!(if errors.is_empty() { "enabled" } else { "disabled" }));
    if !using.is_empty() {
        item.insert("using".to_owned(), json!(using));
    }
    item
}

fn router(router: &table::Router) -> Item {
    router_item(&router.declared, &router.entry_points, router.priority, &[])
}

fn refused(refused: &Refused) -> Item {
    let declared = &refused.router;
    let priority = if declared.priority == 0 { declared.rule.len() as i64 } else { declared.priority };
    let unknown = ["refused".to_owned()];
    let errors = if refused.errors.is_empty() { &unknown[..] } else { &refused.errors };
    router_item(declared, &declared.entry_points, priority, errors)
}

/// Who uses what: names of routers by service and by middleware.
#[derive(Default)]
struct Uses {
    services: BTreeMap<String, BTreeSet<Arc<str>>>,
    middlewares: BTreeMap<String, BTreeSet<Arc<str>>>,
}

impl Uses {
    fn of(routing: &Routing) -> Self {
        let mut uses = Self::default();
        for router in &routing.routers {
            uses.services.entry(router.service.id.to_string()).or_default().insert(router.id.clone());
            for middleware in router.all_middlewares() {
                uses.middlewares.entry(middleware.id.to_string()).or_default().insert(router.id.clone());
            }
        }
        for refused in &routing.refused {
            let service = qualified(&refused.router.service, refused.provider);
            uses.services.entry(service).or_default().insert(refused.id.clone());
            for middleware in &refused.router.middlewares {
                let middleware = qualified(middleware, refused.provider);
                uses.middlewares.entry(middleware).or_default().insert(refused.id.clone());
            }
        }
        uses
    }
}

fn service(service: &table::Service, uses: &Uses, source: &dyn Source) -> Item {
    let server = |server: &Arc<table::Server>| {
        let mut item = Item::new();
        item.insert("url".to_owned(), json!(without_user(&server.id.url)));
        if server.weight != 1 {
            item.insert("weight".to_owned(), json!(server.weight));
        }
        item
    };
    let status = |server: &Arc<table::Server>| {
        let up = if source.server_up(&server.id) { "UP" } else { "DOWN" };
        (without_user(&server.id.url).into_owned(), json!(up))
    };
    // As in Traefik, a sticky cookie without a name is shown with the one that it has.
    let sticky = service.sticky.as_ref().map(|sticky| {
        let cookie = declare::Cookie { name: sticky.name.clone(), ..sticky.declared.clone() };
        json!({ "cookie": cookie })
    });
    if let Some(composite) = &service.composite {
        return composed(service, composite, sticky, uses);
    }
    let mut item = object(json!({
        "loadBalancer": {
            "servers": service.servers.iter().map(server).collect::<Vec<_>>(),
            "strategy": service.strategy,
            "passHostHeader": service.pass_host_header,
        },
        "status": "enabled",
    }));
    if let (Some(transport), Some(balancer)) = (&service.transport, item.get_mut("loadBalancer")) {
        balancer["serversTransport"] = json!(transport.id);
    }
    if let (Some(sticky), Some(balancer)) = (sticky, item.get_mut("loadBalancer")) {
        balancer["sticky"] = sticky;
    }
    if let Some(balancer) = item.get_mut("loadBalancer") {
        if let Some(health) = &service.health {
            balancer["healthCheck"] = health_check(&health.declared);
        }
        if let Some(passive) = &service.passive {
            balancer["passiveHealthCheck"] = json!(passive.declared());
        }
        if let Some(limit) = &service.limit {
            let mut declared = declare::LoadBalancer::default();
            limit.declare(&mut declared);
            balancer["rustLbMaxRequests"] = json!(declared.rust_lb_max_requests);
            for (option, said) in [
                ("rustLbMaxQueue", declared.rust_lb_max_queue.map(|queue| json!(queue))),
                ("rustLbQueueTimeout", declared.rust_lb_queue_timeout.map(|wait| json!(wait))),
            ] {
                if let Some(said) = said {
                    balancer[option] = said;
                }
            }
        }
    }
    if let Some(used_by) = uses.services.get(&*service.id) {
        item.insert("usedBy".to_owned(), json!(used_by));
    }
    if !service.servers.is_empty() {
        item.insert("serverStatus".to_owned(), service.servers.iter().map(status).collect());
    }
    item
}

/// A service that is made of others, as it was declared.
fn composed(service: &table::Service, composite: &table::Composite, sticky: Option<Value>, uses: &Uses) -> Item {
    let mut item = object(serde_json::to_value(&composite.declared).unwrap_or_default());
    if let (Some(sticky), Some(weighted)) = (sticky, item.get_mut("weighted")) {
        weighted["sticky"] = sticky;
    }
    item.insert("status".to_owned(), json!("enabled"));
    if let Some(used_by) = uses.services.get(&*service.id) {
        item.insert("usedBy".to_owned(), json!(used_by));
    }
    item
}

/// A check as declared; the values of its fields may be secret.
fn health_check(declared: &declare::HealthCheck) -> Value {
    let headers = declared.headers.keys().map(|name| (name.clone(), "***".into())).collect();
    json!(declare::HealthCheck { headers, ..declared.clone() })
}

fn middleware(middleware: &table::Middleware, uses: &Uses) -> Item {
    let mut item = match &middleware.kind {
        MiddlewareKind::NotServed(kind) => {
            let masked: BTreeMap<_, _> = kind.options.keys().map(|option| (option, "***")).collect();
            object(json!({ &*kind.kind: masked }))
        }
        kind => object(masked(serde_json::to_value(kind).unwrap_or_default())),
    };
    item.insert("status".to_owned(), json!("enabled"));
    if let Some(used_by) = uses.middlewares.get(&*middleware.id) {
        item.insert("usedBy".to_owned(), json!(used_by));
    }
    item
}

/// What may be listed under `/api/http/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Routers,
    Services,
    Middlewares,
}

impl Kind {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "routers" => Some(Self::Routers),
            "services" => Some(Self::Services),
            "middlewares" => Some(Self::Middlewares),
            _ => None,
        }
    }

    /// One of them, in messages.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Routers => "router",
            Self::Services => "service",
            Self::Middlewares => "middleware",
        }
    }
}

/// By qualified name, as in `/api/rawdata`.
fn by_name(kind: Kind, routing: &Routing, source: &dyn Source) -> BTreeMap<Arc<str>, Item> {
    let uses = Uses::of(routing);
    match kind {
        Kind::Routers => {
            let refused = routing.refused.iter().map(|r| (r.id.clone(), refused(r)));
            // A router that acts hides one of its name that does not.
            refused.chain(routing.routers.iter().map(|r| (r.id.clone(), router(r)))).collect()
        }
        Kind::Services => routing.services.iter().map(|s| (s.id.clone(), service(s, &uses, source))).collect(),
        Kind::Middlewares => routing.middlewares.iter().map(|m| (m.id.clone(), middleware(m, &uses))).collect(),
    }
}

/// Items with name and provider, as in `/api/http/…`; all, or the one of that name.
pub(super) fn items(kind: Kind, source: &dyn Source, name: Option<&str>) -> Vec<Item> {
    let all = by_name(kind, &source.routing(), source);
    let wanted = all.into_iter().filter(|(id, _)| name.is_none_or(|name| **id == *name));
    let full = |(id, mut item): (Arc<str>, Item)| {
        let first = item.keys().next().cloned().unwrap_or_default();
        item.insert("name".to_owned(), json!(id));
        item.insert("provider".to_owned(), json!(provider_of(&id)));
        match kind {
            Kind::Routers => {
                let priority = item.get("priority").map(ToString::to_string);
                item.insert("priorityStr".to_owned(), json!(priority));
            }
            Kind::Services | Kind::Middlewares => {
                item.insert("type".to_owned(), json!(first.to_lowercase()));
            }
        }
        item
    };
    wanted.map(full).collect()
}

/// `/api/rawdata`: Traefik's shape, and how the providers stand.
pub(super) fn raw_data(source: &dyn Source) -> Value {
    let routing = source.routing();
    let mut item = Item::new();
    let sections = [("routers", Kind::Routers), ("middlewares", Kind::Middlewares), ("services", Kind::Services)];
    for (key, kind) in sections {
        let section = by_name(kind, &routing, source);
        if !section.is_empty() {
            item.insert(key.to_owned(), json!(section));
        }
    }
    let sections =
        [("tcpRouters", Kind::Routers), ("tcpMiddlewares", Kind::Middlewares), ("tcpServices", Kind::Services)];
    for (key, kind) in sections {
        let section = tcp_views::by_name(kind, &routing, source);
        if !section.is_empty() {
            item.insert(key.to_owned(), json!(section));
        }
    }
    let now = SystemTime::now();
    let provider = |status: SourceStatus| {
        let mut shown = object(json!(status));
        shown.insert("age".to_owned(), json!(status.age(now).map(seconds)));
        (status.provider.as_str(), shown)
    };
    let providers: BTreeMap<_, _> = source.statuses().into_iter().map(provider).collect();
    item.insert("providers".to_owned(), json!(providers));
    Value::Object(item)
}

/// With the precision that a person reads.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

fn provider_word(provider: Provider) -> &'static str {
    match provider {
        Provider::Internal => "Internal",
        Provider::File => "File",
        Provider::Rest => "Rest",
        Provider::Nomad => "Nomad",
        Provider::ConsulCatalog => "ConsulCatalog",
    }
}

/// `/api/overview`.
pub(super) fn overview(source: &dyn Source, options: &Options) -> Value {
    let routing = source.routing();
    let certificates = source.certificates();
    let counts = |total: usize, errors: usize| json!({"total": total, "warnings": 0, "errors": errors});
    let none = json!({"routers": counts(0, 0), "services": counts(0, 0), "middlewares": counts(0, 0)});
    let mut udp = none.clone();
    if let Some(udp) = udp.as_object_mut() {
        udp.remove("middlewares");
    }
    let broken = certificates.iter().filter(|certificate| certificate.problem.is_some()).count();
    let providers: Vec<_> = source.statuses().iter().map(|status| provider_word(status.provider)).collect();
    json!({
        "http": {
            "routers": counts(routing.routers.len() + routing.refused.len(), routing.refused.len()),
            "services": counts(routing.services.len(), 0),
            "middlewares": counts(routing.middlewares.len(), 0),
        },
        "tcp": tcp_views::overview(&routing),
        "udp": udp,
        "certificates": counts(certificates.len(), broken),
        "features": {
            "tracing": "",
            "metrics": if options.metrics { "Prometheus" } else { "" },
            "accessLog": options.access_log,
        },
        "providers": providers,
    })
}

/// `/api/version`.
pub(super) fn version(options: &Options) -> Value {
    let started = jiff::Timestamp::try_from(options.started).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    json!({"Version": env!("CARGO_PKG_VERSION"), "Codename": "rust-lb", "startDate": started.to_string()})
}

fn entry_point(entry_point: &EntryPoint, bound: &[SocketAddr]) -> Item {
    let times = |pairs: &[(&str, Duration)]| -> Item {
        let set = pairs.iter().filter(|(_, d)| !d.is_zero());
        set.map(|(key, d)| ((*key).to_owned(), json!(format_duration(*d)))).collect()
    };
    let (life, timeouts) = (&entry_point.lifecycle, &entry_point.timeouts);
    let mut forwarded = Item::new();
    if entry_point.forwarded_headers.insecure {
        forwarded.insert("insecure".to_owned(), json!(true));
    }
    if !entry_point.forwarded_headers.trusted_ips.is_empty() {
        let networks: Vec<_> = entry_point.forwarded_headers.trusted_ips.iter().map(ToString::to_string).collect();
        forwarded.insert("trustedIPs".to_owned(), json!(networks));
    }
    let head = &entry_point.head;
    for (key, said) in
        [("notAppendXForwardedFor", head.not_append_forwarded_for), ("addXForwardedSchemeHeaders", head.scheme_headers)]
    {
        if said {
            forwarded.insert(key.to_owned(), json!(true));
        }
    }
    if !head.connection.is_empty() {
        forwarded.insert("connection".to_owned(), json!(head.connection));
    }
    let mut http = object(json!({"sanitizePath": head.sanitize_path, "maxHeaderBytes": entry_point.max_header_bytes}));
    if !entry_point.middlewares.is_empty() {
        http.insert("middlewares".to_owned(), json!(entry_point.middlewares));
    }
    if head.encode_query_semicolons {
        http.insert("encodeQuerySemicolons".to_owned(), json!(true));
    }
    if head.underscores != "keep" {
        http.insert("underscoreHeadersStrategy".to_owned(), json!(head.underscores));
    }
    if !head.denied_characters.is_empty() {
        let denied = head.denied_characters.iter().map(|name| (format!("allowEncoded{name}"), json!(false)));
        http.insert("encodedCharacters".to_owned(), Value::Object(denied.collect()));
    }
    if entry_point.tls {
        http.insert("tls".to_owned(), json!({}));
    }
    if let Some(redirect) = &entry_point.redirect {
        let to = json!({"to": redirect.to, "scheme": redirect.scheme, "permanent": redirect.permanent});
        http.insert("redirections".to_owned(), json!({ "entryPoint": to }));
    }
    let mut item = object(json!({
        "address": format!("{}:{}", entry_point.address.host, entry_point.address.port),
        "transport": {
            "lifeCycle": times(&[
                ("requestAcceptGraceTimeout", life.request_accept_grace),
                ("graceTimeOut", life.grace),
            ]),
            "respondingTimeouts": times(&[
                ("readTimeout", timeouts.read),
                ("writeTimeout", timeouts.write),
                ("idleTimeout", timeouts.idle),
            ]),
        },
        "forwardedHeaders": forwarded,
        "http": http,
        "http2": {"maxConcurrentStreams": entry_point.max_concurrent_streams},
        "name": entry_point.name,
        "bound": bound,
    }));
    if entry_point.as_default {
        item.insert("asDefault".to_owned(), json!(true));
    }
    item
}

/// `/api/entrypoints`; all, or the one of that name.
pub(super) fn entry_points(source: &dyn Source, name: Option<&str>) -> Vec<Item> {
    let bound = source.bound();
    let all = source.entry_points();
    let wanted = all.iter().filter(|e| name.is_none_or(|name| *e.name == *name));
    wanted.map(|e| entry_point(e, bound.get(&e.name).map_or(&[], Vec::as_slice))).collect()
}

/// `/api/connections`.
pub(super) fn connections(mut connections: Connections) -> Value {
    let mut entry_points: BTreeMap<Arc<str>, BTreeMap<&str, i64>> = BTreeMap::new();
    for open in connections.entry_points {
        entry_points.entry(open.entry_point).or_default().insert(open.protocol, open.open);
    }
    for server in &mut connections.servers {
        server.url = without_user(&server.url).into();
    }
    connections.servers.sort();
    let routers: BTreeMap<_, _> = connections.routers.into_iter().collect();
    json!({"entryPoints": entry_points, "routers": routers, "servers": connections.servers})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_is_masked() {
        assert_eq!(without_user("http://u:p@h:1/x@y"), "http://***@h:1/x@y");
        assert_eq!(without_user("http://h:1/x@y"), "http://h:1/x@y");
        assert_eq!(without_user("u:p@x@h"), "***@h");
    }
}
