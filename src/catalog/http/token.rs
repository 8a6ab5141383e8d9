//! The token: given, or read from a file and read again when the catalog refuses. A workload
//! identity is renewed on disk while the process runs.

use super::{Error, Product};
use crate::config::Token;
use crate::model::Secret;
use http::HeaderValue;
use http::header::HeaderName;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a file may take; it may be on a network file system that hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Larger files hold no token.
const MAX_BYTES: u64 = 64 << 10;

type Reading = JoinHandle<Result<Option<HeaderValue>, Error>>;

#[derive(Debug)]
pub(super) struct TokenStore {
    header: HeaderName,
    file: Option<PathBuf>,
    /// Marked sensitive: its `Debug` says so instead of printing it.
    value: Mutex<Option<HeaderValue>>,
    /// The one read of the file that is under way, on a thread of its own.
    reading: tokio::sync::Mutex<Option<Reading>>,
    /// The configured token cannot be sent.
    unfit: bool,
}

impl TokenStore {
    pub(super) fn new(product: Product, token: &Token) -> Self {
        let header = match product {
            Product::Nomad => HeaderName::from_static("x-nomad-token"),
            Product::Consul => HeaderName::from_static("x-consul-token"),
        };
        let (file, value) = match token {
            Token::None => (None, None),
            Token::Value(secret) => (None, header_value(secret).ok().flatten()),
            Token::File(path) => (Some(path.clone()), None),
        };
        let unfit = matches!(token, Token::Value(secret) if header_value(secret).is_err());
        Self { header, file, value: Mutex::new(value), reading: tokio::sync::Mutex::default(), unfit }
    }

    /// The header to send, if there is a token. A file is read the first time.
    pub(super) async fn current(&self) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        if self.unfit {
            return Err(Error::Token);
        }
        let mut value = self.value().clone();
        if value.is_none() && self.file.is_some() {
            value = self.read().await?;
            self.value().clone_from(&value);
        }
        Ok(value.map(|value| (self.header.clone(), value)))
    }

    /// After a refusal: reads the file again. True when it now holds another token.
    pub(super) async fn reread(&self, used: Option<&HeaderValue>) -> bool {
        if self.file.is_none() {
            return false;
        }
        // A file that cannot be read keeps the token; the refusal is what is reported then.
        let Ok(Some(fresh)) = self.read().await else { return false };
        let changed = used != Some(&fresh);
        *self.value() = Some(fresh);
        changed
    }

    fn value(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn read(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(path) = &self.file else { return Ok(None) };
        let outcome = async {
            let mut reading = self.reading.lock().await;
            let start = || {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read(&path))
            };
            let outcome = reading.get_or_insert_with(start).await;
            *reading = None;
            outcome.unwrap_or_else(|e| Err(unreadable(path, e.to_string())))
        };
        let hangs = |_| Err(unreadable(path, format!("it gave nothing within {PATIENCE:?}")));
        timeout(PATIENCE, outcome).await.unwrap_or_else(hangs)
    }
}

fn unreadable(path: &Path, reason: String) -> Error {
    Error::File { file: path.display().to_string(), reason }
}

fn read(path: &Path) -> Result<Option<HeaderValue>, Error> {
    let failed = |e: std::io::Error| unreadable(path, e.to_string());
    let mut text = String::new();
    let read =
        std::fs::File::open(path).map_err(failed)?.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > MAX_BYTES {
        return Err(unreadable(path, format!("it is larger than {MAX_BYTES} bytes")));
    }
    let unfit = |()| unreadable(path, "it holds no token that fits a header".into());
    header_value(&Secret::new(text.trim())).map_err(unfit)
}

fn header_value(secret: &Secret) -> Result<Option<HeaderValue>, ()> {
    if secret.is_empty() {
        return Ok(None);
    }
    let mut value = HeaderValue::from_str(secret.reveal()).map_err(|_| ())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_only_after_a_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let store = TokenStore::new(Product::Nomad, &Token::File(path.clone()));
        let (name, one) = store.current().await.unwrap().unwrap();
        assert_eq!((name.as_str(), one.to_str().unwrap()), ("x-nomad-token", "one"));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(store.current().await.unwrap().unwrap().1, "one");
        assert!(store.reread(Some(&one)).await);
        assert_eq!(store.current().await.unwrap().unwrap().1, "two");
        assert!(!store.reread(Some(&HeaderValue::from_static("two"))).await);
        std::fs::remove_file(&path).unwrap();
        assert!(!store.reread(Some(&one)).await, "an unreadable file keeps the token");
        assert_eq!(store.current().await.unwrap().unwrap().1, "two");
    }

    #[tokio::test]
    async fn a_token_with_a_line_break_is_refused_rather_than_left_out() {
        let store = TokenStore::new(Product::Nomad, &Token::Value(Secret::new("a\r\nX: y")));
        assert_eq!(store.current().await.unwrap_err(), Error::Token);
    }

    #[tokio::test]
    async fn a_missing_file_is_an_error_that_names_it_and_nothing_prints_a_token() {
        let store = TokenStore::new(Product::Consul, &Token::File("/nowhere/token".into()));
        assert!(store.current().await.unwrap_err().to_string().starts_with("cannot read `/nowhere/token`"));
        let store = TokenStore::new(Product::Consul, &Token::Value(Secret::new("hunter2")));
        assert_eq!(store.current().await.unwrap().unwrap().0, "x-consul-token");
        assert!(!format!("{store:?}").contains("hunter2"));
        assert!(TokenStore::new(Product::Nomad, &Token::None).current().await.unwrap().is_none());
    }

    /// A named pipe that nobody writes to: opening it hangs, as a file system may.
    #[tokio::test]
    async fn a_file_that_hangs_keeps_nobody_but_those_who_need_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let store = TokenStore::new(Product::Nomad, &Token::File(path.clone()));
        tokio::select! {
            biased;
            token = store.current() => panic!("{token:?}"),
            () = tokio::task::yield_now() => {}
        }
        // The read that is under way is taken up again, not begun a second time.
        let writer = tokio::task::spawn_blocking(move || std::fs::write(path, "late").unwrap());
        assert_eq!(store.current().await.unwrap().unwrap().1, "late");
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_file_without_end_is_refused() {
        let store = TokenStore::new(Product::Nomad, &Token::File("/dev/zero".into()));
        assert!(store.current().await.unwrap_err().to_string().contains("larger than 65536 bytes"));
    }
}
