//! A state like the one that Traefik was recorded with, made by hand.

use futures_util::future::BoxFuture;
use rust_lb::api::{Change, Connections, Readiness, Refused, Routing, ServerConnections, Source};
use rust_lb::catalog::{SourceState, SourceStatus};
use rust_lb::certs::Certificate;
use rust_lb::config::{BindAddress, Bound, EntryPoint, HeadRules, LifeCycle, Redirection, RespondingTimeouts, Trusted};
use rust_lb::declare::{self, MiddlewareKind, NotServed};
use rust_lb::diagnostic::Diagnostic;
use rust_lb::explain;
use rust_lb::model::{Provider, ServerId};
use rust_lb::observe::metrics::{self, Facts, Metrics, OpenConnections};
use rust_lb::table;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// See the module.
pub struct Fake {
    pub metrics: Metrics,
    pub readiness: Mutex<Readiness>,
    pub statuses: Mutex<Vec<SourceStatus>>,
    pub metrics_on: AtomicBool,
}

fn connected() -> SourceStatus {
    let mut status = SourceStatus::starting(Provider::Nomad, "http://127.0.0.1:4646");
    status.state = SourceState::Connected;
    status.last_contact = Some(UNIX_EPOCH + Duration::from_secs(1_795_214_150));
    status.last_change = status.last_contact;
    status.index = 42;
    status.services_seen = 3;
    status
}

impl Fake {
    pub fn new() -> Self {
        Self {
            metrics: Metrics::new(metrics::Options::default()),
            readiness: Mutex::new(Readiness { listeners_bound: true, ..Readiness::default() }),
            statuses: Mutex::new(vec![connected()]),
            metrics_on: AtomicBool::new(true),
        }
    }
}

fn web_service(urls: &[&str]) -> Arc<table::Service> {
    let server = |url: &&str| {
        let id = ServerId { service: "web@nomad".into(), url: (*url).into() };
        let (host, port) = (Arc::from("127.0.0.1"), 8001);
        Arc::new(table::Server {
            id,
            tls: false,
            h2c: false,
            host,
            port,
            authority: "127.0.0.1:8001".into(),
            weight: 1,
            base: None,
        })
    };
    Arc::new(table::Service {
        id: "web@nomad".into(),
        servers: urls.iter().map(server).collect(),
        strategy: table::Strategy::Wrr,
        pass_host_header: true,
        transport: None,
        health: None,
        passive: None,
        limit: None,
        sticky: None,
        composite: None,
    })
}

/// Servers of which nothing is known.
struct Unknown;

impl explain::Servers for Unknown {
    fn state(&self, _: &ServerId) -> explain::State {
        explain::State::default()
    }

    fn turn(&self, _: &Arc<str>) -> u32 {
        0
    }
}

impl Source for Fake {
    fn scene(&self) -> (explain::Scene, Box<dyn explain::Servers>) {
        let scene = explain::Scene {
            table: Arc::default(),
            secure: None,
            doors: vec![explain::Door::new("web".into(), 80, false)],
            problems: self.problems(),
            refused: Vec::new(),
            world: Default::default(),
            options: Default::default(),
            primary: Provider::Nomad,
            catalogs: Vec::new(),
            admission: Default::default(),
        };
        (scene, Box::new(Unknown))
    }

    fn routing(&self) -> Routing {
        let strip = Arc::new(table::Middleware {
            id: "strip@nomad".into(),
            kind: MiddlewareKind::StripPrefix { prefixes: vec!["/app".into()] },
            ready: table::Ready::Nothing,
        });
        let users = [("users".into(), "admin:$apr1$hash".into())].into_iter().collect();
        let auth = NotServed { kind: "basicAuth".into(), options: users };
        let auth = MiddlewareKind::NotServed(auth);
        let auth = Arc::new(table::Middleware { id: "auth@file".into(), kind: auth, ready: table::Ready::Nothing });
        let service = web_service(&["http://127.0.0.1:8001", "http://127.0.0.1:8002"]);
        let router = table::Router {
            chains: Vec::new(),
            tls_options: Vec::new(),
            id: "web@nomad".into(),
            provider: Provider::Nomad,
            entry_points: vec!["web".into()],
            rule: "Host(`web.example.org`)".into(),
            priority: 23,
            tls: false,
            answers: false,
            retries: false,
            middlewares: vec![strip.clone()],
            service: service.clone(),
            declared: Arc::new(declare::Router {
                entry_points: vec!["web".into()],
                middlewares: vec!["strip@nomad".into()],
                service: "web".into(),
                rule: "Host(`web.example.org`)".into(),
                ..declare::Router::default()
            }),
        };
        let bad = Refused {
            id: "bad@nomad".into(),
            provider: Provider::Nomad,
            router: Arc::new(declare::Router {
                service: "bad".into(),
                rule: "Host(`bad.example.org`".into(),
                ..declare::Router::default()
            }),
            errors: vec!["expected `)`".to_owned()],
        };
        let mut secret = (*web_service(&["http://user:hunter2@10.0.0.1:80"])).clone();
        secret.id = "secret@file".into();
        Routing {
            routers: vec![Arc::new(router)],
            services: vec![service, Arc::new(secret)],
            middlewares: vec![strip, auth],
            refused: vec![bad],
            ..Routing::default()
        }
    }

    fn statuses(&self) -> Vec<SourceStatus> {
        self.statuses.lock().unwrap().clone()
    }

    fn problems(&self) -> Vec<Diagnostic> {
        vec![Diagnostic::error("bad_rule", "expected `)`")]
    }

    fn history(&self) -> Vec<Change> {
        vec![Change {
            at: UNIX_EPOCH,
            provider: Some(Provider::Nomad),
            services: vec!["web".into()],
            causes: Vec::new(),
            added: vec!["web@nomad".into()],
            changed: Vec::new(),
            removed: Vec::new(),
        }]
    }

    fn entry_points(&self) -> Vec<EntryPoint> {
        let of = |name: &str, tls| EntryPoint {
            name: name.into(),
            address: BindAddress { host: "127.0.0.1".to_owned(), port: 80 },
            tls,
            as_default: true,
            redirect: tls.then(|| Redirection { to: "x".into(), scheme: "https".into(), permanent: true, priority: 1 }),
            forwarded_headers: Trusted::default(),
            allow_acme_bypass: false,
            middlewares: Vec::new(),
            tls_options: Default::default(),
            cert_resolver: Arc::default(),
            cert_domains: Vec::new(),
            head: HeadRules::default(),
            proxy_protocol: None,
            keep_alive_max_requests: 0,
            keep_alive_max_time: Duration::ZERO,
            timeouts: RespondingTimeouts {
                read: Duration::from_secs(60),
                write: Duration::ZERO,
                idle: Duration::from_secs(180),
            },
            lifecycle: LifeCycle { request_accept_grace: Duration::ZERO, grace: Duration::from_secs(10) },
            max_header_bytes: 1 << 20,
            max_connections: 10_000,
            max_concurrent_streams: 250,
        };
        vec![of("web", false), of("websecure", true)]
    }

    fn bound(&self) -> Bound {
        [("web".into(), vec![SocketAddr::from(([127, 0, 0, 1], 40_001))])].into_iter().collect()
    }

    fn certificates(&self) -> Vec<Certificate> {
        vec![Certificate {
            names: vec!["a.test".into()],
            common_name: "a.test".to_owned(),
            issuer: "CN=x".to_owned(),
            serial: "1".to_owned(),
            not_before: Some(UNIX_EPOCH),
            not_after: Some(UNIX_EPOCH),
            file: PathBuf::from("/CERTS/a.crt"),
            local: false,
            problem: Some("expired".to_owned()),
            ..Certificate::default()
        }]
    }

    fn readiness(&self) -> Readiness {
        *self.readiness.lock().unwrap()
    }

    fn server_up(&self, id: &ServerId) -> bool {
        &*id.url != "http://127.0.0.1:8002"
    }

    fn connections(&self) -> BoxFuture<'_, Connections> {
        Box::pin(async {
            Connections {
                entry_points: vec![OpenConnections { entry_point: "web".into(), protocol: "TCP", open: 2 }],
                routers: vec![("web@nomad".into(), 1)],
                servers: vec![ServerConnections {
                    service: "secret@file".into(),
                    url: "http://user:hunter2@10.0.0.1:80".into(),
                    in_flight: 1,
                }],
            }
        })
    }

    fn metrics_text(&self, admin: usize) -> BoxFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            if !self.metrics_on.load(Ordering::Relaxed) {
                return None;
            }
            let facts = Facts { connections: vec![("traefik".into(), admin as i64)], ..Facts::default() };
            Some(self.metrics.text(&facts, Instant::now(), SystemTime::now()).await)
        })
    }

    fn forget(&self) -> usize {
        3
    }
}
