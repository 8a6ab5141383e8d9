//! The answer of `/v1/client/allocation/:id/checks`
//! (<https://developer.hashicorp.com/nomad/api-docs/client#read-allocation-checks>): checks by id, each with the service that it is about.
//!
//! What always holds: any bytes give a value or an error; a check of an unknown status is left out.

use crate::catalog::http::Error;
use crate::catalog::names::Text;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Longest piece of a check's output that is told.
const OUTPUT: usize = 120;

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not ended yet.
    Pending,
    /// The last run failed.
    Failure,
    /// The last run passed.
    Success,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Name of the service that it is about.
    pub service: Arc<str>,
    /// Its own name.
    pub name: Arc<str>,
    /// How it stands.
    pub status: Status,
    /// What the service answered, for a check over HTTP.
    pub code: Option<u16>,
    /// Begin of what the check said, one line.
    pub output: Arc<str>,
}

impl Check {
    /// What is wrong, for people. The output of a check over HTTP is the service's page, and is not told.
    pub fn trouble(&self) -> Arc<str> {
        match self.code {
            Some(code) => format!("`{}`: status {code}", self.name).into(),
            None => format!("`{}`: {}", self.name, self.output).into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck<'a> {
    #[serde(borrow, default)]
    service: Option<Text<'a>>,
    #[serde(borrow, default)]
    check: Option<Text<'a>>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(default)]
    status_code: Option<i64>,
    #[serde(borrow, default)]
    output: Option<Text<'a>>,
}

/// The checks of an allocation, in random order.
///
/// # Errors
/// What is not JSON of that form.
pub fn checks(body: &[u8]) -> Result<Vec<Check>, Error> {
    let checks: Option<HashMap<String, RawCheck<'_>>> =
        serde_json::from_slice(body).map_err(|e| Error::Decode(e.to_string()))?;
    let check = |raw: RawCheck<'_>| {
        Some(Check {
            status: match &*raw.status?.0 {
                "pending" => Status::Pending,
                "failure" => Status::Failure,
                "success" => Status::Success,
                _ => return None,
            },
            service: raw.service?.shared(),
            name: raw.check.unwrap_or_default().shared(),
            code: raw.status_code.and_then(|code| u16::try_from(code).ok()).filter(|code| *code > 0),
            output: line(&raw.output.unwrap_or_default().0),
        })
    };
    Ok(checks.unwrap_or_default().into_values().filter_map(check).collect())
}

fn line(text: &str) -> Arc<str> {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let shown = line.chars().filter(|c| !c.is_control()).take(OUTPUT).collect::<String>();
    shown.replace('`', "'").trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::http::testing::recordings;
    use proptest::prelude::*;

    #[test]
    fn reads_what_was_recorded() {
        let mut told: Vec<String> = Vec::new();
        for recording in recordings("nomad") {
            for exchange in recording.good().filter(|e| e.path().ends_with("/checks")) {
                let checks = checks(exchange.body().as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", exchange.path()));
                assert!(!checks.is_empty() && checks.iter().all(|check| !check.service.is_empty()));
                told.extend(checks.iter().filter(|c| c.status != Status::Success).map(|c| c.trouble().to_string()));
            }
        }
        assert!(told.iter().any(|text| text == "`up`: status 404"), "{told:?}");
        assert!(told.iter().any(|text| text.ends_with("connect: connection refused")), "{told:?}");
    }

    #[test]
    fn what_is_odd_does_no_harm() {
        assert_eq!(checks(b"null").unwrap(), []);
        assert_eq!(checks(b"{}").unwrap(), []);
        assert_eq!(checks(br#"{"a":{"Service":"w","Status":"new"},"b":{"Status":"failure"},"c":{}}"#).unwrap(), []);
        let odd = br#"{"a":{"Service":"w","Status":"failure","Check":null,"StatusCode":-1,"Output":"\n\u0007a`b\nc"}}"#;
        assert_eq!(&*checks(odd).unwrap()[0].trouble(), "``: a'b");
        assert!(checks(b"[]").is_err() && checks(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = checks(&bytes);
        }
    }
}
