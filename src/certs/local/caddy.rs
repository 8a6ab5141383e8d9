//! The authority that Caddy keeps under `pki/authorities/local`, and signs `tls internal` sites
//! with: a root of about ten years and an intermediate of seven days, in the form in which Caddy's
//! `caddypki` makes them, so that either proxy goes on with what the other has made and nobody has
//! to trust another root after a switch.
//!
//! What always holds: a root that is there is never replaced, however broken; what is missing is made
//! under a lock, and only after looking again. Caddy itself takes no lock here, so two that start on
//! an empty directory within the same milliseconds can still mix their files; what does not belong
//! together is an error that is said, and never signs.

use super::{Kind, Signer, life_of, serial};
use crate::certs::storage::{LockError, Storage, StorageError, layout};
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer};
use rcgen::{KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;

/// Where the root's certificate lies.
pub(super) const ROOT: &str = "pki/authorities/local/root.crt";

/// Life of a leaf.
pub(super) const LEAF_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// A leaf is valid from a little before it is made, as Caddy's.
pub(super) const LEAF_BACKDATE: Duration = Duration::from_secs(60);
/// Life of a root: Go code's ten years of twelve months of thirty days.
const ROOT_LIFE: Duration = Duration::from_secs(86_400 * 30 * 12 * 10);
/// Life of an intermediate.
const INTERMEDIATE_LIFE: Duration = Duration::from_secs(86_400 * 7);
/// An intermediate is renewed when this part of its life is left.
const RENEWAL: f64 = 0.2;
/// Who makes or renews the authority holds this lock.
const LOCK: &str = "pki_authorities_local";
/// Others need a moment to make what is missing; a stale lock is gone after 10 s.
const LOCK_WAIT: Duration = Duration::from_secs(15);
/// Key and certificate are replaced one after the other: looked at again so often, after so long.
const ATTEMPTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the lock `{LOCK}`: {0}")]
    Lock(#[from] LockError),
    #[error("the lock `{LOCK}` was lost while the authority was made")]
    Lost,
    #[error("`{0}` does not hold what it should, in PEM form")]
    Malformed(String),
    #[error("`{0}` is missing, so no new intermediate can be signed")]
    KeyMissing(String),
    #[error("`{0}` does not belong to the certificate beside it")]
    Mismatch(String),
    #[error("the root has expired; remove `pki/authorities/local` for a new one, which everybody has to trust anew")]
    Expired,
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("no key could be made")]
    Key(#[from] aws_lc_rs::error::Unspecified),
}

/// The root.
struct Root {
    pem: String,
    der: CertificateDer<'static>,
}

/// A certificate and its key that have just been made.
struct Made {
    certificate: Certificate,
    key: KeyPair,
    /// SEC1, as Caddy writes it.
    key_pem: String,
}

fn key(name: &str) -> String {
    layout::internal_authority(name)
}

fn parse<'a>(der: &'a CertificateDer<'_>, name: &str) -> Result<X509Certificate<'a>, AuthorityError> {
    let (_, x509) = x509_parser::parse_x509_certificate(der).map_err(|_| AuthorityError::Malformed(key(name)))?;
    if x509.is_ca() { Ok(x509) } else { Err(AuthorityError::Malformed(key(name))) }
}

/// The authority, made or renewed where that is due; and what kept it from being renewed.
///
/// # Errors
/// It is of no use now.
pub(super) fn load(storage: &Storage, now: SystemTime) -> Result<(Signer, Option<AuthorityError>), AuthorityError> {
    // An error is nothing that making could mend, and nothing of somebody's to write over.
    let old = match read(storage, now)? {
        Some((signer, false)) => return Ok((signer, None)),
        Some((signer, true)) => Some(signer),
        None => None,
    };
    match (make(storage, now), old) {
        (Ok(signer), _) => Ok((signer, None)),
        (Err(error), Some(old)) => Ok((old, Some(error))),
        (Err(error), None) => Err(error),
    }
}

/// Makes what is missing or due, under the lock.
fn make(storage: &Storage, now: SystemTime) -> Result<Signer, AuthorityError> {
    let lock = storage.lock(LOCK, LOCK_WAIT)?;
    // Somebody else may have done it while we waited.
    if let Some((signer, false)) = read(storage, now)? {
        return Ok(signer);
    }
    let held = || if lock.still_ours() { Ok(()) } else { Err(AuthorityError::Lost) };
    let (root, issuer) = match read_root(storage)? {
        Some(root) => {
            let issuer = root_issuer(storage, &root)?;
            (root, issuer)
        }
        None => {
            let (made, params) = new_root(now)?;
            held()?;
            // The key first: Caddy believes in a root where its certificate is.
            storage.write(&key("root.key"), made.key_pem.as_bytes())?;
            storage.write(&key("root.crt"), made.certificate.pem().as_bytes())?;
            let root = Root { pem: made.certificate.pem(), der: made.certificate.der().clone() };
            (root, Issuer::new(params, made.key))
        }
    };
    let root_ends = life_of(&parse(&root.der, "root.crt")?).1;
    if root_ends <= now {
        return Err(AuthorityError::Expired);
    }
    let made = new_intermediate(&issuer, now, root_ends)?;
    held()?;
    storage.write(&key("intermediate.key"), made.key_pem.as_bytes())?;
    storage.write(&key("intermediate.crt"), made.certificate.pem().as_bytes())?;
    match read(storage, now)? {
        Some((signer, _)) => Ok(signer),
        None => Err(AuthorityError::Mismatch(key("intermediate.key"))),
    }
}

/// What is there: `None` when something is missing that can be made; true when the intermediate is due.
fn read(storage: &Storage, now: SystemTime) -> Result<Option<(Signer, bool)>, AuthorityError> {
    let Some(root) = read_root(storage)? else { return Ok(None) };
    let x509 = parse(&root.der, "root.crt")?;
    if life_of(&x509).1 <= now {
        return Err(AuthorityError::Expired);
    }
    for attempt in 1..=ATTEMPTS {
        match read_intermediate(storage, &root, &x509, now) {
            // A renewal seen half-way, or nobody's any more: then a new one takes its place.
            Err(AuthorityError::Mismatch(_) | AuthorityError::Malformed(_)) if attempt < ATTEMPTS => {
                std::thread::sleep(PAUSE);
            }
            Err(AuthorityError::Mismatch(_) | AuthorityError::Malformed(_)) => return Ok(None),
            other => return other,
        }
    }
    Ok(None)
}

fn read_root(storage: &Storage) -> Result<Option<Root>, AuthorityError> {
    let Some(text) = storage.read(&key("root.crt"))? else { return Ok(None) };
    let malformed = || AuthorityError::Malformed(key("root.crt"));
    let der = CertificateDer::from_pem_slice(&text).map_err(|_| malformed())?;
    parse(&der, "root.crt")?;
    let pem = String::from_utf8(text).map_err(|_| malformed())?;
    Ok(Some(Root { pem, der }))
}

/// The key of a certificate, which it fits.
fn read_key(storage: &Storage, name: &str, x509: &X509Certificate<'_>) -> Result<Option<KeyPair>, AuthorityError> {
    let Some(text) = storage.read(&key(name))? else { return Ok(None) };
    let malformed = || AuthorityError::Malformed(key(name));
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| malformed())?;
    let pair = KeyPair::try_from(&der).map_err(|_| malformed())?;
    if pair.subject_public_key_info() != x509.public_key().raw {
        return Err(AuthorityError::Mismatch(key(name)));
    }
    Ok(Some(pair))
}

fn root_issuer(storage: &Storage, root: &Root) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let pair = read_key(storage, "root.key", &parse(&root.der, "root.crt")?)?;
    let pair = pair.ok_or_else(|| AuthorityError::KeyMissing(key("root.key")))?;
    Ok(Issuer::from_ca_cert_der(&root.der, pair)?)
}

fn read_intermediate(
    storage: &Storage,
    root: &Root,
    root_x509: &X509Certificate<'_>,
    now: SystemTime,
) -> Result<Option<(Signer, bool)>, AuthorityError> {
    let name = "intermediate.crt";
    let Some(text) = storage.read(&key(name))? else { return Ok(None) };
    let above: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let above = above.map_err(|_| AuthorityError::Malformed(key(name)))?;
    let (Some(first), Some(last)) = (above.first(), above.last()) else {
        return Err(AuthorityError::Malformed(key(name)));
    };
    // Of a root that was here before: nobody who trusts this one could verify it.
    if parse(last, name)?.verify_signature(Some(root_x509.public_key())).is_err() {
        return Err(AuthorityError::Mismatch(key(name)));
    }
    let x509 = parse(first, name)?;
    let (not_before, not_after) = life_of(&x509);
    let Some(pair) = read_key(storage, "intermediate.key", &x509)? else { return Ok(None) };
    if not_after <= now {
        return Ok(None);
    }
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let due = now > not_after - life.mul_f64(RENEWAL);
    let issuer = Issuer::from_ca_cert_der(first, pair)?;
    let root = root.pem.as_str().into();
    Ok(Some((Signer { issuer, above, root, not_before, not_after, kind: Kind::Caddy }, due)))
}

fn new_key() -> Result<(KeyPair, String), AuthorityError> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der()?;
    let pkcs8 = pair.to_pkcs8v1()?;
    let pkcs8 = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.as_ref()));
    Ok((KeyPair::try_from(&pkcs8)?, pem("EC PRIVATE KEY", sec1.as_ref())))
}

/// PEM text with lines of 64 characters (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, c) in body.char_indices() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

fn authority(
    common_name: String,
    path: u8,
    from: SystemTime,
    until: SystemTime,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // A PrintableString as Go writes it: names are compared byte by byte.
    params.distinguished_name.push(DnType::CommonName, DnValue::PrintableString(common_name.try_into()?));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = from.into();
    params.not_after = until.into();
    Ok(params)
}

fn new_root(now: SystemTime) -> Result<(Made, CertificateParams), AuthorityError> {
    let year = jiff::Timestamp::try_from(now).unwrap_or_default().strftime("%Y").to_string();
    let (key, key_pem) = new_key()?;
    let params = authority(format!("Caddy Local Authority - {year} ECC Root"), 1, now, now + ROOT_LIFE)?;
    let certificate = params.self_signed(&key)?;
    Ok((Made { certificate, key, key_pem }, params))
}

fn new_intermediate(
    root: &Issuer<'static, KeyPair>,
    now: SystemTime,
    root_ends: SystemTime,
) -> Result<Made, AuthorityError> {
    let (key, key_pem) = new_key()?;
    let until = (now + INTERMEDIATE_LIFE).min(root_ends);
    let mut params = authority("Caddy Local Authority - ECC Intermediate".to_owned(), 0, now, until)?;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, root)?;
    Ok(Made { certificate, key, key_pem })
}

#[cfg(test)]
#[path = "caddy_tests.rs"]
mod tests;
