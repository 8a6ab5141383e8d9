//! The answers to challenges that run now, as the data side reads them: without a lock, from a small
//! map that is swapped as a whole.
//!
//! An authority may come to another machine than the one that orders. So what is solved stands in the
//! storage as well, in the form of certmagic's `distributedSolver`, and [`Challenges::look`] finds there
//! what another instance, or Caddy, solves. Whom strangers name costs a bounded number of look-ups.

use crate::certs::storage::{Storage, layout};
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a challenge found in the storage is answered without looking again: an authority looks from
/// several places, but the next order for the name has another answer.
const FOUND: Duration = Duration::from_secs(10);
/// How long it is remembered that the storage has none for a name.
const ABSENT: Duration = Duration::from_secs(1);
/// How long the list of authorities in the storage is used.
const ISSUERS: Duration = Duration::from_secs(10);
/// Look-ups a second in the storage, for whatever names.
const LOOKS: u32 = 50;
/// Authorities looked at for one name.
const ISSUERS_LIMIT: usize = 16;
/// Challenges of others kept at a time.
const KEPT: usize = 1_000;
/// A DNS name has at most so many characters (RFC 1035, section 2.3.4).
const NAME_LIMIT: usize = 253;
/// A token or a key authorization is far shorter.
const TOKEN_LIMIT: usize = 1_024;

/// A way to prove that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// `http-01` (RFC 8555, 8.3).
    Http,
    /// `tls-alpn-01` (RFC 8737).
    TlsAlpn,
    /// `dns-01` (RFC 8555, 8.4).
    Dns,
}

impl ChallengeKind {
    /// As the protocol names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
            Self::Dns => "dns-01",
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A challenge as certmagic keeps it in the storage: `acmez`' `acme.Challenge`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) url: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) token: String,
    #[serde(default)]
    pub(super) key_authorization: String,
    pub(super) identifier: StoredName,
}

/// The identifier in a [`Stored`].
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredName {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: String,
}

/// The name under which a challenge is kept in the storage: that of the identifier, or what a client
/// of TLS-ALPN-01 says for an address (RFC 8738, 6).
pub(super) fn challenge_name(kind: ChallengeKind, identifier: &str) -> String {
    match (kind, identifier.parse::<IpAddr>()) {
        (ChallengeKind::TlsAlpn, Ok(IpAddr::V4(address))) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        (ChallengeKind::TlsAlpn, Ok(IpAddr::V6(address))) => {
            let mut name = String::with_capacity(72);
            for byte in address.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
            }
            name + "ip6.arpa"
        }
        _ => identifier.to_ascii_lowercase(),
    }
}

/// The certificate that answers TLS-ALPN-01 (RFC 8737, 3).
///
/// # Errors
/// The identifier cannot stand in a certificate, or the cryptographic library refuses.
pub(super) fn alpn_certificate(identifier: &str, authorization: &str) -> Result<Arc<CertifiedKey>, String> {
    let name = match identifier.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(identifier.try_into().map_err(|error: rcgen::Error| error.to_string())?),
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authorization.as_bytes());
    let make = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) = make().map_err(|error| error.to_string())?;
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&secret).map_err(|error| error.to_string())?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)))
}

/// An answer, and until when it stands if it was found in the storage.
struct Kept<T> {
    answer: T,
    until: Option<Instant>,
}

impl<T: Clone> Kept<T> {
    fn at(&self, now: Instant) -> Option<T> {
        self.until.is_none_or(|until| now < until).then(|| self.answer.clone())
    }
}

impl<T: Clone> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { answer: self.answer.clone(), until: self.until }
    }
}

#[derive(Clone, Default)]
struct Known {
    /// By token.
    http: HashMap<Box<str>, Kept<Arc<str>>>,
    /// By server name.
    alpn: HashMap<Box<str>, Kept<Arc<CertifiedKey>>>,
}

/// What is remembered of look-ups in the storage.
#[derive(Default)]
struct Looks {
    absent: HashMap<Box<str>, Instant>,
    issuers: Option<(Instant, Arc<[String]>)>,
    /// Start of the second that is counted, and look-ups in it.
    second: Option<(Instant, u32)>,
}

#[derive(Default)]
struct Inner {
    known: ArcSwap<Known>,
    /// Taken by those who change `known`.
    changing: Mutex<()>,
    looks: Mutex<Looks>,
}

/// The answers to challenges that run now. Cloning is cheap; all clones are one.
#[derive(Clone, Default)]
pub struct Challenges {
    inner: Arc<Inner>,
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.inner.known.load();
        f.debug_struct("Challenges").field("http", &known.http.len()).field("alpn", &known.alpn.len()).finish()
    }
}

impl Challenges {
    /// The key authorization to answer `GET /.well-known/acme-challenge/<token>` with.
    pub fn http(&self, token: &str) -> Option<Arc<str>> {
        self.inner.known.load().http.get(token)?.at(Instant::now())
    }

    /// The certificate for a client that offers `acme-tls/1` only and says this server name (lower case).
    pub fn tls_alpn(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.inner.known.load().alpn.get(name)?.at(Instant::now())
    }

    /// Looks for a challenge of this name (a request's host without a port, or a server name) that another
    /// instance has put into the storage; true when there is one, and then [`Self::http`] or
    /// [`Self::tls_alpn`] knows it for ten seconds. That there is none is remembered for a second,
    /// and not more than 50 look-ups are made in a second. Blocks for as long as the storage does.
    pub fn look(&self, storage: &Storage, name: &str) -> bool {
        self.look_at(storage, name, Instant::now())
    }

    fn look_at(&self, storage: &Storage, name: &str, now: Instant) -> bool {
        let name = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > NAME_LIMIT || !self.may_look(&name, now) {
            return false;
        }
        let found = self.issuers(storage, now).iter().any(|issuer| {
            let stored = storage.read(&layout::challenge(issuer, &name)).ok().flatten();
            stored.is_some_and(|bytes| self.keep_found(&bytes, &name, now))
        });
        if !found {
            let mut looks = self.looks();
            if looks.absent.len() >= KEPT {
                looks.absent.retain(|_, since| now.saturating_duration_since(*since) < ABSENT);
            }
            if looks.absent.len() < KEPT {
                looks.absent.insert(name.into(), now);
            }
        }
        found
    }

    fn looks(&self) -> std::sync::MutexGuard<'_, Looks> {
        self.inner.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a look-up, unless it was made just now or too many were.
    fn may_look(&self, name: &str, now: Instant) -> bool {
        let mut looks = self.looks();
        if looks.absent.get(name).is_some_and(|since| now.saturating_duration_since(*since) < ABSENT) {
            return false;
        }
        looks.absent.remove(name);
        let (start, count) = match looks.second {
            Some((start, count)) if now.saturating_duration_since(start) < Duration::from_secs(1) => (start, count),
            _ => (now, 0),
        };
        looks.second = Some((start, count.saturating_add(1)));
        count < LOOKS
    }

    /// The authorities that the storage has something of.
    fn issuers(&self, storage: &Storage, now: Instant) -> Arc<[String]> {
        if let Some((since, issuers)) = &self.looks().issuers
            && now.saturating_duration_since(*since) < ISSUERS
        {
            return issuers.clone();
        }
        let keys = storage.list("acme").unwrap_or_default();
        let all: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('/').nth(1)).collect();
        let issuers: Arc<[String]> = all.into_iter().take(ISSUERS_LIMIT).map(str::to_owned).collect();
        // An empty list may be that of a storage that was away, or of a first order that begins now.
        if !issuers.is_empty() {
            self.looks().issuers = Some((now, issuers.clone()));
        }
        issuers
    }

    /// Takes over what another instance has written.
    fn keep_found(&self, bytes: &[u8], name: &str, now: Instant) -> bool {
        let Ok(stored) = serde_json::from_slice::<Stored>(bytes) else { return false };
        let usable = |text: &str| !text.is_empty() && text.len() <= TOKEN_LIMIT;
        if !usable(&stored.token) || !usable(&stored.key_authorization) {
            return false;
        }
        let until = Some(now + FOUND);
        if stored.kind == ChallengeKind::Http.as_str() {
            let answer = Arc::from(stored.key_authorization);
            return self.change(now, |known| {
                known.http.entry(stored.token.into()).or_insert(Kept { answer, until });
            });
        }
        if stored.kind != ChallengeKind::TlsAlpn.as_str()
            || challenge_name(ChallengeKind::TlsAlpn, &stored.identifier.value) != name
        {
            return false;
        }
        let Ok(answer) = alpn_certificate(&stored.identifier.value, &stored.key_authorization) else { return false };
        self.change(now, |known| {
            let ours = known.alpn.get(name).is_some_and(|kept| kept.until.is_none());
            if !ours {
                known.alpn.insert(name.into(), Kept { answer, until });
            }
        })
    }

    /// Changes a copy and swaps it in; drops what has run out. False where too many are kept.
    fn change(&self, now: Instant, change: impl FnOnce(&mut Known)) -> bool {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = Known::clone(&self.inner.known.load());
        let stands = |until: Option<Instant>| until.is_none_or(|until| now < until);
        known.http.retain(|_, kept| stands(kept.until));
        known.alpn.retain(|_, kept| stands(kept.until));
        change(&mut known);
        let fits = known.http.len() + known.alpn.len() <= KEPT;
        if fits {
            self.inner.known.store(Arc::new(known));
        }
        fits
    }
}

/// What orders of our own answer.
impl Challenges {
    /// Answers a token of an order of our own until it is removed. False where too many run at once.
    pub(super) fn put_http(&self, token: &str, authorization: &str) -> bool {
        let kept = Kept { answer: Arc::from(authorization), until: None };
        self.change(Instant::now(), |known| drop(known.http.insert(token.into(), kept)))
    }

    /// Answers TLS-ALPN-01 for an order of our own until it is removed. False where too many run at once.
    pub(super) fn put_tls_alpn(&self, name: &str, answer: Arc<CertifiedKey>) -> bool {
        self.change(Instant::now(), |known| drop(known.alpn.insert(name.into(), Kept { answer, until: None })))
    }

    /// Ends [`Self::put_http`].
    pub(super) fn remove_http(&self, token: &str) {
        self.change(Instant::now(), |known| drop(known.http.remove(token)));
    }

    /// Ends [`Self::put_tls_alpn`].
    pub(super) fn remove_tls_alpn(&self, name: &str) {
        self.change(Instant::now(), |known| drop(known.alpn.remove(name)));
    }
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
