//! Dynamic updates (RFC 2136), signed with TSIG (RFC 8945).
//!
//! What always holds: a record is added to and taken from those at its name, never all of them; a
//! success counts only when the server's signature says so (with a key configured).

use super::error::{DnsError, Rcode, TsigFault};
use super::lookup;
use super::name::Fqdn;
use super::query::{self, Judged, Server};
use super::settings;
use super::tsig::{Signer, Verdict};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The provider.
#[derive(Debug)]
pub(super) struct Rfc2136 {
    server: Server,
    signer: Option<Signer>,
    /// The nearest to a name first.
    zones: Vec<Fqdn>,
    ttl: u32,
    limit: Duration,
}

/// What to do with the record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// RFC 2136, section 2.5.1.
    Add,
    /// RFC 2136, section 2.5.4.
    Remove,
}

/// A server's answer to an update.
struct Answered {
    code: Rcode,
    tsig: Option<TsigFault>,
}

impl Rfc2136 {
    pub fn new(settings: &settings::Rfc2136, limit: Duration) -> Result<Self, DnsError> {
        let server = Server::parse(&settings.nameserver, 53)
            .map_err(|reason| DnsError::SetUp { what: "RFC2136_NAMESERVER", reason })?;
        let signer = settings.key.as_ref().map(Signer::new).transpose()?;
        let mut zones = settings.zones.iter().map(|zone| Fqdn::parse(zone)).collect::<Result<Vec<_>, _>>()?;
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.as_str().len()));
        Ok(Self { server, signer, zones, ttl: settings.ttl, limit })
    }

    /// Changes one record at `name`; `now` is our clock.
    pub async fn change(&self, change: Change, name: &Fqdn, value: &str, now: SystemTime) -> Result<(), DnsError> {
        let address = self.server.address(self.limit).await?;
        let zone = if self.zones.is_empty() {
            lookup::zone_at(address, name, self.limit).await?
        } else {
            self.zones.iter().find(|zone| zone.holds(name)).cloned().ok_or_else(|| DnsError::Zone {
                name: name.to_string(),
                reason: "it is in none of RFC2136_ZONES".into(),
            })?
        };
        let message = self.message(change, &zone, name, value)?;
        let id = message.metadata.id;
        let mut bytes = message.to_vec().map_err(|e| DnsError::Unanswered {
            server: self.server.to_string(),
            reason: format!("not encoded: {e}"),
        })?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mac = self.signer.as_ref().map(|signer| signer.sign(&mut bytes, now)).unwrap_or_default();
        let answered = query::exchange(address, &bytes, self.limit, |answer| self.judge(answer, id, &mac, now))
            .await
            .map_err(|reason| DnsError::Unanswered { server: self.server.to_string(), reason })?;
        match answered {
            Answered { code: Rcode::NoError, tsig: None } => Ok(()),
            Answered { code, tsig } => Err(DnsError::Refused {
                server: self.server.to_string(),
                zone: zone.to_string(),
                name: name.to_string(),
                code,
                tsig,
            }),
        }
    }

    fn message(&self, change: Change, zone: &Fqdn, name: &Fqdn, value: &str) -> Result<Message, DnsError> {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Update);
        message.add_query(Query::query(zone.to_wire()?, RecordType::SOA));
        let ttl = match change {
            Change::Add => self.ttl,
            Change::Remove => 0,
        };
        let mut record = Record::from_rdata(name.to_wire()?, ttl, RData::TXT(TXT::new(vec![value.to_owned()])));
        if matches!(change, Change::Remove) {
            record.dns_class = DNSClass::NONE;
        }
        message.add_authority(record);
        Ok(message)
    }

    /// What came back. A refusal that is not signed may be a stranger's, but so may silence: it is told
    /// over TCP at once, and over UDP only when nothing better comes.
    fn judge(&self, answer: &[u8], id: u16, mac: &[u8], now: u64) -> Judged<Answered> {
        let Ok(message) = Message::from_vec(answer) else { return Judged::Stray("the answer is malformed".into()) };
        let head = &message.metadata;
        if head.id != id || head.message_type != MessageType::Response || head.op_code != OpCode::Update {
            return Judged::Stray("the answer is to another message".into());
        }
        let code = lookup::rcode(&message);
        let Some(signer) = &self.signer else { return Judged::Answer(Answered { code, tsig: None }) };
        match signer.verify(answer, &message, mac, now) {
            Verdict::Genuine { fault } => Judged::Answer(Answered { code, tsig: fault }),
            Verdict::Unsigned(fault) => Judged::Answer(Answered { code, tsig: Some(fault) }),
            Verdict::Doubtful(why) => Judged::Stray(format!("the answer ({code}) does not count: {why}")),
        }
    }
}
