//! Transaction signatures (TSIG, RFC 8945) on the bytes of messages.
//!
//! hickory-proto signs with three algorithms only, behind its DNSSEC feature, and leaves truncation and
//! time to the caller; so the few lines are here, with the process's one provider of cryptography.
//!
//! What always holds: a MAC is compared in constant time and whole; an answer counts only when its MAC
//! covers our request's, and its time is within the fudge of our clock; no byte of a message panics.

use super::DnsError;
use super::error::TsigFault;
use super::name::Fqdn;
use super::settings::TsigKey;
use crate::model::Secret;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::TSIG;

/// How far the clocks may differ, in seconds (RFC 8945, section 10).
const FUDGE: u16 = 300;
/// Length of a message's head.
const HEAD: usize = 12;

/// Algorithms of HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha1; lego's default.
    Sha1,
    /// hmac-sha224
    Sha224,
    /// hmac-sha256
    Sha256,
    /// hmac-sha384
    Sha384,
    /// hmac-sha512
    Sha512,
}

impl Algorithm {
    /// Their names, in the order of the variants.
    pub const NAMES: [&str; 5] = ["hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"];
    const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// By its name, with or without the last dot, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let at = Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        Self::ALL.get(at).copied()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "hmac-sha1",
            Self::Sha224 => "hmac-sha224",
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => hmac::HMAC_SHA224,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// Signs requests with one key and verifies what comes back.
#[derive(Clone)]
pub(super) struct Signer {
    /// The key's name as it stands in messages: lower-case, not compressed.
    name: Vec<u8>,
    shown: Fqdn,
    algorithm: Algorithm,
    key: hmac::Key,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("name", &self.shown).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What an answer's signature says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the server's answer to our request.
    Genuine {
        /// What it finds wrong with ours.
        fault: Option<TsigFault>,
    },
    /// A refusal that the server could not sign (RFC 8945, section 5.3.2): it says why.
    Unsigned(TsigFault),
    /// It does not count, and why.
    Doubtful(&'static str),
}

impl Signer {
    /// # Errors
    /// A secret that is no base64, a name that is none.
    pub fn new(key: &TsigKey) -> Result<Self, DnsError> {
        let fault = |reason: &str| DnsError::SetUp { what: "TSIG key", reason: reason.to_owned() };
        let secret = STANDARD.decode(key.secret.reveal().trim()).map_err(|_| fault("its secret is no base64"))?;
        if secret.is_empty() {
            return Err(fault("its secret is empty"));
        }
        let shown = Fqdn::parse(&key.name)?;
        let algorithm = key.algorithm;
        Ok(Self { name: wire(shown.as_str()), shown, algorithm, key: hmac::Key::new(algorithm.hmac(), &secret) })
    }

    /// Puts the signature behind a whole message, made at `now` (seconds since 1970). Gives its MAC,
    /// which the answer's covers.
    pub fn sign(&self, message: &mut Vec<u8>, now: u64) -> Vec<u8> {
        let mut covered = message.clone();
        covered.extend_from_slice(&self.variables(now, FUDGE, 0, &[]));
        let mac = hmac::sign(&self.key, &covered).as_ref().to_vec();
        let id = [message.first().copied().unwrap_or(0), message.get(1).copied().unwrap_or(0)];
        let mut data = wire(self.algorithm.name());
        data.extend_from_slice(&time(now));
        data.extend_from_slice(&FUDGE.to_be_bytes());
        data.extend_from_slice(&length(&mac));
        data.extend_from_slice(&mac);
        data.extend_from_slice(&id);
        data.extend_from_slice(&[0; 4]); // no error, no other data
        message.extend_from_slice(&self.name);
        message.extend_from_slice(&250u16.to_be_bytes()); // TSIG
        message.extend_from_slice(&255u16.to_be_bytes()); // ANY
        message.extend_from_slice(&0u32.to_be_bytes()); // TTL
        message.extend_from_slice(&length(&data));
        message.extend_from_slice(&data);
        if let Some(count) = additional(message) {
            message[10..HEAD].copy_from_slice(&count.wrapping_add(1).to_be_bytes());
        }
        mac
    }

    /// Judges an answer (`bytes`, decoded as `message`) to a request with this MAC at `now`.
    pub fn verify(&self, bytes: &[u8], message: &Message, request_mac: &[u8], now: u64) -> Verdict {
        let Some(record) = &message.signature else { return Verdict::Doubtful("it is not signed") };
        let tsig = &record.data;
        let fault = fault(tsig);
        if tsig.mac.is_empty() {
            return match fault {
                Some(fault @ (TsigFault::BadKey | TsigFault::BadSig))
                    if u16::from(message.metadata.response_code) == 9 =>
                {
                    Verdict::Unsigned(fault)
                }
                _ => Verdict::Doubtful("its signature is empty"),
            };
        }
        let same_key = Fqdn::from_wire(&record.name).is_ok_and(|name| name == self.shown);
        let same_algorithm = Algorithm::parse(&tsig.algorithm.to_name().to_ascii()) == Some(self.algorithm);
        if !same_key || !same_algorithm {
            return Verdict::Doubtful("it is signed with another key");
        }
        let Some(covered) = self.covered(bytes, tsig, request_mac) else {
            return Verdict::Doubtful("it is malformed");
        };
        if hmac::verify(&self.key, &covered, &tsig.mac).is_err() {
            return Verdict::Doubtful("its signature is wrong");
        }
        // An answer to a request out of time bears the request's time (RFC 8945, section 5.2.3).
        if now.abs_diff(tsig.time) > u64::from(tsig.fudge.min(FUDGE)) {
            return Verdict::Doubtful("its signature is from another time");
        }
        Verdict::Genuine { fault }
    }

    /// What an answer's MAC is made over (RFC 8945, section 4.3): the request's MAC, the message as it
    /// was before the signature, the signature's variables.
    fn covered(&self, bytes: &[u8], tsig: &TSIG, request_mac: &[u8]) -> Option<Vec<u8>> {
        let end = last_record(bytes)?;
        let count = additional(bytes)?.checked_sub(1)?;
        let mut covered = length(request_mac).to_vec();
        covered.extend_from_slice(request_mac);
        covered.extend_from_slice(&tsig.oid.to_be_bytes());
        covered.extend_from_slice(bytes.get(2..10)?);
        covered.extend_from_slice(&count.to_be_bytes());
        covered.extend_from_slice(bytes.get(HEAD..end)?);
        let error = tsig.error.map_or(0, u16::from);
        covered.extend_from_slice(&self.variables(tsig.time, tsig.fudge, error, &tsig.other));
        Some(covered)
    }

    /// RFC 8945, section 4.3.3.
    fn variables(&self, now: u64, fudge: u16, error: u16, other: &[u8]) -> Vec<u8> {
        let mut out = self.name.clone();
        out.extend_from_slice(&255u16.to_be_bytes()); // ANY
        out.extend_from_slice(&0u32.to_be_bytes()); // TTL
        out.extend_from_slice(&wire(self.algorithm.name()));
        out.extend_from_slice(&time(now));
        out.extend_from_slice(&fudge.to_be_bytes());
        out.extend_from_slice(&error.to_be_bytes());
        out.extend_from_slice(&length(other));
        out.extend_from_slice(other);
        out
    }
}

fn fault(tsig: &TSIG) -> Option<TsigFault> {
    match tsig.error.map_or(0, u16::from) {
        0 => None,
        16 => Some(TsigFault::BadSig),
        17 => Some(TsigFault::BadKey),
        18 => Some(TsigFault::BadTime(
            (tsig.other.len() == 6).then(|| tsig.other.iter().fold(0, |time, byte| time << 8 | u64::from(*byte))),
        )),
        22 => Some(TsigFault::BadTrunc),
        other => Some(TsigFault::Other(other)),
    }
}

/// A checked name as it stands in a message, not compressed.
fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        // Labels of an `Fqdn` have at most 63 characters.
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// 48 bits of seconds.
fn time(seconds: u64) -> [u8; 6] {
    let [_, _, rest @ ..] = seconds.to_be_bytes();
    rest
}

/// A length in two bytes; what is measured here is far shorter than 64 KiB.
fn length(of: &[u8]) -> [u8; 2] {
    u16::try_from(of.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Number of additional records.
fn additional(bytes: &[u8]) -> Option<u16> {
    number(bytes, 10)
}

/// Where the last record begins.
fn last_record(bytes: &[u8]) -> Option<usize> {
    let mut at = HEAD;
    for _ in 0..number(bytes, 4)? {
        at = after_name(bytes, at)? + 4;
    }
    let records = usize::from(number(bytes, 6)?) + usize::from(number(bytes, 8)?) + usize::from(number(bytes, 10)?);
    let mut start = None;
    for _ in 0..records {
        start = Some(at);
        let fixed = after_name(bytes, at)?;
        at = fixed + 10 + usize::from(number(bytes, fixed + 8)?);
    }
    // Nothing may follow what is signed.
    if at == bytes.len() { start } else { None }
}

/// Where a name ends that begins at `at`; compressed ones end with their pointer.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// A key file as `tsig-keygen` writes it: `key "name" { algorithm hmac-sha256; secret "…"; };`.
///
/// # Errors
/// What is missing in it; never what stands in it.
pub(super) fn read_key_file(text: &str) -> Result<TsigKey, String> {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"'))
        .filter(|word| !word.is_empty())
        .collect();
    let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied();
    let name = after("key").ok_or("it has no `key \"name\"`")?;
    let algorithm = after("algorithm").ok_or("it has no `algorithm`")?;
    let algorithm = Algorithm::parse(algorithm)
        .ok_or_else(|| format!("its algorithm is not one of {}", Algorithm::NAMES.join(", ")))?;
    let secret = after("secret").ok_or("it has no `secret`")?;
    let key = TsigKey { name: name.to_owned(), algorithm, secret: Secret::new(secret) };
    Signer::new(&key).map_err(|e| e.to_string())?;
    Ok(key)
}

#[cfg(test)]
#[path = "tsig_tests.rs"]
mod tests;
