//! One certificate with its key, read from PEM text and checked: the chain parses, the key belongs
//! to the first certificate, and it names a host.

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a pair of files is not served. Texts never quote what is in the files: it may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("`{}` cannot be read: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// A file is larger than any chain or key.
    #[error("`{}` is larger than {limit} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Something else than a regular file.
    #[error("`{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The key's file is missing.
    #[error("the key `{}` is missing", .0.display())]
    KeyMissing(PathBuf),
    /// No PEM certificate.
    #[error("no PEM certificate in it")]
    NoCertificate,
    /// A certificate of the chain does not parse.
    #[error("certificate {0} of the chain does not parse")]
    BadCertificate(usize),
    /// No PEM private key.
    #[error("no PEM private key in it")]
    NoKey,
    /// A key of a kind that is not supported, or one that does not parse.
    #[error("the private key does not parse or is of a kind that is not supported")]
    BadKey,
    /// Key and certificate are of different pairs.
    #[error("key and certificate do not belong together")]
    Mismatch,
    /// No DNS name among the subject alternative names.
    #[error("the certificate names no host (no DNS name among its subject alternative names)")]
    NoNames,
}

/// A pair that can be served.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names, lower case; wildcards as `*.example.org`.
    pub(super) names: Vec<Arc<str>>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) common_name: String,
    pub(super) issuer: String,
    /// Decimal.
    pub(super) serial: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) file: PathBuf,
    /// Issued by an authority of the house (Caddy's issuer `local`), not a public one.
    pub(super) local: bool,
}

impl Pair {
    pub(super) fn valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

fn time(seconds: i64) -> SystemTime {
    u64::try_from(seconds).ok().and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s))).unwrap_or(UNIX_EPOCH)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Reads a pair from the texts of its two files (the same text twice for a combined file).
///
/// # Errors
/// Anything that keeps it from being served.
pub(super) fn parse(
    chain: &[u8],
    key: &[u8],
    file: PathBuf,
    local: bool,
    provider: &CryptoProvider,
) -> Result<Pair, PairError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(chain) {
        certificates.push(certificate.map_err(|_| PairError::BadCertificate(certificates.len() + 1))?);
    }
    let Some(first) = certificates.first() else { return Err(PairError::NoCertificate) };
    for (at, certificate) in certificates.iter().enumerate().skip(1) {
        X509Certificate::from_der(certificate).map_err(|_| PairError::BadCertificate(at + 1))?;
    }
    let (_, leaf) = X509Certificate::from_der(first).map_err(|_| PairError::BadCertificate(1))?;
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    if let Ok(Some(alternative)) = leaf.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(Arc::from(name.to_ascii_lowercase())),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    if names.is_empty() {
        return Err(PairError::NoNames);
    }
    let common_name = leaf.subject().iter_common_name().next().and_then(|n| n.as_str().ok()).unwrap_or_default();
    let (common_name, issuer) = (common_name.to_owned(), leaf.issuer().to_string());
    let (serial, validity) = (leaf.tbs_certificate.serial.to_string(), leaf.validity());
    let (not_before, not_after) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => PairError::NoKey,
        _ => PairError::BadKey,
    })?;
    let key = CertifiedKey::from_der(certificates, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PairError::Mismatch,
        _ => PairError::BadKey,
    })?;
    Ok(Pair { key: Arc::new(key), names, addresses, common_name, issuer, serial, not_before, not_after, file, local })
}
