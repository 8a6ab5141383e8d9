//! What is configured of an authority: where it is, who we are to it, what keys and chains are wanted,
//! and by which methods names are proved. Plain values.

use super::dns;
use super::error::AcmeError;
use crate::model::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A certificate authority, and who we are to it.
#[derive(Debug, Clone)]
pub struct Authority {
    /// URL of the directory: `https`, or `http` to this machine.
    pub directory: String,
    /// Contact; without it the account is the one that Caddy calls `default`.
    pub email: Option<String>,
    /// Binding to an account that was made by other means (RFC 8555, 7.3.4).
    pub eab: Option<Eab>,
    /// Key of certificates. That of the account is always P-256.
    pub key_type: KeyType,
    /// Certificates (PEM, each text may hold several) that the authority's own may be signed by.
    pub roots: Vec<String>,
    /// Whether the system's roots count, too. They do where `roots` is empty.
    pub system_roots: bool,
    /// The name that the authority's own certificate has to be for, instead of the URL's.
    pub server_name: Option<String>,
    /// Of several chains, the one whose last certificate was issued by this common name.
    pub preferred_chain: Option<String>,
    /// Profile of the certificate (draft-ietf-acme-profiles).
    pub profile: Option<String>,
    /// How long the authority may take from the certificate request to the certificate, instead of
    /// [`super::Timing::issue`].
    pub certificate_limit: Option<Duration>,
    /// How long a request with its answer may take, instead of [`super::Timing::request`].
    pub request_limit: Option<Duration>,
    /// Pause between setting up an HTTP-01 answer and telling the authority to look: for load balancers that need a while.
    pub http_delay: Duration,
    /// Likewise for TLS-ALPN-01.
    pub tls_delay: Duration,
}

impl Authority {
    /// One that is reached with the system's roots and without an e-mail address, as HinD's Caddy does.
    pub fn new(directory: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            email: None,
            eab: None,
            key_type: KeyType::Ec256,
            roots: Vec::new(),
            system_roots: true,
            server_name: None,
            preferred_chain: None,
            profile: None,
            certificate_limit: None,
            request_limit: None,
            http_delay: Duration::ZERO,
            tls_delay: Duration::ZERO,
        }
    }

    /// The address of the account, `None` for none or an empty one.
    pub(super) fn email(&self) -> Option<&str> {
        self.email.as_deref().map(str::trim).filter(|email| !email.is_empty())
    }
}

/// An external account (RFC 8555, 7.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eab {
    /// Its identifier.
    pub kid: String,
    /// Its key, base64 or base64url, padded or not.
    pub hmac: Secret,
}

impl Eab {
    /// The key's bytes.
    pub(super) fn key(&self) -> Result<Vec<u8>, AcmeError> {
        let text = self.hmac.reveal().trim();
        let decoded = [URL_SAFE_NO_PAD, URL_SAFE, STANDARD_NO_PAD, STANDARD]
            .iter()
            .find_map(|engine| engine.decode(text).ok())
            .filter(|key| !key.is_empty());
        decoded.ok_or_else(|| AcmeError::Config("the external account's key is not base64url".to_owned()))
    }
}

/// Kind of a certificate's key, by Traefik's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyType {
    /// P-256.
    #[default]
    Ec256,
    /// P-384.
    Ec384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
    /// RSA with 8192 bits: making one takes many seconds.
    Rsa8192,
}

/// A key type of no known name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown key type `{0}`: EC256, EC384, RSA2048, RSA3072, RSA4096 or RSA8192")]
pub struct UnknownKeyType(pub String);

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    /// Traefik's names (`keyType` of a resolver), as written there, and those of lego before 4.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_uppercase().as_str() {
            "EC256" | "P256" => Ok(Self::Ec256),
            "EC384" | "P384" => Ok(Self::Ec384),
            "RSA2048" | "2048" => Ok(Self::Rsa2048),
            "RSA3072" | "3072" => Ok(Self::Rsa3072),
            "RSA4096" | "4096" => Ok(Self::Rsa4096),
            "RSA8192" | "8192" => Ok(Self::Rsa8192),
            _ => Err(UnknownKeyType(text.to_owned())),
        }
    }
}

/// A way of proving names that is set up.
#[derive(Debug, Clone)]
pub enum Method {
    /// HTTP-01: port 80 of the name leads to us.
    Http,
    /// TLS-ALPN-01: port 443 of the name leads to us.
    TlsAlpn,
    /// DNS-01: we can write into the name's zone. The only one for wildcards.
    Dns(Arc<dns::Solver>),
}
