//! Where an agent is: `http://host:port`, `https://…`, `unix:///path` or a bare `host:port`.

use super::Error;
use http::HeaderValue;
use std::path::PathBuf;

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What a URL starts with: scheme, host, port and the path before `/v1`, without credentials.
    pub(super) base: String,
    /// Path before `/v1`.
    pub(super) prefix: String,
    /// Host for DNS, without brackets, and port; `None` for a unix socket.
    pub(super) host: Option<(String, u16)>,
    /// Unix socket.
    pub(super) socket: Option<PathBuf>,
    /// Value of the `Host` header.
    pub(super) authority: String,
    /// Whether it speaks TLS.
    pub(super) tls: bool,
    /// `Authorization` from `user:password@` in the address.
    pub(super) basic: Option<HeaderValue>,
    shown: String,
}

impl Endpoint {
    /// Parses an address; without a scheme it is `http`.
    ///
    /// # Errors
    /// Texts that are no URL, other schemes, a unix address without path. The text itself is in
    /// the error only without credentials.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let error = |reason: String| {
            let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
            let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let separator = if scheme.is_empty() { "" } else { "://" };
            Error::Endpoint { endpoint: format!("{scheme}{separator}{rest}"), reason }
        };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(error("expected `unix:///path/of/socket`".into()));
            }
            return Ok(Self {
                base: "http://localhost".into(),
                prefix: String::new(),
                host: None,
                socket: Some(path.into()),
                authority: "localhost".into(),
                tls: false,
                basic: None,
                shown: text.to_owned(),
            });
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = reqwest::Url::parse(&full).map_err(|e| error(e.to_string()))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(error(format!("scheme `{other}`, expected `http`, `https` or `unix`"))),
        };
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| error("it names no host".into()))?;
        let port = url.port_or_known_default().ok_or_else(|| error("it names no port".into()))?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let prefix = url.path().trim_end_matches('/').to_owned();
        let base = format!("{}://{authority}{prefix}", url.scheme());
        Ok(Self {
            shown: base.clone(),
            base,
            prefix,
            host: Some((host.trim_matches(['[', ']']).to_owned(), port)),
            socket: None,
            authority,
            tls,
            basic: basic(&url).map_err(error)?,
        })
    }

    /// The address for people, without credentials.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

fn basic(url: &reqwest::Url) -> Result<Option<HeaderValue>, String> {
    use base64::Engine;
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decode = |text: &str| {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut i = 0;
        while i < bytes.len() {
            let hex = bytes.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
            match (bytes[i], hex) {
                (b'%', Some(byte)) => {
                    out.push(byte);
                    i += 3;
                }
                (byte, _) => {
                    out.push(byte);
                    i += 1;
                }
            }
        }
        out
    };
    let mut pair = decode(url.username());
    pair.push(b':');
    pair.extend(decode(url.password().unwrap_or_default()));
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).map_err(|_| "its credentials are not text".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, base, host, tls, shown) in [
            ("http://127.0.0.1:4646", "http://127.0.0.1:4646", Some(("127.0.0.1", 4646)), false, None),
            (
                "127.0.0.1:8500",
                "http://127.0.0.1:8500",
                Some(("127.0.0.1", 8500)),
                false,
                Some("http://127.0.0.1:8500"),
            ),
            (
                "https://[::1]:8501/consul/",
                "https://[::1]:8501/consul",
                Some(("::1", 8501)),
                true,
                Some("https://[::1]:8501/consul"),
            ),
            ("https://nomad.example", "https://nomad.example", Some(("nomad.example", 443)), true, None),
            ("unix:///secrets/api.sock", "http://localhost", None, false, None),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.base, base, "{text}");
            assert_eq!(endpoint.host.as_ref().map(|(h, p)| (h.as_str(), *p)), host, "{text}");
            assert_eq!(endpoint.tls, tls, "{text}");
            assert_eq!(endpoint.shown(), shown.unwrap_or(text), "{text}");
        }
        assert_eq!(Endpoint::parse("unix:///a").unwrap().socket, Some("/a".into()));
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        let endpoint = Endpoint::parse("http://me:s%40cret@host:8500").unwrap();
        assert_eq!(endpoint.basic.as_ref().unwrap(), "Basic bWU6c0BjcmV0");
        assert!(!format!("{endpoint:?}").contains("bWU6"), "{endpoint:?}");
        assert_eq!(endpoint.shown(), "http://host:8500");
        let error = Endpoint::parse("ftp://me:secret@host").unwrap_err().to_string();
        assert_eq!(error, "`ftp://host` is not an address: scheme `ftp`, expected `http`, `https` or `unix`");
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", "http://", "unix://relative", "http://host:notaport", "tcp://h:1"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
