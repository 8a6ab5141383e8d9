//! The second half of an order: key, certificate request, and the certificate, once all names are proved.

use super::Run;
use super::pace::Pace;
use crate::acme::ari;
use crate::acme::client::{Late, blocking};
use crate::acme::error::{AcmeError, Phase, Problem};
use crate::acme::issued::{Issued, alternates, check, choose, describe};
use crate::acme::key::{self, Requested};
use crate::acme::transport;
use instant_acme::{Account, OrderStatus};
use std::time::{Duration, SystemTime};

/// For making a key; RSA8192 needs most of it on a slow machine.
const KEY_LIMIT: Duration = Duration::from_secs(300);

impl Run<'_> {
    /// A new key and its request, on a thread of its own.
    pub(super) async fn request(&self) -> Result<Requested, AcmeError> {
        self.progress.enter(Phase::Finalize);
        let (kind, names) = (self.authority.key_type, self.names.to_vec());
        match blocking(KEY_LIMIT, move || key::request(kind, &names)).await {
            Ok(made) => made,
            Err(Late) => Err(AcmeError::Key(format!("not made within {KEY_LIMIT:?}"))),
        }
    }

    /// Waits until the order is ready, sends the request and waits for the certificate.
    pub(super) async fn finalize(&self, order: &mut instant_acme::Order, csr: &[u8]) -> Result<(), AcmeError> {
        let timing = self.client.timing();
        let mut pace = Pace::new(timing, timing.validation);
        self.look(order, Phase::Finalize, &mut pace, &[OrderStatus::Pending]).await?;
        if order.state().status == OrderStatus::Ready {
            let sent = order.finalize_csr(csr).await;
            sent.map_err(|error| self.transport.error(error, Phase::Finalize))?;
        }
        let limit = self.authority.certificate_limit.unwrap_or(timing.issue);
        let phase = self.progress.enter(Phase::Issue);
        let mut pace = Pace::new(timing, limit);
        if order.state().status != OrderStatus::Valid {
            pace.wait(self.transport.seen().retry_after, phase).await?;
        }
        // Ready right after the request: an authority that has not taken it up yet.
        self.look(order, phase, &mut pace, &[OrderStatus::Pending, OrderStatus::Ready, OrderStatus::Processing]).await
    }

    /// Looks at the order until it is in none of these states.
    async fn look(
        &self,
        order: &mut instant_acme::Order,
        phase: Phase,
        pace: &mut Pace<'_>,
        waiting: &[OrderStatus],
    ) -> Result<(), AcmeError> {
        loop {
            let failed = match order.refresh().await {
                Ok(_) => None,
                Err(error) => Some(self.transport.error(error, phase)),
            };
            match failed {
                Some(error) if !pace.forgives(&error) => return Err(error),
                Some(_) => {}
                None => {
                    pace.failures = 0;
                    let state = order.state();
                    if state.status == OrderStatus::Invalid {
                        let given = state.error.as_ref().map(Problem::from);
                        let problem = given.unwrap_or_else(|| Problem::own("the order is invalid"));
                        return Err(transport::refusal(problem, phase, 0, None));
                    }
                    if !waiting.contains(&state.status) {
                        return Ok(());
                    }
                }
            }
            pace.wait(self.transport.seen().retry_after, phase).await?;
        }
    }

    /// Fetches, chooses, checks and describes the certificate.
    pub(super) async fn fetch(
        &self,
        account: &Account,
        order: &mut instant_acme::Order,
        made: Requested,
    ) -> Result<Issued, AcmeError> {
        let phase = self.progress.enter(Phase::Download);
        let Some(url) = order.state().certificate.clone() else {
            let detail = "a valid order without a certificate".to_owned();
            return Err(AcmeError::Nonsense { phase, detail });
        };
        let timing = self.client.timing();
        let mut pace = Pace::new(timing, timing.issue);
        let chain = loop {
            let error = match order.certificate().await {
                Ok(Some(chain)) => break chain,
                Ok(None) => AcmeError::Nonsense { phase, detail: "a valid order that is not finished".to_owned() },
                Err(error) => self.transport.error(error, phase),
            };
            if !pace.forgives(&error) {
                return Err(error);
            }
            pace.wait(self.transport.seen().retry_after, phase).await?;
        };
        let others = alternates(&self.transport.seen().links, &url);
        let preferred = self.authority.preferred_chain.as_deref();
        let (url, chain) = choose((url, chain), preferred, others, account, &self.transport).await;
        let now = SystemTime::now();
        check(&chain, &made.key, self.names, now)?;
        self.progress.enter(Phase::RenewalInfo);
        let window = match ari::certificate_id(&chain) {
            Err(_) => None,
            Ok(id) => match ari::ask(&self.transport, &self.authority.directory, &id, now).await {
                Ok(window) => window,
                // Not worth losing a certificate for: it is asked again when renewal is considered.
                Err(error) => {
                    tracing::debug!(%error, "when to renew is not known");
                    None
                }
            },
        };
        Ok(Issued {
            json: describe(self.names, &url, self.authority, account.id(), window.as_ref()),
            chain,
            key: made.key,
            renew_at: window.as_ref().map(|window| window.selected),
            window,
        })
    }
}
