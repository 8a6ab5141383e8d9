//! Several processes and one certificate directory: one order for all, whoever the authority comes to; a standby orders nothing.

use super::{HTTP, TLS, World, leaf_of};
use crate::acme::ca::Manner;
use crate::support::eventually;

#[test]
fn two_processes_on_one_directory_order_once_and_either_answers() {
    let world = World::new(Manner::default());
    let first = world.start(world.setup(&[]));
    let second = world.start_beside(world.setup(&[]));
    let names = ["one.shop.com", "two.shop.com", "three.shop.com"];
    // The authority comes to the first, whichever of the two has ordered.
    for proxy in [&second, &first] {
        proxy.route(&[(names[0], HTTP), (names[1], TLS), (names[2], HTTP)]);
    }
    for name in names {
        let leaf = world.wait_for(&first, name);
        assert_eq!(world.wait_for(&second, name), leaf);
    }
    assert_eq!(world.orders(), 3);
    assert_eq!(world.ca.accounts().0, 1);
    assert_eq!(world.ca.pending(), 0);
}

#[test]
fn one_that_does_not_get_the_lock_waits_and_takes_what_the_other_got() {
    let world = World::new(Manner::default());
    // Another proxy, Caddy say, is at it.
    let storage = rust_lb::certs::storage::Storage::directory(world.certs.clone());
    let lock = storage.lock("issue_cert_one.shop.com", std::time::Duration::ZERO).expect("the lock");
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[("one.shop.com", HTTP), ("two.shop.com", HTTP)]);
    world.wait_for(&proxy, "two.shop.com");
    assert_eq!(world.orders(), 1, "only the name that nobody is at");
    // It has got one: what lies there is taken as it is.
    let (from, to) = (world.site("two.shop.com"), world.site("one.shop.com"));
    std::fs::create_dir_all(&to).expect("made");
    let other = rcgen::generate_simple_self_signed(["one.shop.com".to_owned()]).expect("a pair");
    std::fs::write(to.join("one.shop.com.key"), other.signing_key.serialize_pem()).expect("written");
    std::fs::write(to.join("one.shop.com.crt"), other.cert.pem()).expect("written");
    std::fs::copy(from.join("two.shop.com.json"), to.join("one.shop.com.json")).expect("copied");
    drop(lock);
    let addr = proxy.serve.address("websecure");
    let trust = other.cert.pem();
    let got = eventually("the other's certificate", || super::leaf(addr, "one.shop.com", trust.as_bytes()));
    assert_eq!(Some(got), leaf_of(&to.join("one.shop.com.crt")));
    assert_eq!(world.orders(), 1);
}

#[test]
fn a_standby_orders_nothing_until_it_is_activated() {
    let world = World::new(Manner { waits: true, ..Manner::default() });
    let setup = world.setup(&[]);
    let socket = setup.dir().join("standby.sock");
    let proxy = world.start_beside(setup.arg("--standby").arg(format!("unix:{}", socket.display())));
    proxy.route(&[("one.shop.com", HTTP)]);
    let ask = |line: &str| -> Option<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).ok()?;
        std::io::Write::write_all(
            &mut stream,
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .ok()?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).ok()?;
        Some(answer)
    };
    eventually("the standby knows the route", || {
        ask("GET /api/http/routers/r0@file").filter(|answer| answer.contains("one.shop.com")).map(drop)
    });
    assert_eq!(world.orders(), 0);
    assert!(ask("POST /api/activate").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    world.look_at(&proxy);
    world.wait_for(&proxy, "one.shop.com");
    assert_eq!(world.orders(), 1);
}
