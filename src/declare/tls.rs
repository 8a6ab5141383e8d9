//! Certificates, TLS options and certificate stores, and how servers are reached, as trees of their
//! options in Traefik's spelling. Certificates and the default certificate of files and of the API are served.

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
    /// Its chain and key: the names of files, or PEM text. `None` where one is missing, or it belongs to other stores than the
    /// default one: those serve nobody, as with Traefik.
    pub fn parts(&self) -> Option<(&str, &str)> {
        let stores = self.options.get("stores").and_then(|stores| stores.as_array()).filter(|all| !all.is_empty());
        let default = stores.is_none_or(|stores| stores.iter().any(|store| store == "default"));
        let part = |name: &str| self.options.get(name)?.as_str().filter(|text| !text.is_empty());
        Some((part("certFile")?, part("keyFile")?)).filter(|_| default)
    }
}

impl TlsStore {
    /// Chain and key of `defaultCertificate`: the names of files, or PEM text.
    pub fn default_certificate(&self) -> Option<(&str, &str)> {
        let default = self.options.get("defaultCertificate")?.as_object()?;
        let part = |name: &str| default.get(name)?.as_str().filter(|text| !text.is_empty());
        Some((part("certFile")?, part("keyFile")?))
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
