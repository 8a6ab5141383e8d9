//! An answer's body from an HTTP/1.1 server on its way to an HTTP/2 client.
//!
//! What always holds: bytes are read when the client has room for them; the connection goes back to its pool when both
//! the request and the answer have come to their ends, and is closed otherwise.

use super::Running;
use super::upload::Upload;
use crate::http::Cause;
use crate::http::h1::{Chunked, Fault, Framing, What};
use crate::proxy::buffers::{Buffers, poll_fill};
use crate::proxy::choose::Leased;
use crate::proxy::deadline::Deadline;
use crate::proxy::finish::Finish;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Up to this much is copied, so that the buffer can be used again; more goes on in the buffer itself.
const COPIED: usize = 8 * 1_024;
/// Bytes of a trailer section.
const TRAILERS: usize = 16 * 1_024;

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// The server went away.
    #[error("the server ended the connection within the answer")]
    Gone,
    /// What it sent is no body.
    #[error("{0}")]
    Framing(#[from] Fault),
}

/// What is left of an answer.
#[derive(Debug)]
enum Left {
    Nothing,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// An answer's body as it is read.
#[derive(Debug)]
pub(super) struct Down {
    left: Left,
    ready: VecDeque<Frame<Bytes>>,
    surplus: bool,
}

impl Down {
    /// A body of which `read` came with its head already.
    pub(super) fn new(framing: Framing, read: &[u8]) -> Result<Self, Fault> {
        let left = match framing {
            Framing::None | Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::new(TRAILERS)),
            Framing::UntilClose => Left::UntilClose,
        };
        let mut down = Self { left, ready: VecDeque::new(), surplus: false };
        down.take_in(read)?;
        Ok(down)
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
            self.surplus |= !read.is_empty();
            return Ok(());
        };
        let mut data = Vec::with_capacity(read.len());
        let end = loop {
            let piece = decoder.next(read)?;
            match piece.what {
                What::Data(range) => data.extend_from_slice(read.get(range).unwrap_or_default()),
                What::More => break None,
                What::End => {
                    self.surplus |= piece.consumed < read.len();
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

    fn is_read(&self) -> bool {
        matches!(self.left, Left::Nothing)
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

/// A connection that a request and its answer share.
pub(super) struct Shared {
    leased: RefCell<Option<Leased>>,
    keep_alive: bool,
    sent: Cell<bool>,
    received: Cell<bool>,
    bytes: Cell<u64>,
}

impl Shared {
    pub(super) fn new(leased: Leased, keep_alive: bool, sent: bool) -> Rc<Self> {
        Rc::new(Self {
            leased: RefCell::new(Some(leased)),
            keep_alive,
            sent: Cell::new(sent),
            received: Cell::new(false),
            bytes: Cell::new(0),
        })
    }

    /// Gives the connection back if both directions have ended well.
    fn settle(&self) {
        if self.sent.get()
            && self.received.get()
            && self.keep_alive
            && let Some(leased) = self.leased.take()
        {
            leased.in_flight.pool().put(leased.connection, Instant::now());
        }
    }
}

/// Sends what is left of a request, as long as it moves.
async fn send_the_rest(shared: Rc<Shared>, mut up: Upload, patience: Duration) {
    let mut clock = Deadline::default();
    let sent = poll_fn(|cx| {
        let mut leased = shared.leased.borrow_mut();
        let Some(leased) = &mut *leased else { return Poll::Ready(false) };
        let sent = up.poll(cx, &mut leased.connection.stream);
        shared.bytes.set(up.bytes);
        if let Poll::Ready(sent) = sent {
            return Poll::Ready(sent.is_ok());
        }
        if patience.is_zero() {
            return Poll::Pending;
        }
        if up.moved {
            up.moved = false;
            clock.set(Some(Instant::now() + patience));
        }
        ready!(clock.poll(cx));
        Poll::Ready(false)
    })
    .await;
    if sent {
        shared.sent.set(true);
        shared.settle();
    } else if shared.received.get() {
        shared.leased.take();
    }
}

enum Source {
    Made(Option<Bytes>),
    Server { down: Down, shared: Rc<Shared>, uploading: Option<AbortHandle> },
}

/// An answer's body; carries the request to its end.
pub(super) struct AnswerBody {
    source: Source,
    finish: Option<Box<Finish>>,
    ended: bool,
    _running: Running,
}

impl AnswerBody {
    /// A body that the proxy made.
    pub(super) fn made(text: &'static str, finish: Option<Box<Finish>>, running: Running) -> Self {
        let text = (!text.is_empty()).then(|| Bytes::from_static(text.as_bytes()));
        Self { source: Source::Made(text), finish, ended: false, _running: running }
    }

    /// A body that a server sends; `up` is what is still to be sent of the request.
    pub(super) fn of_server(
        down: Down,
        shared: Rc<Shared>,
        up: Option<Upload>,
        finish: Box<Finish>,
        running: Running,
    ) -> Self {
        let patience = finish.client.open.entry.read_timeout;
        let uploading = up.map(|up| {
            shared.bytes.set(up.bytes);
            tokio::task::spawn_local(send_the_rest(shared.clone(), up, patience)).abort_handle()
        });
        let source = Source::Server { down, shared, uploading };
        let mut this = Self { source, finish: Some(finish), ended: false, _running: running };
        if http_body::Body::is_end_stream(&this) {
            this.end();
        }
        this
    }

    /// The answer has come to its end.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let Source::Server { down, shared, .. } = &self.source else { return };
        if let Some(finish) = &self.finish {
            finish.is_answered();
        }
        if down.surplus {
            shared.leased.take();
        }
        shared.received.set(true);
        shared.settle();
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Source::Server { down, shared, .. } = &mut self.source else { return Poll::Ready(None) };
        let Some(finish) = &self.finish else { return Poll::Ready(None) };
        let buffers = &finish.client.open.worker.buffers;
        loop {
            if let Some(frame) = down.ready.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if down.is_read() {
                return Poll::Ready(None);
            }
            let mut leased = shared.leased.borrow_mut();
            let Some(leased) = &mut *leased else { return Poll::Ready(Some(Err(Cut::Gone))) };
            ready!(down.poll_read(cx, leased, buffers))?;
        }
    }
}

impl Down {
    fn poll_read(&mut self, cx: &mut Context<'_>, leased: &mut Leased, buffers: &Buffers) -> Poll<Result<(), Cut>> {
        let most = match &self.left {
            Left::Length(left) => *left,
            _ => u64::MAX,
        };
        let mut buffer = buffers.take();
        match poll_fill(&mut leased.connection.stream, cx, &mut buffer, most) {
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

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        if let Source::Made(text) = &mut this.source {
            let frame = text.take().map(|text| Ok(Frame::data(text)));
            this.ended |= frame.is_none();
            return Poll::Ready(frame);
        }
        let frame = ready!(this.poll_down(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(finish)) = (frame.data_ref(), &this.finish) {
                    finish.response_bytes.set(finish.response_bytes.get() + data.len() as u64);
                }
                // Nothing comes after trailers, and nobody asks.
                if http_body::Body::is_end_stream(this) {
                    this.end();
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                this.ended = true;
                if let Some(finish) = &this.finish {
                    finish.because(Cause::ResetWithinAnswer);
                }
            }
            None => this.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Made(text) => text.is_none(),
            Source::Server { down, .. } => down.is_read() && down.ready.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Made(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Source::Server { down, .. } => {
                let ready: u64 = down.ready.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
                match down.left {
                    Left::Nothing => SizeHint::with_exact(ready),
                    Left::Length(left) => SizeHint::with_exact(ready + left),
                    Left::Chunked(_) | Left::UntilClose => SizeHint::default(),
                }
            }
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let Source::Server { shared, uploading, .. } = &self.source else { return };
        if let Some(finish) = &self.finish {
            if shared.bytes.get() > 0 {
                finish.request_bytes.set(shared.bytes.get());
            }
            if !self.ended {
                finish.because(Cause::ClientGone);
            }
        }
        if !self.ended
            && let Some(uploading) = uploading
        {
            uploading.abort();
        }
    }
}
