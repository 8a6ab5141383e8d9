//! `rust-lb check` and `--check`: reads the configuration as `serve` would, tells every problem with
//! its place and a suggestion, and what is settled if it holds; files of dynamic configuration that it
//! names are read, too, and services of a catalog that `--services` brings. It opens no socket.

use super::fail;
use super::output::{self, Style};
use super::services::{self, Given};
use crate::config::{
    self, ADMIN_ENTRY_POINT, CatalogCommon, CertificatesResolver, EntryPoint, Input, LegacyMode, Loaded, Note, Primary,
    Settled, Token,
};
use crate::declare::Declarations;
use crate::diagnostic::Diagnostic;
use crate::model::{Provider, format_duration};
use crate::tags::{self, TagOptions};
use crate::{runtime, table};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

pub(super) const HELP: &str = "\
usage: rust-lb check [--strict] [--json] [--services FILE [--provider NAME]] [static configuration flags]
       rust-lb check --example

Reads the static configuration and the files of dynamic configuration that it names as `serve` would, and the tags of
services where some are given; prints every problem with its place and a suggestion, and what is settled. Opens no socket.
Exit 0 when it holds, 1 when not, 2 when the command line is wrong.

options:
  --strict          warnings are errors
  --json            one JSON document on stdout
  --services FILE   what Nomad's `/v1/service/NAME` or Consul's `/v1/health/service/NAME` answers, of one service or of
                    several, one after another (`-`: standard input)
  --provider NAME   the catalog that they are of: `nomad` or `consulcatalog`; else it is told by their form
  --example         print a static file with every option, its default and what it is for, all commented out

examples:
  rust-lb check --configFile=/etc/traefik.yaml
  rust-lb check --strict --json
  curl -s localhost:8500/v1/health/service/shop | rust-lb check --configFile=/etc/rust-lb.yaml --services -
";

/// Exit code: everything holds.
pub const HOLDS: u8 = 0;
/// Exit code: the configuration does not hold.
pub const DOES_NOT_HOLD: u8 = 1;
/// Exit code: the command line itself is wrong.
pub const USAGE: u8 = 2;

/// How to check and to tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Warnings are errors.
    pub strict: bool,
    /// One JSON document on stdout instead of text.
    pub json: bool,
    /// Colours of stdout.
    pub stdout: Style,
    /// Colours of stderr.
    pub stderr: Style,
}

/// Services whose tags are checked, too.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// The file that holds them, `-` for standard input; `None`: there are none.
    pub file: Option<String>,
    /// The catalog that they are of, where it is said.
    pub provider: Option<String>,
}

impl Services {
    /// Takes `--services` and `--provider` out of a command line.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn take(args: &mut Vec<String>) -> Result<Self, String> {
        let mut value = |flag: &str| -> Result<Option<String>, String> {
            let Some(at) =
                args.iter().position(|a| a.strip_prefix(flag).is_some_and(|r| r.is_empty() || r.starts_with('=')))
            else {
                return Ok(None);
            };
            let word = args.remove(at);
            match word.split_once('=') {
                Some((_, value)) => Ok(Some(value.to_owned())),
                None if at < args.len() => Ok(Some(args.remove(at))),
                None => Err(format!("`{flag}` needs a value")),
            }
        };
        let (file, provider) = (value("--services")?, value("--provider")?);
        match (&file, &provider) {
            (None, Some(_)) => {
                Err("`--provider` says of which catalog `--services` are, and there are none".to_owned())
            }
            _ => Ok(Self { file, provider }),
        }
    }
}

/// Checks; problems go to `stderr`, the result to `stdout`. Returns the exit code. A reader that went
/// away changes nothing about the verdict.
pub fn run(input: &Input, options: Options, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    verify(input, None, options, stdout, stderr)
}

/// As [`run`], with the tags of services.
pub fn run_with_services(
    input: &Input,
    services: &Services,
    options: Options,
    stdin: &mut dyn BufRead,
    (stdout, stderr): (&mut dyn Write, &mut dyn Write),
) -> u8 {
    let Some(file) = &services.file else { return run(input, options, stdout, stderr) };
    match services::read(file, services.provider.as_deref(), stdin) {
        Ok(given) => verify(input, Some(&given), options, stdout, stderr),
        Err(message) => fail(stderr, DOES_NOT_HOLD, format_args!("{message}")),
    }
}

fn verify(
    input: &Input,
    given: Option<&Given>,
    options: Options,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let (loaded, problems) = match config::load(input) {
        Ok(mut loaded) => {
            let mut problems = std::mem::take(&mut loaded.diagnostics);
            problems.extend(dynamic(&loaded.settled, given));
            (Some(loaded), problems)
        }
        Err(problems) => (None, problems),
    };
    let holds = loaded.is_some() && !problems.iter().any(Diagnostic::is_error);
    let code = verdict(holds, &problems, options.strict);
    let _ = if options.json {
        let document = document(code == HOLDS, loaded.as_ref(), &problems);
        writeln!(stdout, "{document:#}")
    } else {
        tell(code, loaded.as_ref(), given, &problems, options, (stdout, stderr))
    };
    code
}

/// What is wrong with the files of dynamic configuration and with the services given: what they say, and what a
/// table makes of it. What a catalog that is not given declares is not known here, and so not missed.
fn dynamic(settled: &Settled, given: Option<&Given>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut declarations = Declarations::new();
    let mut unknown = vec![Provider::Nomad, Provider::ConsulCatalog, Provider::Rest, Provider::Internal];
    if let Some(provider) = &settled.files {
        let decoded = runtime::read_files(provider);
        problems.extend(decoded.problems);
        declarations.insert(Provider::File, decoded.dynamic);
    }
    if let Some(given) = given {
        match services::options_of(settled, given.provider) {
            Ok(read) => {
                let decoded = tags::decode(&given.world, &read);
                problems.extend(decoded.diagnostics);
                problems.extend(unrouted(given, &read));
                declarations.extend(decoded.declarations);
                unknown.retain(|provider| *provider != given.provider);
            }
            Err(message) => problems.push(Diagnostic::error("no_provider", message)),
        }
    }
    if declarations.is_empty() {
        return problems;
    }
    let built = table::build(&declarations, &table::Accepted::default(), &runtime::build_options(settled));
    let elsewhere = |d: &Diagnostic| {
        let names_other = |provider: &Provider| d.message.contains(&format!("@{provider}`"));
        d.code.starts_with("unknown_") && unknown.iter().any(names_other)
    };
    problems.extend(built.diagnostics.into_iter().filter(|d| !elsewhere(d)));
    problems
}

/// Services with tags that would route and do not count, though nothing is wrong with them. What a tag
/// switches off is meant so, and how healthy instances are is no matter of configuration.
fn unrouted(given: &Given, read: &BTreeMap<Provider, TagOptions>) -> Vec<Diagnostic> {
    let all = given.world.sources.get(&given.provider).into_iter().flat_map(|inventory| inventory.services.values());
    let mut problems = Vec::new();
    for (service, options) in all.zip(std::iter::repeat(read.get(&given.provider))) {
        let Some(options) = options else { continue };
        let standing = tags::standing(service, given.provider, options);
        let counts =
            |d: &Diagnostic| matches!(&*d.code, "not_exposed" | "constraint" | "legacy_ignored" | "legacy_off");
        if standing.tags.iter().any(|tag| !tag.says.is_empty()) {
            problems.extend(standing.reasons.into_iter().filter(counts));
        }
    }
    problems
}

pub(super) fn verdict(holds: bool, problems: &[Diagnostic], strict: bool) -> u8 {
    let usage = |d: &Diagnostic| {
        let of_flag = d.origin.file.as_deref().is_some_and(|file| file.starts_with('-'));
        match &*d.code {
            "unexpected_argument" | "missing_value" => true,
            "unknown_key" | "not_served" => of_flag,
            _ => false,
        }
    };
    match holds {
        false if problems.iter().any(|d| d.is_error() && usage(d)) => USAGE,
        false => DOES_NOT_HOLD,
        true if strict && !problems.is_empty() => DOES_NOT_HOLD,
        true => HOLDS,
    }
}

fn tell(
    code: u8,
    loaded: Option<&Loaded>,
    given: Option<&Given>,
    problems: &[Diagnostic],
    options: Options,
    (stdout, stderr): (&mut dyn Write, &mut dyn Write),
) -> io::Result<()> {
    for problem in problems {
        output::diagnostic(stderr, problem, options.stderr)?;
    }
    let errors = problems.iter().filter(|d| d.is_error()).count();
    let warnings = problems.len() - errors;
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let counts = format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"));
    let style = options.stdout;
    if code == HOLDS {
        writeln!(stdout, "{} ({counts})", style.green("the configuration holds"))?;
    } else {
        writeln!(stdout, "{} ({counts})", style.red("the configuration does not hold"))?;
    }
    if let Some(given) = given {
        let services = given.world.sources.values().map(|inventory| inventory.services.len()).sum();
        writeln!(stdout, "the tags of {} of {} were read", counted(services, "service"), given.provider)?;
    }
    match loaded {
        Some(loaded) => {
            for note in &loaded.notes {
                writeln!(stdout, "{} {note}", style.dim("note:"))?;
            }
            summary(&loaded.settled, style, stdout)
        }
        None => Ok(()),
    }
}

fn summary(settled: &Settled, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let file = settled.file.as_ref().map_or("none".to_owned(), |file| file.display().to_string());
    writeln!(out, "{} {file}", style.bold("static file"))?;
    writeln!(out, "{}", style.bold("entry points"))?;
    for ep in settled.entry_points.values() {
        writeln!(out, "  {:<14} {:<22} {}", ep.name, ep.address.to_string(), traits(ep).join(", "))?;
    }
    writeln!(out, "{}", style.bold("providers"))?;
    if let Some(nomad) = &settled.nomad {
        writeln!(out, "  {:<14} {}", "nomad", catalog(&nomad.common, &nomad.namespaces))?;
    }
    if let Some(consul) = &settled.consul {
        writeln!(out, "  {:<14} {}", "consulcatalog", catalog(&consul.common, &consul.namespaces))?;
        writeln!(out, "  {:<14} {}", "", watch_connections(consul.watch_connections))?;
    }
    if let Some(files) = &settled.files {
        writeln!(out, "  {:<14} {}", "file", files.path.display())?;
    }
    if settled.rest.is_some() {
        writeln!(out, "  {:<14} PUT /api/providers/rest", "rest")?;
    }
    if settled.nomad.is_none() && settled.consul.is_none() && settled.files.is_none() && settled.rest.is_none() {
        writeln!(out, "  none")?;
    }
    let certificates = &settled.certificates;
    writeln!(out, "{}", style.bold("certificates"))?;
    if certificates.self_signed {
        writeln!(out, "  signed by the authority that Caddy keeps; none is ordered")?;
    } else if certificates.resolvers.is_empty() {
        writeln!(out, "  none is ordered")?;
    }
    for (name, resolver) in &certificates.resolvers {
        writeln!(out, "  {name:<14} {}, {}", resolver.ca_server, challenges(resolver).join(", "))?;
    }
    writeln!(
        out,
        "{} {} workers, state in {}, certificates in {}",
        style.bold("process"),
        settled.own.workers,
        settled.own.state_dir.display(),
        settled.certificates.directory.display()
    )
}

fn traits(ep: &EntryPoint) -> Vec<String> {
    let mut out = Vec::new();
    if &*ep.name == ADMIN_ENTRY_POINT {
        out.push("admin".to_owned());
    }
    if ep.as_default {
        out.push("default".to_owned());
    }
    if ep.tls {
        out.push("TLS".to_owned());
    }
    if let Some(redirect) = &ep.redirect {
        out.push(format!("redirects to {}", redirect.to));
    }
    out
}

/// The challenges of a certificate resolver, in the words of the protocol.
fn challenges(resolver: &CertificatesResolver) -> Vec<String> {
    let dns = resolver.dns.as_ref().map(|dns| format!("dns-01 by {}", dns.provider));
    let (tls, http) = (resolver.tls.map(|_| "tls-alpn-01".to_owned()), resolver.http.map(|_| "http-01".to_owned()));
    dns.into_iter().chain(tls).chain(http).collect()
}

fn catalog(common: &CatalogCommon, namespaces: &[String]) -> String {
    let namespaces = if namespaces.is_empty() { "the token's".to_owned() } else { namespaces.join(" ") };
    format!("{}, namespaces {namespaces}, exposedByDefault {}", common.endpoint, common.exposed_by_default)
}

/// What the limit means and what to raise when there are more services.
fn watch_connections(limit: usize) -> String {
    format!(
        "up to {limit} routed services are watched one by one; above that two queries ring for all and what changed is \
         read again: if that is too slow, raise `providers.consulCatalog.watchConnections` and, above 200, Consul's \
         `limits.http_max_conns_per_client`"
    )
}

fn document(ok: bool, loaded: Option<&Loaded>, problems: &[Diagnostic]) -> Value {
    let note = |note: &Note| json!({"file": note.origin.file, "line": note.origin.line, "message": note.message});
    json!({
        "ok": ok,
        "problems": problems,
        "notes": loaded.map(|l| l.notes.iter().map(note).collect::<Vec<_>>()).unwrap_or_default(),
        "settled": loaded.map(|l| settled(&l.settled)),
    })
}

fn settled(settled: &Settled) -> Value {
    let entry_points: serde_json::Map<String, Value> =
        settled.entry_points.values().map(|ep| (ep.name.to_string(), entry_point(ep))).collect();
    let mut providers = serde_json::Map::new();
    if let Some(nomad) = &settled.nomad {
        let mut value = provider(&nomad.common, &nomad.namespaces);
        value["region"] = json!(nomad.region);
        providers.insert("nomad".to_owned(), value);
    }
    if let Some(consul) = &settled.consul {
        let mut value = provider(&consul.common, &consul.namespaces);
        value["watchConnections"] = json!(consul.watch_connections);
        value["strictChecks"] = json!(consul.strict_checks);
        providers.insert("consulcatalog".to_owned(), value);
    }
    if let Some(files) = &settled.files {
        providers.insert("file".to_owned(), json!({"path": files.path, "watch": files.watch}));
    }
    if let Some(rest) = &settled.rest {
        providers.insert("rest".to_owned(), json!({"insecure": rest.insecure}));
    }
    let resolvers: serde_json::Map<String, Value> = settled
        .certificates
        .resolvers
        .iter()
        .map(|(name, resolver)| {
            (name.clone(), json!({"caServer": resolver.ca_server, "challenges": challenges(resolver)}))
        })
        .collect();
    let own = &settled.own;
    json!({
        "file": settled.file,
        "entryPoints": entry_points,
        "providers": providers,
        "api": {"insecure": settled.api_insecure},
        "certificatesResolvers": resolvers,
        "accessLog": settled.access_log.is_some(),
        "metrics": settled.metrics.is_some(),
        "log": {"level": settled.log.level.to_string()},
        "rustLb": {
            "workers": own.workers,
            "stateDir": own.state_dir,
            "certificates": {
                "directory": settled.certificates.directory,
                "selfSigned": settled.certificates.self_signed,
                "resolver": settled.certificates.automatic,
                "onDemand": settled.certificates.on_demand.is_some(),
            },
            "primary": match own.primary { Primary::Nomad => "nomad", Primary::Consul => "consul" },
            "domainSuffix": own.domain_suffix,
            "linger": {"for": format_duration(own.linger_for), "wait": format_duration(own.linger_wait)},
            "drain": {"limit": format_duration(own.drain_limit)},
            "panicThreshold": own.panic_threshold,
        },
    })
}

fn entry_point(ep: &EntryPoint) -> Value {
    json!({
        "address": ep.address.to_string(),
        "asDefault": ep.as_default,
        "tls": ep.tls,
        "redirect": ep.redirect.as_ref().map(|r| json!({"to": r.to, "scheme": r.scheme, "permanent": r.permanent})),
        "forwardedHeaders": {
            "insecure": ep.forwarded_headers.insecure,
            "trustedIPs": ep.forwarded_headers.trusted_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "middlewares": ep.middlewares,
        "proxyProtocol": ep.proxy_protocol.is_some(),
        "graceTimeOut": format_duration(ep.lifecycle.grace),
    })
}

fn provider(common: &CatalogCommon, namespaces: &[String]) -> Value {
    json!({
        "endpoint": common.endpoint,
        "token": match &common.token { Token::None => "none", Token::Value(_) => "given", Token::File(_) => "file" },
        "namespaces": namespaces,
        "exposedByDefault": common.exposed_by_default,
        "stale": common.stale,
        "defaultRule": common.default_rule,
        "prefix": common.prefix,
        "constraints": common.constraints,
        "legacyTags": match common.legacy_tags.mode {
            LegacyMode::Fallback => "fallback",
            LegacyMode::Merge => "merge",
            LegacyMode::Off => "off",
        },
    })
}
