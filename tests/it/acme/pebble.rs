//! The same against pebble, Let's Encrypt's test authority, with its challenge test server as name server, where
//! both are on PATH. Otherwise the test says `skipped`; with `RUST_LB_TEST_REQUIRE=pebble,pebble-challtestsrv` a skip
//! is a failure.

use super::front::Front;
use super::quick;
use crate::support::ports::free as port;
use crate::support::program;
use rust_lb::acme::{Authority, Client, KeyType, Method, Order};
use rust_lb::certs::storage::Storage;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> Ends {
    Ends(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started"))
}

/// Waits until something listens.
async fn up(port: u16) {
    let there = async { while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {} };
    tokio::time::timeout(crate::support::PATIENCE, there).await.expect("it listens");
}

/// Whether the programs are of pebble 2.6 or later, by what they say of themselves.
fn is_new() -> bool {
    let help = Command::new("pebble-challtestsrv").arg("-help").output().expect("started");
    String::from_utf8_lossy(&help.stderr).contains("-dnsserver")
}

#[tokio::test(flavor = "multi_thread")]
async fn pebble_issues() {
    if !(program::have("pebble") && program::have("pebble-challtestsrv")) {
        return;
    }
    rust_lb::certs::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let storage = Storage::directory(dir.path().join("store"));
    let front = Front::start(storage.clone()).await;
    let (http, tls) = front.ports();
    let (acme, management, dns, records) = (port(), port(), port(), port());
    let local = |port: u16| format!("127.0.0.1:{port}");
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let config = serde_json::json!({"pebble": {
        "listenAddress": local(acme), "managementListenAddress": local(management),
        "certificate": file("cert.pem", &own.cert.pem()), "privateKey": file("key.pem", &own.signing_key.serialize_pem()),
        "httpPort": http, "tlsPort": tls, "ocspResponderURL": "", "externalAccountBindingRequired": false,
        "retryAfter": {"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
        "profiles": {"default": {"description": "x", "validityPeriod": 7_776_000},
            "shortlived": {"description": "y", "validityPeriod": 518_400}},
    }});
    let config = file("pebble.json", &config.to_string());
    // Debian's 2.4 names its flags otherwise, and knows neither renewal information nor profiles.
    let is_new = is_new();
    let mut names = Command::new("pebble-challtestsrv");
    names.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-management", &local(records)]);
    names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
    let _names = run(match is_new {
        true => names.args(["-doh", "", "-dnsserver", &local(dns)]),
        false => names.args(["-dns01", &local(dns)]),
    });
    let _pebble = run(Command::new("pebble")
        .args([Path::new("-config"), &config, Path::new("-strict"), Path::new("-dnsserver"), Path::new(&local(dns))])
        .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "5"), ("PEBBLE_ALTERNATE_ROOTS", "2")]));
    up(records).await;
    up(acme).await;
    front.pass_on(([127, 0, 0, 1], records).into());
    let client = Client::with_timing(storage.clone(), front.challenges.clone(), quick());
    let mut authority = Authority::new(format!("https://{}/dir", local(acme)));
    (authority.roots, authority.system_roots) = (vec![own.cert.pem()], false);
    authority.email = Some("ops@rust-lb.test".to_owned());
    let mut last = None;
    for (names, method) in [
        (vec!["h.rust-lb.test", "i.rust-lb.test"], Method::Http),
        (vec!["d.rust-lb.test", "*.d.rust-lb.test"], front.dns()),
        // In the place of one for other names, which pebble refuses, and of its own predecessor.
        (vec!["t.rust-lb.test"], Method::TlsAlpn),
        (vec!["t.rust-lb.test"], Method::TlsAlpn),
    ] {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let replaces: Option<String> = last.take();
        let methods = [method];
        let replaces = if names == ["t.rust-lb.test"] { replaces } else { None };
        let order = Order { names: &names, authority: &authority, methods: &methods, replaces: replaces.as_deref() };
        let issued = client.order(order).await.unwrap_or_else(|error| panic!("{names:?}: {error}"));
        let window = client.renewal_info(&authority, &issued.chain).await.expect("asked");
        assert_eq!((issued.renew_at.is_some(), window.is_some()), (is_new, is_new), "pebble tells when to renew");
        assert_eq!(window.map(|window| window.id), issued.window.map(|window| window.id));
        authority.key_type = KeyType::Ec384;
        authority.profile = is_new.then(|| "shortlived".to_owned());
        last = Some(issued.chain);
    }
    let left = storage.list("acme").expect("listed");
    assert_eq!(left.len(), 2, "the account, and no token: {left:?}");
    // Another process goes on with the account.
    let again = Client::with_timing(storage.clone(), front.challenges.clone(), quick());
    let names = ["z.rust-lb.test".to_owned()];
    let order = Order { names: &names, authority: &authority, methods: &[Method::Http], replaces: None };
    let issued = again.order(order).await.expect("issued");
    let json =
        storage.read(left.iter().find(|key| key.ends_with(".json")).expect("there")).expect("read").expect("there");
    let account: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(account["location"], issued.json["issuer_data"]["account"]);
}
