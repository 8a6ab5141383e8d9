//! The `headers` middleware, compiled: what is written into requests and answers, as values that need no more checks.

use crate::declare;
use crate::rule;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;

/// A field to set, or with no value one to take off.
pub type Edit = (Arc<str>, Option<HeaderValue>);

/// What a `headers` middleware does.
#[derive(Debug, Clone, Default)]
pub struct ReadyHeaders {
    /// Fields of the request, in lower case.
    pub request: Vec<Edit>,
    /// The Host that a server gets.
    pub host: Option<HeaderValue>,
    /// Servers are not told the address of the TCP peer.
    pub hide_peer: bool,
    /// Fields of each answer.
    pub response: Vec<Edit>,
    /// CORS, if it has to do with it.
    pub cors: Option<Box<Cors>>,
    /// Security, if it has to do with it.
    pub security: Option<Box<Security>>,
}

/// CORS (<https://doc.traefik.io/traefik/middlewares/http/headers/#cors-headers>).
#[derive(Debug, Clone)]
pub struct Cors {
    /// Credentials are allowed.
    pub credentials: bool,
    /// Origins that are allowed; of each the text and the value.
    pub origins: Vec<(Arc<str>, HeaderValue)>,
    /// Expressions for origins that are allowed.
    pub expressions: Vec<regex::Regex>,
    /// `Access-Control-Allow-Headers` of preflights.
    pub headers: Allowed,
    /// `Access-Control-Allow-Methods` of preflights.
    pub methods: Allowed,
    /// `Access-Control-Max-Age` of preflights.
    pub max_age: Option<HeaderValue>,
    /// `Access-Control-Expose-Headers`.
    pub exposed: Option<HeaderValue>,
    /// Answers are marked as depending on `Origin`.
    pub vary: bool,
}

/// What a preflight is told to be allowed.
#[derive(Debug, Clone)]
pub enum Allowed {
    /// It is not told.
    Unsaid,
    /// What it asked for: `*` has no meaning beside credentials.
    Asked,
    /// This.
    Value(HeaderValue),
}

/// The security headers.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Fields of each answer.
    pub always: Vec<(&'static str, HeaderValue)>,
    /// Fields of answers over TLS.
    pub encrypted: Vec<(&'static str, HeaderValue)>,
    /// Fields whose text holds the place of a word of each answer's own.
    pub with_nonce: Vec<(&'static str, Arc<str>)>,
    /// Hosts that are served; none means all.
    pub hosts: Vec<Arc<str>>,
    /// Fields that may tell the host instead.
    pub host_fields: Vec<Arc<str>>,
    /// Fields whose value says that the client came over TLS.
    pub tls_fields: Vec<(Arc<str>, HeaderValue)>,
}

/// Where a word of each answer's own goes in a policy.
pub const NONCE: &str = "$NONCE";

/// Fields that frame a message or concern one hop: the proxy writes them itself, of what it knows.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

impl ReadyHeaders {
    /// Compiles what was declared.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(declared: &declare::Headers) -> Result<Self, String> {
        if !declared.says_something() {
            return Err("it says nothing".to_owned());
        }
        let mut ready = Self::default();
        for (name, value) in &declared.custom_request_headers {
            if name.eq_ignore_ascii_case("host") {
                let host = (!value.is_empty()).then(|| valued("customRequestHeaders", name, value)).transpose()?;
                ready.host = host.or(ready.host);
                continue;
            }
            // in Traefik it is this spelling that keeps the peer's address back, too
            ready.hide_peer |= value.is_empty() && &**name == "X-Forwarded-For";
            ready.request.push(edit("customRequestHeaders", name, value)?);
        }
        for (name, value) in &declared.custom_response_headers {
            ready.response.push(edit("customResponseHeaders", name, value)?);
        }
        ready.cors = declared.has_cors().then(|| Cors::new(declared)).transpose()?.map(Box::new);
        ready.security = Security::new(declared)?.map(Box::new);
        Ok(ready)
    }

    /// Whether it has to do with answers.
    pub fn answers(&self) -> bool {
        !self.response.is_empty() || self.cors.is_some() || self.security.as_ref().is_some_and(|s| s.answers())
    }
}

impl Cors {
    fn new(declared: &declare::Headers) -> Result<Self, String> {
        let credentials = declared.access_control_allow_credentials;
        let joined = |option: &str, list: &[Arc<str>]| match list {
            [] => Ok(None),
            list => value(option, &list.join(",")).map(Some),
        };
        let has_star = |list: &[Arc<str>]| list.iter().any(|item| &**item == "*");
        let allowed = |option: &str, list: &[Arc<str>]| {
            if credentials && has_star(list) {
                return Ok(Allowed::Asked);
            }
            Ok::<_, String>(joined(option, list)?.filter(|v| !v.is_empty()).map_or(Allowed::Unsaid, Allowed::Value))
        };
        let origin =
            |origin: &Arc<str>| Ok::<_, String>((origin.clone(), value("accessControlAllowOriginList", origin)?));
        let expression = |text: &Arc<str>| {
            rule::replacing(text).map_err(|why| format!("`accessControlAllowOriginListRegex`: `{text}`: {why}"))
        };
        let exposed = &declared.access_control_expose_headers;
        let exposed = if credentials && has_star(exposed) { &[][..] } else { exposed };
        Ok(Self {
            credentials,
            origins: declared.access_control_allow_origin_list.iter().map(origin).collect::<Result<_, _>>()?,
            expressions: declared
                .access_control_allow_origin_list_regex
                .iter()
                .map(expression)
                .collect::<Result<_, _>>()?,
            headers: allowed("accessControlAllowHeaders", &declared.access_control_allow_headers)?,
            methods: allowed("accessControlAllowMethods", &declared.access_control_allow_methods)?,
            max_age: declared.access_control_max_age.map(HeaderValue::from),
            exposed: joined("accessControlExposeHeaders", exposed)?,
            vary: declared.add_vary_header,
        })
    }
}

impl Security {
    fn new(declared: &declare::Headers) -> Result<Option<Self>, String> {
        let development = declared.is_development;
        let mut ready = Self::default();
        let sts = declared.sts_seconds.filter(|seconds| *seconds != 0 && !development);
        if let Some(seconds) = sts {
            let subdomains = if declared.sts_include_subdomains { "; includeSubDomains" } else { "" };
            let preload = if declared.sts_preload { "; preload" } else { "" };
            let field = value("stsSeconds", &format!("max-age={seconds}{subdomains}{preload}"))?;
            let fields = if declared.force_sts_header { &mut ready.always } else { &mut ready.encrypted };
            fields.push(("strict-transport-security", field));
        }
        let frame = &declared.custom_frame_options_value;
        let frame = if frame.is_empty() && declared.frame_deny { "DENY" } else { &**frame };
        let xss = &declared.custom_browser_xss_value;
        let xss = if xss.is_empty() && declared.browser_xss_filter { "1; mode=block" } else { &**xss };
        let sniff = if declared.content_type_nosniff { "nosniff" } else { "" };
        for (option, name, text) in [
            ("customFrameOptionsValue", "x-frame-options", frame),
            ("contentTypeNosniff", "x-content-type-options", sniff),
            ("customBrowserXSSValue", "x-xss-protection", xss),
            ("referrerPolicy", "referrer-policy", &declared.referrer_policy),
            ("permissionsPolicy", "permissions-policy", &declared.permissions_policy),
        ] {
            if !text.is_empty() {
                ready.always.push((name, value(option, text)?));
            }
        }
        for (option, name, text) in [
            ("contentSecurityPolicy", "content-security-policy", &declared.content_security_policy),
            (
                "contentSecurityPolicyReportOnly",
                "content-security-policy-report-only",
                &declared.content_security_policy_report_only,
            ),
        ] {
            let checked = value(option, text)?;
            if text.contains(NONCE) {
                ready.with_nonce.push((name, text.clone()));
            } else if !text.is_empty() {
                ready.always.push((name, checked));
            }
        }
        if !declared.public_key.is_empty() && !development {
            ready.encrypted.push(("public-key-pins", value("publicKey", &declared.public_key)?));
        }
        if !development {
            ready.hosts.clone_from(&declared.allowed_hosts);
        }
        let lower = |name: &Arc<str>| Arc::from(name.to_ascii_lowercase());
        ready.host_fields = declared.hosts_proxy_headers.iter().map(lower).collect();
        for (name, text) in &declared.ssl_proxy_headers {
            ready.tls_fields.push((lower(name), value("sslProxyHeaders", text)?));
        }
        Ok((ready.answers() || !ready.hosts.is_empty()).then_some(ready))
    }

    fn answers(&self) -> bool {
        !self.always.is_empty() || !self.encrypted.is_empty() || !self.with_nonce.is_empty()
    }
}

fn edit(option: &str, name: &str, value: &str) -> Result<Edit, String> {
    if HeaderName::try_from(name).is_err() {
        return Err(format!("`{option}`: `{name}` is not the name of a field"));
    }
    let lower = name.to_ascii_lowercase();
    if FRAMING.contains(&&*lower) && !value.is_empty() {
        return Err(format!("`{option}`: `{name}` is the proxy's own to set: it concerns one connection"));
    }
    let mut value = (!value.is_empty()).then(|| valued(option, name, value)).transpose()?;
    if let Some(value) = &mut value {
        // It may be a password, and is not printed.
        value.set_sensitive(true);
    }
    Ok((lower.into(), value))
}

fn valued(option: &str, name: &str, value: &str) -> Result<HeaderValue, String> {
    self::value(&format!("{option}.{name}"), value)
}

fn value(option: &str, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text.trim()).map_err(|_| format!("`{option}`: it holds what no field can hold"))
}
