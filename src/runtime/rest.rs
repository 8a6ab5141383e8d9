//! The REST provider: what was put through the API last. It is kept in the state directory (0600),
//! since nothing else knows it: a restart loses no route. A document that is refused changes nothing.

use super::direct::{Said, Saying};
use crate::catalog::SourceState;
use crate::declare::rest::decode;
use crate::declare::{Dynamic, file::Decoded};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Provider;
use crate::rule::{self, Kind, Matcher, Syntax};
use crate::table::{Store, Stored};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, watch};

/// What was put is true until something else is.
const ANY_AGE: Duration = Duration::from_secs(u32::MAX as u64);

/// Takes documents.
pub(super) struct Rest {
    sender: watch::Sender<Arc<Said>>,
    store: Option<Store<Dynamic>>,
    /// Documents are taken one after another.
    turn: Mutex<()>,
}

impl Rest {
    /// Without anything put, or with what was put before the start. `alone`: nothing else says what is
    /// served, so that nothing is a state to be served.
    pub fn new(store: Option<Store<Dynamic>>, restored: Option<Stored<Dynamic>>, alone: bool) -> Self {
        let mut said = Said::nothing(Provider::Rest, "/api/providers/rest".to_owned(), "put");
        said.status.state = SourceState::Connected;
        said.status.last_change = alone.then(SystemTime::now);
        said.revision = 1;
        if let Some(stored) = restored {
            said.status.last_change = Some(stored.written);
            said.status.services_seen = stored.value.http.services.len();
            said.dynamic = stored.value;
        }
        Self { sender: watch::channel(Arc::new(said)).0, store, turn: Mutex::new(()) }
    }

    /// What was put before the start.
    pub fn restore(store: &Store<Dynamic>) -> Option<Stored<Dynamic>> {
        store.read(ANY_AGE, SystemTime::now()).unwrap_or_else(|e| {
            tracing::warn!("what was put through the API is not restored: {e}");
            None
        })
    }

    /// Where to hear of what is put.
    pub fn saying(&self) -> Saying {
        self.sender.subscribe()
    }

    /// Reads again what is kept: another process may have been given something after this one started. Needs the
    /// time of a disk.
    pub fn look_again(&self) {
        let Some(stored) = self.store.as_ref().and_then(Self::restore) else { return };
        self.sender.send_if_modified(|current| {
            if current.dynamic == stored.value {
                return false;
            }
            let mut said = Said::clone(current);
            said.revision += 1;
            said.status.index = said.revision;
            said.status.last_change = Some(stored.written);
            said.status.services_seen = stored.value.http.services.len();
            said.dynamic = stored.value;
            *current = Arc::new(said);
            true
        });
    }

    /// Takes a document in the place of the last one; gives its warnings.
    ///
    /// # Errors
    /// Everything that is wrong with it: then nothing changed.
    pub async fn put(&self, body: Vec<u8>) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let _turn = self.turn.lock().await;
        let store = self.store.clone();
        let before = self.sender.borrow().clone();
        // a large document takes time, and so may the disk
        let taken = tokio::task::spawn_blocking(move || {
            let mut decoded = decode(&body)?;
            rules(&decoded.dynamic)?;
            let known = Decoded { dynamic: before.dynamic.clone(), ..Decoded::default() };
            decoded.share(&known);
            let kept = store.map_or(Ok(()), |store| store.write(&decoded.dynamic, SystemTime::now()));
            if let Err(e) = kept {
                let problem = Diagnostic::warning("state_not_written", e.to_string());
                decoded.problems.push(problem.with_help("after a restart it would have to be put again"));
            }
            Ok(decoded)
        });
        let decoded = taken.await.unwrap_or_else(|_| {
            tracing::error!("a document put through the API was not taken because of a defect");
            Err(vec![Diagnostic::error("defect", "the document is not taken because of a defect, see the log")])
        })?;
        let warnings = decoded.problems.clone();
        self.sender.send_modify(|current| {
            let mut said = Said::clone(current);
            said.revision += 1;
            said.status.index = said.revision;
            said.status.last_change = Some(SystemTime::now());
            said.status.last_contact = said.status.last_change;
            said.status.services_seen = decoded.dynamic.http.services.len();
            (said.dynamic, said.problems) = (decoded.dynamic, decoded.problems);
            *current = Arc::new(said);
        });
        Ok(warnings)
    }
}

/// Rules that cannot be read refuse the document, too.
fn rules(dynamic: &Dynamic) -> Result<(), Vec<Diagnostic>> {
    let bad = dynamic.http.routers.iter().filter_map(|(name, router)| {
        let syntax = if &*router.rule_syntax == "v2" { Syntax::V2 } else { Syntax::V3 };
        let error = rule::parse(&router.rule, Kind::Http, syntax).and_then(|rule| Matcher::compile(&rule)).err()?;
        let message = format!("router `{name}`: the rule `{}` is refused: {error}", router.rule);
        let origin = Origin { provider: Some(Provider::Rest.as_str().into()), ..Origin::default() };
        Some(Diagnostic::error("bad_rule", message).with_origin(origin).with_span(error.span.start, error.span.end))
    });
    let bad: Vec<Diagnostic> = bad.collect();
    if bad.is_empty() { Ok(()) } else { Err(bad) }
}
