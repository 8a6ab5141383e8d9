//! Addresses of a server. A name is looked up in the background once it is known: a request waits
//! for the resolver only when nothing was ever found, and the last addresses are kept while the
//! resolver fails.
//!
//! What always holds: one look-up of a name at a time, whatever number of requests wait for it, and
//! after one that found nothing none for a moment: each holds a thread for as long as the resolver likes.

use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long addresses are taken as fresh.
const FRESH: Duration = Duration::from_secs(10);
/// When a failed look-up is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A few addresses.
pub(super) type Found = SmallVec<[SocketAddr; 2]>;

/// The addresses of one server, for one worker.
#[derive(Debug)]
pub(super) struct Addresses {
    host: Arc<str>,
    port: u16,
    known: RefCell<Found>,
    // `None`: for ever.
    fresh_until: Cell<Option<Instant>>,
    looking: Cell<bool>,
    looked: Notify,
    // Of the last look-up, while nothing was ever found.
    failure: RefCell<Option<String>>,
    #[cfg(test)]
    looks: Cell<u32>,
}

impl Addresses {
    pub(super) fn new(host: Arc<str>, port: u16) -> Self {
        let (known, fresh_until) = match host.parse::<IpAddr>() {
            Ok(ip) => (SmallVec::from_elem(SocketAddr::new(ip, port), 1), None),
            Err(_) => (SmallVec::new(), Some(Instant::now())),
        };
        Self {
            host,
            port,
            known: RefCell::new(known),
            fresh_until: Cell::new(fresh_until),
            looking: Cell::new(false),
            looked: Notify::new(),
            failure: RefCell::default(),
            #[cfg(test)]
            looks: Cell::new(0),
        }
    }

    /// What is known, or else what the resolver says.
    pub(super) async fn get(self: &Rc<Self>) -> io::Result<Found> {
        let looked = self.looked.notified();
        if self.is_stale(Instant::now()) && !self.looking.replace(true) {
            let this = self.clone();
            #[cfg(test)]
            this.looks.set(this.looks.get() + 1);
            // In a task of its own: the request that asked first may give up before the others.
            tokio::task::spawn_local(async move {
                let result = look_up(&this.host, this.port).await;
                this.looking.set(false);
                if let Err(error) = this.learn(result, Instant::now()) {
                    tracing::warn!(host = %this.host, %error, "name not resolved, keeping its last addresses if any");
                }
                this.looked.notify_waiters();
            });
        }
        if self.known.borrow().is_empty() && self.looking.get() {
            looked.await;
        }
        let known = self.known.borrow().clone();
        if known.is_empty() {
            let failure = self.failure.borrow().clone();
            return Err(io::Error::other(failure.unwrap_or_else(|| "not looked up yet".to_owned())));
        }
        Ok(known)
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.fresh_until.get().is_some_and(|until| now >= until)
    }

    /// Takes a look-up's result; an error or an empty answer leaves what is known.
    fn learn(&self, result: io::Result<Found>, now: Instant) -> io::Result<()> {
        let error = match result {
            Ok(found) if !found.is_empty() => {
                *self.known.borrow_mut() = found;
                *self.failure.borrow_mut() = None;
                self.fresh_until.set(Some(now + FRESH));
                return Ok(());
            }
            Ok(_) => io::Error::new(io::ErrorKind::NotFound, format!("`{}` has no address", self.host)),
            Err(error) => error,
        };
        self.fresh_until.set(Some(now + RETRY));
        *self.failure.borrow_mut() = Some(error.to_string());
        Err(error)
    }
}

async fn look_up(host: &str, port: u16) -> io::Result<Found> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver() {
        let addresses = Addresses::new("2001:db8::1".into(), 80);
        assert!(!addresses.is_stale(Instant::now() + Duration::from_secs(1_000_000)));
        assert_eq!(addresses.known.borrow()[0], "[2001:db8::1]:80".parse().expect("an address"));
    }

    #[test]
    fn last_addresses_are_kept_while_the_resolver_fails() {
        let addresses = Addresses::new("db.example".into(), 80);
        let now = Instant::now();
        assert!(addresses.is_stale(now));
        let found = Found::from_elem("192.0.2.1:80".parse().expect("an address"), 1);
        addresses.learn(Ok(found.clone()), now).expect("addresses");
        assert!(!addresses.is_stale(now) && addresses.is_stale(now + FRESH));
        assert!(addresses.learn(Err(io::Error::other("no resolver")), now).is_err());
        assert!(addresses.learn(Ok(Found::new()), now).is_err());
        assert_eq!(*addresses.known.borrow(), found);
        assert!(addresses.is_stale(now + RETRY));
    }

    #[test]
    fn many_requests_for_an_unknown_name_are_one_look_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let addresses = Rc::new(Addresses::new("no-such-host.invalid".into(), 80));
            let all = (0..100).map(|_| addresses.get());
            let answers = futures_util::future::join_all(all).await;
            assert!(answers.iter().all(Result::is_err), "{answers:?}");
            assert_eq!(addresses.looks.get(), 1);
            // A failure counts for a while.
            addresses.fresh_until.set(Some(Instant::now() + RETRY));
            assert!(addresses.get().await.is_err());
            assert_eq!(addresses.looks.get(), 1);
            addresses.fresh_until.set(Some(Instant::now()));
            assert!(addresses.get().await.is_err());
            assert_eq!(addresses.looks.get(), 2);
        });
    }
}
