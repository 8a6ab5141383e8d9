//! Orders against an authority over real sockets: the test's own (`ca`), and pebble where it is on PATH.

pub mod ca;
mod faults;
mod front;
mod orders;
mod pebble;

use ca::{Ca, Manner};
use front::Front;
use rust_lb::acme::{AcmeError, Authority, Client, Issued, Method, Order, Timing};
use rust_lb::certs::storage::Storage;
use std::time::Duration;

/// Pauses that do not count, and limits that are never reached but where a test reaches for them.
pub fn quick() -> Timing {
    Timing {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        request: Duration::from_secs(30),
        ..Timing::default()
    }
}

/// An authority, and a client of it with a storage and with sockets that answer challenges.
pub struct Rig {
    pub ca: Ca,
    pub front: Front,
    pub client: Client,
    pub authority: Authority,
    pub storage: Storage,
    pub dir: tempfile::TempDir,
}

impl Rig {
    pub async fn start(change: impl FnOnce(&mut Manner)) -> Self {
        Self::timed(change, quick()).await
    }

    pub async fn timed(change: impl FnOnce(&mut Manner), timing: Timing) -> Self {
        rust_lb::certs::install_provider();
        let dir = tempfile::tempdir().expect("a directory");
        let storage = Storage::directory(dir.path().to_owned());
        let front = Front::start(storage.clone()).await;
        let mut manner = Manner { look: front.look(), ..Manner::default() };
        change(&mut manner);
        let ca = Ca::start(manner).await;
        let client = Client::with_timing(storage.clone(), front.challenges.clone(), timing);
        let mut authority = Authority::new(ca.directory());
        (authority.roots, authority.system_roots) = (vec![ca.root.clone()], false);
        Self { ca, front, client, authority, storage, dir }
    }

    pub async fn order(&self, names: &[&str], methods: &[Method]) -> Result<Issued, AcmeError> {
        self.replace(names, methods, None).await
    }

    pub async fn replace(&self, names: &[&str], methods: &[Method], old: Option<&str>) -> Result<Issued, AcmeError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.client.order(Order { names: &names, authority: &self.authority, methods, replaces: old }).await
    }

    /// Keys of the storage below `acme`, and what stands in the zone: nothing of an order that has ended.
    pub fn left(&self) -> Vec<String> {
        let keys = self.storage.list("acme").expect("listed");
        let tokens = keys.into_iter().filter(|key| key.contains("challenge_tokens"));
        tokens.chain(self.front.zone().into_iter().map(|(name, _)| name)).collect()
    }
}
