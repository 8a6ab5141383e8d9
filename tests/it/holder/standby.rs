//! `--standby`: everything but the public ports, until they are asked for.

use super::super::support::client::{Answer, parse};
use super::super::support::eventually;
use super::super::support::serve::{Serve, Setup, kill};
use super::super::support::server::Server;
use super::Knocking;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// One request on the socket.
fn on(socket: &Path, request: &str) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(super::super::support::PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    parse(&all)
}

fn get(socket: &Path, host: &str, path: &str, more: &str) -> std::io::Result<Answer> {
    on(socket, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"))
}

fn activate(socket: &Path) -> Answer {
    on(socket, "POST /api/activate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").expect("an answer")
}

/// A standby for an address, and its socket.
fn standby(server: &Server, web: SocketAddr, more: &[&str]) -> (Serve, std::path::PathBuf) {
    let setup = Setup::new(server.addr, &[&format!("--entryPoints.web.address={web}")]);
    let socket = setup.dir().join("standby.sock");
    let mut setup = setup.arg(format!("--standby=unix:{}", socket.display()));
    for flag in more {
        setup = setup.arg(flag);
    }
    let serve = setup.start();
    eventually("the standby answers", || {
        get(&socket, "localhost", "/ready", "").ok().filter(|answer| answer.status == 200).map(drop)
    });
    (serve, socket)
}

#[test]
fn a_standby_serves_on_its_socket_and_takes_the_ports_when_asked() {
    let server = Server::start("a");
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let web = held.local_addr().expect("bound");
    let tls = ["--entryPoints.secure.address=127.0.0.1:0", "--entryPoints.secure.http.tls=true"];
    let (serve, socket) = standby(&server, web, &tls);
    // The routes answer, plain and as encrypted.
    let answer = get(&socket, "a.test", "/x", "").expect("an answer");
    assert_eq!((answer.status, answer.header("x-server")), (200, Some("a")));
    assert!(answer.text().contains("X-Forwarded-Proto: http\r\n"), "{}", answer.text());
    let answer = get(&socket, "a.test", "/x", "X-Forwarded-Proto: https\r\n").expect("an answer");
    assert!(answer.text().contains("X-Forwarded-Proto: https\r\n"), "{}", answer.text());
    assert_eq!(get(&socket, "b.test", "/", "").expect("an answer").status, 404);
    // A service's own paths are its own.
    assert_eq!(get(&socket, "a.test", "/ready", "").expect("an answer").header("x-server"), Some("a"));
    // Who asks at the admin port is told that no traffic may be sent here.
    let ready = serve.admin("/ready").expect("an answer");
    assert_eq!((ready.status, ready.json()["reasons"][0]["code"].as_str()), (503, Some("standby")));
    // A port in use is told with its owner, and nothing changes.
    let refused = activate(&socket);
    assert_eq!(refused.status, 409, "{}", refused.text());
    let text = refused.text();
    assert!(text.contains(&web.to_string()) && text.contains(&format!("pid {}", std::process::id())), "{text}");
    drop(held);
    let answer = activate(&socket);
    assert_eq!((answer.status, answer.json()["bound"]["web"][0].as_str()), (200, Some(&*web.to_string())));
    assert_eq!(super::ask(web).expect("an answer").status, 200);
    assert_eq!(serve.admin("/ready").expect("an answer").status, 200);
    assert_eq!(activate(&socket).status, 200, "as often as one likes");
    // It stays active when its worker is replaced, by a new one and by death.
    let knocking = Knocking::start(web);
    serve.hand_over(1);
    knocking.pass(50);
    knocking.finish();
    assert_eq!(serve.admin("/ready").expect("an answer").status, 200);
    eventually("one worker is left", || (serve.workers().len() == 1).then_some(()));
    kill(serve.worker(), "-KILL");
    assert_eq!(super::ask(web).expect("an answer").status, 200);
    assert_eq!(get(&socket, "a.test", "/x", "").expect("an answer").status, 200);
}

#[test]
fn activating_needs_a_token_at_the_admin_port() {
    let server = Server::start("a");
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (serve, _socket) = standby(&server, held.local_addr().expect("bound"), &[]);
    let admin = serve.address("traefik");
    let answer = super::super::support::client::send(admin, "POST", "localhost", "/api/activate", "", "");
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[test]
fn with_overlap_the_ports_are_shared_with_the_proxy_before() {
    let server = Server::start("a");
    let before = Serve::start(&server, &[]);
    before.wait_until_served();
    let web = before.web();
    let (after, socket) = standby(&server, web, &["--overlap"]);
    let answer = activate(&socket);
    assert_eq!(answer.status, 200, "{}", answer.text());
    after.says("ports are shared", 1);
    before.signal("-TERM");
    let (status, _) = before.wait();
    assert!(status.success());
    assert_eq!(super::ask(web).expect("an answer").status, 200);
}
