//! What a worker is told at its start. Plain values: where they come from is `config`'s affair.

use super::certify::Certification;
use super::crew::Crew;
use crate::http::HeaderValue;
use crate::http::target::{EncodedCharacters, TargetOptions};
use crate::middleware::{Redirection, UserFiles};
use crate::upstream;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Gives what a handshake that begins now goes by, for the entry point and the name that the client asks for; `None`
/// where it is to be refused. Called for each handshake: it must not wait.
pub type TlsSource = Arc<dyn Fn(&str, Option<&str>) -> Option<TlsChoice> + Send + Sync>;

/// Gives what handshakes with TLS options of a name go by: those that TCP routers ask for.
#[derive(Clone, Default)]
pub struct TlsByName(Option<Arc<ByName>>);

type ByName = dyn Fn(&str) -> Option<TlsChoice> + Send + Sync;

impl TlsByName {
    /// Options as the function knows them; it must not wait.
    pub fn new(by_name: impl Fn(&str) -> Option<TlsChoice> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(by_name)))
    }

    /// The options of a name; `None` where handshakes are to be refused.
    pub fn get(&self, name: &str) -> Option<TlsChoice> {
        self.0.as_ref().and_then(|by_name| by_name(name))
    }
}

impl fmt::Debug for TlsByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsByName").finish_non_exhaustive()
    }
}

/// What a handshake goes by.
#[derive(Debug, Clone)]
pub struct TlsChoice {
    /// The configuration. Its ALPN protocols decide what is spoken: `h2`, else HTTP/1.1.
    pub config: Arc<rustls::ServerConfig>,
    /// The name of its options; requests of routers that need others are refused on the connection.
    pub options: Arc<str>,
}

/// Settings of an entry point, the same for all workers.
#[derive(Debug, Clone)]
pub struct EntryPoint {
    /// Name.
    pub name: Arc<str>,
    /// Every request is redirected.
    pub redirect: Option<Redirection>,
    /// Which requests belong on an encrypted entry point; asked of plain connections only.
    pub to_tls: Option<ToTls>,
    /// What is said with a 404 to requests over TLS that no router takes; Traefik's words without it.
    pub not_found: Option<&'static str>,
    /// Whose `X-Forwarded-*` are believed.
    pub trust: Trust,
    /// From the first byte of a request's head to its end; until the first byte and the end of a TLS
    /// handshake on a fresh connection; and between two reads of a body. Zero means none.
    pub read_timeout: Duration,
    /// Between two writes that make progress. Zero means none.
    pub write_timeout: Duration,
    /// A connection without a request. Zero means none.
    pub idle_timeout: Duration,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// What is made of a request's head.
    pub head: HeadRules,
    /// Requests that one connection may carry; zero means any number.
    pub keep_alive_max_requests: u64,
    /// Age from which a connection carries no further request; zero means any.
    pub keep_alive_max_time: Duration,
    /// Whose PROXY protocol headers are read; `None` means that nobody sends them.
    pub proxy_protocol: Option<Trust>,
    /// Connections open at once, of all workers.
    pub max_connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Connections open now, of all workers; clones of one entry point count in one place.
    pub open: Arc<AtomicUsize>,
    /// The workers that accept for it; clones of one entry point share connections.
    pub crew: Arc<Crew>,
}

impl EntryPoint {
    /// The defaults (Traefik's, and 10,000 connections).
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            redirect: None,
            to_tls: None,
            not_found: None,
            trust: Trust::default(),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::ZERO,
            idle_timeout: Duration::from_secs(180),
            max_header_bytes: 1 << 20,
            head: HeadRules::default(),
            keep_alive_max_requests: 0,
            keep_alive_max_time: Duration::ZERO,
            proxy_protocol: None,
            max_connections: 10_000,
            max_concurrent_streams: 250,
            open: Arc::default(),
            crew: Arc::default(),
        }
    }

    /// Whether a request is the last one of its connection: the connection has had so many, this one
    /// included, and is so old (`transport.keepAliveMaxRequests`, `keepAliveMaxTime`).
    pub fn is_last(&self, requests: u64, age: Duration) -> bool {
        let enough = self.keep_alive_max_requests > 0 && requests >= self.keep_alive_max_requests;
        enough || (!self.keep_alive_max_time.is_zero() && age > self.keep_alive_max_time)
    }
}

/// What an entry point makes of the heads of requests
/// (<https://doc.traefik.io/traefik/reference/install-configuration/entrypoints/>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRules {
    /// What becomes of path and query.
    pub target: TargetOptions,
    /// `http.encodedCharacters`; asked of requests that a router takes.
    pub encoded_characters: EncodedCharacters,
    /// `http.underscoreHeadersStrategy`.
    pub underscores: Underscores,
    /// `forwardedHeaders.connection`, in lower case: fields that a `Connection` field names and that are taken off
    /// behind the middlewares only.
    pub kept_connection: Vec<String>,
    /// The peer's address is added to `X-Forwarded-For`; false for `forwardedHeaders.notAppendXForwardedFor`.
    pub append_forwarded_for: bool,
    /// `forwardedHeaders.addXForwardedSchemeHeaders`: `X-Forwarded-Scheme` and `X-Scheme` are said, too.
    pub scheme_headers: bool,
}

impl Default for HeadRules {
    fn default() -> Self {
        Self {
            target: TargetOptions::default(),
            encoded_characters: EncodedCharacters::default(),
            underscores: Underscores::default(),
            kept_connection: Vec::new(),
            append_forwarded_for: true,
            scheme_headers: false,
        }
    }
}

/// What becomes of fields with `_` in their names: many servers take them for those with `-`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Underscores {
    /// They go on.
    #[default]
    Keep,
    /// They are taken off.
    Delete,
    /// The request is answered with 400.
    Reject,
}

/// HinD's plain entry point: hosts that no router knows are sent to the encrypted one, and so are those that have a
/// certificate of somebody else's making. A host without one is served here, where the client gets no warning.
#[derive(Clone)]
pub struct ToTls {
    /// Where to.
    pub redirection: Redirection,
    /// Whether a valid certificate that is not self-made names the host. Called for requests: it must not wait.
    pub certified: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl fmt::Debug for ToTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToTls").field("redirection", &self.redirection).finish_non_exhaustive()
    }
}

/// Whose `X-Forwarded-*` are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Everybody's.
    pub everybody: bool,
    /// Those of peers in these networks.
    pub networks: Vec<IpNet>,
}

impl Trust {
    /// Whether a peer is believed.
    pub fn believes(&self, peer: IpAddr) -> bool {
        self.everybody || self.networks.iter().any(|network| network.contains(&peer))
    }
}

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Towards servers.
    pub upstream: upstream::Transports,
    /// How long a request waits for a server to appear. Zero means not at all.
    pub linger_wait: Duration,
    /// Requests that may wait at once, of one worker.
    pub max_waiting: usize,
    /// Add security headers where the server did not set them.
    pub security_headers: bool,
    /// `X-Forwarded-Server`: this machine's name.
    pub hostname: Option<HeaderValue>,
    /// Peers that may ask why their requests fail (`rustLb.errors.reveal`); `None` means nobody.
    pub reveal: Option<Arc<[IpNet]>>,
    /// Peers that may use routes other than the built-in ones, by their TCP address; `None` means all.
    pub services_allow: Option<Arc<[IpNet]>>,
    /// What the files of users hold.
    pub user_files: UserFiles,
    /// Who orders certificates.
    pub certification: Certification,
    /// TLS options by name, for TCP routers.
    pub tls_options: TlsByName,
    /// A switched connection (WebSocket, or one of a TCP router) on which nothing moves in either direction. Zero means none.
    pub tunnel_idle: Duration,
    /// How long a server that is new comes to its share; zero means at once.
    pub slow_start: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            upstream: upstream::Settings::default().into(),
            linger_wait: Duration::from_secs(5),
            max_waiting: 1_000,
            security_headers: false,
            hostname: None,
            reveal: None,
            services_allow: None,
            user_files: UserFiles::default(),
            certification: Certification::default(),
            tls_options: TlsByName::default(),
            tunnel_idle: Duration::ZERO,
            slow_start: Duration::ZERO,
        }
    }
}
