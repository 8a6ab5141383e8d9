//! Choosing the certificate of a handshake. Reads what is in memory and waits for nothing: neither
//! for a disk nor for the thread that looks at it.

use super::local::LocalAuthority;
use super::pair::Pair;
use super::watch::{Findings, Watch};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// After a miss has made the thread look, further misses are not told for so long.
const NEGATIVE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Resolver {
    findings: Arc<Findings>,
    watch: Option<Arc<Watch>>,
    local: Option<Arc<LocalAuthority>>,
    /// The directory of issued certificates, where the local authority signs in their place.
    pub(super) signed_anew: Option<PathBuf>,
    started: Instant,
    /// Milliseconds after `started` until which misses are not told.
    quiet_until: AtomicU64,
}

impl Resolver {
    pub(super) fn new(
        findings: Arc<Findings>,
        watch: Option<Arc<Watch>>,
        local: Option<Arc<LocalAuthority>>,
        started: Instant,
    ) -> Self {
        Self { findings, watch, local, signed_anew: None, started, quiet_until: AtomicU64::new(0) }
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

    fn miss(&self, clock: Instant) {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let now = millis(clock.saturating_duration_since(self.started));
        let until = self.quiet_until.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(NEGATIVE));
        if now >= until
            && self.quiet_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && let Some(watch) = &self.watch
        {
            watch.missed();
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = SystemTime::now();
        let schemes = hello.signature_schemes();
        let index = self.findings.index.load();
        let Some(host) = hello.server_name() else {
            let default = index.for_no_host().map(|pair| pair.key.clone());
            return default.or_else(|| self.local.as_ref()?.default_leaf(now));
        };
        // Few clients send the root's dot (RFC 6066, 3, forbids it); certificates never have it.
        let host = host.strip_suffix('.').unwrap_or(host);
        let found = index.find(host, now, |pair| pair.key.key.choose_scheme(schemes).is_some());
        if let Some(pair) = found.filter(|pair| self.is_good(pair, now)) {
            return Some(pair.key.clone());
        }
        let clock = Instant::now();
        self.miss(clock);
        let local = self.local.as_ref().and_then(|local| local.leaf(host, now, clock));
        local.or_else(|| found.map(|pair| pair.key.clone()))
    }
}

/// The same for options with `sniStrict`: a certificate is chosen only where one that was put there names the host.
#[derive(Debug)]
pub(super) struct Strict(pub(super) Arc<Resolver>);

impl ResolvesServerCert for Strict {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name()?;
        let host = host.strip_suffix('.').unwrap_or(host);
        let schemes = hello.signature_schemes();
        let index = self.0.findings.index.load();
        let found = index.find(host, SystemTime::now(), |pair| pair.key.key.choose_scheme(schemes).is_some());
        if found.is_none() {
            self.0.miss(Instant::now());
        }
        found.map(|pair| pair.key.clone())
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
            resolver.miss(start);
        }
        assert_eq!(missed(), 1);
        resolver.miss(start + NEGATIVE / 2);
        assert_eq!(missed(), 0);
        resolver.miss(start + NEGATIVE);
        assert_eq!(missed(), 1);
    }
}
