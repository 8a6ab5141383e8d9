//! What the `headers` middleware says (<https://doc.traefik.io/traefik/middlewares/http/headers/>).
//!
//! What always holds: a value that nobody said is not printed, and one that Traefik prints even where it is zero is an
//! `Option`, so that the printed form is Traefik's.

use super::is_default;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Fields by name.
pub type Fields = BTreeMap<Arc<str>, Arc<str>>;

/// Options of `headers`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Headers {
    /// Fields of requests; an empty value takes a field off.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_request_headers: Fields,
    /// Fields of answers; an empty value takes a field off.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_response_headers: Fields,
    /// CORS: credentials are allowed.
    #[serde(skip_serializing_if = "is_default")]
    pub access_control_allow_credentials: bool,
    /// CORS: fields that requests may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_headers: Vec<Arc<str>>,
    /// CORS: methods that requests may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_methods: Vec<Arc<str>>,
    /// CORS: origins that are allowed, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_origin_list: Vec<Arc<str>>,
    /// CORS: expressions for origins that are allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_origin_list_regex: Vec<Arc<str>>,
    /// CORS: fields of answers that scripts may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_expose_headers: Vec<Arc<str>>,
    /// CORS: seconds that a preflight's answer may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_control_max_age: Option<i64>,
    /// CORS: answers depend on `Origin`.
    #[serde(skip_serializing_if = "is_default")]
    pub add_vary_header: bool,
    /// Hosts that are served; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<Arc<str>>,
    /// Fields that may tell the host instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts_proxy_headers: Vec<Arc<str>>,
    /// Fields whose value says that the client came over TLS.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ssl_proxy_headers: Fields,
    /// `max-age` of `Strict-Transport-Security`; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_seconds: Option<i64>,
    /// It holds for subdomains.
    #[serde(skip_serializing_if = "is_default")]
    pub sts_include_subdomains: bool,
    /// It may be preloaded.
    #[serde(skip_serializing_if = "is_default")]
    pub sts_preload: bool,
    /// It goes out without TLS, too.
    #[serde(rename = "forceSTSHeader", skip_serializing_if = "is_default")]
    pub force_sts_header: bool,
    /// `X-Frame-Options: DENY`.
    #[serde(skip_serializing_if = "is_default")]
    pub frame_deny: bool,
    /// `X-Frame-Options` of one's own.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub custom_frame_options_value: Arc<str>,
    /// `X-Content-Type-Options: nosniff`.
    #[serde(skip_serializing_if = "is_default")]
    pub content_type_nosniff: bool,
    /// `X-XSS-Protection: 1; mode=block`.
    #[serde(skip_serializing_if = "is_default")]
    pub browser_xss_filter: bool,
    /// `X-XSS-Protection` of one's own.
    #[serde(rename = "customBrowserXSSValue", skip_serializing_if = "str::is_empty")]
    pub custom_browser_xss_value: Arc<str>,
    /// `Content-Security-Policy`; `$NONCE` becomes a word of each answer's own.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub content_security_policy: Arc<str>,
    /// `Content-Security-Policy-Report-Only`, likewise.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub content_security_policy_report_only: Arc<str>,
    /// `Public-Key-Pins`, over TLS.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub public_key: Arc<str>,
    /// `Referrer-Policy`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub referrer_policy: Arc<str>,
    /// `Permissions-Policy`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub permissions_policy: Arc<str>,
    /// Neither hosts are refused, nor is `Strict-Transport-Security` or `Public-Key-Pins` sent.
    #[serde(skip_serializing_if = "is_default")]
    pub is_development: bool,
    /// Of Traefik 2; does nothing, as in Traefik 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_policy: Option<Arc<str>>,
    /// Of Traefik 2; does nothing, as in Traefik 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_redirect: Option<bool>,
    /// Of Traefik 2; does nothing, as in Traefik 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_temporary_redirect: Option<bool>,
    /// Of Traefik 2; does nothing, as in Traefik 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_host: Option<Arc<str>>,
    /// Of Traefik 2; does nothing, as in Traefik 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_force_host: Option<bool>,
}

impl fmt::Debug for Headers {
    /// Without values: one may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |fields: &Fields| fields.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Headers")
            .field("request", &names(&self.custom_request_headers))
            .field("response", &names(&self.custom_response_headers))
            .finish_non_exhaustive()
    }
}

impl Headers {
    /// Whether it sets or takes off fields.
    pub fn has_custom(&self) -> bool {
        !self.custom_request_headers.is_empty() || !self.custom_response_headers.is_empty()
    }

    /// Whether it has to do with CORS.
    pub fn has_cors(&self) -> bool {
        self.access_control_allow_credentials
            || !self.access_control_allow_headers.is_empty()
            || !self.access_control_allow_methods.is_empty()
            || !self.access_control_allow_origin_list.is_empty()
            || !self.access_control_allow_origin_list_regex.is_empty()
            || !self.access_control_expose_headers.is_empty()
            || self.access_control_max_age.is_some()
            || self.add_vary_header
    }

    /// Whether it says anything that Traefik takes for a `headers` middleware.
    pub fn says_something(&self) -> bool {
        let nothing = Self {
            ssl_redirect: Some(false),
            ssl_temporary_redirect: Some(false),
            ssl_force_host: Some(false),
            ..Self::default()
        };
        let said = Self {
            ssl_redirect: Some(self.ssl_redirect.unwrap_or_default()),
            ssl_temporary_redirect: Some(self.ssl_temporary_redirect.unwrap_or_default()),
            ssl_force_host: Some(self.ssl_force_host.unwrap_or_default()),
            ssl_host: self.ssl_host.clone().filter(|host| !host.is_empty()),
            feature_policy: self.feature_policy.clone().filter(|policy| !policy.is_empty()),
            ..self.clone()
        };
        said != nothing
    }
}
