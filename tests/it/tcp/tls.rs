//! TLS beside HTTPS on one entry point: what goes on as it is, what ends at the proxy, and whose it is.

use super::peers::{self, Tcp, dial, hears, says};
use super::{ANY, Rig, routed};
use crate::support::server::Server;
use crate::support::tls;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// A server with a certificate of its own; says `own`, then echoes.
fn own_tls(name: &str) -> (Tcp, Vec<u8>) {
    let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let pem = signed.cert.pem().into_bytes();
    let chain = vec![CertificateDer::from_pem_slice(&pem).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(signed.signing_key.serialize_pem().as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let config = Arc::new(config);
    let server = Tcp::start(move |stream, _| {
        let Ok(connection) = ServerConnection::new(config.clone()) else { return };
        let mut stream = StreamOwned::new(connection, stream);
        if stream.write_all(b"own").is_err() {
            return;
        }
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    });
    (server, pem)
}

/// A TLS connection for a name.
fn shake(
    addr: SocketAddr,
    root: &[u8],
    name: &str,
    alpn: &[&[u8]],
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    over(dial(addr), root, name, alpn)
}

fn over(
    mut tcp: TcpStream,
    root: &[u8],
    name: &str,
    alpn: &[&[u8]],
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).ok()?;
    let mut connection = ClientConnection::new(tls::config(root, alpn)?, name).ok()?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).ok()?;
    }
    Some(StreamOwned::new(connection, tcp))
}

fn root(rig: &Rig) -> Vec<u8> {
    std::fs::read(rig.proxy.running.root_certificate().expect("a root")).expect("the root")
}

const PASSTHROUGH: &str = "      tls:\n        passthrough: true\n";

/// HTTPS for `h.test` on `db`.
fn https(server: &Server) -> String {
    format!(
        "http:\n  routers:\n    h:\n      entryPoints: [db]\n      rule: Host(`h.test`)\n      service: h\n      tls: {{}}\n  services:\n    h:\n      \
         loadBalancer:\n        servers:\n          - url: http://{}\n",
        server.addr
    )
}

#[test]
fn a_name_goes_through_beside_https_on_one_port() {
    let (own, pem) = own_tls("own.test");
    let web = Server::start("web");
    let rig = Rig::start(&(routed("HostSNI(`own.test`)", PASSTHROUGH, "", &[own.addr]) + &https(&web)), &[]);
    let mut through = shake(rig.db(), &pem, "own.test", &[]).expect("the server's own certificate");
    assert_eq!(hears(&mut through, 3), "own");
    says(&mut through, "x");
    assert_eq!(hears(&mut through, 1), "x");
    assert!(shake(rig.db(), &pem, "h.test", &[]).is_none(), "another name is the proxy's");
    let root = root(&rig);
    assert_eq!(tls::get(rig.db(), &root, "h.test", "/"), Some(200));
    assert_eq!(tls::get(rig.db(), &root, "nobody.test", "/"), Some(404), "a name of nobody's is HTTPS, too");
}

#[test]
fn https_that_names_the_host_goes_before_any_name_and_any_path_does_too() {
    let (own, pem) = own_tls("x.test");
    let web = Server::start("web");
    let any = routed(ANY, PASSTHROUGH, "", &[own.addr]);
    let rig = Rig::start(&(any.clone() + &https(&web)), &[]);
    assert_eq!(tls::get(rig.db(), &root(&rig), "h.test", "/"), Some(200));
    assert!(shake(rig.db(), &pem, "x.test", &[]).is_some(), "what HTTPS does not name");
    // as in Traefik a router of any host is HTTPS of any name
    let path = https(&web).replace("Host(`h.test`)", "PathPrefix(`/`)");
    rig.replace(&(any + &path));
    assert_eq!(tls::get(rig.db(), &root(&rig), "x.test", "/"), Some(200));
}

#[test]
fn wildcards_of_https_count() {
    let (own, _) = own_tls("a.h.test");
    let web = Server::start("web");
    let wild = https(&web).replace("Host(`h.test`)", "Host(`*.h.test`)");
    let rig = Rig::start(&(routed("HostSNIRegexp(`^.+$`)", PASSTHROUGH, "", &[own.addr]) + &wild), &[]);
    assert_eq!(tls::get(rig.db(), &root(&rig), "a.h.test", "/"), Some(200));
}

#[test]
fn tls_ends_here_and_the_server_hears_what_is_inside() {
    let server = Tcp::greets("plain");
    let rig = Rig::start(&routed("HostSNI(`t.test`)", "      tls: {}\n", "", &[server.addr]), &[]);
    let mut client = shake(rig.db(), &root(&rig), "t.test", &[]).expect("a certificate for the name");
    assert_eq!(hears(&mut client, 5), "plain");
    says(&mut client, "x");
    assert_eq!(hears(&mut client, 1), "x");
    // plain connections are not for a router that wants TLS
    let mut plain = dial(rig.db());
    says(&mut plain, "GET / HTTP/1.0\r\n\r\n");
    assert!(peers::rest(&mut plain).starts_with("HTTP/1.0 404"));
}

#[test]
fn options_are_those_that_the_router_names() {
    let server = Tcp::greets("plain");
    let router = "      tls:\n        options: old\n";
    let text = routed("HostSNI(`t.test`)", router, "", &[server.addr]);
    let options = "tls:\n  options:\n    old:\n      maxVersion: VersionTLS12\n";
    let rig = Rig::start(&(text.clone() + options), &[]);
    let client = shake(rig.db(), &root(&rig), "t.test", &[]).expect("a handshake");
    assert_eq!(client.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    drop(client);
    // never without them
    rig.replace_and_wait_for(&text, "unknown_tls_options");
    let client = shake(rig.db(), &root(&rig), "t.test", &[]).expect("the last good form stays");
    assert_eq!(client.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
}

#[test]
fn protocols_that_a_client_offers_are_asked_for() {
    let (own, pem) = own_tls("a.test");
    let web = Server::start("web");
    let rig = Rig::start(&(routed("ALPN(`mine`)", PASSTHROUGH, "", &[own.addr]) + &https(&web)), &[]);
    let own = shake(rig.db(), &pem, "a.test", &[]);
    assert!(own.is_none(), "it offered nothing");
    let mut tcp = dial(rig.db());
    let name = ServerName::try_from("a.test").expect("a name");
    let mut connection =
        ClientConnection::new(tls::config(&pem, &[b"mine"]).expect("a client"), name).expect("a client");
    // our server speaks no ALPN, which is no refusal
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).expect("the server's own certificate");
    }
}

#[test]
fn servers_are_reached_by_tls_where_it_is_said() {
    let (own, pem) = own_tls("own.test");
    let dir = tempfile::tempdir().expect("a folder");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &pem).expect("a file");
    let text = routed(ANY, "", "        serversTransport: t\n", &[own.addr])
        .replace(&format!("- address: {}\n", own.addr), &format!("- address: {}\n            tls: true\n", own.addr));
    let transport = |name: &str| {
        format!(
            "  serversTransports:\n    t:\n      tls:\n        serverName: {name}\n        rootCAs: ['{}']\n",
            ca.display()
        )
    };
    let rig = Rig::start(&(text.clone() + &transport("own.test")), &[]);
    assert_eq!(hears(&mut dial(rig.db()), 3), "own");
    rig.replace(&(text + &transport("other.test")));
    assert_eq!(peers::rest(&mut dial(rig.db())), "", "one that cannot be trusted is not used");
}

/// `SSLRequest` of PostgreSQL.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

#[test]
fn postgresql_is_asked_for_its_name() {
    let (own, pem) = own_tls("own.test");
    let backend = own.addr;
    // a server as PostgreSQL: it wants to be asked first
    let server = Tcp::start(move |mut stream, tell| {
        let mut asked = [0; 8];
        if stream.read_exact(&mut asked).is_err() {
            return;
        }
        drop(tell.send(asked.to_vec()));
        drop(stream.write_all(b"S"));
        let inner = TcpStream::connect(backend).expect("the server");
        let (mut a, mut b) = (stream.try_clone().expect("a handle"), inner.try_clone().expect("a handle"));
        std::thread::spawn(move || drop(std::io::copy(&mut a, &mut b)));
        drop(std::io::copy(&mut { inner }, &mut stream));
    });
    let web = Server::start("web");
    let rig = Rig::start(&(routed("HostSNI(`own.test`)", PASSTHROUGH, "", &[server.addr]) + &https(&web)), &[]);
    let ask = || {
        let mut client = dial(rig.db());
        // in two parts, so that its beginning has to be waited for
        client.write_all(&REQUEST[..3]).expect("said");
        client.write_all(&REQUEST[3..]).expect("said");
        assert_eq!(hears(&mut client, 1), "S");
        client
    };
    let mut through = over(ask(), &pem, "own.test", &[]).expect("the server's own certificate");
    assert_eq!(hears(&mut through, 3), "own");
    assert!(over(ask(), &pem, "h.test", &[]).is_none(), "a name that no TCP router has");
}
