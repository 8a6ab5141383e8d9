//! Both ends of a TCP connection that means nothing to the proxy.

use crate::support::PATIENCE;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// A server that does what it was made for with every connection.
pub struct Tcp {
    pub addr: SocketAddr,
    recorded: mpsc::Receiver<Vec<u8>>,
    stopped: Arc<AtomicBool>,
}

impl Tcp {
    /// Says this, then echoes.
    pub fn greets(greeting: &str) -> Self {
        let greeting = greeting.to_owned();
        Self::start(move |mut stream, _| {
            if stream.write_all(greeting.as_bytes()).is_ok() {
                echo(stream);
            }
        })
    }

    /// Says what it hears.
    pub fn echoes() -> Self {
        Self::start(|stream, _| echo(stream))
    }

    /// Hears a whole side, then says what it heard; with `answer` that.
    pub fn records() -> Self {
        Self::start(|mut stream, tell| {
            let mut all = Vec::new();
            drop(stream.read_to_end(&mut all));
            drop(tell.send(all));
        })
    }

    /// Hears a whole side, then waits for `go` and answers with the number of bytes.
    pub fn counts(go: mpsc::Receiver<()>) -> Self {
        let go = std::sync::Mutex::new(go);
        Self::start(move |mut stream, tell| {
            let mut all = Vec::new();
            drop(stream.read_to_end(&mut all));
            let length = all.len();
            drop(tell.send(all));
            drop(go.lock().map(|go| go.recv_timeout(PATIENCE)));
            drop(stream.write_all(length.to_string().as_bytes()));
        })
    }

    /// Says this and ends its side; hears the other one to its end.
    pub fn says_and_ends(text: &str) -> Self {
        let text = text.to_owned();
        Self::start(move |mut stream, tell| {
            drop(stream.write_all(text.as_bytes()));
            drop(stream.shutdown(Shutdown::Write));
            let mut all = Vec::new();
            drop(stream.read_to_end(&mut all));
            drop(tell.send(all));
        })
    }

    pub fn start(serve: impl Fn(TcpStream, &mpsc::Sender<Vec<u8>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (tell, recorded) = mpsc::channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, serve) = (stopped.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (serve, tell) = (serve.clone(), tell.clone());
                std::thread::spawn(move || serve(stream, &tell));
            }
        });
        Self { addr, recorded, stopped }
    }

    /// What the next connection said that has ended.
    pub fn next_recorded(&mut self) -> Vec<u8> {
        self.recorded.recv_timeout(PATIENCE).expect("a connection ends")
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr));
    }
}

fn echo(mut stream: TcpStream) {
    let Ok(mut reader) = stream.try_clone() else { return };
    drop(std::io::copy(&mut reader, &mut stream));
    drop(stream.shutdown(Shutdown::Write));
}

/// A port that is taken, and where nobody listens.
pub struct Closed {
    pub address: SocketAddr,
    _held: socket2::Socket,
}

pub fn closed() -> Closed {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = socket.local_addr().expect("an address").as_socket().expect("of IP");
    Closed { address, _held: socket }
}

/// A port of the kernel's that was free just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

pub fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

pub fn says(stream: &mut impl Write, text: &str) {
    stream.write_all(text.as_bytes()).expect("said");
    stream.flush().expect("said");
}

/// So many bytes.
pub fn hears(stream: &mut impl Read, count: usize) -> String {
    let mut heard = vec![0; count];
    stream.read_exact(&mut heard).expect("heard");
    String::from_utf8(heard).expect("text")
}

/// So many bytes, or fewer where it ends before; `None` where it breaks.
pub fn some(stream: &mut TcpStream, count: usize) -> Option<String> {
    // One that would wait for a request is not what is asked for.
    stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("a limit");
    let mut heard = Vec::new();
    stream.take(count as u64).read_to_end(&mut heard).ok()?;
    String::from_utf8(heard).ok()
}

/// Everything until it ends; a reset is an end.
pub fn rest(stream: &mut impl Read) -> String {
    let mut heard = Vec::new();
    if let Err(error) = stream.read_to_end(&mut heard) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&heard).into_owned()
}
