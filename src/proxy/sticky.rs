//! Sticky cookies: which candidate a request's cookie names, and the cookie that names another one.
//!
//! What always holds: who sends what no candidate has (forged, or of one that is gone) is as one who sends nothing.
//! A service that is not sticky costs nothing here.

use crate::http::{HeaderValue, Headers, cookie};
use crate::table;
use foldhash::HashMap;
use std::sync::Arc;

/// The candidates of a sticky service by the values of its cookie.
pub(super) struct Sticky {
    sticky: Arc<table::Sticky>,
    candidates: HashMap<Box<str>, Named>,
}

/// The candidate that a value names.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) at: usize,
    /// By a value of an earlier version of Traefik: it is to be replaced.
    pub(super) former: bool,
}

impl Sticky {
    /// Of candidates by the names that cookies are made of.
    pub(super) fn new<'a>(
        sticky: &Arc<table::Sticky>,
        candidates: impl Iterator<Item = (usize, &'a str)> + Clone,
    ) -> Self {
        let mut by_value = HashMap::default();
        for (at, of) in candidates.clone() {
            for value in table::Sticky::former_values(of) {
                by_value.insert(value.into(), Named { at, former: true });
            }
        }
        for (at, of) in candidates {
            by_value.insert(table::Sticky::value(of).into(), Named { at, former: false });
        }
        Self { sticky: sticky.clone(), candidates: by_value }
    }

    /// The candidate that the request's cookie names.
    pub(super) fn named(&self, headers: &Headers) -> Option<Named> {
        self.candidates.get(cookie(headers, &self.sticky.name)?).copied()
    }

    /// The cookie that names a candidate.
    pub(super) fn set(&self, of: &str) -> Option<HeaderValue> {
        let table::Sticky { name, attributes, .. } = &*self.sticky;
        let value = table::Sticky::value(of);
        HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("{name}={value}{attributes}"))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::Cookie;

    #[test]
    fn values_name_candidates_and_forged_ones_nobody() {
        let sticky = Arc::new(table::Sticky::new("s@file", &Cookie { name: "lb".into(), ..Cookie::default() }));
        let urls = ["http://10.0.0.1:80", "http://10.0.0.2:80"];
        let sticky = Sticky::new(&sticky, urls.into_iter().enumerate());
        let set = sticky.set(urls[1]).expect("a cookie");
        let set = set.to_str().expect("a text");
        assert_eq!(set, format!("lb={}; Path=/", table::Sticky::value(urls[1])));
        let named = |value: &str| {
            let mut map = ::http::HeaderMap::new();
            map.insert(::http::header::COOKIE, format!("lb={value}").parse().expect("a value"));
            sticky.named(&Headers::from_map(&map, Default::default())).map(|named| (named.at, named.former))
        };
        assert_eq!(named(&table::Sticky::value(urls[1])), Some((1, false)));
        for former in table::Sticky::former_values(urls[0]) {
            assert_eq!(named(&former), Some((0, true)), "{former}");
        }
        assert_eq!((named("bogus"), named("")), (None, None));
    }
}
