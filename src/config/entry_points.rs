//! Entry points: addresses taken apart, who is default, where they redirect to.

use super::merge::{Merged, View};
use super::value::{Value, shown};
use super::*;
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::split_port;
use std::fmt;

/// Admin addresses: loopback, and all with `api.insecure`.
const ADMIN_ADDRESSES: (&str, &str) = ("127.0.0.1:8080", ":8080");

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What stands behind an address' `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

/// All entry points that are on, the admin one always.
pub(super) fn entry_points(
    merged: &Merged,
    trusted_proxies: &[IpNet],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<Arc<str>, EntryPoint> {
    let mut names = merged.names(&["entryPoints"]);
    names.retain(|name| !name.eq_ignore_ascii_case(ADMIN_ENTRY_POINT));
    names.push(ADMIN_ENTRY_POINT.to_owned());
    let limit = merged.at(&[]).size("rustLb.maxConnections");
    let mut out = BTreeMap::new();
    for name in &names {
        let view = merged.at(&["entryPoints", name]);
        if let Some(address) = address(merged, &view, name, diagnostics) {
            let ep = entry_point(&view, name.as_str().into(), address, trusted_proxies, limit, merged, name);
            out.insert(ep.name.clone(), ep);
        }
    }
    check_admin(merged, diagnostics);
    check_proxy_protocol(merged, &out, diagnostics);
    settle_defaults(&mut out);
    check_redirects(merged, &mut out, diagnostics);
    check_conflicts(merged, &out, diagnostics);
    out
}

fn entry_point(
    view: &View<'_>,
    name: Arc<str>,
    address: BindAddress,
    trusted_proxies: &[IpNet],
    max_connections: usize,
    merged: &Merged,
    spelt: &str,
) -> EntryPoint {
    let headers_said =
        ["forwardedHeaders.trustedIPs", "forwardedHeaders.insecure"].iter().any(|k| view.entry(k).is_some());
    let redirect = merged.at(&["entryPoints", spelt, "http", "redirections", "entryPoint"]);
    let to = redirect.text("to");
    let time = |key: &str| view.time(&format!("transport.{key}"));
    EntryPoint {
        name,
        address,
        tls: view.is_on("http.tls"),
        as_default: view.bool("asDefault"),
        redirect: (!to.is_empty()).then(|| Redirection {
            to: to.into(),
            scheme: redirect.text("scheme").into(),
            permanent: redirect.bool("permanent"),
            priority: redirect.number("priority").and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX),
        }),
        allow_acme_bypass: view.bool("allowACMEByPass"),
        middlewares: view.list("http.middlewares").iter().map(|name| name.as_str().into()).collect(),
        tls_options: view.text("http.tls.options").into(),
        cert_resolver: view.text("http.tls.certResolver").into(),
        cert_domains: super::certificates::domains(merged, spelt),
        head: head_rules(view),
        proxy_protocol: view.is_on("proxyProtocol").then(|| Trusted {
            insecure: view.bool("proxyProtocol.insecure"),
            trusted_ips: view.nets("proxyProtocol.trustedIPs"),
        }),
        keep_alive_max_requests: view.number("transport.keepAliveMaxRequests").unwrap_or(0),
        keep_alive_max_time: time("keepAliveMaxTime"),
        forwarded_headers: Trusted {
            insecure: view.bool("forwardedHeaders.insecure"),
            trusted_ips: if headers_said { view.nets("forwardedHeaders.trustedIPs") } else { trusted_proxies.to_vec() },
        },
        timeouts: RespondingTimeouts {
            read: time("respondingTimeouts.readTimeout"),
            write: time("respondingTimeouts.writeTimeout"),
            idle: time("respondingTimeouts.idleTimeout"),
        },
        lifecycle: LifeCycle {
            request_accept_grace: time("lifeCycle.requestAcceptGraceTimeout"),
            grace: time("lifeCycle.graceTimeOut"),
        },
        max_header_bytes: view.size("http.maxHeaderBytes"),
        max_connections,
        max_concurrent_streams: view
            .number("http2.maxConcurrentStreams")
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(250),
    }
}

/// The ends of the keys below `http.encodedCharacters`.
const CHARACTERS: [&str; 7] = ["Slash", "BackSlash", "NullCharacter", "Semicolon", "Percent", "QuestionMark", "Hash"];

fn head_rules(view: &View<'_>) -> HeadRules {
    let allowed = |name: &&str| view.bool(&format!("http.encodedCharacters.allowEncoded{name}"));
    HeadRules {
        sanitize_path: view.bool("http.sanitizePath"),
        encode_query_semicolons: view.bool("http.encodeQuerySemicolons"),
        denied_characters: CHARACTERS.into_iter().filter(|name| !allowed(name)).collect(),
        underscores: view.text("http.underscoreHeadersStrategy"),
        connection: view.list("forwardedHeaders.connection"),
        not_append_forwarded_for: view.bool("forwardedHeaders.notAppendXForwardedFor"),
        scheme_headers: view.bool("forwardedHeaders.addXForwardedSchemeHeaders"),
    }
}

fn address(merged: &Merged, view: &View<'_>, name: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<BindAddress> {
    let said = view.text("address");
    let text = match said.is_empty() {
        false => said.as_str(),
        true if name == ADMIN_ENTRY_POINT => match merged.at(&[]).bool("api.insecure") {
            true => ADMIN_ADDRESSES.1,
            false => ADMIN_ADDRESSES.0,
        },
        true => {
            let message = format!("entry point `{name}` has no address");
            let help = format!(
                "say `entryPoints.{name}.address`, for example `:80`; naming any entry point drops the default ones"
            );
            let origin = merged.origin(&["entryPoints", name]);
            diagnostics.push(Diagnostic::error("no_address", message).with_origin(origin).with_help(help));
            return None;
        }
    };
    match parse_address(text) {
        Ok((address, Transport::Tcp)) => Some(address),
        Ok((_, Transport::Udp)) => {
            let message = format!("entry point `{name}`: UDP is known to Traefik, but not served yet: it is left out");
            diagnostics.push(Diagnostic::warning("not_served", message).with_origin(view.origin("address")));
            None
        }
        Err(message) => {
            let message = format!("`entryPoints.{name}.address`: {message}");
            diagnostics.push(Diagnostic::error("bad_address", message).with_origin(view.origin("address")));
            None
        }
    }
}

/// `[host]:port[/tcp|/udp]`, as Traefik and Go's `net.Listen` read it.
fn parse_address(text: &str) -> Result<(BindAddress, Transport), String> {
    let wrong =
        |what: &str| Err(format!("expected `[host]:port` like `:80` or `127.0.0.1:8080`, got `{}`{what}", shown(text)));
    let (place, transport) = match text.trim().split_once('/') {
        None => (text.trim(), Transport::Tcp),
        Some((place, t)) if t.eq_ignore_ascii_case("tcp") => (place, Transport::Tcp),
        Some((place, t)) if t.eq_ignore_ascii_case("udp") => (place, Transport::Udp),
        Some(_) => return wrong(", whose end is neither `/tcp` nor `/udp`"),
    };
    let (host, port) = match split_port(place) {
        (host, Some(port)) => (host, port),
        (_, None) => return wrong(", which has no port"),
    };
    let Some(port) = port.parse::<u16>().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit())) else {
        return wrong(", whose port is not a number from 0 to 65535");
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    if !good {
        return wrong(", whose host is neither an address nor a name");
    }
    Ok((BindAddress { host: bare.unwrap_or(host).to_owned(), port }, transport))
}

/// Where no entry point says `asDefault`, all but the admin one are, as in Traefik.
fn settle_defaults(entry_points: &mut BTreeMap<Arc<str>, EntryPoint>) {
    if !entry_points.values().any(|ep| ep.as_default) {
        for ep in entry_points.values_mut() {
            ep.as_default = true;
        }
    }
    if let Some(admin) = entry_points.get_mut(ADMIN_ENTRY_POINT) {
        admin.as_default = false;
    }
}

/// The admin entry point speaks plain HTTP with limits of its own. What would protect it is not
/// passed over; what would only tune it is told.
fn check_admin(merged: &Merged, diagnostics: &mut Vec<Diagnostic>) {
    let below = ["entryPoints", ADMIN_ENTRY_POINT];
    let view = merged.at(&below);
    let path = below.join(".");
    if view.is_on("http.tls") {
        let message = format!("`{path}.http.tls` is not served yet: the admin entry point speaks plain HTTP");
        let help = "keep it on loopback, and reach it through a tunnel";
        let origin = merged.origin(&[&below[..], &["http", "tls"]].concat());
        diagnostics.push(Diagnostic::error("not_served", message).with_origin(origin).with_help(help));
    }
    for (key, why) in [
        ("http.middlewares", "nobody but `api.tokenFile` and its address protects it"),
        ("proxyProtocol", "nobody's PROXY protocol header is read there"),
    ] {
        if view.entry(key).is_some_and(|said| said.value != Value::List(Vec::new())) || view.is_on(key) {
            let message = format!("`{path}.{key}` is not served yet: {why}");
            diagnostics.push(Diagnostic::error("not_served", message).with_origin(view.origin(key)));
        }
    }
    for key in [
        "allowACMEByPass",
        "forwardedHeaders.addXForwardedSchemeHeaders",
        "forwardedHeaders.connection",
        "forwardedHeaders.notAppendXForwardedFor",
        "http.encodeQuerySemicolons",
        "http.encodedCharacters.allowEncodedBackSlash",
        "http.encodedCharacters.allowEncodedHash",
        "http.encodedCharacters.allowEncodedNullCharacter",
        "http.encodedCharacters.allowEncodedPercent",
        "http.encodedCharacters.allowEncodedQuestionMark",
        "http.encodedCharacters.allowEncodedSemicolon",
        "http.encodedCharacters.allowEncodedSlash",
        "http.sanitizePath",
        "http.underscoreHeadersStrategy",
        "transport.keepAliveMaxRequests",
        "transport.keepAliveMaxTime",
        "http.redirections.entryPoint.to",
        "forwardedHeaders.insecure",
        "forwardedHeaders.trustedIPs",
        "http.maxHeaderBytes",
        "http2.maxConcurrentStreams",
        "transport.respondingTimeouts.readTimeout",
        "transport.respondingTimeouts.writeTimeout",
        "transport.respondingTimeouts.idleTimeout",
    ] {
        if view.entry(key).is_some() {
            let message = format!("`{path}.{key}` does nothing: the admin entry point has limits of its own");
            diagnostics.push(Diagnostic::warning("not_served", message).with_origin(view.origin(key)));
        }
    }
}

/// Traefik does not start where the PROXY protocol is on and nobody is believed; here nobody's header is read.
fn check_proxy_protocol(merged: &Merged, all: &BTreeMap<Arc<str>, EntryPoint>, diagnostics: &mut Vec<Diagnostic>) {
    let nobody = |trusted: &Trusted| !trusted.insecure && trusted.trusted_ips.is_empty();
    for ep in all.values().filter(|ep| ep.proxy_protocol.as_ref().is_some_and(nobody)) {
        let message = format!("`entryPoints.{}.proxyProtocol` believes nobody: no header is read", ep.name);
        let origin = merged.origin(&["entryPoints", &ep.name, "proxyProtocol"]);
        let help = "name the proxies before it in `trustedIPs`";
        diagnostics.push(Diagnostic::warning("no_trusted", message).with_origin(origin).with_help(help));
    }
}

fn check_redirects(merged: &Merged, all: &mut BTreeMap<Arc<str>, EntryPoint>, diagnostics: &mut Vec<Diagnostic>) {
    let names: Vec<Arc<str>> = all.keys().cloned().collect();
    for ep in all.values_mut() {
        let view = merged.at(&["entryPoints", &ep.name, "http", "redirections", "entryPoint"]);
        let path = format!("entryPoints.{}.http.redirections.entryPoint", ep.name);
        let Some(redirect) = &mut ep.redirect else {
            if let Some(entry) = ["scheme", "permanent"].iter().find_map(|key| view.entry(key)) {
                let message = format!("`{path}` has no `to`");
                diagnostics.push(Diagnostic::error("no_target", message).with_origin(entry.origin.clone()));
            }
            continue;
        };
        let mut refuse = |message: String| {
            diagnostics.push(Diagnostic::error("bad_redirect", message).with_origin(view.origin("to")));
        };
        match redirect.to.strip_prefix(':') {
            Some(port) if port.parse::<u16>().is_ok() => {}
            Some(_) => {
                refuse(format!("`{path}.to`: expected an entry point or `:port`, got `{}`", shown(&redirect.to)))
            }
            None => match names.iter().find(|n| n.eq_ignore_ascii_case(&redirect.to)) {
                Some(name) if *name == ep.name => refuse(format!("`{path}.to`: `{name}` redirects to itself")),
                Some(name) => redirect.to = name.clone(),
                None => refuse(format!("`{path}.to`: there is no entry point `{}`", shown(&redirect.to))),
            },
        }
        if !matches!(&*redirect.scheme, "http" | "https") {
            let message = format!("`{path}.scheme`: expected `http` or `https`, got `{}`", shown(&redirect.scheme));
            diagnostics.push(Diagnostic::error("bad_redirect", message).with_origin(view.origin("scheme")));
        }
    }
}

/// Two entry points on one address can never be bound.
fn check_conflicts(merged: &Merged, all: &BTreeMap<Arc<str>, EntryPoint>, diagnostics: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<(&str, u16), &str> = BTreeMap::new();
    for ep in all.values().filter(|ep| ep.address.port != 0) {
        if let Some(other) = taken.insert((&ep.address.host, ep.address.port), &ep.name) {
            let origin: Origin = merged.at(&["entryPoints", &ep.name]).origin("address");
            let message = format!("entry points `{other}` and `{}` have the same address `{}`", ep.name, ep.address);
            diagnostics.push(Diagnostic::error("address_conflict", message).with_origin(origin));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, printed) in [
            (":80", ":80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:443/tcp", "localhost:443"),
            (" :53/udp ", ":53"),
        ] {
            assert_eq!(parse_address(text).map(|(a, _)| a.to_string()).as_deref(), Ok(printed), "{text}");
        }
        assert_eq!(parse_address(":53/UDP").unwrap().1, Transport::Udp);
        for text in ["80", "", ":", ":http", ":65536", ":+80", "::1:80", "[::1]", "[x]:80", "a b:80", ":80/sctp"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
