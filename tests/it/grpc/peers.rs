//! Independent peers from Python's package index, where they are installed: gRPC's own implementation
//! and a WebSocket library, each as client and as server. `RUST_LB_TEST_PYTHON` names the interpreter
//! (`python3` without it); with `RUST_LB_TEST_REQUIRE=grpc,websockets` a skip is a failure.

use crate::support::eventually;
use crate::support::proxy::Proxy;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A Python that can import a module, or a word on the test's output.
fn python(module: &str) -> Option<String> {
    let python = std::env::var("RUST_LB_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = Command::new(&python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    if import.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let required = std::env::var("RUST_LB_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r.trim() == module), "`{module}` is required and {python} has none");
    // The harness swallows a passing test's output; the terminal is told all the same.
    drop(writeln!(std::io::stderr(), "skipped: {python} has no `{module}`"));
    None
}

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "peers", name].iter().collect()
}

/// A server by a script; ends with its standard input.
struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(python: &str, name: &str) -> Self {
        let mut command = Command::new(python);
        command.arg(script(name)).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the script starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its port");
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Calls the peer's server through the proxy with the peer's client.
fn talk(module: &str, name: &str, host: &str, scheme: &str, least: usize) {
    let Some(python) = python(module) else { return };
    let peer = Peer::start(&python, name);
    let proxy = Proxy::start(&[]);
    let rule = format!("rule=Host(`{host}`)");
    let tags = [
        "traefik.enable=true".to_owned(),
        format!("traefik.http.routers.peer.{rule}"),
        "traefik.http.routers.peer.entrypoints=web".to_owned(),
        format!("traefik.http.routers.peers.{rule}"),
        "traefik.http.routers.peers.entrypoints=websecure".to_owned(),
        format!("traefik.http.services.peer.loadbalancer.server.scheme={scheme}"),
    ];
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    proxy.catalog.register("peer-1", "peer", peer.address, &tags);
    eventually("both routers are there", || {
        let routers = proxy.admin("/api/http/routers").text();
        (routers.contains("\"peer@") && routers.contains("\"peers@")).then_some(())
    });
    let root = proxy.running.root_certificate().expect("a local root");
    let port = |name: &str| proxy.entry_point(name).port().to_string();
    let mut client = Command::new(&python);
    client.arg(script(name)).args(["call", &port("web"), &port("websecure")]).arg(root).arg(host);
    let done = client.output().expect("the script runs");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let count: usize = said.trim().strip_prefix("ok ").and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(count >= least, "{said}");
}

#[test]
fn grpcs_own_python_calls_through_the_proxy() {
    talk("grpc", "grpc_peer.py", "grpc.test", "h2c", 30);
}

#[test]
fn a_websocket_library_talks_through_the_proxy() {
    talk("websockets", "websocket_peer.py", "ws.test", "http", 20);
}
