//! Requests and connections as the command is given them, and as a rule sees them once an HTTP server
//! has taken them in.

use crate::declare::is_token;
use crate::http::target::{self, Target};
use crate::model::canonical_host;
use crate::rule::{ConnectionView, RequestView};
use serde::Deserialize;
use std::net::IpAddr;

/// What a client sends.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RequestInput {
    pub(super) id: String,
    method: String,
    target: String,
    /// `HTTP/1.1` unless told otherwise; `HTTP/1.0` needs no Host.
    #[serde(default)]
    proto: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    remote: String,
}

impl RequestInput {
    /// From `GET https://a.example/x`, headers as `Name: value` and the client's address.
    pub(super) fn from_words(asked: &str, headers: &[String], from: Option<String>) -> Result<Self, String> {
        let form = || format!("expected `METHOD URL` such as `GET https://a.example/x`, got `{asked}`");
        let (method, url) = asked.trim().split_once(' ').ok_or_else(form)?;
        let mut pairs = Vec::new();
        for header in headers {
            let (name, value) =
                header.split_once(':').ok_or_else(|| format!("expected `NAME: VALUE`, got `{header}`"))?;
            pairs.push((name.trim().to_owned(), value.to_owned()));
        }
        if !pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            pairs.push(("Host".to_owned(), String::new()));
        }
        let (method, target) = (method.to_owned(), url.trim().to_owned());
        let remote = from.unwrap_or_default();
        Ok(Self { id: String::new(), method, target, proto: None, headers: pairs, remote })
    }
}

/// What a client opens.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ConnectionInput {
    pub(super) id: String,
    #[serde(default)]
    sni: String,
    #[serde(default)]
    alpn: Vec<String>,
    #[serde(default)]
    remote: String,
}

impl ConnectionInput {
    /// A connection to a server name.
    pub(super) fn named(name: &str, from: Option<String>) -> Self {
        Self { id: String::new(), sni: name.to_owned(), alpn: Vec::new(), remote: from.unwrap_or_default() }
    }
}

/// A request behind the entry chain.
#[derive(Debug)]
pub(super) struct Request<'a> {
    host: String,
    authority: &'a str,
    target: Target<'a>,
    input: &'a RequestInput,
    address: Option<IpAddr>,
}

impl<'a> Request<'a> {
    /// Takes the request in as a server does, or says why it is refused.
    pub(super) fn accept(input: &'a RequestInput) -> Result<Self, String> {
        if !is_token(&input.method) {
            return Err(format!("`{}` is no method", input.method));
        }
        if let Some((name, _)) = input.headers.iter().find(|(name, _)| !is_token(name)) {
            return Err(format!("`{name}` is no header name"));
        }
        if input.method == "OPTIONS" && input.target == "*" {
            return Err("the server answers `OPTIONS *` itself".to_owned());
        }
        let is_connect = input.method == "CONNECT";
        let target =
            if is_connect { target::normalise_connect(&input.target) } else { target::normalise(&input.target) }
                .map_err(|error| error.to_string())?;
        let hosts: Vec<&str> = values(&input.headers, "host").collect();
        let host = match *hosts {
            [] if input.proto.as_deref() == Some("HTTP/1.0") || is_connect => "",
            [] => return Err("the Host header is missing".to_owned()),
            [host] if target::is_host_header(host) => host,
            [host] => return Err(format!("malformed Host header `{host}`")),
            _ => return Err("several Host headers".to_owned()),
        };
        let authority = target.authority.unwrap_or(host);
        let address = address(&input.remote);
        Ok(Self { host: canonical_host(authority).into_owned(), authority, target, input, address })
    }
}

impl RequestView for Request<'_> {
    fn host(&self) -> &str {
        &self.host
    }
    fn authority(&self) -> &str {
        self.authority
    }
    fn path(&self) -> &str {
        &self.target.routing_path
    }
    fn method(&self) -> &str {
        &self.input.method
    }
    fn query(&self) -> &str {
        &self.target.query
    }
    fn any_header(&self, name: &str, f: &mut dyn FnMut(&str) -> bool) -> bool {
        values(&self.input.headers, name).any(f)
    }
    fn client_ip(&self) -> Option<IpAddr> {
        self.address
    }
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim_matches([' ', '\t']))
}

/// A connection as a rule sees it.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    name: String,
    alpn: &'a [String],
    address: Option<IpAddr>,
}

impl<'a> From<&'a ConnectionInput> for Connection<'a> {
    fn from(input: &'a ConnectionInput) -> Self {
        Self { name: input.sni.trim().to_lowercase(), alpn: &input.alpn, address: address(&input.remote) }
    }
}

impl ConnectionView for Connection<'_> {
    fn server_name(&self) -> &str {
        &self.name
    }
    fn any_alpn(&self, f: &mut dyn FnMut(&str) -> bool) -> bool {
        self.alpn.iter().any(|protocol| f(protocol))
    }
    fn client_ip(&self) -> Option<IpAddr> {
        self.address
    }
}

/// The address of `IP:PORT`, `[V6%zone]:PORT` or a bare address; the zone does not count.
fn address(remote: &str) -> Option<IpAddr> {
    let host = crate::model::without_port(remote).unwrap_or(remote);
    let (address, _) = host.split_once('%').unwrap_or((host, ""));
    address.parse().ok()
}
