//! Runs cases through the binary, many lanes at once. A lane is a server of its own, so that a spoilt connection
//! to it is found by the requests that follow in the same lane and by nobody else's. Verdicts are given at the
//! end, when proxy and servers have ended and nothing more can arrive.

use super::super::support::client::{Answer, parse_next};
use super::super::support::stand::Stand;
use super::super::support::{PATIENCE, tls};
use super::backends::{Backend, Hyper, Sight};
use super::case::{Case, Must, Reading, Seen, Wire};
use super::{frames, not_yet};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Servers, and cases under way, at once.
pub const LANES: usize = 32;

/// What became of a case at the client's side.
struct Outcome {
    lane: usize,
    case: Case,
    answers: Vec<u8>,
    faults: Vec<String>,
}

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
    let mut faults: Vec<_> = outcomes.iter().flat_map(|outcome| judge(outcome, &seen, &trapped)).collect();
    faults.extend(strangers(&seen, &trapped));
    faults.extend(counts(&log, &seen));
    faults
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

/// Whether this target is the case's (or its marker); its name begins with its number.
fn belongs(target: &str, case: &Case) -> bool {
    let id = &case.name[..4];
    target.contains(&format!("/c/{id}")) || target.contains(&format!("/m/{id}"))
}

/// What is wrong with one case.
fn judge(outcome: &Outcome, seen: &[Sight], trapped: &[Sight]) -> Vec<String> {
    let case = &outcome.case;
    let at_server = seen.iter().filter(|(lane, seen)| *lane == outcome.lane && belongs(&seen.target, case));
    let main: Vec<&Seen> = at_server.map(|(_, seen)| seen).collect();
    let trap: Vec<&Seen> = trapped.iter().map(|(_, seen)| seen).filter(|seen| belongs(&seen.target, case)).collect();
    let mut faults = outcome.faults.clone();
    let nothing = main.is_empty() && trap.is_empty();
    let lax = if not_yet(&case.name[5..]) { &case.lax[..] } else { &[] };
    let reading = case.readings.iter().chain(lax).find(|reading| fits(reading, &main, &trap));
    let plain = matches!(case.wire, Wire::Plain(_));
    match (case.must, reading) {
        (must, Some(reading)) => {
            if plain && let Err(fault) = answered(reading, &outcome.answers, must == Must::Serve) {
                faults.push(fault);
            }
        }
        (Must::Refuse | Must::Either, None) if nothing => {
            let first = first_line(&outcome.answers);
            if plain && !first.is_empty() && !first.contains(" 4") && !first.contains(" 5") {
                faults.push(format!("refused with {first:?}"));
            }
        }
        (must, None) => faults.push(format!(
            "has to be {must:?}, but the server saw {main:?}, the other one {trap:?}; the client {:?}",
            first_line(&outcome.answers)
        )),
    }
    let (Wire::Plain(bytes) | Wire::Http2(bytes, _)) = &case.wire;
    let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
    let shown = format!("{}\n    sent {sent:?}\n    {}", case.name, faults.join("\n    "));
    if faults.is_empty() { Vec::new() } else { vec![shown] }
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

fn fits(reading: &Reading, main: &[&Seen], trap: &[&Seen]) -> bool {
    let all = |trap: bool| reading.iter().filter(move |seen| seen.trap == trap);
    let each = |wanted: Vec<&Seen>, found: &[&Seen]| {
        // What does not come to its end may not be seen at all, or in part.
        let needed = wanted.iter().filter(|wanted| wanted.whole).count();
        (found.len() == wanted.len() || found.len() == needed)
            && found.iter().zip(&wanted).all(|(found, wanted)| {
                let body = if wanted.whole {
                    found.whole && found.body == wanted.body
                } else {
                    !found.whole && wanted.body.starts_with(&found.body)
                };
                found.method == wanted.method && found.target == wanted.target && body
            })
    };
    each(all(false).collect(), main) && each(all(true).collect(), trap)
}

/// Each request of the reading got its own answer, in order; behind them (and, where the proxy may refuse some,
/// between them) there are at most refusals.
fn answered(reading: &Reading, answers: &[u8], all: bool) -> Result<(), String> {
    let mut rest = answers;
    let next = |rest: &mut &[u8], head: bool| -> std::io::Result<Answer> {
        loop {
            let answer = parse_next(rest, head)?;
            if answer.status != 100 && (all || answer.status < 400) {
                return Ok(answer);
            }
        }
    };
    let wrong = || format!("answered {:?}", String::from_utf8_lossy(&answers[..answers.len().min(2_000)]));
    for seen in reading {
        let head = seen.method == "HEAD";
        let answer = next(&mut rest, head).map_err(|_| wrong());
        if !seen.whole {
            return match answer {
                Ok(answer) if answer.status < 400 => Err(wrong()),
                _ => Ok(()),
            };
        }
        let own = format!("{} {}", seen.method, seen.target);
        let answer = answer?;
        if answer.status != 200 || (!head && answer.body != own.as_bytes()) {
            return Err(wrong());
        }
    }
    match next(&mut rest, false) {
        Ok(answer) if answer.status < 400 => Err(wrong()),
        _ => Ok(()),
    }
}

/// Requests that nobody sent: neither a case nor an innocent.
fn strangers(seen: &[Sight], trapped: &[Sight]) -> Vec<String> {
    let known = |target: &str| ["/c/", "/i/"].iter().any(|known| target.contains(known));
    let mut faults = Vec::new();
    for (lane, seen) in seen {
        // Two cases leave no number: a target without place for it, which nginx cannot read, and a name that hyper
        // cannot.
        let star = seen.target == "*" || seen.target.contains("GET * ");
        let quotes = seen.method == "!" && seen.target == "invalid HTTP header parsed";
        if star && not_yet("HTTP/2: a path with a star") || quotes && not_yet("HTTP/2: a name with quotes") {
            continue;
        }
        if !known(&seen.target) || seen.target.contains("/m/") || seen.method == "!" {
            faults.push(format!("lane {lane}: a stranger {seen:?}"));
        }
    }
    let other = trapped.iter().filter(|(_, seen)| !seen.target.contains("/m/"));
    faults.extend(other.map(|(_, seen)| format!("at the other server: a stranger {seen:?}")));
    faults
}

/// The access log and the servers agree, lane by lane: each answer that came from a server is to a request that it
/// saw, and it saw no request that the log does not have.
fn counts(log: &[Value], seen: &[Sight]) -> Vec<String> {
    let mut faults = Vec::new();
    for lane in 0..LANES {
        let service = format!("lane-{lane:02}-test@file");
        let lines: Vec<_> =
            log.iter().filter(|line| line["ServiceName"] == *service && line.get("ServiceAddr").is_some()).collect();
        let answered = lines.iter().filter(|line| line.get("ProxyReason").is_none()).count();
        let at_server = seen.iter().filter(|(at, _)| *at == lane).count();
        if at_server > lines.len() || at_server < answered {
            faults.push(format!(
                "lane {lane}: the access log has {} requests ({answered} answered by the server), the server saw {at_server}",
                lines.len()
            ));
        }
    }
    faults
}
