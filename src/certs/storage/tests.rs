//! The storage in a directory: what is on the disk after each step, and after each failure.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const CRT: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &[u8] = b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";

fn site<'a>() -> SiteValue<'a> {
    SiteValue { key: KEY, crt: CRT, json: b"{\"sans\":[\"a.test\"],\"issuer_data\":null}" }
}

fn files(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => out.push(path.strip_prefix(dir).unwrap().display().to_string()),
            }
        }
    }
    out.sort();
    out
}

#[test]
fn a_certificate_lies_as_caddys_do() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("CERTS");
    let storage = Storage::directory(root.clone());
    assert!(storage.list("certificates").unwrap().is_empty() && storage.read("last_clean.json").unwrap().is_none());
    assert!(!root.exists(), "looking makes nothing");
    for round in 0..2 {
        storage.write_site("local", "*.Wild.test", &site()).unwrap();
        let below = "certificates/local/wildcard_.wild.test/wildcard_.wild.test";
        let expected = ["crt", "json", "key"].map(|ending| format!("{below}.{ending}"));
        assert_eq!(files(&root), expected, "round {round}: nothing temporary stays");
        assert_eq!(storage.list("certificates").unwrap(), expected);
        for key in &expected {
            assert_eq!(fs::metadata(root.join(key)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(root.join("certificates/local")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(storage.read(&expected[2]).unwrap().as_deref(), Some(KEY));
    }
    let key = layout::site("local", "*.wild.test").crt;
    storage.remove(&key).unwrap();
    storage.remove(&key).unwrap();
    assert_eq!(storage.read(&key).unwrap(), None);
}

#[test]
fn a_value_is_replaced_by_a_new_file_that_readers_of_the_old_one_do_not_see() {
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::directory(dir.path().to_owned());
    storage.write("instance.uuid", b"old").unwrap();
    let mut open = fs::File::open(dir.path().join("instance.uuid")).unwrap();
    storage.write("instance.uuid", b"new").unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!((&*text, storage.read("instance.uuid").unwrap().unwrap()), ("old", b"new".to_vec()));
}

#[test]
fn nothing_foreign_gets_below_certificates_and_nothing_out_of_the_storage() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("CERTS");
    let storage = Storage::directory(root.clone());
    for (key, value) in [
        ("certificates/local/a/a.crt", &b"not PEM"[..]),
        ("certificates/local/a/a.txt", CRT),
        ("certificates/README", b"hello"),
        ("certificates/local/a/a.json", b"{"),
    ] {
        assert!(matches!(storage.write(key, value), Err(StorageError::Foreign(_))), "{key}");
    }
    let bad = SiteValue { crt: b"", ..site() };
    assert!(matches!(storage.write_site("local", "a.test", &bad), Err(StorageError::Foreign(_))));
    for key in ["../x", "/etc/x", "a/../../x", "", "."] {
        assert!(matches!(storage.write(key, b"x"), Err(StorageError::BadKey(_))), "{key}");
        assert!(matches!(storage.read(key), Err(StorageError::BadKey(_))), "{key}");
        assert!(storage.remove(key).is_err() && storage.list(key).is_err(), "{key}");
    }
    assert!(!root.exists() && files(dir.path()).is_empty());
}

#[test]
fn what_is_no_value_is_told_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::directory(dir.path().to_owned());
    let at = |name: &str| dir.path().join(name);
    fs::write(at("large"), vec![0; VALUE_LIMIT as usize + 1]).unwrap();
    symlink("circle", at("circle")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = |key: &str| {
        let error = storage.read(key).unwrap_err();
        assert_eq!(error.path(), Some(&*at(key)));
        assert!(error.to_string().contains(key), "{error}");
        error
    };
    assert!(matches!(error("large"), StorageError::TooLarge { .. }));
    assert!(matches!(error("circle"), StorageError::Io { .. }));
    assert!(matches!(error("dir"), StorageError::NotAFile(_)));
    assert!(matches!(error("pipe"), StorageError::NotAFile(_)), "and does not wait for its other end");
}

#[test]
fn the_systems_answers_are_told_apart() {
    use rustix::io::Errno;
    let of = |errno: Errno| StorageError::of(Path::new("/pv/CERTS/x"), errno.into());
    assert!(matches!(of(Errno::ROFS), StorageError::ReadOnly(_)));
    assert!(matches!(of(Errno::NOSPC), StorageError::Full(_)));
    assert!(matches!(of(Errno::DQUOT), StorageError::Full(_)));
    assert!(matches!(of(Errno::ACCESS), StorageError::Denied(_)));
    assert!(matches!(of(Errno::PERM), StorageError::Denied(_)));
    assert!(matches!(of(Errno::STALE), StorageError::Stale(_)));
    assert!(matches!(of(Errno::IO), StorageError::Io { .. }));
    for errno in [Errno::ROFS, Errno::NOSPC, Errno::ACCESS, Errno::STALE, Errno::IO] {
        assert_eq!(of(errno).path(), Some(Path::new("/pv/CERTS/x")));
    }
}

#[test]
fn a_certificate_that_cannot_be_written_as_a_whole_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::directory(dir.path().to_owned());
    let new = SiteValue { key: b"-----BEGIN PRIVATE KEY-----\nnew", ..site() };
    storage.write_site("local", "a.test", &site()).unwrap();
    let keys = layout::site("local", "a.test");
    // The chain's place cannot be taken: the key was in its own already.
    let crt = dir.path().join(&keys.crt);
    fs::remove_file(&crt).unwrap();
    fs::create_dir_all(crt.join("in the way")).unwrap();
    let error = storage.write_site("local", "a.test", &new).unwrap_err();
    assert_eq!(error.path(), Some(&*crt));
    assert_eq!(storage.read(&keys.key).unwrap().as_deref(), Some(KEY), "put back");
    fs::remove_dir_all(&crt).unwrap();
    let left = files(dir.path());
    assert_eq!(left.len(), 2, "nothing temporary stays: {left:?}");

    // And where there was none before, none is left.
    let keys = layout::site("local", "b.test");
    fs::create_dir_all(dir.path().join(&keys.crt).join("in the way")).unwrap();
    storage.write_site("local", "b.test", &new).unwrap_err();
    assert_eq!(storage.read(&keys.key).unwrap(), None);
}

#[test]
fn a_file_where_a_directory_belongs_is_an_error_and_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::directory(dir.path().join("CERTS"));
    fs::write(dir.path().join("CERTS"), "a file").unwrap();
    assert!(storage.write("acme/x/users/default/default.json", b"{}").is_err());
    assert!(matches!(storage.lock("x", Duration::ZERO), Err(LockError::Storage(_))));
    assert_eq!(storage.read("acme/x").unwrap(), None);
    assert_eq!(fs::read(dir.path().join("CERTS")).unwrap(), b"a file");
}

#[test]
fn lists_leave_out_what_is_nobodys_value() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::directory(dir.path().to_owned());
    storage.write("acme/x/users/default/default.json", b"{}").unwrap();
    let users = dir.path().join("acme/x/users/default");
    for litter in ["3862963393", ".nfs0001", "with space"] {
        fs::write(users.join(litter), "x").unwrap();
    }
    symlink(dir.path().join("acme"), users.join("circle")).unwrap();
    symlink("gone", users.join("dangling")).unwrap();
    // A key's depth is bounded, so what goes in a circle ends.
    assert_eq!(storage.list("acme").unwrap(), ["acme/x/users/default/default.json"]);
    assert_eq!(storage.list("acme/x/users").unwrap(), ["acme/x/users/default/default.json"]);
}
