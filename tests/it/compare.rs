//! `rust-lb compare`, as people run it, against small servers that answer as a test says, and against rust-lb itself.

mod asked;
mod instances;
mod sources;

use crate::support::binary::command;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

/// What a server gives for a request's head.
type Answerer = dyn Fn(&str) -> String + Send + Sync;

/// A server that answers as it is told and keeps the heads of what it got.
struct Scripted {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let addr = listener.local_addr().expect("bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept): (Arc<Answerer>, _) = (Arc::new(answer), heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, kept) = (answer.clone(), kept.clone());
                std::thread::spawn(move || serve(stream, &*answer, &kept));
            }
        });
        Self { addr, heads }
    }

    /// Answers 200 with a body.
    fn saying(body: &'static str) -> Self {
        Self::start(move |_| ok(body))
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn ok(body: &str) -> String {
    answer("200 OK", "Date: now\r\nServer: test\r\n", body)
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn serve(stream: TcpStream, answer: &Answerer, kept: &Mutex<Vec<String>>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).map_or(true, |n| n == 0) {
                return;
            }
        }
        // a reachable port is looked at before the first request
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
        let text = answer(&head);
        let text =
            if head.starts_with("HEAD ") { text.split_inclusive("\r\n\r\n").next().unwrap_or_default() } else { &text };
        if text.is_empty() || writer.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// What the command gave.
struct Given {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Given {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not JSON ({e}): {}\n{}", self.out, self.err))
    }
}

/// `rust-lb compare`, with something on standard input.
fn compare_with(input: &str, args: &[&str]) -> Given {
    let mut all = vec!["compare"];
    all.extend(args);
    let mut child = command(&all)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // one that reads nothing closes its end
    drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Given { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Compares two servers.
fn compare(old: &Scripted, new: &Scripted, input: &str, more: &[&str]) -> Given {
    let (old, new) = (old.url(), new.url());
    let mut args = vec!["--old", &*old, "--new", &*new, "--rate", "0"];
    args.extend(more);
    compare_with(input, &args)
}
