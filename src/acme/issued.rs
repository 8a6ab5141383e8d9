//! The certificate at the end of an order: fetched, the preferred one of several chains, checked against
//! what was ordered, and described as Caddy describes it.

use super::ari::Window;
use super::authority::Authority;
use super::error::{AcmeError, Phase, said};
use super::transport::Transport;
use crate::model::Secret;
use instant_acme::Account;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::SystemTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Certificates in a chain; a real one has two or three.
const CHAIN: usize = 10;
/// Other chains that are looked at.
const ALTERNATES: usize = 8;

/// A certificate that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM chain, leaf first, without the root.
    pub chain: String,
    /// PEM key, SEC1 or PKCS#8.
    pub key: Secret,
    /// Caddy's `<host>.json`.
    pub json: Value,
    /// When to renew, if the authority says it: drawn in [`Self::window`].
    pub renew_at: Option<SystemTime>,
    /// What the authority says of renewal.
    pub window: Option<Window>,
}

/// Caddy's `<host>.json`.
pub(super) fn describe(
    names: &[String],
    url: &str,
    authority: &Authority,
    account: &str,
    window: Option<&Window>,
) -> Value {
    let mut data = json!({"url": url, "ca": authority.directory, "account": account});
    if let Some(window) = window {
        data["renewal_info"] = window.to_json();
    }
    json!({"sans": names, "issuer_data": data})
}

/// The addresses of other chains for the same certificate (RFC 8555, 7.4.2), from `Link` fields.
pub(super) fn alternates(links: &[String], base: &str) -> Vec<String> {
    let Ok(base) = reqwest::Url::parse(base) else { return Vec::new() };
    let mut found = Vec::new();
    for field in links {
        let mut rest = &**field;
        while let Some((_, after)) = rest.split_once('<') {
            let Some((target, after)) = after.split_once('>') else { break };
            // Parameters go on to the comma before the next `<`.
            let end = after.find('<').unwrap_or(after.len());
            let (parameters, after) = after.split_at(end);
            let is_alternate = parameters.split([';', ',']).any(|parameter| {
                parameter.split_once('=').is_some_and(|(name, value)| {
                    let words = value.trim().trim_matches('"');
                    name.trim().eq_ignore_ascii_case("rel")
                        && words.split(' ').any(|word| word.eq_ignore_ascii_case("alternate"))
                })
            });
            if is_alternate && let Ok(url) = base.join(target) {
                found.push(url.to_string());
            }
            rest = after;
        }
    }
    found.truncate(ALTERNATES);
    found
}

/// Whether the last certificate of a chain was issued by this common name, which is how Traefik's
/// `preferredChain` is understood.
fn ends_at(chain: &str, common_name: &str) -> bool {
    let Some(Ok(last)) = CertificateDer::pem_slice_iter(chain.as_bytes()).last() else { return false };
    let Ok((_, last)) = X509Certificate::from_der(&last) else { return false };
    last.issuer().iter_common_name().any(|name| name.as_str() == Ok(common_name))
}

/// The preferred one of the chains that the authority offers: the first, where none is preferred or the
/// preferred one is not there.
pub(super) async fn choose(
    first: (String, String),
    preferred: Option<&str>,
    alternates: Vec<String>,
    account: &Account,
    transport: &Transport,
) -> (String, String) {
    let Some(preferred) = preferred.filter(|name| !name.is_empty() && !ends_at(&first.1, name)) else { return first };
    for url in alternates {
        // instant-acme has no call for another chain. An order is fetched with the same signed request (POST-as-GET);
        // that the answer is no order does not matter, for the transport has kept it.
        let _not_an_order = account.order(url.clone()).await;
        let seen = transport.seen();
        let chain = match (seen.status, String::from_utf8(seen.body.to_vec())) {
            (Some(status), Ok(chain)) if status.is_success() => chain,
            _ => {
                tracing::warn!(url, "an alternate chain cannot be fetched");
                continue;
            }
        };
        if ends_at(&chain, preferred) {
            return (url, chain);
        }
    }
    tracing::warn!(preferred, "the authority offers no such chain; its first one is used");
    first
}

/// Checks that a chain is what was ordered: it parses, its key is ours, all names are in it, and it has not
/// expired.
pub(super) fn check(chain: &str, key: &Secret, names: &[String], now: SystemTime) -> Result<(), AcmeError> {
    let wrong = |text: &str| AcmeError::Certificate(text.to_owned());
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(chain.as_bytes()) {
        certificates.push(certificate.map_err(|_| wrong("the chain is not PEM"))?);
        if certificates.len() > CHAIN {
            return Err(wrong("the chain is too long"));
        }
    }
    let Some(leaf) = certificates.first().cloned() else {
        return Err(AcmeError::Nonsense { phase: Phase::Download, detail: "no PEM certificate".to_owned() });
    };
    let secret = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| wrong("the key is not PEM"))?;
    // Verifies that they belong together.
    CertifiedKey::from_der(certificates, secret, &rustls::crypto::aws_lc_rs::default_provider())
        .map_err(|error| AcmeError::Certificate(said(&error.to_string())))?;
    let (_, leaf) = X509Certificate::from_der(&leaf).map_err(|_| wrong("it does not parse"))?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0) <= seconds {
        return Err(wrong("it has expired"));
    }
    let named = leaf.subject_alternative_name().map_err(|_| wrong("its names do not parse"))?;
    let named = named.map(|extension| &*extension.value.general_names).unwrap_or_default();
    for name in names {
        let has = named.iter().any(|general| match (general, name.parse::<IpAddr>()) {
            (GeneralName::DNSName(dns), _) => dns.eq_ignore_ascii_case(name),
            (GeneralName::IPAddress(bytes), Ok(IpAddr::V4(address))) => **bytes == address.octets(),
            (GeneralName::IPAddress(bytes), Ok(IpAddr::V6(address))) => **bytes == address.octets(),
            _ => false,
        });
        if !has {
            return Err(AcmeError::Certificate(format!("it does not name `{name}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::time::Duration;

    #[test]
    fn alternate_chains_are_found_in_link_fields() {
        let links = [
            "<https://ca.test/dir>;rel=\"index\"".to_owned(),
            "<https://ca.test/cert/1/1>;rel=\"alternate\", </cert/1/2>; title=\"a, b\"; rel=alternate".to_owned(),
            "<https://ca.test/x>".to_owned(),
            "<unfinished; rel=alternate".to_owned(),
        ];
        let found = alternates(&links, "https://ca.test/cert/1");
        assert_eq!(found, ["https://ca.test/cert/1/1", "https://ca.test/cert/1/2"]);
        assert!(alternates(&links, "nonsense").is_empty());
        let many = vec!["</a>;rel=alternate".to_owned(); 100];
        assert_eq!(alternates(&many, "https://ca.test/").len(), ALTERNATES);
    }

    #[test]
    fn only_what_was_ordered_is_taken() {
        let now = SystemTime::now();
        let names = ["a.test".to_owned(), "192.0.2.1".to_owned()];
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names.to_vec()).expect("names");
        let chain = params.self_signed(&key).expect("signed").pem();
        let secret = Secret::new(key.serialize_pem());
        assert!(check(&chain, &secret, &names, now).is_ok());
        let said = |result: Result<(), AcmeError>| result.expect_err("refused").to_string();
        assert!(said(check(&chain, &secret, &["b.test".to_owned()], now)).contains("does not name `b.test`"));
        let other = Secret::new(KeyPair::generate().expect("a key").serialize_pem());
        assert!(matches!(check(&chain, &other, &names, now), Err(AcmeError::Certificate(_))));
        let late = now + Duration::from_secs(86_400 * 365 * 3_000);
        assert!(said(check(&chain, &secret, &names, late)).contains("expired"));
        assert!(matches!(check("<html>", &secret, &names, now), Err(AcmeError::Nonsense { .. })));
        assert!(said(check(&chain.repeat(CHAIN + 1), &secret, &names, now)).contains("too long"));
    }
}
