//! The DNS challenge (DNS-01, RFC 8555 section 8.4): a TXT record at `_acme-challenge.<domain>`, set
//! through a provider, waited for, taken away.
//!
//! Providers and the names of their settings are lego's, which Traefik uses: acme-dns (as HinD has it),
//! dynamic updates (RFC 2136), Cloudflare, a hook program, a web hook.
//!
//! What always holds: names and values are checked before anybody is told of them; several values stand
//! at one name at a time (a domain and its wildcard); every wait has a limit; what was set is taken away
//! where it was set, whatever CNAMEs say by then; no secret is in an error.

mod acme_dns;
mod api;
mod cloudflare;
mod error;
mod exec;
mod http_req;
mod lookup;
mod name;
mod propagation;
mod query;
mod rfc2136;
pub mod settings;
mod tsig;

pub use error::{DnsError, Heard, HookFault, Rcode, TsigFault};
pub use propagation::Propagation;
pub use query::Server;
pub use settings::{PROVIDERS, Settings, SettingsError};
pub use tsig::Algorithm;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use name::Fqdn;
use rfc2136::Change;
use serde_json::json;
use settings::Timing;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Places that are remembered until they are cleaned up.
const REMEMBERED: usize = 1024;

/// Tells the time; for signatures.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Sets, awaits and removes the records of DNS challenges.
pub struct Solver {
    provider: Provider,
    propagation: Propagation,
    timing: Timing,
    follow_cname: bool,
    clock: Clock,
    /// Where the record of a domain and value was set.
    places: Mutex<VecDeque<(Fqdn, String, Fqdn)>>,
}

#[derive(Debug)]
enum Provider {
    AcmeDns(acme_dns::AcmeDns),
    Rfc2136(rfc2136::Rfc2136),
    Cloudflare(cloudflare::Cloudflare),
    Exec(exec::Exec),
    HttpReq(http_req::HttpReq),
}

/// Token and key authorization, for hooks in mode RAW.
#[derive(Debug, Clone, Copy)]
struct Key<'a> {
    token: &'a str,
    authorization: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Present,
    CleanUp,
}

impl Action {
    /// As hooks are told it.
    fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::CleanUp => "cleanup",
        }
    }
}

impl Solver {
    /// A solver that has opened and asked nothing yet.
    ///
    /// # Errors
    /// Settings that cannot work: [`DnsError::SetUp`], [`DnsError::Name`].
    pub fn new(settings: &Settings, propagation: Propagation) -> Result<Self, DnsError> {
        let timing = settings.timing;
        let provider = match &settings.provider {
            settings::Provider::AcmeDns(own) => Provider::AcmeDns(acme_dns::AcmeDns::new(own.clone(), timing.request)?),
            settings::Provider::Rfc2136(own) => Provider::Rfc2136(rfc2136::Rfc2136::new(own, timing.query)?),
            settings::Provider::Cloudflare(own) => {
                Provider::Cloudflare(cloudflare::Cloudflare::new(own, timing.request)?)
            }
            settings::Provider::Exec(own) => Provider::Exec(exec::Exec::new(own.clone())),
            settings::Provider::HttpReq(own) => Provider::HttpReq(http_req::HttpReq::new(own, timing.request)?),
        };
        let (follow_cname, clock): (bool, Clock) = (settings.follow_cname, Arc::new(SystemTime::now));
        Ok(Self { provider, propagation, timing, follow_cname, clock, places: Mutex::default() })
    }

    /// With another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// True when challenges are better solved one after another: a program that sets *the* record of a
    /// name would overwrite the value of the challenge before (lego's `Sequential`).
    pub fn sequential(&self) -> bool {
        matches!(self.provider, Provider::Exec(_))
    }

    /// Sets the TXT record of `domain` (with or without `*.`) to `value`, the base64url of the key
    /// authorization's SHA-256, beside those that stand there. Follows CNAMEs of the name first.
    ///
    /// # Errors
    /// The provider's; [`DnsError::RawNeedsKey`] for a hook in mode RAW, see [`Self::present_key`].
    pub async fn present(&self, domain: &str, value: &str) -> Result<(), DnsError> {
        self.change(Action::Present, domain, value, None).await
    }

    /// As [`Self::present`], for every provider and mode: the value is made of the key authorization.
    ///
    /// # Errors
    /// The provider's.
    pub async fn present_key(&self, domain: &str, token: &str, authorization: &str) -> Result<(), DnsError> {
        let key = Key { token: name::token(token)?, authorization: name::key_authorization(authorization)? };
        self.change(Action::Present, domain, &value_of(authorization), Some(key)).await
    }

    /// Takes the record away that [`Self::present`] has set, and only that. One that is gone already is
    /// no error, where the provider can tell.
    ///
    /// # Errors
    /// The provider's.
    pub async fn clean_up(&self, domain: &str, value: &str) -> Result<(), DnsError> {
        self.change(Action::CleanUp, domain, value, None).await
    }

    /// As [`Self::clean_up`], after [`Self::present_key`].
    ///
    /// # Errors
    /// The provider's.
    pub async fn clean_up_key(&self, domain: &str, token: &str, authorization: &str) -> Result<(), DnsError> {
        let key = Key { token: name::token(token)?, authorization: name::key_authorization(authorization)? };
        self.change(Action::CleanUp, domain, &value_of(authorization), Some(key)).await
    }

    /// Waits until the zone's name servers (and what else [`Propagation`] names) answer `value`.
    ///
    /// # Errors
    /// [`DnsError::NotPropagated`] with who answered what; [`DnsError::CnameRequired`] for an acme-dns
    /// account that nobody has linked; [`DnsError::NoResolvers`].
    pub async fn wait(&self, domain: &str, value: &str) -> Result<(), DnsError> {
        let (domain, value) = (name::domain(domain)?, name::value(value)?);
        let challenge = name::challenge(&domain)?;
        let error = match self.propagation.wait(&challenge, value, &self.timing).await {
            Err(error @ DnsError::NotPropagated { .. }) => error,
            other => return other,
        };
        if let Provider::AcmeDns(acme_dns) = &self.provider
            && let Some(target) = acme_dns.target(&domain).await
            && self.resolvers().follow(&challenge).await.is_ok_and(|end| end == challenge && end != target)
        {
            return Err(DnsError::CnameRequired {
                domain: domain.as_str().to_owned(),
                fqdn: challenge.to_string(),
                target: target.to_string(),
                registered: false,
            });
        }
        Err(error)
    }

    async fn change(&self, action: Action, domain: &str, value: &str, key: Option<Key<'_>>) -> Result<(), DnsError> {
        let (domain, value) = (name::domain(domain)?, name::value(value)?);
        let challenge = name::challenge(&domain)?;
        let raw = match &self.provider {
            Provider::Exec(exec) => exec.raw(),
            Provider::HttpReq(hook) => hook.raw(),
            _ => false,
        };
        if raw {
            return self.raw(action, &domain, key.ok_or(DnsError::RawNeedsKey)?).await;
        }
        if let Provider::AcmeDns(acme_dns) = &self.provider {
            return match action {
                Action::Present => acme_dns.present(&domain, &challenge, value).await,
                // The server keeps two values and drops the older one.
                Action::CleanUp => Ok(()),
            };
        }
        let place = self.place(action, &domain, &challenge, value).await?;
        match &self.provider {
            Provider::AcmeDns(_) => {}
            Provider::Rfc2136(rfc2136) => {
                let change = match action {
                    Action::Present => Change::Add,
                    Action::CleanUp => Change::Remove,
                };
                rfc2136.change(change, &place, value, (self.clock)()).await?;
            }
            Provider::Cloudflare(cloudflare) => match action {
                Action::Present => cloudflare.present(&place, value).await?,
                Action::CleanUp => cloudflare.clean_up(&place, value).await?,
            },
            Provider::Exec(exec) => exec.run(action.word(), &[&place.to_string(), value]).await?,
            Provider::HttpReq(hook) => {
                hook.post(action.word(), &json!({ "fqdn": place.to_string(), "value": value })).await?;
            }
        }
        if action == Action::CleanUp {
            self.forget(&domain, value);
        }
        Ok(())
    }

    async fn raw(&self, action: Action, domain: &Fqdn, key: Key<'_>) -> Result<(), DnsError> {
        let Key { token, authorization } = key;
        match &self.provider {
            Provider::Exec(exec) => exec.run(action.word(), &["--", domain.as_str(), token, authorization]).await,
            Provider::HttpReq(hook) => {
                let message = json!({ "domain": domain.as_str(), "token": token, "keyAuth": authorization });
                hook.post(action.word(), &message).await
            }
            _ => Ok(()),
        }
    }

    /// Where the record belongs: behind the CNAMEs of the challenge's name, or where it was set.
    async fn place(&self, action: Action, domain: &Fqdn, challenge: &Fqdn, value: &str) -> Result<Fqdn, DnsError> {
        if action == Action::CleanUp
            && let Ok(places) = self.places.lock()
            && let Some((.., place)) = places.iter().find(|(d, v, _)| d == domain && v == value)
        {
            return Ok(place.clone());
        }
        let place = if self.follow_cname { self.resolvers().follow(challenge).await? } else { challenge.clone() };
        if action == Action::Present
            && let Ok(mut places) = self.places.lock()
        {
            // Before the provider is asked: a request that seems to fail may have done its work.
            places.retain(|(d, v, _)| d != domain || v != value);
            if places.len() >= REMEMBERED {
                places.pop_front();
            }
            places.push_back((domain.clone(), value.to_owned(), place.clone()));
        }
        Ok(place)
    }

    fn forget(&self, domain: &Fqdn, value: &str) {
        if let Ok(mut places) = self.places.lock() {
            places.retain(|(d, v, _)| d != domain || v != value);
        }
    }

    fn resolvers(&self) -> lookup::Resolvers {
        self.propagation.resolvers(self.timing.query)
    }
}

impl fmt::Debug for Solver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Solver").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// What a key authorization's record holds (RFC 8555, section 8.4).
fn value_of(authorization: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authorization.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}
