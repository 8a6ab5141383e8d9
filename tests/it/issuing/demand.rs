//! Certificates on demand: at the first handshake, for hosts that a route names, if who is asked allows it and within limits.

use super::trouble::webhook;
use super::{Proxy, World, leaf_of, unverified};
use crate::acme::ca::{Fault, Manner};
use crate::support::{eventually, tls};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

const ON_DEMAND: &[&str] = &["--rustLb.certificates.resolver=http", "--rustLb.certificates.onDemand=true"];

/// What a client's handshake gets.
fn get(proxy: &Proxy, host: &str) -> Option<Vec<u8>> {
    let connection = tls::tcp(proxy.serve.address("websecure"), Ipv4Addr::UNSPECIFIED).ok()?;
    unverified(connection, host)
}

/// Answers `GET /?domain=<name>` with 200 for one name and 403 for all others.
fn gate(allowed: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut line = String::new();
            if BufReader::new(&stream).read_line(&mut line).is_err() {
                continue;
            }
            let yes = line.starts_with(&format!("GET /ok?key=1&domain={allowed} "));
            let status = if yes { "200 OK" } else { "403 Forbidden" };
            // A client that has gone away needs no answer.
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    addr
}

#[test]
fn the_first_handshake_orders_and_gets_it_and_limits_hold() {
    let world = World::new(Manner::default());
    let limits = ["--rustLb.certificates.onDemand.perDomain=1", "--rustLb.certificates.onDemand.perProcess=3"];
    let proxy = world.start(world.setup(&[ON_DEMAND, &limits].concat()));
    proxy.route(&[("one.shop.com", "{}"), ("two.shop.com", "{}"), ("one.farm.com", "{}")]);
    eventually("the routes are known", || proxy.admin("/api/http/routers/r2@file").json()["rule"].as_str().map(drop));
    assert_eq!(world.orders(), 0, "nobody asked yet");

    // a moment after the API knows a route, who orders does
    let file = |name: &str| leaf_of(&world.site(name).join(format!("{name}.crt")));
    eventually("a handshake gets it", || {
        get(&proxy, "one.shop.com").filter(|got| Some(got) == file("one.shop.com").as_ref())
    });
    assert_eq!(world.orders(), 1);

    // several at once are one order
    let handshakes: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&proxy, "one.farm.com"))).collect();
        all.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let issued = file("one.farm.com");
    assert!(issued.is_some() && handshakes.iter().all(|got| *got == issued), "{:#?}", proxy.serve.said());
    assert_eq!(world.orders(), 2);

    // another of the same domain is too many; it gets one of the house
    assert!(get(&proxy, "two.shop.com").is_some_and(|got| Some(got) != issued));
    assert!(proxy.problem("order_limit").contains("1 orders an hour for `shop.com`"));
    // hosts that no route names cost nothing
    assert!(get(&proxy, "other.farm.com").is_some());
    assert_eq!(world.orders(), 2);
}

#[test]
fn who_is_asked_decides() {
    let world = World::new(Manner::default());
    let ask = format!("--rustLb.certificates.onDemand.ask=http://{}/ok?key=1", gate("one.shop.com"));
    let proxy = world.start(world.setup(&[ON_DEMAND, &[&*ask]].concat()));
    proxy.route(&[("one.shop.com", "{}"), ("two.shop.com", "{}")]);
    eventually("the routes are known", || proxy.admin("/api/http/routers/r1@file").json()["rule"].as_str().map(drop));
    assert!(get(&proxy, "two.shop.com").is_some());
    assert_eq!(world.orders(), 0);
    let file = || leaf_of(&world.site("one.shop.com").join("one.shop.com.crt"));
    eventually("a handshake gets it", || get(&proxy, "one.shop.com").filter(|got| Some(got) == file().as_ref()));
    assert_eq!(world.orders(), 1);
    eventually("the other is refused", || {
        get(&proxy, "two.shop.com");
        proxy.serve.said().iter().any(|line| line.contains("no certificate on demand")).then_some(())
    });
    assert_eq!(world.orders(), 1);
    let said = proxy.serve.said().join("\n");
    assert!(!said.contains("key=1"), "{said}");
}

/// HinD clears the variables of HTTP proxies, and so does the slot; where they are set all the same, nobody is asked through one.
#[test]
fn no_proxy_of_http_stands_between_us_and_who_is_asked_or_told() {
    let world = World::new(Manner::default());
    // Whoever asks it is going astray.
    let trap = TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("set");
    let address = format!("http://{}", trap.local_addr().expect("bound"));
    let (hook, told) = webhook();
    let ask = format!("http://{}/ok?key=1", gate("one.shop.com"));
    let notify = format!("--rustLb.notify.url=http://{hook}/x");
    let mut setup = world.setup(&["--rustLb.certificates.resolver=http", &notify]).env("ON_DEMAND_TLS_ASK", &ask);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        setup = setup.env(name, &address);
    }
    world.ca.fault("new-order", [Fault::Status(500, None)]);
    let proxy = world.start(setup);
    proxy.route(&[("one.shop.com", "{}"), ("two.shop.com", "{}")]);
    // The gate allowed it, the authority failed, and the webhook heard of that.
    eventually("the webhook is told", || {
        get(&proxy, "one.shop.com");
        told.lock().expect("not poisoned").contains("order_failed").then_some(())
    });
    eventually("the gate refuses the other", || {
        get(&proxy, "two.shop.com");
        proxy.serve.said().iter().any(|line| line.contains("who is asked answered 403")).then_some(())
    });
    let stray = trap.accept().map(|(_, from)| from);
    assert!(stray.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "{stray:?}");
}
