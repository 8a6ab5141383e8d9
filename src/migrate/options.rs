//! Settings as the stages want them: how legacy tags are read, and Fabio's auth schemes.

use super::set::{EntryPoint, Settings};
use crate::tags::{LegacyMode, LegacyOptions, PathMatcher};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The entry points of the settings, else the built-in ones.
pub fn entry_points(settings: &Settings) -> Vec<EntryPoint> {
    if !settings.entry_points.is_empty() {
        return settings.entry_points.clone();
    }
    let one = |name: &str, port, tls| EntryPoint { name: name.into(), port, tls };
    vec![one("web", 80, false), one("websecure", 443, true)]
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
    let redirect_port = secure.filter(|e| e.port != 443).map_or_else(Arc::default, |e| e.port.to_string().into());
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
