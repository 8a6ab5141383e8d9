//! The answers to an order's challenges: put where the authority looks for them, and taken away again,
//! however the order ends. Answers over HTTP and TLS also go to the storage, so that whichever
//! instance the authority reaches can give them.

use super::authority::Method;
use super::challenge::{ChallengeKind, Challenges, Stored, StoredName, alpn_certificate, challenge_name};
use super::client::{Client, Timing, blocking};
use super::dns;
use super::error::Problem;
use crate::certs::storage::{Storage, layout};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// One challenge that an authority offers.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    pub(super) kind: ChallengeKind,
    pub(super) url: String,
    pub(super) token: String,
}

/// An answer that stands, and how it is taken away.
enum Standing {
    Http { token: String, file: String },
    TlsAlpn { name: String, file: String },
    Dns { solver: Arc<dns::Solver>, domain: String, token: String, authorization: String },
}

/// The answers of one order. Dropped, it takes away what still stands.
pub(super) struct Presented {
    challenges: Challenges,
    storage: Storage,
    timing: Timing,
    issuer: String,
    standing: Vec<Standing>,
}

impl Method {
    pub(super) fn kind(&self) -> ChallengeKind {
        match self {
            Self::Http => ChallengeKind::Http,
            Self::TlsAlpn => ChallengeKind::TlsAlpn,
            Self::Dns(_) => ChallengeKind::Dns,
        }
    }

    /// Whether this way can prove a name at all: wildcards only by DNS (RFC 8555, 7.4.1), addresses not by
    /// DNS (RFC 8738, 7).
    pub(super) fn fits(&self, name: &str, wildcard: bool) -> bool {
        match self.kind() {
            ChallengeKind::Dns => name.parse::<IpAddr>().is_err(),
            ChallengeKind::Http | ChallengeKind::TlsAlpn => !wildcard,
        }
    }
}

/// The value of the TXT record (RFC 8555, 8.4).
fn dns_value(authorization: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, authorization.as_bytes()))
}

/// A wait for a DNS provider.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, dns::DnsError>>) -> Result<T, Problem> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(Problem::own),
        Err(_) => Err(Problem::own(format!("the DNS provider needs more than {limit:?}"))),
    }
}

impl Presented {
    pub(super) fn new(client: &Client, issuer: String) -> Self {
        Self {
            challenges: client.challenges().clone(),
            storage: client.storage().clone(),
            timing: *client.timing(),
            issuer,
            standing: Vec::new(),
        }
    }

    /// Puts one answer where the authority will look. For DNS, whether it can be seen there is asked
    /// by [`Self::wait`].
    pub(super) async fn present(
        &mut self,
        method: &Method,
        name: &str,
        offered: &Offered,
        authorization: &str,
    ) -> Result<(), Problem> {
        let busy = || Problem::own("too many challenges run at once");
        match method {
            Method::Http => {
                let file = layout::challenge(&self.issuer, &challenge_name(ChallengeKind::Http, name));
                if !self.challenges.put_http(&offered.token, authorization) {
                    return Err(busy());
                }
                self.standing.push(Standing::Http { token: offered.token.clone(), file: file.clone() });
                self.share(file, name, offered, authorization).await;
            }
            Method::TlsAlpn => {
                let server_name = challenge_name(ChallengeKind::TlsAlpn, name);
                let file = layout::challenge(&self.issuer, &server_name);
                let certificate = alpn_certificate(name, authorization).map_err(Problem::own)?;
                if !self.challenges.put_tls_alpn(&server_name, certificate) {
                    return Err(busy());
                }
                self.standing.push(Standing::TlsAlpn { name: server_name, file: file.clone() });
                self.share(file, name, offered, authorization).await;
            }
            Method::Dns(solver) => {
                // Noted before it is set: it may be set although the answer says otherwise.
                self.standing.push(Standing::Dns {
                    solver: solver.clone(),
                    domain: name.to_owned(),
                    token: offered.token.clone(),
                    authorization: authorization.to_owned(),
                });
                within(self.timing.provider, solver.present_key(name, &offered.token, authorization)).await?;
            }
        }
        Ok(())
    }

    /// Waits until the zone's name servers answer what was presented. The solver has its own limit.
    pub(super) async fn wait(&self, solver: &dns::Solver, name: &str, authorization: &str) -> Result<(), Problem> {
        solver.wait(name, &dns_value(authorization)).await.map_err(Problem::own)
    }

    /// Writes a challenge for other instances. That this fails is said and stops nothing: this one answers.
    async fn share(&self, file: String, name: &str, offered: &Offered, authorization: &str) {
        let kind = if name.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
        let stored = Stored {
            kind: offered.kind.as_str().to_owned(),
            url: offered.url.clone(),
            status: "pending".to_owned(),
            token: offered.token.clone(),
            key_authorization: authorization.to_owned(),
            identifier: StoredName { kind: kind.to_owned(), value: name.to_owned() },
        };
        let reason = match serde_json::to_vec(&stored) {
            Err(error) => error.to_string(),
            Ok(bytes) => {
                let storage = self.storage.clone();
                match blocking(self.timing.storage, move || storage.write(&file, &bytes)).await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the storage does not answer".to_owned(),
                }
            }
        };
        tracing::warn!(name, reason, "other instances cannot answer this challenge");
    }

    /// Takes all answers away.
    pub(super) async fn clean(&mut self) {
        for standing in &self.standing {
            forget(standing, &self.challenges);
        }
        // One leaves the list when it is gone: what a drop in between leaves is taken away then.
        while let Some(standing) = self.standing.last() {
            take_away(standing, &self.storage, &self.timing).await;
            self.standing.pop();
        }
    }
}

/// Ends our own answer.
fn forget(standing: &Standing, challenges: &Challenges) {
    match standing {
        Standing::Http { token, .. } => challenges.remove_http(token),
        Standing::TlsAlpn { name, .. } => challenges.remove_tls_alpn(name),
        Standing::Dns { .. } => {}
    }
}

/// Removes what others see. What cannot be removed is said.
async fn take_away(standing: &Standing, storage: &Storage, timing: &Timing) {
    match standing {
        Standing::Http { file, .. } | Standing::TlsAlpn { file, .. } => {
            let (storage, key) = (storage.clone(), file.clone());
            let reason = match blocking(timing.storage, move || storage.remove(&key)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the storage does not answer".to_owned(),
            };
            tracing::warn!(file, reason, "a challenge that is over stays in the storage");
        }
        Standing::Dns { solver, domain, token, authorization } => {
            if let Err(problem) = within(timing.provider, solver.clean_up_key(domain, token, authorization)).await {
                tracing::warn!(domain, %problem, "a challenge's TXT record stays in the zone");
            }
        }
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        for standing in &self.standing {
            forget(standing, &self.challenges);
        }
        let standing = std::mem::take(&mut self.standing);
        // The order was dropped; outside a runtime the process ends, and nothing more can be done.
        if let (false, Ok(runtime)) = (standing.is_empty(), tokio::runtime::Handle::try_current()) {
            let (storage, timing) = (self.storage.clone(), self.timing);
            drop(runtime.spawn(async move {
                for standing in standing {
                    take_away(&standing, &storage, &timing).await;
                }
            }));
        }
    }
}
