//! The JSON shapes of TCP routers, services and middlewares, as Traefik shows them.

use super::page::Item;
use super::views::{Kind, object, provider_of, qualified};
use super::{Routing, Source};
use crate::table::tcp::{Service, ServiceKind};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who uses what: names of routers by service and by middleware.
fn uses(routing: &Routing) -> BTreeMap<(Kind, String), BTreeSet<Arc<str>>> {
    let mut uses: BTreeMap<_, BTreeSet<Arc<str>>> = BTreeMap::new();
    for router in routing.tcp.routers.values() {
        let mut add = |kind, id: &str| {
            uses.entry((kind, id.to_owned())).or_default().insert(router.id.clone());
        };
        add(Kind::Services, &router.service.id);
        router.middlewares.iter().for_each(|middleware| add(Kind::Middlewares, &middleware.id));
    }
    for refused in &routing.tcp_refused {
        let service = qualified(&refused.router.service, refused.provider);
        uses.entry((Kind::Services, service)).or_default().insert(refused.id.clone());
    }
    uses
}

fn routers(routing: &Routing) -> BTreeMap<Arc<str>, Item> {
    let mut all = BTreeMap::new();
    for refused in &routing.tcp_refused {
        let mut item = object(serde_json::to_value(&*refused.router).unwrap_or_default());
        item.insert("priority".to_owned(), json!(refused.router.priority));
        let unknown = ["refused".to_owned()];
        let errors = if refused.errors.is_empty() { &unknown[..] } else { &refused.errors };
        item.insert("error".to_owned(), json!(errors));
        item.insert("status".to_owned(), json!("disabled"));
        all.insert(refused.id.clone(), item);
    }
    for (id, router) in &routing.tcp.routers {
        let mut item = Item::new();
        item.insert("entryPoints".to_owned(), json!(router.entry_points));
        // A definition of plain texts always serialises.
        for (key, value) in object(serde_json::to_value(&*router.declared).unwrap_or_default()) {
            item.entry(key).or_insert(value);
        }
        let mut using = router.entry_points.clone();
        using.sort_unstable();
        item.insert("priority".to_owned(), json!(router.priority));
        item.insert("status".to_owned(), json!("enabled"));
        item.insert("using".to_owned(), json!(using));
        all.insert(id.clone(), item);
    }
    all
}

fn service(service: &Service, source: &dyn Source) -> Item {
    let mut item = object(serde_json::to_value(&*service.declared).unwrap_or_default());
    if let (ServiceKind::Servers(of), Some(balancer)) = (&service.kind, item.get_mut("loadBalancer")) {
        let servers = of.servers.iter().map(|server| match server.tls {
            true => json!({"address": server.address, "tls": true}),
            false => json!({"address": server.address}),
        });
        balancer["servers"] = servers.collect();
        let up = |up: bool| json!(if up { "UP" } else { "DOWN" });
        let status = of.servers.iter().map(|server| (server.address.to_string(), up(source.server_up(&server.id))));
        if !of.servers.is_empty() {
            item.insert("serverStatus".to_owned(), status.collect());
        }
    }
    item
}

/// By qualified name.
pub(super) fn by_name(kind: Kind, routing: &Routing, source: &dyn Source) -> BTreeMap<Arc<str>, Item> {
    let tcp = &routing.tcp;
    let mut all: BTreeMap<Arc<str>, Item> = match kind {
        Kind::Routers => return routers(routing),
        Kind::Services => tcp.services.iter().map(|(id, of)| (id.clone(), service(of, source))).collect(),
        Kind::Middlewares => {
            let item =
                |of: &crate::table::tcp::Middleware| object(serde_json::to_value(&*of.declared).unwrap_or_default());
            tcp.middlewares.iter().map(|(id, of)| (id.clone(), item(of))).collect()
        }
    };
    let uses = uses(routing);
    for (id, item) in &mut all {
        item.insert("status".to_owned(), json!("enabled"));
        if let Some(by) = uses.get(&(kind, id.to_string())) {
            item.insert("usedBy".to_owned(), json!(by));
        }
    }
    all
}

/// Items with name and provider, as in `/api/tcp/…`; all, or the one of that name.
pub(super) fn items(kind: Kind, source: &dyn Source, name: Option<&str>) -> Vec<Item> {
    let all = by_name(kind, &source.routing(), source);
    let wanted = all.into_iter().filter(|(id, _)| name.is_none_or(|name| **id == *name));
    let full = |(id, mut item): (Arc<str>, Item)| {
        let known = ["loadBalancer", "weighted"];
        let first = item.keys().find(|key| kind == Kind::Middlewares || known.contains(&key.as_str())).cloned();
        item.insert("name".to_owned(), json!(id));
        item.insert("provider".to_owned(), json!(provider_of(&id)));
        match kind {
            Kind::Routers => {
                let priority = item.get("priority").map(ToString::to_string);
                item.insert("priorityStr".to_owned(), json!(priority));
            }
            Kind::Services | Kind::Middlewares => {
                item.insert("type".to_owned(), json!(first.unwrap_or_default().to_lowercase()));
            }
        }
        item
    };
    wanted.map(full).collect()
}

/// The part of `/api/overview`.
pub(super) fn overview(routing: &Routing) -> Value {
    let counts = |total: usize, errors: usize| json!({"total": total, "warnings": 0, "errors": errors});
    let (tcp, refused) = (&routing.tcp, routing.tcp_refused.len());
    json!({
        "routers": counts(tcp.routers.len() + refused, refused),
        "services": counts(tcp.services.len(), 0),
        "middlewares": counts(tcp.middlewares.len(), 0),
    })
}
