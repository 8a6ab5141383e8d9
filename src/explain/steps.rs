//! *Middlewares in*: what each middleware of the router does to a request, and whether the client is let
//! in at all. They are entered in the order in which the proxy enters them.

use super::report::{Report, Step};
use super::{Scene, masked};
use crate::http::{Exchange, HeaderValue, Made, StatusCode, name};
use crate::middleware;
use crate::model::Provider;
use crate::proxy::preview::Preview;
use crate::table::{Middleware, MiddlewareKind, Router};
use std::sync::Arc;

/// The variable whose addresses hold for every route that is not built in.
const ALLOWED: &str = "ALLOWED_REMOTE_IPS_SERVICES";

impl Scene {
    /// Runs the middlewares one by one. Gives the answer of the one that makes it, and its name.
    pub(super) fn enter(
        &self,
        router: &Router,
        preview: &mut Preview,
        report: &mut Report,
    ) -> Option<(Made, Option<Arc<str>>)> {
        let mut shut_out = self.shut_out(router, &preview.exchange, report);
        let redirects = |middleware: &Arc<Middleware>| matches!(middleware.kind, MiddlewareKind::RedirectScheme { .. });
        // a redirect to HTTPS is for everybody: there the refusal comes behind it
        let entry_point = preview.exchange.entry_point.clone();
        let chain = router.chain(&entry_point);
        let refused = shut_out.take_if(|_| !chain.first().is_some_and(redirects));
        let mut answer = refused.map(|made| (made, Some(Arc::from(ALLOWED))));
        for middleware in chain {
            let does = if answer.is_some() {
                "is not reached".to_owned()
            } else {
                let (made, does) = self.step(middleware, &mut preview.exchange);
                answer = made.map(|made| (made, Some(middleware.id.clone())));
                does
            };
            let definition = masked(serde_json::to_value(&middleware.kind).unwrap_or_default());
            report.middlewares.push(Step { middleware: middleware.id.clone(), definition, does });
        }
        answer.or_else(|| shut_out.map(|made| (made, Some(ALLOWED.into()))))
    }

    /// The refusal of a client that may not use services at all.
    fn shut_out(&self, router: &Router, exchange: &Exchange, report: &mut Report) -> Option<Made> {
        let allowed = self.admission.services.as_ref().filter(|_| router.provider != Provider::Internal)?;
        let all: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let all = all.join("`, `");
        let refused = middleware::peer_within(allowed, StatusCode::FORBIDDEN, exchange);
        let client = exchange.peer.ip();
        if refused.is_some() {
            report.remarks.push(format!("`{ALLOWED}` lets in `{all}` only, and the client is {client}"));
        } else if report.request.remote.is_empty() {
            report.remarks.push(format!("`{ALLOWED}` lets in `{all}` only; name a client with `--from`"));
        }
        refused
    }

    /// Runs one middleware. Gives its answer if it makes one, and what it did in words.
    fn step(&self, middleware: &Arc<Middleware>, exchange: &mut Exchange) -> (Option<Made>, String) {
        let uri = exchange.request.request_uri().into_owned();
        let host = exchange.host.clone();
        let named = exchange.request.headers.get(&name::AUTHORIZATION).is_some();
        let files = self.admission.user_files.clone().unwrap_or_default();
        let made = middleware::enter(std::slice::from_ref(middleware), exchange, &files);
        let does = match (&middleware.kind, &made) {
            (MiddlewareKind::BasicAuth { users, users_file, .. }, Some(made))
                if made.head.status == StatusCode::UNAUTHORIZED =>
            {
                let read = self.admission.user_files.as_ref();
                let read = read.map(|files| files.current().contains_key(users_file));
                let what = if named { "does not take this user and password" } else { "asks for a password" };
                match (&**users_file, read) {
                    ("", _) if users.is_empty() => format!("{what}: it has no users, so nobody is let in"),
                    ("", _) => what.to_owned(),
                    (file, Some(true)) => format!("{what}; users are in `{file}`"),
                    (file, Some(false)) => format!("{what}; `{file}` could not be read, so its users are not let in"),
                    (file, None) => format!("{what}; the users in `{file}` are not read offline"),
                }
            }
            (MiddlewareKind::BasicAuth { .. }, None) => "lets this user in".to_owned(),
            _ => effect(made.as_ref(), exchange, &uri, host.as_ref()),
        };
        (made, does)
    }
}

/// What a middleware did to a request that had this path and Host before.
fn effect(made: Option<&Made>, exchange: &Exchange, uri: &str, host: Option<&HeaderValue>) -> String {
    let now = exchange.request.request_uri();
    match made {
        Some(made) => {
            let status = made.head.status.as_u16();
            match made.head.headers.text(&name::LOCATION) {
                Some(location) => format!("answers {status}, a redirect to {location}"),
                None => format!("answers {status}: {}", made.text.trim()),
            }
        }
        None if *now != *uri => format!("`{uri}` becomes `{now}`"),
        None if exchange.host.as_ref() != host => {
            let host = exchange.host.as_ref().map(|h| String::from_utf8_lossy(h.as_bytes()).into_owned());
            format!("the server gets the Host `{}`", host.unwrap_or_default())
        }
        None => "lets it pass as it is".to_owned(),
    }
}
