use super::*;
use crate::observe::metrics::{Metrics, Options};
use crate::observe::record::{RequestRecord, Sink};
use std::time::SystemTime;

fn record(entry_point: &Arc<str>, log: &impl Sink) {
    log.finished(&RequestRecord {
        entry_point,
        router: None,
        service: None,
        server: None,
        method: "GET",
        host: "a",
        target: "/",
        protocol: crate::http::Protocol::Http11,
        tls: false,
        client: ([127, 0, 0, 1], 1).into(),
        status: 404,
        origin_status: 0,
        reason: None,
        request_bytes: 0,
        response_bytes: 0,
        started: SystemTime::UNIX_EPOCH,
        duration: Duration::ZERO,
        origin_duration: Duration::ZERO,
        retries: 0,
        user_agent: None,
        referer: None,
    });
}

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn lines_of_all_workers_arrive_with_numbers_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs/access.log");
    let writer = start(Format::Json, Some(&file)).unwrap();
    let metrics = Metrics::new(Options::default());
    let workers = [metrics.observer(Some(writer.handle())), metrics.observer(Some(writer.handle()))];
    let entry_point = "web".into();
    // More than one batch.
    for _ in 0..200 {
        for worker in &workers {
            record(&entry_point, worker);
        }
    }
    drop(workers);
    assert_eq!(writer.dropped(), 0);
    assert!(writer.close(LIMIT));
    let text = std::fs::read_to_string(&file).unwrap();
    let mut numbers: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["RequestCount"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 400);
}

#[test]
fn what_waits_for_a_stuck_output_is_bounded_in_bytes() {
    let (queue, messages) = sync_channel(QUEUE);
    let flags = Arc::new(Flags::default());
    let log = AccessLog { format: Format::Json, queue, flags: flags.clone(), numbers: Arc::default() };
    // As large as a client can make a line; nobody takes them.
    let batch = Bytes::from(vec![b'x'; 1 << 20]);
    for _ in 0..20 {
        log.send(batch.clone(), 1);
    }
    assert_eq!(log.dropped(), 20 - QUEUE_BYTES as u64 / (1 << 20));
    // What was written makes room again.
    let dir = tempfile::tempdir().unwrap();
    let output = Output::file(&dir.path().join("log")).unwrap();
    flags.close.store(true, Ordering::Release);
    Writer { output, messages, flags: flags.clone(), failing: false }.run();
    assert_eq!(flags.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn goes_on_in_a_new_file_after_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let writer = start(Format::Common, Some(&file)).unwrap();
    let log = writer.handle();
    log.send("one\n".into(), 1);
    std::fs::rename(&file, dir.path().join("access.log.1")).unwrap();
    writer.reopen();
    log.send("two\n".into(), 1);
    assert!(writer.close(LIMIT));
    let (old, new) = (std::fs::read_to_string(dir.path().join("access.log.1")), std::fs::read_to_string(&file));
    let (old, new) = (old.unwrap_or_default(), new.unwrap());
    assert!(new.ends_with("two\n") && !old.contains("two"), "{old:?} {new:?}");
}

#[test]
fn a_writer_that_stands_still_costs_lines_and_no_time() {
    // A pipe of the file system that nobody reads: opening for append waits in the kernel for a
    // reader, so hold one end open and never read it.
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let writer = start(Format::Common, Some(&pipe)).unwrap();
    let log = writer.handle();
    let batch = Bytes::from(vec![b'x'; 128 * 1024]);
    for _ in 0..QUEUE + 10 {
        log.send(batch.clone(), 3);
    }
    assert!(writer.dropped() >= 3 * 8, "{}", writer.dropped());
    assert_eq!(writer.dropped() % 3, 0);
    assert!(!writer.close(Duration::from_millis(1)), "it cannot have ended");
}

#[test]
fn says_which_file_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let error = start(Format::Json, Some(dir.path())).err().unwrap().to_string();
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
}
