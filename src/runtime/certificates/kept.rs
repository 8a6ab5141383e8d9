//! Where ordered certificates are kept: the certificate directory, or Consul with its mirror in the state directory.

use crate::catalog::Timing;
use crate::catalog::http::{Agent, Product};
use crate::certs::storage::{ConsulScope, ConsulStorage, ConsulToken, Storage};
use crate::certs::{Mirror, Store as Certificates};
use crate::config::{CertificateStore, ConsulProvider, Settled, Token};
use crate::runtime::{StartError, absolute, system};
use std::path::PathBuf;

/// The provider whose agent keeps them.
const PROVIDER: &str = "consulCatalog";

/// Where they are kept, and where the store of certificates finds them.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Kept {
    pub storage: Storage,
    /// Absolute.
    pub root: PathBuf,
    /// What keeps `root` as the storage is, where that is elsewhere. Serves whether somebody orders or not.
    pub mirror: Option<Mirror>,
}

/// The directory of the mirror, where there is one.
pub(in crate::runtime) fn mirror_root(settled: &Settled) -> Option<PathBuf> {
    match settled.certificates.store {
        CertificateStore::Directory => None,
        CertificateStore::Consul(_) => Some(absolute(&settled.own.state_dir).join("consul-certificates")),
    }
}

impl Kept {
    /// As it is configured. Asks nothing yet; the mirror begins.
    ///
    /// # Errors
    /// The agent of `providers.consulCatalog` makes no sense, or no thread can be had.
    pub fn of(settled: &Settled, certificates: &Certificates) -> Result<Self, StartError> {
        let directory = || {
            let root = absolute(&settled.certificates.directory);
            Self { storage: Storage::directory(root.clone()), root, mirror: None }
        };
        let (CertificateStore::Consul(prefix), Some(root)) = (&settled.certificates.store, mirror_root(settled)) else {
            return Ok(directory());
        };
        let wrong = |message: String| StartError::Provider { provider: PROVIDER, message };
        // The configuration has made sure of it.
        let off = || wrong("it is off, and certificates are to be kept there".to_owned());
        let provider = settled.consul.as_ref().ok_or_else(off)?;
        let options = options(provider, prefix).map_err(wrong)?;
        let storage = Storage::consul(options).map_err(system("the thread that asks Consul for certificates"))?;
        let mirror = Mirror::start(storage.clone(), root.clone(), certificates.clone());
        let mirror = mirror.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { storage, root, mirror: Some(mirror) })
    }
}

/// Consul as the catalog is read from it. Of several namespaces keys are in the first.
fn options(provider: &ConsulProvider, prefix: &str) -> Result<ConsulStorage, String> {
    let agent = Agent::new(Product::Consul, &provider.common, Timing::default());
    let (client, address) = agent.and_then(|agent| agent.client()).map_err(|error| error.to_string())?;
    Ok(ConsulStorage {
        address,
        token: match &provider.common.token {
            Token::None => ConsulToken::None,
            Token::Value(secret) => ConsulToken::Value(secret.clone()),
            Token::File(file) => ConsulToken::File(file.clone()),
        },
        prefix: prefix.to_owned(),
        scope: ConsulScope {
            namespace: provider.namespaces.first().cloned().unwrap_or_default(),
            partition: provider.partition.clone(),
            datacenter: provider.datacenter.clone(),
        },
        client,
    })
}
