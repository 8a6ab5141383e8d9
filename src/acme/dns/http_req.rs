//! A web hook with the contract of lego's `httpreq`: `POST <endpoint>/present` and `…/cleanup` with
//! `{"fqdn","value"}`, in mode RAW `{"domain","token","keyAuth"}`; 2xx is success.

use super::DnsError;
use super::api::{Api, secret_header};
use super::settings;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::Value;
use std::time::Duration;

/// The provider.
#[derive(Debug)]
pub(super) struct HttpReq {
    api: Api,
    headers: HeaderMap,
    raw: bool,
}

impl HttpReq {
    pub fn new(settings: &settings::HttpReq, limit: Duration) -> Result<Self, DnsError> {
        let mut headers = HeaderMap::new();
        if let (Some(name), Some(password)) = (&settings.username, &settings.password) {
            let pair = STANDARD.encode(format!("{name}:{}", password.reveal()));
            headers.insert(AUTHORIZATION, secret_header("HTTPREQ_PASSWORD", &format!("Basic {pair}"))?);
        }
        Ok(Self { api: Api::new("HTTPREQ_ENDPOINT", &settings.endpoint, limit)?, headers, raw: settings.raw })
    }

    /// True when the hook is to be told token and key authorization.
    pub fn raw(&self) -> bool {
        self.raw
    }

    pub async fn post(&self, action: &str, message: &Value) -> Result<(), DnsError> {
        self.api.send(Method::POST, &[action], &[], self.headers.clone(), Some(message)).await?.success()?;
        Ok(())
    }
}
