//! From a transport to how connections are made: once for each value and process, not for each request.
//!
//! What always holds: what a worker looks up here is there already or is made without reading a file; certificates are
//! read by somebody else meanwhile, and a connection that needs them waits for them within its own
//! time-out. Equal transports come to the same [`Settings`], so that their connections outlive a table.

use super::tls::{TlsError, TlsFailure};
use super::{ServerTls, Settings};
use crate::table::{Service, Transport};
use arc_swap::ArcSwap;
use foldhash::{HashMap, HashSet};
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// What came of a transport's certificates: nothing yet, a configuration, or why there is none.
pub type TlsState = Option<Result<Arc<ClientConfig>, Arc<str>>>;

/// Starts the reading of a transport's certificates.
type Load = dyn Fn(&Arc<Transport>) -> ServerTls + Send + Sync;

/// How the servers of each service are reached; shared by all workers.
#[derive(Clone)]
pub struct Transports(Arc<Inner>);

struct Inner {
    default: Arc<Settings>,
    own: BTreeMap<Arc<str>, Arc<Settings>>,
    made: ArcSwap<HashMap<Arc<Transport>, Arc<Settings>>>,
    load: Box<Load>,
}

impl Transports {
    /// `default` is for services that name no transport, `own` for single services by qualified name. `load` starts
    /// to read the certificates of a transport and may not wait for them.
    pub fn new(
        default: Settings,
        own: BTreeMap<Arc<str>, Settings>,
        load: impl Fn(&Arc<Transport>) -> ServerTls + Send + Sync + 'static,
    ) -> Self {
        let own = own.into_iter().map(|(service, settings)| (service, Arc::new(settings))).collect();
        Self(Arc::new(Inner { default: Arc::new(default), own, made: ArcSwap::default(), load: Box::new(load) }))
    }

    /// How a service's servers are reached.
    pub fn of(&self, service: &Service) -> Arc<Settings> {
        match &service.transport {
            Some(transport) => self.make(transport),
            None => self.0.own.get(&service.id).unwrap_or(&self.0.default).clone(),
        }
    }

    /// What a transport comes to.
    pub fn named(&self, transport: &Arc<Transport>) -> Arc<Settings> {
        self.make(transport)
    }

    /// Makes what a new table declares before it is in force, and lets go of what it does not and no worker uses.
    pub fn prepare<'a>(&self, declared: impl Iterator<Item = &'a Arc<Transport>>) {
        let declared: HashSet<&Arc<Transport>> = declared.collect();
        for transport in &declared {
            self.make(transport);
        }
        let needed = |(transport, made): &(&Arc<Transport>, &Arc<Settings>)| {
            declared.contains(transport) || Arc::strong_count(made) > 1
        };
        if !self.0.made.load().iter().all(|entry| needed(&entry)) {
            self.0.made.rcu(|made| -> HashMap<_, _> {
                let needed = made.iter().filter(needed);
                needed.map(|(transport, made)| (transport.clone(), made.clone())).collect()
            });
        }
    }

    fn make(&self, transport: &Arc<Transport>) -> Arc<Settings> {
        if let Some(made) = self.0.made.load().get(transport) {
            return made.clone();
        }
        // Two workers may come here at once; the first one's counts.
        let new = Arc::new(Settings::of(transport, (self.0.load)(transport)));
        self.0.made.rcu(|made| {
            let mut made = HashMap::clone(made);
            made.entry(transport.clone()).or_insert_with(|| new.clone());
            made
        });
        self.0.made.load().get(transport).cloned().unwrap_or(new)
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.0.made.load();
        f.debug_struct("Transports").field("default", &self.0.default).field("made", &made.len()).finish()
    }
}

/// One way for all services; a transport with certificates of its own cannot be used.
impl From<Settings> for Transports {
    fn from(default: Settings) -> Self {
        let load = |transport: &Arc<Transport>| ServerTls::unusable(&format!("nobody reads `{}`", transport.id));
        Self::new(default, BTreeMap::new(), load)
    }
}

impl ServerTls {
    /// One whose certificates are being read: what is sent counts from the next connection on.
    pub fn awaited(state: watch::Receiver<TlsState>) -> Self {
        Self(state)
    }

    /// One that cannot be used.
    pub fn unusable(why: &str) -> Self {
        // The sender may go: what was sent stays.
        Self(watch::channel(Some(Err(why.into()))).1)
    }

    /// The configuration of this moment, waited for until it was read.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub(super) async fn get(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let not = |text: &str| TlsError { kind: TlsFailure::NotSetUp, text: text.to_owned() };
        if let Some(Ok(config)) = &*self.0.borrow() {
            return Ok(config.clone());
        }
        let mut state = self.0.clone();
        let read = state.wait_for(Option::is_some).await.map_err(|_| not("its certificates are not read any more"))?;
        match &*read {
            Some(Ok(config)) => Ok(config.clone()),
            Some(Err(why)) => Err(not(why)),
            None => Err(not("its certificates were not read")),
        }
    }
}

impl From<Arc<ClientConfig>> for ServerTls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self(watch::channel(Some(Ok(config))).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    fn service(transport: Option<&Arc<Transport>>) -> Service {
        Service {
            id: "s@file".into(),
            servers: Vec::new(),
            strategy: Default::default(),
            pass_host_header: true,
            transport: transport.cloned(),
            sticky: None,
            composite: None,
            health: None,
            passive: None,
            limit: None,
        }
    }

    #[test]
    fn equal_transports_are_made_once_and_go_with_their_last_table() {
        let loads = Arc::new(AtomicUsize::new(0));
        let count = loads.clone();
        let load = move |_: &Arc<Transport>| {
            count.fetch_add(1, SeqCst);
            ServerTls::unusable("test")
        };
        let own = Settings { dial_timeout: Duration::from_secs(7), ..Settings::default() };
        let transports = Transports::new(Settings::default(), [("own@file".into(), own)].into(), load);
        let plain = Arc::new(Transport::plain("t@file".into()));
        let equal = Arc::new(Transport::plain("t@file".into()));
        let first = transports.of(&service(Some(&plain)));
        assert!(Arc::ptr_eq(&first, &transports.of(&service(Some(&equal)))));
        transports.prepare([&equal].into_iter());
        assert!(Arc::ptr_eq(&first, &transports.of(&service(Some(&plain)))));
        assert_eq!(loads.load(SeqCst), 1);
        drop(first);
        let other = Arc::new(Transport { max_idle: 1, ..Transport::plain("t@file".into()) });
        transports.prepare([&other].into_iter());
        assert_eq!(transports.of(&service(Some(&other))).max_idle, 1);
        assert_eq!((loads.load(SeqCst), transports.0.made.load().len()), (2, 1));
        assert!(Arc::ptr_eq(&transports.of(&service(None)), &transports.0.default));
        let named = Service { id: "own@file".into(), ..service(None) };
        assert_eq!(transports.of(&named).dial_timeout.as_secs(), 7);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_waits_for_certificates() {
        let (tell, state) = watch::channel(None);
        let tls = ServerTls::awaited(state);
        let asked = tokio::spawn({
            let tls = tls.clone();
            async move { tls.get().await.map(|_| ()).map_err(|error| error.kind) }
        });
        tokio::task::yield_now().await;
        assert!(!asked.is_finished());
        tell.send_replace(Some(Err("gone".into())));
        assert_eq!(asked.await.unwrap(), Err(TlsFailure::NotSetUp));
        drop(tell);
        assert_eq!(tls.get().await.unwrap_err().text, "gone");
    }
}
