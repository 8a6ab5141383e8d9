//! Providers that declare directly, without a catalog: files and the API. Each publishes what it
//! says now; the control loop joins it with what the catalogs' tags declare.

use super::state::Finder;
use crate::catalog::{SourceState, SourceStatus};
use crate::certs::{Content, Named, Store as Certificates};
use crate::declare::{self, Declarations, Dynamic};
use crate::diagnostic::{self, Diagnostic, Origin, Problems, Stage, Subject};
use crate::model::{Provider, Secret};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a provider says.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Moves with every change of the rest; 0: nothing was read yet.
    pub revision: u64,
    /// Its declarations.
    pub dynamic: Dynamic,
    /// What was refused or deserves a remark.
    pub problems: Vec<Diagnostic>,
    /// How it stands.
    pub status: SourceStatus,
}

impl Said {
    /// Nothing yet.
    pub fn nothing(provider: Provider, address: String, strategy: &'static str) -> Self {
        let status = SourceStatus { strategy, known_leader: true, ..SourceStatus::starting(provider, address) };
        Self { revision: 0, dynamic: Dynamic::default(), problems: Vec::new(), status }
    }

    /// Whether it counts.
    pub fn is_read(&self) -> bool {
        self.status.state != SourceState::Starting
    }
}

/// The way from a provider to the control loop.
pub(super) type Saying = watch::Receiver<Arc<Said>>;

/// Providers that declare directly, and what the last step took of them.
#[derive(Default)]
pub(super) struct Direct {
    sayings: Vec<Saying>,
    taken: Vec<Arc<Said>>,
    /// What is wrong with what was taken.
    problems: BTreeMap<Finder, Problems>,
    /// What stands for one that was not read yet.
    restored: Declarations,
    /// Where certificates that they name are served.
    certificates: Option<Certificates>,
}

impl Direct {
    pub fn new(sayings: Vec<Saying>, restored: Declarations, certificates: Certificates) -> Self {
        Self { sayings, restored, certificates: Some(certificates), ..Self::default() }
    }

    /// Waits until one of them says something else.
    pub async fn changed(&mut self) {
        let changes = self.sayings.iter_mut().map(|saying| {
            Box::pin(async move {
                // one that has ended says what it said
                if saying.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            return std::future::pending().await;
        }
        futures_util::future::select_all(changes).await;
    }

    /// Takes what they say now; true when it differs from what the last step took.
    pub fn take(&mut self) -> bool {
        let now: Vec<Arc<Said>> = self.sayings.iter_mut().map(|saying| saying.borrow_and_update().clone()).collect();
        let revisions = |said: &[Arc<Said>]| said.iter().map(|said| said.revision).collect::<Vec<_>>();
        let changed = revisions(&now) != revisions(&self.taken);
        self.taken = now;
        if changed {
            let read = self.taken.iter().filter(|said| said.is_read());
            self.problems = read.map(|said| (Finder::Reader(said.status.provider), problems_of(said))).collect();
            self.problems.insert(Finder::Stores, self.of_all());
        }
        if let Some(certificates) = self.certificates.as_ref().filter(|_| changed) {
            certificates.name(self.pairs());
        }
        changed
    }

    /// The certificates that they name, the default one among them.
    pub fn pairs(&self) -> Vec<Named> {
        let tls = || self.taken.iter().map(|said| &said.dynamic.tls);
        let certificates = tls().flat_map(|tls| &tls.certificates);
        let named = certificates.filter_map(|own| Some(named(own.parts()?, false, &own.source)));
        named.chain(self.default_stores().take(1).map(|(_, _, default)| default)).collect()
    }

    /// Default stores with a default certificate, by provider.
    fn default_stores(&self) -> impl Iterator<Item = (Provider, &declare::TlsStore, Named)> {
        self.taken.iter().filter_map(|said| {
            let store = said.dynamic.tls.stores.get("default")?;
            Some((said.status.provider, &**store, named(store.default_certificate()?, true, &store.source)))
        })
    }

    /// What is wrong with them all together.
    fn of_all(&self) -> Problems {
        let mut problems = Problems::new();
        for (provider, store, _) in self.default_stores().skip(1) {
            let message =
                "the TLS store `default` is declared by several providers: only the first one's certificate counts";
            let place = store.source.place.as_ref();
            let origin = Origin {
                provider: Some(provider.as_str().into()),
                file: place.map(|place| place.file.clone()),
                line: place.map(|place| place.at.0),
                column: place.map(|place| place.at.1),
                ..Origin::default()
            };
            let problem = Diagnostic::error("tls_store", message).with_origin(origin);
            let kind = "TLS store";
            let subject =
                Subject { stage: Stage::Part, provider, kind, namespace: Arc::default(), name: "default".into() };
            diagnostic::set(&mut problems, &subject, vec![problem]);
        }
        problems
    }

    /// What a step that did not come to its end took is to be taken again.
    pub fn forget(&mut self) {
        self.taken.clear();
    }

    /// Whether each of them has been read, and there is one.
    pub fn are_read(&self) -> bool {
        !self.taken.is_empty() && self.all_read()
    }

    /// Whether each of them has been read.
    pub fn all_read(&self) -> bool {
        self.taken.iter().all(|said| said.is_read())
    }

    /// Adds what they said to what the catalogs' tags came to. One that was not read yet is `restored`.
    pub fn add(&self, declarations: &mut Declarations, problems: &mut BTreeMap<Finder, Problems>) {
        for said in &self.taken {
            let provider = said.status.provider;
            if said.is_read() {
                declarations.insert(provider, said.dynamic.clone());
            } else if let Some(restored) = self.restored.get(&provider) {
                declarations.insert(provider, restored.clone());
            }
        }
        problems.extend(self.problems.iter().map(|(finder, of_one)| (*finder, of_one.clone())));
    }
}

/// Its problems under one subject: they are told together, in the order of the text.
/// A certificate as it was named: what looks like PEM is the text itself, the rest is a file.
fn named((chain, key): (&str, &str), default: bool, source: &declare::Source) -> Named {
    let content = |text: &str| match text.contains("-----BEGIN") || text.contains('\n') {
        true => Content::Text(Secret::new(text)),
        false => Content::File(std::path::absolute(text).unwrap_or_else(|_| text.into())),
    };
    let place = source.place.as_ref().map(|place| format!("{}:{}", place.file, place.at.0));
    Named { chain: content(chain), key: content(key), default, place: place.unwrap_or_default().into() }
}

fn problems_of(said: &Said) -> Problems {
    let mut problems = Problems::new();
    let subject = Subject {
        stage: Stage::Options,
        provider: said.status.provider,
        kind: "document",
        namespace: Arc::default(),
        name: Arc::default(),
    };
    diagnostic::set(&mut problems, &subject, said.problems.clone());
    problems
}
