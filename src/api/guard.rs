//! Who may ask what. On loopback a web page that the user has open must not reach the API under a
//! name of its own (DNS rebinding), hence `Host` and `Origin` are looked at; other addresses serve
//! next to nothing; writes need a token.

use crate::model::split_port;
use http::{HeaderMap, header};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Larger token files are not read.
const TOKEN_LIMIT: u64 = 4_096;

/// Both ends of a client's connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// The client is a process of the same user, or of root, on a Unix socket.
    pub(super) same_user: bool,
}

impl Ends {
    /// Whether the client is on this machine and came to a loopback address.
    pub(super) fn loopback(self) -> bool {
        [self.local, self.peer].iter().all(|end| end.ip().to_canonical().is_loopback())
    }
}

/// Whether a request is for the admin API where it shares a socket with the routes: for this machine by name (not for a
/// name below `localhost`, which services have), and one of the API's paths.
pub fn is_own(authority: &str, target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let paths = ["/api/", "/dashboard/"];
    let admin = ["/ping", "/health", "/ready", "/metrics"].contains(&path) || paths.iter().any(|p| path.starts_with(p));
    let name = split_port(authority).0;
    admin && (name.is_empty() || own_name(authority)) && !name.to_ascii_lowercase().ends_with(".localhost")
}

/// Why a request is refused: a status and what to say.
pub(super) type Refusal = (http::StatusCode, String);

/// A name that no stranger can point here: `localhost`, one below it, any address as such, or a single label
/// (`traefik:8080`), which is only looked up where the client is.
fn own_name(authority: &str) -> bool {
    let (host, port) = split_port(authority);
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || is_label(&name) || bare.parse::<IpAddr>().is_ok()
}

fn is_label(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}

/// Checks `Host` (on loopback) and `Origin` (everywhere).
pub(super) fn browser(headers: &HeaderMap, loopback: bool) -> Result<(), Refusal> {
    let bad = |what: &str| (http::StatusCode::BAD_REQUEST, format!("more than one or a malformed `{what}` header"));
    let host = one(headers, &header::HOST).map_err(|()| bad("Host"))?;
    if let Some(host) = host
        && loopback
        && !own_name(host)
    {
        let message = format!("`{host}` is not a name of this machine; ask for `localhost` or an address");
        return Err((http::StatusCode::FORBIDDEN, message));
    }
    let Some(origin) = one(headers, &header::ORIGIN).map_err(|()| bad("Origin"))? else { return Ok(()) };
    let same = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
    if same {
        return Ok(());
    }
    Err((http::StatusCode::FORBIDDEN, format!("requests from pages of `{origin}` are not answered")))
}

/// Compares without telling by its time how much agrees.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0u8, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && differing == 0
}

/// Checks the token of a write. The file is read each time, so that it may be replaced. Who is known to be of the same
/// user needs none.
pub(super) async fn token(headers: &HeaderMap, file: Option<&Path>, ends: Ends) -> Result<(), Refusal> {
    if ends.same_user {
        return Ok(());
    }
    use http::StatusCode;
    use tokio::io::AsyncReadExt;
    let off = || (StatusCode::FORBIDDEN, "writes are switched off: set `rustLb.api.tokenFile`".to_owned());
    let file = file.ok_or_else(off)?;
    let bearer = one(headers, &header::AUTHORIZATION).ok().flatten().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(given) = bearer else {
        return Err((StatusCode::UNAUTHORIZED, "a bearer token is needed".to_owned()));
    };
    let mut wanted = String::new();
    let read = async { tokio::fs::File::open(file).await?.take(TOKEN_LIMIT).read_to_string(&mut wanted).await };
    if let Err(error) = read.await {
        tracing::error!(file = %file.display(), %error, "the token for writes cannot be read");
        return Err((StatusCode::FORBIDDEN, "the token file cannot be read".to_owned()));
    }
    let wanted = wanted.trim();
    if wanted.is_empty() {
        return Err((StatusCode::FORBIDDEN, "the token file is empty".to_owned()));
    }
    if !same(given.as_bytes(), wanted.as_bytes()) {
        return Err((StatusCode::FORBIDDEN, "the token is not the right one".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost",
            "localhost.",
            "127.0.0.1:1",
            "[::1]:8080",
            "10.0.0.1",
            "lb",
            "my-lb_1:8080",
        ] {
            assert!(own_name(own), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "localhost:x",
            "[::1",
            "evil%2Eexample",
        ] {
            assert!(!own_name(other), "{other}");
        }
    }

    #[test]
    fn loopback_is_what_both_ends_say() {
        let ends = |local: &str, peer: &str| Ends {
            local: local.parse().unwrap(),
            peer: peer.parse().unwrap(),
            same_user: false,
        };
        assert!(ends("127.0.0.1:1", "127.0.0.1:2").loopback());
        assert!(ends("[::ffff:127.0.0.1]:1", "[::1]:2").loopback());
        assert!(!ends("10.0.0.1:1", "10.0.0.1:2").loopback());
        assert!(!ends("127.0.0.1:1", "10.0.0.1:2").loopback());
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same(b"abc", b"abc"));
        for (a, b) in [("abc", "abd"), ("abc", "ab"), ("", "a")] {
            assert!(!same(a.as_bytes(), b.as_bytes()));
        }
    }
}
