//! Dynamic updates.

use super::server::{Server, Udp};
use super::{looking_at, solver};
use rust_lb::acme::dns::{DnsError, Propagation, Rcode, Solver, TsigFault};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const SECRET: &str = "c2VjcmV0IG9mIHRoZSB6b25l"; // "secret of the zone"
const AT: &str = "_acme-challenge.www.zone.test.";

fn server(algorithm: &'static str) -> Server {
    let server = Server::one();
    server.zone("zone.test.", &[("ns1.zone.test.", server.address.ip())]);
    server.state().key = Some(("acme.key.".into(), algorithm, b"secret of the zone".to_vec()));
    server
}

fn with(server: &Server, more: &[(&str, &str)]) -> Solver {
    let address = server.address.to_string();
    // The first that is found counts.
    let mut variables = more.to_vec();
    variables.extend([("RFC2136_NAMESERVER", address.as_str()), ("RFC2136_TSIG_ALGORITHM", "hmac-sha256.")]);
    variables.extend([("RFC2136_TSIG_KEY", "Acme.Key."), ("RFC2136_TSIG_SECRET", SECRET)]);
    solver("rfc2136", &variables, looking_at(server.address))
}

#[tokio::test]
async fn two_values_stand_at_a_name_and_go_one_by_one() {
    for algorithm in ["hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let server = server(algorithm);
        let solver = with(&server, &[("RFC2136_TSIG_ALGORITHM", algorithm)]);
        server.txt(AT, "somebody-elses");
        solver.present("www.zone.test", "first").await.expect(algorithm);
        solver.present("*.WWW.zone.test.", "second").await.expect(algorithm);
        assert_eq!(server.texts(AT), ["first", "second", "somebody-elses"]);
        solver.wait("www.zone.test", "second").await.expect("seen");
        solver.clean_up("www.zone.test", "first").await.expect(algorithm);
        assert_eq!(server.texts(AT), ["second", "somebody-elses"]);
        // Again, and by a process that has not set it.
        solver.clean_up("www.zone.test", "first").await.expect("nothing to do");
        with(&server, &[("RFC2136_TSIG_ALGORITHM", algorithm)])
            .clean_up("www.zone.test", "second")
            .await
            .expect("gone");
        assert_eq!(server.texts(AT), ["somebody-elses"]);
        assert_eq!(server.state().over_tcp, 0);
    }
}

#[tokio::test]
async fn tcp_where_udp_is_cut_off_or_silent() {
    for udp in [Udp::CutOff, Udp::Silent] {
        let server = server("hmac-sha256");
        server.state().udp = udp;
        // The zone is given: fewer questions.
        let address = server.address.to_string();
        let variables = [
            ("RFC2136_NAMESERVER", address.as_str()),
            ("RFC2136_ZONES", "test,zone.test"),
            ("RFC2136_TSIG_ALGORITHM", "hmac-sha256"),
            ("RFC2136_TSIG_KEY", "acme.key"),
            ("RFC2136_TSIG_SECRET", SECRET),
        ];
        let solver = solver("rfc2136", &variables, Propagation::default());
        solver.present("www.zone.test", "value").await.expect("set over TCP");
        assert_eq!((server.texts(AT), server.state().over_tcp), (vec!["value".to_owned()], 1));
    }
}

async fn refusal(server: &Server, solver: &Solver) -> (Rcode, Option<TsigFault>) {
    let error = solver.present("www.zone.test", "value").await.expect_err("refused");
    assert_eq!(server.texts(AT), Vec::<String>::new());
    assert!(!error.to_string().contains(SECRET));
    match error {
        DnsError::Refused { code, tsig, .. } => (code, tsig),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let server = server("hmac-sha256");
    let wrong = with(&server, &[("RFC2136_TSIG_SECRET", "b3RoZXI=")]);
    assert_eq!(refusal(&server, &wrong).await, (Rcode::NotAuth, Some(TsigFault::BadSig)));
    let unknown = with(&server, &[("RFC2136_TSIG_KEY", "other")]);
    assert_eq!(refusal(&server, &unknown).await, (Rcode::NotAuth, Some(TsigFault::BadKey)));
    let algorithm = with(&server, &[("RFC2136_TSIG_ALGORITHM", "hmac-sha512")]);
    assert_eq!(refusal(&server, &algorithm).await, (Rcode::NotAuth, Some(TsigFault::BadKey)));
    let zone = with(&server, &[("RFC2136_ZONE", "www.zone.test")]);
    assert_eq!(refusal(&server, &zone).await, (Rcode::NotAuth, None));
    let late = with(&server, &[]).with_clock(Arc::new(|| SystemTime::now() - Duration::from_secs(3600)));
    let (code, fault) = refusal(&server, &late).await;
    let Some(TsigFault::BadTime(Some(theirs))) = fault else { panic!("{fault:?}") };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(code == Rcode::NotAuth && now.abs_diff(theirs) < 100, "{theirs}");
    let address = server.address.to_string();
    let unsigned = solver("rfc2136", &[("RFC2136_NAMESERVER", &address)], looking_at(server.address));
    assert_eq!(refusal(&server, &unsigned).await, (Rcode::Refused, None));
}

#[tokio::test]
async fn a_success_that_is_not_signed_does_not_count() {
    let server = server("hmac-sha256");
    server.state().forges = true;
    let error = with(&server, &[]).present("www.zone.test", "value").await.expect_err("not signed");
    assert!(matches!(error, DnsError::Unanswered { .. }), "{error}");
    assert!(error.to_string().contains("does not count: it is not signed"), "{error}");
}

#[tokio::test]
async fn the_record_is_set_behind_the_cname_and_taken_from_there() {
    let server = server("hmac-sha256");
    server.zone("dyn.test.", &[("ns1.zone.test.", server.address.ip())]);
    server.cname(AT, "hop.zone.test.");
    server.cname("hop.zone.test.", "www.dyn.test.");
    let solver = with(&server, &[]);
    solver.present("www.zone.test", "value").await.expect("set");
    assert_eq!(server.texts("www.dyn.test."), ["value"]);
    solver.wait("www.zone.test", "value").await.expect("seen");
    // Whatever the CNAME says by now.
    server.cname(AT, "elsewhere.dyn.test.");
    solver.clean_up("www.zone.test", "value").await.expect("taken away");
    assert_eq!(server.texts("www.dyn.test."), Vec::<String>::new());
    let direct = with(&server, &[("LEGO_DISABLE_CNAME_SUPPORT", "true")]);
    direct.present("www.zone.test", "value").await.expect("set");
    assert_eq!(server.texts(AT), ["value"]);
}

#[tokio::test]
async fn a_server_without_the_zone_or_without_a_voice() {
    let server = server("hmac-sha256");
    let error = with(&server, &[]).present("www.other.example", "value").await.expect_err("not its zone");
    assert!(error.to_string().contains("www.other.example"), "{error}");
    let gone = server.address.to_string();
    let quiet =
        solver("rfc2136", &[("RFC2136_NAMESERVER", &gone), ("RFC2136_ZONE", "zone.test")], Propagation::default());
    drop(server);
    let error = quiet.present("www.zone.test", "value").await.expect_err("nobody there");
    assert!(matches!(&error, DnsError::Unanswered { server, .. } if *server == gone), "{error}");
}

#[tokio::test]
async fn odd_names_and_values_reach_nobody() {
    let server = server("hmac-sha256");
    let solver = with(&server, &[]);
    for domain in ["", "a..b", "a b.test", "a\r\nb.test", "-x.test", "*.*.test"] {
        let error = solver.present(domain, "value").await.expect_err(domain);
        assert!(matches!(error, DnsError::Name { .. }), "{error}");
    }
    let error = solver.present("www.zone.test", "a\"b").await.expect_err("no base64url");
    assert!(matches!(error, DnsError::Value(_)), "{error}");
    assert_eq!(server.state().asked, Vec::<String>::new());
}
