//! Settings as the stages want them: how legacy tags are read, and Fabio's auth schemes.

use super::set::{EntryPoint, Settings};
use crate::tags::{LegacyMode, LegacyOptions, PathMatcher, port_entry_point};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The entry points of the settings, else those that stand for Fabio's listeners, else the built-in ones.
pub fn entry_points(settings: &Settings) -> Vec<EntryPoint> {
    if !settings.entry_points.is_empty() {
        return settings.entry_points.clone();
    }
    let mut all = Vec::new();
    for (name, port, tls) in [("web", 80, false), ("websecure", 443, true)] {
        let of_kind: Vec<u16> = listeners(settings).into_iter().filter(|l| l.1 == Some(tls)).map(|l| l.0).collect();
        // the usual one keeps its name wherever it listens
        let usual = if of_kind.contains(&port) { port } else { of_kind.first().copied().unwrap_or(port) };
        all.push(EntryPoint { name: name.into(), port: usual, tls });
        let others = of_kind.into_iter().filter(|other| *other != usual);
        all.extend(others.map(|port| EntryPoint { name: port_entry_point(port), port, tls }));
    }
    all
}

/// The ports of `proxy.addr` (`:9999,:443;cs=x,:5432;proto=tcp`; <https://fabiolb.net/ref/proxy.addr/>), with whether TLS
/// ends there; `None` for what takes no HTTP.
pub fn listeners(settings: &Settings) -> Vec<(u16, Option<bool>)> {
    let text = settings.fabio.get("proxy.addr").map(String::as_str).unwrap_or_default();
    let one = |text: &str| {
        let mut parts = text.split(';').map(str::trim);
        let port = parts.next()?.rsplit_once(':')?.1.parse().ok().filter(|port| *port > 0)?;
        let options: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
        let kind = match options.get("proto").copied() {
            None => Some(options.contains_key("cs")),
            Some("http") => Some(false),
            Some("https" | "https+tcp+sni") => Some(true),
            Some(_) => None,
        };
        Some((port, kind))
    };
    text.split(',').filter_map(one).collect()
}

/// How legacy tags are read: all of them count.
pub fn legacy(settings: &Settings) -> LegacyOptions {
    let said = |key: &str| settings.fabio.get(key).map(|value| value.trim());
    let points = entry_points(settings);
    let of = |port: u16, name: &str, tls: bool| {
        let by_port = points.iter().find(|e| e.port == port);
        let by_name = || points.iter().find(|e| *e.name == *name);
        let by_kind = || points.iter().find(|e| e.tls == tls);
        by_port.or_else(by_name).or_else(by_kind)
    };
    let default = LegacyOptions::default();
    let web = of(80, "web", false).map_or(default.web.clone(), |e| e.name.clone());
    let secure = of(443, "websecure", true);
    // Fabio's redirects name no port of its listeners
    let redirect_port = secure
        .filter(|e| e.port != 443 && !settings.entry_points.is_empty())
        .map_or_else(Arc::default, |e| e.port.to_string().into());
    LegacyOptions {
        mode: LegacyMode::Merge,
        prefix: said("registry.consul.tagprefix").filter(|p| !p.is_empty()).map_or(default.prefix.clone(), Arc::from),
        web,
        websecure: secure.map_or(default.websecure.clone(), |e| e.name.clone()),
        ports: points.iter().map(|e| (e.port, e.name.clone())).collect(),
        redirect_port,
        matcher: said("proxy.matcher").and_then(|m| m.parse().ok()).unwrap_or(PathMatcher::Prefix),
        glob_disabled: said("glob.matching.disabled").is_some_and(|v| v.eq_ignore_ascii_case("true")),
        ..default
    }
}

/// The value of Fabio's `$DC`.
pub fn datacenter(settings: &Settings) -> Option<&str> {
    settings.fabio.get("dc").map(|dc| dc.trim()).filter(|dc| !dc.is_empty())
}

/// A scheme of `proxy.auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    /// The file of users.
    pub file: String,
    /// The realm; Fabio's default is the scheme's name.
    pub realm: String,
}

/// The schemes of `proxy.auth` (`name=team;type=basic;file=/etc/htpasswd;realm=Team,…`; <https://fabiolb.net/ref/proxy.auth/>).
pub fn schemes(settings: &Settings) -> BTreeMap<String, Scheme> {
    let text = settings.fabio.get("proxy.auth").map(String::as_str).unwrap_or_default();
    let mut found = BTreeMap::new();
    for one in text.split(',') {
        let parts = one.split(';').filter_map(|part| part.split_once('='));
        let parts: BTreeMap<&str, &str> = parts.map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))).collect();
        let (Some(name), Some(file)) = (parts.get("name"), parts.get("file")) else { continue };
        if parts.get("type").is_none_or(|kind| *kind == "basic") {
            let realm = parts.get("realm").filter(|r| !r.is_empty()).unwrap_or(name);
            found.insert((*name).to_owned(), Scheme { file: (*file).to_owned(), realm: (*realm).to_owned() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_fabio_are_entry_points() {
        let of = |text: &str| {
            let settings =
                Settings { fabio: [("proxy.addr".to_owned(), text.to_owned())].into(), ..Settings::default() };
            let all = entry_points(&settings).into_iter().map(|e| (e.name.to_string(), e.port, e.tls));
            let redirect = legacy(&settings).redirect_port;
            assert!(redirect.is_empty(), "{redirect}");
            all.collect::<Vec<_>>()
        };
        let built_in = [("web".to_owned(), 80, false), ("websecure".to_owned(), 443, true)];
        assert_eq!(of(""), built_in);
        assert_eq!(of(":80, 10.0.0.1:443;cs=x;tlsmin=tls12,:5432;proto=tcp,0.0.0.0:0;proto=tcp-dynamic"), built_in);
        let more = of(":9999,:8443;cs=x,:9443;proto=https;cs=y,[::1]:81;proto=http;rt=3s,nonsense");
        let named: Vec<(&str, u16, bool)> = more.iter().map(|(n, p, t)| (n.as_str(), *p, *t)).collect();
        let expected =
            [("web", 9999, false), ("port-81", 81, false), ("websecure", 8443, true), ("port-9443", 9443, true)];
        assert_eq!(named, expected);
    }

    #[test]
    fn settings_of_fabio_are_read() {
        let fabio = [
            ("proxy.auth", "name=team;type=basic;file=/etc/users;realm=Team,name=x;type=basic;file=/x;refresh=3s"),
            ("proxy.matcher", "iprefix"),
            ("glob.matching.disabled", "true"),
        ];
        let fabio = fabio.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let point = |name: &str, port, tls| EntryPoint { name: name.into(), port, tls };
        let entry_points = vec![point("http", 8000, false), point("https", 8443, true), point("db", 5432, false)];
        let settings = Settings { fabio, entry_points };
        let schemes = schemes(&settings);
        assert_eq!(schemes["team"], Scheme { file: "/etc/users".into(), realm: "Team".into() });
        assert_eq!(schemes["x"].realm, "x");
        let legacy = legacy(&settings);
        assert_eq!((&*legacy.web, &*legacy.websecure, &*legacy.redirect_port), ("http", "https", "8443"));
        assert!(legacy.glob_disabled && legacy.matcher == PathMatcher::IPrefix && legacy.ports[&5432] == "db".into());
    }
}
