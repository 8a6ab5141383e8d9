//! Certificates, TLS options and certificate stores, and how servers are reached, as trees of their
//! options in Traefik's spelling. Of these, certificates that are named by their files and transports of
//! HTTP services are served; the others are declared and printed.

use super::{Options, Source};
use crate::model::Map;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The `tls` section (<https://doc.traefik.io/traefik/https/tls/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// Certificates with their keys, by the names of files or as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Arc<TlsCertificate>>,
    /// TLS options by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<Arc<str>, TlsOptions>,
    /// Certificate stores by name; there is only `default`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub stores: Map<Arc<str>, TlsStore>,
}

impl TlsCertificate {
    /// The files of its chain and key; `None` where it stands there as text, or belongs to another store
    /// than the default one: then it is not served yet.
    pub fn files(&self) -> Option<(&str, &str)> {
        let file = |name: &str| {
            let text = self.options.get(name)?.as_str()?;
            (!text.is_empty() && !text.contains('\n') && !text.contains("-----BEGIN")).then_some(text)
        };
        let stores = self.options.get("stores").and_then(|stores| stores.as_array());
        let default = stores.is_none_or(|stores| stores.iter().all(|store| store == "default"));
        Some((file("certFile")?, file("keyFile")?)).filter(|_| default)
    }
}

macro_rules! tree_of_options {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name {
            /// Its options.
            pub options: Options,
            /// Where it was declared, for messages; not part of what it is.
            #[serde(skip)]
            pub source: Source,
        }
    };
}

tree_of_options!(
    /// A certificate: `certFile`, `keyFile`, `stores`.
    TlsCertificate
);
tree_of_options!(
    /// TLS options: versions, cipher suites, client certificates.
    TlsOptions
);
tree_of_options!(
    /// A certificate store: `defaultCertificate`, `defaultGeneratedCert`.
    TlsStore
);
tree_of_options!(
    /// How servers are reached: TLS, time-outs.
    ServersTransport
);
