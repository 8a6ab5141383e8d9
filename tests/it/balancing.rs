//! Balancing: which server gets a request, over real sockets, by what files and tags say.

mod limits;
mod mirrored_bodies;
mod mirrors;
mod services;
mod sticky;
mod strategies;

use super::support::client::{self, Answer};
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::server::Server;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

/// A proxy over a file of dynamic configuration: a router for `NAME.test` for each service.
struct Rig {
    proxy: Proxy,
    file: PathBuf,
    _kept: tempfile::TempDir,
}

impl Rig {
    fn start(services: &[(&str, String)], flags: &[&str]) -> Self {
        let kept = tempfile::tempdir().expect("a folder");
        let file = kept.path().join("services.yaml");
        fs::write(&file, yaml(services)).expect("a file");
        let provider = format!("--providers.file.filename={}", file.display());
        let flags: Vec<&str> =
            [provider.as_str(), "--rustLb.linger.wait=0s"].into_iter().chain(flags.iter().copied()).collect();
        Self { proxy: Proxy::start(&flags), file, _kept: kept }
    }

    /// Other services from now on.
    fn replace(&self, services: &[(&str, String)]) {
        let beside = self.file.with_extension("new");
        fs::write(&beside, yaml(services)).expect("a file");
        fs::rename(&beside, &self.file).expect("a rename");
    }

    fn get(&self, service: &str) -> Answer {
        self.proxy.get(&format!("{service}.test"), "/")
    }

    /// With further fields.
    fn ask(&self, service: &str, fields: &str) -> Answer {
        client::send(self.proxy.web(), "GET", &format!("{service}.test"), "/", fields, "")
    }

    /// Who answered so many requests.
    fn shares(&self, service: &str, requests: usize) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..requests {
            let answer = self.get(service);
            assert_eq!(answer.status, 200, "{}", answer.text());
            *shares.entry(who(&answer)).or_default() += 1;
        }
        shares
    }

    fn problems(&self) -> String {
        self.proxy.admin("/api/problems").text()
    }

    fn service(&self, name: &str) -> serde_json::Value {
        self.proxy.admin(&format!("/api/http/services/{name}@file")).json()
    }
}

fn yaml(services: &[(&str, String)]) -> String {
    let mut text = "http:\n  routers:\n".to_owned();
    for (name, _) in services {
        text.push_str(&format!("    {name}: {{rule: 'Host(`{name}.test`)', service: {name}}}\n"));
    }
    text.push_str("  services:\n");
    for (name, service) in services {
        text.push_str(&format!("    {name}: {service}\n"));
    }
    text
}

/// A load balancer in YAML's flow style; `more` are further options.
fn servers(addresses: &[SocketAddr], more: &str) -> String {
    let servers: Vec<String> = addresses.iter().map(|addr| format!("{{url: 'http://{addr}'}}")).collect();
    format!("{{loadBalancer: {{servers: [{}]{more}}}}}", servers.join(", "))
}

fn who(answer: &Answer) -> String {
    answer.header("x-server").unwrap_or_default().to_owned()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("bound")
}

fn counts(shares: &BTreeMap<String, usize>, name: &str) -> usize {
    shares.get(name).copied().unwrap_or_default()
}

/// A server whose answers the test gives: each request comes out here with the connection that it waits on.
pub(crate) fn held() -> (SocketAddr, Receiver<(String, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("bound");
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|read| read > 0) {
                    if head.ends_with("\r\n\r\n") {
                        let Ok(stream) = reader.get_ref().try_clone() else { return };
                        if tell.send((std::mem::take(&mut head), stream)).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (addr, told)
}

pub(crate) fn answer(mut stream: TcpStream, status: &str, name: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nX-Server: {name}\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("the proxy waits");
}

/// A server that answers everything with one status.
fn answering(status: &'static str, name: &'static str) -> SocketAddr {
    let (addr, requests) = held();
    std::thread::spawn(move || {
        for (_, stream) in requests {
            answer(stream, status, name);
        }
    });
    addr
}
