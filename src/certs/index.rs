//! Certificates by the host they name: an immutable value that the resolver reads.
//!
//! Several certificates may name one host. The one that the client can verify comes first, then one that is valid now, then one
//! of a public issuer before the house's own (the other way round where certificates are to be self-signed): a client that does
//! not trust the house is better off with a wildcard. Then an exact name before a wildcard, and the latest start of validity.

use super::pair::Pair;
use foldhash::HashMap;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::SystemTime;

/// Most names have one certificate.
type Pairs = SmallVec<[Arc<Pair>; 1]>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Arc<str>, Pairs>,
    /// By what follows `*.`.
    wildcard: HashMap<Arc<str>, Pairs>,
    defaults: Defaults,
    /// One that names an address.
    addressed: Option<Arc<Pair>>,
    all: Vec<Arc<Pair>>,
}

/// What answers where no name fits.
#[derive(Debug, Default, Clone)]
pub(super) struct Defaults {
    /// Everybody: `defaultCertificate` of the default store.
    pub(super) everybody: Option<Arc<Pair>>,
    /// Clients that name no host: `cert.pem` of the directory.
    pub(super) no_host: Option<Arc<Pair>>,
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

impl Index {
    /// An index of `all`.
    pub(super) fn new(all: Vec<Arc<Pair>>, defaults: Defaults) -> Self {
        let mut index = Self { defaults, ..Self::default() };
        index.exact.reserve(all.len());
        let addressed = all.iter().filter(|pair| !pair.addresses.is_empty());
        index.addressed = addressed.max_by_key(|pair| pair.not_after).cloned();
        for pair in &all {
            for name in &pair.names {
                let list = match name.strip_prefix("*.") {
                    Some(suffix) => index.wildcard.entry(suffix.into()).or_default(),
                    None => index.exact.entry(name.clone()).or_default(),
                };
                list.push(pair.clone());
            }
        }
        index.all = all;
        index
    }

    /// The best certificate for a host, with or without the root's dot. `prefer_local`: one of the house before a public one;
    /// `fits` says whether the client can verify its key.
    pub(super) fn find(
        &self,
        host: &str,
        now: SystemTime,
        prefer_local: bool,
        fits: impl Fn(&Pair) -> bool,
    ) -> Option<&Arc<Pair>> {
        let host = lower(host.strip_suffix('.').unwrap_or(host));
        let exact = self.exact.get(&*host).into_iter().flatten().map(|pair| (pair, true));
        let suffix = host.split_once('.').map(|(_, suffix)| suffix);
        let wildcard = suffix.and_then(|s| self.wildcard.get(s)).into_iter().flatten().map(|pair| (pair, false));
        let rank = |(pair, exact): &(&Arc<Pair>, bool)| {
            (fits(pair), pair.valid_at(now), pair.local == prefer_local, *exact, pair.not_before)
        };
        let mut candidates = exact.chain(wildcard);
        let first = candidates.next()?;
        let Some(second) = candidates.next() else { return Some(first.0) };
        // By the file at last, so that every process of one directory chooses the same.
        let order = |a: &(&Arc<Pair>, bool), b: &(&Arc<Pair>, bool)| -> Ordering {
            rank(a).cmp(&rank(b)).then_with(|| b.0.file.cmp(&a.0.file)).then_with(|| b.0.entry.cmp(&a.0.entry))
        };
        [first, second].into_iter().chain(candidates).max_by(order).map(|(pair, _)| pair)
    }

    /// The certificate for a host that none names.
    pub(super) fn for_unknown(&self) -> Option<&Arc<Pair>> {
        self.defaults.everybody.as_ref()
    }

    /// The certificate for clients that name no host, if one was put there for them; else one that names an address, which is
    /// what such clients ask for.
    pub(super) fn for_no_host(&self, now: SystemTime) -> Option<&Arc<Pair>> {
        let stated = self.defaults.everybody.as_ref().or(self.defaults.no_host.as_ref());
        stated.or_else(|| self.addressed.as_ref().filter(|pair| pair.valid_at(now)))
    }

    pub(super) fn all(&self) -> &[Arc<Pair>] {
        &self.all
    }
}
