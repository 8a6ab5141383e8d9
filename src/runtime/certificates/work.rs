//! One piece of work on a certificate: ordering it under the lock that all who share the storage heed, or asking the
//! authority when it wants it renewed. Blocking calls run on threads of their own.
//!
//! What always holds: what somebody else has renewed meanwhile is taken and not ordered again; a certificate that was issued
//! is served even where it cannot be stored.

use super::resolvers::Resolver;
use crate::acme::{AcmeError, Client, Order, Window, schedule};
use crate::certs::storage::{LockError, SiteValue, Storage, StorageError, layout};
use crate::certs::{self, Mirror, Store as Certificates};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a lock that somebody holds is waited for.
const LOCK: Duration = Duration::from_secs(5);
/// A certificate that begins within this is waited for and not ordered again: a clock is wrong, and another order would bring the
/// same.
const AHEAD: Duration = Duration::from_secs(86_400);
/// How long the store may take to find what was written.
const RESCAN: Duration = Duration::from_secs(2);

/// What work needs.
#[derive(Clone)]
pub(super) struct Tools {
    pub client: Arc<Client>,
    pub storage: Storage,
    pub certificates: Certificates,
    /// The directory below which the store finds certificates of the storage.
    pub root: PathBuf,
    /// What keeps that directory, where it is not the storage itself.
    pub mirror: Option<Mirror>,
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Issued; from when on it is valid, and why it could not be stored, where it could not.
    Issued { window: Option<Window>, begins: SystemTime, unstored: Option<StorageError> },
    /// There is one that is not valid before then.
    Ahead(SystemTime),
    /// Somebody else has renewed it meanwhile.
    Found,
    /// Somebody else is at it.
    Held(Option<SystemTime>),
    /// It failed.
    Failed(Failure),
    /// What the authority said of renewing; `None` where it says nothing, and when to ask again.
    Looked(Option<Looked>),
}

/// When an authority wants a certificate renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looked {
    /// Then.
    pub selected: SystemTime,
    /// When to ask again.
    pub ask_again: SystemTime,
}

/// Why an order failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// By ACME.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The storage can neither be locked nor read.
    #[error("the certificate storage: {0}")]
    Storage(#[from] StorageError),
    /// A defect.
    #[error("a defect: {0}")]
    Defect(String),
}

impl Failure {
    /// What the authority asks to wait for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Acme(error) => error.retry_after(),
            Self::Storage(_) | Self::Defect(_) => None,
        }
    }
}

/// Runs what may block on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::Defect(error.to_string()))
}

/// Orders a certificate for a name, unless somebody else has meanwhile.
pub(super) async fn order(tools: Tools, resolver: Arc<Resolver>, name: Arc<str>, chance: f64) -> Outcome {
    match try_order(tools, &resolver, &name, chance).await {
        Ok(outcome) => outcome,
        Err(failure) => Outcome::Failed(failure),
    }
}

async fn try_order(tools: Tools, resolver: &Resolver, name: &Arc<str>, chance: f64) -> Result<Outcome, Failure> {
    let Tools { client, storage, certificates, root, mirror } = tools;
    let lock = {
        let (storage, lock) = (storage.clone(), layout::issue_lock(name));
        blocking(move || storage.lock(&lock, LOCK)).await?
    };
    let lock = match lock {
        Ok(lock) => lock,
        Err(LockError::Held { since }) => return Ok(Outcome::Held(since)),
        Err(LockError::Storage(error)) => return Err(error.into()),
    };
    let issuer = layout::issuer_key(&resolver.authority.directory);
    let kept = {
        let (storage, keys) = (storage.clone(), layout::site(&issuer, name));
        blocking(move || -> Result<_, StorageError> {
            let read = (storage.read(&keys.crt)?, storage.read(&keys.key)?, storage.read(&keys.json)?);
            Ok(match read {
                (Some(crt), Some(key), json) => Some((crt, key, json)),
                _ => None,
            })
        })
        .await??
    };
    let now = SystemTime::now();
    let mut replaces = None;
    if let Some((crt, key, json)) = kept
        && let Ok(kept) = certs::inspect(&crt, &key)
    {
        let window = json.as_deref().and_then(|json| Window::of_certificate(json, &crt));
        let selected = window.map(|window| window.selected);
        let covers = kept.names.iter().any(|kept| kept.eq_ignore_ascii_case(name));
        if covers && kept.not_before > now && kept.not_before < now + AHEAD && kept.not_before < kept.not_after {
            return Ok(Outcome::Ahead(kept.not_before));
        }
        if covers && now >= kept.not_before && now < schedule::due(kept.not_before, kept.not_after, selected, chance) {
            drop(lock);
            let name = name.clone();
            blocking(move || {
                if let (Some(mirror), Some(json)) = (mirror, json) {
                    mirror.put(&issuer, &name, &key, &crt, &json);
                }
                certificates.rescan(RESCAN)
            })
            .await?;
            return Ok(Outcome::Found);
        }
        replaces = Some(crt).filter(|_| covers).and_then(|crt| String::from_utf8(crt).ok());
    }
    let names = [name.to_string()];
    let order = Order {
        names: &names,
        authority: &resolver.authority,
        methods: &resolver.methods,
        replaces: replaces.as_deref(),
    };
    let issued = client.order(order).await?;
    if !lock.still_ours() {
        tracing::warn!(%name, "the lock of the order was taken over by somebody else meanwhile");
    }
    let (window, name) = (issued.window.clone(), name.clone());
    let (begins, unstored) = blocking(move || {
        let json = issued.json.to_string();
        let (chain, key) = (issued.chain.as_bytes(), issued.key.reveal().as_bytes());
        let site = SiteValue { key, crt: chain, json: json.as_bytes() };
        let begins = certs::inspect(chain, key).map_or(SystemTime::UNIX_EPOCH, |issued| issued.not_before);
        let stored = storage.write_site(&issuer, &name, &site);
        drop(lock);
        if stored.is_ok() {
            // nobody need wait for Consul to tell it
            mirror.iter().for_each(|mirror| mirror.put(&issuer, &name, key, chain, json.as_bytes()));
        } else {
            certificates.hold(root.join(layout::site(&issuer, &name).crt), chain, key);
        }
        certificates.rescan(RESCAN);
        (begins, stored.err())
    })
    .await?;
    Ok(Outcome::Issued { window, begins, unstored })
}

/// Asks the authority when it wants a certificate renewed, if its last answer is out of date, and keeps the answer beside the
/// certificate, where others who share the storage find it.
pub(super) async fn look(tools: Tools, resolver: Arc<Resolver>, name: Arc<str>) -> Outcome {
    Outcome::Looked(try_look(tools, &resolver, &name).await.unwrap_or_else(|failure| {
        tracing::debug!(%name, %failure, "the authority was not asked when to renew");
        None
    }))
}

async fn try_look(tools: Tools, resolver: &Resolver, name: &str) -> Result<Option<Looked>, Failure> {
    let Tools { client, storage, .. } = tools;
    let keys = layout::site(&layout::issuer_key(&resolver.authority.directory), name);
    let read = {
        let (storage, crt, json) = (storage.clone(), keys.crt.clone(), keys.json.clone());
        blocking(move || Ok::<_, StorageError>((storage.read(&crt)?, storage.read(&json)?))).await??
    };
    let (Some(crt), Some(json)) = read else { return Ok(None) };
    let looked = |window: Window| Looked { selected: window.selected, ask_again: window.ask_again };
    let kept = Window::of_certificate(&json, &crt);
    if let Some(kept) = kept.clone().filter(|kept| SystemTime::now() < kept.ask_again) {
        return Ok(Some(looked(kept)));
    }
    let chain = String::from_utf8_lossy(&crt).into_owned();
    let Some(mut window) = client.renewal_info(&resolver.authority, &chain).await? else { return Ok(kept.map(looked)) };
    // a moment that was drawn stays as long as it lies within what the authority wants (RFC 9773, 4.2)
    if let Some(kept) = kept.filter(|kept| (window.start..=window.end).contains(&kept.selected)) {
        window.selected = kept.selected;
    }
    let found = looked(window.clone());
    if let Some(text) = window.into_site(&json) {
        let stored = blocking(move || {
            // somebody may have renewed it while the authority was asked
            let same = storage.read(&keys.crt)? == Some(crt) && storage.read(&keys.json)? == Some(json);
            if same { storage.write(&keys.json, text.as_bytes()) } else { Ok(()) }
        });
        let stored = stored.await?;
        if let Err(error) = stored {
            tracing::debug!(name, %error, "what the authority said of renewing was not kept");
        }
    }
    Ok(Some(found))
}
