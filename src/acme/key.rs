//! Keys: made, written as PEM in the forms that Caddy writes (SEC1 for elliptic curves, PKCS#8 for RSA),
//! and read in whatever form they have. Making an RSA key takes from milliseconds to many seconds:
//! callers are on a thread of their own.

use super::KeyType;
use super::error::AcmeError;
use crate::model::Secret;
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::IpAddr;

/// A certificate's key and the request that asks for the certificate.
pub(super) struct Requested {
    pub(super) key: Secret,
    /// DER.
    pub(super) csr: Vec<u8>,
}

fn refused(what: impl std::fmt::Display) -> AcmeError {
    AcmeError::Key(what.to_string())
}

/// PEM with lines of 64 characters (RFC 7468).
fn pem(label: &str, der: &[u8]) -> Secret {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = &*text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    Secret::new(out)
}

/// SEC1 with the curve's name, which Go asks for.
fn sec1(key: &EcdsaKeyPair) -> Result<Secret, AcmeError> {
    let der: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().map_err(refused)?;
    Ok(pem("EC PRIVATE KEY", der.as_ref()))
}

/// A new key for these names, and its certificate request. The subject is empty, as Caddy's: names stand
/// among the alternative ones.
pub(super) fn request(kind: KeyType, names: &[String]) -> Result<Requested, AcmeError> {
    let ec = |algorithm: &'static EcdsaSigningAlgorithm| -> Result<_, AcmeError> {
        let key = EcdsaKeyPair::generate(algorithm).map_err(refused)?;
        let pkcs8 = key.to_pkcs8v1().map_err(refused)?;
        Ok((sec1(&key)?, pkcs8.as_ref().to_vec()))
    };
    let rsa = |size: KeySize| -> Result<_, AcmeError> {
        let key = RsaKeyPair::generate(size).map_err(refused)?;
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(refused)?;
        Ok((pem("PRIVATE KEY", der.as_ref()), der.as_ref().to_vec()))
    };
    let (key, pkcs8) = match kind {
        KeyType::Ec256 => ec(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
        KeyType::Ec384 => ec(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
        KeyType::Rsa2048 => rsa(KeySize::Rsa2048)?,
        KeyType::Rsa3072 => rsa(KeySize::Rsa3072)?,
        KeyType::Rsa4096 => rsa(KeySize::Rsa4096)?,
        KeyType::Rsa8192 => rsa(KeySize::Rsa8192)?,
    };
    let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8)).map_err(refused)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(refused)?),
        });
    }
    let csr = params.serialize_request(&pair).map_err(refused)?;
    Ok(Requested { key, csr: csr.der().to_vec() })
}

/// An account's key (P-256) as the storage keeps it, from PKCS#8.
pub(super) fn account_pem(pkcs8: &[u8]) -> Result<Secret, AcmeError> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(refused)?;
    sec1(&key)
}

/// PKCS#8 of an account's key in PEM form: SEC1 or PKCS#8, P-256 only. Errors do not quote the text.
pub(super) fn account_pkcs8(text: &[u8]) -> Result<PrivatePkcs8KeyDer<'static>, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| "no PEM private key in it")?;
    let der = key.secret_der();
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
        .map_err(|_| "the key is not one of P-256")?;
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| "the key cannot be used")?;
    Ok(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateSigningRequestParams;
    use rustls_pki_types::CertificateSigningRequestDer;

    #[test]
    fn every_kind_of_key_signs_its_request() {
        let names = ["a.test".to_owned(), "*.a.test".to_owned(), "192.0.2.1".to_owned()];
        for kind in [KeyType::Ec256, KeyType::Ec384, KeyType::Rsa2048] {
            let made = request(kind, &names).expect("made");
            // Verifies the signature.
            let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(made.csr));
            let sans = csr.expect("a request").params.subject_alt_names;
            assert_eq!(sans.len(), 3, "{kind:?}");
            assert!(matches!(&sans[2], SanType::IpAddress(address) if address.to_string() == "192.0.2.1"));
            let key = PrivateKeyDer::from_pem_slice(made.key.reveal().as_bytes()).expect("PEM");
            assert_eq!(matches!(key, PrivateKeyDer::Sec1(_)), matches!(kind, KeyType::Ec256 | KeyType::Ec384));
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key that serves");
        }
    }

    #[test]
    fn an_accounts_key_is_read_in_both_forms() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let pkcs8 = pair.to_pkcs8v1().expect("PKCS#8");
        let text = account_pem(pkcs8.as_ref()).expect("PEM");
        assert!(text.reveal().starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
        assert_eq!(account_pkcs8(text.reveal().as_bytes()).expect("read").secret_pkcs8_der(), pkcs8.as_ref());
        let other = pem("PRIVATE KEY", pkcs8.as_ref());
        assert_eq!(account_pkcs8(other.reveal().as_bytes()).expect("read").secret_pkcs8_der(), pkcs8.as_ref());
        assert!(account_pkcs8(b"").is_err());
        let wrong = request(KeyType::Ec384, &["a.test".to_owned()]).expect("made").key;
        assert!(account_pkcs8(wrong.reveal().as_bytes()).is_err());
    }
}
