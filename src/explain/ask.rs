//! What would happen to a request: the stages of the proxy one after another, without a socket.

use super::Question;
use super::choose::{self, Chooser};
use super::report::{Answer, Backend, Candidate, Concerned, Fail, Named, Report, Seen, ServerNow, Upstream};
use super::scene::{Door, Scene, Servers};
use crate::diagnostic::Diagnostic;
use crate::http::{Made, Reason, StatusCode, name, split_port};
use crate::middleware::Redirection;
use crate::model::Provider;
use crate::proxy::preview::Preview;
use crate::table::{self, Explanation, Failure, RequestView, Router, Service};
use std::sync::Arc;

/// Problems, services and routers are named up to this number each.
const MAX_NAMED: usize = 10;
/// Errors of files are named up to this number where nothing speaks of the host.
const MAX_OF_FILES: usize = 3;
/// Routers that were asked are named up to this number: the last ones.
const MAX_ASKED: usize = 50;

impl Scene {
    /// The way of a request.
    pub fn ask(&self, question: &Question, servers: &dyn Servers) -> Report {
        let mut report = Report { request: question.clone(), url: question.url(), ..Report::default() };
        report.answer.id.clone_from(&question.id);
        report.catalogs = self.catalogs.iter().filter(|catalog| !catalog.is_well()).cloned().collect();
        self.walk(question, servers, &mut report);
        report.says = says(&report);
        report
    }

    fn walk(&self, question: &Question, servers: &dyn Servers, report: &mut Report) {
        let tls = question.scheme.eq_ignore_ascii_case("https");
        report.tls = tls;
        let Some(door) = self.door(question, tls, &mut report.remarks) else {
            report.remarks.push("there is no entry point".to_owned());
            return report.end(&Made::not_found(Reason::NoRoute));
        };
        report.entry_point = door.name.clone();
        let forwarded = |(name, _): &(String, String)| name.to_ascii_lowercase().starts_with("x-forwarded-");
        if door.trust.everybody && question.headers.iter().any(forwarded) {
            report.remarks.push(format!("the entry point `{}` believes everybody's `X-Forwarded-*`", door.name));
        }
        let peer = question.peer();
        let trusted = door.trust.believes(peer.ip());
        let arrived = Preview::arrive(question.sent(), &door.name, peer, tls, trusted, &door.head);
        let mut preview = match arrived {
            Ok(preview) => preview,
            Err(made) => return report.end(&made),
        };
        let yields = |redirect: &&Redirection| {
            let router = || self.table.find(&door.name, tls, &preview.view()).map(|router| router.priority);
            redirect.yields() && router().is_some_and(|priority| priority > redirect.priority)
        };
        let redirect = door.redirect.as_ref().filter(|redirect| !yields(redirect));
        if let Some(made) = redirect.and_then(|redirect| redirect.answer(&preview.exchange)) {
            report.remarks.push(format!("the entry point `{}` redirects every request", door.name));
            return report.end(&made);
        }
        let taken = {
            let view = preview.view();
            report.seen = Some(Seen { host: view.host().to_owned(), path: view.path().to_owned() });
            let table = self.secure.as_ref().filter(|_| tls).unwrap_or(&self.table);
            let explanation = table.explain(&door.name, tls, &view);
            self.routers(&explanation, door, tls, &view, report);
            explanation.taken
        };
        if let Some(to_tls) = door.to_tls.as_ref().filter(|_| !tls) {
            let certified = report.seen.as_ref().is_some_and(|seen| (to_tls.certified)(&seen.host));
            if (taken.is_none() || certified)
                && let Some(made) = to_tls.redirection.answer(&preview.exchange)
            {
                let why = if certified { "there is a certificate for the host" } else { "no router takes the request" };
                report.remarks.push(format!("the entry point `{}` redirects to HTTPS: {why}", door.name));
                return report.end(&made);
            }
        }
        let Some(router) = taken else {
            self.concern(None, report);
            return report.end(&Made::not_found(Reason::NoRoute));
        };
        report.answer.router = Some(router.id.clone());
        report.answer.service = Some(router.service.id.clone());
        if let Err(made) = preview.encoded() {
            report.remarks.push(format!("the entry point `{}` refuses encoded characters of the path", door.name));
            return report.end(&made);
        }
        let made = self.enter(&router, &mut preview, report);
        report.backend = Some(backend(&router.service, servers));
        match made {
            Some((made, by)) => {
                report.by = by;
                report.end(&made);
            }
            None => send(&router.service, &preview, servers, question.repeat, report),
        }
        self.concern(Some(&router), report);
    }

    /// Where a request comes in: at the port that it names, else its scheme's; a port that nobody listens on
    /// is taken for one that is mapped to the scheme's.
    fn door(&self, question: &Question, tls: bool, remarks: &mut Vec<String>) -> Option<&Door> {
        let host = question.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let authority = question.target.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
        let authority = authority.or(host.map(|(_, host)| host.as_str())).unwrap_or_default();
        let named = split_port(authority).1.and_then(|port| port.parse::<u16>().ok());
        let of_scheme = if tls { 443 } else { 80 };
        let at = |port: u16| self.doors.iter().find(|door| door.port == port);
        let by_name = |name: &str| self.doors.iter().find(|door| *door.name == *name);
        if let Some(door) = named.and_then(at) {
            return Some(door);
        }
        let by_kind = || self.doors.iter().find(|door| door.tls == tls);
        let door = at(of_scheme).or_else(|| by_name(if tls { "websecure" } else { "web" })).or_else(by_kind);
        let door = door.or(self.doors.first())?;
        if let Some(port) = named.filter(|port| *port != of_scheme) {
            let all: Vec<String> = self.doors.iter().map(|door| format!("`{}` :{}", door.name, door.port)).collect();
            let all = all.join(", ");
            remarks.push(format!("no entry point listens on port {port} (there are {all}); taken for `{}`", door.name));
        }
        Some(door)
    }

    /// What the walk over the routers came to.
    fn routers(&self, found: &Explanation, door: &Door, tls: bool, view: &impl RequestView, report: &mut Report) {
        let skipped = found.asked.len().saturating_sub(MAX_ASKED);
        for asked in found.asked.iter().skip(skipped) {
            let takes = found.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &asked.router));
            report.routers.push(candidate(&asked.router, takes, &asked.failures, view));
        }
        if skipped > 0 {
            report.remarks.push(format!("{skipped} routers that were asked before and refused are not shown"));
        }
        for router in &found.behind {
            let Some(taken) = &found.taken else { break };
            // the other half of a site, such as its redirect to HTTPS
            let source = |router: &Router| (router.provider, router.declared.source.clone());
            let ((own, this), (its, that)) = (source(router), source(taken));
            let one_site = own == its && this.same(&that);
            if one_site && !router.entry_points.contains(&door.name) {
                continue;
            }
            let mut candidate = candidate(router, false, &[], view);
            candidate.why = match self.elsewhere(router, door, tls) {
                Some(place) => place,
                None if self.table.shadowed.contains_key(&router.id) => {
                    format!("gets nothing: its requests go to {}", self.rivalry(taken, router))
                }
                None => format!("its rule holds too, but the request goes to {}", self.rivalry(taken, router)),
            };
            report.behind.push(candidate);
        }
        for near in &found.near {
            let mut candidate = candidate(&near.router, false, &near.failures, view);
            candidate.why = match (self.elsewhere(&near.router, door, tls), near.elsewhere) {
                (Some(place), true) => format!("its rule holds, but {place}"),
                (Some(place), false) => format!("besides, {place}"),
                (None, _) => String::new(),
            };
            report.near.push(candidate);
        }
        if found.taken.is_none() {
            self.nearly_declared(view, report);
        }
    }

    /// Routers that would take it, had they not been refused.
    fn nearly_declared(&self, view: &impl RequestView, report: &mut Report) {
        for refused in &self.refused {
            let router = &refused.router;
            let holds = table::failures_of(&router.rule, &router.rule_syntax, view).is_some_and(|f| f.is_empty());
            if holds && report.near.len() < MAX_NAMED {
                let errors =
                    if refused.errors.is_empty() { "see the problems".into() } else { refused.errors.join("; ") };
                let own = i64::try_from(router.rule.len()).unwrap_or(i64::MAX);
                let refused = Candidate {
                    router: refused.id.clone(),
                    declared_by: router.source.service.clone(),
                    rule: router.rule.clone(),
                    priority: if router.priority == 0 { own } else { router.priority },
                    entry_points: router.entry_points.clone(),
                    takes: false,
                    failures: Vec::new(),
                    why: format!("its rule holds, but it is refused: {errors}"),
                };
                report.near.insert(0, refused);
            }
        }
    }

    /// Why a router does not answer at this entry point; `None` if it does.
    fn elsewhere(&self, router: &Router, door: &Door, tls: bool) -> Option<String> {
        let places = router.entry_points.join("`, `");
        if !router.entry_points.contains(&door.name) {
            let only = if router.tls { ", with TLS only" } else { "" };
            return Some(format!("it answers on `{places}`{only}, not on `{}`", door.name));
        }
        // what tags say of ports without a static configuration goes for both kinds
        match (router.tls || door.tls, tls) {
            _ if self.secure.is_some() && door.name.starts_with("port-") => None,
            (true, false) => Some("it answers TLS connections only".to_owned()),
            (false, true) => Some("it answers plain connections only: it has no `tls` option".to_owned()),
            _ => None,
        }
    }

    /// The router that gets the requests of two, and why.
    pub(super) fn rivalry(&self, winner: &Router, loser: &Router) -> String {
        let (w, l) = (&winner.declared.source, &loser.declared.source);
        let same = winner.rule == loser.rule && winner.provider != Provider::Internal;
        let rule = if same { "the same rule and " } else { "" };
        let why = if winner.provider == Provider::Internal {
            "the host for good: it is built in (`FQDN`, `NOMAD_ADDR_EXTRA`)".to_owned()
        } else if winner.priority != loser.priority {
            format!("priority {} (this one has {})", winner.priority, loser.priority)
        } else if winner.provider != loser.provider {
            match self.primary {
                primary if primary == winner.provider => {
                    format!("the same priority, and `{primary}` is the primary catalog")
                }
                _ => format!("the same priority, and `{}` comes before `{}`", winner.provider, loser.provider),
            }
        } else if w.create_index != l.create_index {
            "the same priority, and it was there first".to_owned()
        } else {
            "the same priority, and comes first by name".to_owned()
        };
        let by = if w.service.is_empty() { String::new() } else { format!(" (service `{}`)", w.service) };
        format!("{}{by}, which has {rule}{why}", winner.id)
    }

    /// What was refused and concerns the request.
    fn concern(&self, taken: Option<&Arc<Router>>, report: &mut Report) {
        let host = report.seen.as_ref().map(|seen| seen.host.clone()).unwrap_or_default();
        let names_host = |text: &str| names(text, &host);
        let of_service = |problem: &Diagnostic, named: &Named| {
            let origin = &problem.origin;
            origin.service.as_ref() == Some(&named.name)
                && origin.provider.as_ref().is_none_or(|provider| *provider == named.provider)
                && origin.namespace.as_ref().is_none_or(|namespace| *namespace == named.namespace)
        };
        let concerned: Vec<Named> = match taken {
            Some(router) => vec![Named {
                provider: router.provider.as_str().into(),
                namespace: router.declared.source.namespace.clone(),
                name: router.declared.source.service.clone(),
            }],
            None => self.naming(&host),
        };
        let no_server = &*report.answer.outcome == "no_server";
        // routers that would take it and are refused, and the middlewares that they name
        let refused = |problem: &Diagnostic| {
            report.near.iter().filter(|near| near.entry_points.is_empty() || near.why.contains("refused")).any(|near| {
                let (name, provider) = near.router.rsplit_once('@').unwrap_or_default();
                let subject = problem.message.split('`').nth(1).unwrap_or_default();
                let of_middleware = || near.why.contains(&format!("middleware `{subject}`"));
                problem.origin.provider.as_deref() == Some(provider)
                    && match problem.message.split(' ').next() {
                        Some("router") => subject == name,
                        Some("middleware") => of_middleware(),
                        _ => false,
                    }
            })
        };
        for named in &concerned {
            if (taken.is_some() && !no_server) || report.services.len() >= MAX_NAMED {
                continue;
            }
            let why = self.reasons(named);
            if !why.is_empty() {
                report.services.push(Concerned { named: named.clone(), why });
            }
        }
        let about = |problem: &&Diagnostic| match taken {
            // what is served all the same is not to blame
            Some(_) => (problem.is_error() || no_server) && concerned.iter().any(|named| of_service(problem, named)),
            None => {
                names_host(&problem.message)
                    || problem.origin.tag.as_deref().is_some_and(names_host)
                    || concerned.iter().any(|named| of_service(problem, named))
                    || refused(problem)
                    || problem.origin.service.is_none() && problem.origin.file.is_none() && problem.is_error()
            }
        };
        let mut problems: Vec<&Diagnostic> = self.problems.iter().filter(about).collect();
        let in_tag = |p: &Diagnostic| p.origin.tag.as_deref().is_some_and(names_host) || names_host(&p.message);
        problems.sort_by_key(|p| (!p.is_error(), !in_tag(p)));
        let mut found: Vec<Diagnostic> = problems.into_iter().take(MAX_NAMED).cloned().collect();
        // nothing else is known: what a file wanted to say may be what is missing
        if found.is_empty() && taken.is_none() && report.services.is_empty() {
            let of_file = |p: &&Diagnostic| p.is_error() && p.origin.file.is_some();
            found.extend(self.problems.iter().filter(of_file).take(MAX_OF_FILES).cloned());
        }
        report.problems = found;
    }

    /// Catalog services that name a host in a tag, or whose default rule may be for it.
    fn naming(&self, host: &str) -> Vec<Named> {
        let mut found = Vec::new();
        if host.is_empty() {
            return found;
        }
        let first = host.split('.').next().unwrap_or_default();
        for (provider, inventory) in &self.world.sources {
            for service in inventory.services.values() {
                let mut tags = service.instances.iter().flat_map(|instance| &instance.tags);
                if tags.any(|tag| names(tag, host)) || service.key.name.eq_ignore_ascii_case(first) {
                    let (provider, key) = (provider.as_str().into(), &service.key);
                    found.push(Named { provider, namespace: key.namespace.clone(), name: key.name.clone() });
                }
            }
        }
        found.truncate(MAX_NAMED);
        found
    }
}

/// Whether a text names a host, and not only one that ends with it or begins so.
fn names(text: &str, host: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let alone = |(at, _): (usize, &str)| {
        let behind = text[at + host.len()..].strip_prefix('.').unwrap_or(&text[at + host.len()..]);
        // `urlprefix-` stands before the host as if it belonged to it
        let before = &text[..at];
        let marked = before.strip_suffix('-').is_some_and(|mark| mark.chars().all(|c| c.is_ascii_alphanumeric()));
        (marked || !before.ends_with(of_host)) && !behind.starts_with(of_host)
    };
    !host.is_empty() && text.match_indices(host).any(alone)
}

pub(super) fn backend(service: &Service, servers: &dyn Servers) -> Backend {
    let all = choose::all(service);
    let server = |(of, server): &choose::Of<'_>| {
        let state = servers.state(&server.id);
        ServerNow {
            service: if of.id == service.id { Arc::default() } else { of.id.clone() },
            url: server.id.url.to_string(),
            weight: server.weight,
            up: state.up,
            why: state.why,
            in_flight: state.in_flight,
            chosen: false,
        }
    };
    let remark = match (&*all, all.iter().all(|(_, server)| servers.state(&server.id).up == Some(false))) {
        ([], _) => "it has no server: none of its instances is healthy, or none can be reached",
        (_, true) => "no server is healthy; they are tried all the same",
        _ => "",
    };
    Backend {
        service: service.id.clone(),
        strategy: choose::strategy(service),
        pass_host_header: service.pass_host_header,
        servers: all.iter().map(server).collect(),
        remark: remark.to_owned(),
    }
}

/// *Choose*, and what the server would get.
fn send(service: &Service, preview: &Preview, servers: &dyn Servers, repeat: Option<u32>, report: &mut Report) {
    let mut chooser = Chooser::new(servers, preview.exchange.peer.ip(), &preview.exchange.request.headers);
    for _ in 0..repeat.unwrap_or(1).max(1) {
        let Some((of, server)) = chooser.next(service) else {
            report.answer.outcome = "no_server".into();
            report.answer.status = Some(StatusCode::SERVICE_UNAVAILABLE.as_u16());
            report.reason = Some(Reason::NoServer.as_str().into());
            return;
        };
        let answer = &mut report.answer;
        if repeat.is_some() {
            *answer.counts.entry(server.authority.clone()).or_default() += 1;
        }
        if answer.upstream.is_some() {
            continue;
        }
        let backend = report.backend.iter_mut().flat_map(|backend| &mut backend.servers);
        let is = |now: &&mut ServerNow| *now.url == *server.id.url && (now.service.is_empty() || now.service == of.id);
        if let Some(chosen) = backend.into_iter().find(is) {
            chosen.chosen = true;
        }
        let host = preview.exchange.host_for(of.pass_host_header, &server.authority);
        let headers = preview.headers();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        answer.outcome = "proxied".into();
        answer.upstream = Some(Upstream {
            scheme: match (server.tls, server.h2c) {
                (true, _) => "https".into(),
                (false, true) => "h2c".into(),
                (false, false) => "http".into(),
            },
            addr: server.authority.clone(),
            request_uri: {
                let base = server.base.as_deref().unwrap_or_default();
                format!("{base}{}", preview.exchange.request.request_uri())
            },
            host: text(host),
            headers: headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), text(value))).collect(),
        });
    }
    chooser.end();
}

impl Report {
    /// The proxy itself answers.
    fn end(&mut self, made: &Made) {
        let status = made.head.status;
        self.reason = Some(made.reason.as_str().into());
        let answer: &mut Answer = &mut self.answer;
        answer.location = made.head.headers.text(&name::LOCATION).map(str::to_owned);
        answer.outcome = match (status, made.reason) {
            (status, _) if status.is_redirection() => "redirect",
            (StatusCode::UNAUTHORIZED, _) => "unauthorized",
            (StatusCode::FORBIDDEN, _) => "denied",
            (_, Reason::NoRoute) => "no_route",
            (status, _) if status.is_client_error() => "bad_request",
            _ => "no_server",
        }
        .into();
        answer.status = Some(status.as_u16());
    }
}

/// The verdict in a sentence.
fn says(report: &Report) -> String {
    let answer = &report.answer;
    let status = answer.status.unwrap_or_default();
    let text = match (&*answer.outcome, &answer.upstream) {
        ("proxied", Some(to)) => {
            let refuses = match report.backend.as_ref().filter(|backend| !backend.remark.is_empty()) {
                Some(_) => "; no server of the service is healthy, so it is tried all the same",
                None => "",
            };
            return format!(
                "proxied to {}://{} as `{}`, Host `{}`{refuses}",
                to.scheme, to.addr, to.request_uri, to.host
            );
        }
        ("redirect", _) => {
            return format!("{status}, redirect to {}", answer.location.as_deref().unwrap_or_default());
        }
        ("no_route", _) => "no router takes it",
        ("no_server", _) => "the service has no server",
        ("denied" | "unauthorized", _) => {
            let by = report.by.as_deref().unwrap_or("the route");
            let step = report.middlewares.iter().find(|step| *step.middleware == *by);
            return match step.filter(|_| &*answer.outcome == "unauthorized") {
                Some(step) => format!("{status}: `{by}` {}", step.does),
                None => format!("{status}: `{by}` does not let this client in"),
            };
        }
        _ => "the request is not acceptable",
    };
    format!("{status}: {text}")
}

/// A router as the document shows it.
fn candidate(router: &Router, takes: bool, failures: &[Failure], view: &impl RequestView) -> Candidate {
    let fail = |failure: &Failure| {
        let matcher = router.rule.get(failure.span.clone()).unwrap_or_default();
        let why = if failure.negated { "it holds, and must not".to_owned() } else { instead(matcher, view) };
        Fail {
            span: (failure.span.start, failure.span.end),
            matcher: matcher.to_owned(),
            negated: failure.negated,
            why,
        }
    };
    Candidate {
        router: router.id.clone(),
        declared_by: router.declared.source.service.clone(),
        rule: router.rule.clone(),
        priority: router.priority,
        entry_points: router.entry_points.clone(),
        takes,
        failures: failures.iter().map(fail).collect(),
        why: String::new(),
    }
}

/// What the request has in the place of what a matcher wants.
fn instead(matcher: &str, view: &impl RequestView) -> String {
    let (name, arguments) = matcher.split_once('(').unwrap_or((matcher, ""));
    match name.trim().to_ascii_lowercase().as_str() {
        "host" | "hostheader" | "hostregexp" => format!("the host is `{}`", view.host()),
        "path" | "pathprefix" | "pathregexp" => format!("the path is `{}`", view.path()),
        "method" => format!("the method is `{}`", view.method()),
        "query" | "queryregexp" if view.query().is_empty() => "there is no query".to_owned(),
        "query" | "queryregexp" => format!("the query is `{}`", view.query()),
        "clientip" => view.client_ip().map_or_else(String::new, |ip| format!("the client is {ip}")),
        "header" | "headers" | "headerregexp" | "headersregexp" => {
            let field = arguments.split(['`', '"']).nth(1).unwrap_or_default();
            if view.any_header(field, &mut |_| true) {
                format!("the header `{field}` says something else")
            } else {
                format!("there is no header `{field}`")
            }
        }
        _ => String::new(),
    }
}
