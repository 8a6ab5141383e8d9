//! Servers that are asked whether they are well.

use super::peers::{Tcp, dial, hears, says};
use super::{ANY, Rig, routed};
use crate::support::eventually;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CHECK: &str = "        healthCheck:\n          send: \"PING\\r\\n\"\n          expect: \"+PONG\"\n          interval: 50ms\n";

/// Answers each line with its name and how it is.
fn answers(name: char, well: &Arc<AtomicBool>) -> Tcp {
    let well = well.clone();
    Tcp::start(move |mut stream, _| {
        let mut line = [0; 6];
        while stream.read_exact(&mut line).is_ok() {
            let how = if well.load(Ordering::SeqCst) { "+PONG" } else { "-SICK" };
            if write!(stream, "{how} {name}").is_err() {
                return;
            }
        }
    })
}

fn asked(rig: &Rig) -> String {
    let mut client = dial(rig.db());
    says(&mut client, "PING\r\n");
    hears(&mut client, 7)
}

fn status(rig: &Rig, server: &Tcp) -> String {
    let services = rig.proxy.admin("/api/tcp/services").json();
    services[0]["serverStatus"][&server.addr.to_string()].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_server_gets_connections_while_its_check_passes() {
    let (well, sick) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (a, b) = (answers('a', &well), answers('b', &sick));
    let rig = Rig::start(&routed(ANY, "", CHECK, &[a.addr, b.addr]), &["--workers=1"]);
    eventually("the first check of `a` passes", || (status(&rig, &a) == "UP").then_some(()));
    assert_eq!(status(&rig, &b), "DOWN");
    let heard: BTreeSet<String> = (0..8).map(|_| asked(&rig)).collect();
    assert_eq!(heard, ["+PONG a".to_owned()].into());

    sick.store(true, Ordering::SeqCst);
    eventually("the check of `b` passes", || (status(&rig, &b) == "UP").then_some(()));
    let heard: BTreeSet<String> = (0..8).map(|_| asked(&rig)).collect();
    assert_eq!(heard, ["+PONG a".to_owned(), "+PONG b".to_owned()].into());

    well.store(false, Ordering::SeqCst);
    eventually("the check of `a` fails", || (status(&rig, &a) == "DOWN").then_some(()));
    assert_eq!(asked(&rig), "+PONG b");
    sick.store(false, Ordering::SeqCst);
    eventually("no check passes", || (status(&rig, &b) == "DOWN").then_some(()));
    assert!(asked(&rig).starts_with("-SICK"), "where none is well, all are used");

    rig.replace(&routed(ANY, "", "", &[a.addr, b.addr]));
    eventually("nobody is asked any more", || (status(&rig, &a) == "UP" && status(&rig, &b) == "UP").then_some(()));
}

#[test]
fn a_server_that_is_new_waits_for_its_first_check() {
    let well = Arc::new(AtomicBool::new(true));
    let (a, b) = (answers('a', &well), answers('b', &well));
    let rig = Rig::start(&routed(ANY, "", CHECK, &[a.addr]), &["--workers=1"]);
    eventually("`a` is well", || (status(&rig, &a) == "UP").then_some(()));
    // Its check never ends in this test's time, so that it is never known to be well.
    let silent = Tcp::start(|mut stream, _| drop(stream.read_to_end(&mut Vec::new())));
    rig.replace(&routed(ANY, "", CHECK, &[a.addr, b.addr, silent.addr]));
    eventually("`b` is well", || (status(&rig, &b) == "UP").then_some(()));
    let heard: BTreeSet<String> = (0..8).map(|_| asked(&rig)).collect();
    assert_eq!(heard, ["+PONG a".to_owned(), "+PONG b".to_owned()].into());
    assert_eq!(status(&rig, &silent), "DOWN");
}
