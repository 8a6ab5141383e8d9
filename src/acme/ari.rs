//! When an authority wants a certificate renewed (ACME Renewal Information, RFC 9773).

use super::error::{AcmeError, Phase, said};
use super::transport::{Transport, unreachable};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::CertificateIdentifier;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};
use x509_parser::extensions::ParsedExtension;

/// Asked again after this where the authority says nothing, or something odd (RFC 9773, 4.3.2 and 4.3.3).
const AGAIN: Duration = Duration::from_secs(6 * 3_600);
/// Bounds of what it says (RFC 9773, 4.3.2).
const AGAIN_BOUNDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// When to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Start of the time that the authority suggests. In the past: renew now.
    pub start: SystemTime,
    /// Its end.
    pub end: SystemTime,
    /// The moment in it that this instance has drawn; in whole seconds.
    pub selected: SystemTime,
    /// When to ask again.
    pub ask_again: SystemTime,
    /// A page that says why, for people.
    pub explanation: Option<String>,
    /// The certificate's identifier (RFC 9773, 4.1).
    pub id: String,
}

fn rfc3339(time: SystemTime) -> Value {
    Timestamp::try_from(time).map_or(Value::Null, |time| Value::String(time.to_string()))
}

impl Window {
    /// As Caddy keeps it in `<host>.json` (`acmez`' `acme.RenewalInfo`).
    pub fn to_json(&self) -> Value {
        let mut value = json!({"suggestedWindow": {"start": rfc3339(self.start), "end": rfc3339(self.end)}});
        if let (Some(url), Some(value)) = (&self.explanation, value.as_object_mut()) {
            value.insert("explanationURL".to_owned(), url.clone().into());
        }
        value["_uniqueIdentifier"] = self.id.clone().into();
        value["_retryAfter"] = rfc3339(self.ask_again);
        value["_selectedTime"] = rfc3339(self.selected);
        value
    }
}

/// The identifier of a certificate (PEM chain, leaf first): its issuer's key identifier and its serial number.
pub(super) fn certificate_id(chain_pem: &str) -> Result<CertificateIdentifier<'static>, &'static str> {
    let leaf = CertificateDer::from_pem_slice(chain_pem.as_bytes()).map_err(|_| "no PEM certificate")?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).map_err(|_| "the certificate does not parse")?;
    let issuer = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let issuer = issuer.ok_or("the certificate does not name its issuer's key")?;
    let encode = |bytes: &[u8]| Cow::Owned(URL_SAFE_NO_PAD.encode(bytes));
    Ok(CertificateIdentifier { authority_key_identifier: encode(issuer), serial: encode(leaf.raw_serial()) })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    renewal_info: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    suggested_window: Suggested,
    #[serde(rename = "explanationURL")]
    explanation_url: Option<String>,
}

#[derive(Deserialize)]
struct Suggested {
    start: String,
    end: String,
}

/// Asks for a certificate's window; `None` where the authority has no such resource.
pub(super) async fn ask(
    transport: &Transport,
    directory: &str,
    id: &CertificateIdentifier<'_>,
    now: SystemTime,
) -> Result<Option<Window>, AcmeError> {
    let directory: Directory = get(transport, directory, Phase::Directory).await?;
    let Some(url) = directory.renewal_info else { return Ok(None) };
    let url = format!("{}/{id}", url.trim_end_matches('/'));
    let answer: Answer = get(transport, &url, Phase::RenewalInfo).await?;
    window(&answer, id.to_string(), transport.seen().retry_after, now, rand::random())
        .map(Some)
        .map_err(|detail| AcmeError::Nonsense { phase: Phase::RenewalInfo, detail })
}

async fn get<T: for<'de> Deserialize<'de>>(transport: &Transport, url: &str, phase: Phase) -> Result<T, AcmeError> {
    let seen = transport.get(url).await.map_err(|error| unreachable(error, phase))?;
    match seen.status {
        Some(status) if status.is_success() => serde_json::from_slice(&seen.body)
            .map_err(|error| AcmeError::Nonsense { phase, detail: said(&error.to_string()) }),
        status => {
            let status = status.map_or(0, |status| status.as_u16());
            // A problem document says more than a number.
            match serde_json::from_slice::<instant_acme::Problem>(&seen.body) {
                Ok(problem) => Err(transport.error(instant_acme::Error::Api(problem), phase)),
                Err(_) => Err(AcmeError::Status { phase, status, retry_after: seen.retry_after }),
            }
        }
    }
}

/// The window of an answer; `draw` chooses the moment in it.
fn window(
    answer: &Answer,
    id: String,
    retry_after: Option<Duration>,
    now: SystemTime,
    draw: u64,
) -> Result<Window, String> {
    let time = |text: &str| {
        let parsed: Result<Timestamp, _> = text.parse();
        parsed.map(SystemTime::from).map_err(|error| said(&format!("`{text}`: {error}")))
    };
    let (start, end) = (time(&answer.suggested_window.start)?, time(&answer.suggested_window.end)?);
    let length = end.duration_since(start).ok().filter(|length| !length.is_zero());
    let length = length.ok_or("the suggested window ends before it begins")?;
    // The fraction `draw` / 2^64 of the window: never its end.
    let seconds = (u128::from(length.as_secs()) * u128::from(draw)) >> 64;
    let offset = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let again = retry_after.map_or(AGAIN, |after| after.clamp(AGAIN_BOUNDS.0, AGAIN_BOUNDS.1));
    Ok(Window {
        start,
        end,
        selected: start + offset,
        ask_again: now + again,
        explanation: answer.explanation_url.as_deref().map(said),
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().expect("a time").into()
    }

    fn answer(start: &str, end: &str) -> Answer {
        Answer { suggested_window: Suggested { start: start.into(), end: end.into() }, explanation_url: None }
    }

    #[test]
    fn the_moment_lies_in_the_window() {
        let now = at("2026-11-21T00:00:00Z");
        let of = |draw| {
            let answer = answer("2027-01-18T22:20:16Z", "2027-01-20T22:20:16Z");
            window(&answer, "a.b".into(), None, now, draw).expect("a window")
        };
        assert_eq!(of(0).selected, at("2027-01-18T22:20:16Z"));
        assert_eq!(of(1 << 63).selected, at("2027-01-19T22:20:16Z"));
        assert_eq!(of(u64::MAX).selected, at("2027-01-20T22:20:15Z"));
        assert_eq!(of(0).ask_again, now + AGAIN);
        let json = of(1 << 63).to_json();
        assert_eq!(
            json.to_string(),
            r#"{"suggestedWindow":{"start":"2027-01-18T22:20:16Z","end":"2027-01-20T22:20:16Z"},"_uniqueIdentifier":"a.b","_retryAfter":"2026-11-21T06:00:00Z","_selectedTime":"2027-01-19T22:20:16Z"}"#
        );
    }

    #[test]
    fn what_makes_no_sense_is_no_window() {
        let now = at("2026-11-21T00:00:00Z");
        for (start, end) in [
            ("2027-01-20T00:00:00Z", "2027-01-19T00:00:00Z"),
            ("2027-01-20T00:00:00Z", "2027-01-20T00:00:00Z"),
            ("tomorrow", "2027-01-20T00:00:00Z"),
            ("2027-01-20T00:00:00Z", ""),
        ] {
            assert!(window(&answer(start, end), String::new(), None, now, 1).is_err(), "{start} {end}");
        }
        let long = window(
            &answer("0001-01-01T00:00:00Z", "9999-12-30T00:00:00Z"),
            String::new(),
            Some(Duration::ZERO),
            now,
            u64::MAX,
        );
        assert_eq!(long.expect("a window").ask_again, now + AGAIN_BOUNDS.0, "not asked without a pause");
    }

    /// The example of RFC 9773, 4.1, as far as it is given there: key identifier and serial number.
    #[test]
    fn certificates_are_identified_as_the_rfc_says() {
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let bytes = URL_SAFE_NO_PAD.decode("aYhba4dGQEHhs3uEe6CuLN4ByNQ").expect("base64");
        ca.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(bytes);
        let ca = rcgen::Issuer::new(ca, rcgen::KeyPair::generate().expect("a key"));
        let mut leaf = rcgen::CertificateParams::default();
        leaf.use_authority_key_identifier_extension = true;
        leaf.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        let leaf = leaf.signed_by(&rcgen::KeyPair::generate().expect("a key"), &ca).expect("signed");
        assert_eq!(certificate_id(&leaf.pem()).expect("an id").to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        assert!(certificate_id("nothing").is_err());
    }
}
