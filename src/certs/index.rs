//! Certificates by the host they name: an immutable value that the resolver reads.
//!
//! Several certificates may name one host. The one that the client can verify comes first, then
//! one that is valid now, a public issuer before the house's own, an exact name before a wildcard,
//! and the latest start of validity.

use super::pair::Pair;
use foldhash::HashMap;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Arc<str>, Vec<Arc<Pair>>>,
    /// By what follows `*.`.
    wildcard: HashMap<Arc<str>, Vec<Arc<Pair>>>,
    default: Option<Arc<Pair>>,
    all: Vec<Arc<Pair>>,
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

impl Index {
    /// An index of `all`; `default` answers clients that name no host.
    pub(super) fn new(all: Vec<Arc<Pair>>, default: Option<Arc<Pair>>) -> Self {
        let mut index = Self { default, ..Self::default() };
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

    /// The best certificate for a host, with or without the root's dot. `fits` says whether the client can
    /// verify its key.
    pub(super) fn find(&self, host: &str, now: SystemTime, fits: impl Fn(&Pair) -> bool) -> Option<&Arc<Pair>> {
        let host = lower(host.strip_suffix('.').unwrap_or(host));
        let exact = self.exact.get(&*host).into_iter().flatten().map(|pair| (pair, true));
        let suffix = host.split_once('.').map(|(_, suffix)| suffix);
        let wildcard = suffix.and_then(|s| self.wildcard.get(s)).into_iter().flatten().map(|pair| (pair, false));
        exact
            .chain(wildcard)
            .max_by_key(|(pair, exact)| (fits(pair), pair.valid_at(now), !pair.local, *exact, pair.not_before))
            .map(|(pair, _)| pair)
    }

    /// The certificate for clients that name no host, if one was put there for them.
    pub(super) fn for_no_host(&self) -> Option<&Arc<Pair>> {
        self.default.as_ref()
    }

    pub(super) fn all(&self) -> &[Arc<Pair>] {
        &self.all
    }
}
