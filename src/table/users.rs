//! Users with the hashes of their passwords, as `htpasswd` writes them: `name:hash`, one a line.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Users by name. Hashes are not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<Box<str>, Arc<str>>);

impl Users {
    /// Reads entries; gives the numbers of those that are none, counted from 1. Empty ones and
    /// comments are passed over, and what stands behind a second `:` is no part of the hash.
    pub fn read<'a>(entries: impl Iterator<Item = &'a str>) -> (Self, Vec<usize>) {
        let (mut users, mut bad) = (BTreeMap::new(), Vec::new());
        for (at, entry) in entries.enumerate() {
            let entry = entry.trim();
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            match entry.split_once(':') {
                Some((user, rest)) if !user.is_empty() && !rest.is_empty() => {
                    let hash = rest.split(':').next().unwrap_or_default();
                    users.insert(user.into(), hash.into());
                }
                _ => bad.push(at + 1),
            }
        }
        (Self(users), bad)
    }

    /// The hash of a user.
    pub fn hash(&self, user: &str) -> Option<&Arc<str>> {
        self.0.get(user)
    }

    /// The hash of whoever comes first.
    pub fn any(&self) -> Option<&Arc<str>> {
        self.0.values().next()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_files_and_prints_no_hash() {
        let text = "# team\nbob:$apr1$x$y\n\neve:{SHA}z:Eve\nnobody\n:x\nbob:$apr1$x$z\n";
        let (users, bad) = Users::read(text.lines());
        assert_eq!(bad, [5, 6]);
        let hash = |user| users.hash(user).map(|hash| &**hash);
        assert_eq!((hash("bob"), hash("eve"), hash("x")), (Some("$apr1$x$z"), Some("{SHA}z"), None));
        assert_eq!(format!("{users:?}"), "Users(2)");
    }
}
