//! What a pump must hold, for every framing and every way that bytes may come and go, against a reader of
//! chunked bodies that shares nothing with ours.

use super::pump::{Broken, Pump, Sent, Waits};
use crate::http::h1::{Fault, Framing};
use crate::proxy::buffers::Buffers;
use crate::proxy::scripted::{Full, Sink, Source, bytes, chunked, drive, steps, unchunked};
use proptest::prelude::*;
use std::task::{Context, Poll, Waker};

/// The framings, each with the ways in which such a body is sent on.
const WAYS: [(Kind, Sent); 7] = [
    (Kind::None, Sent::Plain),
    (Kind::Length, Sent::Plain),
    (Kind::Chunked, Sent::Plain),
    (Kind::UntilClose, Sent::Plain),
    (Kind::Length, Sent::Chunked),
    (Kind::Chunked, Sent::Chunked),
    (Kind::UntilClose, Sent::Chunked),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Length,
    Chunked,
    UntilClose,
}

/// A message, and how it comes and goes.
#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    sent: Sent,
    lead: Vec<u8>,
    body: Vec<u8>,
    trailers: String,
    chunks: Vec<usize>,
    behind: Vec<u8>,
    /// How much of all that comes together with the head, in thousandths.
    first: usize,
    reads: Vec<usize>,
    writes: Vec<usize>,
}

impl Case {
    fn framing(&self) -> Framing {
        match self.kind {
            Kind::None => Framing::None,
            Kind::Length => Framing::Length(self.body.len() as u64),
            Kind::Chunked => Framing::Chunked,
            Kind::UntilClose => Framing::UntilClose,
        }
    }

    /// The body as it comes.
    fn wire(&self) -> Vec<u8> {
        match self.kind {
            Kind::Chunked => chunked(&self.body, &self.chunks, &self.trailers),
            _ => self.body.clone(),
        }
    }

    /// Cuts what comes into what came with the head and what is read later.
    fn cut<'a>(&self, all: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        all.split_at(all.len() * self.first / 1_000)
    }

    /// Where the last chunk is the end, what was written must not look whole.
    fn assert_is_not_whole(&self, written: &[u8]) {
        let Some(body) = written.strip_prefix(&*self.lead) else {
            assert!(self.lead.starts_with(written));
            return;
        };
        match self.sent {
            Sent::Chunked => assert_eq!(unchunked(body), None),
            Sent::Plain => assert!(self.body.starts_with(body)),
        }
    }
}

prop_compose! {
    fn case()(
        (kind, sent) in prop::sample::select(&WAYS[..]),
        lead in prop_oneof![bytes(200), bytes(6_000)],
        mut body in prop_oneof![bytes(0), bytes(40), bytes(12_000)],
        trailers in prop_oneof![Just(""), Just("X-Sum: 1\r\n"), Just("a:b\r\nX-Sum:  2 \r\nx-sum:\r\n")],
        chunks in prop::collection::vec(1..5_000_usize, 1..5),
        behind in bytes(50),
        first in prop_oneof![Just(0), 0..=1_000_usize, Just(1_000)],
        reads in steps(),
        writes in steps(),
    ) -> Case {
        if kind == Kind::None {
            body.clear();
        } else if kind == Kind::Length && sent == Sent::Chunked && body.is_empty() {
            // A length of nothing is never sent in chunks.
            body.push(b'x');
        }
        let behind = if kind == Kind::UntilClose { Vec::new() } else { behind };
        let trailers = if kind == Kind::Chunked { trailers.to_owned() } else { String::new() };
        Case { kind, sent, lead, body, trailers, chunks, behind, first, reads, writes }
    }
}

/// Pumps until all is written, or it breaks.
fn pumped(pump: &mut Pump<'_>, source: &mut Source, sink: &mut Sink) -> Result<(), Broken> {
    let buffers = Buffers::default();
    drive(|cx| pump.poll(cx, source, sink, &buffers))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_goes_on_whole_and_nothing_else(case in case()) {
        let mut all = case.wire();
        let length = all.len();
        all.extend_from_slice(&case.behind);
        let (read, later) = case.cut(&all);
        let (mut source, mut sink) = (Source::new(later, &case.reads), Sink::new(&case.writes));
        let mut pump = Pump::new(case.lead.clone(), case.framing(), case.sent, read).expect("a good beginning");
        pumped(&mut pump, &mut source, &mut sink).expect("all of it");

        let body = sink.taken.strip_prefix(&*case.lead).expect("the head");
        match case.sent {
            Sent::Plain => prop_assert_eq!(body, &case.body),
            Sent::Chunked => prop_assert_eq!(unchunked(body), Some((case.body.clone(), case.trailers.clone()))),
        }
        prop_assert_eq!(pump.bytes, case.body.len() as u64);
        prop_assert!(pump.is_read());
        prop_assert_eq!(pump.has_written, !sink.taken.is_empty());
        prop_assert_eq!(pump.has_read, source.read() > 0);
        prop_assert_eq!([&pump.surplus, source.rest()].concat(), &*case.behind);
        if case.kind != Kind::Chunked && case.sent == Sent::Plain {
            // Not a byte beyond the end is read.
            prop_assert_eq!(pump.surplus.len(), read.len().saturating_sub(length));
        }
    }

    #[test]
    fn a_source_that_ends_early_is_no_end(case in case(), end in 0..1_000_usize, fails: bool) {
        let mut all = case.wire();
        let whole = all.len();
        all.truncate(whole * end / 1_000);
        let ends_well = case.kind == Kind::None || (case.kind == Kind::UntilClose && !fails) || whole == 0;
        prop_assume!(!ends_well);
        let (read, later) = case.cut(&all);
        let mut source =
            if fails { Source::failing(later, &case.reads) } else { Source::new(later, &case.reads) };
        let mut sink = Sink::new(&case.writes);
        let mut pump = Pump::new(case.lead.clone(), case.framing(), case.sent, read).expect("a good beginning");
        let broken = pumped(&mut pump, &mut source, &mut sink).expect_err("a part");
        prop_assert!(matches!(broken, Broken::Source), "{broken:?}");
        case.assert_is_not_whole(&sink.taken);
        // What came went on.
        if case.kind != Kind::Chunked && case.sent == Sent::Plain {
            prop_assert_eq!(sink.taken, [&*case.lead, &all].concat());
        }
    }

    #[test]
    fn a_bad_chunk_is_no_end(
        mut case in case(),
        bad in prop::sample::select(&[
            ("zz\r\n", Fault::ChunkSize),
            ("\r\n", Fault::ChunkSize),
            ("5\nhello\r\n", Fault::BareLf),
            ("5;a\rb\r\n", Fault::BareCr),
            ("1\r\nab\r\n", Fault::ChunkEnd),
            ("0\r\nContent-Length: 5\r\n\r\n", Fault::ForbiddenTrailer),
            ("0\r\nno trailer\r\n\r\n", Fault::NoColon),
            ("0\r\nX-A: 1\r\n folded\r\n\r\n", Fault::Folded),
            ("0\r\n\n", Fault::BareLf),
            ("ffffffffffffffff0\r\n", Fault::ChunkSize),
        ][..]),
        chunked_on: bool,
    ) {
        (case.kind, case.sent) = (Kind::Chunked, if chunked_on { Sent::Chunked } else { Sent::Plain });
        case.trailers.clear();
        let mut all = case.wire();
        all.truncate(all.len() - b"0\r\n\r\n".len());
        all.extend_from_slice(bad.0.as_bytes());
        all.extend_from_slice(&case.behind);
        let (read, later) = case.cut(&all);
        let (mut source, mut sink) = (Source::new(later, &case.reads), Sink::new(&case.writes));
        // The one chunk that is too long has a byte of data.
        if bad.1 == Fault::ChunkEnd {
            case.body.push(b'a');
        }
        let fault = match Pump::new(case.lead.clone(), Framing::Chunked, case.sent, read) {
            Err(fault) => fault,
            Ok(mut pump) => match pumped(&mut pump, &mut source, &mut sink) {
                Err(Broken::Framing(fault)) => fault,
                other => panic!("{other:?}"),
            },
        };
        prop_assert_eq!(fault, bad.1);
        case.assert_is_not_whole(&sink.taken);
    }

    #[test]
    fn a_sink_that_takes_no_more_breaks_it(case in case(), room in 0..1_000_usize, nothing: bool) {
        let least = case.lead.len() + case.body.len();
        prop_assume!(least > 0);
        let all = case.wire();
        let (read, later) = case.cut(&all);
        let full = if nothing { Full::TakesNothing } else { Full::Fails };
        let (mut source, mut sink) = (Source::new(later, &case.reads), Sink::full(least * room / 1_000, full));
        let mut pump = Pump::new(case.lead.clone(), case.framing(), case.sent, read).expect("a good beginning");
        let broken = pumped(&mut pump, &mut source, &mut sink).expect_err("no room");
        prop_assert!(matches!(broken, Broken::Sink), "{broken:?}");
        case.assert_is_not_whole(&sink.taken);
    }
}

/// Bodies of many buffers, with reads and writes of all sizes.
#[test]
fn large_bodies_go_through_all_buffers() {
    let body: Vec<u8> = (0..1_500_000_u32).map(|at| (at % 251) as u8).collect();
    for (kind, sent) in WAYS.into_iter().filter(|(kind, _)| *kind != Kind::None) {
        for (first, reads, writes) in
            [(0, vec![], vec![]), (3, vec![70_000, 0, 1, 300_000], vec![0, 65_536, 3]), (500, vec![1_000], vec![])]
        {
            let case = Case {
                kind,
                sent,
                lead: b"head".to_vec(),
                body: body.clone(),
                trailers: String::new(),
                chunks: vec![100_000, 1, 65_536, 4_096],
                behind: Vec::new(),
                first,
                reads,
                writes,
            };
            let all = case.wire();
            let (read, later) = case.cut(&all);
            let (mut source, mut sink) = (Source::new(later, &case.reads), Sink::new(&case.writes));
            let mut pump = Pump::new(case.lead.clone(), case.framing(), sent, read).expect("a good beginning");
            pumped(&mut pump, &mut source, &mut sink).expect("all of it");
            let written = sink.taken.strip_prefix(b"head").expect("the head");
            let same = match sent {
                Sent::Plain => written == body,
                Sent::Chunked => unchunked(written).is_some_and(|(data, _)| data == body),
            };
            assert!(same, "{kind:?} {sent:?} {first}");
            assert_eq!(pump.bytes, body.len() as u64);
        }
    }
}

/// However fast the source, a sink that takes nothing is not read for.
#[test]
fn the_sink_sets_the_pace() {
    let mut cx = Context::from_waker(Waker::noop());
    for (kind, sent) in WAYS.into_iter().filter(|(kind, _)| *kind != Kind::None) {
        for room in [0, 3, 4, 10, 70_000, 300_000] {
            let case = Case {
                kind,
                sent,
                lead: b"head".to_vec(),
                body: vec![b'x'; 1_000_000],
                trailers: String::new(),
                chunks: vec![10_000],
                behind: Vec::new(),
                first: 0,
                reads: Vec::new(),
                writes: Vec::new(),
            };
            let all = case.wire();
            let buffers = Buffers::default();
            let (mut source, mut sink) = (Source::new(&all, &[]), Sink::full(room, Full::Waits));
            let mut pump = Pump::new(case.lead.clone(), case.framing(), sent, &[]).expect("nothing");
            assert!(pump.poll(&mut cx, &mut source, &mut sink, &buffers).is_pending());
            assert_eq!(pump.waits, Waits::Sink);
            let read = source.read();
            assert!(read < room + 256 * 1_024, "{kind:?} {sent:?}: {read} read for {room}");
            assert!(room >= 4 || read == 0, "read before the head was written");
            // Asked again it does not read on, and nothing has moved.
            pump.moved = false;
            for _ in 0..3 {
                assert!(pump.poll(&mut cx, &mut source, &mut sink, &buffers).is_pending());
            }
            assert_eq!((source.read(), pump.moved, sink.taken.len()), (read, false, room));

            sink.full = None;
            assert!(matches!(pump.poll(&mut cx, &mut source, &mut sink, &buffers), Poll::Ready(Ok(()))));
            assert_eq!(pump.bytes, 1_000_000);
        }
    }
}

/// Who waits for the source says so, and has written all that came.
#[test]
fn a_slow_source_is_waited_for_with_nothing_kept_back() {
    let mut cx = Context::from_waker(Waker::noop());
    for (framing, sent, wire) in [
        (Framing::Length(20), Sent::Plain, &b"hello"[..]),
        (Framing::Chunked, Sent::Plain, b"5\r\nhello\r\n"),
        (Framing::Chunked, Sent::Chunked, b"5\r\nhello\r\n"),
        (Framing::UntilClose, Sent::Plain, b"hello"),
        (Framing::UntilClose, Sent::Chunked, b"hello"),
    ] {
        let buffers = Buffers::default();
        let (mut source, mut sink) = (Source::new(wire, &[3, 0, usize::MAX, 0]), Sink::new(&[]));
        let mut pump = Pump::new(b"head".to_vec(), framing, sent, &[]).expect("nothing");
        for _ in 0..2 {
            assert!(pump.poll(&mut cx, &mut source, &mut sink, &buffers).is_pending(), "{framing:?}");
            assert_eq!(pump.waits, Waits::Source, "{framing:?}");
        }
        let body = sink.taken.strip_prefix(b"head").expect("the head");
        let body = if sent == Sent::Chunked {
            unchunked(&[body, b"0\r\n\r\n"].concat()).expect("chunks so far").0
        } else {
            body.to_vec()
        };
        assert_eq!(body, b"hello", "{framing:?}");
        assert_eq!(pump.bytes, 5);
    }
}
