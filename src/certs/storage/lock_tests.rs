//! Locks against files as Caddy, a crash or a wrong clock leaves them. Time is handed in.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

struct World {
    _dir: tempfile::TempDir,
    path: PathBuf,
    now: SystemTime,
    clock: Instant,
    watched: Watched,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/issue_cert_a.test.lock");
        let (now, clock) = (SystemTime::now(), Instant::now());
        Self { _dir: dir, path, now, clock, watched: Watched::default() }
    }

    fn put(&self, text: impl AsRef<[u8]>) {
        directory::make_parent(&self.path).unwrap();
        fs::write(&self.path, text).unwrap();
        self.touch(self.now);
    }

    fn touch(&self, at: SystemTime) {
        File::options().write(true).open(&self.path).unwrap().set_modified(at).unwrap();
    }

    /// A lock as Caddy writes it, in a time zone of its own and with zeros cut off.
    fn put_caddys(&self, updated: SystemTime) {
        let time = |t: SystemTime| {
            let seconds = jiff::Timestamp::try_from(t).unwrap().as_second();
            let zoned = jiff::Timestamp::from_second(seconds + 7_200).unwrap();
            format!("{zoned:.2}").replace('Z', "+02:00")
        };
        let created = time(self.now - second(600));
        self.put(format!("{{\"created\":\"{created}\",\"updated\":\"{}\"}}\n", time(updated)));
    }

    fn attempt(&mut self) -> Attempt {
        attempt(&self.path, self.now, &mut self.watched, self.clock).unwrap()
    }

    /// Attempts until it is got or somebody's.
    fn settle(&mut self) -> Option<Arc<Held>> {
        loop {
            match self.attempt() {
                Attempt::Got(held) => return Some(held),
                Attempt::Wait(..) => return None,
                Attempt::Again => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.clock += time;
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path.parent().unwrap()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_lock_is_as_caddy_writes_it_and_excludes_others() {
    let mut world = World::new();
    let held = world.settle().unwrap();
    let text = fs::read_to_string(&world.path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let created: jiff::Timestamp = json["created"].as_str().unwrap().parse().unwrap();
    assert!(json["updated"].is_string() && json.as_object().unwrap().len() == 2 && text.ends_with('\n'), "{text}");
    assert_eq!(fs::metadata(world.path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);

    let Attempt::Wait(pause, since) = world.attempt() else { panic!("excluded") };
    assert_eq!((pause, since), (POLL, Some(created.into())));
    assert!(held.still_ours(world.clock));

    // Refreshed, it stays so; the text's length never changes, so nobody sees it empty or cut off.
    for _ in 0..4 {
        world.pass(second(5));
        held.refresh(world.now, world.clock);
        assert!(matches!(world.attempt(), Attempt::Wait(..)));
        assert_eq!(fs::metadata(&world.path).unwrap().len(), text.len() as u64);
    }
    held.unlink();
    assert!(world.settle().is_some());
}

#[test]
fn a_caddys_lock_is_respected_while_it_is_refreshed_and_taken_over_after_10_seconds() {
    let mut world = World::new();
    world.put_caddys(world.now - second(9));
    let Attempt::Wait(_, Some(since)) = world.attempt() else { panic!("Caddy holds it") };
    assert_eq!(age(since, world.now).as_secs(), 600);
    world.put_caddys(world.now - second(12));
    let held = world.settle().unwrap();
    assert!(held.still_ours(world.clock));
    assert_eq!(world.names(), ["issue_cert_a.test.lock"], "nothing is left beside it");

    // Without a time of refreshing the time of making counts, and none at all is long ago.
    let zero = "0001-01-01T00:00:00Z";
    for (text, stale) in [
        (format!("{{\"created\":\"{:.9}\"}}", jiff::Timestamp::try_from(world.now).unwrap()), false),
        (
            format!("{{\"created\":\"{:.9}\",\"updated\":\"{zero}\"}}", jiff::Timestamp::try_from(world.now).unwrap()),
            false,
        ),
        (format!("{{\"created\":\"{zero}\",\"updated\":\"{zero}\"}}"), true),
        ("{}".to_owned(), true),
    ] {
        world.put(&text);
        assert_eq!(world.settle().is_some(), stale, "{text}");
    }
}

#[test]
fn an_empty_lock_may_be_being_written_and_is_nobodys_after_eight_looks() {
    let mut world = World::new();
    world.put("");
    for _ in 0..7 {
        let Attempt::Wait(pause, None) = world.attempt() else { panic!("may be being written") };
        assert_eq!(pause, POLL_UNREADABLE);
        world.pass(pause);
    }
    assert!(world.settle().is_some());

    // Written meanwhile, it is somebody's.
    let mut world = World::new();
    world.put("");
    assert!(world.settle().is_none());
    world.put_caddys(world.now);
    assert!(matches!(world.attempt(), Attempt::Wait(POLL, Some(_))));

    // Left long ago, one look is enough.
    let mut world = World::new();
    world.put("\n");
    world.pass(second(11));
    assert!(world.settle().is_some());
}

#[test]
fn garbage_is_nobodys_once_nobody_has_touched_it() {
    for garbage in [&b"{\"created\":\"2026-"[..], b"hello", b"\xff\xfe\0", b"{\"created\":\"soon\"}", b"[1]", b"null"] {
        let mut world = World::new();
        world.put(garbage);
        assert!(matches!(world.attempt(), Attempt::Wait(POLL_UNREADABLE, None)), "{garbage:?}");
        // By our own watching, even where the file's time is that of a server ahead of us.
        world.touch(world.now + second(3_600));
        world.pass(second(9));
        assert!(world.settle().is_none(), "{garbage:?}");
        world.pass(second(2));
        assert!(world.settle().is_some(), "{garbage:?}");
    }
    let mut world = World::new();
    world.put(vec![b'x'; 10 * 1024 * 1024]);
    world.pass(second(11));
    assert!(world.settle().is_some(), "and however large");
}

#[test]
fn a_holders_clock_ahead_does_not_block_for_ever() {
    let mut world = World::new();
    world.put_caddys(world.now + second(3_600));
    for _ in 0..10 {
        assert!(world.settle().is_none());
        world.pass(second(1));
    }
    // As long as it moves, it is held.
    world.put_caddys(world.now + second(3_600));
    assert!(world.settle().is_none());
    world.pass(second(10));
    assert!(world.settle().is_none());
    world.pass(second(1));
    assert!(world.settle().is_some(), "nobody has refreshed it for 11 s");
    // Who comes later does not have to see that for himself.
    let mut world = World::new();
    world.put_caddys(world.now + second(3_600));
    world.touch(world.now - second(11));
    assert!(world.settle().is_some(), "nobody has written it for 11 s");
}

#[test]
fn a_holders_clock_behind_costs_it_the_lock_and_it_notices() {
    let mut world = World::new();
    let behind = Held::make(&world.path, world.now - second(60), world.clock).unwrap().unwrap();
    let taken = world.settle().expect("stale by our clock, as for Caddy");
    let before = fs::read(&world.path).unwrap();
    assert!(!behind.still_ours(world.clock) && taken.still_ours(world.clock));
    behind.refresh(world.now, world.clock);
    behind.unlink();
    assert_eq!(fs::read(&world.path).unwrap(), before, "the other's lock is not touched");
    assert!(taken.still_ours(world.clock));
}

#[test]
fn a_lock_that_was_stolen_is_neither_ours_nor_removed() {
    let world = World::new();
    for theft in ["replaced", "removed", "in place"] {
        let _ = fs::remove_file(&world.path);
        let held = Held::make(&world.path, world.now, world.clock).unwrap().unwrap();
        let others = text(jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::try_from(world.now).unwrap());
        match theft {
            "in place" => fs::write(&world.path, &others).unwrap(),
            _ => {
                fs::remove_file(&world.path).unwrap();
                if theft == "replaced" {
                    fs::write(&world.path, &others).unwrap();
                }
            }
        }
        assert!(!held.still_ours(world.clock), "{theft}");
        held.refresh(world.now, world.clock);
        held.unlink();
        drop(held);
        match theft {
            "removed" => assert!(!world.path.exists()),
            _ => assert_eq!(fs::read_to_string(&world.path).unwrap(), others, "{theft}"),
        }
    }
}

#[test]
fn a_lock_that_cannot_be_refreshed_is_not_ours_any_more() {
    let world = World::new();
    let held = Held::make(&world.path, world.now, world.clock).unwrap().unwrap();
    assert!(held.still_ours(world.clock + second(10)));
    assert!(!held.still_ours(world.clock + second(11)), "others may take it over from now on");
}

#[test]
fn a_caddy_that_refreshes_a_lock_it_has_lost_does_no_harm() {
    let mut world = World::new();
    let held = world.settle().unwrap();
    // It reads our file, and writes it again with our time of making and its own time zone.
    let created = held.created;
    world.put(format!("{{\"created\":\"{created}\",\"updated\":\"2026-11-21T10:00:00.123456789+13:00\"}}\n"));
    assert!(held.still_ours(world.clock));
    // In between it is empty.
    world.put("");
    assert!(held.still_ours(world.clock));
    world.put(format!("{{\"created\":\"{created}\",\"updated\":\"2026-11-21T10:00:00.123456789+13:00\"}}\n\n\n"));
    held.refresh(world.now, world.clock);
    let text = fs::read_to_string(&world.path).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).expect("one value and nothing after it");
    assert!(held.still_ours(world.clock));
}

#[test]
fn who_removes_a_stale_lock_never_removes_a_fresh_one() {
    let world = World::new();
    world.put_caddys(world.now - second(60));
    let seen = fs::read(&world.path).unwrap();
    fs::remove_file(&world.path).unwrap();
    // Another was faster.
    let fresh = Held::make(&world.path, world.now, world.clock).unwrap().unwrap();
    remove_stale(&world.path, &seen).unwrap();
    assert!(fresh.still_ours(world.clock));
    assert_eq!(world.names(), ["issue_cert_a.test.lock"]);
    fs::remove_file(&world.path).unwrap();
    remove_stale(&world.path, &seen).unwrap();
    assert!(world.names().is_empty());
}

#[test]
fn of_many_at_once_one_gets_a_stale_lock() {
    for _ in 0..20 {
        let world = World::new();
        world.put_caddys(world.now - second(60));
        let start = std::sync::Barrier::new(8);
        let got: Vec<_> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                acquire(&world.path, Duration::ZERO).ok()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(got.iter().filter(|lock| lock.still_ours()).count(), 1);
        drop(got);
        assert!(world.names().is_empty(), "{:?}", world.names());
    }
}

#[test]
fn waiting_ends_when_the_holder_lets_go_or_the_limit_is_reached() {
    let world = World::new();
    let first = acquire(&world.path, Duration::ZERO).unwrap();
    let Err(LockError::Held { since: Some(_) }) = acquire(&world.path, Duration::ZERO) else { panic!("held") };
    let Err(LockError::Held { .. }) = acquire(&world.path, Duration::from_millis(1)) else { panic!("held") };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| acquire(&world.path, second(60)).unwrap().still_ours());
        drop(first);
        assert!(second.join().unwrap());
    });
    assert!(!world.path.exists());
}

#[test]
fn the_thread_refreshes_and_stops_with_the_lock() {
    let world = World::new();
    let held = Arc::new(Held::make(&world.path, world.now - second(9), world.clock).unwrap().unwrap());
    let before = fs::read(&world.path).unwrap();
    let lock = FileLock::keep(held, Duration::from_millis(1)).unwrap();
    let limit = Instant::now() + second(30);
    while fs::read(&world.path).unwrap() == before {
        assert!(Instant::now() < limit, "never refreshed");
        std::thread::yield_now();
    }
    assert!(lock.still_ours());
    let weak = Arc::downgrade(&lock.held);
    drop(lock);
    assert!(weak.upgrade().is_none() && !world.path.exists());
}
