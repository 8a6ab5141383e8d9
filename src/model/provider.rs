//! Who a definition comes from.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A source of definitions, named as Traefik's API names it.
/// Order is the order of precedence where nothing else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Built in: `api@internal`, control-plane sites, redirects.
    Internal,
    /// Files of dynamic configuration.
    File,
    /// `PUT /api/providers/rest`.
    Rest,
    /// Nomad's service catalog.
    Nomad,
    /// Consul's service catalog.
    ConsulCatalog,
}

impl Provider {
    /// The name behind the `@` of a qualified name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::File => "file",
            Self::Rest => "rest",
            Self::Nomad => "nomad",
            Self::ConsulCatalog => "consulcatalog",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
