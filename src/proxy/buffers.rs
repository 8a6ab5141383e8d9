//! Memory that a worker's requests use one after the other.
//!
//! What always holds: a connection that waits for bytes holds no buffer of these; the last one given
//! back is the first to be taken again, so that what few requests need stays in the processor's cache.

use crate::http::{Headers, RequestHead, Room, h1};
use bytes::BufMut;
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::AsyncRead;

/// Size of the usual buffer. Not a power of two: the beginnings of many buffers would share few places in the
/// processor's caches.
const USUAL: usize = 73 * 1_024 + 192;
/// Size of a buffer for the inside of a large body.
const LARGE: usize = 256 * 1_024;
/// Room that is left behind what is read, for what is added to a head.
const SPARE: usize = 2 * 1_024;
/// Unused buffers that are kept.
pub(super) const KEPT: usize = 640;
const KEPT_LARGE: usize = 8;
/// Texts that grew above this are let go.
const TEXT: usize = 4 * 1_024;

/// A worker's unused memory.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    usual: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
    rooms: RefCell<Vec<Room>>,
    texts: RefCell<Vec<String>>,
    /// Where the lines of the head that is being parsed are put.
    pub(super) lines: RefCell<Vec<h1::Line>>,
    date: RefCell<String>,
    date_of: Cell<u64>,
}

impl Buffers {
    /// An empty buffer.
    #[inline]
    pub(super) fn take(&self) -> Vec<u8> {
        self.usual.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(USUAL))
    }

    /// An empty buffer for the inside of a body of which at least `left` bytes are to come.
    pub(super) fn take_for(&self, left: u64) -> Vec<u8> {
        if left <= USUAL as u64 {
            return self.take();
        }
        self.large.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(LARGE))
    }

    /// Gives a buffer back. One that has grown or never was one of ours is let go.
    #[inline]
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        let (kept, most) = match buffer.capacity() {
            USUAL => (&self.usual, KEPT),
            LARGE => (&self.large, KEPT_LARGE),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < most {
            buffer.clear();
            kept.push(buffer);
        }
    }

    /// What was given back of a head's own lists.
    pub(super) fn room(&self) -> Room {
        self.rooms.borrow_mut().pop().unwrap_or_default()
    }

    /// A text to be overwritten.
    pub(super) fn text(&self) -> String {
        self.texts.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives back what a head was made of.
    pub(super) fn give_headers(&self, headers: Headers) {
        let (bytes, room) = headers.into_parts();
        self.give(bytes);
        self.give_room(room);
    }

    fn give_room(&self, room: Room) {
        let mut rooms = self.rooms.borrow_mut();
        if rooms.len() < KEPT {
            rooms.push(room);
        }
    }

    /// Takes the bytes out of a head that is not needed any more.
    pub(super) fn bytes_of(&self, headers: Headers) -> Vec<u8> {
        let (bytes, room) = headers.into_parts();
        self.give_room(room);
        bytes
    }

    /// Gives back what a request's head was made of.
    pub(super) fn give_head(&self, head: RequestHead) {
        let (text, headers) = head.into_parts();
        self.give_headers(headers);
        let mut texts = self.texts.borrow_mut();
        if texts.len() < KEPT && text.capacity() <= TEXT {
            texts.push(text);
        }
    }

    /// Adds the time as a `Date` field says it (RFC 9110, 5.6.7).
    pub(super) fn push_date(&self, out: &mut Vec<u8>) {
        // Some milliseconds late, and far cheaper than the time itself.
        let second = u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or_default();
        if self.date_of.replace(second) != second {
            *self.date.borrow_mut() = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        out.extend_from_slice(self.date.borrow().as_bytes());
    }
}

/// Reads what has come, at most `most` bytes and what fits. 0 means that the other side has ended.
#[inline]
pub(super) fn poll_fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut Vec<u8>,
    most: u64,
) -> Poll<io::Result<usize>> {
    let mut room = buffer.capacity().saturating_sub(buffer.len());
    if room <= SPARE {
        buffer.reserve(buffer.len().max(USUAL));
        room = buffer.capacity() - buffer.len();
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(room - SPARE).max(1);
    tokio_util::io::poll_read_buf(Pin::new(stream), cx, &mut buffer.limit(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_strangers_do_not() {
        let buffers = Buffers::default();
        let mut one = buffers.take();
        one.extend_from_slice(b"secret");
        buffers.give(one);
        assert!(buffers.take().is_empty());
        buffers.give(Vec::with_capacity(10));
        buffers.give(Vec::new());
        assert!(buffers.usual.borrow().is_empty());
        assert_eq!(buffers.take_for(USUAL as u64).capacity(), USUAL);
        assert_eq!(buffers.take_for(USUAL as u64 + 1).capacity(), LARGE);
    }

    #[test]
    fn reading_stops_at_its_limit() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut source = &b"abcdef"[..];
        let mut buffer = Vec::new();
        assert!(matches!(poll_fill(&mut source, &mut cx, &mut buffer, 4), Poll::Ready(Ok(4))));
        assert!(matches!(poll_fill(&mut source, &mut cx, &mut buffer, 4), Poll::Ready(Ok(2))));
        assert!(matches!(poll_fill(&mut source, &mut cx, &mut buffer, 4), Poll::Ready(Ok(0))));
        assert_eq!(buffer, b"abcdef");
    }
}
