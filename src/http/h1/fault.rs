//! Why a message is refused: one variant for each thing that can be wrong, so that a log tells it.

use thiserror::Error;

/// What was wrong with a message. After it, nothing on that connection can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Fault {
    /// The head is longer than [`super::Limits::head_bytes`].
    #[error("the head is larger than allowed")]
    TooLarge,
    /// The head has more field lines than [`super::Limits::lines`].
    #[error("the head has more lines than allowed")]
    TooManyLines,
    /// Empty lines where a message should begin: before a request one is passed over (RFC 9112, 2.2).
    #[error("empty lines before the message")]
    EmptyLines,
    /// Not `method SP target SP version`.
    #[error("malformed request line")]
    RequestLine,
    /// The method is not a token.
    #[error("the method is not a token")]
    Method,
    /// The target is empty, has a blank or a control byte, or is not UTF-8.
    #[error("a byte in the request target that may not be there")]
    Target,
    /// Not `version SP status SP reason`, or a status that is not between 100 and 999.
    #[error("malformed status line")]
    StatusLine,
    /// The protocol's name is not `HTTP/` digit `.` digit.
    #[error("malformed HTTP version")]
    Version,
    /// A version that is neither HTTP/1.0 nor HTTP/1.1.
    #[error("HTTP version not supported")]
    UnsupportedVersion,
    /// A line ends in LF alone.
    #[error("a line ends in LF without CR")]
    BareLf,
    /// CR that no LF follows.
    #[error("CR without LF")]
    BareCr,
    /// A field line begins with a blank: a folded value (RFC 9112, 5.2), or a blank before the first line.
    #[error("a field line begins with a blank (obsolete line folding)")]
    Folded,
    /// A field line without a colon.
    #[error("a field line without a colon")]
    NoColon,
    /// An empty field name.
    #[error("an empty field name")]
    EmptyName,
    /// A blank between a field name and the colon (RFC 9112, 5.1).
    #[error("a blank between a field name and its colon")]
    BlankBeforeColon,
    /// A blank within a field name.
    #[error("a blank within a field name")]
    BlankInName,
    /// A field name that is not a token.
    #[error("a field name is not a token")]
    FieldName,
    /// NUL or another control byte in a value.
    #[error("a control byte in a field value")]
    FieldValue,
    /// `Content-Length` is not a decimal number, or not below 2^63.
    #[error("Content-Length is not a number")]
    Length,
    /// Two `Content-Length` lines that differ.
    #[error("two Content-Length lines that differ")]
    Lengths,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("Content-Length and Transfer-Encoding in one message")]
    LengthAndCoding,
    /// A `Transfer-Encoding` other than one `chunked`.
    #[error("a Transfer-Encoding other than a single `chunked`")]
    Coding,
    /// `Transfer-Encoding` in a message of HTTP/1.0 (RFC 9112, 6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    CodingInOldVersion,
    /// An expectation other than `100-continue`.
    #[error("an expectation other than 100-continue")]
    Expectation,
    /// `Connection` names a field that servers rely on: taking it off would change what the request means.
    #[error("Connection names a field that may not be taken off")]
    ConnectionNames,
    /// 101 to a request that asked for no other protocol.
    #[error("101 Switching Protocols that nobody asked for")]
    UnaskedUpgrade,
    /// A chunk's size is not 1 to 16 hexadecimal digits.
    #[error("a chunk size is not 1 to 16 hexadecimal digits")]
    ChunkSize,
    /// A control byte in a chunk extension.
    #[error("a control byte in a chunk extension")]
    ChunkExtension,
    /// More than [`super::EXTENSION_BYTES`] of chunk extensions in one body.
    #[error("too many bytes of chunk extensions")]
    ChunkExtensions,
    /// No CRLF behind a chunk's data.
    #[error("no CRLF behind a chunk's data")]
    ChunkEnd,
    /// The trailer section is longer than allowed.
    #[error("the trailers are larger than allowed")]
    TrailersTooLarge,
    /// A field that may not be in a trailer section (RFC 9110, 6.5.1).
    #[error("a field that may not be a trailer")]
    ForbiddenTrailer,
}

impl Fault {
    /// The status that a client gets whose request has this fault. As Go's `net/http` (thus Traefik) answers, except
    /// that a length beside a coding, which Go lets pass, is 400, as is a bad chunk.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge | Self::TooManyLines | Self::TrailersTooLarge => 431,
            Self::Coding => 501,
            Self::UnsupportedVersion => 505,
            Self::Expectation => 417,
            _ => 400,
        }
    }

    /// What that client reads: the status and its phrase, where Go's library says no more.
    pub fn words(self) -> &'static str {
        match self.status() {
            431 => "431 Request Header Fields Too Large",
            501 => "Unsupported transfer encoding",
            505 => "505 HTTP Version Not Supported: unsupported protocol version",
            417 => "",
            _ if matches!(self, Self::BlankInName | Self::BlankBeforeColon) => "400 Bad Request: invalid header name",
            _ => "400 Bad Request",
        }
    }
}
