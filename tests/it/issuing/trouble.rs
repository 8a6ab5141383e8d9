//! Authorities and storages that fail: what is served stays, and what is wrong is told, in the API, by metrics and by the webhook.

use super::{HTTP, World, leaf};
use crate::acme::ca::{Fault, Manner};
use crate::support::eventually;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// A webhook, and what it was told.
pub fn webhook() -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let told = Arc::<Mutex<String>>::default();
    let hears = told.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_ok() {
                hears.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&body));
            }
            // A client that has gone away needs no answer.
            let _ = (&stream).write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    (addr, told)
}

/// Puts a pair where the authority's would lie, that began and ends then.
pub fn put(world: &World, name: &str, begin: SystemTime, end: SystemTime) -> String {
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).expect("names");
    (params.not_before, params.not_after) = (begin.into(), end.into());
    let key = rcgen::KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("signed").pem();
    let dir = world.site(name);
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    std::fs::write(dir.join(format!("{name}.crt")), &pem).expect("written");
    std::fs::write(dir.join(format!("{name}.json")), format!(r#"{{"sans":["{name}"],"issuer_data":null}}"#))
        .expect("written");
    pem
}

#[test]
fn an_authority_that_fails_leaves_the_old_pair_and_is_told() {
    let world = World::new(Manner::default());
    let now = SystemTime::now();
    // due since long, and ends soon
    let trust = put(&world, "one.shop.com", now - Duration::from_secs(80 * 86_400), now + Duration::from_secs(86_400));
    world.ca.fault("new-order", vec![Fault::Problem(429, "rateLimited", "too many", Some(3_600)); 3]);
    let (hook, told) = webhook();
    let proxy = world.start(world.setup(&[&format!("--rustLb.notify.url=http://{hook}/x?token=secret")]));
    proxy.route(&[("one.shop.com", HTTP)]);
    let message = proxy.problem("order_failed");
    assert!(message.contains("`one.shop.com`") && message.contains("too many"), "{message}");
    assert!(proxy.problem("certificate_expires").contains("`one.shop.com`"));
    proxy.counts("rust_lb_certificate_orders_total{resolver=\"http\",result=\"failed\"} 1");
    let addr = proxy.serve.address("websecure");
    assert!(leaf(addr, "one.shop.com", trust.as_bytes()).is_some(), "the old one serves");
    let events = eventually("the webhook is told", || {
        let told = told.lock().expect("not poisoned").clone();
        (told.contains("order_failed") && told.contains("certificate_expires")).then_some(told)
    });
    assert!(events.contains("\"status\":\"firing\"") && !events.contains("secret"), "{events}");
    assert!(!proxy.serve.said().join("\n").contains("token=secret"));
    assert_eq!(world.orders(), 1, "as long as the authority asks for it nothing is tried again");
}

#[test]
fn what_cannot_be_stored_is_served_from_memory_and_told() {
    let world = World::new(Manner::default());
    // A link to nowhere can neither be read nor written below.
    let site = world.site("one.shop.com");
    std::fs::create_dir_all(site.parent().expect("a parent")).expect("made");
    std::os::unix::fs::symlink("/nonexistent/anywhere", &site).expect("linked");
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[("one.shop.com", HTTP), ("two.shop.com", HTTP)]);
    world.wait_for(&proxy, "two.shop.com");
    let trust = world.trust("two.shop.com").expect("one was stored");
    let addr = proxy.serve.address("websecure");
    eventually("it is served all the same", || leaf(addr, "one.shop.com", &trust));
    assert!(proxy.problem("certificate_not_stored").contains("`one.shop.com`"));
    assert_eq!(world.orders(), 2);
}
