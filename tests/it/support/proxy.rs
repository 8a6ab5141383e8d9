//! The whole proxy in this process, on ports of the kernel's, beside an embedded catalog.

use super::client::{self, Answer};
use super::eventually;
use rust_lb::config::{self, Input};
use rust_lb::embedded::{self, Embedded};
use rust_lb::runtime::{self, Options, Running};
use std::net::SocketAddr;
use std::sync::Arc;

/// A running proxy with its catalogs and a folder of its own.
pub struct Proxy {
    pub running: Running,
    pub catalog: Arc<Catalog>,
    /// State, certificates and access log; kept until the last proxy over it is gone.
    _dir: Arc<tempfile::TempDir>,
}

/// The embedded catalog on a thread of its own; outlives proxies that are restarted over it.
pub struct Catalog {
    pub embedded: Embedded,
    pub runtime: tokio::runtime::Runtime,
}

impl Catalog {
    pub fn start() -> Arc<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for the catalog");
        let guard = runtime.enter();
        let embedded = embedded::start(&embedded::Options::default()).expect("the embedded catalog");
        drop(guard);
        Arc::new(Self { embedded, runtime })
    }

    /// Both agents end as by SIGKILL; their state stays.
    pub fn stop(&self) {
        self.runtime.block_on(async {
            self.embedded.consul().stop().await;
            self.embedded.nomad().stop().await;
        });
    }

    /// Both agents start again at their ports.
    pub fn resume(&self) {
        let _guard = self.runtime.enter();
        self.embedded.consul().start_again().expect("Consul's port");
        self.embedded.nomad().start_again().expect("Nomad's port");
    }

    /// Both agents start over without any state.
    pub fn wipe(&self) {
        self.runtime.block_on(async {
            self.embedded.consul().wipe().await.expect("Consul's port");
            self.embedded.nomad().wipe().await.expect("Nomad's port");
        });
    }

    pub fn nomad(&self) -> SocketAddr {
        self.embedded.nomad_addr().expect("nomad is on")
    }

    pub fn consul(&self) -> SocketAddr {
        self.embedded.consul_addr().expect("consul is on")
    }

    /// `PUT /v1/agent/service/register`, as curl would.
    pub fn register(&self, id: &str, name: &str, addr: SocketAddr, tags: &[&str]) {
        let body = serde_json::json!({
            "ID": id, "Name": name, "Address": addr.ip().to_string(), "Port": addr.port(), "Tags": tags,
        });
        let answer = client::send(self.consul(), "PUT", "c", "/v1/agent/service/register", "", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn deregister(&self, id: &str) {
        let answer = client::send(self.consul(), "PUT", "c", &format!("/v1/agent/service/deregister/{id}"), "", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The extension `PUT /v1/service/NAME` of the embedded Nomad.
    pub fn register_nomad(&self, id: &str, name: &str, addr: SocketAddr, tags: &[&str]) {
        let body = serde_json::json!({
            "ID": id, "ServiceName": name, "Namespace": "default", "Address": addr.ip().to_string(), "Port": addr.port(), "Tags": tags,
        });
        let answer = client::send(self.nomad(), "PUT", "n", &format!("/v1/service/{name}"), "", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn deregister_nomad(&self, name: &str, id: &str) {
        let answer = client::send(self.nomad(), "DELETE", "n", &format!("/v1/service/{name}/{id}"), "", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

impl Proxy {
    /// Starts beside a fresh catalog; `flags` are static configuration flags.
    pub fn start(flags: &[&str]) -> Self {
        Self::over(Catalog::start(), Arc::new(tempfile::tempdir().expect("a folder")), flags)
    }

    /// Starts over a catalog and a state folder that are there already.
    pub fn over(catalog: Arc<Catalog>, dir: Arc<tempfile::TempDir>, flags: &[&str]) -> Self {
        let mut args = vec![
            "--entryPoints.web.address=127.0.0.1:0".to_owned(),
            "--entryPoints.websecure.address=127.0.0.1:0".to_owned(),
            "--entryPoints.websecure.http.tls=true".to_owned(),
            "--entryPoints.traefik.address=127.0.0.1:0".to_owned(),
            format!("--providers.nomad.endpoint.address=http://{}", catalog.nomad()),
            format!("--providers.consulCatalog.endpoint.address=http://{}", catalog.consul()),
            "--providers.nomad.exposedByDefault=false".to_owned(),
            "--providers.consulCatalog.exposedByDefault=false".to_owned(),
            format!("--rustLb.stateDir={}", dir.path().join("state").display()),
            format!("--rustLb.certificates.directory={}", dir.path().join("certs").display()),
            "--workers=2".to_owned(),
            format!("--accessLog.filePath={}", dir.path().join("access.log").display()),
        ];
        args.extend(flags.iter().map(|f| (*f).to_owned()));
        let loaded = config::load(&Input { args, ..Input::default() }).unwrap_or_else(|problems| {
            panic!("configuration refused: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        });
        let options = Options::default();
        let running = runtime::start(loaded, options).expect("the proxy starts");
        Self { running, catalog, _dir: dir }
    }

    pub fn entry_point(&self, name: &str) -> SocketAddr {
        self.running.bound()[name][0]
    }

    pub fn web(&self) -> SocketAddr {
        self.entry_point("web")
    }

    pub fn get(&self, host: &str, target: &str) -> Answer {
        client::get(self.web(), host, target)
    }

    pub fn admin(&self, path: &str) -> Answer {
        client::get(self.entry_point("traefik"), "127.0.0.1", path)
    }

    /// Waits until the host answers with this status, and gives the answer.
    pub fn wait_for(&self, host: &str, target: &str, status: u16) -> Answer {
        eventually(&format!("{host}{target} answers {status}"), || {
            let answer = self.get(host, target);
            (answer.status == status).then_some(answer)
        })
    }
}
