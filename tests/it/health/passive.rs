//! `passiveHealthCheck`: servers that fail requests are left alone.

use super::backend::{Backend, Says};
use super::{Rig, over};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpListener;

fn rule(window: &str, most: u32) -> Value {
    json!({"passiveHealthCheck": {"failureWindow": window, "maxFailedAttempts": most}})
}

#[test]
fn a_server_that_fails_requests_is_left_alone() {
    let (a, b) = (Backend::start("a", Says::Status(200)), Backend::start("b", Says::Status(200)));
    let rig = Rig::start(&[]);
    rig.put_and_see(&[("web", over(&[a.addr, b.addr], rule("1h", 2)))]);
    assert_eq!(rig.who("web", 6), ["a", "b"]);
    a.answer(500);
    let before = a.requests();
    while rig.status("web", a.addr).as_deref() == Some("UP") {
        rig.get("web");
    }
    assert_eq!(a.requests(), before + 2, "after two failures in a row");
    assert_eq!(rig.why("web", a.addr), "it failed too many requests in a row");
    assert_eq!(rig.who("web", 8), ["b"]);
    // No more than half of them: the other one stays, whatever it answers.
    b.answer(503);
    for _ in 0..6 {
        assert_eq!(rig.get("web").status, 503);
    }
    assert_eq!((a.requests(), rig.status("web", b.addr).as_deref()), (before + 2, Some("UP")));
}

#[test]
fn a_server_comes_back_after_the_window() {
    let (a, b) = (Backend::start("a", Says::Status(200)), Backend::start("b", Says::Status(200)));
    let rig = Rig::start(&[]);
    rig.put_and_see(&[("web", over(&[a.addr, b.addr], rule("50ms", 1)))]);
    a.answer(500);
    while a.requests() == 0 {
        rig.get("web");
    }
    a.answer(200);
    rig.wait("web", a.addr, "UP");
    assert_eq!(rig.who("web", 8), ["a", "b"]);
}

#[test]
fn a_reset_counts_and_other_statuses_do_not() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let resets = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1_024]);
        }
    });
    let other = Backend::start("other", Says::Status(200));
    other.answer(404);
    let rig = Rig::start(&[]);
    rig.put_and_see(&[("web", over(&[resets, other.addr], rule("1h", 1)))]);
    while rig.status("web", resets).as_deref() == Some("UP") {
        rig.get("web");
    }
    for _ in 0..4 {
        assert_eq!(rig.get("web").status, 404);
    }
    assert_eq!(rig.status("web", other.addr).as_deref(), Some("UP"));
}
