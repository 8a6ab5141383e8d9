//! Chunked bodies (RFC 9112, 7.1): an incremental decoder, and the heads of chunks that are sent.
//!
//! What always holds: the result does not depend on how the input is cut; what is kept is bounded; chunk extensions are
//! read and dropped; a trailer section is kept as it came, line by line validated.

use super::Fault;
use super::framing::is_forbidden_trailer;
use super::line::{is_value, name_of};
use memchr::memchr;
use std::ops::Range;

/// Bytes of chunk extensions that one body may have in all. They mean nothing to anybody known; hyper has the same limit.
pub const EXTENSION_BYTES: usize = 16 * 1024 - 1;

/// Digits of a chunk's size; more do not fit into 64 bits.
const DIGITS: u8 = 16;

/// A decoder of one chunked body.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    extension_bytes: usize,
    limit_trailer_bytes: usize,
    /// Lines that are complete, and after them the one that is not, if any.
    trailers: Vec<u8>,
    /// Where the line that is not complete begins in `trailers`.
    line: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A digit of the size, `;` or CR.
    Size { size: u64, digits: u8 },
    /// Anything up to CR.
    Extension { size: u64 },
    /// LF behind the size.
    SizeEnd { size: u64 },
    /// So many bytes of data, at least one.
    Data { left: u64 },
    /// CR behind the data.
    DataEnd,
    /// LF behind the data.
    DataEndLf,
    /// A trailer line, or the CR of the last, empty one.
    Trailer,
    /// LF of the last line.
    LastLf,
    /// Nothing.
    Done,
}

/// What [`Chunked::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How much of the input was read. The next call takes what stands behind it.
    pub consumed: usize,
    /// What it was.
    pub what: What,
}

/// What a piece of a chunked body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Data, as a place in the input; never empty.
    Data(Range<usize>),
    /// The input is used up and the body goes on.
    More,
    /// The body is over, trailers and all.
    End,
}

impl Chunked {
    /// A decoder at the beginning of a body. The trailer section may have `limit_trailer_bytes`, its last CRLF not counted.
    pub fn new(limit_trailer_bytes: usize) -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            extension_bytes: 0,
            limit_trailer_bytes,
            trailers: Vec::new(),
            line: 0,
        }
    }

    /// Reads on. After [`What::End`] it consumes nothing and says `End` again.
    ///
    /// # Errors
    /// Anything but a chunked body as RFC 9112 writes it, without the blanks that it lets recipients pass over; trailers
    /// that may not be (RFC 9110, 6.5.1). The decoder is of no use after it.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, Fault> {
        let mut at = 0;
        loop {
            if self.state == State::Done {
                return Ok(Piece { consumed: at, what: What::End });
            }
            let Some(byte) = input.get(at).copied() else { return Ok(Piece { consumed: at, what: What::More }) };
            match self.state {
                State::Data { left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                    let left = left - length as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                    return Ok(Piece { consumed: at + length, what: What::Data(at..at + length) });
                }
                // CR at a line's beginning is that of the last one, which therefore takes no memory
                State::Trailer if byte != b'\r' || self.trailers.len() > self.line => {
                    at += self.trailer(input.get(at..).unwrap_or_default())?
                }
                _ => {
                    self.state = self.step(byte)?;
                    at += 1;
                }
            }
        }
    }

    /// The state behind one byte of what stands between data.
    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < DIGITS => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Ok(State::Size { size: (size << 4) | digit, digits: digits + 1 })
            }
            (State::Size { size, digits: 1.. }, b';') => Ok(State::Extension { size }),
            (State::Size { size, digits: 1.. } | State::Extension { size }, b'\r') => Ok(State::SizeEnd { size }),
            (State::Size { digits: 1.., .. } | State::Extension { .. }, b'\n') => Err(Fault::BareLf),
            (State::Size { .. }, _) => Err(Fault::ChunkSize),
            (State::Extension { size }, byte) if is_value(byte) => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES {
                    return Err(Fault::ChunkExtensions);
                }
                Ok(State::Extension { size })
            }
            (State::Extension { .. }, _) => Err(Fault::ChunkExtension),
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::Trailer),
            (State::SizeEnd { size: left }, b'\n') => Ok(State::Data { left }),
            (State::SizeEnd { .. }, _) => Err(Fault::BareCr),
            (State::DataEnd, b'\r') => Ok(State::DataEndLf),
            (State::DataEndLf, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            (State::DataEnd | State::DataEndLf, _) => Err(Fault::ChunkEnd),
            (State::Trailer, _) => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::LastLf, _) => Err(Fault::BareCr),
            // these are not read byte by byte
            (state @ (State::Data { .. } | State::Done), _) => Ok(state),
        }
    }

    /// Reads up to the end of a trailer line, or of the input. Gives how much was read.
    fn trailer(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let end = memchr(b'\n', input).map(|at| at + 1);
        let read = end.unwrap_or(input.len());
        if self.trailers.len() + read > self.limit_trailer_bytes {
            return Err(Fault::TrailersTooLarge);
        }
        self.trailers.extend_from_slice(input.get(..read).unwrap_or_default());
        if end.is_some() {
            let line = self.trailers.get(self.line..).and_then(|line| line.strip_suffix(b"\r\n"));
            if is_forbidden_trailer(name_of(line.ok_or(Fault::BareLf)?)?) {
                return Err(Fault::ForbiddenTrailer);
            }
            self.line = self.trailers.len();
        }
        Ok(read)
    }

    /// The trailer section's field lines, each with its CRLF: all of them after [`What::End`], empty if there are none.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.get(..self.line).unwrap_or_default()
    }
}

/// What stands before a chunk of so many bytes: `1f`, CRLF. With 0 it is the last chunk, behind which trailers and an empty line belong.
pub fn chunk_head(size: usize, out: &mut [u8; 18]) -> &[u8] {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1) as usize;
    for (at, byte) in out.iter_mut().take(digits).enumerate() {
        let digit = (size >> (4 * (digits - 1 - at))) & 0xf;
        *byte = b"0123456789abcdef".get(digit).copied().unwrap_or(b'0');
    }
    for (place, byte) in out.iter_mut().skip(digits).zip(*b"\r\n") {
        *place = byte;
    }
    out.get(..digits + 2).unwrap_or_default()
}
