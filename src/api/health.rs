//! Ready and healthy: two questions. **Ready** asks whether traffic may be sent here: the listeners
//! are bound and there is a table to serve by. **Healthy** asks whether a person should look: a
//! provider that is down or rights that are missing degrade it, and take no traffic away.

use super::Readiness;
use crate::catalog::{SourceState, SourceStatus};
use crate::model::Provider;
use serde::Serialize;
use std::time::SystemTime;

/// One thing that keeps the state from being `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable word.
    pub code: &'static str,
    /// Provider concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// For people.
    pub message: String,
}

/// How old what is known of a provider is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Freshness {
    /// Which provider.
    pub provider: Provider,
    /// How it stands.
    pub state: SourceState,
    /// Seconds since the catalog last answered; `null` when it never has.
    pub age: Option<f64>,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// `ok`, `degraded`, `starting` or `terminating`.
    pub status: &'static str,
    /// Whether traffic may be sent here.
    pub ready: bool,
    /// Everything that is not as it should be; what keeps it from being ready comes first.
    pub reasons: Vec<Reason>,
    /// How old what each catalog said is.
    pub providers: Vec<Freshness>,
}

/// Judges from what the runtime and the providers say.
pub fn judge(readiness: Readiness, statuses: &[SourceStatus], now: SystemTime) -> Health {
    let mut reasons = Vec::new();
    let mut say = |code, provider, message: String| reasons.push(Reason { code, provider, message });
    if readiness.terminating {
        say("terminating", None, "the process is terminating".to_owned());
    }
    if readiness.standby {
        let message = "a standby: the public ports are not bound until `POST /api/activate`".to_owned();
        say("standby", None, message);
    } else if !readiness.listeners_bound {
        say("not_bound", None, "not every entry point listens yet".to_owned());
    }
    // A first answer is not all of it: routes are known once a whole inventory is.
    let answered = statuses.is_empty() || statuses.iter().any(|status| status.last_change.is_some());
    let table = answered || readiness.last_good_loaded;
    if !table {
        let message = "no provider has answered yet, and there is no last good table".to_owned();
        say("no_table", None, message);
    }
    if readiness.control_failing {
        let message = "changes are not taken up because of a defect, see the log; what was served goes on".to_owned();
        say("control_failing", None, message);
    }
    for status in statuses {
        let provider = Some(status.provider);
        let detail = if status.last_error.is_empty() { String::new() } else { format!(": {}", status.last_error) };
        match status.state {
            SourceState::Connected => {}
            SourceState::Starting => {
                let message = format!("`{}` at {} has not answered yet{detail}", status.provider, status.address);
                say("provider_starting", provider, message);
            }
            SourceState::Retrying => {
                let message = format!("`{}` at {} does not answer{detail}", status.provider, status.address);
                say("provider_retrying", provider, message);
            }
            SourceState::Stale => {
                let message =
                    format!("`{}` at {} has no leader, its answers may be old", status.provider, status.address);
                say("provider_stale", provider, message);
            }
        }
        for right in &status.missing_rights {
            say("missing_rights", provider, right.clone());
        }
        if !status.held.is_empty() {
            let message = format!(
                "{} removals are held after a reset of the catalog, until the names reappear, reads after `rustLb.resetHold` confirm it, or \
                 `POST /api/forget`",
                status.held.len()
            );
            say("removals_held", provider, message);
        }
    }
    let ready = !readiness.terminating && readiness.listeners_bound && table;
    let status = match (readiness.terminating, ready, reasons.is_empty()) {
        (true, _, _) => "terminating",
        (_, false, _) => "starting",
        (_, _, true) => "ok",
        _ => "degraded",
    };
    let freshness = |status: &SourceStatus| Freshness {
        provider: status.provider,
        state: status.state,
        age: status.age(now).map(super::views::seconds),
    };
    Health { status, ready, reasons, providers: statuses.iter().map(freshness).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn status(state: SourceState, answered: bool) -> SourceStatus {
        let mut status = SourceStatus::starting(Provider::Nomad, "http://127.0.0.1:4646");
        status.state = state;
        status.last_contact = answered.then_some(SystemTime::UNIX_EPOCH);
        status.last_change = status.last_contact;
        status
    }

    const UP: Readiness = Readiness {
        terminating: false,
        standby: false,
        listeners_bound: true,
        last_good_loaded: false,
        control_failing: false,
    };

    fn check(readiness: Readiness, statuses: &[SourceStatus], status: &str, ready: bool, codes: &[&str]) {
        let health = judge(readiness, statuses, SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        let got: Vec<_> = health.reasons.iter().map(|reason| reason.code).collect();
        assert_eq!((health.status, health.ready, &*got), (status, ready, codes));
        let ages: Vec<_> = health.providers.iter().map(|provider| provider.age).collect();
        let wanted: Vec<_> = statuses.iter().map(|status| status.last_contact.map(|_| 1.5)).collect();
        assert_eq!(ages, wanted);
    }

    #[test]
    fn ready_needs_listeners_and_a_table() {
        let (connected, starting) = (status(SourceState::Connected, true), status(SourceState::Starting, false));
        check(UP, std::slice::from_ref(&connected), "ok", true, &[]);
        check(UP, &[], "ok", true, &[]);
        check(UP, std::slice::from_ref(&starting), "starting", false, &["no_table", "provider_starting"]);
        let last_good = Readiness { last_good_loaded: true, ..UP };
        check(last_good, std::slice::from_ref(&starting), "degraded", true, &["provider_starting"]);
        check(UP, &[connected.clone(), starting], "degraded", true, &["provider_starting"]);
        let unbound = Readiness { listeners_bound: false, ..UP };
        check(unbound, std::slice::from_ref(&connected), "starting", false, &["not_bound"]);
        let standby = Readiness { standby: true, ..unbound };
        check(standby, std::slice::from_ref(&connected), "starting", false, &["standby"]);
        let asked_there = Readiness { standby: true, ..UP };
        check(asked_there, std::slice::from_ref(&connected), "degraded", true, &["standby"]);
        let mut reading = status(SourceState::Starting, true);
        reading.last_change = None;
        check(UP, &[reading], "starting", false, &["no_table", "provider_starting"]);
        let ending = Readiness { terminating: true, ..UP };
        check(ending, &[connected], "terminating", false, &["terminating"]);
    }

    #[test]
    fn trouble_with_a_provider_degrades_and_takes_no_traffic_away() {
        check(UP, &[status(SourceState::Retrying, true)], "degraded", true, &["provider_retrying"]);
        check(UP, &[status(SourceState::Stale, true)], "degraded", true, &["provider_stale"]);
        let failing = Readiness { control_failing: true, ..UP };
        check(failing, &[status(SourceState::Connected, true)], "degraded", true, &["control_failing"]);
        let mut blind = status(SourceState::Connected, true);
        blind.missing_rights = vec!["namespace \"*\" needs `read-job`".to_owned()];
        blind.held = vec!["web".to_owned()];
        check(UP, &[blind], "degraded", true, &["missing_rights", "removals_held"]);
    }
}
