//! Requests from a thread, all the time, while a test breaks something.

use super::client::Connection;
use super::eventually;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Requests on one connection before the next is opened: kept and fresh ones are both in the traffic, and the
/// ports of a loopback last.
const PER_CONNECTION: usize = 25;

/// Sends requests to one host until told to stop; keeps what was not answered by 200.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Traffic {
    /// Starts at once.
    pub fn start(web: SocketAddr, host: &str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count, host) = (stop.clone(), sent.clone(), host.to_owned());
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            let mut connection = None;
            while !stopped.load(Ordering::SeqCst) {
                let number = count.load(Ordering::SeqCst);
                if number.is_multiple_of(PER_CONNECTION) {
                    connection = None;
                }
                let answer = match connection.take().map_or_else(|| Connection::open(web), Ok) {
                    // A client that is told that an answer was the last does not ask again.
                    Ok(mut open) => open.get(&host, "/").inspect(|answer| {
                        connection = (answer.header("connection") != Some("close")).then_some(open);
                    }),
                    Err(e) => Err(e),
                };
                match answer {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failures.push(format!("request {number}: {}", answer.status)),
                    Err(e) => failures.push(format!("request {number}: {e}")),
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
            failures
        });
        Self { stop, sent, thread }
    }

    /// Waits until this many more requests have been answered.
    pub fn pass(&self, more: usize) {
        let until = self.sent.load(Ordering::SeqCst) + more;
        eventually("traffic goes on", || (self.sent.load(Ordering::SeqCst) >= until).then_some(()));
    }

    /// Stops; every request must have been answered by 200.
    pub fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        let failures = self.thread.join().expect("the traffic thread");
        let sent = self.sent.load(Ordering::SeqCst);
        assert!(failures.is_empty(), "{} of {sent} failed: {:?}", failures.len(), &failures[..failures.len().min(5)]);
    }
}
