//! Signed requests, verified as RFC 8555, 6.2 to 6.5 ask for: nothing of instant-acme is used here, so that a
//! wrong signature is seen.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A refusal: status, last part of the error's type, words.
pub type Refusal = (u16, &'static str, String);

/// A signed request as it came, not verified yet.
pub struct Jws {
    pub header: Value,
    pub payload: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

pub fn malformed(words: impl Into<String>) -> Refusal {
    (400, "malformed", words.into())
}

fn decode(value: &Value) -> Result<Vec<u8>, Refusal> {
    let text = value.as_str().ok_or_else(|| malformed("a field of the JWS is missing"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed("a field of the JWS is not base64url"))
}

impl Jws {
    pub fn parse(jws: &Value) -> Result<Self, Refusal> {
        let fields = jws.as_object().ok_or_else(|| malformed("not an object"))?;
        if fields.len() != 3 {
            return Err(malformed("a flattened JWS has three fields"));
        }
        let header = serde_json::from_slice(&decode(&jws["protected"])?).map_err(|_| malformed("header"))?;
        let text = |name: &str| jws[name].as_str().unwrap_or_default();
        Ok(Self {
            header,
            payload: decode(&jws["payload"])?,
            signed: format!("{}.{}", text("protected"), text("payload")).into_bytes(),
            signature: decode(&jws["signature"])?,
        })
    }

    /// Verifies the signature of a key.
    pub fn verify(&self, jwk: &Value) -> Result<(), Refusal> {
        if self.header["alg"] != "ES256" {
            return Err((400, "badSignatureAlgorithm", "ES256".to_owned()));
        }
        if jwk["kty"] != "EC" || jwk["crv"] != "P-256" {
            return Err((400, "badPublicKey", "P-256".to_owned()));
        }
        let mut point = vec![4];
        point.extend(decode(&jwk["x"])?);
        point.extend(decode(&jwk["y"])?);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(&self.signed, &self.signature)
            .map_err(|_| malformed("the signature is wrong"))
    }

    /// Verifies an external account's binding to a key (7.3.4).
    pub fn verify_binding(&self, kid: &str, mac: &[u8], url: &str, jwk: &Value) -> Result<(), Refusal> {
        let header = &self.header;
        let payload: Value = serde_json::from_slice(&self.payload).map_err(|_| malformed("binding"))?;
        if header["alg"] != "HS256" || header["url"] != *url || !header["nonce"].is_null() {
            return Err(malformed("the binding's header"));
        }
        if header["kid"] != *kid || thumbprint(&payload) != thumbprint(jwk) {
            return Err((403, "unauthorized", "the binding is of another account or key".to_owned()));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, mac);
        hmac::verify(&key, &self.signed, &self.signature)
            .map_err(|_| (403, "unauthorized", "the binding's signature is wrong".to_owned()))
    }

    /// The payload as JSON; that of a POST-as-GET is empty and `None`.
    pub fn json(&self) -> Result<Option<Value>, Refusal> {
        if self.payload.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&self.payload).map(Some).map_err(|_| malformed("the payload is not JSON"))
    }
}

/// The thumbprint of a key (RFC 7638).
pub fn thumbprint(jwk: &Value) -> String {
    let canonical = json!({"crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"]}).to_string();
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}
