//! The heads of a request that the access log wants to see, kept to its end. Where it wants none,
//! which is the usual case, nothing is kept and nothing is copied.

use crate::http::Headers;
use crate::observe::record::{HeadView, WhichHead};
use std::cell::OnceCell;

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct LoggedHeads {
    request: Option<Headers>,
    wants_answers: bool,
    origin: OnceCell<Headers>,
    downstream: OnceCell<Headers>,
}

impl LoggedHeads {
    /// With the request's head, and with both answers' when they come if they are wanted.
    pub(super) fn new(request: Option<Headers>, wants_answers: bool) -> Self {
        Self { request, wants_answers, ..Self::default() }
    }

    /// A server's answer came.
    pub(super) fn received(&self, headers: &Headers) {
        if self.wants_answers {
            let _ = self.origin.set(headers.clone());
        }
    }

    /// The client is answered.
    pub(super) fn answers(&self, headers: &Headers) {
        if self.wants_answers {
            let _ = self.downstream.set(headers.clone());
        }
    }
}

impl HeadView for LoggedHeads {
    fn each<'s>(&'s self, head: WhichHead, each: &mut dyn FnMut(&'s str, &'s [u8])) {
        let headers = match head {
            WhichHead::Request => self.request.as_ref(),
            WhichHead::Origin => self.origin.get(),
            WhichHead::Downstream => self.downstream.get(),
        };
        for (name, value) in headers.into_iter().flat_map(Headers::iter) {
            each(name, value);
        }
    }
}
