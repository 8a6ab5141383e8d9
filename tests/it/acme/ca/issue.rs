//! The test authority's keys: one intermediate under two roots, so that there are two chains.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateSigningRequestDer;
use std::time::SystemTime;

pub struct Issuing {
    intermediate: Issuer<'static, KeyPair>,
    /// The intermediate as each root has signed it.
    signed: [String; 2],
    key_id: Vec<u8>,
}

/// A certificate request that is well formed and signed.
pub struct Request {
    pub names: Vec<String>,
    pub public_key: Vec<u8>,
    csr: CertificateSigningRequestParams,
}

impl Request {
    /// Issues for another name than was asked for.
    pub fn rename(&mut self, name: &str) {
        self.csr.params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Issuing {
    pub fn new() -> Self {
        let key_id = vec![7; 20];
        let mut params = authority("Test Intermediate");
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.clone());
        let key = KeyPair::generate().expect("a key");
        let signed = ["Test Root A", "Test Root B"].map(|name| {
            let root = Issuer::new(authority(name), KeyPair::generate().expect("a key"));
            params.signed_by(&key, &root).expect("signed").pem()
        });
        Self { intermediate: Issuer::new(params, key), signed, key_id }
    }

    /// Reads a request and verifies its signature.
    pub fn read(der: Vec<u8>) -> Option<Request> {
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der)).ok()?;
        let names = csr.params.subject_alt_names.iter().map(|name| match name {
            SanType::DnsName(name) => Some(name.to_string()),
            SanType::IpAddress(address) => Some(address.to_string()),
            _ => None,
        });
        let names = names.collect::<Option<_>>()?;
        Some(Request { names, public_key: csr.public_key.der_bytes().to_vec(), csr })
    }

    /// Both chains of a new certificate, and its identifier for ARI.
    pub fn issue(&self, mut request: Request, serial: usize, [begin, end]: [SystemTime; 2]) -> ([String; 2], String) {
        let params = &mut request.csr.params;
        let mut number = vec![0x11; 8];
        number.extend(serial.to_be_bytes());
        params.serial_number = Some(SerialNumber::from_slice(&number));
        params.not_before = begin.into();
        params.not_after = end.into();
        params.use_authority_key_identifier_extension = true;
        let leaf = request.csr.signed_by(&self.intermediate).expect("signed").pem();
        let id = format!("{}.{}", URL_SAFE_NO_PAD.encode(&self.key_id), URL_SAFE_NO_PAD.encode(number));
        (self.signed.clone().map(|intermediate| format!("{leaf}{intermediate}")), id)
    }
}
