//! The webhook of `rustLb.notify.url`: tells of trouble with certificates and catalogs when it begins and when it is over.
//!
//! What always holds: a trouble is told once, and its end once; what comes and goes within seconds is not told; whoever does
//! not take the message gets it again, together with what happened since; nothing waits for it, and no secret is in it.

use super::view::View;
use crate::api::{self, Source};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Secret;
use reqwest::{Client, redirect};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// How often what is wrong is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A catalog's trouble is told after this: agents are restarted now and then.
const LASTS: Duration = Duration::from_secs(15);
/// How long one message may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Events kept for somebody who takes none; the oldest go first.
const KEPT: usize = 1_000;
/// Events in one message.
const IN_ONE: usize = 100;

/// What diagnostics are told of.
const CODES: &[&str] = &[
    "bad_certificate",
    "certificate_ahead",
    "certificate_directory",
    "certificate_expired",
    "certificate_expires",
    "certificate_not_yet_valid",
    "certificate_not_stored",
    "certificates",
    "local_authority",
    "order_failed",
    "order_held",
    "order_limit",
];

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    /// What tells it from others, whatever its words are by now.
    key: String,
    code: Arc<str>,
    severity: Severity,
    message: String,
    file: Option<Arc<str>>,
    help: Option<String>,
    /// How long it must last to be told.
    lasts: Duration,
}

impl Trouble {
    fn of(diagnostic: &Diagnostic) -> Option<Self> {
        if !CODES.contains(&&*diagnostic.code) {
            return None;
        }
        // what follows the subject may change with every try
        let subject = diagnostic.message.split(": ").next().unwrap_or_default();
        let file = diagnostic.origin.file.as_deref().unwrap_or_default();
        Some(Self {
            key: format!("{} {file} {subject}", diagnostic.code),
            code: diagnostic.code.clone(),
            severity: diagnostic.severity,
            message: diagnostic.message.clone(),
            file: diagnostic.origin.file.clone(),
            help: diagnostic.help.clone(),
            lasts: Duration::ZERO,
        })
    }

    fn of_catalog(reason: &api::Reason) -> Option<Self> {
        let provider = reason.provider?;
        Some(Self {
            key: format!("{} {provider}", reason.code),
            code: reason.code.into(),
            severity: Severity::Warning,
            message: reason.message.clone(),
            file: None,
            help: None,
            lasts: LASTS,
        })
    }
}

/// One line of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    /// `firing` or `resolved`.
    status: &'static str,
    code: Arc<str>,
    severity: Severity,
    message: String,
    /// Which one: of a certificate its chain, of an order what asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    /// RFC 3339.
    at: String,
}

/// What the webhook is sent.
#[derive(Debug, Serialize)]
struct Message<'a> {
    /// This machine's name.
    instance: &'a str,
    events: &'a [Event],
}

/// What was seen of a trouble.
struct Seen {
    trouble: Trouble,
    since: Instant,
    told: bool,
}

/// Turns what is wrong from look to look into events.
#[derive(Default)]
struct Watcher {
    seen: BTreeMap<String, Seen>,
}

impl Watcher {
    fn look(&mut self, now: Instant, clock: SystemTime, all: Vec<Trouble>) -> Vec<Event> {
        let at = jiff::Timestamp::try_from(clock).map(|at| format!("{at:.0}")).unwrap_or_default();
        let event = |status, trouble: &Trouble| Event {
            status,
            code: trouble.code.clone(),
            severity: trouble.severity,
            message: trouble.message.clone(),
            file: trouble.file.clone(),
            help: trouble.help.clone(),
            at: at.clone(),
        };
        let mut events = Vec::new();
        let mut before = std::mem::take(&mut self.seen);
        for trouble in all {
            let mut seen = match before.remove(&trouble.key) {
                Some(seen) => Seen { trouble, ..seen },
                None => Seen { trouble, since: now, told: false },
            };
            if !seen.told && now.duration_since(seen.since) >= seen.trouble.lasts {
                seen.told = true;
                events.push(event("firing", &seen.trouble));
            }
            self.seen.insert(seen.trouble.key.clone(), seen);
        }
        events.extend(before.values().filter(|gone| gone.told).map(|gone| event("resolved", &gone.trouble)));
        events
    }
}

/// Looks and tells until cancelled.
pub(super) async fn run(view: Arc<View>, url: Secret, instance: String, stop: CancellationToken) {
    let client = Client::builder().timeout(LIMIT).redirect(redirect::Policy::none()).no_proxy().build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "the webhook of `rustLb.notify.url` cannot be called"),
    };
    let mut watcher = Watcher::default();
    let mut waiting: Vec<Event> = Vec::new();
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let health = api::judge(view.readiness(), &view.statuses(), SystemTime::now());
        let catalogs = health.reasons.iter().filter_map(Trouble::of_catalog);
        let all = view.problems().iter().filter_map(Trouble::of).chain(catalogs).collect();
        waiting.extend(watcher.look(Instant::now(), SystemTime::now(), all));
        let excess = waiting.len().saturating_sub(KEPT);
        drop(waiting.drain(..excess));
        if waiting.is_empty() {
            continue;
        }
        let part = &waiting[..waiting.len().min(IN_ONE)];
        let body = serde_json::to_vec(&Message { instance: &instance, events: part }).unwrap_or_default();
        let post = client.post(url.reveal()).header("content-type", "application/json").body(body);
        let answer = post.send().await.and_then(reqwest::Response::error_for_status);
        match answer {
            Ok(_) => {
                let sent = part.len();
                drop(waiting.drain(..sent));
                failing = false;
            }
            // its text would name the URL, which may hold a token
            Err(error) if !failing => {
                failing = true;
                let status = error.status().map(|status| status.as_u16());
                tracing::warn!(status, "the webhook of `rustLb.notify.url` takes no messages; they are sent again");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(code: &str, message: &str, lasts: u64) -> Trouble {
        let lasts = Duration::from_secs(lasts);
        Trouble { lasts, ..Trouble::of(&Diagnostic::error(code, message)).expect("one that is told") }
    }

    #[test]
    fn each_trouble_is_told_once_and_its_end_once() {
        let mut watcher = Watcher::default();
        let start = Instant::now();
        let mut look = |seconds: u64, all: &[Trouble]| -> Vec<(&'static str, String)> {
            let at = start + Duration::from_secs(seconds);
            let events = watcher.look(at, SystemTime::UNIX_EPOCH, all.to_vec());
            events.into_iter().map(|event| (event.status, event.message)).collect()
        };
        let failed = trouble("order_failed", "no certificate for `a`: 500", 0);
        let again = trouble("order_failed", "no certificate for `a`: 429", 0);
        let brief = trouble("order_held", "held", 15);
        assert_eq!(look(0, &[failed.clone(), brief.clone()]), [("firing", failed.message.clone())]);
        assert_eq!(look(5, &[again.clone(), brief.clone()]), []);
        // what did not last was never told, nor is its end
        assert_eq!(look(10, std::slice::from_ref(&again)), []);
        assert_eq!(look(15, &[again.clone(), brief.clone()]), []);
        assert_eq!(look(30, &[again.clone(), brief.clone()]), [("firing", brief.message.clone())]);
        assert_eq!(look(35, &[]), [("resolved", again.message), ("resolved", brief.message)]);
        assert_eq!(look(40, std::slice::from_ref(&failed)), [("firing", failed.message)]);
    }

    #[test]
    fn troubles_of_two_files_are_two_and_say_which() {
        let of = |file: &str| {
            let origin = crate::diagnostic::Origin { file: Some(file.into()), ..Default::default() };
            Trouble::of(&Diagnostic::error("bad_certificate", "no PEM private key in it").with_origin(origin))
        };
        let (a, b) = (of("/a.crt").expect("told"), of("/b.crt").expect("told"));
        let mut watcher = Watcher::default();
        let files = |events: Vec<Event>| -> Vec<_> { events.into_iter().map(|e| (e.status, e.file)).collect() };
        let now = Instant::now();
        let both = files(watcher.look(now, SystemTime::UNIX_EPOCH, vec![a, b.clone()]));
        assert_eq!(both, [("firing", Some("/a.crt".into())), ("firing", Some("/b.crt".into()))]);
        let one = files(watcher.look(now, SystemTime::UNIX_EPOCH, vec![b]));
        assert_eq!(one, [("resolved", Some("/a.crt".into()))]);
    }

    #[test]
    fn only_certificates_and_catalogs_are_told_of() {
        assert_eq!(Trouble::of(&Diagnostic::error("bad_rule", "router `a`: no")), None);
    }
}
