//! The wait until the record is seen: Traefik's `dnsChallenge.propagation.*` and `resolvers`.
//!
//! What always holds: the wait ends; each look asks every server that matters, and the error of a wait
//! in vain says who answered what.

use super::error::{DnsError, Heard, Rcode, one_line};
use super::lookup::{Resolvers, rcode};
use super::name::Fqdn;
use super::query::{self, Server};
use super::settings::Timing;
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How a record's spreading is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagation {
    /// Do not look at all (`disableChecks`).
    pub disable_checks: bool,
    /// Wait before the first look, or in place of it (`delayBeforeChecks`).
    pub delay_before_checks: Duration,
    /// Every resolver has to answer the value too (`requireAllRNS`).
    pub require_all_recursive: bool,
    /// Do not ask the zone's name servers (`disableANSChecks`).
    pub disable_authoritative: bool,
    /// Resolvers (`resolvers`, else the system's): for CNAMEs, zones and name servers.
    pub resolvers: Vec<Server>,
    /// Port of the zone's name servers.
    pub authority_port: u16,
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            disable_checks: false,
            delay_before_checks: Duration::ZERO,
            require_all_recursive: false,
            disable_authoritative: false,
            resolvers: Vec::new(),
            authority_port: 53,
        }
    }
}

impl Propagation {
    /// To ask the resolvers, each question within `limit`.
    pub(super) fn resolvers(&self, limit: Duration) -> Resolvers {
        Resolvers { servers: self.resolvers.clone(), limit }
    }

    /// Waits until `value` is seen at `name`, or behind its CNAMEs.
    ///
    /// # Errors
    /// [`DnsError::NotPropagated`]; [`DnsError::NoResolvers`].
    pub(super) async fn wait(&self, name: &Fqdn, value: &str, timing: &Timing) -> Result<(), DnsError> {
        if !self.delay_before_checks.is_zero() {
            sleep(self.delay_before_checks).await;
        }
        if self.disable_checks || (self.disable_authoritative && !self.require_all_recursive) {
            return Ok(());
        }
        if self.resolvers.is_empty() {
            return Err(DnsError::NoResolvers);
        }
        let start = Instant::now();
        let end = start + timing.propagation;
        let last = Mutex::new(Look { name: name.clone(), heard: Vec::new() });
        let mut pause = timing.interval;
        loop {
            // A look that does not end in time leaves what was heard before.
            let left = end.saturating_duration_since(Instant::now());
            let limit = timing.query.min(left / 2);
            match timeout_at(end, self.look(name, value, limit)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(look)) => {
                    tracing::debug!(name = %look.name, heard = ?look.heard, "the challenge's record is not seen everywhere yet");
                    if let Ok(mut last) = last.lock() {
                        *last = look;
                    }
                }
                Err(_) => break,
            }
            if Instant::now() + pause >= end {
                break;
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(timing.interval * 5);
        }
        let Look { name, mut heard } = last.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if heard.is_empty() {
            heard.push(Heard { server: "nobody".into(), said: "answered in that time".into() });
        }
        Err(DnsError::NotPropagated { name: name.to_string(), waited: start.elapsed(), heard })
    }

    /// One look at all servers.
    async fn look(&self, name: &Fqdn, value: &str, limit: Duration) -> Result<(), Look> {
        let resolvers = self.resolvers(limit);
        let failed = |name: &Fqdn, error: DnsError| Look { name: name.clone(), heard: spoken(error) };
        let target = resolvers.follow(name).await.map_err(|e| failed(name, e))?;
        let mut asked: Vec<(String, Vec<Server>, bool)> = Vec::new();
        if self.require_all_recursive {
            asked.extend(self.resolvers.iter().map(|server| (server.to_string(), vec![server.clone()], true)));
        }
        if !self.disable_authoritative {
            let zone = resolvers.zone(&target).await.map_err(|e| failed(&target, e))?;
            for authority in resolvers.authorities(&zone).await.map_err(|e| failed(&target, e))? {
                let servers: Vec<Server> =
                    authority.addresses.iter().map(|ip| SocketAddr::new(*ip, self.authority_port).into()).collect();
                asked.push((authority.name.to_string(), servers, false));
            }
        }
        let answers = asked.into_iter().map(async |(shown, servers, recursive)| {
            let said = has(&servers, &target, value, recursive, limit).await.err()?;
            Some(Heard { server: shown, said })
        });
        let heard: Vec<Heard> = futures_util::future::join_all(answers).await.into_iter().flatten().collect();
        if heard.is_empty() { Ok(()) } else { Err(Look { name: target, heard }) }
    }
}

/// What one look found.
#[derive(Debug)]
struct Look {
    name: Fqdn,
    heard: Vec<Heard>,
}

fn spoken(error: DnsError) -> Vec<Heard> {
    match error {
        DnsError::Lookup { heard, name, kind } => heard
            .into_iter()
            .map(|h| Heard { server: h.server, said: format!("{} (for {kind} of {name})", h.said) })
            .collect(),
        other => vec![Heard { server: "the resolvers:".into(), said: other.to_string() }],
    }
}

/// Whether a server (one of its addresses) answers the value.
async fn has(servers: &[Server], name: &Fqdn, value: &str, recursive: bool, limit: Duration) -> Result<(), String> {
    let mut said = "has no address".to_owned();
    for server in servers {
        let answer = match server.address(limit).await {
            Err(error) => Err(error.to_string()),
            Ok(address) => query::ask(address, name, RecordType::TXT, recursive, limit).await,
        };
        match answer {
            Err(fault) => said = format!("({server}) {fault}"),
            Ok(message) => return shows(&message, value).map_err(|said| format!("({server}) {said}")),
        }
    }
    Err(said)
}

/// Whether an answer has the value; else what it has.
fn shows(message: &Message, value: &str) -> Result<(), String> {
    let code = rcode(message);
    if code != Rcode::NoError {
        return Err(format!("answers {}", code.word()));
    }
    let texts: Vec<Vec<u8>> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            // A long value stands in several strings.
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        })
        .collect();
    if texts.iter().any(|text| text == value.as_bytes()) {
        return Ok(());
    }
    if texts.is_empty() {
        return Err("answers no TXT record".into());
    }
    let others: Vec<String> =
        texts.iter().take(4).map(|text| format!("\"{}\"", one_line(&String::from_utf8_lossy(text), 80))).collect();
    Err(format!("answers {}", others.join(", ")))
}
