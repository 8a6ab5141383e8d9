//! The verdict over what was sent, what the servers saw, what the clients got and what the access log says.

use super::super::support::client::{Answer, parse_next};
use super::backends::Sight;
use super::case::{Case, Must, Reading, Seen, Wire};
use super::not_yet;
use super::stage::LANES;
use serde_json::Value;

/// What became of a case at the client's side.
pub struct Outcome {
    pub lane: usize,
    /// With its places filled in.
    pub case: Case,
    /// All that the client got.
    pub answers: Vec<u8>,
    /// What was seen to be wrong while it ran.
    pub faults: Vec<String>,
}

/// Everything that is wrong.
pub fn all(outcomes: &[Outcome], seen: &[Sight], trapped: &[Sight], log: &[Value]) -> Vec<String> {
    let mut faults: Vec<_> = outcomes.iter().flat_map(|outcome| judge(outcome, seen, trapped)).collect();
    faults.extend(strangers(seen, trapped));
    faults.extend(counts(log, seen));
    faults
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
            if plain
                && !first.is_empty()
                && !first.contains(" 4")
                && !first.contains(" 5")
                && !goes_away(&outcome.answers)
            {
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

/// Whether this is how an HTTP/2 server refuses what follows its preface and is no HTTP/2: SETTINGS, then GOAWAY.
fn goes_away(bytes: &[u8]) -> bool {
    const GOAWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    let goaway = bytes.len().checked_sub(17).and_then(|at| bytes.get(at..at + 9));
    bytes.get(3) == Some(&4) && goaway == Some(&GOAWAY[..])
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

/// A verdict that finds nothing is worth what it would find.
#[test]
fn what_is_wrong_is_found() {
    use super::case::{refuse, seen, serve, trapped};
    use serde_json::json;

    let at = |seen: Seen| (0, Seen { target: seen.target.replace("####", "0000"), ..seen });
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nGET /c/0000".to_vec();
    let line = json!({"ServiceName": "lane-00-test@file", "ServiceAddr": "x"});
    let good = serve("good", "x", vec![seen("GET", "")]);
    let bad = refuse("bad", "x").or(vec![seen("GET", "")]);
    let twice = [ok.clone(), ok.clone()].concat();
    let other = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON".to_vec();
    let get = at(seen("GET", ""));
    let marker = (0, Seen { trap: false, ..at(trapped()).1 });
    let check = |case: &Case, answers: &[u8], main: &[Sight], trap: &[Sight], lines: usize| {
        let outcome = Outcome { lane: 0, case: case.at(0, 0), answers: answers.to_vec(), faults: Vec::new() };
        all(&[outcome], main, trap, &vec![line.clone(); lines])
    };
    assert_eq!(check(&good, &ok, std::slice::from_ref(&get), &[], 1), Vec::<String>::new());
    assert_eq!(check(&bad, b"HTTP/1.1 400 Bad Request\r\n\r\n", &[], &[], 0), Vec::<String>::new());
    for (name, faults) in [
        ("the marker at the server", check(&good, &ok, &[get.clone(), marker.clone()], &[], 2)),
        (
            "the marker at the other server",
            check(&good, &ok, std::slice::from_ref(&get), std::slice::from_ref(&marker), 1),
        ),
        ("a request twice", check(&good, &ok, &[get.clone(), get.clone()], &[], 2)),
        ("another body", check(&good, &ok, &[at(seen("GET", "x"))], &[], 1)),
        ("another method", check(&good, &ok, &[at(seen("POST", ""))], &[], 1)),
        ("nothing", check(&good, &ok, &[], &[], 0)),
        ("an answer too many", check(&good, &twice, std::slice::from_ref(&get), &[], 1)),
        ("no answer", check(&good, b"", std::slice::from_ref(&get), &[], 1)),
        ("another's answer", check(&good, &other, std::slice::from_ref(&get), &[], 1)),
        ("what had to be refused", check(&bad, &ok, std::slice::from_ref(&get), &[], 1)),
        ("an answer to what was refused", check(&bad, &ok, &[], &[], 0)),
        ("more seen than logged", check(&good, &ok, std::slice::from_ref(&get), &[], 0)),
        ("more logged than seen", check(&good, &ok, std::slice::from_ref(&get), &[], 2)),
        ("what cannot be read", check(&bad, b"", &[(0, Seen { method: "!".into(), ..seen("", "") })], &[], 1)),
    ] {
        assert!(!faults.is_empty(), "{name} is not found");
    }
}
