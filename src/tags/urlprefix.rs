//! The `urlprefix-` dialect: `urlprefix-host/path option=value …`, read as Fabio 1.7 reads it
//! (<https://fabiolb.net/cfg/>; recorded behaviour in tests/oracle). What such a tag asks for becomes
//! a share in the pool of its host and path; the pool becomes a router
//! ([`pool`](super::pool)).
//!
//! Not copied are Fabio's faults: one bad tag costs only itself, and an access rule that cannot
//! be read lets nobody in instead of everybody.

use super::fragment::{Fragment, address, origin_of, source};
use super::glob::{GlobError, is_glob, to_regex};
use super::names::join_host_port;
use super::pool::{Manner, PoolKey, PrefixOptions, Share, ShareKind};
use super::{LegacyOptions, PathMatcher, port_entry_point, urlprefix_tcp};
use crate::catalog::{Health, Instance, ServiceKey};
use crate::declare::options::nearest;
use crate::declare::{Dialect, Strategy, is_token};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Provider;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads the `urlprefix-` tags of an instance into the fragment. True when there is one.
pub fn decode(
    key: &ServiceKey,
    instance: &Instance,
    provider: Provider,
    legacy: &LegacyOptions,
    into: &mut Fragment,
) -> bool {
    let mut found = false;
    let mut service_tags: Vec<&str> = instance.tags.iter().map(|t| t.trim()).collect();
    service_tags.retain(|t| !t.starts_with(&*legacy.prefix));
    let service_tags: Arc<str> = service_tags.join(",").into();
    let mut own: BTreeMap<PoolKey, Vec<(String, Share)>> = BTreeMap::new();
    let bare = |tag: &'_ Arc<str>| tag.trim().strip_prefix(&*legacy.prefix).and_then(urlprefix_tcp::service_port);
    let port = instance.tags.iter().find_map(bare).unwrap_or(instance.port);
    for tag in &instance.tags {
        let Some(text) = tag.trim().strip_prefix(&*legacy.prefix) else { continue };
        found = true;
        let source = source(key, instance, tag, Dialect::Urlprefix);
        let mut notes = Notes { problems: Vec::new(), tag };
        let text = text.trim();
        if urlprefix_tcp::service_port(text).is_some() {
            // it says where the others go
            let alone = instance.tags.iter().filter(|tag| tag.trim().starts_with(&*legacy.prefix)).count() == 1;
            if alone {
                let message = format!("`{text}` is the port of the service, which no other tag routes");
                let problem = Diagnostic::warning("dead_route", message).with_origin(origin_of(&source));
                if !into.problems.contains(&problem) {
                    into.problems.push(problem);
                }
            }
            continue;
        }
        let tcp = urlprefix_tcp::is_tcp(text).then(|| tcp(text, legacy, &mut notes));
        let read = match tcp {
            Some(_) => None,
            None => read(text, legacy, &instance.datacenter, &mut notes),
        };
        for mut problem in notes.problems {
            let column = problem.origin.column;
            problem.origin = origin_of(&source);
            problem.origin.column = column;
            if !into.problems.iter().any(|p| p.message == problem.message && p.origin.tag == problem.origin.tag) {
                into.problems.push(problem);
            }
        }
        let tcp = tcp.flatten();
        if (read.is_none() && tcp.is_none()) || !passes(instance, provider, legacy) {
            continue;
        }
        let Some(address) = address(instance, provider) else {
            let message = format!("instance `{}` has no address", instance.id);
            into.problems.push(Diagnostic::error("no_address", message).with_origin(origin_of(&source)));
            continue;
        };
        if let Some(route) = tcp {
            urlprefix_tcp::declare(route, address, instance.port, &source, into);
        }
        let Some(read) = read else { continue };
        let url = format!("{}://{}", read.scheme, join_host_port(address, &port.to_string()));
        let share = Share {
            source,
            url: url.into(),
            kind: ShareKind::Prefix {
                weight: read.weight,
                tags: service_tags.clone(),
                options: Arc::new(read.options),
                manner: read.manner,
            },
        };
        own.entry(read.key).or_default().push((read.order, share));
    }
    for (key, mut shares) in own {
        // Fabio applies its commands in descending order of their bytes; the first of equals stays
        shares.sort_by(|a, b| b.0.cmp(&a.0));
        let pool = into.shares.entry(key).or_default();
        for (_, share) in shares {
            if !pool.iter().any(|s| s.is_twin(&share)) {
                pool.push(share);
            }
        }
    }
    found
}

/// A TCP route.
fn tcp(text: &str, legacy: &LegacyOptions, notes: &mut Notes<'_>) -> Option<urlprefix_tcp::Route> {
    let at = text.split(' ').next().unwrap_or(text);
    match urlprefix_tcp::read(text, legacy) {
        Ok(route) => Some(route),
        Err((code, message)) => notes.error(code, at, message),
    }
}

/// Whether an instance is routed by Fabio's tags: as Fabio, by the checks of the instance alone, as long
/// as its node is up and nothing is in maintenance (`registry/consul/passing.go`).
fn passes(instance: &Instance, provider: Provider, legacy: &LegacyOptions) -> bool {
    let Some(checks) = &instance.checks else { return routed(instance, provider, legacy) };
    let good = checks.own.iter().filter(|state| legacy.service_status.contains(state)).count();
    !checks.out && good > 0 && (!legacy.all_checks || good == checks.own.len())
}

/// Whether an instance is in a state that is routed. Nomad tells none; a state that Consul tells and
/// nobody knows is no good one.
pub fn routed(instance: &Instance, provider: Provider, legacy: &LegacyOptions) -> bool {
    let untold = provider == Provider::Nomad && instance.health == Health::Unknown;
    untold || legacy.service_status.contains(&instance.health)
}

/// A tag that was read.
pub struct Read {
    /// Host, with its port where it has one, and path.
    pub key: PoolKey,
    /// How the instance is spoken to.
    pub scheme: &'static str,
    /// Fixed weight, above 0.
    pub weight: Option<f64>,
    /// What must be equal within the pool.
    pub options: PrefixOptions,
    /// What need not.
    pub manner: Manner,
    /// What decides between two tags for one prefix on one instance.
    order: String,
}

/// Reads one tag by itself, its prefix included. `None` beside a remark that is an error where it is refused, beside
/// warnings alone where nothing answers to it. The columns are those within the tag.
pub fn read_tag(tag: &str, legacy: &LegacyOptions, datacenter: &str) -> (Option<Read>, Vec<Diagnostic>) {
    let mut notes = Notes { problems: Vec::new(), tag };
    let text = tag.trim();
    let text = text.strip_prefix(&*legacy.prefix).unwrap_or(text);
    let read = read(text, legacy, datacenter, &mut notes);
    (read, notes.problems)
}

struct Notes<'a> {
    problems: Vec<Diagnostic>,
    tag: &'a str,
}

impl Notes<'_> {
    fn add(&mut self, severity: Severity, code: &str, part: &str, message: String) {
        let mut problem = match severity {
            Severity::Error => Diagnostic::error(code, message),
            Severity::Warning => Diagnostic::warning(code, message),
        };
        let before = self.tag.find(part).and_then(|at| self.tag.get(..at)).map_or(0, |t| t.chars().count());
        problem.origin.column = u32::try_from(before + 1).ok();
        self.problems.push(problem);
    }

    fn error<T>(&mut self, code: &str, part: &str, message: String) -> Option<T> {
        self.add(Severity::Error, code, part, format!("{message}, so the tag routes nothing"));
        None
    }

    /// An access rule that cannot be read: Fabio would let everybody in.
    fn closed(&mut self, part: &str, message: String) {
        self.add(Severity::Error, "bad_value", part, format!("{message}; the route stays and lets nobody in"));
    }

    fn warn(&mut self, code: &str, part: &str, message: String) {
        self.add(Severity::Warning, code, part, message);
    }
}

/// Reads what stands behind the prefix. `None` when the tag is refused or not served; the notes say why.
fn read(text: &str, legacy: &LegacyOptions, datacenter: &str, notes: &mut Notes<'_>) -> Option<Read> {
    let text = text.trim();
    let (route, options) = text.split_once(' ').unwrap_or((text, ""));
    if let Some(port) = route.strip_prefix(':') {
        if port.trim_end_matches('/').parse::<u16>().is_err() {
            return notes.error("bad_port", route, format!("expected a port behind `:`, got `{route}`"));
        }
        let message = format!("`{route}` is a TCP port; TCP routes are known and not served yet");
        notes.warn("not_served", route, message);
        return None;
    }
    let (host, path) = match route.split_once('/') {
        Some((host, path)) => (expand(host, datacenter).to_lowercase(), format!("/{}", expand(path, datacenter))),
        None => (route.to_lowercase(), "/".to_owned()),
    };
    if route.is_empty() {
        return notes.error("bad_route", notes.tag, "expected `host/path` behind the prefix, got nothing".to_owned());
    }
    if route.contains('$') {
        notes.warn("expanded", route, format!("`$` is expanded as Fabio does it: `{route}` is read as `{host}{path}`"));
    }
    if let Some(bad) = path.chars().find(|c| c.is_control()) {
        return notes.error("bad_path", route, format!("a path cannot hold the character {bad:?}"));
    }
    if path.contains(['?', '#']) {
        notes.warn("dead_route", route, format!("no request has a path like `{path}`: `?` and `#` end a path"));
    }
    if path.contains('%') {
        notes.warn("percent_in_path", route, format!("`{path}` is compared with the decoded path; write it decoded"));
    }
    if legacy.matcher == PathMatcher::Glob
        && let Err((_, why)) = compiles(&path)
    {
        return notes.error("bad_glob", route, format!("the path pattern `{path}` is not one: {why}"));
    } else if to_regex(&path).is_err() {
        notes.warn(
            "bad_glob",
            route,
            format!("`{path}` is taken literally; Fabio would refuse its whole table for it"),
        );
    }
    let (name, port) = host_and_port(&host, legacy, route, notes)?;
    let mut entry_points = Vec::new();
    let mut tls = false;
    if let Some(port) = port {
        let known = legacy.ports.get(&port).cloned().or_else(|| match port {
            80 => Some(legacy.web.clone()),
            443 => Some(legacy.websecure.clone()),
            _ => legacy.any_port.then(|| port_entry_point(port)),
        });
        let Some(entry_point) = known else {
            let message = format!("no entry point listens on port {port}, so `{host}` cannot be told from `{name}`");
            return notes.error("no_entry_point", route, message);
        };
        tls = entry_point == legacy.websecure;
        entry_points.push(entry_point);
    }
    let mut read = Read {
        key: PoolKey::Prefix { host: host.clone().into(), path: path.into() },
        scheme: "http",
        weight: None,
        options: PrefixOptions { host: name.into(), entry_points, tls, ..PrefixOptions::default() },
        manner: Manner::default(),
        order: String::new(),
    };
    read_options(options, legacy, &mut read, notes)?;
    Some(read)
}

/// Splits `host:port` and checks the host: what no Host header can hold is refused.
fn host_and_port(
    host: &str,
    legacy: &LegacyOptions,
    route: &str,
    notes: &mut Notes<'_>,
) -> Option<(String, Option<u16>)> {
    if host.starts_with('[') && host.find(']').is_some_and(|end| host[..end].contains(':')) {
        // what it matches is a host of one of these characters, never the address
        let message = format!("`{host}` is a glob class, here as in Fabio: it matches no IPv6 address");
        notes.warn("bad_host", route, message);
        return if legacy.glob_disabled { None } else { Some((host.to_owned(), None)) };
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) if port > 0 => (name, Some(port)),
            _ => return notes.error("bad_port", route, format!("expected a port number behind `:`, got `{port}`")),
        },
        None => (host, None),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*?[]{},!".contains(c);
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        let help = if bad.is_ascii() { "" } else { "; write the name in its ASCII form (xn--…)" };
        return notes.error("bad_host", route, format!("no request has the host `{name}`: {bad:?}{help}"));
    }
    if is_glob(name) {
        if legacy.glob_disabled {
            notes.warn("dead_route", route, format!("no request has the host `{name}`: host globs are disabled"));
            return None;
        }
        if let Err((_, why)) = compiles(name) {
            return notes.error("bad_glob", route, format!("the host pattern `{name}` is not one: {why}"));
        }
    }
    Some((name.to_owned(), port))
}

/// Whether a pattern can be asked.
fn compiles(pattern: &str) -> Result<(), GlobError> {
    let regex = to_regex(pattern)?;
    regex::Regex::new(&regex).map(drop).map_err(|_| (0, "a range is the wrong way round"))
}

const OPTIONS: &[&str] = &[
    "strip",
    "prepend",
    "proto",
    "weight",
    "redirect",
    "host",
    "auth",
    "allow",
    "deny",
    "tlsskipverify",
    "pxyproto",
    "register",
    "lb",
    "sticky",
];

fn read_options(text: &str, legacy: &LegacyOptions, read: &mut Read, notes: &mut Notes<'_>) -> Option<()> {
    let mut proto_behind_redirect = false;
    let mut proto = ("http", "");
    let mut weight_text = "";
    let mut rest: Vec<&str> = Vec::new();
    for option in text.split_whitespace() {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "weight" if option.contains('=') => {
                weight_text = value;
                read.weight = match go_float(value) {
                    _ if value.is_empty() => None,
                    Some(weight) if weight.is_finite() => Some(weight).filter(|w| *w > 0.0),
                    _ => {
                        return notes.error(
                            "bad_value",
                            option,
                            format!("`weight`: expected a number such as `0.2`, got `{value}`"),
                        );
                    }
                };
            }
            "proto" => {
                proto_behind_redirect = read.options.redirect.is_some();
                // only these values are protocols; anything else is carried along without effect
                match value {
                    "https" | "tcp" | "grpc" | "grpcs" => proto = (value, option),
                    "http" | "" => rest.push(option),
                    _ => {
                        rest.push(option);
                        let message = format!("`proto={value}` is not a protocol of Fabio's tags: it changes nothing");
                        notes.warn("unknown_option", option, message);
                    }
                }
            }
            "redirect" => match value.split_once(',') {
                Some((code, url)) if !url.contains(',') => {
                    proto_behind_redirect = false;
                    read.options.redirect = Some(redirect(code, url, option, notes)?);
                }
                _ => notes.warn(
                    "bad_value",
                    option,
                    format!("`{option}` is passed over: expected `redirect=<code>,<url>`"),
                ),
            },
            "tlsskipverify" => {
                rest.push(option);
                read.manner.unverified = value == "true";
            }
            "lb" if !value.is_empty() => {
                rest.push(option);
                read.manner.strategy = strategy(value, option, notes);
            }
            "sticky" => {
                rest.push(option);
                read.manner.sticky = sticky(value, option, notes);
            }
            _ => {
                rest.push(option);
                plain_option(name, value, option, &mut read.options, notes)?;
            }
        }
    }
    match proto {
        ("https", _) => read.scheme = "https",
        ("http", _) => {}
        ("grpc", _) => read.scheme = "h2c",
        ("grpcs", _) => read.scheme = "https",
        (other, option) => {
            let message = format!("`proto={other}` is known and not served yet, so the tag routes nothing");
            notes.warn("not_served", option, message);
            return None;
        }
    }
    if read.scheme == "https" && !matches!(&*read.options.send_host, "" | "dst") {
        let host = format!("host={}", read.options.send_host);
        let message =
            format!("`{host}`: servers get it as Host; as the name in the TLS handshake it is not served yet");
        notes.warn("not_served", &host, message);
    }
    if read.options.redirect.is_some() && proto_behind_redirect {
        let message = "`proto=` behind `redirect=` would redirect to the instance itself".to_owned();
        return notes.error("bad_value", "proto=", message);
    }
    if !read.options.allow.is_empty() && !read.options.deny.is_empty() {
        notes.closed("deny", "`allow=` and `deny=` cannot stand in one tag".to_owned());
        read.options.closed = true;
    }
    if let Some((_, url)) = &read.options.redirect {
        let same = [format!("https://{}$path", read.options.host), "https://$host$path".to_owned()];
        read.options.to_https =
            same.contains(&url.to_string()) && *legacy.web == *read.options.entry_points.first().map_or("", |e| &**e);
    }
    if read.options.redirect.is_none() && &*read.options.strip == "/" {
        // what is cut off comes back at once
        read.options.strip = Arc::default();
    }
    let weight = if weight_text.is_empty() { String::new() } else { format!(" weight {weight_text}") };
    let opts = if rest.is_empty() { String::new() } else { format!(" opts {}", rest.join(" ")) };
    read.order = format!("{}{weight}{opts}", read.scheme);
    Some(())
}

/// An option that only sets a value.
fn plain_option(name: &str, value: &str, option: &str, into: &mut PrefixOptions, notes: &mut Notes<'_>) -> Option<()> {
    if value.contains('\\') {
        let message = format!("a backslash counts twice in an option, as in Fabio: `{option}`");
        notes.warn("backslash", option, message);
    }
    // Fabio writes options quoted into a command, and reads them back without undoing it
    let value = &*value.replace('\\', "\\\\");
    match name {
        "strip" if value.starts_with('/') => into.strip = value.into(),
        "strip" if value.is_empty() => into.strip = Arc::default(),
        "strip" => notes.warn("bad_value", option, format!("`{option}` cuts nothing: a path starts with `/`")),
        "prepend" => into.prepend = value.into(),
        "host" => into.send_host = value.into(),
        "auth" => into.auth = value.into(),
        "allow" | "deny" => match networks(value) {
            Ok(networks) if name == "allow" => into.allow = networks,
            Ok(networks) => into.deny = networks,
            Err(item) => {
                let message = format!("`{item}` is not `ip:<address>` or `ip:<network>`");
                notes.closed(option, message);
                into.closed = true;
            }
        },
        "pxyproto" if value == "true" => {
            notes.warn("not_served", option, "`pxyproto=true` acts on TCP routes only".to_owned());
        }
        "pxyproto" => {}
        "register" => {
            notes.warn("not_served", option, "`register=` has no meaning here: nothing is registered".to_owned())
        }
        _ => {
            let message = format!("unknown option `{option}` does nothing, here as in Fabio");
            notes.warn("unknown_option", option, message);
            if let (Some(near), Some(problem)) = (nearest(name, OPTIONS.iter().copied()), notes.problems.last_mut()) {
                problem.help = Some(format!("did you mean `{near}=`?"));
            }
        }
    }
    Some(())
}

/// `lb=round_robin`, or a strategy by the name that it has in `loadBalancer.strategy`. Fabio passes it over.
fn strategy(value: &str, option: &str, notes: &mut Notes<'_>) -> Option<Strategy> {
    match Strategy::from(if matches!(value, "round_robin" | "rr") { "wrr" } else { value }) {
        Strategy::Other(_) => {
            let message = format!("`{option}` is passed over: expected `round_robin`, or {}", Strategy::KNOWN);
            notes.warn("bad_value", option, message);
            None
        }
        known => Some(known),
    }
}

/// `sticky`, `sticky=true` or `sticky=<name of the cookie>`. Fabio passes it over.
fn sticky(value: &str, option: &str, notes: &mut Notes<'_>) -> Option<Arc<str>> {
    match value {
        "" | "true" => Some(Arc::default()),
        "false" => None,
        name if is_token(name) => Some(name.into()),
        _ => {
            let message = format!("`{option}` is passed over: expected `sticky` or `sticky=<name of a cookie>`");
            notes.warn("bad_value", option, message);
            None
        }
    }
}

/// `301,https://other$path`: the status and the target.
fn redirect(code: &str, url: &str, option: &str, notes: &mut Notes<'_>) -> Option<(u16, Arc<str>)> {
    let code = match code.parse::<u16>() {
        Ok(code @ 300..=399) => code,
        _ => return notes.error("bad_value", option, format!("expected a redirect status such as 301, got `{code}`")),
    };
    let plain = url.replace("$path", "").replace("$host", "h");
    let known = plain.starts_with("http://")
        || plain.starts_with("https://")
        || plain.starts_with('/')
        || url.starts_with("$path");
    let escapes = plain.split('%').skip(1).all(|p| p.len() >= 2 && p.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    if !known || !escapes {
        return notes.error("bad_value", option, format!("`{url}` is not a URL to redirect to"));
    }
    Some((code, url.into()))
}

/// `ip:10.0.0.0/8,ip:192.0.2.1`: networks, in their short form; the error is the item that is none.
pub(super) fn networks(value: &str) -> Result<Vec<Arc<str>>, &str> {
    let mut found = Vec::new();
    for item in value.split(',').filter(|_| !value.is_empty()) {
        let typed = item.split_once(':').filter(|(kind, _)| kind.trim().eq_ignore_ascii_case("ip"));
        let address = typed.map(|(_, address)| address.trim());
        let network = address.and_then(|a| match a.parse::<ipnet::IpNet>() {
            Ok(net) => Some(net),
            Err(_) => a.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_canonical().into()),
        });
        found.push(network.ok_or(item)?.to_string().into());
    }
    Ok(found)
}

/// A number as Go's `strconv.ParseFloat` reads it: digits may be grouped by `_`, and `0x` begins a hexadecimal one
/// (`0x1p-2`).
fn go_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let hex = unsigned.get(..2).filter(|begin| begin.eq_ignore_ascii_case("0x")).and_then(|_| unsigned.get(2..));
    let digit = |c: char| if hex.is_some() { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
    // `_` stands between two digits, or behind `0x`
    let around = |(at, _): (usize, &str)| {
        let before = text[..at].ends_with(digit) || (hex.is_some() && text[..at].ends_with(['x', 'X']));
        before && text[at + 1..].starts_with(digit)
    };
    if !text.match_indices('_').all(around) {
        return None;
    }
    let Some(hex) = hex else { return text.replace('_', "").parse().ok() };
    let hex = hex.replace('_', "");
    let (mantissa, exponent) = hex.split_once(['p', 'P'])?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().ok()?;
    if (whole.is_empty() && part.is_empty()) || !whole.chars().chain(part.chars()).all(digit) {
        return None;
    }
    let value = |sum: f64, c: char| sum * 16.0 + f64::from(c.to_digit(16).unwrap_or_default());
    let mantissa = whole.chars().chain(part.chars()).fold(0.0, value);
    let scale = exponent.checked_sub(4 * i32::try_from(part.len()).ok()?)?;
    let value = mantissa * 2f64.powi(scale);
    Some(if text.starts_with('-') { -value } else { value })
}

/// Go's `os.Expand` with Fabio's one variable `DC`: `$DC` and `${DC}`; all others vanish.
fn expand(text: &str, datacenter: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, behind) = if let Some(braced) = after.strip_prefix('{') {
            braced.split_once('}').unwrap_or(("", braced))
        } else {
            let special = after.starts_with(|c: char| "*#$@!?-0123456789".contains(c));
            let word = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            after.split_at(if special { 1 } else { word })
        };
        if name.is_empty() && !after.starts_with('{') {
            out.push('$');
        } else if name == "DC" {
            out.push_str(datacenter);
        }
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
#[path = "urlprefix_tests.rs"]
mod tests;
