//! Certificates that configuration names one by one, instead of those that lie in the directory.

use crate::model::Secret;
use std::path::PathBuf;

/// A chain or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file, absolute.
    File(PathBuf),
    /// The PEM text itself.
    Text(Secret),
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The chain, its own certificate first.
    pub chain: Content,
    /// The private key.
    pub key: Content,
    /// Answers every host that no other certificate names (`defaultCertificate` of the default store); otherwise those that it
    /// names.
    pub default: bool,
    /// Where it was named, for messages about one that is no file.
    pub place: PathBuf,
}

impl Named {
    /// Two files that answer the hosts that they name.
    pub fn files(chain: PathBuf, key: PathBuf) -> Self {
        let place = chain.clone();
        Self { chain: Content::File(chain), key: Content::File(key), default: false, place }
    }

    pub(super) fn file(&self) -> &PathBuf {
        match &self.chain {
            Content::File(file) => file,
            Content::Text(_) => &self.place,
        }
    }

    /// Its files.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [&self.chain, &self.key].into_iter().filter_map(|content| match content {
            Content::File(file) => Some(file.clone()),
            Content::Text(_) => None,
        })
    }

    /// Whether this file is a part of it.
    pub(super) fn is_of(&self, file: &std::path::Path) -> bool {
        [&self.chain, &self.key].into_iter().any(|content| matches!(content, Content::File(own) if own == file))
    }
}
