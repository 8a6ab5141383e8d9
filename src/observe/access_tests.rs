use super::*;
use crate::observe::metrics::{self, Metrics};
use crate::observe::record::{RequestRecord, Sink};
use std::path::Path;
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
        tls: None,
        client: ([127, 0, 0, 1], 1).into(),
        forwarded_for: None,
        status: 404,
        origin_status: 0,
        reason: None,
        failure: None,
        request_bytes: 0,
        response_bytes: 0,
        started: SystemTime::UNIX_EPOCH,
        duration: Duration::ZERO,
        origin_duration: Duration::ZERO,
        retries: 0,
        heads: None,
    });
}

fn to(format: Format, file: &Path) -> Options {
    Options { file: Some(file.to_owned()), ..Options::new(format) }
}

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn lines_of_all_workers_arrive_with_numbers_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs/access.log");
    let writer = start(to(Format::Json, &file)).unwrap();
    let metrics = Metrics::new(metrics::Options::default());
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
    let log = AccessLog {
        options: Arc::new(Options::new(Format::Json)),
        most_bytes: QUEUE_BYTES,
        queue,
        flags: flags.clone(),
        numbers: Arc::default(),
    };
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
    let writer = start(to(Format::Common, &file)).unwrap();
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
    let writer = start(to(Format::Common, &pipe)).unwrap();
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
    let error = start(to(Format::Json, dir.path())).err().unwrap().to_string();
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
}

#[test]
fn a_request_never_waits_for_the_writer_and_no_line_goes_uncounted() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let writer = start(to(Format::Json, &pipe)).unwrap();
    let metrics = Metrics::new(metrics::Options::default());
    let worker = metrics.observer(Some(writer.handle()));
    let entry_point = "web".into();
    // Far more than the queue and the pipe hold; this loop ends although nobody reads.
    const REQUESTS: u64 = 60_000;
    for _ in 0..REQUESTS {
        record(&entry_point, &worker);
    }
    drop(worker);
    let dropped = writer.dropped();
    assert!(dropped > 0 && dropped < REQUESTS, "{dropped}");
    // The reader comes back: what was taken is written to its last line, and nothing else.
    let lines = std::thread::spawn(move || {
        use std::io::Read;
        let (mut lines, mut buffer) = (0, vec![0; 1 << 16]);
        while lines < REQUESTS - dropped {
            let read = reader.read(&mut buffer).unwrap();
            lines += buffer[..read].iter().filter(|b| **b == b'\n').count() as u64;
        }
        lines
    });
    assert!(writer.close(LIMIT));
    assert_eq!(lines.join().unwrap() + dropped, REQUESTS);
}

#[test]
fn a_buffering_size_widens_the_queue_and_never_narrows_it() {
    assert_eq!(room(0), (QUEUE, QUEUE_BYTES));
    assert_eq!(room(100), (QUEUE, QUEUE_BYTES));
    assert_eq!(room(100_000), (12_500, 100_000 * 1024));
}
