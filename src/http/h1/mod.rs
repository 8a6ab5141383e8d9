//! The HTTP/1.1 codec: reads heads and chunked bodies, of requests as of answers, and says how a
//! body is delimited. It knows bytes and nothing else: no socket, no clock, no policy of the proxy.
//!
//! What always holds: a head is parsed in place, into places ([`Line`]) of the caller's buffer; no
//! call allocates beyond the caller's vector; whatever two implementations could read in two ways is
//! refused with a [`Fault`] that says what was wrong. What is accepted here, hyper's parser accepts too,
//! with the same meaning (`fuzz/h1/hyper.rs` holds it).
//!
//! ```text
//! parse_request ─> lines ─> request_framing ─> Framing::Chunked ─> Chunked::next … End
//! parse_answer  ─> lines ─> answer_framing  ─┘
//! ```
//!
//! A head that comes in small pieces is not parsed again for each of them: [`may_end`] tells whether
//! the new bytes could end it.

mod answer;
mod chunked;
#[cfg(test)]
mod chunked_tests;
mod fault;
mod framing;
mod line;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{StatusLine, parse_answer};
pub use chunked::{Chunked, EXTENSION_BYTES, Piece, What, chunk_head};
pub use fault::Fault;
pub use framing::{AnswerFraming, Framing, RequestFraming, answer_framing, is_forbidden_trailer, request_framing};
pub use line::{Limits, Line, Parsed, may_end};
pub use request::{RequestLine, parse_request};
