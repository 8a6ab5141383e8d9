//! Cloudflare's API, version 4 (<https://developers.cloudflare.com/api/>).
//!
//! What always holds: records are added and deleted one by one, so that several values stand at one
//! name; what was added is deleted by its id, and found by name and value when the id is not known any
//! more (another process, a restart).

use super::api::{Answer, Api, secret_header};
use super::error::{DnsError, one_line};
use super::name::Fqdn;
use super::settings::{self, CloudflareCredentials};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// Where the API is.
pub(super) const API: &str = "https://api.cloudflare.com/client/v4";
/// Zones and records that are remembered.
const REMEMBERED: usize = 1024;
/// "An identical record already exists", and its older form.
const EXISTS: [i64; 2] = [81058, 81057];

/// The provider.
#[derive(Debug)]
pub(super) struct Cloudflare {
    api: Api,
    ttl: u32,
    /// For changes of records.
    dns: HeaderMap,
    /// For the look-up of zones.
    zone: HeaderMap,
    /// Ids of zones by name.
    zones: Mutex<BTreeMap<Fqdn, String>>,
    /// Zone's and record's id by name and value.
    records: Mutex<BTreeMap<(Fqdn, String), (String, String)>>,
}

impl Cloudflare {
    pub fn new(settings: &settings::Cloudflare, limit: Duration) -> Result<Self, DnsError> {
        let (dns, zone) = match &settings.credentials {
            CloudflareCredentials::Token { dns, zone } => {
                let dns = bearer("CF_DNS_API_TOKEN", dns.reveal())?;
                let zone = match zone {
                    Some(zone) => bearer("CF_ZONE_API_TOKEN", zone.reveal())?,
                    None => dns.clone(),
                };
                (dns, zone)
            }
            CloudflareCredentials::Key { email, key } => {
                let mut headers = HeaderMap::new();
                headers.insert("x-auth-email", secret_header("CF_API_EMAIL", email)?);
                headers.insert("x-auth-key", secret_header("CF_API_KEY", key.reveal())?);
                (headers.clone(), headers)
            }
        };
        let api = Api::new("CF_BASE_URL", &settings.base_url, limit)?;
        Ok(Self { api, ttl: settings.ttl, dns, zone, zones: Mutex::default(), records: Mutex::default() })
    }

    pub async fn present(&self, name: &Fqdn, value: &str) -> Result<(), DnsError> {
        let (apex, zone) = self.zone_of(name).await?;
        let record = json!({ "type": "TXT", "name": name.as_str(), "content": quoted(value), "ttl": self.ttl });
        let path = ["zones", &zone, "dns_records"];
        let answer = self.api.send(Method::POST, &path, &[], self.dns.clone(), Some(&record)).await?;
        let id = match result(answer) {
            Ok(record) => id(&record, "record")?,
            Err(Refusal { codes, error }) => {
                if matches!(error, DnsError::Status { status: 404, .. }) {
                    // The zone is not what it was: look it up again next time.
                    self.zones.lock().map(|mut zones| zones.remove(&apex)).ok();
                }
                let found = if codes.iter().any(|code| EXISTS.contains(code)) {
                    self.find(&zone, name, value).await?
                } else {
                    None
                };
                found.ok_or(error)?
            }
        };
        if let Ok(mut records) = self.records.lock() {
            if records.len() >= REMEMBERED {
                records.pop_first();
            }
            records.insert((name.clone(), value.to_owned()), (zone, id));
        }
        Ok(())
    }

    pub async fn clean_up(&self, name: &Fqdn, value: &str) -> Result<(), DnsError> {
        let key = (name.clone(), value.to_owned());
        let known = self.records.lock().ok().and_then(|records| records.get(&key).cloned());
        let (zone, record) = match known {
            Some(known) => known,
            None => {
                let (_, zone) = self.zone_of(name).await?;
                // Nothing there: nothing to do.
                let Some(record) = self.find(&zone, name, value).await? else { return Ok(()) };
                (zone, record)
            }
        };
        let path = ["zones", &zone, "dns_records", &record];
        match result(self.api.send(Method::DELETE, &path, &[], self.dns.clone(), None).await?) {
            // Somebody else was faster.
            Ok(_) | Err(Refusal { error: DnsError::Status { status: 404, .. }, .. }) => {
                self.records.lock().map(|mut records| records.remove(&key)).ok();
                Ok(())
            }
            Err(Refusal { error, .. }) => Err(error),
        }
    }

    /// The zone in the account that holds the name: the nearest above, with its id.
    async fn zone_of(&self, name: &Fqdn) -> Result<(Fqdn, String), DnsError> {
        for above in name.and_above().filter(|above| above.as_str().contains('.')) {
            if let Some(id) = self.zones.lock().ok().and_then(|zones| zones.get(&above).cloned()) {
                return Ok((above, id));
            }
            let query = [("name", above.as_str()), ("per_page", "50")];
            let answer = self.api.send(Method::GET, &["zones"], &query, self.zone.clone(), None).await?;
            let zones = result(answer).map_err(|refusal| refusal.error)?;
            let all: Vec<&Value> = zones.as_array().map(Vec::as_slice).unwrap_or_default().iter().collect();
            // A name may be in several accounts; one of them is in force.
            let active: Vec<&Value> = all.iter().copied().filter(|zone| zone["status"] == "active").collect();
            let zone = match (all.as_slice(), active.as_slice()) {
                ([], _) => continue,
                ([one], _) | (_, [one]) => id(one, "zone")?,
                _ => {
                    let reason = format!("the zone {above} is in several accounts that the token may read");
                    return Err(DnsError::Zone { name: name.to_string(), reason });
                }
            };
            if let Ok(mut zones) = self.zones.lock() {
                if zones.len() >= REMEMBERED {
                    zones.pop_first();
                }
                zones.insert(above.clone(), zone.clone());
            }
            return Ok((above, zone));
        }
        let reason = "no zone of the account holds it (does the token have Zone:Read for it?)".to_owned();
        Err(DnsError::Zone { name: name.to_string(), reason })
    }

    /// The id of the record of this name and value.
    async fn find(&self, zone: &str, name: &Fqdn, value: &str) -> Result<Option<String>, DnsError> {
        let path = ["zones", zone, "dns_records"];
        let query = [("type", "TXT"), ("name", name.as_str()), ("per_page", "100")];
        let answer = self.api.send(Method::GET, &path, &query, self.dns.clone(), None).await?;
        let records = result(answer).map_err(|refusal| refusal.error)?;
        let found = records
            .as_array()
            .and_then(|all| all.iter().find(|r| r["content"].as_str().is_some_and(|c| c.trim_matches('"') == value)));
        found.map(|record| id(record, "record")).transpose()
    }
}

fn bearer(what: &'static str, token: &str) -> Result<HeaderMap, DnsError> {
    let value: HeaderValue = secret_header(what, &format!("Bearer {token}"))?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// TXT contents stand in quotes.
fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

/// A refusal, with the API's codes.
struct Refusal {
    codes: Vec<i64>,
    error: DnsError,
}

/// `result` of an answer.
fn result(answer: Answer) -> Result<Value, Refusal> {
    let good = (200..300).contains(&answer.status);
    let body = match answer.json() {
        Ok(body) => body,
        Err(error) if good => return Err(Refusal { codes: Vec::new(), error }),
        Err(_) => {
            let text = one_line(&String::from_utf8_lossy(&answer.body), 300);
            return Err(Refusal { codes: Vec::new(), error: answer.refused(text) });
        }
    };
    if good && body["success"] == true {
        return Ok(body["result"].clone());
    }
    let mut codes = Vec::new();
    let mut texts = Vec::new();
    for error in body["errors"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let chain = error["error_chain"].as_array().map(Vec::as_slice).unwrap_or_default();
        for item in std::iter::once(error).chain(chain) {
            codes.extend(item["code"].as_i64());
            texts.push(format!("{}: {}", item["code"], item["message"].as_str().unwrap_or_default()));
        }
    }
    let text = one_line(&texts.join("; "), 300);
    Err(Refusal { codes, error: answer.refused(text) })
}

/// The id of a zone or record; it becomes part of addresses.
fn id(of: &Value, what: &str) -> Result<String, DnsError> {
    of["id"]
        .as_str()
        .filter(|id| {
            (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
        .map(str::to_owned)
        .ok_or_else(|| DnsError::Request { request: API.into(), reason: format!("the answer gives the {what} no id") })
}
