//! Services and options as `render` and `explain` are given them: the answers of a catalog's API, and
//! the provider's options with flat keys.

use crate::catalog::{Health, Instance, Inventory, Service, ServiceKey, World, consul, nomad};
use crate::config::Settled;
use crate::declare::Dialect;
use crate::model::Provider;
use crate::runtime;
use crate::tags::{LegacyMode, TagOptions};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};
use std::sync::Arc;

/// The catalog of a word on the command line.
pub(super) fn provider(word: &str) -> Result<Provider, String> {
    match word.to_ascii_lowercase().as_str() {
        "nomad" => Ok(Provider::Nomad),
        "consulcatalog" | "consul" => Ok(Provider::ConsulCatalog),
        _ => Err(format!("expected the provider `nomad` or `consulcatalog`, got `{word}`")),
    }
}

/// What `--services` names: registrations of one catalog.
pub(super) struct Given {
    /// The catalog.
    pub provider: Provider,
    /// Its services.
    pub world: World,
}

/// A file with services is not read beyond this many bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Reads the registrations of a file, or of standard input (`-`); a catalog that is not said is told by their form.
///
/// # Errors
/// What is wrong with them, for people.
pub(super) fn read(file: &str, said: Option<&str>, stdin: &mut dyn BufRead) -> Result<Given, String> {
    let mut text = String::new();
    let read = match file {
        "-" => stdin.take(MAX_BYTES).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)),
    };
    read.map_err(|error| format!("cannot read `{file}`: {error}"))?;
    let of_file = |error: String| format!("`{file}`: {error}");
    let entries = entries(&text).map_err(of_file)?;
    let provider = match said {
        Some(word) => provider(word)?,
        None => entries.first().map_or(Provider::Nomad, |entry| guess(entry)),
    };
    Ok(Given { provider, world: world(provider, &entries).map_err(of_file)? })
}

/// How a static configuration reads the tags of a catalog.
///
/// # Errors
/// It does not have the catalog.
pub(super) fn options_of(settled: &Settled, provider: Provider) -> Result<BTreeMap<Provider, TagOptions>, String> {
    let mut read = runtime::tag_options(settled);
    read.retain(|known, _| *known == provider);
    match read.is_empty() {
        false => Ok(read),
        true => Err(format!("the services are of `{provider}`, which the static configuration does not ask")),
    }
}

/// Which catalog an entry is of: Consul's have a `Service` section.
pub(super) fn guess(entry: &RawValue) -> Provider {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "Service")]
        service: Option<serde::de::IgnoredAny>,
    }
    match serde_json::from_str::<Shape>(entry.get()) {
        Ok(Shape { service: Some(_) }) => Provider::ConsulCatalog,
        _ => Provider::Nomad,
    }
}

/// The elements of one or more arrays that stand one after another.
pub(super) fn entries(text: &str) -> Result<Vec<Box<RawValue>>, String> {
    let mut all = Vec::new();
    for list in serde_json::Deserializer::from_str(text).into_iter::<Vec<Box<RawValue>>>() {
        all.extend(list.map_err(|error| format!("expected arrays of registrations: {error}"))?);
    }
    Ok(all)
}

#[derive(Deserialize)]
struct ConsulName<'a> {
    #[serde(borrow, rename = "Service")]
    service: ConsulService<'a>,
}

#[derive(Deserialize)]
struct ConsulService<'a> {
    #[serde(borrow, rename = "Service")]
    name: std::borrow::Cow<'a, str>,
    #[serde(default, rename = "Namespace")]
    namespace: Option<String>,
}

/// The world of these registrations; those of one service stay in their order.
pub(super) fn world(provider: Provider, entries: &[Box<RawValue>]) -> Result<World, String> {
    let mut found: BTreeMap<ServiceKey, Vec<Instance>> = BTreeMap::new();
    for entry in entries {
        let told = |error: &dyn std::fmt::Display| format!("a registration cannot be read: {error}");
        let one = format!("[{}]", entry.get());
        if provider == Provider::Nomad {
            for read in nomad::decode::service(one.as_bytes()).map_err(|e| told(&e))? {
                found.entry(read.key).or_default().push(read.instance);
            }
        } else {
            let named: ConsulName<'_> = serde_json::from_str(entry.get()).map_err(|e| told(&e))?;
            let ConsulService { name, namespace } = named.service;
            let key = ServiceKey { namespace: namespace.unwrap_or_default().into(), name: name.into() };
            let read = consul::decode::service(one.as_bytes()).map_err(|e| told(&e))?;
            found.entry(key).or_default().extend(read);
        }
    }
    let services = found.into_iter().map(|(key, mut instances)| {
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        (key.clone(), Arc::new(Service { key, instances }))
    });
    let inventory = Arc::new(Inventory { services: services.collect() });
    Ok(World { sources: BTreeMap::from([(provider, inventory)]) })
}

/// How tags are read, by options with flat keys (`legacyTags.matcher`) over what holds without any; key case does not
/// count. There is no static configuration here, so any port in a tag is taken for an entry point.
pub(super) fn tag_options(mut options: TagOptions, given: &Map<String, Value>) -> Result<TagOptions, String> {
    options.legacy.any_port = true;
    for (key, value) in given {
        let wrong = |expected: &str| format!("option `{key}`: expected {expected}, got `{value}`");
        let text = || match value {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(wrong("a text")),
        };
        let truth = || match value {
            Value::Bool(truth) => Ok(*truth),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(wrong("true or false")),
        };
        let list = || -> Result<Vec<String>, String> {
            match value {
                Value::String(text) => Ok(text.split(',').map(|t| t.trim().to_owned()).collect()),
                Value::Array(all) => {
                    let word = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| wrong("a list of texts"));
                    all.iter().map(word).collect()
                }
                _ => Err(wrong("a list of texts")),
            }
        };
        let states = || -> Result<BTreeSet<Health>, String> {
            list()?.iter().map(|state| Health::named(state).ok_or_else(|| wrong("states such as `passing`"))).collect()
        };
        match key.to_ascii_lowercase().as_str() {
            "exposedbydefault" => options.exposed_by_default = truth()?,
            "defaultrule" => options.default_rule = text()?.to_owned(),
            "constraints" => options.constraints = text()?.to_owned(),
            "prefix" => options.prefix = text()?.into(),
            "strictchecks" => options.strict_checks = states()?,
            "legacytags" | "legacytags.mode" => {
                options.legacy.mode = match text()? {
                    "fallback" => LegacyMode::Fallback,
                    "merge" => LegacyMode::Merge,
                    "off" => LegacyMode::Off,
                    _ => return Err(wrong("`fallback`, `merge` or `off`")),
                }
            }
            "legacytags.prefix" => options.legacy.prefix = text()?.into(),
            "legacytags.matcher" => {
                options.legacy.matcher = text()?.parse().map_err(|()| wrong("`prefix`, `iprefix` or `glob`"))?;
            }
            "legacytags.globdisabled" => options.legacy.glob_disabled = truth()?,
            "legacytags.servicestatus" => options.legacy.service_status = states()?,
            "legacytags.checksrequired" => match text()? {
                "one" => options.legacy.all_checks = false,
                "all" => options.legacy.all_checks = true,
                _ => return Err(wrong("`one` or `all`")),
            },
            "legacytags.dialects" => {
                let dialect = |name: &String| match name.as_str() {
                    "traefik" => Ok(Dialect::Traefik),
                    "urlprefix" => Ok(Dialect::Urlprefix),
                    "site" => Ok(Dialect::Site),
                    _ => Err(wrong("`traefik`, `urlprefix`, `site`")),
                };
                options.dialects = list()?.iter().map(dialect).collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("unknown option `{key}`")),
        }
    }
    Ok(options)
}
