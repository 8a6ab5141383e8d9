//! The variables of TLS between rust-lb and the agents: which authority vouches for them, with which certificate they are asked,
//! under which name, and what skips all that.

use super::super::support::serve::{Serve, Setup};
use super::super::support::server::Server;
use super::super::support::{PATIENCE, eventually};
use super::super::transport::rig::{ALL, Authority, server_config};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// An agent that speaks TLS, refuses everything, and keeps what it was asked and by whom.
struct Agent {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    failed: Arc<AtomicUsize>,
}

impl Agent {
    fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let agent = Self { addr, asked: Arc::default(), failed: Arc::default() };
        let (asked, failed) = (agent.asked.clone(), agent.failed.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, asked, failed) = (config.clone(), asked.clone(), failed.clone());
                std::thread::spawn(move || {
                    if refuse(stream, config, &asked).is_err() {
                        failed.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        agent
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// # Errors
/// No connection of TLS came about.
fn refuse(stream: TcpStream, config: Arc<ServerConfig>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let session = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    let (mut head, mut byte) = (Vec::new(), [0]);
    stream.conn.complete_io(&mut stream.sock)?;
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let client = if stream.conn.peer_certificates().is_some() { "with" } else { "without" };
            let name = stream.conn.server_name().unwrap_or("no name").to_owned();
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{line} {client} {name}"));
            head.clear();
            let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\nPermission denied";
            if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// `serve` over one catalog, with these variables alone.
fn serve(server: &Server, provider: &str, env: &[(&str, &str)]) -> Serve {
    let setup = Setup::new(server.addr, &[&format!("--providers.{provider}=true")]);
    env.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start()
}

#[test]
fn agents_over_tls_are_asked_as_the_variables_say() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let authority = Authority::new("agents");
    let own = authority.sign(&["client.test"]);
    let ca = write("ca.pem", &authority.pem);
    let (cert, key) = (write("client.pem", &own.chain), write("client-key.pem", &own.key));
    let server = Server::start("app");
    // Its own name, whether it asks for a certificate, what is set beside the address, and how it is asked; none: not at all.
    let cases: &[(&str, bool, &[&str], Option<&str>)] = &[
        ("127.0.0.1", false, &[], None),
        ("127.0.0.1", false, &["CACERT"], Some("without no name")),
        ("127.0.0.1", false, &["SKIP"], Some("without no name")),
        ("127.0.0.1", true, &["CACERT"], None),
        ("127.0.0.1", true, &["CACERT", "CLIENT"], Some("with no name")),
        ("agent.test", false, &["CACERT"], None),
        ("agent.test", false, &["CACERT", "NAME"], Some("without agent.test")),
    ];
    for provider in ["nomad", "consulCatalog"] {
        for (name, mutual, set, expected) in cases {
            let nomad = provider == "nomad";
            // Consul has no variable for the name.
            if !nomad && set.contains(&"NAME") {
                continue;
            }
            let agent = Agent::start(server_config(&authority.sign(&[name]), mutual.then_some(&authority), ALL));
            let address = if nomad { format!("https://{}", agent.addr) } else { agent.addr.to_string() };
            let mut env = vec![(if nomad { "NOMAD_ADDR" } else { "CONSUL_HTTP_ADDR" }, address.as_str())];
            if !nomad {
                env.push(("CONSUL_HTTP_SSL", "true"));
            }
            for word in *set {
                match (*word, nomad) {
                    ("CACERT", true) => env.push(("NOMAD_CACERT", &ca)),
                    ("CACERT", false) => env.push(("CONSUL_CACERT", &ca)),
                    ("SKIP", true) => env.push(("NOMAD_SKIP_VERIFY", "true")),
                    ("SKIP", false) => env.push(("CONSUL_HTTP_SSL_VERIFY", "false")),
                    ("CLIENT", true) => env.extend([("NOMAD_CLIENT_CERT", &*cert), ("NOMAD_CLIENT_KEY", &*key)]),
                    ("CLIENT", false) => env.extend([("CONSUL_CLIENT_CERT", &*cert), ("CONSUL_CLIENT_KEY", &*key)]),
                    _ => env.push(("NOMAD_TLS_SERVER_NAME", "agent.test")),
                }
            }
            let running = serve(&server, provider, &env);
            let what = format!("{provider}: {name}, asks for a certificate: {mutual}, {set:?}");
            if let Some(expected) = expected {
                eventually(&what, || agent.asked().iter().any(|line| line.ends_with(expected)).then_some(()));
            } else {
                // Twice: it tries again, and was not just interrupted.
                eventually(&what, || (agent.failed.load(SeqCst) >= 2).then_some(()));
                assert_eq!(agent.asked(), Vec::<String>::new(), "{what}");
            }
            running.wait_until_served();
            assert!(!running.said().join("\n").contains("PRIVATE KEY"), "{what}");
        }
    }
}
