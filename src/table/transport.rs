//! How the servers of a service are reached, made of what a `serversTransport` declares
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/http/load-balancing/serverstransport/>).
//!
//! What always holds: it is a plain value. Files are named in it and not read, so that who makes connections reads
//! them off the request path; an option that cannot be kept refuses the whole transport, since one that
//! verifies less than was said is worse than none.

use crate::declare::{self, GoDuration};
use crate::model::Secret;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Qualified name of what services without a transport of their own are reached by: `serversTransport` of the static
/// configuration.
pub const DEFAULT_TRANSPORT: &str = "default@internal";

/// Connections that one worker keeps to a server without use, where nothing else is said.
const MAX_IDLE: usize = 200;
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// How servers are reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transport {
    /// Qualified name, `mtls@file`.
    pub id: Arc<str>,
    /// How `https://` servers are verified, and what they are shown.
    pub tls: TransportTls,
    /// Until a connection is made; zero means no limit.
    pub dial_timeout: Duration,
    /// From the last byte of the request to the head of the answer; zero means no limit.
    pub response_header_timeout: Duration,
    /// How long a connection is kept without use; zero means no limit.
    pub idle_timeout: Duration,
    /// Silence on an HTTP/2 connection after which the server is asked whether it is there; zero means never.
    pub read_idle_timeout: Duration,
    /// How long it has to answer that.
    pub ping_timeout: Duration,
    /// Unused connections kept for one server by one worker.
    pub max_idle: usize,
    /// Whether HTTP/2 may be spoken.
    pub http2: bool,
    /// Servers are told who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What it was declared as.
    pub declared: Arc<declare::ServersTransport>,
}

/// TLS towards servers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransportTls {
    /// The name to ask for and to verify instead of the server's host.
    pub server_name: Option<Arc<str>>,
    /// Neither the chain nor the name of a certificate is verified (but see [`Self::peer_names`]).
    pub insecure_skip_verify: bool,
    /// Authorities to trust; empty means the system's.
    pub root_cas: Vec<Pem>,
    /// Certificates to show where a server asks for one: chain and key.
    pub certificates: Vec<(Pem, Pem)>,
    /// Cipher suites of TLS 1.2 by their IANA names; empty means all that are good.
    pub cipher_suites: Vec<Arc<str>>,
    /// Least version.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: TlsVersion,
    /// Names one of which a certificate must have; empty asks for none. With [`Self::insecure_skip_verify`] the chain
    /// is verified nevertheless, and only the host's name is not.
    pub peer_names: Vec<PeerName>,
}

impl Default for TransportTls {
    fn default() -> Self {
        Self {
            server_name: None,
            insecure_skip_verify: false,
            root_cas: Vec::new(),
            certificates: Vec::new(),
            cipher_suites: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            peer_names: Vec::new(),
        }
    }
}

/// Something in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pem {
    /// In this file.
    File(Arc<str>),
    /// As it is.
    Text(Secret),
}

impl Pem {
    /// Traefik's `FileOrContent`: what looks like PEM is content, anything else the name of a file.
    pub fn new(text: &str) -> Self {
        if text.contains("-----BEGIN") { Self::Text(Secret::new(text)) } else { Self::File(text.into()) }
    }
}

/// A version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerName {
    /// A URI, such as a SPIFFE id; case does not count.
    Uri(Arc<str>),
    /// A DNS name or an address.
    Host(Arc<str>),
}

/// Version of the PROXY protocol (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    server_name: Arc<str>,
    insecure_skip_verify: bool,
    #[serde(rename = "rootCAs")]
    root_cas: Vec<String>,
    certificates: Vec<SaidCertificate>,
    cipher_suites: Vec<Arc<str>>,
    min_version: String,
    max_version: String,
    max_idle_conns_per_host: i64,
    #[serde(rename = "disableHTTP2")]
    disable_http2: bool,
    #[serde(rename = "peerCertURI")]
    peer_cert_uri: Arc<str>,
    #[serde(rename = "peerCertSANs")]
    peer_cert_sans: Vec<SaidName>,
    forwarding_timeouts: SaidTimeouts,
    rust_lb_proxy_protocol: Option<SaidProxyProtocol>,
    spiffe: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SaidCertificate {
    cert_file: String,
    key_file: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SaidName {
    r#type: String,
    value: Arc<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SaidTimeouts {
    dial_timeout: Option<GoDuration>,
    response_header_timeout: Option<GoDuration>,
    idle_conn_timeout: Option<GoDuration>,
    read_idle_timeout: Option<GoDuration>,
    ping_timeout: Option<GoDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidProxyProtocol {
    version: Option<i64>,
}

impl Transport {
    /// One that says nothing: what Traefik takes for unsaid holds.
    pub fn plain(id: Arc<str>) -> Self {
        Self {
            id,
            tls: TransportTls::default(),
            dial_timeout: DIAL_TIMEOUT,
            response_header_timeout: Duration::ZERO,
            idle_timeout: IDLE_TIMEOUT,
            read_idle_timeout: Duration::ZERO,
            ping_timeout: PING_TIMEOUT,
            max_idle: MAX_IDLE,
            http2: true,
            proxy_protocol: None,
            declared: Arc::default(),
        }
    }

    /// Checks what is declared.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(id: Arc<str>, declared: &Arc<declare::ServersTransport>) -> Result<Self, String> {
        let tree = Value::Object(declared.options.0.clone());
        // its text would show what stands there, which may be a key
        let said: Said = serde_json::from_value(tree).map_err(|_| "an option is not of its kind".to_owned())?;
        if said.spiffe.as_ref().is_some_and(|spiffe| *spiffe != Value::Bool(false)) {
            return Err("`spiffe`: a SPIFFE workload API is not spoken yet".to_owned());
        }
        let time = |name: &str, said: Option<GoDuration>, unsaid: Duration| match said.map(GoDuration::length) {
            None => Ok(unsaid),
            Some(Some(length)) => Ok(length),
            Some(None) => Err(format!("`forwardingTimeouts.{name}` is below zero")),
        };
        let times = &said.forwarding_timeouts;
        let proxy_protocol = match said.rust_lb_proxy_protocol.as_ref().map(|said| said.version.unwrap_or(2)) {
            None => None,
            Some(1) => Some(ProxyProtocol::V1),
            Some(2) => Some(ProxyProtocol::V2),
            Some(other) => return Err(format!("`rustLbProxyProtocol.version`: expected 1 or 2, got `{other}`")),
        };
        Ok(Self {
            dial_timeout: time("dialTimeout", times.dial_timeout, DIAL_TIMEOUT)?,
            response_header_timeout: time("responseHeaderTimeout", times.response_header_timeout, Duration::ZERO)?,
            idle_timeout: time("idleConnTimeout", times.idle_conn_timeout, IDLE_TIMEOUT)?,
            read_idle_timeout: time("readIdleTimeout", times.read_idle_timeout, Duration::ZERO)?,
            ping_timeout: time("pingTimeout", times.ping_timeout, PING_TIMEOUT)?,
            max_idle: match said.max_idle_conns_per_host {
                0 => MAX_IDLE,
                // below zero, connections are not used again
                most => usize::try_from(most).unwrap_or(0),
            },
            http2: !said.disable_http2,
            proxy_protocol,
            tls: tls(&said)?,
            declared: declared.clone(),
            id,
        })
    }
}

fn tls(said: &Said) -> Result<TransportTls, String> {
    let min_version = match version("minVersion", &said.min_version)? {
        // what is older is not spoken, which is stricter than what was asked for
        None | Some(0..=2) => TlsVersion::Tls12,
        Some(_) => TlsVersion::Tls13,
    };
    let max_version = match version("maxVersion", &said.max_version)? {
        None | Some(3) => TlsVersion::Tls13,
        Some(2) => TlsVersion::Tls12,
        Some(_) => return Err(format!("`maxVersion`: `{}` is not spoken, `VersionTLS12` is", said.max_version)),
    };
    if min_version > max_version {
        return Err(format!("`minVersion` (`{}`) is above `maxVersion` (`{}`)", said.min_version, said.max_version));
    }
    let mut cipher_suites = Vec::new();
    for name in &said.cipher_suites {
        match suite(name)? {
            Some(known) => cipher_suites.push(known.into()),
            None if TLS13_SUITES.contains(&&**name) => {}
            None => return Err(format!("`cipherSuites`: `{name}` is not spoken, for it is not safe")),
        }
    }
    if cipher_suites.is_empty() && !said.cipher_suites.is_empty() && max_version == TlsVersion::Tls12 {
        return Err("`cipherSuites` names none of TLS 1.2, above which `maxVersion` lets nothing go".to_owned());
    }
    // named, but none of TLS 1.2: only 1.3 is left
    let min_version = match said.cipher_suites.is_empty() || !cipher_suites.is_empty() {
        true => min_version,
        false => TlsVersion::Tls13,
    };
    let certificates = said.certificates.iter().map(|pair| match (&*pair.cert_file, &*pair.key_file) {
        ("", _) | (_, "") => Err("`certificates`: one lacks its `certFile` or its `keyFile`".to_owned()),
        (chain, key) => Ok((Pem::new(chain), Pem::new(key))),
    });
    let mut peer_names = Vec::new();
    for name in &said.peer_cert_sans {
        peer_names.push(match &*name.r#type {
            "URI" => PeerName::Uri(name.value.clone()),
            "DNSName" => PeerName::Host(name.value.clone()),
            other => return Err(format!("`peerCertSANs`: expected the type `URI` or `DNSName`, got `{other}`")),
        });
    }
    if !said.peer_cert_uri.is_empty() {
        peer_names.push(PeerName::Uri(said.peer_cert_uri.clone()));
    }
    Ok(TransportTls {
        server_name: Some(said.server_name.clone()).filter(|name| !name.is_empty()),
        insecure_skip_verify: said.insecure_skip_verify,
        root_cas: said.root_cas.iter().map(|pem| Pem::new(pem)).collect(),
        certificates: certificates.collect::<Result<_, _>>()?,
        cipher_suites,
        min_version,
        max_version,
        peer_names,
    })
}

/// The minor number of a version in Go's words.
fn version(option: &str, said: &str) -> Result<Option<u8>, String> {
    match said {
        "" => Ok(None),
        "VersionTLS10" => Ok(Some(0)),
        "VersionTLS11" => Ok(Some(1)),
        "VersionTLS12" => Ok(Some(2)),
        "VersionTLS13" => Ok(Some(3)),
        other => Err(format!("`{option}`: expected `VersionTLS12` or `VersionTLS13`, got `{other}`")),
    }
}

const TLS13_SUITES: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// What Traefik knows by name besides and nobody should speak: no forward secrecy, CBC, RC4, 3DES.
const UNSAFE_SUITES: [&str; 17] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_FALLBACK_SCSV",
];

/// A suite of TLS 1.2 under its one name; `None` for one of 1.3, or that is not spoken.
fn suite(name: &str) -> Result<Option<&'static str>, String> {
    Ok(Some(match name {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        known if TLS13_SUITES.contains(&known) || UNSAFE_SUITES.contains(&known) => return Ok(None),
        unknown => return Err(format!("`cipherSuites`: there is no `{unknown}`")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(options: Value) -> Result<Transport, String> {
        let declared = serde_json::from_value(options).unwrap();
        Transport::new("t@file".into(), &Arc::new(declared))
    }

    #[test]
    fn says_nothing_and_has_traefiks_defaults() {
        let t = read(json!({})).unwrap();
        assert_eq!(t, Transport::plain("t@file".into()));
        assert_eq!((t.dial_timeout.as_secs(), t.idle_timeout.as_secs(), t.max_idle, t.http2), (30, 90, 200, true));
        assert_eq!((t.tls.min_version, t.tls.max_version), (TlsVersion::Tls12, TlsVersion::Tls13));
        let t = read(json!({"maxIdleConnsPerHost": -1, "forwardingTimeouts": {"dialTimeout": "0s"}})).unwrap();
        assert_eq!((t.max_idle, t.dial_timeout), (0, Duration::ZERO));
    }

    #[test]
    fn files_and_texts_are_told_apart() {
        let text = "-----BEGIN CERTIFICATE-----\nxyz\n";
        let t = read(json!({"rootCAs": ["/ca.pem", text], "certificates": [{"certFile": "/c", "keyFile": text}]}));
        let t = t.unwrap();
        assert!(!format!("{t:?}").contains("xyz"));
        let tls = t.tls;
        assert_eq!(tls.root_cas, [Pem::File("/ca.pem".into()), Pem::Text(Secret::new(text))]);
    }

    #[test]
    fn versions_and_suites() {
        let t = read(json!({"minVersion": "VersionTLS10", "maxVersion": "VersionTLS12"})).unwrap();
        assert_eq!((t.tls.min_version, t.tls.max_version), (TlsVersion::Tls12, TlsVersion::Tls12));
        let t = read(json!({"cipherSuites": ["TLS_AES_128_GCM_SHA256"]})).unwrap();
        assert_eq!((t.tls.min_version, t.tls.cipher_suites.len()), (TlsVersion::Tls13, 0));
        let t = read(json!({"cipherSuites": ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_AES_128_GCM_SHA256"]}));
        assert_eq!(*t.unwrap().tls.cipher_suites, ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256".into()]);
    }

    #[test]
    fn what_cannot_be_kept_refuses_the_whole() {
        for (options, part) in [
            (json!({"minVersion": "1.2"}), "`minVersion`"),
            (json!({"maxVersion": "VersionTLS11"}), "is not spoken"),
            (json!({"minVersion": "VersionTLS13", "maxVersion": "VersionTLS12"}), "above"),
            (json!({"cipherSuites": ["TLS_RSA_WITH_RC4_128_SHA"]}), "not safe"),
            (json!({"cipherSuites": ["X"]}), "there is no `X`"),
            (json!({"cipherSuites": ["TLS_AES_128_GCM_SHA256"], "maxVersion": "VersionTLS12"}), "none of TLS 1.2"),
            (json!({"certificates": [{"certFile": "/c"}]}), "keyFile"),
            (json!({"peerCertSANs": [{"type": "IP", "value": "x"}]}), "`DNSName`"),
            (json!({"forwardingTimeouts": {"idleConnTimeout": "-1s"}}), "`forwardingTimeouts.idleConnTimeout`"),
            (json!({"rustLbProxyProtocol": {"version": 3}}), "1 or 2"),
            (json!({"spiffe": {}}), "`spiffe`"),
            (json!({"certificates": "secret"}), "not of its kind"),
        ] {
            let why = read(options.clone()).unwrap_err();
            assert!(why.contains(part), "{options}: {why}");
        }
    }
}
