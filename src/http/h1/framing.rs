//! How a message's body is delimited (RFC 9112, 6.3), and what becomes of its connection (9.3).
//!
//! What always holds: a message that a server and this proxy could delimit in two ways is refused. Who sends a
//! message on writes its framing from what was understood here, and copies no `Content-Length` or `Transfer-Encoding` line.

use super::line::{Line, is_token};
use super::{Fault, RequestLine, StatusLine};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// By so many bytes, which may be 0.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection. Only answers.
    UntilClose,
}

/// What a request's head says of its body and connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFraming {
    /// How the body is delimited.
    pub body: Framing,
    /// The client would send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body. Never true in HTTP/1.0, nor without a body.
    pub expects_continue: bool,
    /// `Connection` names `upgrade` and there is an `Upgrade` field. Never true in HTTP/1.0.
    pub upgrade: bool,
}

/// What an answer's head says of its body and connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerFraming {
    /// How the body is delimited.
    pub body: Framing,
    /// The server would take another request on this connection.
    pub keep_alive: bool,
}

/// What both kinds of message say.
#[derive(Default)]
struct Said<'b> {
    length: Option<&'b [u8]>,
    coded: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl<'b> Said<'b> {
    /// Takes `Content-Length` in: lines that say the same are one (RFC 9110, 8.6; so does Traefik), a list is none.
    fn length(&mut self, value: &'b [u8]) -> Result<(), Fault> {
        match self.length {
            Some(before) if before != value => Err(Fault::Lengths),
            _ => {
                self.length = Some(value);
                Ok(())
            }
        }
    }

    /// Takes `Transfer-Encoding` in: one line that says `chunked` is all that is understood.
    fn coding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.coded || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::Coding);
        }
        self.coded = true;
        Ok(())
    }

    /// Takes one option of `Connection` in.
    fn option(&mut self, name: &[u8]) {
        self.close |= name.eq_ignore_ascii_case(b"close");
        self.keep_alive |= name.eq_ignore_ascii_case(b"keep-alive");
        self.upgrade |= name.eq_ignore_ascii_case(b"upgrade");
    }

    /// The body that was announced, if any.
    fn body(&self, minor: u8) -> Result<Option<Framing>, Fault> {
        match (self.coded, self.length) {
            (true, Some(_)) => Err(Fault::LengthAndCoding),
            (true, None) if minor == 0 => Err(Fault::CodingInOldVersion),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, Some(length)) => Ok(Some(Framing::Length(number(length)?))),
            (false, None) => Ok(None),
        }
    }

    /// Whether the connection goes on (RFC 9112, 9.3).
    fn keeps(&self, minor: u8) -> bool {
        !self.close && (minor == 1 || self.keep_alive)
    }
}

/// A decimal number below 2^63: digits and nothing else.
fn number(text: &[u8]) -> Result<u64, Fault> {
    if text.is_empty() {
        return Err(Fault::Length);
    }
    let mut number: u64 = 0;
    for digit in text {
        if !digit.is_ascii_digit() {
            return Err(Fault::Length);
        }
        number = number
            .checked_mul(10)
            .and_then(|number| number.checked_add(u64::from(digit - b'0')))
            .filter(|number| *number <= i64::MAX.unsigned_abs())
            .ok_or(Fault::Length)?;
    }
    Ok(number)
}

/// The parts of a list (RFC 9110, 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

/// Fields that no `Connection` may name: without them a request would be another one, or come from another client.
fn is_protected(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"host", b"authorization", b"content-length", b"transfer-encoding"];
    NAMES.iter().any(|protected| name.eq_ignore_ascii_case(protected))
}

/// What a request's head says of its body and connection.
///
/// # Errors
/// Lengths and codings that are not understood or not of one mind, `Connection` naming `Host`, `Authorization`,
/// `Content-Length` or `Transfer-Encoding`, an expectation other than `100-continue`.
pub fn request_framing(buffer: &[u8], lines: &[Line], line: &RequestLine) -> Result<RequestFraming, Fault> {
    let mut said = Said::default();
    let (mut expects, mut has_upgrade, mut coding) = (false, false, None);
    for field in lines {
        // the lengths of the names that matter
        if !matches!(field.name_len, 6 | 7 | 10 | 14 | 17) {
            continue;
        }
        if field.is(buffer, b"connection") {
            for name in list(field.value(buffer)) {
                if is_protected(name) {
                    return Err(Fault::ConnectionNames);
                }
                said.option(name);
            }
        } else if field.is(buffer, b"content-length") {
            said.length(field.value(buffer))?;
        } else if field.is(buffer, b"transfer-encoding") {
            coding = coding.or(said.coding(field.value(buffer)).err());
            said.coded = true;
        } else if field.is(buffer, b"expect") {
            for expectation in list(field.value(buffer)) {
                if !expectation.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Fault::Expectation);
                }
                expects = true;
            }
        } else if field.is(buffer, b"upgrade") {
            has_upgrade |= !field.value(buffer).is_empty();
        }
    }
    let body = said.body(line.minor)?.unwrap_or(Framing::None);
    if let Some(fault) = coding {
        return Err(fault);
    }
    let there = !matches!(body, Framing::None | Framing::Length(0));
    Ok(RequestFraming {
        body,
        keep_alive: said.keeps(line.minor),
        expects_continue: expects && there && line.minor == 1,
        upgrade: said.upgrade && has_upgrade && line.minor == 1,
    })
}

/// What an answer's head says of its body and connection. `asked_head`: the request was a HEAD; `asked_upgrade`: it asked for
/// another protocol; `asked_connect`: it was a CONNECT.
///
/// After 101, and after a 2xx to CONNECT, the connection is a tunnel: there is no body, and `keep_alive` is false.
///
/// # Errors
/// Lengths and codings that are not understood or not of one mind, also where no body follows; 101 that was not asked for.
pub fn answer_framing(
    buffer: &[u8],
    lines: &[Line],
    line: &StatusLine,
    asked_head: bool,
    asked_upgrade: bool,
    asked_connect: bool,
) -> Result<AnswerFraming, Fault> {
    let mut said = Said::default();
    for field in lines {
        if !matches!(field.name_len, 10 | 14 | 17) {
            continue;
        }
        if field.is(buffer, b"connection") {
            list(field.value(buffer)).for_each(|name| said.option(name));
        } else if field.is(buffer, b"content-length") {
            said.length(field.value(buffer))?;
        } else if field.is(buffer, b"transfer-encoding") {
            said.coding(field.value(buffer))?;
        }
    }
    let announced = said.body(line.minor)?;
    let keep_alive = said.keeps(line.minor);
    let none = |keep_alive| Ok(AnswerFraming { body: Framing::None, keep_alive });
    match line.status {
        101 if !asked_upgrade => Err(Fault::UnaskedUpgrade),
        101 => none(false),
        200..=299 if asked_connect => none(false),
        // A body announced where none can be (RFC 9112, 6.3) may follow all the same: nothing more is read here.
        100..=199 | 204 => none(keep_alive && matches!(announced, None | Some(Framing::Length(0)))),
        304 => none(keep_alive),
        _ if asked_head => none(keep_alive),
        _ => match announced {
            Some(body) => Ok(AnswerFraming { body, keep_alive }),
            None => Ok(AnswerFraming { body: Framing::UntilClose, keep_alive: false }),
        },
    }
}

/// Whether a trailer may not be a field of this name (RFC 9110, 6.5.1): what delimits, routes, authenticates, changes or
/// describes a message must be known before its body. Names with `_` for `-` count alike, as some servers read them so.
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    const NAMES: [&str; 33] = [
        "age",
        "alt-svc",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "realm",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "www-authenticate",
        "x-real-ip",
    ];
    const BEGINNINGS: [&str; 2] = ["if-", "x-forwarded-"];
    debug_assert!(name.iter().all(|byte| is_token(*byte)));
    let same = |text: &str, name: &[u8]| {
        text.len() == name.len()
            && text.bytes().zip(name).all(|(a, b)| a == b.to_ascii_lowercase() || (a == b'-' && *b == b'_'))
    };
    NAMES.iter().any(|forbidden| same(forbidden, name))
        || BEGINNINGS.iter().any(|begin| name.get(..begin.len()).is_some_and(|first| same(begin, first)))
}
