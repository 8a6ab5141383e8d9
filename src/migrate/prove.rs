//! The table of the old tags against the table of the new ones, on witness requests.
//!
//! Both are built by the stages that serve (tags, declarations, table), of instances with addresses of their own, as many as
//! the services have; the requests stand at every boundary of every old tag. What always holds: what is known to differ is told
//! as a gap and never passes in silence; anything else is a difference.

mod across;
mod connect;
mod judge;
#[cfg(test)]
mod mutation_tests;
mod witness;
mod world;

use super::set::{Place, Set, Settings};
use crate::explain::{Brief, End, Question};
use serde::Serialize;
use std::sync::Arc;

/// What the comparison came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Proof {
    /// Routes (host and path) that were compared.
    pub routes: usize,
    /// Requests that were sent through both tables.
    pub requests: usize,
    /// Requests that are answered otherwise, the first ones; empty when the new tags route as the old.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub differ: usize,
    /// Differences that are known and accepted, by kind.
    pub gaps: Vec<Gap>,
}

/// A request that is answered otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The request.
    pub request: Question,
    /// The same as a URL.
    pub url: String,
    /// What it is about, in words: `another pool`, `another path`.
    pub what: String,
    /// With the old tags.
    pub before: Answered,
    /// With the new ones.
    pub after: Answered,
    /// The old tag whose boundary showed it.
    pub tag: Arc<str>,
    /// Its service.
    pub service: Arc<str>,
    /// Where it stands.
    pub place: Place,
}

/// What happens to a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Answered {
    /// In a sentence.
    pub says: String,
    /// The router that takes it; empty if none does.
    pub router: Arc<str>,
    /// Its rule, which is responsible for that.
    pub rule: Arc<str>,
    /// Its priority.
    pub priority: i64,
}

/// A known difference between the old tags and the new ones, or between plain Fabio and both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// Stable word: `redirect_status`, `forwarded_for`, `port_in_host`, …
    pub code: Arc<str>,
    /// What differs and why it may matter, one sentence.
    pub says: String,
    /// How many requests showed it.
    pub times: usize,
    /// The first of them.
    pub request: Question,
    /// The same as a URL.
    pub url: String,
    /// The old tag that it was shown on.
    pub tag: Arc<str>,
    /// Its service.
    pub service: Arc<str>,
    /// Where it stands.
    pub place: Place,
}

impl Proof {
    /// Whether the new tags route as the old ones, known gaps apart.
    pub fn holds(&self) -> bool {
        self.differ == 0
    }
}

/// Differences that are kept; the others are counted.
const MAX_KEPT: usize = 100;

/// Compares what both sets do to requests: the old tags of the one that are converted, and the `traefik.*` tags of the
/// other. What is refused takes no part; a gap says where its requests would go.
pub fn prove(before: &Set, after: &Set, settings: &Settings) -> Proof {
    let scenes = world::scenes(before, after, settings);
    let mut judge = judge::Judge::default();
    let mut proof = Proof { routes: scenes.routes.len(), ..Proof::default() };
    let tables = [&*scenes.old.table, &*scenes.new.table];
    let mut standings = Vec::with_capacity(scenes.routes.len());
    for (at, route) in scenes.routes.iter().enumerate() {
        let mut first = true;
        for witness in witness::of(route, &scenes.options) {
            let Some(door) = scenes.door(route, &witness) else { continue };
            let [old, new] = door.briefs(tables, &witness.question);
            if std::mem::take(&mut first) {
                let rank = |brief: &Brief| brief.router.as_ref().map_or(0, |router| router.priority);
                let (rank, shift) = (rank(&old), rank(&new) - rank(&old));
                standings.push(across::Standing { route: at, secure: witness.question.scheme == "https", rank, shift });
            }
            proof.requests += 1;
            proof.take(judge.judge(&witness, &old, &new), route, &witness.question, || (told(&old), told(&new)));
        }
    }
    across::pairs(&scenes, &standings, |at, witness| {
        let door = scenes.usual_door(witness.question.scheme == "https");
        let (Some(door), Some(route)) = (door, scenes.routes.get(at)) else { return };
        let [old, new] = door.briefs(tables, &witness.question);
        proof.requests += 1;
        proof.take(judge.judge(&witness, &old, &new), route, &witness.question, || (told(&old), told(&new)));
    });
    let there = across::routers_of(before);
    for (router, witness) in across::rules(&scenes, &standings) {
        let Some(door) = scenes.usual_door(witness.question.scheme == "https") else { continue };
        let [old, new] = door.briefs(tables, &witness.question);
        proof.requests += 1;
        let verdict = judge.judge(&witness, &old, &new);
        let verdict = across::of_rule(verdict, old.router.as_ref(), new.router.as_ref(), &there);
        if verdict != judge::Verdict::Same {
            let route = scenes.of_rule(router, after);
            proof.take(verdict, &route, &witness.question, || (told(&old), told(&new)));
        }
    }
    for route in &scenes.refused {
        let all = witness::of(route, &scenes.options);
        let taken = all.iter().find_map(|witness| {
            let router = scenes.door(route, witness)?.brief(&scenes.new.table, &witness.question).router?;
            (witness.kind == witness::Kind::Route).then_some((witness, router))
        });
        if let Some((witness, router)) = taken {
            let says = format!("the tag is refused, and its requests would go to the router `{}`", router.id);
            proof.gap("refused_route", &says, route, &witness.question);
        }
    }
    let (connections, tried) = connect::tcp(&scenes);
    proof.requests += tried;
    for (route, what) in connections {
        proof.differ += 1;
        let answered = |says: &str| Answered { says: says.to_owned(), ..Answered::default() };
        if proof.differences.len() < MAX_KEPT {
            proof.differences.push(Difference {
                request: Question::default(),
                url: String::new(),
                what,
                before: answered("the connection is passed on"),
                after: answered("it is not, or otherwise"),
                tag: route.tag.clone(),
                service: route.service.clone(),
                place: route.place.clone(),
            });
        }
    }
    proof
}

impl Proof {
    fn take(
        &mut self,
        verdict: judge::Verdict,
        route: &world::Route,
        request: &Question,
        answers: impl FnOnce() -> (Answered, Answered),
    ) {
        match verdict {
            judge::Verdict::Same => {}
            judge::Verdict::Gap(code, says) => self.gap(code, says, route, request),
            judge::Verdict::Differs(what) => {
                self.differ += 1;
                if self.differences.len() < MAX_KEPT {
                    let (before, after) = answers();
                    self.differences.push(Difference {
                        request: request.clone(),
                        url: request.url(),
                        what: what.to_owned(),
                        before,
                        after,
                        tag: route.tag.clone(),
                        service: route.service.clone(),
                        place: route.place.clone(),
                    });
                }
            }
        }
    }

    fn gap(&mut self, code: &str, says: &str, route: &world::Route, request: &Question) {
        // where a refused route goes is said of each
        let each = code == "refused_route";
        match self.gaps.iter_mut().find(|gap| *gap.code == *code && !each) {
            Some(gap) => gap.times += 1,
            None => self.gaps.push(Gap {
                code: code.into(),
                says: says.to_owned(),
                times: 1,
                request: request.clone(),
                url: request.url(),
                tag: route.tag.clone(),
                service: route.service.clone(),
                place: route.place.clone(),
            }),
        }
    }
}

/// The table of a set's `traefik.*` tags.
#[cfg(test)]
pub(super) fn table_of(set: &Set, settings: &Settings) -> Arc<crate::table::Table> {
    world::scenes(&Set::default(), set, settings).new.table
}

/// What happens, for people.
fn told(brief: &Brief) -> Answered {
    let router = brief.router.as_deref();
    let says = match &brief.end {
        End::NoRoute => "404: no route takes it".to_owned(),
        End::Bad(status) => format!("{status}: it is not acceptable"),
        End::Denied(status) => format!("{status}: the client is not let in"),
        End::Redirect { status, location } => format!("{status}, redirect to {location}"),
        End::Made(status) => status.to_string(),
        End::Served { uri, host } => {
            let servers = router.map(|router| judge::shares_told(&router.service)).unwrap_or_default();
            let host = host.as_ref().map_or_else(|| "the server's own address".to_owned(), |host| format!("`{host}`"));
            format!("`{uri}` with Host {host} goes to {servers}")
        }
    };
    let says = match &*brief.auth {
        [] => says,
        [(file, _), ..] => format!("for users in `{file}`: {says}"),
    };
    Answered {
        says,
        router: router.map(|router| router.id.clone()).unwrap_or_default(),
        rule: router.map(|router| router.rule.clone()).unwrap_or_default(),
        priority: router.map_or(0, |router| router.priority),
    }
}
