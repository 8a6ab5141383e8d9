//! `/api/explain`: where a request goes and why, or what became of a service. A question is read within bounds
//! and answered on a thread of its own over the published snapshot, few at once, so that neither requests nor
//! the control loop wait for it.

use super::Admin;
use super::guard::Refusal;
use super::page::decode;
use crate::explain::{MAX_BODY, MAX_HEADERS, MAX_URL, Question};
use http::StatusCode;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;

/// Questions that are answered at once; more wait.
pub(super) const AT_ONCE: usize = 2;
/// How long a question waits for those before it, and for its own body.
const WAIT: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Request(Box<Question>),
    Service(String),
}

/// The body of a POST.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    method: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    from: String,
    #[serde(default)]
    service: Option<String>,
}

impl Said {
    fn asked(self) -> Result<Asked, Refusal> {
        let Self { method, url, scheme, headers, from, service } = self;
        match service {
            Some(_) if !url.is_empty() => Err(bad("`service` and `url` cannot be asked for together")),
            Some(name) if name.len() > MAX_URL => Err(bad("the name is too long")),
            Some(name) => Ok(Asked::Service(name)),
            None if url.is_empty() => Err(bad("name a `url` (and `method`), or a `service`")),
            None => {
                let mut question = Question::of_url(&method, &url, headers, &from).map_err(|e| bad(&e))?;
                match scheme.as_str() {
                    "" => {}
                    "http" | "https" => question.scheme = scheme,
                    _ => return Err(bad("`scheme` is `http` or `https`")),
                }
                Ok(Asked::Request(Box::new(question)))
            }
        }
    }
}

fn bad(message: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, message.to_owned())
}

/// Reads `method`, `url`, `from`, `header` (several times) and `service` of a query.
pub(super) fn of_query(query: &str) -> Result<Asked, Refusal> {
    let mut said = Said {
        method: String::new(),
        url: String::new(),
        scheme: String::new(),
        headers: Vec::new(),
        from: String::new(),
        service: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value, true);
        match &*decode(key, true) {
            "method" => said.method = value,
            "url" => said.url = value,
            "from" => said.from = value,
            "service" => said.service = Some(value),
            "header" => {
                let Some((name, value)) = value.split_once(':') else {
                    return Err(bad("expected `header=NAME: VALUE`"));
                };
                said.headers.push((name.trim().to_owned(), value.trim().to_owned()));
                if said.headers.len() > MAX_HEADERS {
                    return Err(bad("there are too many headers"));
                }
            }
            other => {
                let known = "`method`, `url`, `from`, `header`, `service`";
                return Err(bad(&format!("unknown parameter `{}`; there are {known}", other.escape_debug())));
            }
        }
    }
    said.asked()
}

/// Reads the JSON of a POST.
pub(super) async fn of_body<B: Body>(body: B) -> Result<Asked, Refusal>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let read = match timeout(WAIT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(read) => read,
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned())),
    };
    let bytes = match read {
        Ok(read) => read.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {MAX_BODY} bytes")));
        }
        Err(_) => return Err(bad("the body broke off")),
    };
    let said: Said =
        serde_json::from_slice(&bytes).map_err(|error| bad(&format!("the body is no question: {error}")))?;
    said.asked()
}

impl Admin {
    /// Answers as JSON.
    pub(super) async fn explain(&self, asked: Asked) -> Result<Vec<u8>, Refusal> {
        let busy = || (StatusCode::SERVICE_UNAVAILABLE, "too many questions are being answered; ask again".to_owned());
        let permit = match timeout(WAIT, self.explaining.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            _ => return Err(busy()),
        };
        let source = self.source.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let (scene, servers) = source.scene();
            let told = match &asked {
                Asked::Request(question) => serde_json::to_vec(&scene.ask(question, &*servers)),
                Asked::Service(name) => serde_json::to_vec(&scene.service(name, &*servers)),
            };
            told.map(|mut text| {
                text.push(b'\n');
                text
            })
        });
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a question of why could not be answered");
            (StatusCode::INTERNAL_SERVER_ERROR, "the question could not be answered, see the log".to_owned())
        };
        answer.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let asked =
            of_query("method=POST&url=https%3A%2F%2Fa.example%2Fx%3Fy%3D1&from=192.0.2.1&header=X-A:+b").unwrap();
        let Asked::Request(question) = asked else { panic!("{asked:?}") };
        assert_eq!((&*question.method, &*question.target, &*question.scheme), ("POST", "/x?y=1", "https"));
        assert_eq!(question.headers[1], ("X-A".to_owned(), "b".to_owned()));
        assert_eq!(of_query("service=shop").unwrap(), Asked::Service("shop".to_owned()));
        for wrong in ["", "url=ftp://a", "ulr=http://a/", "service=a&url=http://a/", "url=http://a/&header=x"] {
            assert_eq!(of_query(wrong).unwrap_err().0, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
