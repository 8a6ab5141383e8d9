//! Bodies, streamed with back-pressure: a chunk is read when the other side has room for it.

use super::{CopyBody, H2Body, Tapped};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The codec's word for it: the peer went away or sent what is not a body.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The client sent nothing for too long.
    #[error("no byte of the body came for {0:?}")]
    Stalled(Duration),
    /// An HTTP/2 stream was given up without an error before its body had ended.
    #[error("the stream ended before the body")]
    Stopped,
}

/// A request's body on its way to a server; from HTTP/1.1 to HTTP/1.1 it passes without this form.
#[derive(Debug, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// What a client sends over HTTP/1.1, handed over piece by piece.
    Pipe(Rc<Pipe>),
    /// What a client sends over HTTP/2.
    Http2(H2Body),
    /// The same, watched for progress.
    Upload(Box<Upload>),
    /// One that is copied for mirrors as it passes.
    Tapped(Box<Tapped>),
    /// Such a copy.
    Copy(CopyBody),
}

impl Body {
    /// Wraps what comes by an HTTP/2 stream.
    pub fn from_h2(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Http2(H2Body::new(incoming)) }
    }

    /// True when nothing can come of it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Pipe(pipe) => pipe.poll_take(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
            Self::Upload(upload) => upload.poll_frame(cx),
            Self::Tapped(tapped) => tapped.poll_frame(cx),
            Self::Copy(copy) => copy.poll_take(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Pipe(_) => false,
            Self::Http2(body) => body.is_end_stream(),
            Self::Upload(upload) => upload.incoming.is_end_stream(),
            Self::Tapped(tapped) => tapped.is_end_stream(),
            Self::Copy(copy) => copy.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Pipe(_) | Self::Copy(_) => SizeHint::default(),
            Self::Http2(body) => body.size_hint(),
            Self::Upload(upload) => upload.incoming.size_hint(),
            Self::Tapped(tapped) => tapped.size_hint(),
        }
    }
}

/// Room for one piece of a body, between two tasks of one thread.
#[derive(Debug, Default)]
pub struct Pipe(RefCell<Piece>);

#[derive(Debug, Default)]
struct Piece {
    frame: Option<Frame<Bytes>>,
    // Whether the body came to its end as it should.
    ended: Option<bool>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// Ready when there is room for a piece.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = self.0.borrow_mut();
        if piece.frame.is_none() {
            return Poll::Ready(());
        }
        piece.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Puts a piece in; only when there is room.
    pub fn put(&self, frame: Frame<Bytes>) {
        let mut piece = self.0.borrow_mut();
        piece.frame = Some(frame);
        piece.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Nothing comes any more; `whole` tells whether that was all of it.
    pub fn end(&self, whole: bool) {
        let mut piece = self.0.borrow_mut();
        piece.ended.get_or_insert(whole);
        piece.reader.take().into_iter().for_each(Waker::wake);
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut piece = self.0.borrow_mut();
        if let Some(frame) = piece.frame.take() {
            piece.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(frame)));
        }
        match piece.ended {
            Some(true) => Poll::Ready(None),
            Some(false) => Poll::Ready(Some(Err(BodyError::Stopped))),
            None => {
                piece.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// How far a request's body has come; shared by the body (which the codec owns) and the exchange.
#[derive(Debug)]
pub struct Transfer {
    /// Bytes so far.
    pub bytes: Cell<u64>,
    /// When something last moved.
    pub moved: Cell<Instant>,
    /// Whether it came to its end; else the client may still be sending.
    pub ended: Cell<bool>,
    /// Why the client's side ended early, if it did.
    pub failure: Cell<Option<UploadFailure>>,
}

/// How a client's body failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFailure {
    /// No byte for too long.
    Stalled,
    /// Not a body as its framing announced it.
    Broken,
    /// The client went away.
    Gone,
}

impl UploadFailure {
    /// Of what the codec says. What it cannot make sense of is `InvalidInput` or `InvalidData`; all else is a
    /// connection or stream that ended.
    fn of(error: &BodyError) -> Self {
        let error = match error {
            BodyError::Broken(error) => error,
            BodyError::Stalled(_) => return Self::Stalled,
            BodyError::Stopped => return Self::Gone,
        };
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        match source.map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Self::Broken,
            _ => Self::Gone,
        }
    }
}

/// A client's body with the time-out that a sender must keep: it measures lack of progress while
/// the proxy waits for bytes, and stands still while the server behind takes none.
#[derive(Debug)]
pub struct Upload {
    incoming: Box<Body>,
    transfer: Rc<Transfer>,
    patience: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Upload {
    /// Watches `incoming`; `patience` zero means for ever.
    pub fn new(incoming: Body, patience: Duration) -> (Self, Rc<Transfer>) {
        let transfer = Rc::new(Transfer {
            bytes: Cell::new(0),
            moved: Cell::new(Instant::now()),
            ended: Cell::new(false),
            failure: Cell::new(None),
        });
        (
            Self { incoming: Box::new(incoming), transfer: transfer.clone(), patience, sleep: None, waiting: false },
            transfer,
        )
    }

    /// The body, watched no more.
    pub fn into_inner(self) -> Body {
        *self.incoming
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut *self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = false;
                match &frame {
                    Some(Ok(frame)) => {
                        self.transfer.moved.set(Instant::now());
                        if let Some(data) = frame.data_ref() {
                            self.transfer.bytes.set(self.transfer.bytes.get() + data.len() as u64);
                        }
                        self.transfer.ended.set(frame.is_trailers() || self.incoming.is_end_stream());
                    }
                    Some(Err(error)) => self.transfer.failure.set(Some(UploadFailure::of(error))),
                    None => self.transfer.ended.set(true),
                }
                Poll::Ready(frame)
            }
            Poll::Pending if self.patience.is_zero() => Poll::Pending,
            Poll::Pending => {
                let patience = self.patience;
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                if !std::mem::replace(&mut self.waiting, true) {
                    sleep.as_mut().reset(Instant::now() + patience);
                }
                ready!(sleep.as_mut().poll(cx));
                self.transfer.failure.set(Some(UploadFailure::Stalled));
                Poll::Ready(Some(Err(BodyError::Stalled(patience))))
            }
        }
    }
}
