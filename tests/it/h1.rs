//! The HTTP/1.1 codec under arbitrary and nearly right input; the properties are those of the fuzz targets.

use crate::corpora::properties::h1::hyper::{same_answer, same_requests};
use crate::corpora::properties::h1::{self, evil};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Arbitrary bytes, and such that a parser comes further with.
fn sent(start: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        8 => "[A-Za-z-]{1,20}",
        4 => prop::sample::select(vec!["Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade"])
            .prop_map(str::to_owned),
        1 => "[ -~]{0,6}",
    ];
    let value = prop_oneof![
        6 => "[ -~\t]{0,20}",
        4 => prop::sample::select(vec!["chunked", "5", "0", "close", "keep-alive", "upgrade"]).prop_map(str::to_owned),
        1 => "[\u{0}-\u{ff}]{0,6}",
    ];
    let end = prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let line = (name, value, end).prop_map(|(name, value, end)| format!("{name}:{value}{end}"));
    let data = prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        9 => (any::<u8>(), prop::collection::vec(line, 0..80), data).prop_map(move |(cut, lines, data)| {
            [&[cut], start.as_bytes(), lines.concat().as_bytes(), b"\r\n", &data].concat()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn requests_are_read_as_the_grammar_says(sent in sent("POST /a?b HTTP/1.1\r\n")) {
        h1::requests(&sent);
    }

    #[test]
    fn answers_are_read_as_the_grammar_says(sent in sent("HTTP/1.1 200 OK\r\n")) {
        h1::answers(&sent);
    }

    #[test]
    fn evil_requests_mean_to_hyper_what_they_mean_to_us(seed in prop::collection::vec(any::<u8>(), 0..80)) {
        let sent = evil::requests(&seed);
        same_requests(&sent);
        h1::requests(&[&seed[..seed.len().min(1)], &sent].concat());
    }

    #[test]
    fn evil_answers_mean_to_hyper_what_they_mean_to_us(asked: u8, seed in prop::collection::vec(any::<u8>(), 0..80)) {
        let sent = evil::answers(&seed);
        same_answer(&sent, asked);
        h1::answers(&[&[asked], &sent[..]].concat());
    }
}

/// The comparison would say nothing of messages that are never taken, nor the generator of such as always are.
#[test]
fn evil_messages_are_taken_and_refused() {
    let mut random = StdRng::seed_from_u64(9112);
    let (mut requests, mut second, mut answers) = (0, 0, 0);
    for _ in 0..1000 {
        let seed: [u8; 80] = random.random();
        let found = same_requests(&evil::requests(&seed));
        requests += usize::from(found > 0);
        second += usize::from(found > 1);
        answers += usize::from(same_answer(&evil::answers(&seed), random.random()));
    }
    assert!(
        (100..900).contains(&requests) && (100..900).contains(&answers) && second > 20,
        "{requests} {second} {answers}"
    );
}
