//! Copies of a request's body, made while it is on its way to its server: a [`Tap`] beside the body's way puts each piece
//! that passes into the queue of each [`Copy`], of which a [`CopyBody`] is what is sent to a mirror.
//!
//! What always holds: who sends the request waits for no copy. What a copy holds that its mirror has not taken is bounded,
//! and what all copies of a worker hold together; a copy that would hold more is given up. A copy ends well only if it has
//! every byte of a body that ended well. All of it lives on one thread.

use super::BodyError;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use tokio::time::Instant;

/// What one copy may hold, in bytes. A mirror that has to be connected to first (TCP, TLS: some round trips) still gets
/// every body of up to this size, and one of any size that comes with 1 Gbit/s and is held up by 8 ms at most.
pub const MOST_OF_ONE: usize = 1 << 20;
/// What all copies of a worker may hold together, in bytes: a bound that holds however many mirrors are behind at once.
const MOST_OF_ALL: usize = 32 << 20;
/// After so many bytes others have their turn, among them who sends the copies: a quick sender and a quick server would
/// leave them none for tens of megabytes.
const TURN: usize = 256 * 1_024;
/// Sizes of the pieces of a queue: small ones are put together, so that a body of single bytes takes no more memory.
const PIECES: (usize, usize) = (4 * 1_024, 64 * 1_024);

/// What became of a copy of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFate {
    /// The mirror got it.
    Sent,
    /// There were too many, or its mirror did not take it (in time).
    Dropped,
    /// The request's body is longer than its mirrors are to get.
    TooLong,
    /// The request's own body broke off.
    Cut,
}

impl CopyFate {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Dropped, Self::TooLong, Self::Cut];

    /// As metrics say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::TooLong => "too_long",
            Self::Cut => "cut",
        }
    }
}

/// What the copies of a worker hold.
#[derive(Debug, Default)]
pub struct CopyMemory(Cell<usize>);

impl CopyMemory {
    /// Bytes.
    pub fn held(&self) -> usize {
        self.0.get()
    }
}

/// How the way of a copy's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The mirror took too little of it.
    Behind,
    TooLong,
    Cut,
    /// Who sends it went away.
    Left,
}

/// The body of one copy: what is not sent of it yet, and how it ended. Clones are the same.
#[derive(Debug, Clone)]
pub struct Copied(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    memory: Rc<CopyMemory>,
    most: Option<u64>,
    queue: RefCell<Queue>,
}

#[derive(Debug)]
struct Queue {
    pieces: VecDeque<BytesMut>,
    /// Bytes of the pieces, and of the one that was taken last.
    held: usize,
    in_hand: usize,
    /// Bytes so far.
    bytes: u64,
    end: Option<End>,
    moved: Instant,
    /// Who sends it.
    reader: Option<Waker>,
    /// Who waits for it to be given up, or left.
    watcher: Option<Waker>,
    is_left: bool,
}

impl Copied {
    /// Of a body of which nothing came yet; `most`: a longer one is not copied.
    pub fn new(memory: &Rc<CopyMemory>, most: Option<u64>) -> Self {
        let queue = Queue {
            pieces: VecDeque::new(),
            held: 0,
            in_hand: 0,
            bytes: 0,
            end: None,
            moved: Instant::now(),
            reader: None,
            watcher: None,
            is_left: false,
        };
        Self(Rc::new(Shared { memory: memory.clone(), most, queue: RefCell::new(queue) }))
    }

    /// What is sent to the mirror; once only.
    pub fn body(&self) -> CopyBody {
        CopyBody(self.clone())
    }

    /// What became of it, if nothing more is done for it.
    pub fn fate(&self) -> CopyFate {
        let queue = self.0.queue.borrow();
        match queue.end {
            Some(End::Whole) if queue.pieces.is_empty() => CopyFate::Sent,
            Some(End::TooLong) => CopyFate::TooLong,
            Some(End::Cut) => CopyFate::Cut,
            Some(End::Whole | End::Behind | End::Left) | None => CopyFate::Dropped,
        }
    }

    /// When something of the body came last; now, where the mirror has taken all of it and more is to come.
    pub fn moved(&self) -> Instant {
        let queue = self.0.queue.borrow();
        let awaits = queue.end.is_none() && queue.pieces.is_empty() && queue.in_hand == 0;
        if awaits { Instant::now() } else { queue.moved }
    }

    /// Ready when no mirror is to get it any more.
    pub fn poll_given_up(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.0.queue.borrow_mut();
        if matches!(queue.end, Some(End::Behind | End::TooLong | End::Cut)) {
            return Poll::Ready(());
        }
        queue.watcher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when its body is dropped.
    pub fn poll_left(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.0.queue.borrow_mut();
        if queue.is_left {
            return Poll::Ready(());
        }
        queue.watcher = Some(cx.waker().clone());
        Poll::Pending
    }

    fn push(&self, data: &[u8]) {
        let Shared { memory, most, queue } = &*self.0;
        let mut queue = queue.borrow_mut();
        if queue.end.is_some() {
            return;
        }
        queue.bytes += data.len() as u64;
        let too_long = most.is_some_and(|most| queue.bytes > most);
        let (held, all) = (queue.held + data.len(), memory.0.get() + data.len());
        if too_long || held > MOST_OF_ONE || all > MOST_OF_ALL {
            drop(queue);
            return self.end(if too_long { End::TooLong } else { End::Behind });
        }
        queue.held = held;
        memory.0.set(all);
        queue.moved = Instant::now();
        queue.put(data);
        let reader = queue.reader.take();
        drop(queue);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Nothing comes any more; what is said first counts.
    fn end(&self, end: End) {
        let mut queue = self.0.queue.borrow_mut();
        if queue.end.is_some() {
            return;
        }
        queue.end = Some(end);
        queue.moved = Instant::now();
        let wakers = [queue.reader.take(), queue.watcher.take()];
        if end != End::Whole {
            self.free(&mut queue);
        }
        drop(queue);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// What waits is of no use any more.
    fn free(&self, queue: &mut Queue) {
        queue.pieces.clear();
        self.release(queue.held - queue.in_hand, queue);
    }

    fn release(&self, bytes: usize, queue: &mut Queue) {
        queue.held -= bytes;
        let memory = &self.0.memory.0;
        memory.set(memory.get().saturating_sub(bytes));
    }

    fn waits(&self) -> bool {
        !self.0.queue.borrow().pieces.is_empty()
    }
}

impl Queue {
    fn put(&mut self, mut data: &[u8]) {
        if let Some(last) = self.pieces.back_mut() {
            let room = (last.capacity() - last.len()).min(data.len());
            let (fits, rest) = data.split_at(room);
            last.extend_from_slice(fits);
            data = rest;
        }
        let (least, most) = PIECES;
        while !data.is_empty() {
            let (fits, rest) = data.split_at(data.len().min(most));
            let mut piece = BytesMut::with_capacity(fits.len().max(least));
            piece.extend_from_slice(fits);
            self.pieces.push_back(piece);
            data = rest;
        }
    }
}

/// The body of a copy on its way to a mirror. It breaks off where it was given up.
#[derive(Debug)]
pub struct CopyBody(Copied);

impl CopyBody {
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.0.0.queue.borrow_mut();
        let sent = std::mem::take(&mut queue.in_hand);
        self.0.release(sent, &mut queue);
        if let Some(piece) = queue.pieces.pop_front() {
            queue.in_hand = piece.len();
            return Poll::Ready(Some(Ok(Frame::data(piece.freeze()))));
        }
        match queue.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(_) => Poll::Ready(Some(Err(BodyError::Stopped))),
            None => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let queue = self.0.0.queue.borrow();
        queue.end == Some(End::Whole) && queue.pieces.is_empty()
    }
}

impl Drop for CopyBody {
    fn drop(&mut self) {
        self.0.end(End::Left);
        let mut queue = self.0.0.queue.borrow_mut();
        queue.is_left = true;
        let sent = std::mem::take(&mut queue.in_hand);
        self.0.release(sent, &mut queue);
        let watcher = queue.watcher.take();
        drop(queue);
        watcher.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let held = self.queue.get_mut().held;
        self.memory.0.set(self.memory.0.get().saturating_sub(held));
    }
}

/// Stands beside the way of a request's body to its server and copies what passes. Dropped before the body's end, it
/// ends the copies as cut ones.
#[derive(Debug)]
pub struct Tap {
    copies: SmallVec<[Copied; 1]>,
    /// Bytes that were copied, and where in the body the try is that goes on.
    copied: u64,
    at: u64,
    since_turn: usize,
}

impl Tap {
    /// For so many copies; `None` without any.
    pub fn new(copies: SmallVec<[Copied; 1]>) -> Option<Box<Self>> {
        (!copies.is_empty()).then(|| Box::new(Self { copies, copied: 0, at: 0, since_turn: 0 }))
    }

    /// A piece of the body passes.
    pub fn push(&mut self, data: &[u8]) {
        // What another server was told of it before is there.
        let known = usize::try_from(self.copied - self.at.min(self.copied)).unwrap_or(usize::MAX).min(data.len());
        let data = data.get(known..).unwrap_or_default();
        self.at += (known + data.len()) as u64;
        if data.is_empty() {
            return;
        }
        self.copied += data.len() as u64;
        self.since_turn += data.len();
        self.copies.iter().for_each(|copy| copy.push(data));
    }

    /// The body has come to its end, as it should.
    pub fn end(&self) {
        self.copies.iter().for_each(|copy| copy.end(End::Whole));
    }

    /// The request is sent again, from its beginning.
    pub fn again(&mut self) {
        self.at = 0;
    }

    /// Ready when the body may go on. Pending now and then, and once only, so that those who send the copies have a turn
    /// like all others; who asks is woken when they had it, whether they did anything or not.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since_turn < TURN {
            return Poll::Ready(());
        }
        self.since_turn = 0;
        if !self.copies.iter().any(Copied::waits) {
            return Poll::Ready(());
        }
        pin!(tokio::task::yield_now()).poll(cx)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.copies.iter().for_each(|copy| copy.end(End::Cut));
    }
}

/// A body whose pieces are copied as they pass.
#[derive(Debug)]
pub struct Tapped {
    body: super::Body,
    tap: Box<Tap>,
}

impl Tapped {
    /// A body and what stands beside its way.
    pub fn new(body: super::Body, tap: Box<Tap>) -> Self {
        Self { body, tap }
    }

    /// Both, apart.
    pub fn into_parts(self) -> (super::Body, Box<Tap>) {
        (self.body, self.tap)
    }

    /// Who hears that it has ended asks for nothing more.
    pub(super) fn is_end_stream(&self) -> bool {
        let ended = self.body.is_end_stream();
        if ended {
            self.tap.end();
        }
        ended
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        ready!(self.tap.poll_turn(cx));
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.tap.push(data);
                }
                // Nobody asks for more, then.
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.tap.end();
                }
            }
            None => self.tap.end(),
            Some(Err(_)) => self.tap.copies.iter().for_each(|copy| copy.end(End::Cut)),
        }
        Poll::Ready(frame)
    }
}
