use super::own::ROOT_LIFE;
use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn open(dir: &Path, now: SystemTime) -> (LocalAuthority, Option<Diagnostic>) {
    LocalAuthority::open(dir, now, &rustls::crypto::aws_lc_rs::default_provider()).unwrap()
}

#[test]
fn the_root_is_made_once_and_its_key_is_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new/ca");
    let (first, trouble) = open(&dir, now());
    assert_eq!(trouble, None);
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("root.key"), mode("root.crt")), (0o600, 0o644));
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!fs::read_to_string(dir.join("root.crt")).unwrap().contains("PRIVATE"));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing temporary stays");

    fs::remove_file(dir.join("root.crt")).unwrap();
    let (second, _) = open(&dir, now());
    assert_eq!(first.certificate(now()), second.certificate(now()));
    assert_eq!(*fs::read_to_string(dir.join("root.crt")).unwrap(), *second.certificate(now()));

    // Ten years on a new one takes its place.
    let (third, trouble) = open(&dir, now() + ROOT_LIFE);
    assert_eq!(trouble, None);
    assert_ne!(first.certificate(now()), third.certificate(now()));
    assert_eq!(*fs::read_to_string(third.certificate_file().unwrap()).unwrap(), *third.certificate(now()));
}

#[test]
fn a_key_that_others_can_read_is_closed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path(), now());
    let key = dir.path().join("root.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (second, trouble) = open(dir.path(), now());
    assert_eq!((trouble, first.certificate(now())), (None, second.certificate(now())));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_certificate_that_cannot_be_written_does_not_cost_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path(), now());
    let file = dir.path().join("root.crt");
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("in the way")).unwrap();
    let (second, trouble) = open(dir.path(), now());
    assert_eq!(first.certificate(now()), second.certificate(now()));
    assert_eq!(second.certificate_file(), None);
    assert!(trouble.unwrap().to_string().contains("root.crt"));
}

#[test]
fn two_processes_that_start_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let roots: Vec<Arc<str>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(move || open(dir, now()).0.certificate(now()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[test]
fn a_root_that_cannot_be_read_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.key");
    for garbage in
        [&b"what is this"[..], b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        fs::write(&file, garbage).unwrap();
        let (authority, trouble) = open(dir.path(), now());
        let trouble = trouble.unwrap();
        assert!(trouble.to_string().contains("root.key"), "{trouble}");
        assert_eq!(authority.certificate_file(), None);
        assert!(authority.leaf("a.test", now(), Instant::now()).is_some(), "handshakes get one all the same");
        assert_eq!(fs::read(&file).unwrap(), garbage);
    }
    // A directory that cannot be made.
    let (authority, trouble) = open(&file.join("below"), now());
    assert!(trouble.is_some() && authority.certificate_file().is_none());
}

#[test]
fn leaves_are_cached_renewed_and_short_lived() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = open(dir.path(), now());
    let clock = Instant::now();
    let first = authority.leaf("a.test", now(), clock).unwrap();
    assert!(Arc::ptr_eq(&first, &authority.leaf("a.test", now() + LEAF_LEFT, clock).unwrap()));
    let later = authority.leaf("a.test", now() + LEAF_LIFE, clock).unwrap();
    assert!(!Arc::ptr_eq(&first, &later));
    let (_, x509) = x509_parser::parse_x509_certificate(&first.cert[0]).unwrap();
    let (_, other) = x509_parser::parse_x509_certificate(&later.cert[0]).unwrap();
    assert_ne!(x509.raw_serial(), other.raw_serial(), "an issuer never uses a serial number twice");
    let life = x509.validity().not_after.timestamp() - x509.validity().not_before.timestamp();
    assert!(life <= 8 * 86_400, "{life}");
    let default = authority.default_leaf(now()).unwrap();
    assert!(Arc::ptr_eq(&default, &authority.default_leaf(now()).unwrap()));
}

#[test]
fn strangers_names_are_bounded_in_rate_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = open(dir.path(), now());
    let start = Instant::now();
    let default = authority.default_leaf(now()).unwrap();
    let signed = |from: u32, count: u32, clock| {
        let is_own = |n| !Arc::ptr_eq(&default, &authority.leaf(&format!("h{n}.test"), now(), clock).unwrap());
        (from..from + count).filter(|n| is_own(*n)).count()
    };
    assert_eq!(signed(0, 300, start), BURST as usize);
    assert_eq!(signed(1_000, 100, start + Duration::from_secs(1)), RATE as usize);
    for round in 1..8 {
        signed(10_000 * round, 200, start + Duration::from_secs(u64::from(round) * 100));
        assert!(authority.leaf("kept.test", now(), start + Duration::from_secs(u64::from(round) * 100 + 50)).is_some());
    }
    let leaves = authority.lock();
    assert!(leaves.by_name.len() <= LEAVES && leaves.by_name.len() > LEAVES / 2, "{}", leaves.by_name.len());
    assert!(leaves.by_name.contains_key("kept.test"), "what is used stays");
    drop(leaves);
    let long = format!("{}.test", "a".repeat(NAME_LIMIT));
    assert!(Arc::ptr_eq(&default, &authority.leaf(&long, now(), start + Duration::from_secs(10_000)).unwrap()));
}

#[test]
fn caddys_authority_takes_over_once_it_is_there_and_ours_serves_until_then() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = open(&dir.path().join("own"), SystemTime::now());
    let authority = Arc::new(authority);
    let (now, clock) = (SystemTime::now(), Instant::now());
    let own = authority.leaf("a.test", now, clock).unwrap();
    let default = authority.default_leaf(now).unwrap();

    // A directory that cannot be used: said, and ours signs on.
    let certs = dir.path().join("CERTS");
    fs::write(&certs, "a file").unwrap();
    authority.share(Storage::directory(certs.clone()), &certs, Duration::from_secs(30)).unwrap();
    assert!(!authority.is_shared(now));
    assert!(authority.diagnostic().unwrap().to_string().contains("CERTS"));
    assert!(Arc::ptr_eq(&own, &authority.leaf("a.test", now, clock).unwrap()));

    // It comes, without anybody asking again.
    fs::remove_file(&certs).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while !authority.is_shared(now) {
        assert!(Instant::now() < limit, "never looked again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(authority.diagnostic(), None);
    assert_eq!(authority.certificate_file(), Some(&*certs.join("pki/authorities/local/root.crt")));
    assert!(!Arc::ptr_eq(&default, &authority.default_leaf(now).unwrap()));

    // Leaves as Caddy's: 12 h, no subject, critical names, both uses, with the intermediate.
    let leaf = authority.leaf("a.test", now, clock).unwrap();
    assert_eq!(leaf.cert.len(), 2);
    let (_, x509) = x509_parser::parse_x509_certificate(&leaf.cert[0]).unwrap();
    let (_, above) = x509_parser::parse_x509_certificate(&leaf.cert[1]).unwrap();
    x509.verify_signature(Some(above.public_key())).unwrap();
    assert_eq!(x509.issuer().as_raw(), above.subject().as_raw());
    assert_eq!((x509.subject().iter().count(), x509.subject_alternative_name().unwrap().unwrap().critical), (0, true));
    let (from, until) = life_of(&x509);
    assert_eq!(until.duration_since(from).unwrap(), Duration::from_secs(12 * 3_600));
    assert!(x509.extended_key_usage().unwrap().unwrap().value.client_auth);
    let hour = Duration::from_secs(3_600);
    assert!(Arc::ptr_eq(&leaf, &authority.leaf("a.test", now + 7 * hour, clock).unwrap()));
    assert!(
        !Arc::ptr_eq(&leaf, &authority.leaf("a.test", now + 9 * hour, clock).unwrap()),
        "less than a third is left"
    );

    // Past the end of what is known of it, ours signs again.
    assert!(!authority.is_shared(now + 8 * 24 * hour));
    let late = authority.leaf("b.test", now + 8 * 24 * hour, clock).unwrap();
    assert_eq!(late.cert.len(), 1);
}
