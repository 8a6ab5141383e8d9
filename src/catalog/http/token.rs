//! The token: given, or read from a file and read again when the catalog refuses. A workload
//! identity is renewed on disk while the process runs.

use super::{Error, Product};
use crate::config::Token;
use crate::model::Secret;
use http::HeaderValue;
use http::header::HeaderName;
use std::path::PathBuf;
use std::sync::Mutex;

#[derive(Debug)]
pub(super) struct TokenStore {
    header: HeaderName,
    file: Option<PathBuf>,
    /// Marked sensitive: its `Debug` says so instead of printing it.
    value: Mutex<Option<HeaderValue>>,
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
        Self { header, file, value: Mutex::new(value), unfit }
    }

    /// The header to send, if there is a token. A file is read the first time.
    pub(super) fn current(&self) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        if self.unfit {
            return Err(Error::Token);
        }
        let mut value = self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (None, Some(_)) = (&*value, &self.file) {
            *value = self.read()?;
        }
        Ok(value.clone().map(|value| (self.header.clone(), value)))
    }

    /// After a refusal: reads the file again. True when it now holds another token.
    pub(super) fn reread(&self, used: Option<&HeaderValue>) -> bool {
        if self.file.is_none() {
            return false;
        }
        // A file that cannot be read keeps the token; the refusal is what is reported then.
        let Ok(Some(fresh)) = self.read() else { return false };
        let changed = used != Some(&fresh);
        *self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(fresh);
        changed
    }

    fn read(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(path) = &self.file else { return Ok(None) };
        let error = |reason: String| Error::File { file: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        header_value(&Secret::new(text.trim())).map_err(|()| error("it holds no token that fits a header".into()))
    }
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

    #[test]
    fn a_file_is_read_again_only_after_a_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let store = TokenStore::new(Product::Nomad, &Token::File(path.clone()));
        let (name, one) = store.current().unwrap().unwrap();
        assert_eq!((name.as_str(), one.to_str().unwrap()), ("x-nomad-token", "one"));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(store.current().unwrap().unwrap().1, "one");
        assert!(store.reread(Some(&one)));
        assert_eq!(store.current().unwrap().unwrap().1, "two");
        assert!(!store.reread(Some(&HeaderValue::from_static("two"))));
        std::fs::remove_file(&path).unwrap();
        assert!(!store.reread(Some(&one)), "an unreadable file keeps the token");
        assert_eq!(store.current().unwrap().unwrap().1, "two");
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_rather_than_left_out() {
        let store = TokenStore::new(Product::Nomad, &Token::Value(Secret::new("a\r\nX: y")));
        assert_eq!(store.current().unwrap_err(), Error::Token);
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it_and_nothing_prints_a_token() {
        let store = TokenStore::new(Product::Consul, &Token::File("/nowhere/token".into()));
        assert!(store.current().unwrap_err().to_string().starts_with("cannot read `/nowhere/token`"));
        let store = TokenStore::new(Product::Consul, &Token::Value(Secret::new("hunter2")));
        assert_eq!(store.current().unwrap().unwrap().0, "x-consul-token");
        assert!(!format!("{store:?}").contains("hunter2"));
        assert!(TokenStore::new(Product::Nomad, &Token::None).current().unwrap().is_none());
    }
}
