//! From HTTP/1.1 to frames and back again: what comes out of [`Sender`] is what went into [`Frames`].

use super::buffers::Buffers;
use super::frames::{Cut, Frames};
use super::scripted::{Full, Sink, Source, bytes, chunked, drive, steps, unchunked};
use super::sender::{Broken, Sender};
use crate::http::h1::Framing;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use proptest::prelude::*;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// A body that is read as it is asked for.
struct Reading {
    frames: Frames,
    source: Source,
    buffers: Buffers,
    /// Says that it is at its end before it is asked for a frame behind it.
    foresees: bool,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Self { frames, source, buffers, .. } = self.get_mut();
        loop {
            if let Some(frame) = frames.next() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if frames.is_read() {
                assert!(frames.is_done());
                return Poll::Ready(None);
            }
            ready!(frames.poll_read(cx, source, buffers))?;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.foresees && self.frames.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.frames.size_hint()
    }
}

#[derive(Debug, Clone)]
struct Case {
    framing: Framing,
    lead: Vec<u8>,
    body: Vec<u8>,
    trailers: &'static str,
    chunks: Vec<usize>,
    behind: &'static str,
    first: usize,
    reads: Vec<usize>,
    writes: Vec<usize>,
    foresees: bool,
}

impl Case {
    fn wire(&self) -> Vec<u8> {
        match self.framing {
            Framing::Chunked => chunked(&self.body, &self.chunks, self.trailers),
            _ => self.body.clone(),
        }
    }

    fn reading(&self, all: &[u8]) -> Reading {
        let (read, later) = all.split_at(all.len() * self.first / 1_000);
        Reading {
            frames: Frames::new(self.framing, read).expect("a good beginning"),
            source: Source::new(later, &self.reads),
            buffers: Buffers::default(),
            foresees: self.foresees,
        }
    }

    /// How it is sent on: what has no length goes in chunks.
    fn sent(&self) -> Framing {
        if self.framing == Framing::UntilClose { Framing::Chunked } else { self.framing }
    }

    fn assert_is_not_whole(&self, written: &[u8]) {
        let Some(body) = written.strip_prefix(&*self.lead) else {
            assert!(self.lead.starts_with(written));
            return;
        };
        match self.sent() {
            Framing::Chunked => assert_eq!(unchunked(body), None),
            _ => assert!(self.body.starts_with(body)),
        }
    }
}

prop_compose! {
    fn case()(
        kind in 0..4,
        lead in prop_oneof![bytes(200), bytes(6_000)],
        mut body in prop_oneof![bytes(0), bytes(40), bytes(30_000)],
        trailers in prop::sample::select(&["", "x-sum: 1\r\n", "a: b\r\nx-sum: 2\r\nx-sum: 3\r\nz: \r\n"][..]),
        chunks in prop::collection::vec(1..20_000_usize, 1..5),
        behind in prop::sample::select(&["", "G", "GET / HTTP/1.1\r\n\r\n"][..]),
        first in prop_oneof![Just(0), 0..=1_000_usize, Just(1_000)],
        reads in steps(),
        writes in steps(),
        foresees: bool,
    ) -> Case {
        let framing = match kind {
            0 => { body.clear(); Framing::None }
            1 => Framing::Length(body.len() as u64),
            2 => Framing::Chunked,
            _ => Framing::UntilClose,
        };
        let behind = if framing == Framing::UntilClose { "" } else { behind };
        let trailers = if framing == Framing::Chunked { trailers } else { "" };
        Case { framing, lead, body, trailers, chunks, behind, first, reads, writes, foresees }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn frames_and_back_are_the_same_body(case in case()) {
        let all = [case.wire(), case.behind.as_bytes().to_vec()].concat();
        let mut reading = case.reading(&all);
        let mut sink = Sink::new(&case.writes);
        let mut sender = Sender::new(case.lead.clone(), &mut reading, case.sent());
        drive(|cx| sender.poll(cx, &mut sink)).expect("all of it");

        prop_assert_eq!(sender.bytes, case.body.len() as u64);
        let body = sink.taken.strip_prefix(&*case.lead).expect("the head");
        match case.sent() {
            Framing::Chunked => prop_assert_eq!(unchunked(body), Some((case.body.clone(), case.trailers.to_owned()))),
            _ => prop_assert_eq!(body, &case.body),
        }
        // A body of no bytes and no trailers may not have been asked for.
        if !reading.frames.is_done() {
            prop_assert!(all.is_empty());
        }
        prop_assert_eq!([&reading.frames.surplus, reading.source.rest()].concat(), case.behind.as_bytes());
    }

    #[test]
    fn the_size_that_is_said_is_the_size(case in case()) {
        let mut reading = case.reading(&case.wire());
        let mut left = case.body.len() as u64;
        loop {
            let hint = reading.size_hint();
            match case.framing {
                Framing::None | Framing::Length(_) => prop_assert_eq!(hint.exact(), Some(left)),
                _ => prop_assert!(hint.lower() <= left && hint.upper().is_none_or(|upper| upper >= left)),
            }
            let frame = drive(|cx| Pin::new(&mut reading).poll_frame(cx)).transpose().expect("all of it");
            let Some(frame) = frame else { break };
            if let Ok(data) = frame.into_data() {
                prop_assert!(!data.is_empty());
                left -= data.len() as u64;
            }
        }
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn a_source_that_ends_early_is_no_end(mut case in case(), end in 0..1_000_usize) {
        if matches!(case.framing, Framing::None | Framing::UntilClose) {
            case.body.push(b'x');
            case.framing = Framing::Length(case.body.len() as u64);
        }
        let mut all = case.wire();
        prop_assume!(!all.is_empty());
        all.truncate(all.len() * end / 1_000);
        let mut sink = Sink::new(&case.writes);
        let mut sender = Sender::new(case.lead.clone(), case.reading(&all), case.sent());
        let broken = drive(|cx| sender.poll(cx, &mut sink)).expect_err("a part");
        prop_assert!(matches!(broken, Broken::Source), "{broken:?}");
        case.assert_is_not_whole(&sink.taken);
    }

    #[test]
    fn a_bad_chunk_is_no_end(
        mut case in case(),
        bad in prop::sample::select(&["zz\r\n", "5\nhello", "0\r\nHost: a\r\n\r\n", "0\r\n\n", "0\r\nx\r\n\r\n"][..]),
    ) {
        (case.framing, case.trailers) = (Framing::Chunked, "");
        let mut all = case.wire();
        let good = all.len() - b"0\r\n\r\n".len();
        all.truncate(good);
        all.extend_from_slice(bad.as_bytes());
        let (read, _) = all.split_at(all.len() * case.first / 1_000);
        if Frames::new(Framing::Chunked, read).is_ok() {
            let mut sink = Sink::new(&case.writes);
            let mut sender = Sender::new(case.lead.clone(), case.reading(&all), Framing::Chunked);
            let broken = drive(|cx| sender.poll(cx, &mut sink)).expect_err("a part");
            prop_assert!(matches!(broken, Broken::Source), "{broken:?}");
            case.assert_is_not_whole(&sink.taken);
        } else {
            prop_assert!(read.len() > good, "what is bad stands at the end");
        }
    }

    #[test]
    fn a_sink_that_takes_no_more_breaks_it(case in case(), room in 0..1_000_usize, nothing: bool) {
        let least = case.lead.len() + case.body.len();
        prop_assume!(least > 0);
        let full = if nothing { Full::TakesNothing } else { Full::Fails };
        let mut sink = Sink::full(least * room / 1_000, full);
        let mut sender = Sender::new(case.lead.clone(), case.reading(&case.wire()), case.sent());
        let broken = drive(|cx| sender.poll(cx, &mut sink)).expect_err("no room");
        prop_assert!(matches!(broken, Broken::Sink), "{broken:?}");
        case.assert_is_not_whole(&sink.taken);
    }
}

/// A body of a megabyte that comes as fast as it is asked for.
fn endless() -> Case {
    Case {
        framing: Framing::Chunked,
        lead: b"head".to_vec(),
        body: vec![b'x'; 1_000_000],
        trailers: "",
        chunks: vec![10_000],
        behind: "",
        first: 0,
        reads: Vec::new(),
        writes: Vec::new(),
        foresees: false,
    }
}

#[test]
fn the_sink_sets_the_pace() {
    let mut cx = Context::from_waker(Waker::noop());
    for framing in [Framing::Length(1_000_000), Framing::Chunked, Framing::UntilClose] {
        for room in [0, 3, 4, 10, 70_000, 300_000] {
            let case = Case { framing, ..endless() };
            let mut reading = case.reading(&case.wire());
            let mut sink = Sink::full(room, Full::Waits);
            let mut sender = Sender::new(case.lead.clone(), &mut reading, case.sent());
            assert!(sender.poll(&mut cx, &mut sink).is_pending());
            assert!(!sender.waits_for_body);
            sender.moved = false;
            for _ in 0..3 {
                assert!(sender.poll(&mut cx, &mut sink).is_pending());
            }
            assert!(!sender.moved);
            let bytes = sender.bytes;
            drop(sender);
            assert!(bytes < room as u64 + 128 * 1_024, "{framing:?}: {bytes} for {room}");
            assert!(reading.source.read() < room + 128 * 1_024, "{framing:?}: {} for {room}", reading.source.read());
        }
    }
}

#[test]
fn who_waits_for_the_body_says_so_and_has_written_what_came() {
    let mut cx = Context::from_waker(Waker::noop());
    let case = Case { framing: Framing::Length(9), body: b"hello".to_vec(), reads: vec![2, 0], ..endless() };
    let mut reading = case.reading(&case.wire());
    let mut sink = Sink::new(&[]);
    let mut sender = Sender::new(case.lead.clone(), &mut reading, case.framing);
    assert!(sender.poll(&mut cx, &mut sink).is_pending());
    assert!(sender.waits_for_body && sender.has_read && sender.has_written);
    assert_eq!(sink.taken, b"headhe");
    assert!(sender.poll(&mut cx, &mut sink).is_ready(), "the source has ended");
    assert_eq!(sink.taken, b"headhello");
}

#[test]
fn a_body_that_nobody_took_from_can_be_sent_elsewhere() {
    let mut cx = Context::from_waker(Waker::noop());
    let case = Case { reads: vec![0, 100], ..endless() };
    let mut sender = Sender::new(b"head".to_vec(), case.reading(&case.wire()), Framing::Chunked);
    assert!(sender.poll(&mut cx, &mut Sink::new(&[])).is_pending());
    assert!(!sender.has_read && sender.has_written, "the head alone");
    let body = sender.into_body().expect("untouched");

    let mut sender = Sender::new(Vec::new(), body, Framing::Chunked);
    let mut sink = Sink::new(&[]);
    drive(|cx| sender.poll(cx, &mut sink)).expect("all of it");
    assert!(unchunked(&sink.taken).is_some_and(|(data, _)| data == case.body));
    assert!(sender.into_body().is_none());
}

/// Frames that are there at once.
struct Made(Vec<Frame<Bytes>>);

impl Body for Made {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Poll::Ready(if self.0.is_empty() { None } else { Some(Ok(self.0.remove(0))) })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// Sends frames in chunks.
fn sent(frames: Vec<Frame<Bytes>>) -> Result<Vec<u8>, Broken> {
    let mut sink = Sink::new(&[]);
    let mut sender = Sender::new(Vec::new(), Made(frames), Framing::Chunked);
    drive(|cx| sender.poll(cx, &mut sink))?;
    Ok(sink.taken)
}

#[test]
fn frames_become_chunks() {
    let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
    let trailers = |name: &'static str| {
        Frame::trailers([(name.parse().expect("a name"), ::http::HeaderValue::from_static("1"))].into_iter().collect())
    };
    for (frames, wanted) in [
        (vec![], "0\r\n\r\n"),
        (vec![data("")], "0\r\n\r\n"),
        (vec![data("a"), data(""), data("bc")], "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        (vec![trailers("x-a")], "0\r\nx-a: 1\r\n\r\n"),
        (vec![data("a"), trailers("x-a")], "1\r\na\r\n0\r\nx-a: 1\r\n\r\n"),
    ] {
        let shown = format!("{frames:?}");
        assert_eq!(
            sent(frames).map(|wire| String::from_utf8(wire).expect("text")).ok().as_deref(),
            Some(wanted),
            "{shown}"
        );
    }
    for name in ["content-length", "transfer-encoding", "x-forwarded-for"] {
        assert!(matches!(sent(vec![data("a"), trailers(name)]), Err(Broken::Source)), "{name}");
    }
}
