//! State by identity, ejections, response times.

use super::*;

fn id(url: &str) -> ServerId {
    ServerId { service: "web@nomad".into(), url: url.into() }
}

#[test]
fn state_is_by_identity() {
    let registry = Registry::default();
    let one = registry.server(&id("http://10.0.0.1:80"));
    registry.server(&id("http://10.0.0.1:80")).request(1);
    assert_eq!(one.in_flight(), 1);
    assert_eq!(registry.server(&id("http://10.0.0.2:80")).in_flight(), 0);
    registry.server(&id("http://10.0.0.1:80")).request(-1);
    assert_eq!(one.in_flight(), 0);
    assert_eq!(registry.service(&"a".into()).next(), 0);
    assert_eq!(registry.service(&"a".into()).next(), 1);
}

#[test]
fn unused_entries_go_after_a_while_and_held_ones_stay() {
    let start = Instant::now();
    let registry = Registry::new(start);
    let held = registry.server(&id("http://10.0.0.1:80"));
    drop(registry.server(&id("http://10.0.0.2:80")));
    registry.sweep(start);
    assert_eq!(registry.servers(start).len(), 2);
    registry.sweep(start + KEEP_UNUSED);
    let left = registry.servers(start);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, *held.id());
}

#[test]
fn ejection_doubles_up_to_its_limit_and_ends_with_a_connection() {
    let registry = Registry::default();
    let server = registry.server(&id("http://10.0.0.1:80"));
    let mut now = 1_000;
    for expected in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        server.unreachable(now);
        server.unreachable(now + 1); // fails together with the first: counts once
        assert!(server.is_ejected(now + expected - 1), "{expected}");
        now += expected;
        assert!(!server.is_ejected(now), "{expected}");
    }
    server.unreachable(now);
    server.reachable();
    assert!(!server.is_ejected(now));
    server.unreachable(now);
    assert!(!server.is_ejected(now + 500));
}

#[test]
fn response_times_are_means_that_are_forgotten() {
    let registry = Registry::default();
    let server = registry.server(&id("http://10.0.0.1:80"));
    assert_eq!(server.response_time(0), None);
    for time in [10, 20, 30] {
        server.answered_in(Duration::from_millis(time), 1_000);
    }
    assert_eq!(server.response_time(1_000), Some(20_000.0));
    assert_eq!(server.response_time(11_000), Some(10_000.0));
    for _ in 0..1_000 {
        server.answered_in(Duration::from_micros(500), 1_000);
    }
    assert!(server.response_time(1_000).is_some_and(|time| (400.0..700.0).contains(&time)));
    server.answered_in(Duration::MAX, 1_000);
    server.answered_in(Duration::ZERO, 1_000);
    assert!(server.response_time(1_000).is_some() && server.response_time(u64::MAX) == Some(1.0));
}

#[test]
fn a_check_that_did_not_pass_keeps_requests_away() {
    let registry = Registry::default();
    let server = registry.server(&id("http://10.0.0.1:80"));
    let looks = || (server.is_ejected(5), server.may_try(5), server.standing());
    assert_eq!(looks(), (false, true, Standing::Usable));
    server.judged(Verdict::Awaited, None);
    assert_eq!(looks(), (true, false, Standing::Awaited));
    server.judged(Verdict::Failing, Some("status 500".into()));
    assert_eq!(looks(), (true, false, Standing::Failing));
    let now = Instant::now();
    let down: Vec<_> = registry.down(now).into_iter().map(|(_, why)| why).collect();
    assert_eq!(down, ["its health check fails: status 500".into()]);
    server.judged(Verdict::Passing, None);
    assert_eq!(looks(), (false, true, Standing::Usable));
    assert!(registry.down(now).is_empty() && registry.is_up(server.id(), now));
}

#[test]
fn a_health_check_and_the_catalog_both_have_to_be_well() {
    use Verdict::{Awaited, Failing, Passing, Unchecked};
    let registry = Registry::default();
    let server = registry.server(&id("http://10.0.0.1:80"));
    for (checked, reported, standing) in [
        (Passing, Failing, Standing::Failing),
        (Failing, Passing, Standing::Failing),
        (Awaited, Failing, Standing::Failing),
        (Passing, Awaited, Standing::Awaited),
        (Unchecked, Passing, Standing::Usable),
        (Passing, Unchecked, Standing::Usable),
    ] {
        server.judged(checked, None);
        server.reported(reported, Some("`up`: status 503".into()));
        let usable = standing == Standing::Usable;
        assert_eq!(
            (server.standing(), server.is_ejected(5), server.may_try(5), server.is_awaited()),
            (standing, !usable, usable, [checked, reported].contains(&Awaited)),
            "{checked:?} {reported:?}"
        );
        assert_eq!(registry.is_up(server.id(), Instant::now()), usable);
    }
    server.reported(Failing, Some("`up`: status 503".into()));
    let down = registry.down(Instant::now());
    assert_eq!(&*down[0].1, "its check in the catalog fails: `up`: status 503");
}

#[test]
fn a_refusal_is_remembered_from_its_first_time_until_a_connection() {
    let registry = Registry::default();
    let server = registry.server(&id("http://10.0.0.1:80"));
    server.refused(0);
    server.refused(700);
    assert_eq!(server.standing(), Standing::Refuses(0));
    assert!(!registry.is_up(server.id(), Instant::now()), "also between two tries");
    server.reachable();
    assert_eq!(server.standing(), Standing::Usable);
    server.unreachable(900);
    assert_eq!(server.standing(), Standing::Usable, "a time-out is no refusal");
}

#[test]
fn at_most_half_of_the_servers_are_left_alone_for_failed_requests() {
    let registry = Registry::default();
    let servers: Vec<_> = (0..5).map(|n| registry.server(&id(&format!("http://10.0.0.{n}:80")))).collect();
    let rule = Passive::new(Duration::from_secs(10), 1);
    for server in &servers {
        server.failed(&rule, 10, servers.iter().map(|server| &**server));
    }
    let out: Vec<_> = servers.iter().map(|server| server.is_ejected(11)).collect();
    assert_eq!(out, [true, true, false, false, false]);
    servers[0].served();
    assert!(!servers[0].is_ejected(11));
    let alone = registry.server(&id("http://10.0.1.1:80"));
    alone.failed(&rule, 10, std::iter::once(&*alone));
    assert!(alone.is_ejected(11), "one may always");
}

#[test]
fn one_request_tries_a_server_after_its_ejection() {
    let registry = Registry::default();
    let server = registry.server(&id("http://10.0.0.1:80"));
    assert!(server.may_try(0) && server.may_try(0), "nothing is known against it");
    server.unreachable(1_000);
    assert!(!server.may_try(1_499));
    assert!(server.may_try(1_500), "the first after the ejection");
    assert!(!server.may_try(1_500) && !server.may_try(2_499), "the others wait for its word");
    // It did not get through, and says so in time: that counts once, with the try itself.
    server.unreachable(1_600);
    assert!(server.may_try(2_500) && !server.may_try(4_499));
    server.reachable();
    assert!(server.may_try(2_501) && server.may_try(2_501));
}
