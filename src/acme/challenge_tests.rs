use super::*;
use serde_json::json;

fn store() -> (tempfile::TempDir, Storage) {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = Storage::directory(dir.path().to_owned());
    (dir, storage)
}

fn stored(kind: &str, name: &str, token: &str) -> Vec<u8> {
    // As `acmez` marshals it: more fields than we read.
    json!({"type": kind, "url": "https://ca.test/chal", "status": "pending", "token": token,
        "keyAuthorization": format!("{token}.thumb"), "identifier": {"type": "dns", "value": name}})
    .to_string()
    .into_bytes()
}

#[test]
fn our_own_answers_stand_until_they_are_removed() {
    let challenges = Challenges::default();
    assert!(challenges.http("t").is_none());
    assert!(challenges.put_http("t", "t.thumb"));
    assert_eq!(challenges.clone().http("t").as_deref(), Some("t.thumb"));
    let certificate = alpn_certificate("a.test", "t.thumb").expect("a certificate");
    assert!(challenges.put_tls_alpn("a.test", certificate));
    assert!(challenges.tls_alpn("a.test").is_some() && challenges.tls_alpn("b.test").is_none());
    challenges.remove_http("t");
    challenges.remove_tls_alpn("a.test");
    assert!(challenges.http("t").is_none() && challenges.tls_alpn("a.test").is_none());
}

#[test]
fn what_another_instance_solves_is_found_for_a_while() {
    let (_dir, storage) = store();
    let now = Instant::now();
    let challenges = Challenges::default();
    assert!(!challenges.look_at(&storage, "a.test", now), "an empty storage");
    let file = layout::challenge("ca.test-dir", "a.test");
    storage.write(&file, &stored("http-01", "a.test", "tok")).expect("written");
    assert!(!challenges.look_at(&storage, "a.test", now + ABSENT / 2), "that there is none is remembered");
    assert!(challenges.look_at(&storage, "A.test", now + ABSENT));
    assert_eq!(challenges.http("tok").as_deref(), Some("tok.thumb"));
    storage.remove(&file).expect("removed");
    storage.write(&file, &stored("tls-alpn-01", "a.test", "tok2")).expect("written");
    assert!(challenges.look_at(&storage, "a.test", now + ABSENT));
    assert!(challenges.tls_alpn("a.test").is_some());
    let known = challenges.inner.known.load();
    assert!(known.http["tok"].at(now + ABSENT + FOUND).is_none(), "it runs out");
    assert!(known.http["tok"].at(now + FOUND).is_some());
}

#[test]
fn nonsense_in_the_storage_is_no_challenge() {
    let (_dir, storage) = store();
    let challenges = Challenges::default();
    let mut now = Instant::now();
    let file = layout::challenge("ca.test-dir", "a.test");
    for bytes in [
        b"".to_vec(),
        b"{}".to_vec(),
        vec![0xff; 2_000],
        stored("dns-01", "a.test", "t"),
        stored("http-01", "a.test", ""),
        stored("http-01", "a.test", &"t".repeat(2_000)),
        stored("tls-alpn-01", "other.test", "t"),
    ] {
        storage.write(&file, &bytes).expect("written");
        now += ABSENT;
        assert!(!challenges.look_at(&storage, "a.test", now), "{}", String::from_utf8_lossy(&bytes));
    }
    for name in ["", "..", "../../etc/passwd", "a/b", &"a".repeat(300)] {
        assert!(!challenges.look_at(&storage, name, now), "{name}");
    }
}

#[test]
fn strangers_names_cost_few_look_ups() {
    let challenges = Challenges::default();
    let now = Instant::now();
    let made = (0..10_000).filter(|i| challenges.may_look(&format!("{i}.test"), now)).count();
    assert_eq!(made, LOOKS as usize);
    assert!(challenges.may_look("a.test", now + Duration::from_secs(1)));
    for i in 0..3 * KEPT {
        let answer = Kept { answer: Arc::from("x"), until: Some(now + FOUND) };
        challenges.change(now, |known| drop(known.http.insert(format!("{i}").into(), answer)));
    }
    assert_eq!(challenges.inner.known.load().http.len(), KEPT);
    assert!(!challenges.put_http("ours", "x"), "full");
}

#[test]
fn addresses_are_named_as_clients_of_tls_alpn_do() {
    assert_eq!(challenge_name(ChallengeKind::TlsAlpn, "192.0.2.1"), "1.2.0.192.in-addr.arpa");
    assert_eq!(
        challenge_name(ChallengeKind::TlsAlpn, "2001:db8::1"),
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    );
    assert_eq!(challenge_name(ChallengeKind::Http, "192.0.2.1"), "192.0.2.1");
    assert_eq!(challenge_name(ChallengeKind::TlsAlpn, "A.test"), "a.test");
}
