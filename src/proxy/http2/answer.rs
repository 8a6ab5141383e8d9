//! An answer's body from an HTTP/1.1 server on its way to an HTTP/2 client.
//!
//! What always holds: bytes are read when the client has room for them; the connection goes back to its pool when both
//! the request and the answer have come to their ends, and is closed otherwise.

use super::Running;
use crate::http::{Body, Cause, H2Body, Transfer};
use crate::proxy::choose::Leased;
use crate::proxy::deadline::Deadline;
use crate::proxy::finish::Finish;
use crate::proxy::frames::{Cut, Frames};
use crate::proxy::lasting::Lasting;
use crate::proxy::sender::Sender;
use crate::upstream::{H2Stream, InFlight};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

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
async fn send_the_rest(shared: Rc<Shared>, mut up: Sender<Body>, patience: Duration) {
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
    Server { down: Frames, shared: Rc<Shared>, uploading: Option<AbortHandle> },
    Http2 { body: H2Body, way: Option<(H2Stream<Body>, InFlight)>, transfer: Option<Rc<Transfer>> },
}

/// An answer's body; carries the request to its end.
pub(super) struct AnswerBody {
    source: Source,
    finish: Option<Box<Finish>>,
    ended: bool,
    lasting: Lasting,
    _running: Running,
}

impl AnswerBody {
    /// A body that the proxy made.
    pub(super) fn made(text: Cow<'static, str>, finish: Option<Box<Finish>>, running: Running) -> Self {
        let text = (!text.is_empty()).then(|| match text {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        });
        Self { source: Source::Made(text), finish, ended: false, lasting: Lasting::default(), _running: running }
    }

    /// A body that a server sends; `up` is what is still to be sent of the request.
    pub(super) fn of_server(
        down: Frames,
        shared: Rc<Shared>,
        up: Option<Sender<Body>>,
        finish: Box<Finish>,
        running: Running,
    ) -> Self {
        let patience = finish.client.open.entry.read_timeout;
        let uploading = up.map(|up| {
            shared.bytes.set(up.bytes);
            tokio::task::spawn_local(send_the_rest(shared.clone(), up, patience)).abort_handle()
        });
        let source = Source::Server { down, shared, uploading };
        let lasting = Lasting::default();
        let mut this = Self { source, finish: Some(finish), ended: false, lasting, _running: running };
        if http_body::Body::is_end_stream(&this) {
            this.end();
        }
        this
    }

    /// A body that an HTTP/2 server sends.
    pub(super) fn of_http2(
        body: H2Body,
        stream: H2Stream<Body>,
        in_flight: InFlight,
        transfer: Option<Rc<Transfer>>,
        finish: Box<Finish>,
        running: Running,
    ) -> Self {
        let source = Source::Http2 { body, way: Some((stream, in_flight)), transfer };
        let lasting = Lasting::default();
        let mut this = Self { source, finish: Some(finish), ended: false, lasting, _running: running };
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
        if let Some(finish) = &self.finish {
            finish.is_answered();
        }
        if let Source::Http2 { way, .. } = &mut self.source
            && let Some((stream, _in_flight)) = way.take()
        {
            // What is left of the request may still be sent.
            stream.finish();
        }
        let Source::Server { down, shared, .. } = &self.source else { return };
        if !down.surplus.is_empty() {
            shared.leased.take();
        }
        shared.received.set(true);
        shared.settle();
    }

    /// Whether the server left and its time is over.
    fn is_over(&mut self, cx: &Context<'_>) -> bool {
        let Some(finish) = &self.finish else { return false };
        let worker = &finish.client.open.worker;
        match &self.source {
            Source::Made(_) => false,
            Source::Server { shared, .. } => {
                let leased = shared.leased.borrow();
                leased.as_ref().is_some_and(|leased| self.lasting.is_over(cx, worker, leased.in_flight.pool()))
            }
            Source::Http2 { way, .. } => {
                way.as_ref().is_some_and(|(_, in_flight)| self.lasting.is_over(cx, worker, in_flight.pool()))
            }
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let (down, shared) = match &mut self.source {
            Source::Server { down, shared, .. } => (down, shared),
            Source::Http2 { body, .. } => return Pin::new(body).poll_frame(cx).map_err(|_| Cut::Gone),
            Source::Made(_) => return Poll::Ready(None),
        };
        let Some(finish) = &self.finish else { return Poll::Ready(None) };
        let buffers = &finish.client.open.worker.buffers;
        loop {
            if let Some(frame) = down.next() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if down.is_read() {
                return Poll::Ready(None);
            }
            let mut leased = shared.leased.borrow_mut();
            let Some(leased) = &mut *leased else { return Poll::Ready(Some(Err(Cut::Gone))) };
            ready!(down.poll_read(cx, &mut leased.connection.stream, buffers))?;
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
        let frame = match this.poll_down(cx) {
            Poll::Pending if this.is_over(cx) => Some(Err(Cut::Over)),
            frame => ready!(frame),
        };
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
                    let is_over = matches!(error, Cut::Over);
                    finish.because(if is_over { Cause::DrainLimit } else { Cause::ResetWithinAnswer });
                }
            }
            None => this.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Made(text) => text.is_none(),
            Source::Server { down, .. } => down.is_done(),
            Source::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Made(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Source::Server { down, .. } => down.size_hint(),
            Source::Http2 { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let bytes = match &self.source {
            Source::Made(_) => return,
            Source::Server { shared, .. } => shared.bytes.get(),
            Source::Http2 { transfer, .. } => transfer.as_ref().map_or(0, |transfer| transfer.bytes.get()),
        };
        if let Some(finish) = &self.finish {
            if bytes > 0 {
                finish.request_bytes.set(bytes);
            }
            if !self.ended {
                finish.because(Cause::ClientGone);
            }
        }
        if let Source::Server { uploading: Some(uploading), .. } = &self.source
            && !self.ended
        {
            uploading.abort();
        }
    }
}
