//! `PUT /api/providers/rest`: dynamic configuration through the API, as Traefik's REST provider takes it
//! (<https://doc.traefik.io/traefik/reference/install-configuration/providers/others/rest/>). A document is
//! taken whole, or refused with 400 and the reasons; then nothing changed.

use super::Admin;
use super::guard::{self, Ends};
use super::route::{Answer, json_with, message};
use crate::diagnostic::Diagnostic;
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;

/// Where documents are taken.
const PATH: &str = "/api/providers/rest";

/// What takes documents.
pub trait Documents: Send + Sync {
    /// Whether no token is asked for.
    fn insecure(&self) -> bool;
    /// Largest document in bytes.
    fn limit(&self) -> usize;
    /// Takes a document; gives the warnings, or why it is refused.
    fn put(&self, body: Vec<u8>) -> BoxFuture<'_, Result<Vec<Diagnostic>, Vec<Diagnostic>>>;
}

/// Whether a request is for this.
pub(super) fn is_for<B>(request: &Request<B>) -> bool {
    request.uri().path() == PATH
}

impl Admin {
    /// Takes the document of a request.
    pub(super) async fn put_rest<B>(&self, request: Request<B>, ends: Ends) -> Answer
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let refused = |status, text: &str| message(status, text);
        let Some(documents) = self.source.documents() else {
            return refused(StatusCode::NOT_FOUND, "404 page not found");
        };
        let loopback = ends.loopback();
        if !loopback && !self.options.insecure {
            let text = "only /ping and /metrics are served on this address; set `api.insecure` for the rest";
            return refused(StatusCode::FORBIDDEN, text);
        }
        if let Err((status, text)) = guard::browser(request.headers(), loopback) {
            return refused(status, &text);
        }
        if request.method() != Method::PUT {
            let mut answer = refused(StatusCode::METHOD_NOT_ALLOWED, "only PUT is possible here");
            answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("PUT"));
            return answer;
        }
        if !documents.insecure()
            && let Err((status, text)) = guard::token(request.headers(), self.options.token_file.as_deref(), ends).await
        {
            return refused(status, &text);
        }
        let body = match Limited::new(request.into_body(), documents.limit()).collect().await {
            Ok(body) => body.to_bytes(),
            Err(e) if e.is::<LengthLimitError>() => {
                return refused(StatusCode::PAYLOAD_TOO_LARGE, &format!("more than {} bytes", documents.limit()));
            }
            Err(e) => return refused(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {e}")),
        };
        match documents.put(body.into()).await {
            Ok(problems) => json_with(StatusCode::OK, &json!({"problems": problems})),
            Err(problems) => {
                let text = "the document is refused, nothing changed";
                json_with(StatusCode::BAD_REQUEST, &json!({"message": text, "problems": problems}))
            }
        }
    }
}
