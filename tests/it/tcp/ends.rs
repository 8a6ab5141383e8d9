//! How connections end: one side before the other, the whole process, and clients that say nothing.

use super::peers::{self, Tcp, dial, hears, says};
use super::{ANY, Rig, routed};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const FOR_EVER: &str = "        terminationDelay: -1\n";

#[test]
fn a_client_that_has_ended_gets_its_answer() {
    let (go, wait) = mpsc::channel();
    let mut server = Tcp::counts(wait);
    let rig = Rig::start(&routed(ANY, "", FOR_EVER, &[server.addr]), &[]);
    let mut client = dial(rig.db());
    says(&mut client, "question");
    client.shutdown(Shutdown::Write).expect("the end");
    assert_eq!(server.next_recorded(), b"question", "the end was passed on");
    go.send(()).expect("the server waits");
    assert_eq!(peers::rest(&mut client), "8");
}

#[test]
fn a_server_that_has_ended_hears_the_client_out() {
    let mut server = Tcp::says_and_ends("bye");
    let rig = Rig::start(&routed(ANY, "", FOR_EVER, &[server.addr]), &[]);
    let mut client = dial(rig.db());
    assert_eq!(peers::rest(&mut client), "bye", "with its end");
    says(&mut client, "and one more thing");
    client.shutdown(Shutdown::Write).expect("the end");
    assert_eq!(server.next_recorded(), b"and one more thing");
}

#[test]
fn the_other_side_has_the_termination_delay_and_no_more() {
    let server = Tcp::says_and_ends("bye");
    let rig = Rig::start(&routed(ANY, "", "        terminationDelay: 50\n", &[server.addr]), &[]);
    let mut client = dial(rig.db());
    assert_eq!(peers::rest(&mut client), "bye");
    // it never ends its own side; the proxy does
    let end = Instant::now() + crate::support::PATIENCE;
    while std::io::Write::write_all(&mut client, b"x").is_ok() {
        assert!(Instant::now() < end, "the connection outlives its delay");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn much_goes_both_ways_at_the_pace_of_the_slower_side() {
    let server = Tcp::echoes();
    let rig = Rig::start(&routed(ANY, "", FOR_EVER, &[server.addr]), &[]);
    let mut client = dial(rig.db());
    let mut writer = client.try_clone().expect("a second handle");
    let all: Vec<u8> = (0..8_000_000u32).map(|at| (at % 251) as u8).collect();
    let sent = all.clone();
    let writing = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &sent).expect("all is taken");
        writer.shutdown(Shutdown::Write).expect("the end");
    });
    let mut back = Vec::new();
    std::io::Read::read_to_end(&mut client, &mut back).expect("all comes back");
    writing.join().expect("the writer");
    assert!(back == all, "{} of {} bytes", back.len(), all.len());
}

#[test]
fn a_client_that_says_nothing_does_not_stay() {
    let server = Tcp::echoes();
    // a router that wants TLS makes the proxy wait for what the client says
    let text = routed("HostSNI(`a.test`)", "      tls:\n        passthrough: true\n", "", &[server.addr]);
    let rig = Rig::start(&text, &["--entryPoints.db.transport.respondingTimeouts.readTimeout=200ms"]);
    let mut silent = dial(rig.db());
    let mut slow = dial(rig.db());
    std::io::Write::write_all(&mut slow, b"\x16\x03\x01").expect("said");
    assert_eq!(peers::rest(&mut silent), "");
    assert_eq!(peers::rest(&mut slow), "");
}

#[test]
fn an_open_connection_lives_through_a_drain_until_it_ends() {
    let server = Tcp::echoes();
    let rig = Rig::start(&routed(ANY, "", "", &[server.addr]), &[]);
    let mut client = dial(rig.db());
    says(&mut client, "a");
    assert_eq!(hears(&mut client, 1), "a");
    let address = rig.db();
    let stopping = std::thread::spawn(move || drop(rig));
    crate::support::eventually("nobody is taken in any more", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    says(&mut client, "b");
    assert_eq!(hears(&mut client, 1), "b");
    drop(client);
    stopping.join().expect("it ends");
}
