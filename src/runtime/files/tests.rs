//! What a scanner waits for, with the clock in the test's hand.

use super::scan::{Depth, Found, Scanner};
use crate::declare::{Dynamic, Router};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

struct Rig {
    dir: tempfile::TempDir,
    scanner: Scanner,
    now: Instant,
}

impl Rig {
    fn new(restored: Dynamic) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scanner = Scanner::new(dir.path().to_owned(), true, restored);
        Self { dir, scanner, now: Instant::now() }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn look(&mut self) -> Found {
        self.scanner.look(Depth::Changed, self.now, SystemTime::now())
    }

    /// As far as the scanner wants to look again, step by step.
    fn settle(&mut self) {
        let mut found = self.look();
        while let Some(at) = found.again {
            assert!(at > self.now);
            self.now = at;
            found = self.look();
        }
    }

    fn routers(&mut self) -> Vec<String> {
        self.scanner.decoded().dynamic.http.routers.keys().map(ToString::to_string).collect()
    }

    fn codes(&mut self) -> Vec<String> {
        self.scanner.decoded().problems.iter().map(|p| p.code.to_string()).collect()
    }
}

fn route(name: &str) -> String {
    format!("http: {{routers: {{{name}: {{rule: Host(`x`), service: s}}}}}}\n")
}

#[test]
fn a_file_that_is_replaced_is_missed_for_a_moment_only() {
    let mut rig = Rig::new(Dynamic::default());
    rig.write("a.yaml", &route("a"));
    assert!(rig.look().changed);
    fs::rename(rig.dir.path().join("a.yaml"), rig.dir.path().join("a.yaml~")).unwrap();
    let found = rig.look();
    assert!(!found.changed && found.again.is_some());
    rig.write("a.yaml", &route("b"));
    assert!(rig.look().changed);
    assert_eq!(rig.routers(), ["b"]);
    fs::remove_file(rig.dir.path().join("a.yaml")).unwrap();
    rig.settle();
    assert_eq!(rig.routers(), [""; 0]);
}

#[test]
fn an_emptied_file_counts_as_half_written_and_then_as_empty() {
    let mut rig = Rig::new(Dynamic::default());
    rig.write("a.yaml", &route("a"));
    rig.look();
    rig.write("a.yaml", "");
    assert!(!rig.look().changed);
    assert_eq!(rig.routers(), ["a"]);
    rig.settle();
    assert_eq!(rig.routers(), [""; 0]);
    // one that begins empty is empty
    rig.write("b.yaml", "");
    assert_eq!(rig.look().again, None);
}

#[test]
fn a_file_that_is_open_for_writing_is_not_read() {
    let mut rig = Rig::new(Dynamic::default());
    let path = rig.dir.path().join("a.yaml");
    rig.write("a.yaml", &route("a"));
    rig.look();
    rig.write("a.yaml", &route("b"));
    rig.scanner.written(path.clone(), rig.now);
    assert!(!rig.look().changed);
    rig.scanner.closed(&path);
    assert!(rig.look().changed);
    assert_eq!(rig.routers(), ["b"]);
    // for ever it is not waited
    rig.write("a.yaml", &route("c"));
    rig.scanner.written(path, rig.now);
    rig.settle();
    assert_eq!(rig.routers(), ["c"]);
}

#[test]
fn a_file_that_turns_bad_is_told_when_it_stays_so() {
    let mut rig = Rig::new(Dynamic::default());
    rig.write("a.yaml", &route("a"));
    rig.look();
    rig.write("a.yaml", "http: [");
    rig.look();
    assert_eq!((rig.codes(), rig.routers()), (vec![], vec!["a".to_owned()]));
    rig.settle();
    assert_eq!((rig.codes(), rig.routers()), (vec!["malformed_file".to_owned()], vec!["a".to_owned()]));
    rig.write("a.yaml", &route("a"));
    assert!(rig.look().changed);
    assert_eq!((rig.codes(), rig.routers()), (vec![], vec!["a".to_owned()]));
}

#[test]
fn an_unchanged_definition_keeps_its_arc() {
    let mut rig = Rig::new(Dynamic::default());
    rig.write("a.yaml", &route("a"));
    rig.look();
    let before = rig.scanner.decoded().dynamic.http.routers["a"].clone();
    rig.write("a.yaml", &format!("{}# remark\n", route("a")));
    assert!(rig.look().changed);
    assert!(Arc::ptr_eq(&before, &rig.scanner.decoded().dynamic.http.routers["a"]));
}

#[test]
fn what_was_last_good_stands_for_what_was_never_read() {
    let mut restored = Dynamic::default();
    restored.http.routers.insert("old".into(), Arc::new(Router::default()));
    let mut rig = Rig::new(restored);
    rig.write("a.yaml", "http: [");
    rig.write("b.yaml", &route("b"));
    rig.settle();
    let decoded = rig.scanner.decoded();
    assert!(decoded.dynamic.http.broken.routers.contains("old"));
    assert_eq!(rig.routers(), ["b"]);
    rig.write("a.yaml", &route("a"));
    rig.settle();
    assert!(rig.scanner.decoded().dynamic.http.broken.routers.is_empty());
}

#[test]
fn a_directory_that_is_gone_loses_nothing_and_locks_are_no_files() {
    let mut rig = Rig::new(Dynamic::default());
    rig.write("a.yaml", &route("a"));
    rig.write(".#b.yaml", &route("b"));
    rig.write("c.json", &route("c"));
    fs::create_dir(rig.dir.path().join("..2026")).unwrap();
    rig.write("..2026/d.yaml", &route("d"));
    rig.look();
    assert_eq!(rig.routers(), ["a"]);
    fs::remove_dir_all(rig.dir.path()).unwrap();
    assert!(rig.look().changed);
    rig.settle();
    assert_eq!((rig.codes(), rig.routers()), (vec!["unreadable_directory".to_owned()], vec!["a".to_owned()]));
    assert!(!Path::new(rig.dir.path()).exists());
}
