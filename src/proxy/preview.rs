//! A request's way through the proxy without a socket, for `explain`: *head*, *route* and the head
//! that a server would get, by the very functions that serve requests.

use super::head::{self, Arrival, Checked, Parsed};
use super::hop;
use super::request::View;
use super::settings::HeadRules;
use crate::http::{Exchange, HeaderValue, Headers, Made, Method, Protocol, Room, StatusCode, h1};
use crate::table::RequestView;
use std::net::SocketAddr;
use std::sync::Arc;

/// Bytes of a head; no entry point's limit is looked at.
const HEAD: usize = 1 << 20;

/// A request's head as a client sends it.
pub struct Sent<'a> {
    /// HTTP version.
    pub protocol: Protocol,
    /// Method.
    pub method: &'a str,
    /// Request target.
    pub target: &'a str,
    /// Fields in order; the host of HTTP/2 is `Host`, too.
    pub fields: &'a [(String, String)],
}

impl Sent<'_> {
    /// What the protocol's codec makes of it.
    fn parse(&self) -> Result<Parsed, Made> {
        if self.protocol == Protocol::Http2 {
            let mut request = ::http::Request::builder().method(self.method).uri(self.target);
            for (name, value) in self.fields {
                request = request.header(name, value.trim_matches([' ', '\t']));
            }
            let request = request.version(::http::Version::HTTP_2).body(()).map_err(|_| Made::bad_request())?;
            return Ok(parsed(request.into_parts().0, Room::default(), String::new()));
        }
        let texts = self.fields.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        if texts.chain([self.method, self.target]).any(|text| text.contains(['\r', '\n'])) {
            return Err(Made::bad_request());
        }
        let version = if self.protocol == Protocol::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut text = format!("{} {} {version}\r\n", self.method, self.target);
        for (name, value) in self.fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        let refused = |fault: h1::Fault| {
            let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_REQUEST);
            Made::refused(status, fault.words())
        };
        let (limits, mut lines) = (h1::Limits { head_bytes: HEAD, lines: head::MAX_LINES }, Vec::new());
        let line = match h1::parse_request(text.as_bytes(), &limits, &mut lines).map_err(refused)? {
            h1::Parsed::Complete { line, .. } => line,
            h1::Parsed::Partial => return Err(Made::bad_request()),
        };
        h1::request_framing(text.as_bytes(), &lines, &line).map_err(refused)?;
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| Made::bad_request())?;
        let headers = Headers::parsed(text.into_bytes(), &lines, Room::default());
        Ok(Parsed { protocol: self.protocol, method, target: self.target.to_owned(), headers })
    }
}

/// A request behind *head*.
pub struct Preview {
    /// What rules and middlewares see.
    pub exchange: Exchange,
    upgrade: Option<HeaderValue>,
    peer_text: String,
    rules: HeadRules,
}

impl Preview {
    /// Takes a request in as an entry point does. `trusted` tells whether what the peer says of
    /// those before it (`X-Forwarded-…`) is believed.
    ///
    /// # Errors
    /// The answer to a head that is not acceptable.
    pub fn arrive(
        sent: Sent<'_>,
        entry_point: &Arc<str>,
        peer: SocketAddr,
        tls: bool,
        trusted: bool,
        rules: &HeadRules,
    ) -> Result<Self, Made> {
        let peer_text = peer.ip().to_string();
        let arrival = Arrival { entry_point, peer, peer_text: &peer_text, tls, trusted, hostname: None, rules };
        let Checked { exchange, upgrade } = head::arrive(&arrival, sent.parse()?).map_err(|refused| refused.made)?;
        Ok(Self { exchange, upgrade, peer_text, rules: rules.clone() })
    }

    /// The request as rules see it.
    pub fn view(&self) -> impl RequestView + '_ {
        View::of(&self.exchange)
    }

    /// The fields that a server gets of a request without a body, but for `Host`.
    pub fn headers(&self) -> Headers {
        let mut exchange = Exchange {
            request: self.exchange.request.clone(),
            entry_point: self.exchange.entry_point.clone(),
            prefixes: self.exchange.prefixes.clone(),
            host: None,
            identity: self.exchange.identity.clone(),
            claimed_for: None,
            original: None,
            ..self.exchange
        };
        let peer = self.rules.append_forwarded_for.then_some(&*self.peer_text);
        hop::for_server(&mut exchange, peer, self.upgrade.as_ref(), false);
        exchange.request.headers
    }

    /// What the entry point says to the path of a request that a router takes.
    ///
    /// # Errors
    /// The answer to a path that has encoded characters which are refused.
    pub fn encoded(&self) -> Result<(), Made> {
        head::encoded(&self.exchange, &self.rules)
    }
}

/// A head as HTTP/2's codec has it. `room` and `text` are memory to be used again.
pub(super) fn parsed(parts: ::http::request::Parts, room: Room, mut text: String) -> Parsed {
    let protocol = match parts.version {
        ::http::Version::HTTP_2 => Protocol::Http2,
        ::http::Version::HTTP_11 => Protocol::Http11,
        _ => Protocol::Http10,
    };
    let mut headers = Headers::from_map(&parts.headers, room);
    text.clear();
    let target = match (protocol, parts.uri.path_and_query()) {
        (Protocol::Http2, Some(path)) => {
            head::with_authority(&mut headers, parts.uri.authority().map(|authority| authority.as_str()));
            text.push_str(path.as_str());
            text
        }
        _ => parts.uri.to_string(),
    };
    Parsed { protocol, method: parts.method, target, headers }
}
