//! Signatures: what a tampered, foreign or late answer is worth. That ours are those of RFC 8945 is
//! shown against servers with implementations of their own (`tests/it/acme_dns`).

use super::*;
use hickory_proto::op::{MessageType, OpCode, ResponseCode};
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000;

fn signer(secret: &str, algorithm: Algorithm) -> Signer {
    let key = TsigKey { name: "Acme.Key.".into(), algorithm, secret: Secret::new(secret) };
    Signer::new(&key).expect("a key")
}

/// An answer signed by `signer` for a request with this MAC.
fn answer(signer: &Signer, request_mac: &[u8], at: u64, code: ResponseCode) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Response, OpCode::Update);
    message.metadata.response_code = code;
    let mut bytes = message.to_vec().expect("a message");
    let mut covered = length(request_mac).to_vec();
    covered.extend_from_slice(request_mac);
    covered.extend_from_slice(&bytes);
    covered.extend_from_slice(&signer.variables(at, FUDGE, 0, &[]));
    let mac = hmac::sign(&signer.key, &covered);
    // `sign` writes the record; its MAC is replaced by the answer's.
    let own = signer.sign(&mut bytes, at);
    let from = bytes.len() - own.len() - 6;
    bytes[from..from + own.len()].copy_from_slice(mac.as_ref());
    bytes
}

fn judge(signer: &Signer, bytes: &[u8], mac: &[u8], now: u64) -> Verdict {
    match Message::from_vec(bytes) {
        Ok(message) => signer.verify(bytes, &message, mac, now),
        Err(_) => Verdict::Doubtful("malformed"),
    }
}

#[test]
fn an_answer_counts_with_the_right_key_request_and_time_only() {
    for algorithm in Algorithm::ALL {
        let ours = signer("c2VjcmV0", algorithm);
        let mac = b"the request's".to_vec();
        let bytes = answer(&ours, &mac, NOW, ResponseCode::NoError);
        assert_eq!(judge(&ours, &bytes, &mac, NOW), Verdict::Genuine { fault: None }, "{algorithm:?}");
        assert_eq!(judge(&ours, &bytes, &mac, NOW + 300), Verdict::Genuine { fault: None });
        let doubtful = |verdict| matches!(verdict, Verdict::Doubtful(_));
        assert!(doubtful(judge(&ours, &bytes, &mac, NOW + 301)));
        assert!(doubtful(judge(&ours, &bytes, &mac, NOW - 301)));
        assert!(doubtful(judge(&ours, &bytes, b"another request's", NOW)));
        assert!(doubtful(judge(&signer("b3RoZXI=", algorithm), &bytes, &mac, NOW)));
        for at in 0..bytes.len() {
            for bit in [0x01, 0x20, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                // The id and the case of names are not covered (the id is compared before).
                let id = at < 2;
                let lower = changed[at].is_ascii_alphabetic() && bit == 0x20;
                assert!(
                    id || lower || doubtful(judge(&ours, &changed, &mac, NOW)),
                    "{algorithm:?}: byte {at} ^ {bit:#x}"
                );
            }
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(doubtful(judge(&ours, &longer, &mac, NOW)));
    }
}

#[test]
fn an_answer_that_is_not_signed_does_not_count() {
    let ours = signer("c2VjcmV0", Algorithm::Sha256);
    let bytes = Message::new(7, MessageType::Response, OpCode::Update).to_vec().expect("a message");
    assert_eq!(judge(&ours, &bytes, b"mac", NOW), Verdict::Doubtful("it is not signed"));
}

#[test]
fn names_of_algorithms() {
    for (name, algorithm) in Algorithm::NAMES.iter().zip(Algorithm::ALL) {
        assert_eq!(Algorithm::parse(name), Some(algorithm));
        assert_eq!(Algorithm::parse(&format!("{}.", name.to_uppercase())), Some(algorithm));
        assert_eq!(algorithm.name(), *name);
    }
    assert_eq!(Algorithm::parse("hmac-md5.sig-alg.reg.int."), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let ours = signer("c2VjcmV0", Algorithm::Sha256);
        let _ = last_record(&bytes);
        let verdict = judge(&ours, &bytes, b"mac", NOW);
        prop_assert!(matches!(verdict, Verdict::Doubtful(_)), "{:?}", verdict);
    }

    #[test]
    fn no_cut_or_change_panics(cut in 0usize..120, at in 0usize..120, to in any::<u8>()) {
        let ours = signer("c2VjcmV0", Algorithm::Sha256);
        let mut bytes = answer(&ours, b"mac", NOW, ResponseCode::NoError);
        if let Some(byte) = bytes.get_mut(at) { *byte = to; }
        bytes.truncate(cut);
        let _ = judge(&ours, &bytes, b"mac", NOW);
    }
}
