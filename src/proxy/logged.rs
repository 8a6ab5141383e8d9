//! The heads of a request that the access log wants to see, kept to its end. Where it wants none,
//! which is the usual case, nothing is kept and nothing is copied.

use crate::http::Headers;
use crate::observe::record::{HeadView, WhichHead};

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct LoggedHeads {
    pub(super) request: Option<Headers>,
    pub(super) origin: Option<Headers>,
    pub(super) downstream: Option<Headers>,
}

impl HeadView for LoggedHeads {
    fn each<'s>(&'s self, head: WhichHead, each: &mut dyn FnMut(&'s str, &'s [u8])) {
        let headers = match head {
            WhichHead::Request => &self.request,
            WhichHead::Origin => &self.origin,
            WhichHead::Downstream => &self.downstream,
        };
        for (name, value) in headers.iter().flat_map(Headers::iter) {
            each(name.as_str(), value.as_bytes());
        }
    }
}
