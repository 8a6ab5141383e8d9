//! The account with an authority: read from the storage in certmagic's form, or registered and written
//! there, under the lock that certmagic takes for it. So Caddy goes on with ours and we with Caddy's.
//!
//! A storage that fails does not stop an order: the account is then kept in memory, and written when
//! the storage is back. The key of an account that cannot be read is never overwritten.

use super::authority::Authority;
use super::client::{Late, Timing, blocking};
use super::error::{AcmeError, Phase, Problem, said};
use super::key;
use super::transport::Transport;
use crate::certs::storage::{Lock, LockError, Storage, StorageError, layout};
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// An account as certmagic keeps it: `acmez`' `acme.Account`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stored {
    #[serde(skip_serializing_if = "String::is_empty")]
    status: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    terms_of_service_agreed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    orders: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    location: String,
}

/// An account that can sign.
struct Known {
    stored: Stored,
    key: PrivatePkcs8KeyDer<'static>,
}

/// Where an account lies, and how it is locked.
#[derive(Clone)]
struct Place {
    json: String,
    key: String,
    lock: String,
}

impl Place {
    fn of(authority: &Authority) -> Self {
        let (json, key) = layout::account(&layout::issuer_key(&authority.directory), authority.email());
        let lock = match authority.email() {
            None => "register_acme_account".to_owned(),
            Some(email) => format!("register_acme_account_{email}"),
        };
        Self { json, key, lock }
    }
}

/// What the storage has of an account.
enum Found {
    Whole(Known),
    /// A key whose account has to be asked for.
    Key(PrivatePkcs8KeyDer<'static>),
    Nothing,
    /// The storage does not answer; said already.
    Away,
}

type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

/// The accounts of the process.
pub(super) struct Accounts {
    storage: Storage,
    timing: Timing,
    /// By file of the account; the lock of each is held while it is looked for or made.
    slots: Mutex<HashMap<String, Slot>>,
}

/// A lock that is given back on another thread: giving back touches the storage.
struct Held(Option<Lock>);

impl Drop for Held {
    fn drop(&mut self) {
        let lock = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(lock))),
            Err(_) => drop(lock),
        }
    }
}

/// JSON as Go's `MarshalIndent` with tabs writes it.
pub(super) fn tabbed(value: &impl Serialize) -> Result<Vec<u8>, AcmeError> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).map_err(|error| AcmeError::Storage(error.to_string()))?;
    Ok(out)
}

impl Accounts {
    pub(super) fn new(storage: Storage, timing: Timing) -> Self {
        Self { storage, timing, slots: Mutex::default() }
    }

    /// The account to order with: the storage's, or a new one. `gone` is the location of one that the
    /// authority no longer knows.
    pub(super) async fn find(
        &self,
        authority: &Authority,
        transport: &Transport,
        gone: Option<&str>,
    ) -> Result<Account, AcmeError> {
        let place = Place::of(authority);
        let slot =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(place.json.clone()).or_default().clone();
        let mut kept = slot.lock().await;
        let is_gone = |known: &Known| gone == Some(&*known.stored.location);
        if kept.as_ref().is_some_and(is_gone) {
            *kept = None;
        }
        let known = match (self.read(&place).await?, kept.take()) {
            (Found::Whole(known), _) if !is_gone(&known) => known,
            (Found::Away, Some(known)) => known,
            // The storage was away when it was made, or has lost it.
            (Found::Nothing, Some(known)) => {
                self.write(&place, &known).await;
                known
            }
            _ => self.make(authority, &place, transport, gone).await?,
        };
        let account = self.open(authority, transport, &known).await;
        *kept = Some(known);
        account
    }

    async fn open(&self, authority: &Authority, transport: &Transport, known: &Known) -> Result<Account, AcmeError> {
        let builder = Account::builder_with_http(Box::new(transport.clone()));
        let location = known.stored.location.clone();
        let opened = builder.from_parts(location, known.key.clone_key(), authority.directory.clone()).await;
        opened.map_err(|error| transport.error(error, Phase::Directory))
    }

    /// Reads what the storage has. An account that is there and cannot be used is an error.
    async fn read(&self, place: &Place) -> Result<Found, AcmeError> {
        let (storage, at) = (self.storage.clone(), place.clone());
        let read = blocking(self.timing.storage, move || {
            Ok::<_, StorageError>((storage.read(&at.json)?, storage.read(&at.key)?))
        });
        let (json, key) = match read.await {
            Ok(Ok(pair)) => pair,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the ACME account cannot be read");
                return Ok(Found::Away);
            }
            Err(Late) => {
                tracing::warn!(file = place.json, "the ACME account cannot be read in time");
                return Ok(Found::Away);
            }
        };
        let Some(key) = key else { return Ok(Found::Nothing) };
        let unusable = |detail: &str| AcmeError::Account { file: place.key.clone(), detail: detail.to_owned() };
        let key = key::account_pkcs8(&key).map_err(unusable)?;
        let stored = json.and_then(|json| serde_json::from_slice::<Stored>(&json).ok());
        Ok(match stored.filter(|stored| !stored.location.is_empty()) {
            Some(stored) => Found::Whole(Known { stored, key }),
            None => Found::Key(key),
        })
    }

    /// Writes an account. A storage that fails is said; the account is then kept in memory.
    async fn write(&self, place: &Place, known: &Known) {
        let write = || -> Result<_, AcmeError> {
            Ok((tabbed(&known.stored)?, key::account_pem(known.key.secret_pkcs8_der())?))
        };
        let (json, key) = match write() {
            Ok(pair) => pair,
            Err(error) => {
                tracing::error!(%error, "the ACME account cannot be written");
                return;
            }
        };
        let (storage, at) = (self.storage.clone(), place.clone());
        let written = blocking(self.timing.storage, move || {
            storage.write(&at.json, &json)?;
            storage.write(&at.key, key.reveal().as_bytes())
        });
        let reason = match written.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(Late) => "the storage does not answer".to_owned(),
        };
        tracing::error!(file = place.json, reason, "the ACME account cannot be written and is kept in memory");
    }

    /// Makes an account under the lock, unless another instance has just made it.
    async fn make(
        &self,
        authority: &Authority,
        place: &Place,
        transport: &Transport,
        gone: Option<&str>,
    ) -> Result<Known, AcmeError> {
        let _held = self.lock(place).await?;
        let key = match self.read(place).await? {
            Found::Whole(known) if gone != Some(&*known.stored.location) => return Ok(known),
            Found::Key(key) => Some(key),
            Found::Whole(_) | Found::Nothing | Found::Away => None,
        };
        let found = match key {
            Some(key) => self.look_up(authority, transport, key).await?,
            None => None,
        };
        let known = match found {
            Some(known) => known,
            None => register(authority, transport).await?,
        };
        self.write(place, &known).await;
        Ok(known)
    }

    /// The lock of registration; an empty one, and said, where the storage cannot give one.
    async fn lock(&self, place: &Place) -> Result<Held, AcmeError> {
        let (storage, name, limit) = (self.storage.clone(), place.lock.clone(), self.timing.account_lock);
        let taken =
            blocking(limit + self.timing.storage, move || storage.lock(&name, limit).map(|lock| Held(Some(lock))));
        match taken.await {
            Ok(Ok(held)) => Ok(held),
            Ok(Err(error @ LockError::Held { .. })) => Err(AcmeError::Storage(error.to_string())),
            Ok(Err(error)) => {
                tracing::warn!(%error, "an ACME account is made without a lock");
                Ok(Held(None))
            }
            Err(Late) => {
                tracing::warn!(
                    lock = place.lock,
                    "an ACME account is made without a lock: the storage does not answer"
                );
                Ok(Held(None))
            }
        }
    }

    /// The account of a key whose registration was lost.
    async fn look_up(
        &self,
        authority: &Authority,
        transport: &Transport,
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Option<Known>, AcmeError> {
        let pair = Key::from_pkcs8_der(key.clone_key()).map_err(|error| AcmeError::Key(error.to_string()))?;
        let builder = Account::builder_with_http(Box::new(transport.clone()));
        let looked = builder.from_key((pair, PrivateKeyDer::Pkcs8(key)), authority.directory.clone()).await;
        match looked {
            Ok((account, credentials)) => Ok(Some(known(authority, transport, &account, &credentials))),
            Err(Error::Api(problem)) if Problem::from(&problem).kind == "accountDoesNotExist" => Ok(None),
            Err(error) => Err(transport.error(error, Phase::Account)),
        }
    }
}

/// Makes an account with a new key.
async fn register(authority: &Authority, transport: &Transport) -> Result<Known, AcmeError> {
    let contact = authority.email().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let eab = match &authority.eab {
        Some(eab) => Some(ExternalAccountKey::new(eab.kid.clone(), &eab.key()?)),
        None => None,
    };
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(transport.clone()));
    let made = builder.create(&new, authority.directory.clone(), eab.as_ref()).await;
    let (account, credentials) = made.map_err(|error| transport.error(error, Phase::Account))?;
    tracing::info!(authority = authority.directory, account = said(account.id()), "a new ACME account");
    Ok(known(authority, transport, &account, &credentials))
}

/// What is kept of an account that the authority has just described.
fn known(authority: &Authority, transport: &Transport, account: &Account, credentials: &AccountCredentials) -> Known {
    // An authority may describe it in few words; the rest is known.
    let mut stored: Stored = serde_json::from_slice(&transport.seen().body).unwrap_or_default();
    stored.location = account.id().to_owned();
    stored.terms_of_service_agreed = true;
    if stored.status.is_empty() {
        stored.status = "valid".to_owned();
    }
    if stored.contact.is_empty() {
        stored.contact = authority.email().map(|email| format!("mailto:{email}")).into_iter().collect();
    }
    Known { stored, key: PrivatePkcs8KeyDer::from(credentials.private_key().secret_pkcs8_der().to_vec()) }
}
