//! What would happen to a request: the stages of the proxy one after another, without a socket.

use crate::balance::{rendezvous, wrr::Schedule};
use crate::catalog::World;
use crate::diagnostic::Diagnostic;
use crate::http::{HeaderValue, Made, Reason, StatusCode, name, split_port};
use crate::middleware::{self, Redirection};
use crate::model::Provider;
use crate::proxy::Trust;
use crate::proxy::preview::Preview;
use crate::table::{self, Accepted, BuildOptions, Explanation, Service, Strategy, Table};
use crate::tags::{self, TagOptions};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// What a client sends.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Question {
    #[serde(default)]
    pub id: String,
    #[serde(default = "get")]
    pub method: String,
    pub target: String,
    #[serde(default)]
    pub proto: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    #[serde(default)]
    pub remote: String,
    #[serde(default)]
    pub scheme: String,
    #[serde(default)]
    pub repeat: Option<u32>,
}

fn get() -> String {
    "GET".to_owned()
}

/// What would happen.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Answer {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Arc<str>, u32>,
}

/// What a server would get.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Upstream {
    pub scheme: &'static str,
    pub addr: Arc<str>,
    pub request_uri: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
}

/// An answer and the way to it, for people.
pub(super) struct Told {
    pub answer: Answer,
    pub entry_point: Arc<str>,
    pub tls: bool,
    /// Host and path as rules see them.
    pub seen: (String, String),
    /// Nothing when the request got no further than its entry point.
    pub explanation: Option<Explanation>,
}

/// Where requests come in.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub name: Arc<str>,
    pub port: u16,
    pub redirect: Option<Redirection>,
    pub trust: Trust,
}

/// A proxy without sockets.
pub(super) struct Proxy {
    pub table: Arc<Table>,
    /// The same where ports that tags name answer TLS; a listener there is of either kind.
    secure: Option<Arc<Table>>,
    pub problems: Vec<Diagnostic>,
    pub world: World,
    doors: Vec<Door>,
    cursors: HashMap<Arc<str>, u32>,
}

/// The entry points where no static configuration is known: `web` and `websecure`, and one for each port
/// that a tag names.
fn default_doors() -> (Vec<Door>, Vec<table::EntryPoint>) {
    let door = |name: &str, port| Door { name: name.into(), port, redirect: None, trust: Trust::default() };
    let entry_point = |name: &str, tls| table::EntryPoint { name: name.into(), tls, as_default: false };
    (vec![door("web", 80), door("websecure", 443)], vec![entry_point("web", false), entry_point("websecure", true)])
}

impl Proxy {
    /// A proxy over a world; without a static configuration it has the default entry points.
    pub fn of_world(world: &World, options: BTreeMap<Provider, TagOptions>) -> Self {
        let (mut doors, mut entry_points) = default_doors();
        let ports: Vec<u16> = named_ports(world, &options);
        for port in &ports {
            let name = tags::port_entry_point(*port);
            entry_points.push(table::EntryPoint { name: name.clone(), tls: false, as_default: false });
            doors.push(Door { name, port: *port, redirect: None, trust: Trust::default() });
        }
        let mut build = BuildOptions { entry_points, primary: Provider::Nomad, internal: Default::default() };
        let mut proxy = Self::new(world, options.clone(), doors, &build);
        if !ports.is_empty() {
            build.entry_points.iter_mut().for_each(|e| e.tls |= e.name.starts_with("port-"));
            proxy.secure = Some(Self::new(world, options, Vec::new(), &build).table);
        }
        proxy
    }

    /// A proxy over a world with these entry points.
    pub fn new(world: &World, options: BTreeMap<Provider, TagOptions>, doors: Vec<Door>, build: &BuildOptions) -> Self {
        let decoded = tags::decode(world, &options);
        let built = table::build(&decoded.declarations, &Accepted::default(), build);
        let mut problems = decoded.diagnostics;
        problems.extend(built.diagnostics);
        Self { table: built.table, secure: None, problems, world: world.clone(), doors, cursors: HashMap::new() }
    }

    /// Where a request comes in: at the port that it names, else its scheme's; a port that nobody
    /// listens on is taken for one that is mapped to the scheme's.
    fn door(&self, question: &Question, tls: bool) -> &Door {
        let host = question.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let authority = question.target.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
        let authority = authority.or(host.map(|(_, host)| host.as_str())).unwrap_or_default();
        let named = split_port(authority).1.and_then(|port| port.parse::<u16>().ok());
        let of_scheme = if tls { 443 } else { 80 };
        let at = |port: u16| self.doors.iter().find(|door| door.port == port);
        let by_name = |name: &str| self.doors.iter().find(|door| *door.name == *name);
        named
            .and_then(at)
            .or_else(|| at(of_scheme))
            .or_else(|| by_name(if tls { "websecure" } else { "web" }))
            .unwrap_or(&self.doors[0])
    }

    /// What would happen to a request.
    pub fn ask(&mut self, question: &Question) -> Told {
        let tls = question.scheme.eq_ignore_ascii_case("https");
        let door = self.door(question, tls).clone();
        let mut told = Told {
            answer: Answer { id: question.id.clone(), ..Answer::default() },
            entry_point: door.name.clone(),
            tls,
            seen: Default::default(),
            explanation: None,
        };
        let peer = peer(&question.remote);
        let arrived = request(question)
            .ok_or_else(Made::bad_request)
            .and_then(|request| Preview::arrive(request, &door.name, peer, tls, door.trust.believes(peer.ip())));
        let mut preview = match arrived {
            Ok(preview) => preview,
            Err(made) => {
                told.answer.end(&made);
                return told;
            }
        };
        if let Some(made) = door.redirect.as_ref().and_then(|redirect| redirect.answer(&preview.exchange)) {
            told.answer.end(&made);
            return told;
        }
        let explanation = {
            let view = preview.view();
            told.seen = (table::RequestView::host(&view).to_owned(), table::RequestView::path(&view).to_owned());
            self.secure.as_ref().filter(|_| tls).unwrap_or(&self.table).explain(&door.name, tls, &view)
        };
        let taken = explanation.taken.clone();
        told.explanation = Some(explanation);
        let Some(router) = taken else {
            told.answer.end(&Made::not_found(Reason::NoRoute));
            return told;
        };
        told.answer.router = Some(router.id.clone());
        told.answer.service = Some(router.service.id.clone());
        if let Some(made) = middleware::enter(&router.middlewares, &mut preview.exchange) {
            told.answer.end(&made);
            return told;
        }
        self.send(&router.service, &preview, question.repeat, &mut told.answer);
        told
    }

    /// *Choose*, and what the server would get.
    fn send(&mut self, service: &Service, preview: &Preview, repeat: Option<u32>, answer: &mut Answer) {
        let cursor = self.cursors.entry(service.id.clone()).or_default();
        for _ in 0..repeat.unwrap_or(1).max(1) {
            let Some(at) = choose(service, preview.exchange.peer.ip(), cursor) else {
                answer.outcome = "no_server";
                answer.status = Some(StatusCode::SERVICE_UNAVAILABLE.as_u16());
                return;
            };
            let server = &service.servers[at];
            if repeat.is_some() {
                *answer.counts.entry(server.authority.clone()).or_default() += 1;
            }
            if answer.upstream.is_some() {
                continue;
            }
            let own = HeaderValue::from_str(&server.authority).unwrap_or(HeaderValue::from_static(""));
            let host = preview.exchange.host_for(service.pass_host_header, &own);
            let headers = preview.headers(host.clone());
            let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let shown = headers.iter().filter(|(name, _)| **name != name::HOST);
            answer.outcome = "proxied";
            answer.upstream = Some(Upstream {
                scheme: if server.tls { "https" } else { "http" },
                addr: server.authority.clone(),
                request_uri: preview.exchange.request.request_uri().into_owned(),
                host: text(host),
                headers: shown.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            });
        }
    }
}

impl Answer {
    /// The proxy itself answers.
    fn end(&mut self, made: &Made) {
        let status = made.head.status;
        self.location = made.head.headers.text(&name::LOCATION).map(str::to_owned);
        self.outcome = match (status, made.reason) {
            (status, _) if status.is_redirection() => "redirect",
            (StatusCode::UNAUTHORIZED, _) => "unauthorized",
            (StatusCode::FORBIDDEN, _) => "denied",
            (_, Reason::NoRoute) => "no_route",
            (status, _) if status.is_client_error() => "bad_request",
            _ => "no_server",
        };
        self.status = Some(status.as_u16());
    }
}

/// The server of the next turn: what the proxy chooses while every server can be reached.
fn choose(service: &Service, client: IpAddr, cursor: &mut u32) -> Option<usize> {
    let any = || (!service.servers.is_empty()).then_some(0);
    match service.strategy {
        Strategy::Wrr => {
            let weights: Vec<u32> = service.servers.iter().map(|server| server.weight).collect();
            let next = || {
                let now = *cursor;
                *cursor = cursor.wrapping_add(1);
                now
            };
            Schedule::new(&weights).pick(next, |_| true).or_else(any)
        }
        Strategy::IpHash => {
            let fingerprints = service.servers.iter().map(|server| rendezvous::fingerprint(&server.id.url));
            rendezvous::pick(rendezvous::client(client), fingerprints, |_| true)
        }
    }
}

/// The request as a codec would hand it on; `None` for what no codec takes.
fn request(question: &Question) -> Option<::http::Request<()>> {
    let version = match question.proto.as_str() {
        "HTTP/1.0" => ::http::Version::HTTP_10,
        "HTTP/2" | "HTTP/2.0" => ::http::Version::HTTP_2,
        _ => ::http::Version::HTTP_11,
    };
    let mut request =
        ::http::Request::builder().method(question.method.as_str()).uri(question.target.as_str()).version(version);
    for (name, value) in &question.headers {
        request = request.header(name.as_str(), value.trim_matches([' ', '\t']));
    }
    request.body(()).ok()
}

/// `IP:PORT`, or an address alone.
pub(super) fn peer(text: &str) -> SocketAddr {
    let bare = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 1));
    text.parse().ok().or_else(bare).unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1))
}

/// The ports that tags name and that stand for entry points of their own.
fn named_ports(world: &World, options: &BTreeMap<Provider, TagOptions>) -> Vec<u16> {
    let decoded = tags::decode(world, options);
    let routers = decoded.declarations.values().flat_map(|dynamic| dynamic.http.routers.values());
    let mut ports: Vec<u16> = routers
        .flat_map(|router| &router.entry_points)
        .filter_map(|name| name.strip_prefix("port-").and_then(|port| port.parse().ok()))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
