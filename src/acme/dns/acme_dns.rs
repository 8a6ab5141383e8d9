//! Joohoi's acme-dns: a name server with an HTTP interface that holds nothing but TXT records of
//! challenges. The domain's `_acme-challenge` is a CNAME to a name there, set once by a person.
//!
//! Accounts stand in one file, a JSON object from domain to account: the form of acme-dns-client, of
//! Caddy's plug-in (`/pv/CERTS/acme-dns.json` of HinD) and of lego. An object that is itself one
//! account (the plug-in's other form) serves every domain. Keys may be written in any case, as Go reads
//! them.
//!
//! What always holds: the file is replaced whole or not at all, with mode 0600, and keeps what we do not
//! know; it is read at each use, on a thread that may hang.

use super::api::{Api, secret_header};
use super::error::{DnsError, one_line};
use super::name::Fqdn;
use super::settings;
use crate::model::Secret;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Largest file of accounts, in bytes.
const LARGEST: u64 = 4 << 20;

/// The provider.
#[derive(Debug)]
pub(super) struct AcmeDns {
    settings: settings::AcmeDns,
    limit: Duration,
    /// One change of the file at a time.
    changing: tokio::sync::Mutex<()>,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    username: String,
    password: Secret,
    subdomain: String,
    full_domain: Option<Fqdn>,
    server: String,
}

impl AcmeDns {
    pub fn new(settings: settings::AcmeDns, limit: Duration) -> Result<Self, DnsError> {
        if let Some(base) = &settings.api_base {
            super::api::base(base).map_err(|reason| DnsError::SetUp { what: "ACME_DNS_API_BASE", reason })?;
        }
        Ok(Self { settings, limit, changing: tokio::sync::Mutex::new(()) })
    }

    /// Sets the value; the server keeps the two last ones.
    pub async fn present(&self, domain: &Fqdn, name: &Fqdn, value: &str) -> Result<(), DnsError> {
        let account = match self.account(domain).await? {
            Some(account) => account,
            None => return Err(self.register(domain, name).await?),
        };
        let api = Api::new("acme-dns server", &account.server, self.limit)?;
        let mut headers = HeaderMap::new();
        headers.insert("x-api-user", secret_header("acme-dns user name", &account.username)?);
        headers.insert("x-api-key", secret_header("acme-dns password", account.password.reveal())?);
        let body = json!({ "subdomain": account.subdomain, "txt": value });
        api.send(Method::POST, &["update"], &[], headers, Some(&body)).await?.success()?;
        Ok(())
    }

    /// Where the CNAME of a domain has to lead, if its account tells.
    pub async fn target(&self, domain: &Fqdn) -> Option<Fqdn> {
        self.account(domain).await.ok().flatten()?.full_domain
    }

    async fn account(&self, domain: &Fqdn) -> Result<Option<Account>, DnsError> {
        let (file, domain, base) = (self.settings.storage.clone(), domain.clone(), self.settings.api_base.clone());
        self.on_a_thread(move || {
            let accounts = read(&file)?;
            find(&accounts, &domain).map(|found| account(found, base.as_deref(), &domain, &file)).transpose()
        })
        .await
    }

    /// Registers an account, keeps it, and gives what the person has to do.
    async fn register(&self, domain: &Fqdn, name: &Fqdn) -> Result<DnsError, DnsError> {
        let _changing = self.changing.lock().await;
        let Some(base) = &self.settings.api_base else {
            let file = self.settings.storage.clone();
            let known = self
                .on_a_thread({
                    let file = file.clone();
                    move || read(&file)
                })
                .await?;
            let known: Vec<&str> = known.keys().map(String::as_str).take(20).collect();
            let known = if known.is_empty() { "none".to_owned() } else { one_line(&known.join(", "), 500) };
            return Err(DnsError::UnknownAccount { domain: domain.as_str().to_owned(), file, known });
        };
        let api = Api::new("ACME_DNS_API_BASE", base, self.limit)?;
        let allow = &self.settings.allow_from;
        let body = if allow.is_empty() { json!({}) } else { json!({ "allowfrom": allow }) };
        let answer = api.send(Method::POST, &["register"], &[], HeaderMap::new(), Some(&body)).await?.success()?;
        let Value::Object(mut fresh) = answer.json()? else {
            return Err(DnsError::Request { request: answer.request, reason: "the answer is no account".into() });
        };
        fresh.insert("server_url".to_owned(), json!(base));
        let account = account(&fresh, Some(base), domain, Path::new(&answer.request))?;
        let Some(target) = account.full_domain else {
            return Err(DnsError::Request {
                request: answer.request,
                reason: "the account has no `fulldomain`".into(),
            });
        };
        let (file, key) = (self.settings.storage.clone(), domain.as_str().to_owned());
        self.on_a_thread(move || {
            // As it stands now: somebody else may have added an account meanwhile.
            let mut accounts = read(&file)?;
            accounts.insert(key, Value::Object(fresh));
            write(&file, &accounts)
        })
        .await?;
        Ok(DnsError::CnameRequired {
            domain: domain.as_str().to_owned(),
            fqdn: name.to_string(),
            target: target.to_string(),
            registered: true,
        })
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, DnsError> + Send + 'static,
    ) -> Result<T, DnsError> {
        let fault = |reason: String| DnsError::Accounts { file: self.settings.storage.clone(), reason };
        match tokio::time::timeout(self.limit, tokio::task::spawn_blocking(work)).await {
            Err(_) => Err(fault(format!("the file system does not answer within {:?}", self.limit))),
            Ok(Err(_)) => Err(fault("its thread ended early".into())),
            Ok(Ok(done)) => done,
        }
    }
}

/// Reads all accounts; none when the file is not there.
fn read(file: &Path) -> Result<Map<String, Value>, DnsError> {
    let fault = |reason: String| DnsError::Accounts { file: file.to_owned(), reason };
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(fault(error.to_string())),
    };
    let mut bytes = Vec::new();
    opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| fault(e.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(fault(format!("it is larger than {LARGEST} bytes")));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(accounts)) => Ok(accounts),
        Ok(_) => Err(fault("it is no JSON object from domain to account".into())),
        Err(error) => Err(fault(format!("it is no JSON: {error}"))),
    }
}

/// The account of a domain.
fn find<'a>(accounts: &'a Map<String, Value>, domain: &Fqdn) -> Option<&'a Map<String, Value>> {
    if text(accounts, "username").is_some() {
        return Some(accounts);
    }
    accounts
        .iter()
        .find(|(key, _)| {
            let key = key.trim_end_matches('.').to_ascii_lowercase();
            let key = key.strip_prefix("_acme-challenge.").unwrap_or(&key);
            key.strip_prefix("*.").unwrap_or(key) == domain.as_str()
        })
        .and_then(|(_, account)| account.as_object())
}

fn account(found: &Map<String, Value>, base: Option<&str>, domain: &Fqdn, of: &Path) -> Result<Account, DnsError> {
    let fault = |reason: String| DnsError::Accounts {
        file: of.to_owned(),
        reason: format!("the account of {}: {reason}", domain.as_str()),
    };
    let needed = |key: &str| text(found, key).ok_or_else(|| fault(format!("it has no `{key}`")));
    let server = text(found, "server_url")
        .or(base)
        .ok_or_else(|| fault("it has no `server_url`, and ACME_DNS_API_BASE is not set".into()))?;
    super::api::base(server).map_err(|reason| fault(format!("`server_url`: {reason}")))?;
    let full_domain = text(found, "fulldomain").map(Fqdn::parse).transpose()?;
    Ok(Account {
        username: needed("username")?.to_owned(),
        password: Secret::new(needed("password")?),
        subdomain: needed("subdomain")?.to_owned(),
        full_domain,
        server: server.to_owned(),
    })
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key))?.1.as_str().filter(|text| !text.is_empty())
}

/// Replaces the file: a new one beside it (0600), synced, renamed over it.
fn write(file: &Path, accounts: &Map<String, Value>) -> Result<(), DnsError> {
    let beside = beside(file);
    let written = (|| {
        let mut text = serde_json::to_vec_pretty(accounts).map_err(std::io::Error::other)?;
        text.push(b'\n');
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        opened.write_all(&text)?;
        opened.sync_all()?;
        std::fs::rename(&beside, file)?;
        // The name is durable once its directory is.
        match file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|error: std::io::Error| {
        // A rest, if any, is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
        DnsError::Accounts { file: file.to_owned(), reason: format!("it cannot be written: {error}") }
    })
}

/// A name that no other process takes.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    name.into()
}
