//! Servers that work on so many requests at once and no more.

use super::rig::{Client, LIMIT, Rig, Route, Start};
use crate::balancing::{answer, held};
use rust_lb::http::Reason;
use std::io::Read;
use std::net::SocketAddr;

/// A route to these servers, each of which works on `most` requests; `queue` more may wait.
fn limited(servers: &[SocketAddr], most: i64, queue: i64) -> [Route; 1] {
    let urls: Vec<String> = servers.iter().map(|server| format!("http://{server}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    [Route { limits: Some((most, queue)), ..Route::to("h.test", &urls) }]
}

/// Sends a request whose answer is not read yet.
fn send(rig: &Rig) -> Client {
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    client
}

fn who(client: &mut Client) -> String {
    let response = client.response("GET");
    assert_eq!(response.status, 200);
    response.header("x-server").expect("a server")
}

#[test]
fn the_limit_holds_over_all_workers_and_everybody_is_answered() {
    const MOST: usize = 3;
    const REQUESTS: usize = 60;
    let (addr, requests) = held();
    let rig = Start { workers: 2, ..Start::default() }.run(&limited(&[addr], 3, 100));
    let mut open: Vec<Client> = (0..REQUESTS).map(|_| send(&rig)).collect();
    let mut there = Vec::new();
    for answered in 0..REQUESTS {
        let left = REQUESTS - answered;
        while there.len() < MOST.min(left) {
            there.push(requests.recv_timeout(LIMIT).expect("a request").1);
        }
        rig.until("the others wait", |rig| rig.waiting() == left.saturating_sub(MOST));
        assert!(requests.try_recv().is_err(), "one too many");
        answer(there.swap_remove(0), "200 OK", "s");
    }
    for client in &mut open {
        assert_eq!(who(client), "s");
    }
}

#[test]
fn who_finds_the_queue_full_is_told_at_once() {
    let (addr, requests) = held();
    let rig = Start { workers: 2, ..Start::default() }.run(&limited(&[addr], 1, 1));
    let mut first = send(&rig);
    let (_, stream) = requests.recv_timeout(LIMIT).expect("a request");
    let mut second = send(&rig);
    rig.until("it waits", |rig| rig.waiting() == 1);
    for _ in 0..4 {
        let response = rig.get("h.test", "/");
        assert_eq!((response.status, response.header("retry-after").as_deref()), (503, Some("1")));
        assert_eq!(rig.record().reason, Some(Reason::QueueFull));
    }
    answer(stream, "200 OK", "s");
    assert_eq!(who(&mut first), "s");
    let (_, stream) = requests.recv_timeout(LIMIT).expect("the one that waited");
    answer(stream, "200 OK", "s");
    assert_eq!(who(&mut second), "s");
}

#[test]
fn a_busy_server_is_passed_over_and_who_waits_goes_to_one_that_appears() {
    let (one, two) = (held(), held());
    let rig = Rig::start(&limited(&[one.0], 1, 100));
    let mut first = send(&rig);
    let (_, busy) = one.1.recv_timeout(LIMIT).expect("a request");
    let mut second = send(&rig);
    rig.until("it waits", |rig| rig.waiting() == 1);
    rig.publish(&limited(&[one.0, two.0], 1, 100));
    let (_, stream) = two.1.recv_timeout(LIMIT).expect("the one that waited");
    answer(stream, "200 OK", "two");
    assert_eq!(who(&mut second), "two");
    // The other one is busy still.
    let mut third = send(&rig);
    let (_, stream) = two.1.recv_timeout(LIMIT).expect("a request");
    answer(stream, "200 OK", "two");
    assert_eq!(who(&mut third), "two");
    answer(busy, "200 OK", "one");
    assert_eq!(who(&mut first), "one");
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let (addr, requests) = held();
    let rig = Rig::start(&limited(&[addr], 1, 100));
    let leaves = send(&rig);
    let (_, mut stream) = requests.recv_timeout(LIMIT).expect("a request");
    let waits = send(&rig);
    rig.until("it waits", |rig| rig.waiting() == 1);
    let mut stays = send(&rig);
    rig.until("both wait", |rig| rig.waiting() == 2);
    // One from the queue, one from the server, which sees its connection end.
    drop(waits);
    rig.until("one is gone", |rig| rig.waiting() == 1);
    drop(leaves);
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    let (_, stream) = requests.recv_timeout(LIMIT).expect("the one that stayed");
    answer(stream, "200 OK", "s");
    assert_eq!(who(&mut stays), "s");
}
