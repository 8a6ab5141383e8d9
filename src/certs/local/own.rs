//! rust-lb's own root, for handshakes that nothing else has a certificate for. Made once and kept
//! with its key in one file (`root.key`, 0600), so that it appears whole or not at all, even with
//! two processes starting at once.

use super::{BACKDATE, Kind, Signer, life_of, serial};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Life of the root.
pub(super) const ROOT_LIFE: Duration = Duration::from_secs(86_400 * 3_650);
/// A root with less left is replaced at the next start.
const ROOT_LEFT: Duration = Duration::from_secs(86_400 * 30);

/// Why the root could not be read or made.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootError {
    #[error("`{}`: {error}", file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error("`{}` does not hold a certificate and its private key in PEM form", .0.display())]
    Malformed(PathBuf),
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("a key is not accepted: {0}")]
    Key(#[from] rustls::Error),
}

/// A new root, and the text of its file.
pub(super) fn new_root(now: SystemTime) -> Result<(Signer, String), RootError> {
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
    let issuer = Issuer::new(params, key);
    let (root, above, not_before, not_after) = (certificate.into(), Vec::new(), now - BACKDATE, now + ROOT_LIFE);
    Ok((Signer { issuer, above, root, not_before, not_after, kind: Kind::Own }, secret))
}

/// Reads a root from the text of `file`.
fn parse_root(text: &str, file: &Path, provider: &CryptoProvider) -> Result<Signer, RootError> {
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
    let (not_before, not_after) = life_of(&x509);
    let start = text.find("-----BEGIN CERTIFICATE-----").ok_or_else(malformed)?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    Ok(Signer { issuer, above: Vec::new(), root: text[start..].into(), not_before, not_after, kind: Kind::Own })
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
pub(super) fn keep_root(dir: &Path, now: SystemTime, provider: &CryptoProvider) -> Result<Signer, RootError> {
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
pub(super) fn publish(dir: &Path, root: &Signer) -> Result<PathBuf, RootError> {
    let file = dir.join("root.crt");
    if fs::read_to_string(&file).is_ok_and(|text| *text == *root.root) {
        return Ok(file);
    }
    let temporary = dir.join(format!(".root.crt.{:016x}", rand::random::<u64>()));
    write_new(&temporary, &root.root, 0o644)?;
    fs::rename(&temporary, &file).map_err(|error| RootError::Io { file: file.clone(), error })?;
    Ok(file)
}
