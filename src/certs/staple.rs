//! OCSP staples as Caddy keeps them: `ocsp/<name>-<hash>`, DER, where the hash is FNV-1a of the chain's file
//! (certmagic, `KeyBuilder.OCSPStaple` and `fastHash`). Let's Encrypt offers OCSP no longer; other authorities do.
//!
//! What always holds: a response is stapled only if it says "good" of just this certificate of just this issuer, and only in its
//! time; anything else is as if it were not there. Who signed it is for the client to verify, as with any staple.

use super::pair::Pair;
use aws_lc_rs::digest;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Responses are about 500 bytes, with the responder's certificate 2,000.
pub(super) const STAPLE_LIMIT: u64 = 64 * 1024;
/// The responder's clock may be ahead of ours by this much.
const SKEW: Duration = Duration::from_secs(300);

/// A response for one certificate.
#[derive(Debug)]
pub(super) struct Staple {
    /// As it is sent.
    pub(super) response: Vec<u8>,
    from: SystemTime,
    /// When a newer one is there.
    pub(super) until: SystemTime,
}

impl Staple {
    pub(super) fn fresh_at(&self, now: SystemTime) -> bool {
        self.from <= now + SKEW && now < self.until
    }

    /// The response for this pair; `None` for one of another certificate, or one that says anything else than "good".
    pub(super) fn of(response: Vec<u8>, pair: &Pair) -> Option<Self> {
        let (_, leaf) = X509Certificate::from_der(pair.leaf()).ok()?;
        let single = single_responses(&response)?;
        let fitting = single.into_iter().find_map(|single| good(single, &leaf));
        let (from, until) = fitting?;
        Some(Self { response, from, until })
    }
}

/// What the names in `ocsp/` end with: the chain's hash.
pub(super) fn by_hash(names: &[String]) -> HashMap<u32, &String> {
    let hash = |name: &str| u32::from_str_radix(name.rsplit_once('-').map_or(name, |(_, hash)| hash), 16).ok();
    names.iter().filter_map(|name| Some((hash(name)?, name))).collect()
}

/// A DER value: its tag, what is in it, and what follows.
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

fn value(der: &[u8]) -> Option<Value<'_>> {
    let (&tag, der) = der.split_first()?;
    let (&first, der) = der.split_first()?;
    let (length, der) = match first {
        0..=0x7f => (usize::from(first), der),
        0x81..=0x83 => {
            let (bytes, der) = der.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), der)
        }
        _ => return None,
    };
    let (content, rest) = der.split_at_checked(length)?;
    Some(Value { tag, content, rest })
}

/// The content of the value with this tag in front, and what follows.
fn tagged(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    value(der).filter(|value| value.tag == tag).map(|value| (value.content, value.rest))
}

/// As [`tagged`], for one that may be missing.
fn skip(der: &[u8], tag: u8) -> &[u8] {
    tagged(der, tag).map_or(der, |(_, rest)| rest)
}

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const GENERALIZED_TIME: u8 = 0x18;

/// The parts of a response of type `id-pkix-ocsp-basic` (RFC 6960, 4.2.1) that speak of one certificate each.
fn single_responses(response: &[u8]) -> Option<Vec<&[u8]>> {
    let (response, after) = tagged(response, SEQUENCE)?;
    let (status, response) = tagged(response, 0x0a)?;
    if status != [0] || !after.is_empty() {
        return None;
    }
    let (bytes, _) = tagged(tagged(response, 0xa0)?.0, SEQUENCE)?;
    let (kind, bytes) = tagged(bytes, OID)?;
    // 1.3.6.1.5.5.7.48.1.1
    if kind != [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01] {
        return None;
    }
    let (basic, _) = tagged(tagged(bytes, OCTETS)?.0, SEQUENCE)?;
    let (data, _) = tagged(basic, SEQUENCE)?;
    let responder = value(skip(data, 0xa0))?;
    let (_, data) = tagged(responder.rest, GENERALIZED_TIME)?;
    let (mut all, _) = tagged(data, SEQUENCE)?;
    let mut single = Vec::new();
    while !all.is_empty() {
        let (one, rest) = tagged(all, SEQUENCE)?;
        single.push(one);
        all = rest;
    }
    Some(single)
}

/// The time of a part that says "good" of this certificate.
fn good(single: &[u8], leaf: &X509Certificate<'_>) -> Option<(SystemTime, SystemTime)> {
    let (id, single) = tagged(single, SEQUENCE)?;
    let (algorithm, id) = tagged(id, SEQUENCE)?;
    let (issuer_name, id) = tagged(id, OCTETS)?;
    let (_issuer_key, id) = tagged(id, OCTETS)?;
    let (serial, _) = tagged(id, INTEGER)?;
    let hash = match tagged(algorithm, OID)?.0 {
        // 1.3.14.3.2.26
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        // 2.16.840.1.101.3.4.2.1
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01] => &digest::SHA256,
        _ => return None,
    };
    let same = serial == leaf.raw_serial() && digest::digest(hash, leaf.issuer().as_raw()).as_ref() == issuer_name;
    // certStatus: good [0] IMPLICIT NULL
    let ([], single) = tagged(single, 0x80)? else { return None };
    let (from, single) = tagged(single, GENERALIZED_TIME)?;
    // Without a time for the next one it is never known to be of now.
    let (until, _) = tagged(tagged(single, 0xa0)?.0, GENERALIZED_TIME)?;
    same.then_some((time(from)?, time(until)?))
}

/// `20260131235959Z`.
fn time(text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut all = vec![tag];
        match length {
            0..=0x7f => all.push(u8::try_from(length).unwrap()),
            _ => all.extend([0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]),
        }
        all.extend(content);
        all
    }

    /// A response about a certificate (DER), unsigned; `status` 0x80 is good, 0x82 unknown.
    pub(in crate::certs) fn response(leaf: &[u8], status: u8, from: SystemTime, until: SystemTime) -> Vec<u8> {
        let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
        let time = |time: SystemTime| {
            let time = jiff::Timestamp::try_from(time).unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
            der(GENERALIZED_TIME, time.as_bytes())
        };
        let name = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, leaf.issuer().as_raw());
        let algorithm = der(SEQUENCE, &[der(OID, &[0x2b, 0x0e, 0x03, 0x02, 0x1a]), vec![0x05, 0x00]].concat());
        let id = [algorithm, der(OCTETS, name.as_ref()), der(OCTETS, &[7; 20]), der(INTEGER, leaf.raw_serial())];
        let single = [der(SEQUENCE, &id.concat()), vec![status, 0], time(from), der(0xa0, &time(until))];
        let responder = der(0xa2, &der(OCTETS, &[7; 20]));
        let data = [responder, time(from), der(SEQUENCE, &der(SEQUENCE, &single.concat()))];
        let basic = der(SEQUENCE, &[der(SEQUENCE, &data.concat()), vec![0x30, 0, 0x03, 1, 0]].concat());
        let kind = der(OID, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01]);
        let bytes = der(0xa0, &der(SEQUENCE, &[kind, der(OCTETS, &basic)].concat()));
        der(SEQUENCE, &[vec![0x0a, 1, 0], bytes].concat())
    }

    #[test]
    fn names_end_with_the_chains_hash() {
        let names = ["a.test-1f".to_owned(), "a-b.test-deadbeef".to_owned(), "notes".to_owned()];
        let hashes = by_hash(&names);
        assert_eq!(hashes.len(), 2);
        assert_eq!(hashes[&0xdead_beef], "a-b.test-deadbeef");
        // fnv.New32a of "hello"
        assert_eq!(super::super::pair::fnv(b"hello"), 0x4f9f_2cab);
    }

    #[test]
    fn nonsense_is_no_response() {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let now = SystemTime::now();
        let whole = response(made.cert.der(), 0x80, now, now + Duration::from_secs(3600));
        assert_eq!(single_responses(&whole).unwrap().len(), 1);
        for length in 0..whole.len() {
            assert!(single_responses(&whole[..length]).is_none(), "cut at {length}");
        }
        let mut broken = whole.clone();
        for at in 0..whole.len() {
            broken[at] ^= 0xff;
            // Whatever it says, it ends.
            drop(single_responses(&broken));
            broken[at] = whole[at];
        }
    }
}
