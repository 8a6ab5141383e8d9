//! How an agent's HTTP API is asked: one [`Agent`] per catalog, [`Lane`]s for reads one after
//! another, [`Parked`] queries for the many that only wait.
//!
//! What always holds: every request has a deadline and every answer a largest size; a redirect is
//! not followed and an HTTP proxy of the environment not used (both would carry the token away);
//! the token travels in a header and is in no error and no log line.

mod answer;
mod endpoint;
mod lane;
mod parked;
mod token;

pub use answer::{Answer, Error, MAX_BODY, Meta};
pub use endpoint::Endpoint;
pub use lane::{Lane, Lines, Turn};
pub use parked::Parked;

use super::Timing;
use crate::config::CatalogCommon;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use token::TokenStore;
use tokio::sync::Semaphore;

/// Whose API it is: which names its headers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// `X-Nomad-…`.
    Nomad,
    /// `X-Consul-…`.
    Consul,
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    product: Product,
    endpoint: Endpoint,
    tls: crate::config::ClientTls,
    pem: lane::Pem,
    token: TokenStore,
    timing: Timing,
    open: Arc<AtomicUsize>,
    /// Bounds how many parked queries connect or read at a time, and thereby their memory.
    busy: Semaphore,
    shards: parked::Shards,
}

/// Parked queries that connect or read an answer at the same time.
const BUSY: usize = 16;

impl Agent {
    /// The agent that a provider's configuration names. Nothing is opened yet.
    ///
    /// # Errors
    /// An endpoint that is no address; TLS files that cannot be read or parsed.
    pub fn new(product: Product, common: &CatalogCommon, timing: Timing) -> Result<Self, Error> {
        let endpoint = Endpoint::parse(&common.endpoint)?;
        let pem = lane::Pem::read(&endpoint, &common.tls)?;
        let agent = Self {
            inner: Arc::new(Inner {
                product,
                endpoint,
                tls: common.tls.clone(),
                pem,
                token: TokenStore::new(product, &common.token),
                timing,
                open: Arc::default(),
                busy: Semaphore::new(BUSY),
                shards: parked::Shards::default(),
            }),
        };
        lane::client(&agent)?;
        Ok(agent)
    }

    /// A lane: holds at most one connection as long as it is asked one thing at a time.
    ///
    /// # Errors
    /// TLS that cannot be set up.
    pub fn lane(&self) -> Result<Lane, Error> {
        Lane::new(self)
    }

    /// A query that mostly waits.
    ///
    /// # Errors
    /// TLS that cannot be set up.
    pub fn parked(&self) -> Result<Parked, Error> {
        Parked::new(self)
    }

    /// A client for questions of somebody else's to this agent, and what their URLs start with. It sends no token.
    ///
    /// # Errors
    /// TLS that cannot be set up.
    pub fn client(&self) -> Result<(reqwest::Client, String), Error> {
        Ok((lane::client(self)?, lane::base(self)))
    }

    /// Connections open now. Exact for parked queries over plain TCP; a lane counts as one from
    /// its first answer until it fails, is closed by the server or is dropped.
    pub fn connections(&self) -> usize {
        self.inner.open.load(Ordering::Relaxed)
    }

    /// The address, without credentials.
    pub fn address(&self) -> &str {
        self.inner.endpoint.shown()
    }

    fn count(&self) -> Counted {
        self.inner.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.inner.open.clone())
    }
}

/// One open connection in the count, as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Escapes a name for use as a path segment or as a parameter's value (RFC 3986, section 2.3).
pub fn escape(text: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
pub(super) mod testing;

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_everything_that_could_end_a_segment() {
        assert_eq!(super::escape("web-1.a_b~*"), "web-1.a_b~*");
        assert_eq!(super::escape("a/b?c d\r\n%é"), "a%2Fb%3Fc%20d%0D%0A%25%C3%A9");
    }
}
