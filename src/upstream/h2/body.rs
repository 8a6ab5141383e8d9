//! A request's body that can be said again while it is short, for streams that a server refused.

use super::link::Slot;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How much of a body is kept to be said again.
const KEPT: usize = 64 * 1_024;

/// A request's body, kept by who sends the request. What was taken of it is remembered, up to 64 KiB and
/// until the answer begins, so that it can be said again. Clones are the same body.
pub struct Repeatable<B>(Rc<RefCell<State<B>>>);

struct State<B> {
    body: B,
    /// What was taken of it so far; `None` once that is too much, or no more needed.
    taken: Option<Vec<Said>>,
    bytes: usize,
    /// What is to be said before the body goes on.
    again: VecDeque<Said>,
    /// Which attempt may take of it; what an earlier one still wants is refused.
    attempt: u32,
    cancelled: bool,
    waker: Option<Waker>,
}

#[derive(Clone)]
enum Said {
    Data(Bytes),
    Trailers(Box<http::HeaderMap>),
}

impl Said {
    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(*trailers),
        }
    }
}

impl<B> Clone for Repeatable<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> std::fmt::Debug for Repeatable<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repeatable").finish_non_exhaustive()
    }
}

impl<B> Repeatable<B> {
    /// Wraps a body of which nothing was taken yet.
    pub fn new(body: B) -> Self {
        Self(Rc::new(RefCell::new(State {
            body,
            taken: Some(Vec::new()),
            bytes: 0,
            again: VecDeque::new(),
            attempt: 0,
            cancelled: false,
            waker: None,
        })))
    }

    /// Back to the beginning. False if too much of it is gone: the request cannot be repeated.
    pub fn rewind(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.attempt += 1;
        let Some(taken) = state.taken.take() else { return false };
        // What an attempt had not yet said again comes after what it had.
        let rest = std::mem::take(&mut state.again);
        state.again = taken.into_iter().chain(rest).collect();
        state.taken = Some(Vec::new());
        state.bytes = 0;
        state.cancelled = false;
        true
    }

    /// The body as it was, where nothing was taken of it and no stream sends it any more.
    pub fn into_inner(self) -> Option<B> {
        let state = Rc::try_unwrap(self.0).ok()?.into_inner();
        let untouched = state.again.is_empty() && state.taken.is_some_and(|taken| taken.is_empty());
        untouched.then_some(state.body)
    }

    /// Ends what is being sent of it.
    pub(super) fn cancel(&self) {
        let mut state = self.0.borrow_mut();
        state.cancelled = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// It will not be needed again.
    pub(super) fn forget(&self) {
        self.0.borrow_mut().taken = None;
    }

    /// The body for one stream.
    pub(super) fn attempt(&self, slot: Rc<Slot>) -> Attempt<B> {
        let mut state = self.0.borrow_mut();
        state.cancelled = false;
        Attempt { shared: self.clone(), number: state.attempt, _slot: slot }
    }
}

/// What one stream sends.
pub struct Attempt<B> {
    shared: Repeatable<B>,
    number: u32,
    // A stream has ended when both its halves have.
    _slot: Rc<Slot>,
}

impl<B> Attempt<B> {
    fn is_over(&self, state: &State<B>) -> bool {
        state.cancelled || state.attempt != self.number
    }
}

/// The stream is given up; the server is told so with this code.
fn cancelled() -> Box<dyn Error + Send + Sync> {
    Box::new(h2::Error::from(h2::Reason::CANCEL))
}

impl<B> Body for Attempt<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>>> {
        let mut state = self.shared.0.borrow_mut();
        if self.is_over(&state) {
            return Poll::Ready(Some(Err(cancelled())));
        }
        let state = &mut *state;
        if let Some(said) = state.again.pop_front() {
            if let Some(taken) = &mut state.taken {
                taken.push(said.clone());
            }
            return Poll::Ready(Some(Ok(said.frame())));
        }
        let frame = match Pin::new(&mut state.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Box::new(error)))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
        };
        if let Some(taken) = &mut state.taken {
            let said = match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => Some(Said::Data(data.clone())),
                (_, Some(trailers)) => Some(Said::Trailers(Box::new(trailers.clone()))),
                (None, None) => None,
            };
            state.bytes += frame.data_ref().map_or(0, Bytes::len);
            if state.bytes > KEPT {
                state.taken = None;
            } else {
                taken.extend(said);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.0.borrow();
        !self.is_over(&state) && state.again.is_empty() && state.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.shared.0.borrow();
        if state.again.is_empty() {
            return state.body.size_hint();
        }
        let again: usize =
            state.again.iter().map(|said| if let Said::Data(data) = said { data.len() } else { 0 }).sum();
        let rest = state.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again as u64);
        }
        hint
    }
}
