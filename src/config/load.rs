//! The way from the sources to what is settled: find and read the file, the environment and the
//! flags, follow each, put the layers on top of each other, settle. Everything that the outside
//! gives is in [`Input`], so that a test can give it too.

use super::keys::{DEFAULT_ENTRY_POINTS, DEFAULT_OBSERVATION, DEFAULT_PROVIDERS};
use super::merge::{Layer, Merged};
use super::raw::{Raw, split_path};
use super::resolve::{Resolver, is_kv};
use super::settle::{SetUp, settle};
use super::sources::{flags, variables};
use super::{Settled, file};
use crate::diagnostic::{Diagnostic, Origin, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Static files that are looked for when none is named; the first that exists is read.
pub const DEFAULT_PATHS: [&str; 4] =
    ["/etc/rust-lb.yaml", "/etc/rust-lb/rust-lb.yaml", "/etc/traefik/traefik.yaml", "/etc/traefik.yaml"];

/// What the configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Flags, without the program's name and the subcommand.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Files to look for when neither a flag nor a variable names one.
    pub default_paths: Vec<PathBuf>,
}

impl Input {
    /// What this process was given, with these flags. Variables that are not UTF-8 are left out.
    pub fn of_process(args: Vec<String>) -> Self {
        let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self { args, env: env.collect(), default_paths: DEFAULT_PATHS.map(PathBuf::from).to_vec() }
    }
}

/// Something worth knowing that is no problem: what was dropped or needs no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Who said what it is about.
    pub origin: Origin,
    /// One sentence without a full stop.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.origin.file {
            write!(f, "{file}:")?;
            if let (Some(line), Some(column)) = (self.origin.line, self.origin.column) {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " ")?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What is settled.
    pub settled: Settled,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// Remarks; to be logged, never a reason to refuse.
    pub notes: Vec<Note>,
    /// True when `web` and `websecure` are the built-in ones: then requests to `web` are redirected
    /// to `websecure` as HinD does it, and trusted peers are those of `TRUSTED_PROXIES`.
    pub default_entry_points: bool,
}

/// Reads and settles the configuration.
///
/// # Errors
/// Every problem found, warnings included, when at least one of them is an error.
pub fn load(input: &Input) -> Result<Loaded, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let flags = flags(&input.args);
    diagnostics.extend(flags.diagnostics);
    let variables = variables(&input.env, &mut diagnostics);

    let (path, in_file) = match choose(input, flags.config_file.or(variables.config_file)) {
        None => (None, Vec::new()),
        Some((path, named_by)) => match file::read(&path) {
            Ok(raws) => (Some(path), raws),
            Err(d) => {
                let help = d.help.clone().or_else(|| named_by.map(|by| format!("it was named by `{by}`")));
                diagnostics.push(Diagnostic { help, ..*d });
                return Err(diagnostics);
            }
        },
    };

    let mut layers = variables.layers;
    layers.push((Layer::File, in_file));
    layers.push((Layer::Flags, flags.said));
    layers.sort_by_key(|(layer, _)| *layer);
    let mut resolver = Resolver::new(layers.iter().any(|(_, raws)| is_kv(raws)));
    let mut traefiks_file = false;
    let mut own_form = BTreeSet::new();
    let mut in_file = BTreeSet::new();
    let mut said = Vec::new();
    for (layer, raws) in layers {
        let unknown = match layer {
            Layer::File | Layer::Flags => Severity::Error,
            _ => Severity::Warning,
        };
        if layer == Layer::File {
            traefiks_file =
                raws.iter().any(|raw| raw.path.first().is_some_and(|s| !s.name.eq_ignore_ascii_case("rustLb")));
        }
        // The agents' own variables are defaults: they name nothing.
        let before = (layer == Layer::Agents).then(|| (resolver.named.clone(), resolver.own_form.clone()));
        said.push((layer, resolver.resolve(raws, unknown)));
        if let Some((named, own)) = before {
            (resolver.named, resolver.own_form) = (named, own);
        }
        if layer == Layer::File {
            own_form = resolver.own_form.clone();
            in_file = resolver.named.clone();
        }
    }

    let named = |section| resolver.named.iter().any(|(s, _)| *s == section);
    let (entry_points_named, providers_named) = (named("entryPoints"), named("providers"));
    let in_traefiks_form =
        |provider: &'static str| in_file.contains(&("providers", provider.to_owned())) && !own_form.contains(provider);
    let set_up = SetUp {
        file: path,
        default_entry_points: !entry_points_named,
        traefiks_nomad: in_traefiks_form("nomad"),
        traefiks_consul: in_traefiks_form("consulCatalog"),
    };
    let (built_in, mut notes) = built_in(&set_up, !providers_named, !traefiks_file);
    said.insert(0, (Layer::BuiltIn, resolver.resolve(built_in, Severity::Error)));

    diagnostics.append(&mut resolver.diagnostics);
    notes.append(&mut resolver.notes);
    let mut merged = Merged::default();
    for (layer, said) in said {
        merged.apply(layer, said, &mut diagnostics);
    }
    let default_entry_points = set_up.default_entry_points;
    let settled = settle(&merged, set_up, &input.env, &mut diagnostics);
    match diagnostics.iter().any(Diagnostic::is_error) {
        true => Err(diagnostics),
        false => Ok(Loaded { settled, diagnostics, notes, default_entry_points }),
    }
}

/// The lowest layer: the groups of defaults that nothing said drops, and a note for each that is.
fn built_in(set_up: &SetUp, default_providers: bool, default_observation: bool) -> (Vec<Raw>, Vec<Note>) {
    let (mut said, mut notes) = (Vec::new(), Vec::new());
    for (used, defaults, dropped) in [
        (
            set_up.default_entry_points,
            DEFAULT_ENTRY_POINTS,
            "entry points are named, so the default ones (`web` :80, `websecure` :443) are dropped",
        ),
        (
            default_providers,
            DEFAULT_PROVIDERS,
            "providers are named, so the default ones (`nomad`, `consulCatalog`) are dropped",
        ),
        (
            default_observation,
            DEFAULT_OBSERVATION,
            "access log, metrics and security headers are as the static file says, by default off",
        ),
    ] {
        match used {
            true => said.extend(defaults),
            false => notes.push(Note { origin: Origin::default(), message: dropped.to_owned() }),
        }
    }
    said.push(match set_up.traefiks_nomad {
        true => ("providers.nomad.exposedByDefault", "true"),
        false => ("providers.nomad.namespaces", "*"),
    });
    if set_up.traefiks_consul {
        said.push(("providers.consulCatalog.exposedByDefault", "true"));
    }
    (said.into_iter().map(|(path, value)| Raw::plain(split_path(path), value, "built in")).collect(), notes)
}

/// The file to read and who named it; a file that was looked for and is not there is none.
fn choose(input: &Input, named: Option<(PathBuf, String)>) -> Option<(PathBuf, Option<String>)> {
    match named {
        Some((path, by)) => Some((path, Some(by))),
        None => {
            let exists = |path: &&PathBuf| Path::try_exists(path).unwrap_or(true);
            input.default_paths.iter().find(exists).map(|path| (path.clone(), None))
        }
    }
}
