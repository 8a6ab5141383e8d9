//! Runs cases through the binary, many lanes at once. A lane is a server of its own, so that a spoilt connection
//! to it is found by the requests that follow in the same lane and by nobody else's. Verdicts are given at the
//! end, when proxy and servers have ended and nothing more can arrive.

use super::super::support::client::parse_next;
use super::super::support::stand::Stand;
use super::super::support::{PATIENCE, tls};
use super::backends::{Backend, Hyper};
use super::case::{Case, Wire};
use super::frames;
use super::verdict::{self, Outcome};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Servers, and cases under way, at once.
pub const LANES: usize = 32;

/// Sends every case and judges it; gives what is wrong, a line each.
pub fn run(backend: Box<dyn Backend>, cases: &[Case]) -> Vec<String> {
    let trap = Hyper::start(1);
    let mut routes: Vec<_> =
        backend.addresses().into_iter().enumerate().map(|(i, at)| (format!("lane-{i:02}.test"), at)).collect();
    routes.push(("trap.test".to_owned(), trap.addresses()[0]));
    let flags = [
        // What does not come to its end ends soon; nothing legitimate waits here.
        "--entryPoints.web.transport.respondingTimeouts.readTimeout=1s",
        "--entryPoints.web.transport.respondingTimeouts.idleTimeout=100ms",
    ];
    let stand = Stand::start(&routes, &flags);
    let client = tls::config(&stand.root, &[b"h2"]).expect("a configuration");
    let next = AtomicUsize::new(0);
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (next, stand, client) = (&next, &stand, &client);
                scope.spawn(move || {
                    let mut outcomes = Vec::new();
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        let Some(case) = cases.get(id) else { return outcomes };
                        let case = case.at(lane, id);
                        let mut faults = Vec::new();
                        let answers = match &case.wire {
                            Wire::Plain(bytes) => talk(stand.web, bytes, &mut faults),
                            Wire::Http2(bytes, streams) => {
                                let host = format!("lane-{lane:02}.test");
                                frames::talk(stand.secure, client, &host, bytes, streams, &mut faults)
                            }
                        };
                        innocents(stand.calm, lane, id, &mut faults);
                        outcomes.push(Outcome { lane, case, answers, faults });
                    }
                })
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane")).collect()
    });
    let (log, _) = stand.stop();
    let (seen, trapped) = (backend.stop(), Box::new(trap).stop());
    outcomes.sort_by(|a, b| a.case.name.cmp(&b.case.name));
    verdict::all(&outcomes, &seen, &trapped, &log)
}

/// Sends all, and reads until the proxy closes.
fn talk(address: SocketAddr, bytes: &[u8], faults: &mut Vec<String>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    // It may close before it has read all.
    drop(stream.write_all(bytes));
    let mut answers = Vec::new();
    let mut chunk = [0; 16_384];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return answers,
            Ok(read) => answers.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                faults.push(format!("the connection was not closed within {PATIENCE:?}"));
                return answers;
            }
            Err(_) => return answers,
        }
    }
}

/// Two requests at once on new connections, that may both find a kept connection to the server: each gets its own
/// answer and nothing else.
fn innocents(address: SocketAddr, lane: usize, id: usize, faults: &mut Vec<String>) {
    let mut open = Vec::new();
    for which in ["a", "b"] {
        let target = format!("/i/{which}/{id:04}");
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let request = format!("GET {target} HTTP/1.1\r\nHost: lane-{lane:02}.test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("written");
        open.push((target, stream));
    }
    for (target, mut stream) in open {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        let own = format!("GET {target}");
        let mut rest = &bytes[..];
        match parse_next(&mut rest, false) {
            Ok(answer) if answer.status == 200 && answer.body == own.as_bytes() && rest.is_empty() => {}
            _ => faults.push(format!("the next request got {:?}", String::from_utf8_lossy(&bytes))),
        }
    }
}
