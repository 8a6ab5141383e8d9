//! For the tests of this folder: an agent, and the recorded exchanges.

use super::{Agent, Meta, Product};
use crate::catalog::Timing;
use crate::config::{CatalogCommon, ClientTls, ConsulProvider, LegacyMode, LegacyTags, Token};

/// An agent at an address, with everything else by default.
pub(in crate::catalog) fn agent(product: Product, address: &str) -> Agent {
    // Another test may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Agent::new(product, &common(address), Timing::default()).unwrap()
}

pub(in crate::catalog) fn common(address: &str) -> CatalogCommon {
    CatalogCommon {
        endpoint: address.to_owned(),
        tls: ClientTls::default(),
        token: Token::None,
        stale: false,
        exposed_by_default: false,
        default_rule: String::new(),
        prefix: "traefik".into(),
        constraints: String::new(),
        legacy_tags: LegacyTags {
            mode: LegacyMode::Off,
            prefix: String::new(),
            dialects: Vec::new(),
            matcher: String::new(),
            glob_disabled: false,
            service_status: Vec::new(),
            all_checks: false,
        },
    }
}

/// Real exchanges, kept with the tests.
pub(in crate::catalog) struct Recording(serde_json::Value);

/// One of them.
pub(in crate::catalog) struct Exchange<'a>(&'a serde_json::Value);

/// All recordings of a product.
pub(in crate::catalog) fn recordings(product: &str) -> Vec<Recording> {
    let directory = format!("{}/tests/recordings/{product}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| Recording::read(product, file.unwrap().file_name().to_str().unwrap())).collect()
}

impl Recording {
    pub(in crate::catalog) fn read(product: &str, file: &str) -> Self {
        let path = format!("{}/tests/recordings/{product}/{file}", env!("CARGO_MANIFEST_DIR"));
        Self(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    pub(in crate::catalog) fn all(&self) -> impl Iterator<Item = Exchange<'_>> {
        self.0["exchanges"].as_array().unwrap().iter().map(Exchange)
    }

    /// GETs that were answered 200 with JSON that was kept.
    pub(in crate::catalog) fn good(&self) -> impl Iterator<Item = Exchange<'_>> {
        self.all().filter(|e| {
            let response = &e.0["response"];
            e.0["request"]["line"].as_str().unwrap().starts_with("GET ")
                && response["status"] == 200
                && (response.get("body_json").is_some() || response.get("body_ndjson").is_some())
        })
    }

    pub(in crate::catalog) fn measurements(&self) -> &serde_json::Value {
        &self.0["measurements"]
    }
}

impl Exchange<'_> {
    pub(in crate::catalog) fn path(&self) -> &str {
        self.0["request"]["line"].as_str().unwrap().split(' ').nth(1).unwrap()
    }

    pub(in crate::catalog) fn body(&self) -> String {
        self.0["response"]["body_json"].to_string()
    }

    pub(in crate::catalog) fn lines(&self) -> Vec<String> {
        match self.0["response"].get("body_ndjson") {
            Some(lines) => lines.as_array().unwrap().iter().map(ToString::to_string).collect(),
            None => vec![self.body()],
        }
    }

    pub(in crate::catalog) fn meta(&self, product: Product) -> Meta {
        let mut headers = http::HeaderMap::new();
        for header in self.0["response"]["headers"].as_array().unwrap() {
            let name = http::HeaderName::from_bytes(header[0].as_str().unwrap().as_bytes()).unwrap();
            headers.append(name, header[1].as_str().unwrap().parse().unwrap());
        }
        Meta::read(product, &headers)
    }
}

/// Routed are services with a tag that begins with `traefik.`, or `all`.
pub(in crate::catalog) fn spawn(all: bool) -> crate::catalog::Spawn {
    crate::catalog::Spawn {
        routing: std::sync::Arc::new(|tag| tag.starts_with("traefik.")),
        all,
        reset_hold: std::time::Duration::from_secs(600),
        before: None,
        shutdown: tokio_util::sync::CancellationToken::new(),
        timing: Timing::default(),
    }
}

/// A Consul provider with everything by default.
pub(in crate::catalog) fn consul(address: &str, watch_connections: usize) -> ConsulProvider {
    ConsulProvider {
        common: common(address),
        namespaces: Vec::new(),
        partition: String::new(),
        datacenter: String::new(),
        strict_checks: Vec::new(),
        watch_connections,
    }
}
