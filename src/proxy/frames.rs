//! A body of HTTP/1.1 as frames, the form that HTTP/2's codec takes.
//!
//! What always holds: nothing beyond the body is taken for it; what was read and not asked for yet is one read's worth.

use super::buffers::{Buffers, poll_fill};
use crate::http::h1::{Chunked, Fault, Framing, What};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::task::{Context, Poll};
use tokio::io::AsyncRead;

/// Up to this much is copied, so that the buffer can be used again; more goes on in the buffer itself.
const COPIED: usize = 8 * 1_024;
/// Bytes of a trailer section.
const TRAILERS: usize = 16 * 1_024;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// Who sends it went away.
    #[error("the connection ended within the body")]
    Gone,
    /// Who sends it left the catalog, and its time is over.
    #[error("the server left the catalog")]
    Over,
    /// What came is no body.
    #[error("{0}")]
    Framing(#[from] Fault),
}

/// What is left of a body.
#[derive(Debug)]
enum Left {
    Nothing,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// A body as it is read.
#[derive(Debug)]
pub(super) struct Frames {
    left: Left,
    ready: VecDeque<Frame<Bytes>>,
    /// What stood behind the body's end.
    pub(super) surplus: Vec<u8>,
}

impl Frames {
    /// A body of which `read` came with its head already.
    pub(super) fn new(framing: Framing, read: &[u8]) -> Result<Self, Fault> {
        let left = match framing {
            Framing::None | Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::new(TRAILERS)),
            Framing::UntilClose => Left::UntilClose,
        };
        let mut frames = Self { left, ready: VecDeque::new(), surplus: Vec::new() };
        frames.take_in(read)?;
        Ok(frames)
    }

    fn take_in(&mut self, read: &[u8]) -> Result<(), Fault> {
        let plain = self.plain(read.len());
        if plain > 0 {
            let data = Bytes::copy_from_slice(read.get(..plain).unwrap_or_default());
            self.ready.push_back(Frame::data(data));
        }
        self.chunked(read.get(plain..).unwrap_or_default())
    }

    /// How many of so many bytes are data as they are.
    fn plain(&mut self, read: usize) -> usize {
        match &mut self.left {
            Left::Length(left) => {
                let mine = usize::try_from(*left).map_or(read, |left| left.min(read));
                *left -= mine as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                mine
            }
            Left::UntilClose => read,
            Left::Nothing | Left::Chunked(_) => 0,
        }
    }

    fn chunked(&mut self, mut read: &[u8]) -> Result<(), Fault> {
        let Left::Chunked(decoder) = &mut self.left else {
            self.surplus.extend_from_slice(read);
            return Ok(());
        };
        let mut data = Vec::with_capacity(read.len());
        let end = loop {
            let piece = decoder.next(read)?;
            match piece.what {
                What::Data(range) => data.extend_from_slice(read.get(range).unwrap_or_default()),
                What::More => break None,
                What::End => {
                    self.surplus.extend_from_slice(read.get(piece.consumed..).unwrap_or_default());
                    break Some(trailers(decoder.trailers()));
                }
            }
            read = read.get(piece.consumed..).unwrap_or_default();
        };
        if !data.is_empty() {
            self.ready.push_back(Frame::data(data.into()));
        }
        if let Some(trailers) = end {
            self.left = Left::Nothing;
            if !trailers.is_empty() {
                self.ready.push_back(Frame::trailers(trailers));
            }
        }
        Ok(())
    }

    /// Whether all of it was read.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Whether all of it was read and asked for.
    pub(super) fn is_done(&self) -> bool {
        self.is_read() && self.ready.is_empty()
    }

    /// The next frame of what was read.
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        self.ready.pop_front()
    }

    /// How much is still to be asked for, where that is known.
    pub(super) fn size_hint(&self) -> SizeHint {
        let ready: u64 = self.ready.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        match self.left {
            Left::Nothing => SizeHint::with_exact(ready),
            Left::Length(left) => SizeHint::with_exact(ready + left),
            Left::Chunked(_) | Left::UntilClose => SizeHint::default(),
        }
    }

    /// Reads on. Ready when something was read, or the end.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        buffers: &Buffers,
    ) -> Poll<Result<(), Cut>> {
        let most = match &self.left {
            Left::Length(left) => *left,
            _ => u64::MAX,
        };
        let mut buffer = buffers.take();
        match poll_fill(stream, cx, &mut buffer, most) {
            Poll::Pending => {
                buffers.give(buffer);
                Poll::Pending
            }
            Poll::Ready(Ok(0)) if matches!(self.left, Left::UntilClose) => {
                buffers.give(buffer);
                self.left = Left::Nothing;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(read @ 1..)) => {
                if read > COPIED && !matches!(self.left, Left::Chunked(_)) {
                    let plain = self.plain(read);
                    buffer.truncate(plain);
                    self.ready.push_back(Frame::data(buffer.into()));
                } else {
                    let taken = self.take_in(&buffer);
                    buffers.give(buffer);
                    taken?;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => {
                buffers.give(buffer);
                Poll::Ready(Err(Cut::Gone))
            }
        }
    }
}

/// A trailer section as fields.
fn trailers(section: &[u8]) -> ::http::HeaderMap {
    let mut map = ::http::HeaderMap::new();
    for line in section.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = ::http::HeaderName::from_bytes(name);
        let value = ::http::HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}
