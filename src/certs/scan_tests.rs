//! The scanner over generated files: what it looks at again, and what not.

use super::super::files::STAMP_RACY;
use super::*;

fn write(file: &Path, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file.with_extension("crt"), made.cert.pem()).unwrap();
    fs::write(file.with_extension("key"), made.signing_key.serialize_pem()).unwrap();
}

fn names(scanner: &Scanner) -> Vec<String> {
    let mut names: Vec<_> =
        scanner.index().all().iter().flat_map(|p| p.names.iter().map(ToString::to_string)).collect();
    names.sort_unstable();
    names
}

#[test]
fn directories_that_did_not_change_are_not_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("certificates/le/a/a");
    write(&host, &["a.test"]);
    let mut scanner = Scanner::new(dir.path().to_owned(), false);
    let now = SystemTime::now();
    let later = now + 2 * STAMP_RACY;
    assert!(scanner.look(Depth::Every, now));

    // Listed within the resolution of time stamps: not trusted yet.
    write(&host, &["b.test"]);
    assert!(scanner.look(Depth::Changed, now));
    assert_eq!(names(&scanner), ["b.test"]);

    // Later a write in place, which the directory does not show, waits for a look at everything.
    assert!(!scanner.look(Depth::Changed, later));
    write(&host, &["c.test"]);
    assert!(!scanner.look(Depth::Changed, later));
    assert!(scanner.look(Depth::Files, later));
    assert_eq!(names(&scanner), ["c.test"]);

    // New hosts and issuers change the directory above.
    write(&dir.path().join("certificates/le/d/d"), &["d.test"]);
    write(&dir.path().join("certificates/other/e/e"), &["e.test"]);
    assert!(scanner.look(Depth::Changed, later));
    assert_eq!(names(&scanner), ["c.test", "d.test", "e.test"]);
    assert!(!scanner.look(Depth::Files, later));
}
