//! The local authority: a root of our own that signs a short-lived certificate for any host that
//! has none on disk, so that a TLS handshake always gets one. Whoever trusts the root's
//! certificate (`root.crt`) can verify them.
//!
//! The root is made once and kept with its key in one file (`root.key`, 0600), so that it appears
//! whole or not at all, even with two processes starting at once. A leaf costs one P-256 signature,
//! is cached, and is bounded in number and rate: the names come from strangers.

use crate::diagnostic::{Diagnostic, Origin};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
use rcgen::{KeyPair, KeyUsagePurpose, SanType, SerialNumber};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Life of the root.
const ROOT_LIFE: Duration = Duration::from_secs(86_400 * 3_650);
/// A root with less left is replaced at the next start.
const ROOT_LEFT: Duration = Duration::from_secs(86_400 * 30);
/// Life of a leaf.
const LEAF_LIFE: Duration = Duration::from_secs(86_400 * 7);
/// A leaf with less left is signed anew.
const LEAF_LEFT: Duration = Duration::from_secs(86_400 * 2);
/// Clients' clocks may be behind ours by this much.
const BACKDATE: Duration = Duration::from_secs(3_600);
/// Leaves kept.
const LEAVES: usize = 1_000;
/// Signatures a second, and how many at once after a quiet time.
const RATE: f64 = 50.0;
const BURST: f64 = 200.0;
/// A DNS name has at most so many characters (RFC 1035, section 2.3.4).
const NAME_LIMIT: usize = 253;

/// Why the root could not be read or made.
#[derive(Debug, thiserror::Error)]
enum RootError {
    #[error("`{}`: {error}", file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error("`{}` does not hold a certificate and its private key in PEM form", .0.display())]
    Malformed(PathBuf),
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("a key is not accepted: {0}")]
    Key(#[from] rustls::Error),
}

struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    not_after: SystemTime,
}

struct Leaf {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
    used: u64,
}

struct Leaves {
    by_name: HashMap<Arc<str>, Leaf>,
    default: Option<Leaf>,
    uses: u64,
    tokens: f64,
    filled: Option<Instant>,
}

/// The authority. Shared by all workers; only handshakes without a certificate on disk come here.
pub(super) struct LocalAuthority {
    root: Root,
    certificate_file: Option<PathBuf>,
    /// One key for all leaves of this process: a signature is dear enough.
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    leaves: Mutex<Leaves>,
}

impl std::fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalAuthority").field("certificate_file", &self.certificate_file).finish_non_exhaustive()
    }
}

fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    // Positive and of full length (RFC 5280, section 4.1.2.2).
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn new_root(now: SystemTime) -> Result<(Root, String), RootError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    let year = jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y").to_string();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("rust-lb local authority {year}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + ROOT_LIFE).into();
    let certificate = params.self_signed(&key)?.pem();
    let secret = format!("{}{certificate}", key.serialize_pem());
    Ok((Root { issuer: Issuer::new(params, key), certificate, not_after: now + ROOT_LIFE }, secret))
}

/// Reads a root from the text of `file`.
fn parse_root(text: &str, file: &Path, provider: &CryptoProvider) -> Result<Root, RootError> {
    let malformed = || RootError::Malformed(file.to_owned());
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| malformed())?;
    let secret = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| malformed())?;
    let key = KeyPair::try_from(&secret).map_err(|_| malformed())?;
    // Also checks that they belong together.
    CertifiedKey::from_der(vec![certificate.clone()], secret, provider)?;
    let (_, x509) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| malformed())?;
    if !x509.is_ca() {
        return Err(malformed());
    }
    let seconds = u64::try_from(x509.validity().not_after.timestamp()).unwrap_or(0);
    let not_after = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    let start = text.find("-----BEGIN CERTIFICATE-----").ok_or_else(malformed)?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    Ok(Root { issuer, certificate: text[start..].to_owned(), not_after })
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<(), RootError> {
    let failed = |error| RootError::Io { file: file.to_owned(), error };
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(failed)
}

/// Takes a key's file from the eyes of others, as it was made: a copy or a restore may have opened it.
fn keep_private(file: &Path) {
    let open = |meta: fs::Metadata| meta.permissions().mode() & 0o077 != 0;
    if fs::metadata(file).is_ok_and(open) {
        let result = fs::set_permissions(file, fs::Permissions::from_mode(0o600));
        let closed = result.is_ok();
        tracing::warn!(file = %file.display(), closed, "the local authority's key could be read by others");
    }
}

/// The root in `dir`, made there when there is none. Never overwrites a root that cannot be read.
fn keep_root(dir: &Path, now: SystemTime, provider: &CryptoProvider) -> Result<Root, RootError> {
    let file = dir.join("root.key");
    let failed = |error| RootError::Io { file: file.clone(), error };
    let read = || match fs::read_to_string(&file) {
        Ok(text) => {
            let root = parse_root(&text, &file, provider)?;
            keep_private(&file);
            Ok(Some(root))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(RootError::Malformed(file.clone())),
        Err(error) => Err(failed(error)),
    };
    let old = read()?;
    if let Some(root) = old.as_ref()
        && root.not_after > now + ROOT_LEFT
    {
        return old.ok_or_else(|| RootError::Malformed(file));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let (root, secret) = new_root(now)?;
    let temporary = dir.join(format!(".root.key.{:016x}", rand::random::<u64>()));
    write_new(&temporary, &secret, 0o600)?;
    let placed = if old.is_some() {
        fs::rename(&temporary, &file).map(|()| true)
    } else {
        // A link fails where a rename would replace what another process has just made.
        match fs::hard_link(&temporary, &file) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(_) => fs::rename(&temporary, &file).map(|()| true),
            Ok(()) => Ok(true),
        }
    };
    // Renamed away, or of no use any more.
    let _ = fs::remove_file(&temporary);
    match placed.map_err(failed)? {
        true => Ok(root),
        false => read()?.ok_or_else(|| RootError::Malformed(file.clone())),
    }
}

/// Puts the certificate beside the key, for people and their trust stores.
fn publish(dir: &Path, root: &Root) -> Result<PathBuf, RootError> {
    let file = dir.join("root.crt");
    if fs::read_to_string(&file).is_ok_and(|text| text == root.certificate) {
        return Ok(file);
    }
    let temporary = dir.join(format!(".root.crt.{:016x}", rand::random::<u64>()));
    write_new(&temporary, &root.certificate, 0o644)?;
    fs::rename(&temporary, &file).map_err(|error| RootError::Io { file: file.clone(), error })?;
    Ok(file)
}

impl LocalAuthority {
    /// The authority kept in `dir`. When it can be neither read nor kept there, one that lives as
    /// long as the process, and a diagnostic.
    ///
    /// # Errors
    /// No key can be made at all: the cryptographic library refuses.
    pub(super) fn open(
        dir: &Path,
        now: SystemTime,
        provider: &CryptoProvider,
    ) -> Result<(Self, Option<Diagnostic>), String> {
        let text = |error: RootError| error.to_string();
        let warning = |message: String| {
            Diagnostic::warning("local_authority", message)
                .with_origin(Origin { file: Some(dir.display().to_string().into()), ..Origin::default() })
        };
        let (root, certificate_file, diagnostic) = match keep_root(dir, now, provider) {
            Ok(root) => match publish(dir, &root) {
                Ok(file) => (root, Some(file), None),
                Err(error) => {
                    let message = format!("the local authority's certificate cannot be written: {error}");
                    (root, None, Some(warning(message)))
                }
            },
            Err(error) => {
                let message = format!("the local authority cannot be kept: {error}");
                let help = "certificates for hosts without one are signed by an authority that ends with the process";
                (new_root(now).map_err(text)?.0, None, Some(warning(message).with_help(help)))
            }
        };
        let leaf_key = KeyPair::generate().map_err(|error| error.to_string())?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let leaf_signer = provider.key_provider.load_private_key(secret).map_err(|error| error.to_string())?;
        let leaves = Leaves { by_name: HashMap::new(), default: None, uses: 0, tokens: BURST, filled: None };
        Ok((Self { root, certificate_file, leaf_key, leaf_signer, leaves: Mutex::new(leaves) }, diagnostic))
    }

    /// Where the root's certificate lies, if it could be kept.
    pub(super) fn certificate_file(&self) -> Option<&Path> {
        self.certificate_file.as_deref()
    }

    /// The root's certificate in PEM form.
    pub(super) fn certificate(&self) -> &str {
        &self.root.certificate
    }

    fn sign(&self, names: Vec<SanType>, common_name: &str, now: SystemTime) -> Result<Leaf, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = DistinguishedName::new();
        // A common name is limited to 64 characters (RFC 5280, ub-common-name); nobody reads it.
        if common_name.len() <= 64 {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        let not_after = (now + LEAF_LIFE).min(self.root.not_after);
        params.not_before = (now - BACKDATE).into();
        params.not_after = not_after.into();
        let certificate = params.signed_by(&self.leaf_key, &self.root.issuer)?;
        let key = CertifiedKey::new(vec![certificate.der().clone()], self.leaf_signer.clone());
        Ok(Leaf { key: Arc::new(key), not_after, used: 0 })
    }

    /// The certificate for a host: from the cache, or signed now. Above the rate, and for names
    /// that no certificate can hold, the default one.
    pub(super) fn leaf(&self, host: &str, now: SystemTime, clock: Instant) -> Option<Arc<CertifiedKey>> {
        if let Some(key) = self.cached(host, now) {
            return Some(key);
        }
        let name = host.try_into().map(SanType::DnsName);
        let (Ok(name), true) = (name, host.len() <= NAME_LIMIT && self.may_sign(clock)) else {
            return self.default_leaf(now);
        };
        // Signed outside the lock; that two handshakes may sign for one name at once does no harm.
        let leaf = match self.sign(vec![name], host, now) {
            Ok(leaf) => leaf,
            Err(error) => {
                tracing::warn!(host, %error, "no certificate could be made");
                return self.default_leaf(now);
            }
        };
        let key = leaf.key.clone();
        self.lock().insert(host, leaf);
        Some(key)
    }

    /// The certificate for clients that name no host.
    pub(super) fn default_leaf(&self, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        if let Some(leaf) = &self.lock().default
            && leaf.not_after > now + LEAF_LEFT
        {
            return Some(leaf.key.clone());
        }
        let names = vec![
            SanType::DnsName("localhost".try_into().ok()?),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        let leaf = self.sign(names, "localhost", now).ok()?;
        let key = leaf.key.clone();
        self.lock().default = Some(leaf);
        Some(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Leaves> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, host: &str, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        let mut leaves = self.lock();
        leaves.uses += 1;
        let uses = leaves.uses;
        let leaf = leaves.by_name.get_mut(host).filter(|leaf| leaf.not_after > now + LEAF_LEFT)?;
        leaf.used = uses;
        Some(leaf.key.clone())
    }

    /// Takes a token of the signing rate.
    fn may_sign(&self, clock: Instant) -> bool {
        let mut leaves = self.lock();
        let since = leaves.filled.map_or(Duration::ZERO, |filled| clock.saturating_duration_since(filled));
        leaves.tokens = (leaves.tokens + since.as_secs_f64() * RATE).min(BURST);
        leaves.filled = Some(clock);
        let may = leaves.tokens >= 1.0;
        if may {
            leaves.tokens -= 1.0;
        }
        may
    }
}

impl Leaves {
    /// Keeps a leaf; when there are too many, the eighth that was used longest ago goes.
    fn insert(&mut self, host: &str, mut leaf: Leaf) {
        if self.by_name.len() >= LEAVES && !self.by_name.contains_key(host) {
            let mut used: Vec<u64> = self.by_name.values().map(|leaf| leaf.used).collect();
            let (_, limit, _) = used.select_nth_unstable(LEAVES / 8);
            let limit = *limit;
            self.by_name.retain(|_, leaf| leaf.used > limit);
        }
        leaf.used = self.uses;
        self.by_name.insert(host.into(), leaf);
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
