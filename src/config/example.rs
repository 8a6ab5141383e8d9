//! The static file with every option that is served, each with its default and what it is for: `etc/rust-lb.yaml`, which
//! `rust-lb check --example` prints. Made of the table in `keys.rs`, so that it cannot fall behind.
//!
//! What always holds: all of it is commented out, and every line that is taken in, with those of the sections above it and what it
//! needs beside it, holds.

use super::keys::{DEFAULT_ENTRY_POINTS, DEFAULT_OBSERVATION, Effect, Key, Kind};
use super::schema::{Node, root};
use std::fmt::Write as _;

/// Where what an option is for begins, and how long a line may be.
const COLUMN: usize = 60;
const WIDTH: usize = 140;

const HEAD: &str = "\
## The static configuration of rust-lb: every option with its default (or, where it has none, something like it) and what it is
## for. Made by `rust-lb check --example`.
##
## All is commented out, and so what holds without a file holds: HinD's set-up. Take the first `#` away from a line, and from
## those of the sections above it; lines that begin with `##` are no options. Some need others: an entry point its address, a
## resolver a challenge. Keys are those of Traefik v3; what only rust-lb
## knows stands under `rustLb`. Each can be said as a flag (`--entryPoints.web.address=:80`) and as a variable of the environment
## (`RUST_LB_ENTRYPOINTS_WEB_ADDRESS=:80`), which win over this file.
##
## `rust-lb check --configFile=/etc/rust-lb.yaml` tells what it comes to; `etc/example.yaml` is a short one.
";

/// Said before a section at the top.
const REMARKS: &[(&str, &str)] = &[
    (
        "entryPoints",
        "Naming one drops those of the default: `web` (:80) and `websecure` (:443 with `http.tls`), both with graceTimeOut 30s. The admin\n\
         ## entry point is `traefik`, 127.0.0.1:8080 unless it is named here.",
    ),
    ("providers", "Naming one drops those of the default: `nomad` and `consulCatalog`."),
    (
        "accessLog",
        "In a file that names entry points or providers as Traefik's do, access log, metrics and security headers are off until they are\n\
         ## named.",
    ),
    (
        "certificatesResolvers",
        "Naming one drops the default: `default`, Let's Encrypt by HTTP-01 and TLS-ALPN-01, in HinD's set-up.",
    ),
];

/// What a name or a value without a default may be like.
const SAMPLES: &[(&str, &str)] = &[
    ("entryPoints.*", "web"),
    ("entryPoints.*.forwardedHeaders.connection", "X-Real-Client"),
    ("entryPoints.*.forwardedHeaders.trustedIPs", "10.0.0.0/8,192.168.0.0/16"),
    ("entryPoints.*.http.middlewares", "limit@file"),
    ("entryPoints.*.http.redirections.entryPoint.to", ":443"),
    ("entryPoints.*.http.tls.certResolver", "default"),
    ("entryPoints.*.http.tls.domains.[].main", "example.com"),
    ("entryPoints.*.http.tls.domains.[].sans", "www.example.com"),
    ("entryPoints.*.proxyProtocol.trustedIPs", "10.0.0.1"),
    ("providers.nomad.namespaces", "*"),
    ("providers.nomad.endpoint.address", "http://127.0.0.1:4646"),
    ("providers.nomad.endpoint.region", "global"),
    ("providers.nomad.defaultRule", "Host(`{{ normalize .Name }}.localhost`)"),
    ("providers.nomad.constraints", "Tag(`public`)"),
    ("providers.nomad.legacyTags", "fallback"),
    ("providers.consulCatalog.namespaces", "default"),
    ("providers.consulCatalog.partition", "default"),
    ("providers.consulCatalog.endpoint.address", "127.0.0.1:8500"),
    ("providers.consulCatalog.endpoint.scheme", "http"),
    ("providers.consulCatalog.endpoint.datacenter", "dc1"),
    ("providers.consulCatalog.defaultRule", "Host(`{{ normalize .Name }}.localhost`)"),
    ("providers.consulCatalog.constraints", "Tag(`public`)"),
    ("providers.consulCatalog.legacyTags", "fallback"),
    ("providers.file.filename", "/etc/rust-lb/routes.yaml"),
    ("providers.file.directory", "/etc/rust-lb/routes"),
    ("serversTransport.rootCAs", "/etc/rust-lb/servers-ca.pem"),
    ("log.format", "json"),
    ("log.filePath", "/var/log/rust-lb/rust-lb.log"),
    ("accessLog.filePath", "/var/log/rust-lb/access.log"),
    ("accessLog.filters.statusCodes", "400-599"),
    ("accessLog.fields.names.*", "ClientUsername"),
    ("accessLog.fields.headers.names.*", "User-Agent"),
    ("certificatesResolvers.*", "default"),
    ("certificatesResolvers.*.acme.email", "ops@example.com"),
    ("certificatesResolvers.*.acme.storage", "/etc/traefik/acme.json"),
    ("certificatesResolvers.*.acme.caCertificates", "/etc/rust-lb/acme-ca.pem"),
    ("certificatesResolvers.*.acme.preferredChain", "ISRG Root X1"),
    ("certificatesResolvers.*.acme.profile", "shortlived"),
    ("certificatesResolvers.*.acme.httpChallenge.entryPoint", "web"),
    ("certificatesResolvers.*.acme.dnsChallenge.provider", "acme-dns"),
    ("certificatesResolvers.*.acme.dnsChallenge.resolvers", "9.9.9.9:53"),
    ("rustLb.workers", "4"),
    ("rustLb.certificates.resolver", "default"),
    ("rustLb.api.tokenFile", "/etc/rust-lb/api-token"),
    ("rustLb.errors.reveal", "127.0.0.1"),
    ("rustLb.fabio.auth.*", "staff"),
    ("rustLb.fabio.auth.*.file", "/etc/rust-lb/staff.htpasswd"),
];

/// The whole file.
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    for section in root().children().iter().filter(|node| served(node)) {
        out.push('\n');
        if let Some((_, remark)) = REMARKS.iter().find(|(name, _)| *name == section.name) {
            let _ = writeln!(out, "## {remark}");
        }
        write(section, &[], "", &mut out);
    }
    out
}

/// Whether it, or something below, does something when it is said.
fn served(node: &Node) -> bool {
    node.key.is_some_and(|key| key.effect == Effect::Acts) || below(node).any(served)
}

fn below(node: &Node) -> impl Iterator<Item = &Node> {
    node.children().iter().chain(node.star()).chain(node.item())
}

/// `lead` is the indent of its line, with the dash of a list's first key.
fn write(node: &Node, above: &[&'static str], lead: &str, out: &mut String) {
    let mut path = above.to_vec();
    path.push(node.name);
    let dotted = path.join(".");
    let doc = node.key.map(|key| key.doc).unwrap_or_default();
    let name = if node.name == "*" { sample(&dotted).unwrap_or("name") } else { node.name };
    // What legacy tags may say is told once, where it is said for all catalogs.
    let told_elsewhere = node.name == "legacyTags" && above.first() == Some(&"providers");
    let children: Vec<&Node> =
        if told_elsewhere { Vec::new() } else { below(node).filter(|node| served(node)).collect() };
    if children.is_empty() {
        let Some(key) = node.key else { return };
        let doc = if told_elsewhere { "as `rustLb.legacyTags`, for this catalog" } else { doc };
        return line(&format!("{lead}{name}: {}", value(&dotted, &key)), doc, out);
    }
    line(&format!("{lead}{name}:"), doc, out);
    let deeper = format!("{}  ", lead.replace('-', " "));
    for child in children {
        if child.name != "[]" {
            write(child, &path, &deeper, out);
            continue;
        }
        path.push("[]");
        for (at, key) in below(child).filter(|node| served(node)).enumerate() {
            write(key, &path, &format!("{deeper}{}", if at == 0 { "- " } else { "  " }), out);
        }
        path.pop();
    }
}

fn line(option: &str, doc: &str, out: &mut String) {
    let indent = option.len() - option.trim_start().len();
    let beside = option.len().max(COLUMN) + 3 + doc.len();
    let _ = if doc.is_empty() {
        writeln!(out, "#{option}")
    } else if beside < WIDTH {
        writeln!(out, "#{option:<COLUMN$} # {doc}")
    } else {
        writeln!(out, "#{:indent$}# {doc}\n#{option}", "")
    };
}

fn sample(dotted: &str) -> Option<&'static str> {
    SAMPLES.iter().find(|(path, _)| *path == dotted).map(|(_, sample)| *sample)
}

/// The value as YAML: what holds without a file, else the default, else something like it.
fn value(dotted: &str, key: &Key) -> String {
    let without_file = DEFAULT_OBSERVATION.iter().chain(DEFAULT_ENTRY_POINTS);
    let of_web = dotted.replace("entryPoints.*", "entryPoints.web");
    let set_up = without_file.clone().find(|(path, _)| *path == of_web).map(|(_, value)| *value);
    // A name of the user's own has the sample for itself.
    let sample = if dotted.ends_with('*') { None } else { sample(dotted) };
    let text = match (set_up, sample, key.default) {
        (Some(set_up), ..) => set_up,
        (None, Some(sample), _) => sample,
        (None, None, default) => default,
    };
    match key.kind {
        Kind::Section | Kind::Switch => "{}".to_owned(),
        Kind::List | Kind::Paths | Kind::Nets | Kind::SomeOf(_) | Kind::Buckets => {
            let items: Vec<String> = text.split(',').filter(|item| !item.is_empty()).map(scalar).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::OneOf(words) if text.is_empty() => scalar(words.first().copied().unwrap_or_default()),
        _ => scalar(text),
    }
}

/// A text as YAML reads it back.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-' | '@');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if begins && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
