//! The PROXY protocol towards servers, as a raw server sees it.

use super::rig::{Authority, Rig, dynamic, ok, request, server_config};
use crate::support::PATIENCE;
use crate::support::client::Connection;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};

/// A server that reads this many bytes (0: a line) before anything else and tells what they were.
fn server(before: usize, tls: Option<Arc<rustls::ServerConfig>>) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tell, tls) = (tell.clone(), tls.clone());
            std::thread::spawn(move || {
                drop(stream.set_read_timeout(Some(PATIENCE)));
                // nothing of what follows may be taken along
                let mut stream = BufReader::with_capacity(1, stream);
                let mut header = vec![0; before];
                match before {
                    0 => drop(stream.read_until(b'\n', &mut header)),
                    _ => drop(stream.read_exact(&mut header)),
                }
                if tell.send(header).is_err() {
                    return;
                }
                match tls {
                    None => answer(stream),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).expect("a session");
                        answer(BufReader::new(rustls::StreamOwned::new(session, stream.into_inner())));
                    }
                }
            });
        }
    });
    (addr, told)
}

fn answer<S: Read + Write>(mut stream: BufReader<S>) {
    while request(&mut stream).is_some() {
        if stream.get_mut().write_all(ok("seen").as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

/// One request by hand; gives both ends of its connection.
fn ask(rig: &Rig, host: &str) -> (SocketAddr, SocketAddr) {
    let mut stream = TcpStream::connect(rig.proxy.web()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("seen"), "{text}");
    (stream.local_addr().expect("an address"), rig.proxy.web())
}

#[test]
fn servers_learn_of_each_client_by_either_version() {
    let ours = Authority::new("ours");
    let secure = server_config(&ours.sign(&["127.0.0.1"]), None, super::rig::ALL);
    let ((one, one_told), (two, two_told)) = (server(0, None), server(28, None));
    let (tls, tls_told) = server(0, Some(secure));
    let urls = [format!("http://{one}"), format!("http://{two}"), format!("https://{tls}")];
    let transports = json!({
        "one": {"rustLbProxyProtocol": {"version": 1}},
        "two": {"rustLbProxyProtocol": {}},
        "tls": {"rustLbProxyProtocol": {"version": 1}, "rootCAs": [ours.pem]},
    });
    let routes = [("one", &*urls[0], "one"), ("two", &urls[1], "two"), ("tls", &urls[2], "tls")];
    let rig = Rig::start(|_| dynamic(&routes, transports));
    let line = |(client, web): (SocketAddr, SocketAddr)| {
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", client.port(), web.port()).into_bytes()
    };
    for (host, told) in [("one.test", &one_told), ("tls.test", &tls_told)] {
        // twice: who comes second is another client
        for _ in 0..2 {
            let ends = ask(&rig, host);
            assert_eq!(told.recv_timeout(PATIENCE), Ok(line(ends)), "{host}");
        }
    }
    let (client, web) = ask(&rig, "two.test");
    let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
    expected.extend(client.port().to_be_bytes());
    expected.extend(web.port().to_be_bytes());
    assert_eq!(two_told.recv_timeout(PATIENCE), Ok(expected));
}

#[test]
fn such_a_connection_is_for_one_request() {
    let (one, told) = server(0, None);
    let url = format!("http://{one}");
    let transports = json!({"one": {"rustLbProxyProtocol": {"version": 1}, "maxIdleConnsPerHost": 50}});
    let rig = Rig::start(|_| dynamic(&[("one", &url, "one")], transports));
    let mut client = Connection::open(rig.proxy.web()).expect("a connection");
    for _ in 0..3 {
        assert_eq!(client.get("one.test", "/").expect("an answer").text(), "seen");
        assert!(told.recv_timeout(PATIENCE).expect("a header").starts_with(b"PROXY TCP4 "));
    }
}
