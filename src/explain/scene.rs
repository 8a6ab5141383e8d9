//! What a question is answered by: a table, entry points, and what is known beside them.

use super::report::Catalog;
use crate::catalog::{SourceState, SourceStatus, World};
use crate::declare::{self, Declarations};
use crate::diagnostic::Diagnostic;
use crate::middleware::{Redirection, UserFiles};
use crate::model::{Provider, ServerId};
use crate::proxy::{EntryPoint, HeadRules, ToTls, Trust};
use crate::table::Table;
use crate::tags::TagOptions;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Where requests come in.
#[derive(Debug, Clone)]
pub struct Door {
    /// Name of the entry point.
    pub name: Arc<str>,
    /// Where it listens.
    pub port: u16,
    /// Routers on it answer TLS even if they do not say so.
    pub tls: bool,
    /// It redirects every request.
    pub redirect: Option<Redirection>,
    /// It redirects those that belong on an encrypted one.
    pub to_tls: Option<ToTls>,
    /// Whose `X-Forwarded-*` it believes.
    pub trust: Trust,
    /// What it makes of heads.
    pub head: HeadRules,
}

impl Door {
    /// An entry point that does nothing to requests.
    pub fn new(name: Arc<str>, port: u16, tls: bool) -> Self {
        Self { name, port, tls, redirect: None, to_tls: None, trust: Trust::default(), head: HeadRules::default() }
    }

    /// As a worker is told of it.
    pub fn of(entry_point: EntryPoint, port: u16, tls: bool) -> Self {
        let EntryPoint { name, redirect, to_tls, trust, head, .. } = entry_point;
        Self { name, port, tls, redirect, to_tls, trust, head }
    }
}

/// A router that was declared and does not act.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Qualified name.
    pub id: Arc<str>,
    /// As declared.
    pub router: Arc<declare::Router>,
    /// Why not.
    pub errors: Vec<String>,
}

/// Routers that are declared and not in the table, with what the problems say of them.
pub fn refused(declarations: &Declarations, table: &Table, problems: &[Diagnostic]) -> Vec<Refused> {
    let mut all = Vec::new();
    for (provider, dynamic) in declarations {
        for (name, router) in &dynamic.http.routers {
            let id: Arc<str> = format!("{name}@{provider}").into();
            if table.routers.contains_key(&id) {
                continue;
            }
            let about = format!("router `{name}`");
            let of_it = |d: &&Diagnostic| {
                d.origin.provider.as_deref() == Some(provider.as_str()) && d.message.starts_with(&about)
            };
            let errors = problems.iter().filter(of_it).map(|d| d.message.clone()).collect();
            all.push(Refused { id, router: router.clone(), errors });
        }
    }
    all
}

/// What is known of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// False while it is left alone.
    pub up: Option<bool>,
    /// Requests that it works on.
    pub in_flight: Option<u32>,
    /// Why it is not thought able to answer.
    pub why: Option<Arc<str>>,
}

/// What servers do now. Reading it changes nothing.
pub trait Servers {
    /// A server.
    fn state(&self, id: &ServerId) -> State;
    /// Where a service's round robin stands.
    fn turn(&self, service: &Arc<str>) -> u32;
    /// It was told that so many turns were taken by a question; only a file's scene keeps it.
    fn turned(&self, _service: &Arc<str>, _to: u32) {}
}

/// Who is let in, besides what the table says.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Peers that may use routes other than the built-in ones (`ALLOWED_REMOTE_IPS_SERVICES`); `None` means all.
    pub services: Option<Arc<[IpNet]>>,
    /// What the files of users hold; `None` where they are not read.
    pub user_files: Option<UserFiles>,
}

/// Everything that answers are made of.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The table in force.
    pub table: Arc<Table>,
    /// The same where ports that tags name answer TLS: without a static configuration a listener there is
    /// of either kind.
    pub secure: Option<Arc<Table>>,
    /// The entry points.
    pub doors: Vec<Door>,
    /// What was refused or deserves a remark.
    pub problems: Vec<Diagnostic>,
    /// Routers that do not act.
    pub refused: Vec<Refused>,
    /// The catalogs' services.
    pub world: World,
    /// How their tags are read.
    pub options: BTreeMap<Provider, TagOptions>,
    /// The catalog that wins between equal routers.
    pub primary: Provider,
    /// How the catalogs stand; empty for files.
    pub catalogs: Vec<Catalog>,
    /// Who is let in.
    pub admission: Admission,
}

impl Catalog {
    /// A provider's status in words.
    pub fn of(status: &SourceStatus, now: SystemTime) -> Self {
        let age = status.last_contact.and_then(|at| now.duration_since(at).ok()).map(|age| age.as_secs());
        let SourceStatus { provider, address, .. } = status;
        let detail = if status.last_error.is_empty() { String::new() } else { format!(": {}", status.last_error) };
        let since = age.map_or_else(String::new, |age| format!(", {age} s ago"));
        let (state, mut says) = match status.state {
            SourceState::Connected => ("connected", "answers".to_owned()),
            SourceState::Starting if status.last_change.is_none() => (
                "starting",
                format!(
                    "has not answered since the start{detail}; its services are those that the process before knew, if any"
                ),
            ),
            SourceState::Starting => ("starting", format!("is being read{detail}")),
            SourceState::Retrying => (
                "retrying",
                format!(
                    "does not answer{detail}; its services are those of its last answer{since}: changes since then are not known"
                ),
            ),
            SourceState::Stale => ("stale", "has no leader; what it says may be old".to_owned()),
        };
        if !status.held.is_empty() {
            says.push_str(&format!(
                "; after a reset of the catalog the removal of `{}` is held back",
                status.held.join("`, `")
            ));
        }
        if !status.missing_rights.is_empty() {
            says.push_str(&format!("; its token lacks rights: {}", status.missing_rights.join(", ")));
        }
        Self {
            provider: provider.as_str().into(),
            state: state.to_owned(),
            address: address.clone(),
            answered_seconds_ago: age,
            says: format!("`{provider}` at {address} {says}"),
        }
    }

    /// Whether there is nothing to say of it.
    pub fn is_well(&self) -> bool {
        self.says.ends_with(" answers")
    }
}
