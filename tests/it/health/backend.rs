//! A server whose health the test decides, answer by answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What a health check gets.
#[derive(Debug, Clone)]
pub enum Says {
    /// An answer of this status.
    Status(u16),
    /// A redirect to there.
    Redirect(String),
    /// These bytes, and then nothing while the client stays.
    Bytes(Vec<u8>),
    /// Nothing, until it is told something else.
    Nothing,
    /// A body without an end.
    Endless,
    /// 200 and 503 in turn.
    InTurn,
}

#[derive(Default)]
struct State {
    says: Option<Says>,
    requests: usize,
    checks: Vec<String>,
    order: Vec<&'static str>,
    status: u16,
    gone: usize,
}

/// The server; it ends with the test's process.
pub struct Backend {
    pub addr: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Backend {
    pub fn start(name: &str, says: Says) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), name, says)
    }

    pub fn on(listener: TcpListener, name: &str, says: Says) -> Self {
        let addr = listener.local_addr().expect("bound");
        let state = State { says: Some(says), status: 200, ..State::default() };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let (name, shared): (Arc<str>, _) = (name.into(), state.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (name, shared) = (name.clone(), shared.clone());
                std::thread::spawn(move || serve(stream, &name, &shared));
            }
        });
        Self { addr, state }
    }

    /// What checks get from now on; one that hangs gets it at once.
    pub fn say(&self, says: Says) {
        self.state.0.lock().expect("no panic").says = Some(says);
        self.state.1.notify_all();
    }

    /// The status that requests get from now on.
    pub fn answer(&self, status: u16) {
        self.state.0.lock().expect("no panic").status = status;
    }

    /// Requests that were no checks.
    pub fn requests(&self) -> usize {
        self.state.0.lock().expect("no panic").requests
    }

    /// The heads of the checks.
    pub fn checks(&self) -> Vec<String> {
        self.state.0.lock().expect("no panic").checks.clone()
    }

    /// `check` and `request`, in the order in which they were answered.
    pub fn order(&self) -> Vec<&'static str> {
        self.state.0.lock().expect("no panic").order.clone()
    }

    /// Checks whose client went away before they were answered.
    pub fn gone(&self) -> usize {
        self.state.0.lock().expect("no panic").gone
    }
}

fn serve(stream: TcpStream, name: &str, shared: &(Mutex<State>, Condvar)) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let length = head.lines().filter_map(|line| line.split_once(": "));
        let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = length.filter_map(|(_, value)| value.parse::<u64>().ok()).next().unwrap_or(0);
        drop(std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()));
        let path = head.split(' ').nth(1).unwrap_or_default();
        let answer = if path.starts_with("/health") {
            match check(&head, &mut writer, shared) {
                Some(answer) => answer,
                None => return,
            }
        } else {
            let mut state = shared.0.lock().expect("no panic");
            state.requests += 1;
            state.order.push("request");
            let length = name.len();
            format!("HTTP/1.1 {} Whatever\r\nContent-Length: {length}\r\n\r\n{name}", state.status)
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn check(head: &str, writer: &mut TcpStream, shared: &(Mutex<State>, Condvar)) -> Option<String> {
    let mut state = shared.0.lock().expect("no panic");
    state.checks.push(head.to_owned());
    let number = state.checks.len();
    while matches!(state.says, Some(Says::Nothing)) {
        if is_closed(writer) {
            state.gone += 1;
            return None;
        }
        // Looks now and then whether the client is still there.
        state = shared.1.wait_timeout(state, std::time::Duration::from_millis(5)).expect("no panic").0;
    }
    state.order.push("check");
    let status = |status: u16| format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
    match state.says.clone()? {
        Says::Status(code) => Some(status(code)),
        Says::Redirect(to) => Some(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")),
        Says::InTurn => Some(status(if number.is_multiple_of(2) { 503 } else { 200 })),
        Says::Nothing => None,
        Says::Bytes(bytes) => {
            drop(state);
            drop(writer.write_all(&bytes));
            drop(writer.read(&mut [0]));
            None
        }
        Says::Endless => {
            drop(state);
            let mut piece = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
            while writer.write_all(&piece).is_ok() {
                piece = vec![b'x'; 65_536];
            }
            None
        }
    }
}

fn is_closed(stream: &TcpStream) -> bool {
    drop(stream.set_nonblocking(true));
    let closed = matches!(stream.peek(&mut [0]), Ok(0));
    drop(stream.set_nonblocking(false));
    closed
}
