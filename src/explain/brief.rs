//! The way of a request without the reasons: what happens to it, for those who compare many. It is the walk of
//! [`Scene::ask`](super::Scene::ask) by the same functions; what passwords are known is left open.

use super::{Door, Question};
use crate::http::{StatusCode, name};
use crate::middleware::{self, UserFiles};
use crate::proxy::preview::Preview;
use crate::table::{MiddlewareKind, Router, Table};
use std::sync::Arc;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    /// The router that takes it.
    pub router: Option<Arc<Router>>,
    /// Files of users that its client has to be in, with their realms; who is, goes on.
    pub auth: Vec<(Arc<str>, Arc<str>)>,
    /// How it ends.
    pub end: End,
}

/// How a request ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// No router takes it, or the one that does has nothing for it.
    NoRoute,
    /// It is no request.
    Bad(u16),
    /// The client is not let in.
    Denied(u16),
    /// It is sent elsewhere.
    Redirect {
        /// Status.
        status: u16,
        /// Target.
        location: String,
    },
    /// A server of the router's service gets it.
    Served {
        /// Path and query.
        uri: String,
        /// Its Host; the server's own address where the service does not pass it.
        host: Option<String>,
    },
    /// The proxy answers otherwise.
    Made(u16),
}

impl Door {
    /// What a table does to a request that came in here.
    pub fn brief(&self, table: &Table, question: &Question) -> Brief {
        let tls = question.scheme.eq_ignore_ascii_case("https");
        match self.arrive(question) {
            Ok(mut preview) => {
                let router = table.find(&self.name, tls, &preview.view()).cloned();
                self.pass(router, &mut preview)
            }
            Err(end) => Brief { router: None, auth: Vec::new(), end },
        }
    }

    /// What two tables do to one request: as [`Self::brief`] of each, read once where that is enough.
    pub fn briefs(&self, tables: [&Table; 2], question: &Question) -> [Brief; 2] {
        let tls = question.scheme.eq_ignore_ascii_case("https");
        let none = |end| Brief { router: None, auth: Vec::new(), end };
        let mut preview = match self.arrive(question) {
            Ok(preview) => preview,
            Err(end) => return [none(end.clone()), none(end)],
        };
        let [first, second] = tables.map(|table| table.find(&self.name, tls, &preview.view()).cloned());
        // middlewares change what they pass on
        let changes = first.as_ref().is_some_and(|router| !router.chain(&self.name).is_empty());
        let first = self.pass(first, &mut preview);
        if changes && second.is_some() {
            return match self.arrive(question) {
                Ok(mut again) => [first, self.pass(second, &mut again)],
                Err(end) => [first, none(end)],
            };
        }
        [first, self.pass(second, &mut preview)]
    }

    fn arrive(&self, question: &Question) -> Result<Preview, End> {
        let tls = question.scheme.eq_ignore_ascii_case("https");
        let peer = question.peer();
        let trusted = self.trust.believes(peer.ip());
        Preview::arrive(question.sent(), &self.name, peer, tls, trusted, &self.head)
            .map_err(|made| End::Bad(made.head.status.as_u16()))
    }

    /// What a router's middlewares make of a request.
    fn pass(&self, router: Option<Arc<Router>>, preview: &mut Preview) -> Brief {
        let Some(router) = router else { return Brief { router: None, auth: Vec::new(), end: End::NoRoute } };
        let mut brief = Brief { router: None, auth: Vec::new(), end: End::NoRoute };
        let files = UserFiles::default();
        for one in router.chain(&self.name) {
            if let MiddlewareKind::BasicAuth { users_file, realm, .. } = &one.kind {
                brief.auth.push((users_file.clone(), realm.clone()));
                continue;
            }
            let Some(made) = middleware::enter(std::slice::from_ref(one), &mut preview.exchange, &files) else {
                continue;
            };
            let status = made.head.status;
            brief.end = match status {
                status if status.is_redirection() => End::Redirect {
                    status: status.as_u16(),
                    location: made.head.headers.text(&name::LOCATION).unwrap_or_default().to_owned(),
                },
                StatusCode::FORBIDDEN => End::Denied(status.as_u16()),
                StatusCode::NOT_FOUND => End::NoRoute,
                status => End::Made(status.as_u16()),
            };
            brief.router = Some(router);
            return brief;
        }
        let host = router.service.pass_host_header.then(|| {
            let host = preview.exchange.host_for(true, "");
            String::from_utf8_lossy(host).into_owned()
        });
        brief.end = End::Served { uri: preview.exchange.request.request_uri().into_owned(), host };
        brief.router = Some(router);
        brief
    }
}
