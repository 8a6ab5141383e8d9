//! Settings of the providers, and how they are named: as lego's environment variables, which Traefik's
//! users know. Who reads the environment hands in `get`; each name has its `_FILE` variant (the value
//! stands in that file), and `CLOUDFLARE_…`/`DNSUPDATE_…` are other spellings of `CF_…`/`RFC2136_…`.
//!
//! What always holds: an error names every variable that is missing; no error holds a secret.

use super::tsig::{self, Algorithm};
use crate::model::Secret;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Largest file that a `_FILE` variable may name, in bytes.
const LARGEST_FILE: u64 = 64 << 10;

/// The names of `dnsChallenge.provider` that are served.
pub const PROVIDERS: [&str; 7] = ["acme-dns", "acmedns", "cloudflare", "dnsupdate", "exec", "httpreq", "rfc2136"];

/// One provider with all that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which one, and its own settings.
    pub provider: Provider,
    /// Time limits.
    pub timing: Timing,
    /// Follow CNAMEs of the challenge's name and set the record where they end. Off with
    /// `LEGO_DISABLE_CNAME_SUPPORT=true`.
    pub follow_cname: bool,
}

/// A provider's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// Joohoi's acme-dns.
    AcmeDns(AcmeDns),
    /// Dynamic updates (RFC 2136).
    Rfc2136(Rfc2136),
    /// Cloudflare's API.
    Cloudflare(Cloudflare),
    /// A program.
    Exec(Exec),
    /// A web hook.
    HttpReq(HttpReq),
}

/// acme-dns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeDns {
    /// File of the accounts: a JSON object from domain to account, as of acme-dns-client, lego and
    /// Caddy's plug-in.
    pub storage: PathBuf,
    /// Address of the server: for registering, and for accounts that name none.
    pub api_base: Option<String>,
    /// Networks that may update an account that is registered here (CIDR).
    pub allow_from: Vec<String>,
}

/// A name server that takes updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rfc2136 {
    /// `host`, `host:port` or an address.
    pub nameserver: String,
    /// The key; without one updates are not signed.
    pub key: Option<TsigKey>,
    /// Zones, where they are not to be found by their SOA.
    pub zones: Vec<String>,
    /// Life of the record, in seconds.
    pub ttl: u32,
}

/// A key of TSIG (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsigKey {
    /// Its name at the server.
    pub name: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its secret in base64.
    pub secret: Secret,
}

/// Cloudflare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloudflare {
    /// How we show who we are.
    pub credentials: CloudflareCredentials,
    /// Address of the API.
    pub base_url: String,
    /// Life of the record, in seconds; at least 120.
    pub ttl: u32,
}

/// Credentials for Cloudflare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloudflareCredentials {
    /// API tokens.
    Token {
        /// May edit DNS (Zone/DNS/Edit).
        dns: Secret,
        /// May read zones (Zone/Zone/Read), if that is another.
        zone: Option<Secret>,
    },
    /// An account's global key.
    Key {
        /// The account's address.
        email: String,
        /// The key.
        key: Secret,
    },
}

/// A hook program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program; no arguments, no shell.
    pub path: PathBuf,
    /// Mode RAW: told domain, token and key authorization in place of name and value.
    pub raw: bool,
    /// How long it may run.
    pub limit: Duration,
}

/// A web hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpReq {
    /// What `/present` and `/cleanup` are put behind.
    pub endpoint: String,
    /// Mode RAW: told domain, token and key authorization in place of name and value.
    pub raw: bool,
    /// For basic authentication, with the password.
    pub username: Option<String>,
    /// For basic authentication, with the name.
    pub password: Option<Secret>,
}

/// Time limits of a provider and of the wait for its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long the record may take to be seen (`…_PROPAGATION_TIMEOUT`).
    pub propagation: Duration,
    /// First pause between two looks (`…_POLLING_INTERVAL`); grows up to five times as long.
    pub interval: Duration,
    /// One question to one name server, or one update (`RFC2136_DNS_TIMEOUT`).
    pub query: Duration,
    /// One HTTP request (`…_HTTP_TIMEOUT`).
    pub request: Duration,
}

impl Default for Timing {
    /// lego's.
    fn default() -> Self {
        Self {
            propagation: Duration::from_secs(60),
            interval: Duration::from_secs(2),
            query: Duration::from_secs(10),
            request: Duration::from_secs(30),
        }
    }
}

/// Why a provider cannot be set up. Names of variables, never values of secrets.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No such provider.
    #[error("DNS provider `{name}` is not served; known: {}", PROVIDERS.join(", "))]
    UnknownProvider {
        /// The name as given.
        name: String,
    },
    /// Something is not set.
    #[error("DNS provider `{provider}` needs {missing} (each also as …_FILE, the path of a file that holds it)")]
    Missing {
        /// The provider.
        provider: String,
        /// What is missing.
        missing: String,
    },
    /// A variable's value is not what it should be.
    #[error("{variable}: {reason}")]
    Invalid {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of a `_FILE` variable cannot be read.
    #[error("{variable}: {}: {reason}", .file.display())]
    File {
        /// The variable.
        variable: String,
        /// Where it points.
        file: PathBuf,
        /// What happened.
        reason: String,
    },
}

impl Settings {
    /// acme-dns with accounts in a file, as HinD has it in `/pv/CERTS/acme-dns.json`.
    pub fn acme_dns(storage: impl Into<PathBuf>) -> Self {
        Self::of(Provider::AcmeDns(AcmeDns { storage: storage.into(), api_base: None, allow_from: Vec::new() }))
    }

    /// A provider with the usual limits.
    pub fn of(provider: Provider) -> Self {
        let mut timing = Timing::default();
        if matches!(provider, Provider::Cloudflare(_)) {
            timing.propagation = Duration::from_secs(120);
        }
        Self { provider, timing, follow_cname: true }
    }

    /// The settings of `provider` from lego's variables. Files of `_FILE` variables are read here.
    ///
    /// # Errors
    /// An unknown provider; variables that are missing, say nothing that makes sense, or whose file
    /// cannot be read.
    pub fn from_variables(provider: &str, get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let variables = Variables { provider, get: &get };
        match provider {
            "acme-dns" | "acmedns" => variables.acme_dns(),
            "rfc2136" | "dnsupdate" => variables.rfc2136(),
            "cloudflare" => variables.cloudflare(),
            "exec" => variables.exec(),
            "httpreq" => variables.http_req(),
            other => Err(SettingsError::UnknownProvider { name: other.escape_debug().take(80).collect() }),
        }
    }
}

/// The variables of one provider.
struct Variables<'a> {
    provider: &'a str,
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl Variables<'_> {
    fn acme_dns(&self) -> Result<Settings, SettingsError> {
        if let Some((name, _)) = self.find("ACME_DNS_STORAGE_BASE_URL")? {
            return Err(invalid(name, "accounts over HTTP are not served, use ACME_DNS_STORAGE_PATH"));
        }
        let Some((_, storage)) = self.find("ACME_DNS_STORAGE_PATH")? else {
            return Err(self.missing("ACME_DNS_STORAGE_PATH"));
        };
        let allow_from = self.find("ACME_DNS_ALLOWLIST")?.map(|(_, list)| words(&list)).unwrap_or_default();
        if let Some(bad) = allow_from.iter().find(|net| net.parse::<ipnet::IpNet>().is_err()) {
            return Err(invalid("ACME_DNS_ALLOWLIST".into(), &format!("`{}` is no network", bad.escape_debug())));
        }
        let api_base = self.url("ACME_DNS_API_BASE")?;
        self.with_timing(Provider::AcmeDns(AcmeDns { storage: storage.into(), api_base, allow_from }), "ACME_DNS_")
    }

    fn rfc2136(&self) -> Result<Settings, SettingsError> {
        if let Some(found) =
            ["RFC2136_TSIG_GSS_REALM", "RFC2136_TSIG_GSS_USERNAME"].iter().find_map(|name| self.find(name).transpose())
        {
            return Err(invalid(found?.0, "GSS-TSIG is not served, use a TSIG key"));
        }
        let Some((variable, nameserver)) = self.find("RFC2136_NAMESERVER")? else {
            return Err(self.missing("RFC2136_NAMESERVER"));
        };
        super::query::Server::parse(&nameserver, 53).map_err(|reason| invalid(variable, &reason))?;
        let mut zones = self.find("RFC2136_ZONES")?.map(|(_, list)| words(&list)).unwrap_or_default();
        if let Some((_, zone)) = self.find("RFC2136_ZONE")? {
            zones.push(zone);
        }
        for zone in &zones {
            super::name::Fqdn::parse(zone).map_err(|e| invalid("RFC2136_ZONES".into(), &e.to_string()))?;
        }
        let key = self.tsig_key()?;
        let ttl = self.number("RFC2136_TTL", 120)?;
        let mut settings = self.with_timing(Provider::Rfc2136(Rfc2136 { nameserver, key, zones, ttl }), "RFC2136_")?;
        if let Some(limit) = self.seconds("RFC2136_DNS_TIMEOUT")? {
            settings.timing.query = limit;
        }
        Ok(settings)
    }

    fn tsig_key(&self) -> Result<Option<TsigKey>, SettingsError> {
        // `RFC2136_TSIG_FILE` is a key file as `tsig-keygen` writes it, not the `_FILE` of a variable.
        for variable in spellings("RFC2136_TSIG_FILE") {
            if let Some(path) = self.plain(&variable) {
                let text = read(&variable, Path::new(&path))?;
                return tsig::read_key_file(&text).map(Some).map_err(|reason| invalid(variable, &reason));
            }
        }
        let (name, secret) = (self.find("RFC2136_TSIG_KEY")?, self.find("RFC2136_TSIG_SECRET")?);
        let algorithm = match self.find("RFC2136_TSIG_ALGORITHM")? {
            Some((variable, text)) => Algorithm::parse(&text).ok_or_else(|| {
                invalid(variable, &format!("`{}` is not one of {}", text.escape_debug(), Algorithm::NAMES.join(", ")))
            })?,
            None => Algorithm::Sha1,
        };
        match (name, secret) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.missing("RFC2136_TSIG_SECRET beside RFC2136_TSIG_KEY")),
            (None, Some(_)) => Err(self.missing("RFC2136_TSIG_KEY beside RFC2136_TSIG_SECRET")),
            (Some((variable, name)), Some((of_secret, secret))) => {
                let key = TsigKey { name, algorithm, secret: Secret::new(secret) };
                super::name::Fqdn::parse(&key.name).map_err(|e| invalid(variable, &e.to_string()))?;
                tsig::Signer::new(&key).map_err(|e| invalid(of_secret, &e.to_string()))?;
                Ok(Some(key))
            }
        }
    }

    fn cloudflare(&self) -> Result<Settings, SettingsError> {
        let email = match self.find("CF_API_EMAIL")? {
            Some(found) => Some(found),
            None => self.find_one("CLOUDFLARE_EMAIL")?,
        };
        let credentials = match (email, self.find("CF_API_KEY")?, self.find("CF_DNS_API_TOKEN")?) {
            (_, _, Some((_, dns))) => {
                let zone = self.find("CF_ZONE_API_TOKEN")?.map(|(_, token)| Secret::new(token));
                CloudflareCredentials::Token { dns: Secret::new(dns), zone }
            }
            (Some((_, email)), Some((_, key)), None) => CloudflareCredentials::Key { email, key: Secret::new(key) },
            (Some(_), None, None) => return Err(self.missing("CF_API_KEY beside CF_API_EMAIL, or CF_DNS_API_TOKEN")),
            (None, Some(_), None) => return Err(self.missing("CF_API_EMAIL beside CF_API_KEY, or CF_DNS_API_TOKEN")),
            (None, None, None) => {
                return Err(self.missing("CF_DNS_API_TOKEN, or CF_API_EMAIL and CF_API_KEY"));
            }
        };
        let ttl = self.number("CF_TTL", 120)?;
        if ttl < 120 {
            return Err(invalid("CF_TTL".into(), "it is at least 120"));
        }
        let base_url = self.url("CF_BASE_URL")?.unwrap_or_else(|| super::cloudflare::API.to_owned());
        self.with_timing(Provider::Cloudflare(Cloudflare { credentials, base_url, ttl }), "CF_")
    }

    fn exec(&self) -> Result<Settings, SettingsError> {
        let Some((variable, path)) = self.find("EXEC_PATH")? else { return Err(self.missing("EXEC_PATH")) };
        if path.contains(['\0', '\r', '\n']) {
            return Err(invalid(variable, "it is no path"));
        }
        let raw = self.raw("EXEC_MODE")?;
        let limit = Duration::from_secs(120);
        self.with_timing(Provider::Exec(Exec { path: path.into(), raw, limit }), "EXEC_")
    }

    fn http_req(&self) -> Result<Settings, SettingsError> {
        let Some(endpoint) = self.url("HTTPREQ_ENDPOINT")? else { return Err(self.missing("HTTPREQ_ENDPOINT")) };
        let raw = self.raw("HTTPREQ_MODE")?;
        let username = self.find("HTTPREQ_USERNAME")?.map(|(_, name)| name);
        let password = self.find("HTTPREQ_PASSWORD")?.map(|(_, password)| Secret::new(password));
        match (&username, &password) {
            (Some(_), None) => return Err(self.missing("HTTPREQ_PASSWORD beside HTTPREQ_USERNAME")),
            (None, Some(_)) => return Err(self.missing("HTTPREQ_USERNAME beside HTTPREQ_PASSWORD")),
            _ => {}
        }
        self.with_timing(Provider::HttpReq(HttpReq { endpoint, raw, username, password }), "HTTPREQ_")
    }

    /// Reads what every provider has.
    fn with_timing(&self, provider: Provider, prefix: &str) -> Result<Settings, SettingsError> {
        let mut settings = Settings::of(provider);
        let timing = &mut settings.timing;
        for (name, place) in [
            ("PROPAGATION_TIMEOUT", &mut timing.propagation),
            ("POLLING_INTERVAL", &mut timing.interval),
            ("HTTP_TIMEOUT", &mut timing.request),
        ] {
            if let Some(value) = self.seconds(&format!("{prefix}{name}"))? {
                *place = value;
            }
        }
        if let Some((variable, text)) = self.find_one("LEGO_DISABLE_CNAME_SUPPORT")? {
            settings.follow_cname = match text.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" => false,
                "0" | "f" | "false" => true,
                _ => return Err(invalid(variable, "expected true or false")),
            };
        }
        Ok(settings)
    }

    /// A variable in any of its spellings, with the name that was found.
    fn find(&self, name: &str) -> Result<Option<(String, String)>, SettingsError> {
        for spelling in spellings(name) {
            if let Some(found) = self.find_one(&spelling)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A variable, or what stands in the file of its `_FILE` variant.
    fn find_one(&self, name: &str) -> Result<Option<(String, String)>, SettingsError> {
        if let Some(value) = self.plain(name) {
            return Ok(Some((name.to_owned(), value)));
        }
        let variable = format!("{name}_FILE");
        let Some(path) = self.plain(&variable) else { return Ok(None) };
        let text = read(&variable, Path::new(&path))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(SettingsError::File { variable, file: path.into(), reason: "it is empty".into() });
        }
        Ok(Some((variable, text.to_owned())))
    }

    fn plain(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    fn url(&self, name: &str) -> Result<Option<String>, SettingsError> {
        let Some((variable, text)) = self.find(name)? else { return Ok(None) };
        match super::api::base(&text) {
            Ok(_) => Ok(Some(text)),
            Err(reason) => Err(invalid(variable, &reason)),
        }
    }

    fn raw(&self, name: &str) -> Result<bool, SettingsError> {
        match self.find(name)? {
            None => Ok(false),
            Some((_, mode)) if mode == "RAW" => Ok(true),
            Some((variable, mode)) => {
                Err(invalid(variable, &format!("`{}` is no mode; leave it out or say RAW", mode.escape_debug())))
            }
        }
    }

    fn number<T: FromStr>(&self, name: &str, usual: T) -> Result<T, SettingsError> {
        match self.find(name)? {
            None => Ok(usual),
            Some((variable, text)) => text.parse().map_err(|_| invalid(variable, "expected a number")),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>, SettingsError> {
        match self.find(name)? {
            None => Ok(None),
            Some((variable, text)) => match text.parse::<u32>() {
                Ok(seconds @ 1..=86_400) => Ok(Some(Duration::from_secs(seconds.into()))),
                _ => Err(invalid(variable, "expected a number of seconds from 1 to 86400")),
            },
        }
    }

    fn missing(&self, missing: &str) -> SettingsError {
        SettingsError::Missing { provider: self.provider.to_owned(), missing: missing.to_owned() }
    }
}

fn invalid(variable: String, reason: &str) -> SettingsError {
    SettingsError::Invalid { variable, reason: reason.to_owned() }
}

/// A name, and what lego also calls it.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    for (prefix, other) in [("CF_", "CLOUDFLARE_"), ("RFC2136_", "DNSUPDATE_")] {
        if let Some(rest) = name.strip_prefix(prefix) {
            all.push(format!("{other}{rest}"));
        }
    }
    all
}

fn words(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn read(variable: &str, path: &Path) -> Result<String, SettingsError> {
    let fault = |reason: String| SettingsError::File { variable: variable.to_owned(), file: path.to_owned(), reason };
    let file = std::fs::File::open(path).map_err(|e| fault(e.to_string()))?;
    let mut text = String::new();
    file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(|e| fault(e.to_string()))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(fault("it is larger than 64 KiB".into()));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
