//! The authority over a directory: made, found, renewed and refused.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const DAY: Duration = Duration::from_secs(86_400);

struct World {
    _dir: tempfile::TempDir,
    root: PathBuf,
    storage: Storage,
    now: SystemTime,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("CERTS");
        let storage = Storage::directory(root.clone());
        // Whole seconds, as in certificates.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Self { _dir: dir, root, storage, now: UNIX_EPOCH + Duration::from_secs(now) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join("pki/authorities/local").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    fn load(&self, after: Duration) -> Signer {
        let (signer, trouble) = load(&self.storage, self.now + after).unwrap();
        assert!(trouble.is_none(), "{trouble:?}");
        signer
    }

    fn fails(&self, after: Duration) -> AuthorityError {
        load(&self.storage, self.now + after).err().expect("an error")
    }
}

fn x509<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    look(&x509_parser::parse_x509_certificate(&der).unwrap().1)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_authority_is_made_in_caddys_form() {
    let world = World::new();
    let signer = world.load(Duration::ZERO);
    let names: Vec<_> = ["root.crt", "root.key", "intermediate.crt", "intermediate.key"].into();
    for name in &names {
        assert_eq!(mode(&world.file(name)), 0o600, "{name}");
    }
    assert_eq!(fs::read_dir(world.file("")).unwrap().count(), 4);
    assert_eq!((mode(&world.file("")), mode(&world.root.join("locks"))), (0o700, 0o700));
    assert_eq!(fs::read_dir(world.root.join("locks")).unwrap().count(), 0, "the lock is released");
    for name in ["root.key", "intermediate.key"] {
        let text = world.text(name);
        assert!(text.starts_with("-----BEGIN EC PRIVATE KEY-----\n"), "SEC1");
        assert!(text.ends_with("\n-----END EC PRIVATE KEY-----\n") && text.lines().all(|l| l.len() <= 64), "PEM");
    }
    let year = jiff::Timestamp::try_from(world.now).unwrap().strftime("%Y").to_string();
    let root_name = format!("CN=Caddy Local Authority - {year} ECC Root");
    let life = |x: &X509Certificate<'_>| {
        let (from, until) = life_of(x);
        (from, until.duration_since(from).unwrap())
    };
    let path = |x: &X509Certificate<'_>| x.basic_constraints().unwrap().unwrap().value.path_len_constraint;
    x509(&world.text("root.crt"), |x| {
        assert_eq!((x.subject().to_string(), x.issuer().to_string()), (root_name.clone(), root_name.clone()));
        assert_eq!((life(x), path(x)), ((world.now, 3_600 * DAY), Some(1)));
        x.verify_signature(None).unwrap();
    });
    x509(&world.text("intermediate.crt"), |x| {
        assert_eq!(x.subject().to_string(), "CN=Caddy Local Authority - ECC Intermediate");
        assert_eq!((x.issuer().to_string(), life(x), path(x)), (root_name, (world.now, 7 * DAY), Some(0)));
        assert!(x.key_usage().unwrap().unwrap().critical);
    });
    assert_eq!((&*signer.root, signer.above.len()), (&*world.text("root.crt"), 1));

    // Found again, nothing changes.
    let before: Vec<_> = names.iter().map(|name| world.text(name)).collect();
    world.load(DAY);
    assert_eq!(before, names.iter().map(|name| world.text(name)).collect::<Vec<_>>());
}

#[test]
fn the_intermediate_is_renewed_from_the_roots_key_with_a_fifth_of_its_life_left() {
    let world = World::new();
    world.load(Duration::ZERO);
    let (root, intermediate) = (world.text("root.crt"), world.text("intermediate.crt"));
    world.load(5 * DAY);
    assert_eq!(world.text("intermediate.crt"), intermediate);
    let signer = world.load(6 * DAY);
    assert_ne!(world.text("intermediate.crt"), intermediate);
    assert_eq!((world.text("root.crt"), &*signer.root), (root.clone(), &*root));
    assert_eq!(signer.not_after, world.now + 13 * DAY);

    // Without the root's key what is there serves to its end, and says so.
    let key = world.text("root.key");
    fs::remove_file(world.file("root.key")).unwrap();
    let (kept, trouble) = load(&world.storage, world.now + 12 * DAY).unwrap();
    assert_eq!(kept.not_after, signer.not_after);
    assert!(trouble.unwrap().to_string().contains("root.key` is missing"));
    assert!(matches!(world.fails(14 * DAY), AuthorityError::KeyMissing(_)));
    fs::write(world.file("root.key"), key).unwrap();
    assert_eq!(world.load(14 * DAY).not_after, world.now + 21 * DAY);

    // The last one ends with the root, and then a new root is for people to decide.
    assert_eq!(world.load(3_598 * DAY).not_after, world.now + 3_600 * DAY);
    assert!(matches!(world.fails(3_600 * DAY), AuthorityError::Expired));
    assert_eq!(world.text("root.crt"), root);
}

#[test]
fn what_is_missing_or_of_another_root_is_made_and_what_is_broken_is_left_alone() {
    let world = World::new();
    world.load(Duration::ZERO);
    let root = world.text("root.crt");
    for gone in ["intermediate.crt", "intermediate.key"] {
        fs::remove_file(world.file(gone)).unwrap();
        world.load(Duration::ZERO);
        assert_eq!(world.text("root.crt"), root, "{gone}");
    }
    fs::write(world.file("intermediate.crt"), "half of it").unwrap();
    world.load(Duration::ZERO);
    let other = World::new();
    other.load(Duration::ZERO);
    for name in ["intermediate.crt", "intermediate.key"] {
        fs::copy(other.file(name), world.file(name)).unwrap();
    }
    assert_eq!(&*world.load(Duration::ZERO).root, root, "never a chain that does not lead to the root");
    assert_ne!(world.text("intermediate.crt"), other.text("intermediate.crt"));

    // A key of somebody else's signs nothing.
    fs::copy(other.file("root.key"), world.file("root.key")).unwrap();
    fs::remove_file(world.file("intermediate.crt")).unwrap();
    assert!(matches!(world.fails(Duration::ZERO), AuthorityError::Mismatch(_)));
    for garbage in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(world.file("root.crt"), garbage).unwrap();
        assert!(matches!(world.fails(Duration::ZERO), AuthorityError::Malformed(_)), "{garbage:?}");
        assert_eq!(world.text("root.crt"), garbage);
    }
}

#[test]
fn many_that_start_at_once_agree_on_one_root() {
    let world = World::new();
    let start = std::sync::Barrier::new(6);
    let roots: Vec<String> = std::thread::scope(|scope| {
        let one = || {
            start.wait();
            world.load(Duration::ZERO).root.to_string()
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|root| *root == world.text("root.crt")));
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("CERTS");
    fs::write(&file, "a file").unwrap();
    let error = load(&Storage::directory(file.clone()), SystemTime::now()).err().expect("an error");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}
