//! The TLS configurations in force, by the names of their options: built when options change, on the control side, and
//! looked up by handshakes.
//!
//! What always holds: options that cannot be served leave their last good configuration in force; where there is none,
//! handshakes of the hosts that need them are refused.

use crate::certs::Store as Certificates;
use crate::certs::options::{self, TlsOptions};
use crate::declare::{self, Declarations};
use crate::diagnostic::{self, Diagnostic, Origin, Problems, Stage, Subject};
use crate::model::Provider;
use crate::proxy::TlsChoice;
use crate::table::{DEFAULT_TLS_OPTIONS, Table};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long files of authorities may take to be read; they may be on a network file system.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// Largest file of authorities.
const MAX_FILE: u64 = 4 << 20;

/// See the module.
pub(super) struct TlsConfigs {
    certificates: Certificates,
    configs: ArcSwap<BTreeMap<Arc<str>, Arc<ServerConfig>>>,
    known: Mutex<Known>,
}

/// What the last update knew.
#[derive(Default)]
struct Known {
    options: BTreeMap<Arc<str>, (Provider, declare::TlsOptions)>,
    problems: Problems,
    /// The default ones where nobody says any.
    built_in: Option<Arc<ServerConfig>>,
}

impl TlsConfigs {
    /// The built-in default options alone.
    pub fn new(certificates: Certificates, default: Arc<ServerConfig>) -> Self {
        let configs = BTreeMap::from([(DEFAULT_TLS_OPTIONS.into(), default.clone())]);
        let known = Known { built_in: Some(default), ..Known::default() };
        Self { certificates, configs: ArcSwap::from_pointee(configs), known: Mutex::new(known) }
    }

    /// What a handshake goes by; `None` where it is to be refused.
    pub fn choose(&self, table: &Table, entry_point: &str, server_name: Option<&str>) -> Option<TlsChoice> {
        let configs = self.configs.load();
        let (name, config) = configs.get_key_value(table.tls_options(entry_point, server_name))?;
        Some(TlsChoice { config: config.clone(), options: name.clone() })
    }

    /// What a handshake of a TCP router with these options goes by; `None` where it is to be refused.
    pub fn named(&self, options: &str) -> Option<TlsChoice> {
        let configs = self.configs.load();
        let (name, config) = configs.get_key_value(options)?;
        Some(TlsChoice { config: config.clone(), options: name.clone() })
    }

    /// Builds what the declarations change. Options that are gone stay as long as the table in force uses them.
    pub fn update(&self, declarations: &Declarations, table: &Table) -> Problems {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted: BTreeMap<Arc<str>, (Provider, declare::TlsOptions)> = BTreeMap::new();
        let mut twice = None;
        for (provider, dynamic) in declarations {
            for (name, options) in &dynamic.tls.options {
                let id: Arc<str> = match &**name {
                    DEFAULT_TLS_OPTIONS => DEFAULT_TLS_OPTIONS.into(),
                    name => format!("{name}@{provider}").into(),
                };
                match wanted.entry(id) {
                    Entry::Occupied(_) => twice = Some((*provider, options.clone())),
                    Entry::Vacant(entry) => {
                        entry.insert((*provider, (**options).clone()));
                    }
                }
            }
        }
        let mut configs = (**self.configs.load()).clone();
        for (id, (provider, declared)) in &wanted {
            if known.options.get(id).is_some_and(|before| *before == (*provider, declared.clone())) {
                continue;
            }
            let mut problems = Vec::new();
            match self.build(declared) {
                Ok((config, remarks)) => {
                    configs.insert(id.clone(), config);
                    for remark in remarks {
                        let message = format!("TLS options `{id}`: {remark}");
                        problems
                            .push(Diagnostic::warning("tls_options", message).with_origin(place(declared, *provider)));
                    }
                }
                Err(why) => {
                    let message = format!("TLS options `{id}` are refused: {why}");
                    let help = match configs.contains_key(id) {
                        true => "their last good definition stays in force",
                        false => "handshakes that need them are refused",
                    };
                    let problem = Diagnostic::error("bad_tls_options", message).with_help(help);
                    problems.push(problem.with_origin(place(declared, *provider)));
                }
            }
            diagnostic::set(&mut known.problems, &subject(id, *provider), problems);
        }
        let gone: Vec<_> = known
            .options
            .iter()
            .filter(|(id, _)| !wanted.contains_key(*id))
            .map(|(id, (p, _))| (id.clone(), *p))
            .collect();
        for (id, provider) in gone {
            diagnostic::set(&mut known.problems, &subject(&id, provider), Vec::new());
            if let Some(default) = known.built_in.clone().filter(|_| *id == *DEFAULT_TLS_OPTIONS) {
                configs.insert(id, default);
            }
        }
        let used = table.tls_options_in_use();
        configs.retain(|id, _| **id == *DEFAULT_TLS_OPTIONS || wanted.contains_key(id) || used.contains(id));
        known.options = wanted;
        let both = twice.map(|(provider, options)| {
            let message = "TLS options `default` are declared by several providers: only the first ones count";
            Diagnostic::error("tls_options", message).with_origin(place(&options, provider))
        });
        diagnostic::set(&mut known.problems, &subject("", Provider::Internal), both.into_iter().collect());
        let before = self.configs.load();
        if configs.len() != before.len()
            || configs.iter().any(|(id, c)| before.get(id).is_none_or(|b| !Arc::ptr_eq(b, c)))
        {
            self.configs.store(Arc::new(configs));
        }
        known.problems.clone()
    }

    fn build(&self, declared: &declare::TlsOptions) -> Result<(Arc<ServerConfig>, Vec<String>), String> {
        let options = serde_json::Value::Object(declared.options.0.clone().into_iter().collect());
        let options: TlsOptions = serde_json::from_value(options).map_err(|error| error.to_string())?;
        let authorities = authorities(&options.client_auth.ca_files)?;
        let built = options::build(&self.certificates, &options, &authorities).map_err(|error| error.to_string())?;
        Ok((built.config, built.remarks))
    }
}

/// What the files of authorities hold; a text in PEM form stands for itself.
fn authorities(files: &[String]) -> Result<Vec<Vec<u8>>, String> {
    let mut all = Vec::new();
    for file in files {
        if file.contains("-----BEGIN") {
            all.push(file.clone().into_bytes());
            continue;
        }
        let path = super::absolute(Path::new(file));
        let read = super::within(READ_LIMIT, move || {
            let mut content = Vec::new();
            std::fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut content).map(|_| content)
        });
        let read = read.ok_or_else(|| format!("`{file}` takes too long to be read"))?;
        all.push(read.map_err(|error| format!("`{file}` cannot be read: {error}"))?);
    }
    Ok(all)
}

fn subject(id: &str, provider: Provider) -> Subject {
    Subject { stage: Stage::Part, provider, kind: "tls options", namespace: Arc::default(), name: id.into() }
}

fn place(declared: &declare::TlsOptions, provider: Provider) -> Origin {
    let place = declared.source.place.as_ref();
    Origin {
        provider: Some(provider.as_str().into()),
        file: place.map(|place| place.file.clone()),
        line: place.map(|place| place.at.0),
        column: place.map(|place| place.at.1),
        ..Origin::default()
    }
}
