//! What Caddy's metadata of a certificate (`<host>.json`) says of its renewal, read and put back; the rest of it stays as it is.

use super::Window;
use jiff::Timestamp;
use serde_json::Value;
use std::time::SystemTime;

impl Window {
    /// The renewal window kept in a certificate's metadata (`issuer_data.renewal_info`, `acmez`' `acme.RenewalInfo`), if there
    /// is one that makes sense. Where nobody said when to ask again, it is time to.
    pub fn from_site(json: &[u8]) -> Option<Self> {
        let site: Value = serde_json::from_slice(json).ok()?;
        let info = &site["issuer_data"]["renewal_info"];
        let time = |value: &Value| Some(SystemTime::from(value.as_str()?.parse::<Timestamp>().ok()?));
        let (start, end) = (time(&info["suggestedWindow"]["start"])?, time(&info["suggestedWindow"]["end"])?);
        let selected = time(&info["_selectedTime"]).filter(|selected| (start..=end).contains(selected))?;
        Some(Self {
            start,
            end,
            selected,
            ask_again: time(&info["_retryAfter"]).unwrap_or(SystemTime::UNIX_EPOCH),
            explanation: info["explanationURL"].as_str().map(str::to_owned),
            id: info["_uniqueIdentifier"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// The same, unless it was said of another certificate than this one (PEM chain): the files of a renewal are replaced one by
    /// one.
    pub fn of_certificate(json: &[u8], chain: &[u8]) -> Option<Self> {
        let window = Self::from_site(json)?;
        let id = || super::ari::certificate_id(std::str::from_utf8(chain).ok()?).ok();
        (window.id.is_empty() || id().is_some_and(|id| id.to_string() == window.id)).then_some(window)
    }

    /// The metadata with this window in it; `None` where they are not a certificate's.
    pub fn into_site(self, json: &[u8]) -> Option<String> {
        let mut site: Value = serde_json::from_slice(json).ok()?;
        site.get("issuer_data")?.as_object()?;
        site["issuer_data"]["renewal_info"] = self.to_json();
        Some(site.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Caddy wrote it.
    const SITE: &str = r#"{"sans":["one.churn.test"],"issuer_data":{"url":"https://localhost:24701/certZ/1","ca":"https://localhost:24701/dir","account":"","renewal_info":{"suggestedWindow":{"start":"2027-01-18T22:20:16Z","end":"2027-01-20T22:20:16Z"},"_uniqueIdentifier":"a.b","_retryAfter":"2026-11-21T06:00:00.123456789+01:00","_selectedTime":"2027-01-19T22:20:16Z"}}}"#;

    #[test]
    fn what_caddy_keeps_is_read_and_put_back() {
        let window = Window::from_site(SITE.as_bytes()).expect("a window");
        assert_eq!(window.id, "a.b");
        assert!(window.start < window.selected && window.selected < window.end);
        let later = Window { ask_again: window.ask_again + std::time::Duration::from_secs(60), ..window.clone() };
        let text = later.clone().into_site(SITE.as_bytes()).expect("metadata");
        assert_eq!(Window::from_site(text.as_bytes()), Some(later));
        let site: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(site["issuer_data"]["url"], "https://localhost:24701/certZ/1");
    }

    #[test]
    fn what_was_said_of_another_certificate_does_not_count() {
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[5]));
        params.use_authority_key_identifier_extension = true;
        let chain = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").pem();
        let id = super::super::ari::certificate_id(&chain).expect("an id").to_string();
        let its = SITE.replace("a.b", &id);
        assert_eq!(Window::of_certificate(its.as_bytes(), chain.as_bytes()).map(|window| window.id), Some(id));
        assert_eq!(Window::of_certificate(SITE.as_bytes(), chain.as_bytes()), None);
        let nobodys = SITE.replace("a.b", "");
        assert!(Window::of_certificate(nobodys.as_bytes(), chain.as_bytes()).is_some());
    }

    #[test]
    fn what_makes_no_sense_is_no_window() {
        let odd = SITE.replace("2027-01-19T22:20:16Z", "2028-01-19T22:20:16Z");
        for bad in ["", "{}", "null", r#"{"issuer_data":null}"#, &odd] {
            assert_eq!(Window::from_site(bad.as_bytes()), None, "{bad}");
        }
        let window = Window::from_site(SITE.as_bytes()).expect("a window");
        assert_eq!(window.into_site(br#"{"sans":["a"],"issuer_data":null}"#), None);
    }
}
