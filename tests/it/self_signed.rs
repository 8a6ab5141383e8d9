//! `CERTS_SELF_SIGNED` beside a real Caddy, where it is on PATH: one authority for both, whoever made
//! it. A test that cannot run says `skipped`; with `RUST_LB_TEST_REQUIRE=caddy` a skip is a failure.

use super::support::program::have;
use super::support::serve::{Serve, Setup};
use super::support::server::Server;
use super::support::{eventually, tls};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// rust-lb over a fresh directory, in self-signed mode; and that directory.
fn setup(server: &Server) -> (Setup, std::path::PathBuf) {
    let flags = ["--entryPoints.websecure.address=127.0.0.1:0", "--entryPoints.websecure.http.tls=true"];
    let setup = Setup::new(server.addr, &flags).env("CERTS_SELF_SIGNED", "1");
    let certs = setup.dir().join("certs");
    (setup, certs)
}

/// A Caddy with one `tls internal` site, `int.test`, over a directory.
struct Caddy {
    child: Child,
    addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Caddy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Caddy {
    fn start(certs: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let port = super::support::ports::free();
        let config = format!(
            "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n storage file_system {}\n}}\n\
             https://int.test:{port} {{\n bind 127.0.0.1\n tls internal\n respond caddy\n}}\n",
            certs.display()
        );
        let file = dir.path().join("Caddyfile");
        fs::write(&file, config).expect("written");
        let child = Command::new("caddy")
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("caddy starts");
        Self { child, addr: ([127, 0, 0, 1], port).into(), _dir: dir }
    }

    /// Waits until a client that trusts this root gets an answer.
    fn wait_for(&self, root: &[u8]) {
        eventually("caddy answers over TLS", || tls::get(self.addr, root, "int.test", "/").filter(|s| *s == 200));
    }
}

fn wait_for_root(certs: &Path) -> Vec<u8> {
    let at = |name: &str| certs.join("pki/authorities/local").join(name);
    eventually("an authority", || at("intermediate.key").is_file().then_some(()));
    fs::read(at("root.crt")).expect("the root")
}

fn wait_until_served(serve: &Serve, root: &[u8], host: &str, status: u16) {
    let addr = serve.address("websecure");
    eventually(&format!("{host} is served"), || tls::get(addr, root, host, "/").filter(|s| *s == status));
}

#[test]
fn an_authority_is_made_and_kept_over_restarts() {
    let server = Server::start("a");
    let (first, certs) = setup(&server);
    // The folder goes with the first one, so what it has made is moved on.
    let kept = tempfile::tempdir().expect("a folder");
    let serve = first.start();
    let root = wait_for_root(&certs);
    wait_until_served(&serve, &root, "a.test", 200);
    wait_until_served(&serve, &root, "unknown.test", 404);
    let moved = kept.path().join("CERTS");
    fs::rename(&certs, &moved).expect("moved");
    drop(serve);

    let (second, certs) = setup(&server);
    fs::rename(&moved, &certs).expect("moved");
    let serve = second.start();
    wait_until_served(&serve, &root, "a.test", 200);
    assert_eq!(wait_for_root(&certs), root);
}

#[test]
fn what_caddy_has_made_signs_and_caddys_clients_verify_it() {
    if !have("caddy") {
        return;
    }
    let server = Server::start("a");
    let (setup, certs) = setup(&server);
    fs::create_dir(&certs).expect("a folder");
    let caddy = Caddy::start(&certs);
    let root = wait_for_root(&certs);
    caddy.wait_for(&root);
    drop(caddy);
    let serve = setup.start();
    for (host, status) in [("a.test", 200), ("int.test", 404)] {
        wait_until_served(&serve, &root, host, status);
    }
    assert_eq!(wait_for_root(&certs), root, "nothing was made anew");
}

#[test]
fn caddy_goes_on_with_what_rust_lb_has_made() {
    if !have("caddy") {
        return;
    }
    let server = Server::start("a");
    let (setup, certs) = setup(&server);
    let serve = setup.start();
    let root = wait_for_root(&certs);
    wait_until_served(&serve, &root, "a.test", 200);
    let caddy = Caddy::start(&certs);
    caddy.wait_for(&root);
    // And rust-lb beside it, all the while.
    wait_until_served(&serve, &root, "int.test", 404);
    assert_eq!(wait_for_root(&certs), root);
}
