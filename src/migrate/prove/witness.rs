//! Requests at every boundary of a route: host exact, below, in upper case, with a port, with a dot behind it, another one,
//! none; path at, below, beside, above, encoded, in the other case; methods; plain and TLS; clients inside and outside of
//! address lists.

use super::world::{Bounds, Route};
use crate::explain::Question;
use crate::tags::{LegacyOptions, PathMatcher};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a request is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The route itself.
    Route,
    /// Something beside it.
    Beside,
    /// The host with a port.
    OtherPort,
    /// The host with a dot behind it.
    TrailingDot,
    /// The host in upper case.
    HostCase,
    /// A client that says who was before it.
    ForwardedFor,
}

/// A request.
pub struct Witness {
    /// What is sent.
    pub question: Question,
    /// What it is to show.
    pub kind: Kind,
    /// It comes in where the route says, not where its scheme does.
    pub own_door: bool,
}

/// A client that no list names.
pub const CLIENT: &str = "198.51.100.7";
/// A host that no tag names.
pub const NOBODY: &str = "nobody.invalid";
/// Clients of this many networks are sent.
const MAX_NETWORKS: usize = 16;

/// The requests of a route.
pub fn of(route: &Route, options: &LegacyOptions) -> Vec<Witness> {
    let mut all = Requests::default();
    match &route.bounds {
        Bounds::Prefix(host, path, asked) => {
            let names = match host.as_ref() {
                "" => vec!["any.example".to_owned()],
                glob if !options.glob_disabled => texts(glob),
                name => vec![name.to_owned()],
            };
            let paths = match options.matcher {
                PathMatcher::Glob => texts(path),
                _ => vec![path.to_string()],
            };
            all.secure = asked.tls;
            all.own_door = !asked.entry_points.is_empty();
            all.around(&names, &paths);
            all.methods(&names, &paths, asked.redirect.is_some());
            for cut in [&asked.strip, &asked.prepend].into_iter().filter(|cut| cut.starts_with('/')) {
                for path in [cut.to_string(), format!("{cut}x"), format!("{cut}/x?a=b")] {
                    all.get(&names[0], &path, Kind::Beside);
                }
            }
            for network in asked.allow.iter().chain(&asked.deny).take(MAX_NETWORKS) {
                let clients = addresses(network);
                let Some(client) = clients.first().map(ToString::to_string) else { continue };
                for client in clients {
                    all.from(&names[0], &paths[0], &client.to_string(), None);
                }
                all.from(&names[0], &paths[0], CLIENT, Some(&client));
                all.from(&names[0], &paths[0], &client, Some(CLIENT));
            }
        }
        Bounds::Site(site) => {
            let names = match site.host.strip_prefix("*.") {
                Some(rest) => vec![format!("a.{rest}"), format!("a.b.{rest}"), rest.to_owned()],
                None => vec![site.host.to_string()],
            };
            let path = site.path.as_deref().unwrap_or("/");
            let path = path.strip_suffix('*').unwrap_or(path).to_owned();
            all.secure = site.https;
            all.own_door = site.entry_point.is_some();
            let paths = [path];
            all.around(&names, &paths);
            all.methods(&names, &paths, false);
        }
        Bounds::Tcp(..) => {}
    }
    all.found
}

/// The first and the last address of a network, and those beside it.
pub fn addresses(network: &str) -> Vec<IpAddr> {
    let Ok(network) = network.parse::<IpNet>() else { return Vec::new() };
    let (first, last) = (network.network(), network.broadcast());
    [Some(first), Some(last), before(first), behind(last)].into_iter().flatten().collect()
}

/// A request for a path of a host, as another route's boundary has them.
pub fn plain(host: &str, path: &str, secure: bool) -> Witness {
    let mut one = Requests { secure, ..Requests::default() };
    one.push(host, path, secure, Kind::Beside, |_| {});
    one.found.remove(0)
}

/// The name and the path that a route is first asked for.
pub fn first(route: &Route, options: &LegacyOptions) -> Option<(String, String)> {
    match &route.bounds {
        Bounds::Prefix(host, path, _) => {
            let name = match host.as_ref() {
                "" => return None,
                glob if !options.glob_disabled => texts(glob).swap_remove(0),
                name => name.to_owned(),
            };
            Some((name, first_path(path, options)))
        }
        Bounds::Site(site) => {
            let path = site.path.as_deref().unwrap_or("/");
            let name = site.host.strip_prefix("*.").map_or(site.host.to_string(), |rest| format!("a.{rest}"));
            Some((name, path.strip_suffix('*').unwrap_or(path).to_owned()))
        }
        Bounds::Tcp(..) => None,
    }
}

/// A path that a route takes.
pub fn first_path(path: &str, options: &LegacyOptions) -> String {
    match options.matcher {
        PathMatcher::Glob => texts(path).swap_remove(0),
        _ => path.to_owned(),
    }
}

/// The address before another one.
fn before(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => Some(Ipv4Addr::from_bits(ip.to_bits().checked_sub(1)?).into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits().checked_sub(1)?).into()),
    }
}

/// The address behind another one.
fn behind(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => Some(Ipv4Addr::from_bits(ip.to_bits().checked_add(1)?).into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits().checked_add(1)?).into()),
    }
}

#[derive(Default)]
struct Requests {
    found: Vec<Witness>,
    seen: BTreeSet<(String, String, bool)>,
    secure: bool,
    own_door: bool,
}

impl Requests {
    fn around(&mut self, names: &[String], paths: &[String]) {
        let (Some(name), Some(path)) = (names.first(), paths.first()) else { return };
        for name in names {
            self.get(name, path, Kind::Route);
        }
        for path in paths {
            self.get(name, path, Kind::Route);
        }
        for (host, kind) in [
            (name.to_ascii_uppercase(), Kind::HostCase),
            (format!("{name}:8080"), Kind::OtherPort),
            (format!("{name}."), Kind::TrailingDot),
            (format!("sub.{name}"), Kind::Beside),
            (format!("x{name}"), Kind::Beside),
            (format!("{name}x"), Kind::Beside),
            (NOBODY.to_owned(), Kind::Beside),
            (String::new(), Kind::Beside),
        ] {
            self.get(&host, path, kind);
        }
        // a dot that stands for any character
        for (at, _) in name.match_indices('.').take(4) {
            self.get(&format!("{}x{}", &name[..at], &name[at + 1..]), path, Kind::Beside);
        }
        let mut variants =
            vec![format!("{path}x"), format!("{path}?a=b&c"), "/".to_owned(), swapped(path), format!("//{path}")];
        variants.push(format!("{}/x/y", path.trim_end_matches('/')));
        variants.push(format!("{}/%2Fx", path.trim_end_matches('/')));
        variants.push(format!("/x/..{path}"));
        variants.push(format!("/x{path}"));
        let mut shorter = path.clone();
        shorter.pop();
        if shorter.len() > 1 {
            variants.push(shorter);
        }
        if let Some(first) = path.get(1..2).filter(|c| c.as_bytes()[0].is_ascii_alphanumeric()) {
            variants.push(format!("/%{:02X}{}", first.as_bytes()[0], &path[2..]));
        }
        for path in variants {
            self.get(name, &path, Kind::Beside);
        }
        // the other kind of connection
        self.push(name, path, !self.secure, Kind::Beside, |_| {});
        if self.own_door {
            self.own_door = false;
            self.push(name, path, self.secure, Kind::Beside, |question| question.id = "usual door".to_owned());
            self.own_door = true;
        }
    }

    fn methods(&mut self, names: &[String], paths: &[String], redirects: bool) {
        let (Some(name), Some(path)) = (names.first(), paths.first()) else { return };
        let methods = if redirects { &["POST", "HEAD"][..] } else { &["POST"][..] };
        for method in methods {
            self.push(name, path, self.secure, Kind::Beside, |question| question.method = (*method).to_owned());
        }
        if !redirects {
            return;
        }
        let said = ("X-Forwarded-Proto".to_owned(), "https".to_owned());
        self.push(name, path, self.secure, Kind::Beside, |question| question.headers.push(said));
    }

    fn from(&mut self, name: &str, path: &str, client: &str, before: Option<&str>) {
        let kind = if before.is_some() { Kind::ForwardedFor } else { Kind::Route };
        self.push(name, path, self.secure, kind, |question| {
            question.remote = client.to_owned();
            if let Some(before) = before {
                question.headers.push(("X-Forwarded-For".to_owned(), before.to_owned()));
            }
        });
    }

    fn get(&mut self, host: &str, path: &str, kind: Kind) {
        if self.seen.insert((host.to_owned(), path.to_owned(), self.secure)) {
            self.push(host, path, self.secure, kind, |_| {});
        }
    }

    fn push(&mut self, host: &str, path: &str, secure: bool, kind: Kind, change: impl FnOnce(&mut Question)) {
        let mut question = Question {
            method: "GET".to_owned(),
            target: target(path),
            headers: vec![("Host".to_owned(), host.to_owned())],
            remote: CLIENT.to_owned(),
            scheme: if secure { "https" } else { "http" }.to_owned(),
            ..Question::default()
        };
        if host.is_empty() {
            // HTTP/1.1 has to say one
            question.headers.clear();
            question.proto = "HTTP/1.0".to_owned();
        }
        change(&mut question);
        let own_door = self.own_door && secure == self.secure;
        self.found.push(Witness { question, kind, own_door });
    }
}

/// A path as a client writes it: what cannot stand there by itself is encoded.
fn target(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}#".contains(&byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// In the other case.
fn swapped(text: &str) -> String {
    let swap = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    text.chars().map(swap).collect()
}

/// Texts that a pattern fits, and some at its borders that it may not.
fn texts(glob: &str) -> Vec<String> {
    let star = |with: &str| filled(glob, with, 0);
    let mut all = vec![star("a"), star(""), star("a.b"), filled(glob, "q", 1), filled(glob, "q", 9)];
    if glob.contains(['*', '?', '[', '{']) {
        // without what the first wildcard and the text up to it ask for
        all.push(glob.trim_start_matches(['*', '?', '.']).replace(['*', '?', '[', ']', '{', '}', ',', '!'], ""));
    }
    let mut seen = BTreeSet::new();
    all.retain(|text| seen.insert(text.clone()));
    all
}

/// A pattern with a text for each star; of alternatives and classes one, by number.
fn filled(glob: &str, star: &str, pick: usize) -> String {
    let mut out = String::new();
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '*' => out.push_str(star),
            '?' => out.push(if pick == 0 { 'q' } else { '.' }),
            '[' => {
                let end = rest.find(']').unwrap_or(rest.len() - 1);
                let inside: Vec<char> = rest[1..end].chars().filter(|c| !matches!(c, '!' | '-')).collect();
                let other = rest[1..].starts_with('!') != (pick == 9);
                let one = if other { Some(&'0') } else { inside.get(pick.min(inside.len().saturating_sub(1))) };
                out.push(*one.unwrap_or(&'a'));
                length = end + 1;
            }
            '{' => {
                let end = rest.find('}').unwrap_or(rest.len() - 1);
                let parts: Vec<&str> = rest[1..end].split(',').collect();
                out.push_str(&filled(parts.get(pick.min(parts.len() - 1)).unwrap_or(&""), star, 0));
                length = end + 1;
            }
            '\\' => {}
            c => out.push(c),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}
