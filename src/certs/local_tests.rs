use super::*;
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
    assert_eq!(first.certificate(), second.certificate());
    assert_eq!(fs::read_to_string(dir.join("root.crt")).unwrap(), second.certificate());

    // Ten years on a new one takes its place.
    let (third, trouble) = open(&dir, now() + ROOT_LIFE);
    assert_eq!(trouble, None);
    assert_ne!(first.certificate(), third.certificate());
    assert_eq!(fs::read_to_string(third.certificate_file().unwrap()).unwrap(), third.certificate());
}

#[test]
fn a_key_that_others_can_read_is_closed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path(), now());
    let key = dir.path().join("root.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (second, trouble) = open(dir.path(), now());
    assert_eq!((trouble, first.certificate()), (None, second.certificate()));
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
    assert_eq!(first.certificate(), second.certificate());
    assert_eq!(second.certificate_file(), None);
    assert!(trouble.unwrap().to_string().contains("root.crt"));
}

#[test]
fn two_processes_that_start_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let roots: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(move || open(dir, now()).0.certificate().to_owned())).collect();
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
