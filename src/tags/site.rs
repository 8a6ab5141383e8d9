//! The `https://host` dialect: a tag is a site, as in HinD's Caddyfile template: the tag's address
//! is the host, an optional path matches exactly, several addresses may be separated by commas or
//! blanks, `*.host` stands for one label. Servers are all passing instances with the tag, chosen by
//! the client's address.
//!
//! As there, only a tag that begins with `https://` is one; an `http://host` behind it in the same tag
//! is a site on plain HTTP. A port of its own needs an entry point that listens on it: Caddy would
//! open the port, here no tag can.

use super::fragment::{Fragment, address, origin_of, source};
use super::names::join_host_port;
use super::pool::{PoolKey, Share, ShareKind};
use super::urlprefix::routed;
use super::{LegacyOptions, port_entry_point};
use crate::catalog::{Instance, ServiceKey};
use crate::declare::Dialect;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use std::sync::Arc;

/// Whether a tag is a site.
pub fn is_site(tag: &str) -> bool {
    tag.starts_with("https://")
}

/// Reads the site tags of an instance into the fragment. True when there is one.
pub fn decode(
    key: &ServiceKey,
    instance: &Instance,
    provider: Provider,
    legacy: &LegacyOptions,
    into: &mut Fragment,
) -> bool {
    let mut found = false;
    for tag in instance.tags.iter().filter(|t| is_site(t)) {
        found = true;
        let source = source(key, instance, tag, Dialect::Site);
        let mut problem = |code: &str, column: usize, message: String| {
            let mut problem = Diagnostic::error(code, message).with_origin(origin_of(&source));
            problem.origin.column = u32::try_from(column).ok();
            if !into.problems.iter().any(|p| p.message == problem.message && p.origin.tag == problem.origin.tag) {
                into.problems.push(problem);
            }
        };
        let mut sites = Vec::new();
        for text in tag.split([',', ' ', '\t']).filter(|t| !t.is_empty()) {
            let column = tag.find(text).and_then(|at| tag.get(..at)).map_or(0, |t| t.chars().count()) + 1;
            match read(text, legacy) {
                Ok(site) => sites.push(site),
                Err((code, message)) => problem(code, column, message),
            }
        }
        if !routed(instance, provider, legacy) {
            continue;
        }
        let Some(address) = address(instance, provider) else {
            problem("no_address", 1, format!("instance `{}` has no address", instance.id));
            continue;
        };
        let url: Arc<str> = format!("http://{}", join_host_port(address, &instance.port.to_string())).into();
        for Site { https, host, path, entry_point } in sites {
            let kind = ShareKind::Site { https, path, entry_point };
            let share = Share { source: source.clone(), url: url.clone(), kind };
            into.shares.entry(PoolKey::Site { host }).or_default().push(share);
        }
    }
    found
}

/// One address of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// HTTPS.
    pub https: bool,
    /// Lower case, perhaps `*.` before it.
    pub host: Arc<str>,
    /// Exact path.
    pub path: Option<Arc<str>>,
    /// Of a port of its own.
    pub entry_point: Option<Arc<str>>,
}

/// The addresses of a tag, or what is wrong with one.
pub fn read_tag(tag: &str, legacy: &LegacyOptions) -> Vec<Result<Site, (&'static str, String)>> {
    tag.split([',', ' ', '\t']).filter(|t| !t.is_empty()).map(|text| read(text, legacy)).collect()
}

/// Reads one address. A bare name behind a comma is HTTPS, as Caddy takes it.
fn read(text: &str, legacy: &LegacyOptions) -> Result<Site, (&'static str, String)> {
    let (https, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some((other, _)) => return Err(("bad_site", format!("expected `https://host`, got the scheme `{other}`"))),
        None => (true, text),
    };
    let (host, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(Arc::from(&rest[at..]))),
        None => (rest, None),
    };
    let (host, port) = host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)));
    let entry_point = match port {
        None => None,
        Some(port) if port == if https { "443" } else { "80" } => None,
        Some(text) => {
            let number = text.parse::<u16>().ok().filter(|port| !matches!(port, 0 | 80 | 443));
            let known = number.and_then(|port| match legacy.any_port {
                true => Some(port_entry_point(port)),
                false => legacy.ports.get(&port).cloned(),
            });
            let none =
                || ("bad_site", format!("no entry point listens on the port `{text}`: name the site `https://host`"));
            Some(known.ok_or_else(none)?)
        }
    };
    if host.is_empty() {
        return Err(("bad_site", "expected a host behind `://`, got nothing".to_owned()));
    }
    let host = host.to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !name.split('.').all(label) || name.len() > 253 {
        return Err(("bad_site", format!("`{host}` is not a host name")));
    }
    if let Some(bad) = path.iter().flat_map(|p: &Arc<str>| p.chars()).find(|c| c.is_control() || "?#{}\"".contains(*c))
    {
        return Err(("bad_site", format!("a path cannot hold the character {bad:?}")));
    }
    Ok(Site { https, host: host.into(), path, entry_point })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let legacy = LegacyOptions { ports: [(8443, "alt".into())].into(), ..LegacyOptions::default() };
        let read = |text| read(text, &legacy);
        let site = |https, host: &str, path: Option<&str>| {
            Ok(Site { https, host: host.into(), path: path.map(Into::into), entry_point: None })
        };
        assert_eq!(read("https://a:8443").unwrap().entry_point.as_deref(), Some("alt"));
        assert_eq!(read("https://A.Example"), site(true, "a.example", None));
        assert_eq!(read("https://a.example:443/x"), site(true, "a.example", Some("/x")));
        assert_eq!(read("http://a.example/"), site(false, "a.example", Some("/")));
        assert_eq!(read("*.a.example"), site(true, "*.a.example", None));
        for bad in [
            "https://",
            "https://a:8444",
            "https://a:80",
            "https://a:",
            "https://a:+443",
            "ftp://a",
            "https://a..b",
            "https://{$X}",
            "https://a/\"x",
            "https://*",
        ] {
            assert_eq!(read(bad).unwrap_err().0, "bad_site", "{bad}");
        }
    }
}
