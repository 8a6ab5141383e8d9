//! [`Buffers`]: what is lent comes back empty; and [`poll_fill`], which every byte comes through.

use super::buffers::{Buffers, poll_fill};
use super::scripted::{Source, drive};
use crate::http::{Headers, Method, RequestHead};
use proptest::prelude::*;
use std::task::{Context, Poll, Waker};

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn reading_adds_and_keeps_to_its_limit(
        bytes in (0..200_000_usize).prop_map(|length| (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>()),
        steps in prop::collection::vec(prop_oneof![Just(0), 1..100_usize, 1_000..100_000_usize], 0..5),
        mosts in prop::collection::vec(prop_oneof![Just(1), 1..100_u64, 1_000..100_000_u64, Just(u64::MAX)], 1..5),
        ours: bool,
    ) {
        let buffers = Buffers::default();
        let mut source = Source::new(&bytes, &steps);
        let mut buffer = if ours { buffers.take() } else { Vec::new() };
        for most in mosts.into_iter().cycle() {
            let before = buffer.len();
            let read = drive(|cx| poll_fill(&mut source, cx, &mut buffer, most)).expect("no failure");
            prop_assert_eq!(buffer.len(), before + read);
            prop_assert!(read as u64 <= most);
            prop_assert_eq!(&buffer[before..], &bytes[before..buffer.len()]);
            if read == 0 {
                break;
            }
            // There is room for what is added to a head.
            prop_assert!(buffer.capacity() - buffer.len() >= 2 * 1_024);
        }
        prop_assert_eq!(buffer, bytes);
    }
}

#[test]
fn what_comes_back_is_lent_again_empty() {
    let buffers = Buffers::default();
    for left in [1, u64::MAX] {
        let mut buffer = buffers.take_for(left);
        buffer.extend_from_slice(b"secret");
        let place = buffer.as_ptr();
        buffers.give(buffer);
        let again = buffers.take_for(left);
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), place, "the same memory");
    }
    let mut grown = buffers.take();
    let usual = grown.capacity();
    grown.resize(usual + 1, b'x');
    buffers.give(grown);
    assert_eq!(buffers.take().capacity(), usual, "one that has grown does not come back");
}

#[test]
fn a_head_gives_all_its_memory_back() {
    let buffers = Buffers::default();
    let mut bytes = buffers.take();
    bytes.extend_from_slice(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let place = bytes.as_ptr();
    let headers = Headers::parsed(bytes, &[], buffers.room());
    let mut text = buffers.text();
    text.push_str("/secret");
    let letters = text.as_ptr();
    let head = RequestHead::of_text(text, 7, Method::GET, headers, Default::default()).map_err(|(error, _)| error);
    buffers.give_head(head.expect("a fine target"));
    let (bytes, text) = (buffers.take(), buffers.text());
    assert_eq!((bytes.as_ptr(), text.as_ptr()), (place, letters), "the same memory");
    assert!(bytes.is_empty());
    buffers.give(bytes);

    let mut bytes = buffers.take();
    bytes.extend_from_slice(b"kept");
    let headers = Headers::parsed(bytes, &[], buffers.room());
    assert_eq!(buffers.bytes_of(headers), b"kept");
}

#[test]
fn memory_that_nobody_needs_is_not_hoarded() {
    let buffers = Buffers::default();
    let lent: Vec<_> = (0..super::buffers::KEPT + 36).map(|_| buffers.take()).collect();
    let places: Vec<_> = lent.iter().map(|buffer| buffer.as_ptr()).collect();
    lent.into_iter().for_each(|buffer| buffers.give(buffer));
    // The last one given back that was kept is the first to be lent.
    let last = buffers.take();
    assert_eq!(last.as_ptr(), places[super::buffers::KEPT - 1]);
}

#[test]
fn dates_are_those_of_http() {
    let buffers = Buffers::default();
    let mut out = b"Date: ".to_vec();
    buffers.push_date(&mut out);
    buffers.push_date(&mut out);
    let text = String::from_utf8(out).expect("text");
    let dates = text.strip_prefix("Date: ").expect("what stood before");
    let (first, second) = dates.split_at("Sun, 06 Nov 1994 08:49:37 GMT".len());
    let first = httpdate::parse_http_date(first).expect("a date");
    let second = httpdate::parse_http_date(second).expect("a date");
    assert!(first <= second && second <= std::time::SystemTime::now());
    assert!(first.elapsed().expect("not to come").as_secs() < 60);
}

#[test]
fn a_failure_is_no_end() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut buffer = Vec::new();
    let mut source = Source::failing(b"a", &[]);
    assert!(matches!(poll_fill(&mut source, &mut cx, &mut buffer, 9), Poll::Ready(Ok(1))));
    assert!(matches!(poll_fill(&mut source, &mut cx, &mut buffer, 9), Poll::Ready(Err(_))));
    assert_eq!(buffer, b"a");
}
