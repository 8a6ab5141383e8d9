//! Authorities, networks and stores that fail: what is tried again, what is said, and that nothing stays behind.

use super::ca::Fault;
use super::{Rig, quick};
use crate::support::{PATIENCE, eventually};
use rust_lb::acme::{AcmeError, ChallengeKind, Client, Method, Phase, Timing};
use rust_lb::certs::storage::Storage;
use std::time::Duration;

#[tokio::test]
async fn refused_nonces_and_passing_failures_are_survived() {
    let rig = Rig::start(|manner| (manner.slow, manner.retry_after) = (2, Some(1))).await;
    for resource in ["new-account", "new-order", "authz", "chal", "finalize", "cert"] {
        rig.ca.fault(resource, [Fault::BadNonce, Fault::BadNonce]);
    }
    rig.ca.fault("order", [Fault::Status(500, None), Fault::Close]);
    rig.ca.fault("cert", [Fault::Status(503, Some(1))]);
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    rig.ca.fault("order", [Fault::Nonsense, Fault::Problem(500, "serverInternal", "x", None)]);
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    // Renewal information is not worth a certificate.
    rig.ca.fault("ari", [Fault::Nonsense]);
    let issued = rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    assert!(issued.renew_at.is_none());
}

#[tokio::test]
async fn a_limit_is_told_with_its_time() {
    let rig = Rig::start(|_| {}).await;
    for resource in ["new-account", "new-order", "finalize"] {
        rig.ca.fault(resource, [Fault::Problem(429, "rateLimited", "too many\r\ncertificates", Some(3_600))]);
        let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("refused");
        assert!(error.is_rate_limit(), "{resource}: {error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)), "{resource}");
        assert!(error.to_string().contains("too many  certificates"), "no line breaks for the log: {error}");
    }
    rig.ca.fault("new-order", [Fault::Status(429, Some(60))]);
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("refused");
    assert!(error.is_rate_limit() && error.retry_after() == Some(Duration::from_secs(60)), "{error}");
    assert_eq!((rig.left(), rig.ca.pending()), (Vec::new(), 0));
}

#[tokio::test]
async fn what_makes_no_sense_is_said() {
    let rig = Rig::start(|_| {}).await;
    for (resource, phase) in [
        ("dir", Phase::Account),
        ("new-account", Phase::Account),
        ("new-order", Phase::NewOrder),
        ("authz", Phase::Authorization),
        ("finalize", Phase::Finalize),
    ] {
        for fault in [Fault::Nonsense, Fault::Endless, Fault::Status(500, Some(9)), Fault::Close] {
            rig.ca.fault(resource, [fault.clone()]);
            let text = match rig.order(&["a.test"], &[Method::Http]).await {
                Err(error @ (AcmeError::Nonsense { .. } | AcmeError::Connection { .. })) => error.to_string(),
                Err(error @ AcmeError::Status { status: 500, .. }) => {
                    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
                    error.to_string()
                }
                // A body is not read for a new account: its location is enough.
                Ok(_) if resource == "new-account" => continue,
                other => panic!("{resource} {fault:?} ({phase}): {other:?}"),
            };
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }
    // The chain itself.
    rig.ca.fault("cert", [Fault::Nonsense]);
    assert!(matches!(rig.order(&["a.test"], &[Method::Http]).await, Err(AcmeError::Nonsense { .. })));
    rig.ca.change(|manner| manner.wrong_name = true);
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("another name");
    assert!(matches!(&error, AcmeError::Certificate(text) if text.contains("`a.test`")), "{error}");
    assert_eq!((rig.left(), rig.ca.pending()), (Vec::new(), 0));
}

#[tokio::test]
async fn an_authority_that_hangs_is_given_up() {
    let timing = Timing { request: Duration::from_millis(300), ..quick() };
    let rig = Rig::timed(|_| {}, timing).await;
    for resource in ["dir", "new-nonce", "new-account", "new-order", "authz", "chal", "finalize"] {
        rig.ca.fault(resource, [Fault::Hang]);
        let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("no answer");
        assert!(matches!(error, AcmeError::TimedOut { .. }), "{resource}: {error}");
    }
    assert_eq!(rig.left(), [""; 0]);
    // As long as all before it may take on a machine that is busy.
    let limit = Duration::from_secs(3);
    let timing = Timing { order: limit, ..quick() };
    let rig = Rig::timed(|_| {}, timing).await;
    rig.ca.fault("new-order", [Fault::Hang]);
    match rig.order(&["a.test"], &[Method::Http]).await {
        Err(AcmeError::TimedOut { phase, limit: told, .. }) => assert_eq!((phase, told), (Phase::NewOrder, limit)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_authority_has_a_limit_of_its_own_for_requests() {
    let mut rig = Rig::start(|_| {}).await;
    let limit = Duration::from_secs(3);
    rig.authority.request_limit = Some(limit);
    rig.ca.fault("new-order", [Fault::Hang]);
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("no answer");
    match error {
        AcmeError::TimedOut { phase, limit: told, .. } => assert_eq!((phase, told), (Phase::NewOrder, limit)),
        other => panic!("{other:?}"),
    }
    // Who sets another limit does not get the connection that was made with this one.
    rig.authority.request_limit = None;
    rig.order(&["a.test"], &[Method::Http]).await.expect("a certificate");
}

#[tokio::test]
async fn the_authority_is_told_to_look_after_the_pause_of_the_challenge() {
    let mut rig = Rig::start(|_| {}).await;
    let pause = Duration::from_millis(200);
    for method in [Method::Http, Method::TlsAlpn] {
        (rig.authority.http_delay, rig.authority.tls_delay) = match method {
            Method::Http => (pause, Duration::from_secs(3_600)),
            _ => (Duration::from_secs(3_600), pause),
        };
        let start = std::time::Instant::now();
        rig.order(&["a.test"], &[method]).await.expect("a certificate");
        assert!(start.elapsed() >= pause, "{:?}", start.elapsed());
    }
    rig.authority.http_delay = Duration::from_secs(3_600);
    rig.order(&["a.test"], &[rig.front.dns()]).await.expect("neither concerns DNS");
}

#[tokio::test]
async fn an_order_that_takes_too_long_is_given_up() {
    let mut rig = Rig::start(|manner| (manner.slow, manner.retry_after) = (usize::MAX, Some(7))).await;
    rig.authority.certificate_limit = Some(Duration::from_millis(50));
    match rig.order(&["a.test"], &[Method::Http]).await {
        Err(AcmeError::TimedOut { phase, retry_after, .. }) => {
            assert_eq!((phase, retry_after), (Phase::Issue, Some(Duration::from_secs(7))));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn refusals_name_the_names() {
    let rig = Rig::start(|manner| manner.refuses = vec!["bad.test"]).await;
    let error = rig.order(&["a.test", "bad.test"], &[Method::Http]).await.expect_err("refused");
    let problem = error.problem().expect("a problem");
    assert_eq!((&*problem.kind, problem.subproblems.len()), ("rejectedIdentifier", 1));
    assert_eq!(problem.subproblems[0].name.as_deref(), Some("bad.test"));
    rig.ca.change(|manner| manner.breaks = true);
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("refused");
    assert!(matches!(&error, AcmeError::Refused { phase: Phase::Issue, .. }), "{error}");
    assert!(error.to_string().contains("`a.test`: CAA forbids it (caa)"), "{error}");
}

#[tokio::test]
async fn another_way_is_taken_where_one_fails() {
    let rig = Rig::start(|manner| manner.look.http = None).await;
    rig.order(&["a.test", "b.test"], &[Method::Http, Method::TlsAlpn]).await.expect("issued");
    assert_eq!((rig.left(), rig.ca.pending()), (Vec::new(), 0));
    // What is not on offer is passed over.
    rig.ca.change(|manner| manner.offers = vec!["tls-alpn-01"]);
    let orders = rig.ca.asked("new-order");
    rig.order(&["c.test"], &[Method::Http, Method::TlsAlpn]).await.expect("issued");
    // A provider that fails is passed over in the same order.
    rig.ca.change(|manner| manner.offers = vec!["tls-alpn-01", "dns-01"]);
    *rig.front.hook_fails.lock().expect("not poisoned") = true;
    rig.order(&["d.test"], &[rig.front.dns(), Method::TlsAlpn]).await.expect("issued");
    assert_eq!(rig.ca.asked("new-order"), orders + 2);
    let error = rig.order(&["e.test"], &[rig.front.dns()]).await.expect_err("no way");
    assert!(
        matches!(&error, AcmeError::Challenge { name, kind: ChallengeKind::Dns, .. } if name == "e.test"),
        "{error}"
    );
}

#[tokio::test]
async fn where_no_way_is_left_it_is_said_why() {
    let rig = Rig::start(|manner| (manner.look.http, manner.look.tls) = (None, None)).await;
    let error = rig.order(&["a.test", "b.test"], &[Method::Http, Method::TlsAlpn]).await.expect_err("unproved");
    match &error {
        AcmeError::Challenge { kind, problem, .. } => {
            assert_eq!(
                (*kind, &*problem.kind, &*problem.detail),
                (ChallengeKind::TlsAlpn, "connection", "no route to host")
            );
        }
        other => panic!("{other}"),
    }
    assert!(rig.ca.asked("new-order") <= 4, "each way of each name is tried once");
    assert_eq!((rig.left(), rig.ca.pending()), (Vec::new(), 0), "what is not needed any more is given up");
    let error = rig.order(&["*.a.test"], &[Method::Http, Method::TlsAlpn]).await.expect_err("no way");
    match &error {
        AcmeError::NoMethod { name, offered, configured } => {
            assert_eq!((&**name, &**offered, &**configured), ("*.a.test", "dns-01", "none"));
        }
        other => panic!("{other}"),
    }
    assert!(matches!(rig.order(&["a.test"], &[]).await, Err(AcmeError::NoMethod { .. })));
    assert!(matches!(rig.order(&[], &[Method::Http]).await, Err(AcmeError::Config(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_dropped_takes_its_answers_away() {
    let rig = Rig::start(|_| {}).await;
    rig.ca.fault("chal", [Fault::Hang]);
    let dns = rig.front.dns();
    let names = ["h.test".to_owned(), "*.d.test".to_owned()];
    let (client, authority) = (rig.client.clone(), rig.authority.clone());
    let order = tokio::spawn(async move {
        let methods = [Method::Http, dns];
        client
            .order(rust_lb::acme::Order { names: &names, authority: &authority, methods: &methods, replaces: None })
            .await
    });
    tokio::task::block_in_place(|| {
        eventually("the challenge is presented", || (rig.ca.asked("chal") > 0).then_some(()))
    });
    assert_eq!(rig.left().len(), 2, "a token and a record: {:?}", rig.left());
    order.abort();
    tokio::task::block_in_place(|| eventually("all is taken away", || rig.left().is_empty().then_some(())));
    assert!(format!("{:?}", rig.front.challenges).contains("http: 0"));
}

#[tokio::test]
async fn a_store_that_fails_stops_no_order() {
    let mut rig = Rig::start(|_| {}).await;
    let file = rig.dir.path().join("a file where a directory should be");
    std::fs::write(&file, "").expect("written");
    rig.client = Client::with_timing(Storage::directory(file), rig.front.challenges.clone(), quick());
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    rig.order(&["b.test"], &[Method::TlsAlpn]).await.expect("issued");
    assert_eq!(rig.ca.accounts().0, 1, "kept in memory");
}

#[tokio::test]
async fn an_account_is_made_by_one_instance_at_a_time() {
    let timing = Timing { account_lock: Duration::ZERO, ..quick() };
    let rig = Rig::timed(|_| {}, timing).await;
    let storage = rig.storage.clone();
    let take = move || storage.lock("register_acme_account", PATIENCE).expect("taken");
    let held = tokio::task::spawn_blocking(take).await.expect("joined");
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("another one is at it");
    assert!(matches!(error, AcmeError::Storage(_)), "{error}");
    drop(held);
    // Many at once: one account.
    let orders = (0..8).map(|i| {
        let (client, authority) = (rig.client.clone(), rig.authority.clone());
        tokio::spawn(async move {
            let names = [format!("{i}.test")];
            let methods = [Method::Http];
            let order =
                rust_lb::acme::Order { names: &names, authority: &authority, methods: &methods, replaces: None };
            client.order(order).await
        })
    });
    for order in orders.collect::<Vec<_>>() {
        order.await.expect("joined").expect("issued");
    }
    assert_eq!(rig.ca.accounts().0, 1);
    assert_eq!(rig.left(), [""; 0]);
}
