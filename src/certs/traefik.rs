//! Certificates in Traefik's `acme.json`, read and never written: Traefik writes it in place and holds no lock on it.
//!
//! What always holds: a document that is cut off is an error as a whole, so that what was read before stays; of one that is whole, every
//! certificate stands for itself. Names are taken in any case: Traefik's own versions and other tools mix them.

use super::pair::{self, Chains, Pair, PairError, Whence};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// A few thousand certificates with their keys.
pub(super) const DOCUMENT_LIMIT: u64 = 64 << 20;

/// What one certificate of the document is: its label, and the pair or what is wrong with it.
pub(super) type Entry = (Arc<str>, Result<Pair, PairError>);

/// Everything in a document.
///
/// # Errors
/// It is no whole document.
pub(super) fn parse(text: &[u8], file: &Arc<Path>, chains: &Chains) -> Result<Vec<Entry>, PairError> {
    // What serde says of it tells the place alone, never what stands there.
    let whole: Value = serde_json::from_slice(text)
        .map_err(|error| PairError::Document(format!("line {}, column {}", error.line(), error.column())))?;
    let Value::Object(resolvers) = whole else { return Err(PairError::Document("no object".to_owned())) };
    let mut all = Vec::new();
    for (resolver, data) in &resolvers {
        let certificates = data.as_object().and_then(|data| get(data, "certificates"));
        // A resolver that has ordered nothing has `null` there.
        for certificate in certificates.and_then(Value::as_array).into_iter().flatten() {
            let main = certificate
                .as_object()
                .and_then(|certificate| get(get(certificate, "domain")?.as_object()?, "main")?.as_str())
                .unwrap_or("?");
            let name: Arc<str> = format!("{resolver}: {main}").into();
            let whence = Whence { file: file.clone(), entry: Some(name.clone()), local: false, default: false };
            let pair = entry(certificate, whence, chains);
            let pair = pair.map_err(|error| PairError::Entry { name: name.clone(), error: Box::new(error) });
            all.push((name, pair));
        }
    }
    Ok(all)
}

fn get<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn entry(certificate: &Value, whence: Whence, chains: &Chains) -> Result<Pair, PairError> {
    let certificate = certificate.as_object();
    let text = |name: &str| STANDARD.decode(get(certificate?, name)?.as_str()?).ok();
    let chain = text("certificate").ok_or(PairError::NoCertificate)?;
    let key = text("key").ok_or(PairError::NoKey)?;
    pair::parse(&chain, &key, whence, chains)
}
