//! Dynamic updates against bind, where it is installed.

use super::{looking_at, solver};
use crate::support::program::have;
use rust_lb::acme::dns::{DnsError, TsigFault};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Named(Child);

impl Drop for Named {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(dir: &std::path::Path, port: u16) -> Named {
    let shown = dir.display();
    let config = format!(
        "options {{ directory \"{shown}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
         pid-file none; recursion no; dnssec-validation no; session-keyfile \"{shown}/session.key\"; }};\n\
         controls {{ }};\n\
         key \"acme\" {{ algorithm hmac-sha224; secret \"c2VjcmV0IG9mIHRoZSB6b25l\"; }};\n\
         zone \"zone.test\" {{ type primary; file \"zone.db\"; update-policy {{ grant acme name _acme-challenge.www.zone.test. TXT; }}; }};\n"
    );
    let zone = "$TTL 60\n@ SOA ns1 admin 1 60 60 60 60\n@ NS ns1\nns1 A 127.0.0.1\n";
    std::fs::write(dir.join("named.conf"), config).expect("written");
    std::fs::write(dir.join("zone.db"), zone).expect("written");
    let child = Command::new("named")
        .args(["-g", "-n", "1", "-c"])
        .arg(dir.join("named.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("named starts");
    Named(child)
}

#[tokio::test]
async fn bind_takes_our_updates_and_its_refusals_are_understood() {
    if !have("named") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let port = crate::support::ports::free();
    let _named = start(dir.path(), port);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let nameserver = address.to_string();
    let with = |name, secret| {
        let variables = [
            ("RFC2136_NAMESERVER", nameserver.as_str()),
            ("RFC2136_TSIG_ALGORITHM", "hmac-sha224"),
            ("RFC2136_TSIG_KEY", name),
            ("RFC2136_TSIG_SECRET", secret),
            // The server below is no resolver: it refuses to follow what is not its own.
            ("LEGO_DISABLE_CNAME_SUPPORT", "true"),
        ];
        solver("rfc2136", &variables, looking_at(address))
    };
    let good = with("acme", "c2VjcmV0IG9mIHRoZSB6b25l");
    let late = Instant::now() + Duration::from_secs(60);
    while let Err(error) = good.present("www.zone.test", "first").await {
        assert!(Instant::now() < late, "bind does not take the update: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    good.present("www.zone.test", "second").await.expect("set");
    good.wait("www.zone.test", "first").await.expect("seen");
    good.wait("www.zone.test", "second").await.expect("seen");
    good.clean_up("www.zone.test", "first").await.expect("taken away");
    good.wait("www.zone.test", "second").await.expect("still there");
    let refused = async |solver: rust_lb::acme::dns::Solver, domain: &str| match solver.present(domain, "x").await {
        Err(DnsError::Refused { code, tsig, .. }) => (code.to_string(), tsig),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(with("acme", "b3RoZXI="), "www.zone.test").await.1, Some(TsigFault::BadSig));
    assert_eq!(refused(with("other", "b3RoZXI="), "www.zone.test").await.1, Some(TsigFault::BadKey));
    let (code, fault) = refused(with("acme", "c2VjcmV0IG9mIHRoZSB6b25l"), "zone.test").await;
    assert!(code.starts_with("REFUSED") && fault.is_none(), "{code}");
}
