//! The servers' side: what a server says that it should not. Each script is a server of its own behind the binary, and
//! after it come two innocent requests, which must get their own answers.

use super::super::support::PATIENCE;
use super::super::support::client::parse_next;
use super::super::support::stand::Stand;
use super::not_yet;
use super::scripts::{After, Must, Script, scripts};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Scripts under way at once.
const AT_ONCE: usize = 16;

/// A server that answers the first request for `/s` by its script, and innocents as it should.
struct Scripted {
    address: SocketAddr,
    /// The connection on which each target was asked.
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Tells it that the client has its answer, and waits until it has said more.
    go: mpsc::Sender<()>,
    done: Mutex<mpsc::Receiver<()>>,
}

/// What the threads of a server share.
struct Shared {
    script: Script,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    go: Mutex<mpsc::Receiver<()>>,
    done: mpsc::Sender<()>,
}

impl Scripted {
    fn start(script: &Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let ((go, told), (done, heard)) = (mpsc::channel(), mpsc::channel());
        let shared = Arc::new(Shared { script: script.clone(), asked: asked.clone(), go: Mutex::new(told), done });
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let shared = shared.clone();
                std::thread::spawn(move || drop(serve(stream, number, &shared)));
            }
        });
        Self { address, asked, go, done: Mutex::new(heard) }
    }
}

/// Serves one connection.
fn serve(stream: TcpStream, number: usize, shared: &Shared) -> std::io::Result<()> {
    let Shared { script, asked, go, done } = shared;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().unwrap_or(0);
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        asked.lock().expect("not poisoned").insert(target.clone(), number);
        let innocent = target.starts_with("/i/");
        if innocent || script.after != After::Unread {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        }
        if innocent {
            let body = format!("GET {target}");
            writer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
            continue;
        }
        writer.write_all(&script.answer)?;
        match &script.after {
            After::Close => return Ok(()),
            After::Reset => {
                // Nothing lingers: whatever is not taken is lost.
                socket2::SockRef::from(&writer).set_linger(Some(std::time::Duration::ZERO))?;
                return Ok(());
            }
            After::Unread => {
                // Neither reads the body nor closes.
                let mut byte = [0];
                while writer.peek(&mut byte)? != 0 {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                }
                return Ok(());
            }
            After::Late(surplus) => {
                let heard = go.lock().expect("not poisoned").recv_timeout(PATIENCE);
                if heard.is_ok() {
                    writer.write_all(surplus)?;
                    let _ = done.send(());
                }
            }
            After::Keep => {}
        }
    }
}

/// All that comes until the proxy closes; `None` when it does not.
fn ask(address: SocketAddr, host: &str, script: &Script) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let length = script.body.len();
    let body = if length == 0 { String::new() } else { format!("Content-Length: {length}\r\n") };
    let head = format!("{} /s HTTP/1.1\r\nHost: {host}\r\n{}{body}\r\n", script.method, script.fields);
    stream.write_all(head.as_bytes()).expect("written");
    // The answer may come, and the proxy may close, before all of it is taken.
    let (mut writer, body) = (stream.try_clone().expect("a clone"), script.body.clone());
    let writing = std::thread::spawn(move || drop(writer.write_all(&body)));
    let answer = all_of(&mut stream);
    drop(stream.shutdown(Shutdown::Both));
    writing.join().expect("the writer");
    answer
}

/// All that comes until the end; `None` when there is none.
fn all_of(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    let mut chunk = [0; 16_384];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Some(answer),
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(answer),
        }
    }
}

/// What a client makes of what came.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    /// A complete answer and nothing behind it.
    Whole(u16, Vec<u8>),
    /// The beginning of one, and it shows.
    Cut,
    /// Nothing.
    Nothing,
    /// Bytes behind the answer.
    More(String),
}

fn read(bytes: &[u8], head: bool) -> Got {
    let mut rest = bytes;
    if bytes.is_empty() {
        return Got::Nothing;
    }
    loop {
        match parse_next(&mut rest, head) {
            Ok(answer) if (102..200).contains(&answer.status) || answer.status == 100 => {}
            Ok(answer) if rest.is_empty() => return Got::Whole(answer.status, answer.body),
            Ok(_) => return Got::More(String::from_utf8_lossy(&rest[..rest.len().min(200)]).into_owned()),
            Err(_) => return Got::Cut,
        }
    }
}

fn judge(script: &Script, got: &Got) -> bool {
    let refused = matches!(got, Got::Whole(502 | 504, _));
    match &script.must {
        Must::Refuse => refused,
        Must::Pass(status, body) => *got == Got::Whole(*status, body.clone()),
        Must::Cut => refused || matches!(got, Got::Cut | Got::Nothing),
        Must::Either(status, body) => refused || *got == Got::Whole(*status, body.clone()),
    }
}

#[test]
fn what_servers_should_not_say_harms_nobody() {
    let scripts = scripts();
    let servers: Vec<_> = scripts.iter().map(Scripted::start).collect();
    let host = |number: usize| format!("s{number}.test");
    let routes: Vec<_> = servers.iter().enumerate().map(|(number, server)| (host(number), server.address)).collect();
    let stand = Stand::start(
        &routes,
        &[
            "--serversTransport.forwardingTimeouts.responseHeaderTimeout=3s",
            // A body that nobody takes any more.
            "--entryPoints.web.transport.respondingTimeouts.readTimeout=3s",
        ],
    );
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < scripts.len()) {
                    let (script, server, host) = (&scripts[number], &servers[number], host(number));
                    let fault = |what: String| {
                        faults.lock().expect("not poisoned").push(format!("{}: {what}", script.name));
                    };
                    match ask(stand.web, &host, script) {
                        None => fault("the client was not answered".to_owned()),
                        Some(bytes) => {
                            let got = read(&bytes, script.method == "HEAD");
                            if !judge(script, &got) && !not_yet(&script.name) {
                                let head = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
                                fault(format!("has to be {:?}, but the client got {got:?}: {head:?}", script.must));
                            }
                        }
                    }
                    if let After::Late(_) = script.after {
                        server.go.send(()).expect("it listens");
                        let done = server.done.lock().expect("not poisoned").recv_timeout(PATIENCE);
                        if done.is_err() {
                            fault("the server did not come to say more".to_owned());
                        }
                    }
                    let not_yet = not_yet(&script.name);
                    for target in ["/i/a", "/i/b"] {
                        let got = read(&innocent(stand.calm, &host, target), false);
                        // See what the list says of these.
                        let late = not_yet && matches!(script.after, After::Late(_));
                        if !late && got != Got::Whole(200, format!("GET {target}").into_bytes()) {
                            fault(format!("the next request got {got:?}"));
                        }
                    }
                    let asked = server.asked.lock().expect("not poisoned");
                    if !script.reuse && !not_yet && asked.get("/s").is_some_and(|at| asked.get("/i/a") == Some(at)) {
                        fault("the connection was used again".to_owned());
                    }
                }
            });
        }
    });
    drop(stand.stop());
    let faults = faults.into_inner().expect("not poisoned");
    assert!(faults.is_empty(), "{} faults in {} scripts:\n{}", faults.len(), scripts.len(), faults.join("\n"));
}

fn innocent(address: SocketAddr, host: &str, target: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("written");
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}
