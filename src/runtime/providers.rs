//! The providers at the start: what the last run left on disk, the watchers of the catalogs, the files and the API.

use super::*;

impl Parts {
    /// The last good state, if there is one that is young enough.
    pub(super) fn restore(&self, store: &Store<LastGood>) -> LastGood {
        let Some(max_age) = self.settled.own.last_good_max_age else { return LastGood::default() };
        // The state directory may be on a network file system that hangs; a start does not.
        let (tell, told) = mpsc::channel();
        let store = store.clone();
        let read = move || drop(tell.send(store.read(max_age, SystemTime::now())));
        let started = std::thread::Builder::new().name("restore".to_owned()).spawn(read);
        let outcome = match started.map(|_| told.recv_timeout(RESTORE_LIMIT)) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                let path = self.state_dir.display();
                tracing::warn!("the last good state is not used: `{path}` gave none within {RESTORE_LIMIT:?}");
                return LastGood::default();
            }
        };
        match outcome {
            Ok(Some(Stored { value: last_good, .. })) => {
                let services: usize = last_good.world.sources.values().map(|i| i.services.len()).sum();
                tracing::info!(services, "serving the last good state until the catalogs answer");
                self.state.restored.store(services > 0, Relaxed);
                last_good
            }
            Ok(None) => LastGood::default(),
            Err(e) => {
                tracing::warn!("the last good state is not used: {e}");
                LastGood::default()
            }
        }
    }

    /// Starts the watchers of the configured catalogs.
    pub(super) fn watch(&self, shutdown: &CancellationToken, restored: &LastGood) -> Result<Vec<Source>, StartError> {
        let mut sources = Vec::new();
        let options = translate::tag_options(&self.settled);
        let spawn = |provider| {
            let options: tags::TagOptions = options.get(&provider).cloned().unwrap_or_default();
            let (all, reset_hold) = (options.exposed_by_default, self.settled.own.reset_hold);
            let (shutdown, mut current) = (shutdown.clone(), CancellationToken::new());
            let options = Arc::new(options);
            let before = restored.world.sources.get(&provider).map(|inventory| Before {
                inventory: inventory.clone(),
                index: restored.indexes.get(&provider).copied().unwrap_or_default(),
            });
            move || {
                // What is left of a watcher that ended goes with it.
                current.cancel();
                current = shutdown.child_token();
                let options = options.clone();
                Spawn {
                    all,
                    routing: Arc::new(move |tag: &str| tags::is_routing_tag(tag, &options)),
                    reset_hold,
                    before: before.clone(),
                    shutdown: current.clone(),
                    timing: catalog::Timing::default(),
                }
            }
        };
        let mut add = |provider: &'static str, start: source::Start| {
            let failed = |e: catalog::http::Error| StartError::Provider { provider, message: e.to_string() };
            sources.push(Source::start(start, &self.state).map_err(failed)?);
            Ok::<_, StartError>(())
        };
        if let Some(nomad) = self.settled.nomad.clone() {
            let mut spawn = spawn(crate::model::Provider::Nomad);
            add("nomad", Box::new(move || catalog::nomad::spawn(&nomad, spawn())))?;
        }
        if let Some(consul) = self.settled.consul.clone() {
            let mut spawn = spawn(crate::model::Provider::ConsulCatalog);
            add("consulCatalog", Box::new(move || catalog::consul::spawn(&consul, spawn())))?;
        }
        Ok(sources)
    }

    /// Starts the providers that declare directly.
    #[allow(clippy::type_complexity)]
    pub(super) fn direct(
        &self,
        restored: &LastGood,
    ) -> Result<(Direct, Option<Arc<Rest>>, Option<files::Watch>), StartError> {
        let mut sayings = Vec::new();
        let mut watch = None;
        if let Some(provider) = &self.settled.files {
            let before = restored.accepted.get(&crate::model::Provider::File).cloned().unwrap_or_default();
            let (started, saying) = files::start(provider, before).map_err(system("the files thread"))?;
            watch = Some(started);
            sayings.push(saying);
        }
        let rest = self.settled.rest.as_ref().map(|_| {
            let keeps = self.settled.own.last_good_max_age.is_some();
            let store = keeps.then(|| Store::new(&self.state_dir, "rest.json"));
            let stored = store.clone().and_then(|store| within(RESTORE_LIMIT, move || Rest::restore(&store)).flatten());
            let alone = self.settled.nomad.is_none() && self.settled.consul.is_none() && self.settled.files.is_none();
            Arc::new(Rest::new(store, stored, alone))
        });
        sayings.extend(rest.as_ref().map(|rest| rest.saying()));
        sayings.iter().for_each(|saying| self.state.add_direct(saying.clone()));
        Ok((Direct::new(sayings, restored.accepted.clone(), self.certificates.clone()), rest, watch))
    }
}
