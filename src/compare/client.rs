//! One of the two proxies, asked: over TCP, TLS or a Unix socket. Each answer has its time limit; its body is hashed as it
//! comes, up to a bound.

use super::link::{self, Link};
use super::request::{Request, Scheme};
use super::tls::{Tls, TlsError};
use crate::http::split_port;
use aws_lc_rs::digest::{self, Context};
use http::{HeaderMap, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{Instant as Time, timeout, timeout_at};

/// Where a proxy listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host and port, plain or encrypted.
    Tcp(Scheme, String, u16),
    /// A socket in the file system, plain; what came encrypted by its record has `X-Forwarded-Proto: https`.
    Unix(PathBuf),
}

impl Address {
    /// From `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let fits = path.starts_with('/') || !path.is_empty() && !path.contains("://");
            return if fits { Ok(Self::Unix(path.into())) } else { Err(format!("expected `unix:PATH`, got `{text}`")) };
        }
        let wrong = || format!("expected `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`, got `{text}`");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let scheme = Scheme::named(scheme).ok_or_else(wrong)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let illegal = |c: char| matches!(c, '/' | '?' | '#' | '@') || c.is_control() || c.is_whitespace();
        if authority.is_empty() || authority.contains(illegal) {
            return Err(wrong());
        }
        let (host, port) = split_port(authority);
        let port = port.map_or(Ok(scheme.port()), |port| port.parse().map_err(|_| wrong()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() { Err(wrong()) } else { Ok(Self::Tcp(scheme, host.to_owned(), port)) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(scheme, host, port) if host.contains(':') => write!(f, "{}://[{host}]:{port}", scheme.as_str()),
            Self::Tcp(scheme, host, port) => write!(f, "{}://{host}:{port}", scheme.as_str()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One of the two.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<Address>,
    tls: Option<Arc<rustls::ClientConfig>>,
    limit: Duration,
    max_body: u64,
}

impl Proxy {
    /// A proxy at these addresses, at least one; `limit` is for a whole answer, `max_body` the bytes that are hashed.
    ///
    /// # Errors
    /// TLS cannot be spoken.
    pub fn new(addresses: Vec<Address>, tls: &Tls, limit: Duration, max_body: u64) -> Result<Self, TlsError> {
        let wanted = addresses.iter().any(|address| matches!(address, Address::Tcp(Scheme::Https, ..)));
        let tls = wanted.then(|| tls.config()).transpose()?;
        Ok(Self { addresses, tls, limit, max_body })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The address for a scheme: the one of this scheme, else the only or first one.
    pub(super) fn address(&self, scheme: Option<Scheme>) -> Option<&Address> {
        let fits = |address: &&Address| matches!(address, Address::Tcp(of, ..) if Some(*of) == scheme);
        self.addresses.iter().find(fits).or_else(|| self.addresses.first())
    }

    /// Whether a request of this scheme is asked for over another one.
    pub fn changes(&self, scheme: Option<Scheme>) -> bool {
        matches!((self.address(scheme), scheme), (Some(Address::Tcp(of, ..)), Some(scheme)) if *of != scheme)
    }

    /// The port that it has for a scheme, which its own redirects may name.
    pub(super) fn port(&self, wanted: Scheme) -> Option<u16> {
        self.addresses.iter().find_map(|address| match address {
            Address::Tcp(scheme, _, port) if *scheme == wanted => Some(*port),
            _ => None,
        })
    }

    /// Whether every address takes connections; gives the first that does not.
    ///
    /// # Errors
    /// The address and why.
    pub async fn reach(&self) -> Result<(), (Address, NoAnswer)> {
        for address in &self.addresses {
            let dialled = timeout(self.limit, link::reach(address)).await;
            match dialled.unwrap_or_else(|_| Err(NoAnswer::new(Trouble::Connect, "timed out"))) {
                Ok(()) => {}
                Err(error) => return Err((address.clone(), error)),
            }
        }
        Ok(())
    }
}

/// What kind of trouble it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trouble {
    /// Nobody takes connections.
    Connect,
    /// The handshake failed.
    Tls,
    /// No answer in time.
    TimedOut,
    /// The connection ended before the answer's head.
    Closed,
    /// It is not HTTP.
    NotHttp,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoAnswer {
    /// The kind, which is compared.
    pub trouble: Trouble,
    /// In words.
    pub text: String,
}

impl NoAnswer {
    pub(super) fn new(trouble: Trouble, why: impl fmt::Display) -> Self {
        let text = match trouble {
            Trouble::Connect => format!("no connection: {why}"),
            Trouble::Tls => format!("no TLS: {why}"),
            Trouble::TimedOut => format!("no answer within {why}"),
            Trouble::Closed => format!("closed without an answer: {why}"),
            Trouble::NotHttp => format!("not HTTP: {why}"),
        };
        Self { trouble, text }
    }
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Whole.
    Whole,
    /// Longer than is hashed.
    Bound,
    /// Not at its end when the time was over.
    Unfinished,
    /// Broken off.
    Broken,
}

/// An answer: its head, and of its body what can be compared.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// What was spoken.
    pub version: Version,
    /// Fields.
    pub headers: HeaderMap,
    /// Bytes of the body, as far as it was read.
    pub length: u64,
    /// SHA-256 of these.
    pub hash: [u8; 32],
    /// How it ended.
    pub ending: Ending,
    /// From sending, on a connection that is open, to the end of the body.
    pub took: Duration,
}

/// One who asks; keeps one connection.
pub(super) struct Client<'a> {
    proxy: &'a Proxy,
    link: Option<Link>,
}

impl<'a> Client<'a> {
    pub(super) fn new(proxy: &'a Proxy) -> Self {
        Self { proxy, link: None }
    }

    /// Asks.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Answer, NoAnswer> {
        let end = Time::now() + self.proxy.limit;
        let Some(address) = self.proxy.address(request.scheme) else {
            return Err(NoAnswer::new(Trouble::Connect, "no address"));
        };
        let name = split_port(request.host_text()).0.to_ascii_lowercase();
        if let Some(mut link) = self.link.take().filter(|link| link.is_for(address, &name))
            && timeout_at(end, link.ready()).await.unwrap_or(false)
        {
            match self.exchange(link, request, end).await {
                // it may have been closed while nobody asked
                Err(error) if error.trouble == Trouble::Closed && request.is_safe() => {}
                other => return other,
            }
        }
        let timed_out = |_| Err(NoAnswer::new(Trouble::Connect, "timed out"));
        let opened = timeout_at(end, Link::open(address, name, self.proxy.tls.as_ref())).await;
        self.exchange(opened.unwrap_or_else(timed_out)?, request, end).await
    }

    async fn exchange(&mut self, mut link: Link, request: &Request, end: Time) -> Result<Answer, NoAnswer> {
        let began = Instant::now();
        let timed_out = || NoAnswer::new(Trouble::TimedOut, format_args!("{:?}", self.proxy.limit));
        let answer = timeout_at(end, link.send(request)).await.map_err(|_| timed_out())??;
        let (head, mut body) = answer.into_parts();
        let (length, hash, ending) = self.read(&mut body, end).await;
        drop(body);
        let took = began.elapsed();
        // what is left of a body would have to be read first
        if ending == Ending::Whole || link.outlives_answers() && ending != Ending::Broken {
            self.link = Some(link);
        }
        let (status, version) = (head.status.as_u16(), head.version);
        Ok(Answer { status, version, headers: head.headers, length, hash, ending, took })
    }

    async fn read(&self, body: &mut Incoming, end: Time) -> (u64, [u8; 32], Ending) {
        let mut hash = Context::new(&digest::SHA256);
        let mut length = 0;
        let ending = loop {
            let data = match timeout_at(end, body.frame()).await {
                Err(_) => break Ending::Unfinished,
                Ok(None) => break Ending::Whole,
                Ok(Some(Err(_))) => break Ending::Broken,
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            let room = usize::try_from(self.proxy.max_body - length).unwrap_or(usize::MAX);
            let part = data.get(..room).unwrap_or(&data);
            hash.update(part);
            length += u64::try_from(part.len()).unwrap_or(u64::MAX);
            if part.len() < data.len() {
                break Ending::Bound;
            }
        };
        let mut sum = [0; 32];
        sum.copy_from_slice(hash.finish().as_ref());
        (length, sum, ending)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::Trust;
    use super::*;

    fn tls() -> Tls {
        Tls { trust: Trust::Insecure, http2: true }
    }

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("https://proxy.test/", "https://proxy.test:443"),
            ("http://[::1]", "http://[::1]:80"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "127.0.0.1:80", "ftp://a", "http://", "http://a/b", "http://a:b", "http://u@a", "unix:"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_address_of_a_scheme() {
        let both = ["http://a:1", "https://a:2"].map(|text| Address::parse(text).unwrap()).to_vec();
        let two = Proxy::new(both.clone(), &tls(), Duration::from_secs(1), 1).unwrap();
        assert_eq!(two.address(Some(Scheme::Https)), both.get(1));
        assert_eq!(two.address(None), both.first());
        assert_eq!((two.changes(Some(Scheme::Http)), two.port(Scheme::Https)), (false, Some(2)));
        let one = Proxy::new(both[..1].to_vec(), &tls(), Duration::from_secs(1), 1).unwrap();
        assert!(one.changes(Some(Scheme::Https)) && !one.changes(None));
    }
}
