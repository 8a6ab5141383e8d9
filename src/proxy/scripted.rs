//! Connections that follow a script, for tests: how much comes, how much is taken, and when nothing moves; and the
//! plainest possible writer and reader of chunked bodies, to hold ours against.

use proptest::prelude::*;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes move at once, over and over; 0 is a moment in which none do.
#[derive(Debug, Clone)]
struct Steps {
    most: Vec<usize>,
    at: usize,
}

impl Steps {
    fn new(most: &[usize]) -> Self {
        let mut most = most.to_vec();
        // Something moves at last.
        most.push(usize::MAX);
        Self { most, at: 0 }
    }

    fn next(&mut self, cx: &Context<'_>) -> Poll<usize> {
        let step = self.most[self.at % self.most.len()];
        self.at += 1;
        if step == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(step)
    }
}

/// A connection that bytes come from.
#[derive(Debug)]
pub(super) struct Source {
    bytes: Vec<u8>,
    at: usize,
    steps: Steps,
    fails: bool,
}

impl Source {
    pub(super) fn new(bytes: &[u8], steps: &[usize]) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, steps: Steps::new(steps), fails: false }
    }

    /// One that fails where it would end.
    pub(super) fn failing(bytes: &[u8], steps: &[usize]) -> Self {
        Self { fails: true, ..Self::new(bytes, steps) }
    }

    /// How much was read.
    pub(super) fn read(&self) -> usize {
        self.at
    }

    /// What was not read.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

impl AsyncRead for Source {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Poll::Ready(step) = self.steps.next(cx) else { return Poll::Pending };
        if self.at == self.bytes.len() && self.fails {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let now = step.min(self.bytes.len() - self.at).min(buf.remaining());
        buf.put_slice(&self.bytes[self.at..self.at + now]);
        self.at += now;
        Poll::Ready(Ok(()))
    }
}

/// What a connection does that takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It fails.
    Fails,
    /// It says that it took nothing.
    TakesNothing,
    /// It waits, and wakes nobody.
    Waits,
}

/// A connection that bytes go to.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) taken: Vec<u8>,
    /// After so many bytes it is full.
    pub(super) full: Option<(usize, Full)>,
    steps: Steps,
}

impl Sink {
    pub(super) fn new(steps: &[usize]) -> Self {
        Self { taken: Vec::new(), full: None, steps: Steps::new(steps) }
    }

    /// One that takes so many bytes.
    pub(super) fn full(room: usize, full: Full) -> Self {
        Self { full: Some((room, full)), ..Self::new(&[]) }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(mut step) = self.steps.next(cx) else { return Poll::Pending };
        if let Some((room, full)) = self.full {
            step = step.min(room - self.taken.len());
            match full {
                _ if step > 0 => {}
                Full::Fails => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Full::TakesNothing => return Poll::Ready(Ok(0)),
                Full::Waits => return Poll::Pending,
            }
        }
        let before = self.taken.len();
        assert!(before < 16 * 1_024 * 1_024, "it writes and writes");
        for part in parts {
            let now = step.min(part.len());
            self.taken.extend_from_slice(&part[..now]);
            step -= now;
        }
        Poll::Ready(Ok(self.taken.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.steps.next(cx).map(|_| Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether a task was woken.
#[derive(Debug, Default)]
pub(super) struct Woken(AtomicBool);

impl Woken {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (woken.clone(), woken.into())
    }

    /// Whether it was since the last question.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls to the end, as a runtime would: only when woken.
pub(super) fn drive<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let (woken, waker) = Woken::new();
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = poll(&mut cx) {
            return done;
        }
        assert!(woken.take(), "it sleeps, and nobody will wake it");
    }
}

/// Up to so many bytes: cheap to make, and such that one that is lost or out of its place shows.
pub(super) fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let at = |first: u8, at: usize| first.wrapping_add((at % 251) as u8);
    (0..=most, any::<u8>()).prop_map(move |(length, first)| (0..length).map(|place| at(first, place)).collect())
}

/// How much moves at once.
pub(super) fn steps() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![2 => Just(0), 3 => 1..8_usize, 3 => 8..20_000_usize], 0..8)
}

/// A body in chunks of these sizes, over and over, written in all the ways that there are.
pub(super) fn chunked(body: &[u8], sizes: &[usize], trailers: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    let (mut left, mut at) = (body, 0);
    while !left.is_empty() {
        let (chunk, rest) = left.split_at(sizes[at % sizes.len()].clamp(1, left.len()));
        let size = chunk.len();
        let head = match at % 4 {
            0 => format!("{size:x}\r\n"),
            1 => format!("{size:X};name=\"a value\"\r\n"),
            2 => format!("{size:08X}\r\n"),
            _ => format!("{size:x};\r\n"),
        };
        wire.extend_from_slice(head.as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
        (left, at) = (rest, at + 1);
    }
    wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    wire
}

/// Data and trailer lines of a chunked body that is there to its end, and nothing behind it; else `None`.
pub(super) fn unchunked(mut wire: &[u8]) -> Option<(Vec<u8>, String)> {
    fn line<'a>(wire: &mut &'a [u8]) -> Option<&'a str> {
        let end = wire.windows(2).position(|two| two == b"\r\n")?;
        let (line, rest) = wire.split_at(end);
        *wire = &rest[2..];
        Some(std::str::from_utf8(line).expect("text"))
    }
    let mut data = Vec::new();
    loop {
        let size = usize::from_str_radix(line(&mut wire)?, 16).expect("a size");
        if size == 0 {
            break;
        }
        data.extend_from_slice(wire.get(..size)?);
        assert_eq!(wire.get(size..size + 2).unwrap_or(b"\r\n"), b"\r\n");
        wire = wire.get(size + 2..)?;
    }
    let mut trailers = String::new();
    loop {
        match line(&mut wire)? {
            "" => break,
            trailer => trailers.extend([trailer, "\r\n"]),
        }
    }
    wire.is_empty().then_some((data, trailers))
}

#[test]
fn the_plain_reader_reads_what_the_plain_writer_wrote_and_nothing_less() {
    let wire = chunked(b"hello, world", &[12], "A: 1\r\n");
    assert_eq!(unchunked(&wire), Some((b"hello, world".to_vec(), "A: 1\r\n".to_owned())));
    for end in 0..wire.len() {
        assert_eq!(unchunked(&wire[..end]), None, "{end}");
    }
}
