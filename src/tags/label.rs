//! One `prefix.key=value` tag: cut apart, its places for messages, and what of it may be shown.

use crate::diagnostic::{Diagnostic, Origin};
use std::sync::Arc;

/// A tag of the prefix, cut at its `=`.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// The tag as registered.
    pub tag: &'a Arc<str>,
    /// What stands between `prefix.` and `=`.
    pub key: &'a str,
    /// What stands behind `=`.
    pub value: &'a str,
}

impl<'a> Label<'a> {
    /// Cuts a tag; `None` if it has another prefix. `trim` drops blanks behind the key and around
    /// the value, as Traefik does for Nomad and not for Consul. A tag without `=` is `Err`.
    pub fn cut(tag: &'a Arc<str>, prefix: &str, trim: bool) -> Option<Result<Self, Diagnostic>> {
        let rest = tag.strip_prefix(prefix)?.strip_prefix('.')?;
        let Some((key, value)) = rest.split_once('=') else {
            let problem = Diagnostic::warning("ignored_tag", format!("a `{prefix}.` tag without `=` does nothing"));
            let column = u32::try_from(tag.chars().count() + 1).ok();
            return Some(Err(problem.with_origin(Origin { tag: Some(tag.clone()), column, ..Origin::default() })));
        };
        let (key, value) = if trim { (key.trim_end(), value.trim()) } else { (key, value) };
        Some(Ok(Self { tag, key, value }))
    }

    /// Where a part of the tag stands, in characters from 1.
    fn column(&self, part: &str) -> u32 {
        let offset = (part.as_ptr() as usize).saturating_sub(self.tag.as_ptr() as usize);
        let before = self.tag.get(..offset).map_or(0, |t| t.chars().count());
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    /// The place of a part of the tag, unless what stands before it is not shown as it is.
    pub(super) fn origin(&self, part: &str) -> Origin {
        let (shown, column) = (self.shown(), self.column(part));
        let before = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        let as_it_is = shown.chars().take(before).eq(self.tag.chars().take(before));
        Origin { column: as_it_is.then_some(column), tag: Some(shown), ..Origin::default() }
    }

    /// The tag as messages may show it: without the value where that is a secret.
    pub(super) fn shown(&self) -> Arc<str> {
        let last = self.key.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        if ["user", "password", "secret", "token", "authorization", "apikey", "api-key"]
            .iter()
            .any(|s| last.contains(s))
            || last == "key"
            || self.key.to_ascii_lowercase().contains(".plugin.")
        {
            let head = self.tag.find('=').map_or(&**self.tag, |at| &self.tag[..=at]);
            return format!("{head}***").into();
        }
        // `http://user:password@host`
        if let Some((before, rest)) = self.tag.split_once("://")
            && let Some(at) = rest.split('/').next().and_then(|authority| authority.rfind('@'))
        {
            return format!("{before}://***{}", &rest[at..]).into();
        }
        self.tag.clone()
    }
}
