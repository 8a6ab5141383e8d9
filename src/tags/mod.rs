//! Tags to declarations: the three dialects (`traefik.*`, `urlprefix-`, `https://host`) that
//! services in a catalog are routed by. Pure: an inventory goes in, declarations and diagnostics
//! come out.
//!
//! What always holds: decoding never fails as a whole and never panics. A bad tag disables only
//! the router, service or middleware that it belongs to, and says so with tag and column. Where
//! two services claim one name, the claim that stood stays; without one the older registration
//! has it (lowest create index, then namespace, then name). Equal inventories give equal results,
//! and a service that did not change costs next to nothing ([`Decoder`]).

mod claims;
pub mod constraints;
mod decoder;
mod drafts;
mod exposure;
mod fragment;
mod glob;
mod grown;
mod label;
mod labels;
pub(crate) mod legacy;
mod names;
mod pool;
mod rank;
mod site;
mod standing;
pub mod template;
mod traefik;
mod urlprefix;
mod urlprefix_tcp;

pub use crate::declare::options;
pub use decoder::{Decoder, Step};
pub use standing::{Reading, Standing, standing};

use crate::catalog::{Health, World};
use crate::declare::{Declarations, Dialect, Options, ServersTransport, Source};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How the tags of one provider are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagOptions {
    /// `exposedByDefault`: services without `enable` are routed too.
    pub exposed_by_default: bool,
    /// `defaultRule`, a Go template ([`template`]); routers without a rule get it.
    pub default_rule: String,
    /// `prefix`, `traefik` by default.
    pub prefix: Arc<str>,
    /// `constraints` expression ([`constraints`]); empty means none.
    pub constraints: String,
    /// `strictChecks`: the states in which an instance is routed by its `traefik.*` tags. An
    /// instance whose state the catalog does not tell (Nomad) is always routed.
    pub strict_checks: BTreeSet<Health>,
    /// Which dialects are read at all.
    pub dialects: BTreeSet<Dialect>,
    /// `legacyTags`.
    pub legacy: LegacyOptions,
}

/// How `urlprefix-` and `https://host` tags are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyOptions {
    /// When they count.
    pub mode: LegacyMode,
    /// `urlprefix-`.
    pub prefix: Arc<str>,
    /// States in which an instance is routed by them (`passing`); an unknown state always is.
    pub service_status: BTreeSet<Health>,
    /// The entry point for plain HTTP (`web`).
    pub web: Arc<str>,
    /// The entry point for HTTPS (`websecure`).
    pub websecure: Arc<str>,
    /// Entry points by the port in `urlprefix-host:port/`; 80 and 443 are [`Self::web`] and
    /// [`Self::websecure`] where they are not named here.
    pub ports: BTreeMap<u16, Arc<str>>,
    /// Port in the redirect from HTTP to HTTPS; empty means 443.
    pub redirect_port: Arc<str>,
    /// How a prefix's path is compared.
    pub matcher: PathMatcher,
    /// Fabio's `glob.matching.disabled`: hosts are literal.
    pub glob_disabled: bool,
    /// Schemes of `auth=` that the configuration defines ([`auth_middleware`]); all others are
    /// middlewares of the file provider.
    pub auth_schemes: BTreeSet<Arc<str>>,
    /// All checks of an instance must be in a state of [`Self::service_status`], not only one.
    pub all_checks: bool,
    /// No static configuration is known (`render`, `explain`): a port that is neither in
    /// [`Self::ports`] nor 80 or 443 has an entry point of its own ([`port_entry_point`]).
    pub any_port: bool,
}

/// The entry point that stands for a port where no static configuration is known.
pub fn port_entry_point(port: u16) -> Arc<str> {
    format!("port-{port}").into()
}

/// The built-in middleware of a scheme that the configuration defines.
pub fn auth_middleware(scheme: &str) -> Arc<str> {
    format!("fabio-auth-{scheme}").into()
}

/// Name of the built-in transport of `tlsskipverify=true`.
pub const UNVERIFIED: &str = "fabio-unverified";

/// The built-in transport of `tlsskipverify=true`: certificates are not verified.
pub fn unverified() -> ServersTransport {
    let options = serde_json::Map::from_iter([("insecureSkipVerify".to_owned(), true.into())]);
    ServersTransport { options: Options(options), source: Source::default() }
}

/// How a prefix's path is compared: Fabio's `proxy.matcher`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathMatcher {
    /// As a prefix.
    #[default]
    Prefix,
    /// As a prefix, letter case apart.
    IPrefix,
    /// As a pattern of the whole path.
    Glob,
}

impl std::str::FromStr for PathMatcher {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "prefix" => Ok(Self::Prefix),
            "iprefix" => Ok(Self::IPrefix),
            "glob" => Ok(Self::Glob),
            _ => Err(()),
        }
    }
}

/// When legacy tags count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyMode {
    /// Only for services that no `traefik.*` tag routes.
    Fallback,
    /// Always.
    Merge,
    /// Never.
    Off,
}

impl Default for LegacyOptions {
    fn default() -> Self {
        Self {
            mode: LegacyMode::Fallback,
            prefix: "urlprefix-".into(),
            service_status: BTreeSet::from([Health::Passing]),
            web: "web".into(),
            websecure: "websecure".into(),
            ports: BTreeMap::new(),
            redirect_port: Arc::default(),
            matcher: PathMatcher::Prefix,
            glob_disabled: false,
            auth_schemes: BTreeSet::new(),
            all_checks: false,
            any_port: false,
        }
    }
}

impl Default for TagOptions {
    /// Traefik's defaults, but nothing is exposed by default.
    fn default() -> Self {
        Self {
            exposed_by_default: false,
            default_rule: "Host(`{{ normalize .Name }}`)".to_owned(),
            prefix: "traefik".into(),
            constraints: String::new(),
            strict_checks: BTreeSet::from([Health::Passing, Health::Warning]),
            dialects: BTreeSet::from([Dialect::Traefik, Dialect::Urlprefix, Dialect::Site]),
            legacy: LegacyOptions::default(),
        }
    }
}

/// The default rule for `DOMAIN_SUFFIX`: ``Host(`<service>.<suffix>`)``.
pub fn default_rule(domain_suffix: &str) -> String {
    format!("Host(`{{{{ normalize .Name }}}}.{domain_suffix}`)")
}

/// Whether a tag is one that may route its service. Watchers pass over services without any,
/// unless `exposed_by_default` is set.
pub fn is_routing_tag(tag: &str, options: &TagOptions) -> bool {
    let traefik = options.dialects.contains(&Dialect::Traefik)
        && tag.strip_prefix(&*options.prefix).is_some_and(|rest| rest.starts_with('.'));
    let legacy = options.legacy.mode != LegacyMode::Off;
    let tag = tag.trim_start();
    traefik
        || legacy && options.dialects.contains(&Dialect::Urlprefix) && tag.starts_with(&*options.legacy.prefix)
        || legacy && options.dialects.contains(&Dialect::Site) && site::is_site(tag)
}

/// What decoding came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// What every provider declares.
    pub declarations: Declarations,
    /// What was refused or deserves a remark.
    pub diagnostics: Vec<Diagnostic>,
}

/// Decodes a world from nothing; a running proxy keeps a [`Decoder`].
pub fn decode(world: &World, options: &BTreeMap<Provider, TagOptions>) -> Decoded {
    Decoder::new(options.clone()).decode(world)
}
