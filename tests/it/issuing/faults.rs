//! Locks that nobody holds any more, authorities that fail or whose clock is wrong, storages that cannot be read: what was served
//! is served on, what is wrong is told, and so is that it is over.

use super::trouble::{put, webhook};
use super::{HTTP, Proxy, TLS, World, leaf};
use crate::acme::ca::{Fault, Manner};
use crate::support::{PATIENCE, eventually};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

const DAY: u64 = 86_400;

/// Puts a pair that is due since long and valid for days.
fn put_due(world: &World, name: &str) -> String {
    let now = SystemTime::now();
    put(world, name, now - Duration::from_secs(80 * DAY), now + Duration::from_secs(10 * DAY))
}

/// Puts a pair that nobody has to renew for long.
fn put_new(world: &World, name: &str) -> String {
    let now = SystemTime::now();
    put(world, name, now - Duration::from_secs(DAY), now + Duration::from_secs(89 * DAY))
}

fn serves(proxy: &Proxy, name: &str, trust: &str) -> bool {
    leaf(proxy.serve.address("websecure"), name, trust.as_bytes()).is_some()
}

/// The messages of all problems with this code.
fn problems(proxy: &Proxy, code: &str) -> Vec<String> {
    let problems = proxy.admin("/api/problems").json();
    let of_code = problems.as_array().into_iter().flatten().filter(|problem| problem["code"] == code);
    of_code.filter_map(|problem| problem["message"].as_str().map(str::to_owned)).collect()
}

/// Waits until a webhook was told of a trouble: `firing` or `resolved`, as often.
fn told(events: &Mutex<String>, status: &str, code: &str, number: usize) {
    let event = format!("\"status\":\"{status}\",\"code\":\"{code}\"");
    eventually(&format!("{event} {number} times"), || {
        (events.lock().expect("not poisoned").matches(&event).count() >= number).then_some(())
    });
}

#[test]
fn locks_that_were_left_behind_are_taken_over_at_once() {
    let world = World::new(Manner::default());
    let locks = world.certs.join("locks");
    fs::create_dir(&locks).expect("made");
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3_600));
    let time = |at: SystemTime| jiff::Timestamp::try_from(at).expect("a time").to_string();
    let written = |at: SystemTime| format!("{{\"created\":\"{}\",\"updated\":\"{}\"}}\n", time(at), time(at));
    let left = [
        ("old.shop.com", written(now - Duration::from_secs(11))),
        ("ahead.shop.com", written(now + hour)),
        ("empty.shop.com", String::new()),
        ("cut.shop.com", "{\"created\":\"2026-".to_owned()),
    ];
    for (name, text) in &left {
        let path = locks.join(format!("issue_cert_{name}.lock"));
        fs::write(&path, text).expect("written");
        let file = fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(now - hour).expect("set back");
    }
    let proxy = world.start(world.setup(&[]));
    proxy.route(&left.each_ref().map(|(name, _)| (*name, HTTP)));
    for (name, _) in &left {
        world.wait_for(&proxy, name);
        proxy.serve.says(&format!("issue_cert_{name}.lock"), 1);
    }
    let said = proxy.serve.said();
    let begun = said.iter().filter(|line| line.contains("ordering a certificate")).count();
    assert_eq!(begun, left.len(), "none was put off: {said:#?}");
    assert_eq!(said.iter().filter(|line| line.contains("the lock is stale")).count(), left.len());
    eventually("none is left", || (fs::read_dir(&locks).ok()?.count() == 0).then_some(()));
}

#[test]
fn whatever_an_authority_answers_the_old_pairs_serve_and_the_reason_is_told() {
    let world = World::new(Manner::default());
    let names = ["one.shop.com", "two.shop.com", "three.shop.com", "four.shop.com"];
    let trust: BTreeMap<&str, String> = names.iter().map(|name| (*name, put_due(&world, name))).collect();
    // Each is what one of the four orders gets; the last one waits until it gives up.
    world.ca.fault("new-order", [Fault::Status(500, None), Fault::Nonsense, Fault::Close, Fault::Hang]);
    let proxy = world.start(world.setup(&[]));
    proxy.route(&names.map(|name| (name, HTTP)));
    let end = Instant::now() + 3 * PATIENCE;
    let failed = loop {
        let failed = problems(&proxy, "order_failed");
        for (name, trust) in &trust {
            assert!(serves(&proxy, name, trust), "{name}");
        }
        if failed.len() == names.len() {
            break failed;
        }
        assert!(Instant::now() < end, "{failed:#?}");
        std::thread::park_timeout(Duration::from_millis(20));
    };
    let all = failed.join("\n");
    for reason in ["answered 500", "makes no sense", "cannot be reached", "no end within 30s"] {
        assert!(all.contains(reason), "{reason}: {all}");
    }
    assert!(!all.contains('\u{1b}'));
    for name in names {
        assert!(all.contains(&format!("`{name}`")), "{name}: {all}");
    }
    proxy.counts("rust_lb_certificate_orders_total{resolver=\"http\",result=\"failed\"} 4");
    assert_eq!(world.orders(), 4, "none is asked for again at once");
}

#[test]
fn a_start_does_not_ask_again_for_what_has_just_failed() {
    let world = World::new(Manner::default());
    let state = tempfile::tempdir().expect("a directory");
    let flags = format!("--rustLb.stateDir={}", state.path().display());
    world.ca.fault("new-order", [Fault::Status(500, None)]);
    let proxy = world.start(world.setup(&[&flags]));
    proxy.route(&[("one.shop.com", HTTP)]);
    let first = proxy.problem("order_failed");
    eventually("it is written down", || {
        let record = fs::read_to_string(state.path().join("certificate-orders.json")).ok()?;
        (record.contains("\"one.shop.com\"") && record.contains("answered 500")).then_some(())
    });
    drop(proxy);
    let proxy = world.start(world.setup(&[&flags]));
    proxy.route(&[("one.shop.com", HTTP), ("two.shop.com", HTTP)]);
    assert_eq!(proxy.problem("order_failed"), first);
    world.wait_for(&proxy, "two.shop.com");
    assert_eq!(world.orders(), 2, "the first name is not asked for again");
    // Another resolver may do better.
    proxy.route(&[("one.shop.com", TLS), ("two.shop.com", HTTP)]);
    world.wait_for(&proxy, "one.shop.com");
    assert!(problems(&proxy, "order_failed").is_empty());
    eventually("it is forgotten", || {
        let record = fs::read_to_string(state.path().join("certificate-orders.json")).ok()?;
        (!record.contains("one.shop.com")).then_some(())
    });
}

#[test]
fn what_somebody_else_has_got_meanwhile_ends_the_trouble() {
    let world = World::new(Manner::default());
    let old = put_due(&world, "one.shop.com");
    world.ca.fault("new-order", [Fault::Status(500, None)]);
    let (hook, events) = webhook();
    let proxy = world.start(world.setup(&[&format!("--rustLb.notify.url=http://{hook}/")]));
    proxy.route(&[("one.shop.com", HTTP)]);
    proxy.problem("order_failed");
    assert!(serves(&proxy, "one.shop.com", &old));
    told(&events, "firing", "order_failed", 1);
    let new = put_new(&world, "one.shop.com");
    eventually("it is served", || serves(&proxy, "one.shop.com", &new).then_some(()));
    // Another resolver makes it look again sooner than the pause after a failure.
    proxy.route(&[("one.shop.com", TLS)]);
    eventually("the problem is gone", || problems(&proxy, "order_failed").is_empty().then_some(()));
    told(&events, "resolved", "order_failed", 1);
    assert_eq!(world.orders(), 1);
}

#[test]
fn a_certificate_that_begins_later_is_waited_for_and_not_ordered_again() {
    let name = "one.shop.com";
    let world = World::new(Manner { dates: vec![(name, 3_600, 90 * 86_400)], ..Manner::default() });
    let old = put_due(&world, name);
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[(name, HTTP), ("two.shop.com", HTTP)]);
    let message = proxy.problem("certificate_ahead");
    assert!(message.contains("`one.shop.com` is not valid before 2"), "{message}");
    world.wait_for(&proxy, "two.shop.com");
    assert!(serves(&proxy, name, &old), "the one from before serves");
    assert_eq!(world.orders(), 2);
    drop(proxy);

    // Another process finds it: there is no other pair now, and still nothing is ordered.
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[(name, HTTP), ("two.shop.com", HTTP)]);
    proxy.problem("certificate_ahead");
    assert!(proxy.problem("certificate_not_yet_valid").contains("`one.shop.com` is not valid yet"));
    assert_eq!(world.orders(), 2);
}

#[test]
fn a_storage_that_cannot_be_locked_stops_nothing_and_is_told() {
    let world = World::new(Manner::default());
    let trust = put_due(&world, "one.shop.com");
    fs::write(world.certs.join("locks"), "a file where a directory should be").expect("written");
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[("one.shop.com", HTTP)]);
    let message = proxy.problem("order_failed");
    assert!(message.contains("the certificate storage: ") && message.contains("/locks"), "{message}");
    assert!(serves(&proxy, "one.shop.com", &trust));
    assert_eq!(world.orders(), 0, "who cannot lock does not order");
}

#[test]
fn a_store_that_cannot_be_read_serves_on_and_the_webhook_hears_of_it_and_of_its_end() {
    let world = World::new(Manner::default());
    let trust = put_new(&world, "one.shop.com");
    let (hook, events) = webhook();
    let proxy = world.start(world.setup(&[&format!("--rustLb.notify.url=http://{hook}/x?token=secret")]));
    proxy.route(&[("one.shop.com", HTTP)]);
    eventually("it is served", || serves(&proxy, "one.shop.com", &trust).then_some(()));
    let away = world.dir.path().join("away");
    fs::rename(&world.certs, &away).expect("moved");
    told(&events, "firing", "certificate_directory", 1);
    assert!(proxy.problem("certificate_directory").contains("certificate directory"));
    assert!(serves(&proxy, "one.shop.com", &trust), "from memory");
    // What may have been made meanwhile is not what was there.
    drop(fs::remove_dir_all(&world.certs));
    fs::rename(&away, &world.certs).expect("moved back");
    told(&events, "resolved", "certificate_directory", 1);

    let crt = world.site("one.shop.com").join("one.shop.com.crt");
    let good = fs::read(&crt).expect("read");
    fs::write(&crt, &good[..good.len() / 2]).expect("written");
    told(&events, "firing", "bad_certificate", 1);
    assert!(serves(&proxy, "one.shop.com", &trust), "the pair from before");
    fs::write(&crt, good).expect("written");
    told(&events, "resolved", "bad_certificate", 1);
    assert!(serves(&proxy, "one.shop.com", &trust));
    assert!(problems(&proxy, "certificate_directory").is_empty() && problems(&proxy, "bad_certificate").is_empty());
    let events = events.lock().expect("not poisoned").clone();
    assert!(!events.contains("secret") && !events.contains("PRIVATE"), "{events}");
    assert_eq!(world.orders(), 0);
}
