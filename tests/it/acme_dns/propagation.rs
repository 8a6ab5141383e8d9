//! The wait until a record is seen.

use super::server::{Server, Udp};
use super::{looking_at, solver};
use rust_lb::acme::dns::{DnsError, Propagation, Settings, Solver};
use std::sync::Arc;
use std::time::Duration;

const AT: &str = "_acme-challenge.zone.test.";

/// A resolver that knows the zone and its two name servers.
fn stage() -> [Server; 2] {
    let [first, second] = Server::at([1, 2]);
    let servers = [("ns1.zone.test.", first.address.ip()), ("ns2.zone.test.", second.address.ip())];
    first.zone("zone.test.", &servers);
    second.zone("zone.test.", &servers);
    [first, second]
}

fn waiting(limit: Duration, propagation: Propagation) -> Solver {
    let mut settings = Settings::acme_dns("/does/not/exist");
    settings.timing.propagation = limit;
    settings.timing.interval = Duration::from_millis(5);
    settings.timing.query = Duration::from_millis(400);
    Solver::new(&settings, propagation).expect("a solver")
}

#[tokio::test]
async fn the_wait_ends_when_the_last_server_has_it() {
    let [first, second] = stage();
    let solver = solver("exec", &[("EXEC_PATH", "/bin/true")], looking_at(first.address));
    first.txt(AT, "value");
    let second = Arc::new(second);
    let late = second.clone();
    let set = tokio::task::spawn_blocking(move || {
        late.wait_until_asked(&format!("TXT {AT}"));
        late.txt(AT, "value");
    });
    solver.wait("zone.test", "value").await.expect("seen everywhere");
    set.await.expect("set");
    assert_eq!(second.texts(AT), ["value"]);
}

#[tokio::test]
async fn a_wait_in_vain_says_who_answered_what() {
    let [first, second] = stage();
    first.txt(AT, "value");
    second.txt(AT, "yesterday's");
    let solver = waiting(Duration::from_secs(4), looking_at(first.address));
    let error = solver.wait("zone.test", "value").await.expect_err("not everywhere").to_string();
    assert!(error.contains("ns2.zone.test. (127.0.0.2:") && error.contains("answers \"yesterday's\""), "{error}");
    assert!(!error.contains("ns1"), "{error}");
    let error = solver.wait("www.zone.test", "value").await.expect_err("nowhere").to_string();
    assert!(error.contains("ns1.zone.test.") && error.contains("NXDOMAIN"), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_named_and_the_wait_ends() {
    let [first, second] = stage();
    first.txt(AT, "value");
    let at = second.address;
    drop(second);
    // The port stays taken by nobody: refused over UDP and TCP.
    let solver = waiting(Duration::from_secs(4), looking_at(first.address));
    let error = solver.wait("zone.test", "value").await.expect_err("one is away").to_string();
    assert!(error.contains(&format!("ns2.zone.test. ({at})")), "{error}");
}

#[tokio::test]
async fn checks_are_left_out_as_configured() {
    let [first, second] = stage();
    second.txt(AT, "value");
    let off = Propagation { disable_checks: true, ..looking_at(first.address) };
    waiting(Duration::from_millis(300), off).wait("zone.test", "value").await.expect("not looked");
    let neither = Propagation { disable_authoritative: true, ..looking_at(first.address) };
    waiting(Duration::from_millis(300), neither).wait("zone.test", "value").await.expect("not looked");
    assert_eq!((first.state().asked.len(), second.state().asked.len()), (0, 0));
    let resolvers = |server: &Server| Propagation {
        disable_authoritative: true,
        require_all_recursive: true,
        ..looking_at(server.address)
    };
    waiting(Duration::from_secs(10), resolvers(&second)).wait("zone.test", "value").await.expect("the resolver has it");
    let error = waiting(Duration::from_millis(300), resolvers(&first)).wait("zone.test", "value").await;
    assert!(matches!(error, Err(DnsError::NotPropagated { .. })), "{error:?}");
    let nobody = waiting(Duration::from_millis(300), Propagation::default()).wait("zone.test", "value").await;
    assert!(matches!(nobody, Err(DnsError::NoResolvers)), "{nobody:?}");
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_is_away() {
    let [first, second] = stage();
    first.txt(AT, "value");
    second.txt(AT, "value");
    let away = Server::one();
    let mut propagation = looking_at(first.address);
    propagation.resolvers.insert(0, away.address.into());
    drop(away);
    let solver = solver("exec", &[("EXEC_PATH", "/bin/true")], propagation);
    solver.wait("zone.test", "value").await.expect("seen");
}

#[tokio::test]
async fn cut_off_answers_come_over_tcp() {
    let [first, second] = stage();
    for server in [&first, &second] {
        server.txt(AT, "value");
        server.state().udp = Udp::CutOff;
    }
    let solver = solver("exec", &[("EXEC_PATH", "/bin/true")], looking_at(first.address));
    solver.wait("zone.test", "value").await.expect("seen");
    assert!(first.state().over_tcp > 0 && second.state().over_tcp > 0);
}

#[tokio::test]
async fn cnames_in_a_circle_are_an_error() {
    let server = Server::one();
    server.zone("zone.test.", &[("ns1.zone.test.", server.address.ip())]);
    server.cname(AT, "a.zone.test.");
    server.cname("a.zone.test.", AT);
    let solver = solver("exec", &[("EXEC_PATH", "/bin/true")], looking_at(server.address));
    let error = solver.present("zone.test", "value").await.expect_err("endless");
    assert!(matches!(&error, DnsError::EndlessCname { through, .. } if through.len() == 3), "{error}");
}
