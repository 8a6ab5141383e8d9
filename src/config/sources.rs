//! What the environment and the command line say, each split into the layers it belongs to.

use super::keys::{ALIASES, Kind};
use super::merge::Layer;
use super::raw::{Raw, split_path};
use super::schema::{Node, root};
use crate::diagnostic::{Diagnostic, Origin};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Variables of the agents' own tools, and the options that they are defaults of
/// (<https://developer.hashicorp.com/nomad/commands#environment-variables>,
/// <https://developer.hashicorp.com/consul/commands#environment-variables>).
const AGENTS: &[(&str, &str)] = &[
    ("NOMAD_ADDR", "providers.nomad.endpoint.address"),
    ("NOMAD_TOKEN", "providers.nomad.endpoint.token"),
    ("NOMAD_NAMESPACE", "providers.nomad.namespaces"),
    ("NOMAD_REGION", "providers.nomad.endpoint.region"),
    ("NOMAD_CACERT", "providers.nomad.endpoint.tls.ca"),
    ("NOMAD_CLIENT_CERT", "providers.nomad.endpoint.tls.cert"),
    ("NOMAD_CLIENT_KEY", "providers.nomad.endpoint.tls.key"),
    ("NOMAD_SKIP_VERIFY", "providers.nomad.endpoint.tls.insecureSkipVerify"),
    ("NOMAD_TLS_SERVER_NAME", "providers.nomad.endpoint.tls.serverName"),
    ("CONSUL_HTTP_ADDR", "providers.consulCatalog.endpoint.address"),
    ("CONSUL_HTTP_TOKEN", "providers.consulCatalog.endpoint.token"),
    ("CONSUL_HTTP_TOKEN_FILE", "providers.consulCatalog.endpoint.tokenFile"),
    ("CONSUL_CACERT", "providers.consulCatalog.endpoint.tls.ca"),
    ("CONSUL_CLIENT_CERT", "providers.consulCatalog.endpoint.tls.cert"),
    ("CONSUL_CLIENT_KEY", "providers.consulCatalog.endpoint.tls.key"),
    ("CONSUL_TLS_SERVER_NAME", "providers.consulCatalog.endpoint.tls.serverName"),
    ("CONSUL_NAMESPACE", "providers.consulCatalog.namespaces"),
    ("CONSUL_PARTITION", "providers.consulCatalog.partition"),
];

/// HinD's names of options.
const HIND: &[(&str, &str)] =
    &[("DOMAIN_SUFFIX", "rustLb.domainSuffix"), ("TRAEFIK_PROVIDER_PRIMARY", "rustLb.primary")];

/// Flags that belong to the command itself.
const COMMAND_FLAGS: &[&str] = &["check", "single-process", "detach-drain"];

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub layers: Vec<(Layer, Vec<Raw>)>,
    pub config_file: Option<(PathBuf, String)>,
}

/// Splits the environment. An empty variable counts as not set.
pub(super) fn variables(env: &BTreeMap<String, String>, diagnostics: &mut Vec<Diagnostic>) -> Variables {
    let mut out = Variables::default();
    let said = |table: &[(&str, &str)]| -> Vec<Raw> {
        let set = |(name, path): &(&str, &str)| {
            let value = env.get(*name).filter(|value| !value.is_empty())?;
            Some(Raw::plain(split_path(path), value, &format!("${name}")))
        };
        table.iter().filter_map(set).collect()
    };
    let mut agents = said(AGENTS);
    agents.extend(consul_tls(env, diagnostics));
    let (mut traefik, mut own) = (Vec::new(), Vec::new());
    for (name, value) in env.iter().filter(|(_, value)| !value.is_empty()) {
        let upper = name.to_ascii_uppercase();
        let (layer, rest) = match (upper.strip_prefix("TRAEFIK_"), upper.strip_prefix("RUST_LB_")) {
            (Some("PROVIDER_PRIMARY"), _) => continue,
            (Some(rest), _) => (&mut traefik, rest),
            // The tests' own switches.
            (_, Some(rest)) if rest.starts_with("TEST_") => continue,
            (_, Some(rest)) => (&mut own, rest),
            _ => continue,
        };
        let source = format!("${name}");
        let mut path: Vec<String> = rest.to_ascii_lowercase().split('_').map(str::to_owned).collect();
        if path == ["configfile"] {
            out.config_file = Some((PathBuf::from(value), source));
            continue;
        }
        let below = root().child("rustLb").and_then(|node| node.child(&path[0]));
        if upper.starts_with("RUST_LB_") && root().child(&path[0]).is_none() && below.is_some() {
            path.insert(0, "rustLb".to_owned());
        }
        layer.push(Raw::plain(path, value, &source));
    }
    out.layers =
        vec![(Layer::Agents, agents), (Layer::Hind, said(HIND)), (Layer::Traefik, traefik), (Layer::RustLb, own)];
    out
}

/// `CONSUL_HTTP_SSL` is a scheme and `CONSUL_HTTP_SSL_VERIFY` the opposite of an option.
fn consul_tls(env: &BTreeMap<String, String>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Raw> {
    let mut out = Vec::new();
    for (name, path, when, value) in [
        ("CONSUL_HTTP_SSL", "providers.consulCatalog.endpoint.scheme", true, "https"),
        ("CONSUL_HTTP_SSL_VERIFY", "providers.consulCatalog.endpoint.tls.insecureSkipVerify", false, "true"),
    ] {
        let Some(text) = env.get(name).filter(|text| !text.is_empty()) else { continue };
        match super::value::parse_bool(text) {
            Some(set) if set == when => out.push(Raw::plain(split_path(path), value, &format!("${name}"))),
            Some(_) => {}
            None => diagnostics.push(
                Diagnostic::error(
                    "bad_value",
                    format!("expected `true` or `false`, got `{}`", super::value::shown(text)),
                )
                .with_origin(Origin { file: Some(format!("${name}").into()), ..Origin::default() }),
            ),
        }
    }
    out
}

/// What the command line says.
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub said: Vec<Raw>,
    pub config_file: Option<(PathBuf, String)>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads flags as Traefik's parser does (<https://github.com/traefik/paerser>, `flag`): one or two
/// dashes, any case, `--name=value` or `--name value`; booleans and groups need no value.
pub(super) fn flags(args: &[String]) -> Flags {
    let mut out = Flags::default();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|name| !name.is_empty())
        else {
            let message = format!("unexpected argument `{}`", super::value::shown(arg));
            out.diagnostics
                .push(Diagnostic::error("unexpected_argument", message).with_help("options begin with `--`"));
            continue;
        };
        let (name, mut value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let source = arg.split('=').next().unwrap_or_default().to_owned();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if COMMAND_FLAGS.iter().any(|flag| is(flag)) {
            continue;
        }
        if is("standby") {
            let value = value.or_else(|| args.next_if(|next| !next.starts_with('-')).cloned());
            if let Err((code, message)) = standby_path(value.as_deref()) {
                let d = Diagnostic::error(code, message);
                out.diagnostics.push(d.with_origin(Origin { file: Some(source.into()), ..Origin::default() }));
            }
            continue;
        }
        if is("notify-fd") {
            let value = value.or_else(|| args.next_if(|next| !next.starts_with('-')).cloned());
            if let Err((code, message)) = notify_number(value.as_deref()) {
                let d = Diagnostic::error(code, message);
                out.diagnostics.push(d.with_origin(Origin { file: Some(source.into()), ..Origin::default() }));
            }
            continue;
        }
        let config_file = is("configFile") || is("c");
        let path = match ALIASES.iter().find(|(alias, _)| is(alias)) {
            Some((_, path)) => split_path(path),
            None => split_path(name),
        };
        let node = if config_file { None } else { find(&path) };
        if value.is_none() {
            value = match node.map(Node::kind) {
                Some(Kind::Bool | Kind::Switch | Kind::Section) => {
                    args.next_if(|next| matches!(next.as_str(), "true" | "false")).cloned().or(Some("true".to_owned()))
                }
                Some(_) => args.next().cloned(),
                None if config_file => args.next().cloned(),
                // An unknown flag: what follows is taken as its value, so that it is told of once.
                None => args.next_if(|next| !next.starts_with('-')).cloned().or(Some(String::new())),
            };
        }
        match value {
            None => {
                let d = Diagnostic::error("missing_value", format!("`{source}` needs a value"));
                out.diagnostics.push(d.with_origin(Origin { file: Some(source.into()), ..Origin::default() }));
            }
            Some(value) if config_file => out.config_file = Some((PathBuf::from(value), source)),
            Some(value) => out.said.push(Raw::plain(path, &value, &source)),
        }
    }
    out
}

/// The option that a flag means, `providers.consul` in either of its meanings.
fn find(path: &[String]) -> Option<&'static Node> {
    let names = |swap: bool| {
        path.iter().enumerate().map(move |(i, name)| match name.as_str() {
            name if swap && i == 1 && name.eq_ignore_ascii_case("consul") => "consulCatalog",
            name => name,
        })
    };
    root().find(names(true)).or_else(|| root().find(names(false)))
}

/// Where `--standby unix:PATH` says; a problem's code and text otherwise.
fn standby_path(value: Option<&str>) -> Result<PathBuf, (&'static str, String)> {
    let Some(value) = value else { return Err(("missing_value", "`--standby` needs a value".to_owned())) };
    match value.strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(("bad_value", format!("expected `unix:PATH`, got `{}`", super::value::shown(value)))),
    }
}

/// The number of `--notify-fd N`; a problem's code and text otherwise.
fn notify_number(value: Option<&str>) -> Result<u32, (&'static str, String)> {
    let Some(value) = value else { return Err(("missing_value", "`--notify-fd` needs a value".to_owned())) };
    // The first three are the process's own.
    value.parse().ok().filter(|fd| *fd > 2).ok_or_else(|| {
        let shown = super::value::shown(value);
        ("bad_value", format!("expected the number of a file descriptor above 2, got `{shown}`"))
    })
}

/// The socket of `--standby unix:PATH`; the last one counts.
pub fn standby(args: &[String]) -> Option<PathBuf> {
    last(args, "standby").and_then(|value| standby_path(value).ok())
}

/// The file descriptor of `--notify-fd N`; the last one counts.
pub fn notify_fd(args: &[String]) -> Option<u32> {
    last(args, "notify-fd").and_then(|value| notify_number(value).ok())
}

/// What is said last of a flag of the command's that takes a value.
fn last<'a>(args: &'a [String], wanted: &str) -> Option<Option<&'a str>> {
    let mut found = None;
    for (at, arg) in args.iter().enumerate() {
        let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else { continue };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, args.get(at + 1).map(String::as_str)),
        };
        if name.eq_ignore_ascii_case(wanted) {
            found = Some(value);
        }
    }
    found
}

/// True when the flags ask for one process that does everything (`--single-process`).
pub fn wants_single_process(args: &[String]) -> bool {
    has(args, "single-process")
}

/// True when the end of the process waits for the ports alone (`--detach-drain`).
pub fn wants_detached_drain(args: &[String]) -> bool {
    has(args, "detach-drain")
}

fn has(args: &[String], flag: &str) -> bool {
    let names = |arg: &str| arg.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case(flag));
    args.iter().any(|arg| arg.starts_with('-') && names(arg.trim_start_matches('-')))
}

/// True when the flags ask for a check instead of a start (`--check`).
pub fn wants_check(args: &[String]) -> bool {
    args.iter().any(|arg| arg.trim_start_matches('-').eq_ignore_ascii_case("check") && arg.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Leaf;

    fn said(args: &[&str]) -> (Vec<(String, String)>, Flags) {
        let flags = flags(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        let text = |leaf: &Leaf| match leaf {
            Leaf::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let pairs = flags
            .said
            .iter()
            .map(|r| (r.path.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join("."), text(&r.leaf)));
        (pairs.collect(), flags)
    }

    #[test]
    fn every_form_of_a_flag() {
        let (pairs, flags) = said(&[
            "--entryPoints.web.address=:80",
            "--log.level",
            "debug",
            "-api.insecure",
            "--accessLog",
            "false",
            "--providers.consul.exposedByDefault",
            "--workers",
            "4",
            "-c",
            "/x.yaml",
            "--check",
            "--single-process",
            "--providers.nomad.endpoint.token=a=b",
        ]);
        let want = [
            ("entryPoints.web.address", ":80"),
            ("log.level", "debug"),
            ("api.insecure", "true"),
            ("accessLog", "false"),
            ("providers.consul.exposedByDefault", "true"),
            ("rustLb.workers", "4"),
            ("providers.nomad.endpoint.token", "a=b"),
        ];
        assert_eq!(pairs, want.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(flags.config_file.unwrap().0, PathBuf::from("/x.yaml"));
        assert!(flags.diagnostics.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_flag_is_told_once() {
        for (args, code) in [
            (vec!["stray"], "unexpected_argument"),
            (vec!["-"], "unexpected_argument"),
            (vec!["--"], "unexpected_argument"),
            (vec!["--log.level"], "missing_value"),
            (vec!["-c"], "missing_value"),
            (vec!["--standby"], "missing_value"),
            (vec!["--standby", "/x"], "bad_value"),
            (vec!["--standby=unix:"], "bad_value"),
            (vec!["--notify-fd"], "missing_value"),
            (vec!["--notify-fd=three"], "bad_value"),
            (vec!["--notify-fd", "1"], "bad_value"),
        ] {
            let (_, flags) = said(&args);
            let codes: Vec<_> = flags.diagnostics.iter().map(|d| d.code.to_string()).collect();
            assert_eq!(codes, [code], "{args:?}");
        }
        let (pairs, flags) = said(&["--bogus", "value", "--api"]);
        assert_eq!((pairs.len(), flags.diagnostics.len()), (2, 0));
    }

    #[test]
    fn words_of_the_command_itself_are_seen() {
        let args = |args: &[&str]| args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        for (given, path) in [
            (&["--standby", "unix:/x"][..], Some("/x")),
            (&["--Standby=unix:///run/x"], Some("/run/x")),
            (&["--standby"], None),
            (&["standby"], None),
        ] {
            assert_eq!(standby(&args(given)), path.map(PathBuf::from), "{given:?}");
            assert_eq!(said(given).0, [], "no configuration");
        }
        assert_eq!(notify_fd(&args(&["--notify-fd", "3", "--notify-fd=4"])), Some(4));
        assert_eq!(notify_fd(&args(&["--notify-fd=2"])), None);
        assert!(wants_detached_drain(&args(&["--detach-drain"])));
        assert!(wants_single_process(&args(&["--workers=1", "--single-process"])));
        assert!(!wants_single_process(&args(&["--single", "single-process"])));
    }

    #[test]
    fn check_is_seen() {
        for (arg, wanted) in [("--check", true), ("-check", true), ("check", false), ("--checks", false)] {
            assert_eq!(wants_check(&[arg.to_owned()]), wanted, "{arg}");
        }
    }
}
