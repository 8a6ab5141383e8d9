//! The holder and its workers, by the whole binary: what clients notice of a new worker, of one that dies, of a broken one;
//! the end; the standby.

mod announced;
mod drain;
mod dying;
mod hand_over;
mod standby;
mod supervised;

use super::support::client::{Answer, Connection};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A request on a connection of its own.
fn ask(web: SocketAddr) -> std::io::Result<Answer> {
    super::support::client::try_get(web, "a.test", "/")
}

/// New connections from several threads, one request each, until told to stop.
struct Knocking {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Knocking {
    fn start(web: SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let knock = || {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match ask(web) {
                        Ok(answer) if answer.status == 200 => {}
                        Ok(answer) => failures.push(answer.status.to_string()),
                        Err(error) => failures.push(error.to_string()),
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
                failures
            })
        };
        let threads = (0..4).map(|_| knock()).collect();
        Self { stop, done, threads }
    }

    /// Waits until so many more were answered.
    fn pass(&self, more: usize) {
        let until = self.done.load(Ordering::SeqCst) + more;
        super::support::eventually("answers come", || (self.done.load(Ordering::SeqCst) >= until).then_some(()));
    }

    /// Every one must have been answered by 200.
    fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        let failures: Vec<String> = self.threads.into_iter().flat_map(|t| t.join().expect("a thread")).collect();
        let done = self.done.load(Ordering::SeqCst);
        assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(5)]);
    }
}

/// A server that switches every connection to another protocol, and says back what it is told in it.
fn switching() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                if !String::from_utf8_lossy(&head).to_ascii_lowercase().contains("\r\nupgrade:") {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
                    return;
                }
                let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
                if stream.write_all(switched).is_ok() {
                    let Ok(mut back) = stream.try_clone() else { return };
                    drop(std::io::copy(&mut stream, &mut back));
                }
            });
        }
    });
    address
}

/// A connection switched through the proxy.
fn switched(web: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(web).expect("a connection");
    stream.set_read_timeout(Some(super::support::PATIENCE)).expect("set");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").expect("sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Says something and hears it back.
fn echo(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("said");
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).expect("heard");
    assert_eq!(back, text.as_bytes());
}

/// A kept connection on which one request was answered.
fn kept(web: SocketAddr) -> Connection {
    let mut connection = Connection::open(web).expect("a connection");
    let answer = connection.get("a.test", "/").expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    connection
}
