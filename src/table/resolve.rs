//! From declared services and middlewares to those of a table: URLs are taken apart, what cannot
//! be dialled is refused by itself.

use super::health::{self, Remarks};
use super::{Limit, Middleware, Server, Service, Sticky, Transport};
use crate::declare::{self, MiddlewareKind, Strategy};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::{Provider, ServerId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `name@provider`.
pub(super) fn qualified(name: &str, provider: Provider) -> Arc<str> {
    format!("{name}@{provider}").into()
}

/// Takes a reference apart: an unqualified name belongs to the provider that names it. `None` for
/// a provider that does not exist.
pub(super) fn reference(text: &str, from: Provider) -> Option<(Provider, &str)> {
    match text.rsplit_once('@') {
        None => Some((from, text)),
        Some((name, _)) => super::table::provider_of(text).map(|provider| (provider, name)),
    }
}

/// Where a definition says `option`, with the place of what it says; where the definition stands, if nothing says it.
pub(super) fn origin_of(source: &declare::Source, provider: Provider, option: &str) -> Origin {
    let says = |tag: &&Arc<str>| {
        let key = tag.split('=').next().unwrap_or_default().trim_end();
        key.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(option))
    };
    let mut origin = origin(source, provider);
    if let Some(place) = &source.place {
        let (line, column) = place.of(option);
        (origin.line, origin.column) = (Some(line), Some(column));
    }
    // a prefix has its options in the one tag: `urlprefix-a/ auth=team`
    if source.dialect == declare::Dialect::Urlprefix && option == "middlewares" {
        let at = source.tag.find(" auth=").map(|at| at + " auth=".len());
        let before = at.and_then(|at| source.tag.get(..at)).map(|before| before.chars().count() + 1);
        origin.column = before.and_then(|column| u32::try_from(column).ok());
    }
    if let Some(tag) = source.options.iter().find(says) {
        let key = tag.split('=').next().unwrap_or_default().chars().count();
        origin.column = u32::try_from(key + 2).ok();
        origin.tag = Some(tag.clone());
    }
    origin
}

/// The place of a declaration, for diagnostics.
pub(super) fn origin(source: &declare::Source, provider: Provider) -> Origin {
    let some = |t: &Arc<str>| Some(t.clone()).filter(|t| !t.is_empty());
    Origin {
        provider: Some(provider.as_str().into()),
        namespace: some(&source.namespace),
        service: some(&source.service),
        instance: some(&source.instance),
        tag: some(&source.tag),
        file: source.place.as_ref().map(|place| place.file.clone()),
        line: source.place.as_ref().map(|place| place.at.0),
        column: source.place.as_ref().map(|place| place.at.1),
    }
}

/// Resolves a service. Servers that it has in common with `old` keep their `Arc`, and so does the
/// service itself if nothing changed.
pub(super) fn service<'o>(
    name: &str,
    provider: Provider,
    declared: &declare::Service,
    transport: Option<Arc<Transport>>,
    old: Option<&'o Arc<Service>>,
) -> (Arc<Service>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let id = old.map_or_else(|| qualified(name, provider), |o| o.id.clone());
    let load_balancer = declared.load_balancer.clone().unwrap_or_default();
    let mut servers: BTreeMap<Arc<str>, Arc<Server>> = BTreeMap::new();
    for declared_server in &load_balancer.servers {
        let weight = declared_server.weight.unwrap_or(1);
        let preserve = declared_server.preserve_path;
        let same = |s: &&Arc<Server>| s.weight == weight && s.base.is_some() == preserve;
        let known = |old: &'o Arc<Service>| {
            let at = old.servers.binary_search_by(|server| server.id.url.cmp(&declared_server.url)).ok()?;
            old.servers.get(at)
        };
        if let Some(kept) = old.and_then(known).filter(same) {
            servers.entry(kept.id.url.clone()).or_insert_with(|| kept.clone());
            continue;
        }
        match server(&declared_server.url, weight, preserve, &id) {
            Ok(server) => {
                servers.entry(server.id.url.clone()).or_insert_with(|| Arc::new(server));
            }
            Err(why) => {
                let url = &declared_server.url;
                let shown = match url.rsplit_once('@') {
                    Some((_, host)) => format!("***@{host}"),
                    None => url.to_string(),
                };
                let message = format!("service `{name}`: the server `{shown}` gets no requests: {why}");
                let says = |option: &str| {
                    let origin = origin_of(&declared.source, provider, option);
                    origin.column.is_some().then_some(origin)
                };
                let origin = says("port").or_else(|| says("url")).or_else(|| says("scheme"));
                let origin = origin.unwrap_or_else(|| self::origin(&declared.source, provider));
                problems.push(Diagnostic::error("bad_server_url", message).with_origin(origin));
            }
        }
    }
    let cookie = load_balancer.sticky.as_ref().and_then(|sticky| sticky.cookie.as_ref());
    let mut remarks = Remarks { name, source: &declared.source, provider, problems: &mut problems };
    let health = load_balancer.health_check.as_ref().and_then(|check| health::health(check, &mut remarks));
    let passive = load_balancer.passive_health_check.as_ref().and_then(|rule| health::passive(rule, &mut remarks));
    let limit = Limit::of(&load_balancer, &mut remarks);
    let service = Service {
        sticky: cookie.map(|cookie| Arc::new(Sticky::new(&id, cookie))),
        id,
        servers: servers.into_values().collect(),
        strategy: match load_balancer.strategy {
            // nothing is said, or what was refused before
            Strategy::Other(_) => Strategy::Wrr,
            said => said,
        },
        pass_host_header: load_balancer.pass_host_header,
        transport,
        composite: None,
        health: health.map(Arc::new),
        passive,
        limit,
    };
    match old {
        Some(old) if **old == service => (old.clone(), problems),
        _ => (Arc::new(service), problems),
    }
}

/// A server of its URL, whose path counts only where it is to be preserved
/// (<https://doc.traefik.io/traefik/reference/routing-configuration/http/load-balancing/service/>).
fn server(url: &str, weight: u32, preserve_path: bool, service: &Arc<str>) -> Result<Server, String> {
    let uri: http::Uri = url.parse().map_err(|_| "that is not a URL such as `http://host:port`".to_owned())?;
    let (scheme, tls) = match uri.scheme_str() {
        Some("http") => ("http", false),
        Some("https") => ("https", true),
        // HTTP/2 without TLS, known to be spoken: what gRPC servers want.
        Some("h2c") => ("h2c", false),
        Some(other) => return Err(format!("expected the scheme `http`, `https` or `h2c`, got `{other}`")),
        None => return Err("expected a URL such as `http://host:port`".to_owned()),
    };
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("it holds a user name".to_owned());
    }
    let host = authority.host();
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    let port = match authority.port_u16() {
        Some(0) => return Err("its port is 0".to_owned()),
        Some(port) => port,
        None if authority.as_str().len() > host.len() => return Err("its port is not one".to_owned()),
        None => 80 + u16::from(tls) * 363,
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let base = if preserve_path { uri.path().strip_suffix('/').unwrap_or(uri.path()) } else { "" };
    Ok(Server {
        base: (!base.is_empty()).then(|| base.into()),
        id: ServerId { service: service.clone(), url: format!("{scheme}://{authority}{base}").into() },
        tls,
        h2c: scheme == "h2c",
        host: bare.into(),
        port,
        authority: format!("{host}:{port}").into(),
        weight,
    })
}

/// Why a middleware is not in a table.
pub(super) enum Unfit {
    /// Its kind is not served yet.
    NotServed(Arc<str>),
    /// An option of it cannot be used, and why.
    Bad(String),
}

/// Resolves a middleware.
pub(super) fn middleware(
    name: &str,
    provider: Provider,
    declared: &declare::Middleware,
    old: Option<&Arc<Middleware>>,
) -> Result<Arc<Middleware>, Unfit> {
    let kind = acting(&declared.kind)?;
    match old {
        Some(old) if old.kind == kind => Ok(old.clone()),
        _ => Middleware::new(qualified(name, provider), kind).map(Arc::new).map_err(Unfit::Bad),
    }
}

/// What acts of what is declared.
fn acting(declared: &MiddlewareKind) -> Result<MiddlewareKind, Unfit> {
    let MiddlewareKind::NotServed(not_served) = declared else { return Ok(declared.clone()) };
    match &*not_served.kind {
        // declared by Traefik, too, and refused when it is built
        "" => {
            let kinds: Vec<&str> = not_served.options.keys().map(String::as_str).collect();
            Err(Unfit::Bad(format!("it must be of one kind, got `{}`", kinds.join("`, `"))))
        }
        // `forceSlash` is deprecated and changes little: the middleware acts without it
        "stripPrefix" => {
            let mut options = not_served.options.0.clone();
            options.remove("forceSlash");
            let kinds = std::iter::once(("stripPrefix".to_owned(), options.into())).collect();
            match MiddlewareKind::of(kinds) {
                MiddlewareKind::NotServed(not_served) => Err(Unfit::NotServed(not_served.kind)),
                served => Ok(served),
            }
        }
        kind => Err(Unfit::NotServed(kind.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_urls() {
        let read = |url: &str| server(url, 1, false, &"s@nomad".into());
        let s = read("http://10.0.0.1:8080").unwrap();
        assert_eq!((s.tls, &*s.host, s.port, &*s.authority), (false, "10.0.0.1", 8080, "10.0.0.1:8080"));
        let s = read("https://[2001:db8::1]:8443/ignored?x").unwrap();
        assert_eq!((s.tls, &*s.host, s.port, &*s.authority), (true, "2001:db8::1", 8443, "[2001:db8::1]:8443"));
        assert_eq!(&*s.id.url, "https://[2001:db8::1]:8443");
        for (url, base, id) in [
            ("http://h:1/a/b/", Some("/a/b"), "http://h:1/a/b"),
            ("http://h:1/", None, "http://h:1"),
            ("http://h:1", None, "http://h:1"),
            ("http://h:1/a%20b?q=1", Some("/a%20b"), "http://h:1/a%20b"),
        ] {
            let s = server(url, 1, true, &"s@nomad".into()).unwrap();
            assert_eq!((s.base.as_deref(), &*s.id.url), (base, id), "{url}");
        }
        assert_eq!(read("https://backend.internal").unwrap().port, 443);
        assert_eq!(&*read("http://backend.internal").unwrap().authority, "backend.internal:80");
        for bad in [
            "",
            "x",
            "http://",
            "http://:80",
            "http://h:0",
            "http://h:http",
            "http://h:99999",
            "http://h:",
            "ftp://h:1",
            "http://u:p@h:1",
            "/x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
