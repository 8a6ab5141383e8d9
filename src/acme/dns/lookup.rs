//! What the world's DNS says of a name, asked of the configured resolvers: where its CNAMEs end, which
//! zone holds it, which servers answer for the zone.
//!
//! What always holds: resolvers are asked in their order until one answers; what they say is followed
//! for a bounded number of steps.

use super::error::{DnsError, Heard, Rcode};
use super::name::Fqdn;
use super::query::{self, Server};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// CNAMEs that are followed.
const STEPS: usize = 16;
/// Name servers of a zone that are asked.
const SERVERS: usize = 13;

/// The resolvers.
#[derive(Debug, Clone)]
pub(super) struct Resolvers {
    pub servers: Vec<Server>,
    /// For one question.
    pub limit: Duration,
}

/// One that answers for a zone.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    pub name: Fqdn,
    pub addresses: Vec<IpAddr>,
}

impl Resolvers {
    /// The first answer that tells whether the records exist.
    async fn ask(&self, name: &Fqdn, kind: RecordType) -> Result<Message, DnsError> {
        if self.servers.is_empty() {
            return Err(DnsError::NoResolvers);
        }
        let mut heard = Vec::new();
        for server in &self.servers {
            let said = match server.address(self.limit).await {
                Err(error) => error.to_string(),
                Ok(address) => match query::ask(address, name, kind, true, self.limit).await {
                    Err(fault) => fault,
                    Ok(message) => match rcode(&message) {
                        Rcode::NoError | Rcode::NxDomain => return Ok(message),
                        other => format!("answers {}", other.word()),
                    },
                },
            };
            heard.push(Heard { server: server.to_string(), said });
        }
        Err(DnsError::Lookup { name: name.to_string(), kind: kind.to_string(), heard })
    }

    /// Where the CNAMEs of `name` end; the name itself where there are none, or nobody to ask.
    ///
    /// # Errors
    /// Nobody answers, they do not end, or they lead to what is no host's name.
    pub async fn follow(&self, name: &Fqdn) -> Result<Fqdn, DnsError> {
        let mut passed = vec![name.clone()];
        if self.servers.is_empty() {
            return Ok(name.clone());
        }
        loop {
            let at = passed.last().unwrap_or(name).clone();
            let message = self.ask(&at, RecordType::CNAME).await?;
            let Some(next) = cname(&message, &at)? else { return Ok(at) };
            let ends = !passed.contains(&next) && passed.len() < STEPS;
            passed.push(next);
            if !ends {
                let through = passed.iter().map(ToString::to_string).collect();
                return Err(DnsError::EndlessCname { name: name.to_string(), through });
            }
        }
    }

    /// The zone that holds `name`.
    ///
    /// # Errors
    /// Nobody answers, or nothing above is a zone.
    pub async fn zone(&self, name: &Fqdn) -> Result<Fqdn, DnsError> {
        for above in name.and_above() {
            let message = self.ask(&above, RecordType::SOA).await?;
            if let Some(zone) = zone_of(&message, name) {
                return Ok(zone);
            }
        }
        let asked = self.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(DnsError::NoZone { name: name.to_string(), asked })
    }

    /// Who answers for `zone`.
    ///
    /// # Errors
    /// Nobody answers, or the zone has no name server with an address.
    pub async fn authorities(&self, zone: &Fqdn) -> Result<Vec<Authority>, DnsError> {
        let message = self.ask(zone, RecordType::NS).await?;
        let mut names: Vec<Fqdn> = message
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(ns) => Fqdn::from_wire(&ns.0).ok(),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        let found = futures_util::future::join_all(names.into_iter().take(SERVERS).map(async |name| {
            let (v4, v6) = tokio::join!(self.ask(&name, RecordType::A), self.ask(&name, RecordType::AAAA));
            let addresses =
                [v4, v6].into_iter().flatten().flat_map(|m| m.answers).filter_map(|r| r.data.ip_addr()).collect();
            Authority { name, addresses }
        }))
        .await;
        if found.iter().all(|authority| authority.addresses.is_empty()) {
            let said = if found.is_empty() { "gave no name servers" } else { "gave name servers without addresses" };
            let heard = self.servers.iter().map(|s| Heard { server: s.to_string(), said: said.into() }).collect();
            return Err(DnsError::Lookup { name: zone.to_string(), kind: "NS".into(), heard });
        }
        Ok(found)
    }
}

/// The zone that holds `name` by what `server` itself says: the SOA of an answer, or of the authority
/// section of a negative one.
///
/// # Errors
/// It does not answer, or knows of no zone above.
pub(super) async fn zone_at(server: SocketAddr, name: &Fqdn, limit: Duration) -> Result<Fqdn, DnsError> {
    let mut said = String::new();
    for above in name.and_above() {
        let message = query::ask(server, &above, RecordType::SOA, true, limit)
            .await
            .map_err(|reason| DnsError::Unanswered { server: server.to_string(), reason })?;
        if let Some(zone) = zone_of(&message, name) {
            return Ok(zone);
        }
        said = format!(" (for {above} it answers {})", rcode(&message));
    }
    Err(DnsError::NoZone { name: name.to_string(), asked: format!("{server}{said}") })
}

/// The zone of `name` by an SOA in an answer.
fn zone_of(message: &Message, name: &Fqdn) -> Option<Fqdn> {
    // The SOA behind a CNAME is of another name.
    if message.answers.iter().any(|record| matches!(record.data, RData::CNAME(_))) {
        return None;
    }
    message
        .answers
        .iter()
        .chain(&message.authorities)
        .filter(|record| matches!(record.data, RData::SOA(_)))
        .filter_map(|record| Fqdn::from_wire(&record.name).ok())
        .find(|zone| zone.holds(name))
}

fn cname(message: &Message, name: &Fqdn) -> Result<Option<Fqdn>, DnsError> {
    for record in &message.answers {
        if let RData::CNAME(target) = &record.data
            && Fqdn::from_wire(&record.name).is_ok_and(|owner| owner == *name)
        {
            return Fqdn::from_wire(&target.0).map(Some);
        }
    }
    Ok(None)
}

/// The answer's code.
pub(super) fn rcode(message: &Message) -> Rcode {
    u16::from(message.metadata.response_code).into()
}
