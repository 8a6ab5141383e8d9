//! Choosing the certificate of a handshake. Reads what is in memory and waits for nothing: neither
//! for a disk nor for the thread that looks at it.

use super::local::LocalAuthority;
use super::pair::Pair;
use super::watch::{Findings, Watch};
use foldhash::fast::RandomState;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// After a miss has made the thread look for a host, further misses of it are not told for so long.
const NEGATIVE: Duration = Duration::from_secs(1);
/// Hosts that are remembered so, by a hash that no client can foresee; of two in one place the second waits.
const PLACES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Resolver {
    findings: Arc<Findings>,
    watch: Option<Arc<Watch>>,
    local: Option<Arc<LocalAuthority>>,
    /// The directory of issued certificates, where the local authority signs in their place.
    pub(super) signed_anew: Option<PathBuf>,
    started: Instant,
    hash: RandomState,
    /// Milliseconds after `started` until which misses are not told.
    quiet_until: [AtomicU64; PLACES],
}

impl Resolver {
    pub(super) fn new(
        findings: Arc<Findings>,
        watch: Option<Arc<Watch>>,
        local: Option<Arc<LocalAuthority>>,
        started: Instant,
    ) -> Self {
        let quiet_until = std::array::from_fn(|_| AtomicU64::new(0));
        Self { findings, watch, local, signed_anew: None, started, hash: RandomState::default(), quiet_until }
    }

    /// Whether a pair is served, rather than a fresh leaf of the local authority.
    fn is_good(&self, pair: &Pair, now: SystemTime) -> bool {
        if let Some(dir) = &self.signed_anew
            && let Some(local) = &self.local
        {
            // Until Caddy's authority is there, what a public one issued is better than a leaf that nobody
            // can verify.
            return !pair.file.starts_with(dir) || !local.is_shared(now) && !pair.local;
        }
        // What the house's own authority once issued and nobody renews is worse than a fresh one.
        !pair.local || pair.valid_at(now)
    }

    fn miss(&self, host: &str, clock: Instant) {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let place = usize::try_from(self.hash.hash_one(host) % PLACES as u64).unwrap_or_default();
        let Some(quiet_until) = self.quiet_until.get(place) else { return };
        let now = millis(clock.saturating_duration_since(self.started));
        let until = quiet_until.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(NEGATIVE));
        if now >= until
            && quiet_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && let Some(watch) = &self.watch
        {
            watch.missed(host);
        }
    }

    /// The certificate for a host; `strict`: only one that was put there and names it.
    fn choose(&self, host: Option<&str>, hello: &ClientHello<'_>, strict: bool) -> Option<Arc<CertifiedKey>> {
        let now = SystemTime::now();
        let index = self.findings.index.load();
        let Some(host) = host else {
            let default = index.for_no_host(now).filter(|_| !strict).and_then(|pair| pair.certified(now));
            return default.or_else(|| self.local.as_ref().filter(|_| !strict)?.default_leaf(now));
        };
        // Few clients send the root's dot (RFC 6066, 3, forbids it); certificates never have it.
        let host = host.strip_suffix('.').unwrap_or(host);
        let schemes = hello.signature_schemes();
        let prefer_local = self.findings.prefer_local.load(Ordering::Relaxed);
        let found = index.find(host, now, prefer_local, |pair| pair.fits(schemes));
        if let Some(pair) = found.filter(|pair| strict || self.is_good(pair, now)) {
            return pair.certified(now);
        }
        let clock = Instant::now();
        self.miss(host, clock);
        if strict {
            return None;
        }
        let default = index.for_unknown().and_then(|pair| pair.certified(now));
        let local = || self.local.as_ref().and_then(|local| local.leaf(host, now, clock));
        default.or_else(local).or_else(|| found.and_then(|pair| pair.certified(now)))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), &hello, false)
    }
}

/// The same for options with `sniStrict`: a certificate is chosen only where one that was put there names the host.
#[derive(Debug)]
pub(super) struct Strict(pub(super) Arc<Resolver>);

impl ResolvesServerCert for Strict {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.choose(hello.server_name(), &hello, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_told_at_once_but_not_more_than_once_a_second() {
        let (watch, mut missed) = Watch::unwatched();
        let start = Instant::now();
        let resolver = Resolver::new(Arc::default(), Some(watch), None, start);
        for _ in 0..3 {
            resolver.miss("a.test", start);
        }
        assert_eq!(missed(), 1);
        resolver.miss("a.test", start + NEGATIVE / 2);
        assert_eq!(missed(), 0);
        resolver.miss("a.test", start + NEGATIVE);
        assert_eq!(missed(), 1);
        // Strangers who ask for ever other names do not keep a new host from being found, and are bounded.
        for n in 0..10_000 {
            resolver.miss(&format!("{n}.test"), start + 3 * NEGATIVE);
        }
        assert!((2..=PLACES).contains(&missed()));
    }
}
