//! Who decides whether a certificate may be ordered on demand: HinD's `ON_DEMAND_TLS_ASK`, asked as Caddy does
//! (`GET URL?domain=<name>`; 200 allows, <https://caddyserver.com/docs/caddyfile/options#on-demand-tls>).

use reqwest::{Client, StatusCode, Url, redirect};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether a certificate may be ordered, and why not.
pub(super) type Answer = Result<(), Arc<str>>;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    url: Url,
    client: Client,
}

impl Gate {
    /// One that asks there.
    ///
    /// # Errors
    /// The URL makes no sense, or no client can be made.
    pub fn new(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let client = Client::builder().timeout(LIMIT).redirect(redirect::Policy::none()).no_proxy().build();
        Ok(Self { url, client: client.map_err(|error| error.to_string())? })
    }

    /// Whether a name may have a certificate.
    ///
    /// # Errors
    /// Why not.
    pub async fn ask(&self, name: &str) -> Answer {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("domain", name);
        match self.client.get(url).send().await {
            Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
            Ok(answer) => Err(format!("who is asked answered {}", answer.status()).into()),
            // its text would name the URL, which may hold a token
            Err(error) if error.is_timeout() => Err("who is asked does not answer in time".into()),
            Err(_) => Err("who is asked cannot be reached".into()),
        }
    }
}
