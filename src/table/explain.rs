//! Why a request goes where it goes: every router that is asked, in the order in which the data side
//! asks them, which matcher of each refused, and which router took it.
//!
//! What always holds: it is the index's own walk with a recorder, so that it cannot say anything
//! else than what happens. Only what a person reads (which matcher failed, what would nearly
//! have fitted) is worked out besides, from the rules' texts.

use super::index::Recorder;
use super::{Router, Table};
use crate::rule::{self, Expr, Kind, Matcher, RequestView, Rule, Syntax};
use std::ops::Range;
use std::sync::Arc;

/// Routers that would nearly have taken a request are named up to this number.
const MAX_NEAR: usize = 5;
/// A router that refuses for more reasons is not near.
const MAX_FAILURES: usize = 2;

/// The way of one request through a table.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The routers that were asked, in order; the last one took the request if `taken`.
    pub asked: Vec<Asked>,
    /// The router that took it.
    pub taken: Option<Arc<Router>>,
    /// Where nobody took it: routers that would have, but for their place or for little in their rule.
    pub near: Vec<NearMiss>,
    /// Where one took it: others whose rule holds too. Those that answer elsewhere are among them.
    pub behind: Vec<Arc<Router>>,
    /// Routers of the same rule, priority and entry points that the taken one keeps from requests.
    pub shadows: Vec<Arc<str>>,
}

/// A router that was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The router.
    pub router: Arc<Router>,
    /// What did not hold, in the rule's order; empty for the one that took the request.
    pub failures: Vec<Failure>,
}

/// A matcher that kept a rule from holding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it stands in the rule's text, in bytes.
    pub span: Range<usize>,
    /// It holds, and must not: it stands behind a `!`.
    pub negated: bool,
}

/// A router that was not asked, and what kept it from the request.
#[derive(Debug, Clone)]
pub struct NearMiss {
    /// The router.
    pub router: Arc<Router>,
    /// The rule holds, but the router answers on other entry points, or only with (or without) TLS.
    pub elsewhere: bool,
    /// The few matchers that failed.
    pub failures: Vec<Failure>,
}

struct Walked(Vec<(Arc<Router>, bool)>);

impl Recorder for Walked {
    fn asked(&mut self, router: &Arc<Router>, takes: bool) {
        self.0.push((router.clone(), takes));
    }
}

impl Table {
    /// As [`Table::find`], and why. Not for the request path.
    pub fn explain(&self, entry_point: &str, tls: bool, request: &impl RequestView) -> Explanation {
        let mut walked = Walked(Vec::new());
        let taken = self.index.walk(entry_point, tls, request, &mut walked).cloned();
        let asked = walked.0.into_iter().map(|(router, takes)| {
            let failures = if takes { Vec::new() } else { failures(&router, request) };
            Asked { router, failures }
        });
        let asked: Vec<Asked> = asked.collect();
        let (near, behind) = match &taken {
            None => (self.near(entry_point, request, &asked), Vec::new()),
            Some(taken) => (Vec::new(), self.behind(taken, request, &asked)),
        };
        let shadows = taken.iter().flat_map(|taken| {
            self.shadowed.iter().filter(|(_, winner)| **winner == taken.id).map(|(loser, _)| loser.clone())
        });
        Explanation { asked, shadows: shadows.collect(), taken, near, behind }
    }

    /// Routers whose rule holds too, shadowed ones included: the highest priority first.
    fn behind(&self, taken: &Arc<Router>, request: &impl RequestView, asked: &[Asked]) -> Vec<Arc<Router>> {
        let other = |r: &&Arc<Router>| r.id != taken.id && !asked.iter().any(|asked| Arc::ptr_eq(&asked.router, r));
        let mut behind: Vec<Arc<Router>> =
            self.routers.values().filter(other).filter(|r| failures(r, request).is_empty()).cloned().collect();
        behind.sort_by(|a, b| (b.priority, &a.id).cmp(&(a.priority, &b.id)));
        behind.truncate(MAX_NEAR);
        behind
    }

    /// What would have taken the request but for little: those that answer elsewhere first, then those that
    /// failed in few matchers, the most like the request first. A host that is another one altogether is not little.
    fn near(&self, entry_point: &str, request: &impl RequestView, asked: &[Asked]) -> Vec<NearMiss> {
        let mut found: Vec<((usize, usize), NearMiss)> = Vec::new();
        let not_asked = |router: &&Arc<Router>| !asked.iter().any(|asked| Arc::ptr_eq(&asked.router, router));
        for router in self.routers.values().filter(not_asked) {
            let failures = failures(router, request);
            let here = router.entry_points.iter().any(|name| **name == *entry_point);
            let text = |failure: &Failure| router.rule.get(failure.span.clone()).unwrap_or_default();
            let far = failures
                .iter()
                .map(|failure| distance(text(failure), request))
                .try_fold(0, |sum: usize, one| Some(sum.saturating_add(one?)));
            let Some(far) = far.filter(|_| failures.len() <= MAX_FAILURES) else { continue };
            let rank = (failures.len() + usize::from(!here && !failures.is_empty()), far);
            found.push((rank, NearMiss { router: router.clone(), elsewhere: failures.is_empty(), failures }));
        }
        found.sort_by(|(a, x), (b, y)| (a, &x.router.id).cmp(&(b, &y.router.id)));
        found.truncate(MAX_NEAR);
        found.into_iter().map(|(_, near)| near).collect()
    }
}

/// How unlike the request a matcher's argument is; only its order means something. `None` for a host that
/// nobody mistypes for the request's.
fn distance(matcher: &str, request: &impl RequestView) -> Option<usize> {
    let (name, arguments) = matcher.split_once('(').unwrap_or((matcher, ""));
    let argument = arguments.trim_matches(|c: char| "`\") ".contains(c)).to_ascii_lowercase();
    let to = |text: &str| strsim::damerau_levenshtein(&argument, text);
    match name.trim() {
        "Host" | "HostHeader" => host_distance(&argument, request.host()),
        "PathPrefix" | "Path" => Some(to(request.path())),
        "HostRegexp" => None,
        _ => Some(64),
    }
}

/// How unlike two hosts are: what both end with (`.example.org`) says nothing, and few letters may differ in the rest.
fn host_distance(wanted: &str, host: &str) -> Option<usize> {
    let mut own: Vec<&str> = wanted.split('.').collect();
    let mut asked: Vec<&str> = host.split('.').collect();
    while own.len() > 1 && asked.len() > 1 && own.last() == asked.last() {
        own.pop();
        asked.pop();
    }
    let (own, asked) = (own.join("."), asked.join("."));
    // one has a label before the other: `www.`
    let below = own.strip_suffix(&asked).or_else(|| asked.strip_suffix(&own)).is_some_and(|rest| rest.ends_with('.'));
    let far = strsim::damerau_levenshtein(&own, &asked);
    (below || far <= 1 + own.len() / 6).then_some(far)
}

/// The matchers that keep a rule from holding, in its order; `None` for a text that is no rule.
pub fn failures_of(rule: &str, syntax: &str, request: &impl RequestView) -> Option<Vec<Failure>> {
    let parsed = rule::parse(rule, Kind::Http, Syntax::named(syntax)).ok()?;
    let mut out = Vec::new();
    Blame { text: rule, rule: &parsed, request }.blame(parsed.root(), true, &mut out);
    Some(out)
}

/// The matchers that keep a router's rule from holding. A rule in a table was parsed before.
fn failures(router: &Router, request: &impl RequestView) -> Vec<Failure> {
    failures_of(&router.rule, &router.declared.rule_syntax, request).unwrap_or_default()
}

struct Blame<'a, R> {
    text: &'a str,
    rule: &'a Rule,
    request: &'a R,
}

impl<R: RequestView> Blame<'_, R> {
    /// Whether the expression holds as it is wanted to; what is to blame for it goes to `out`.
    fn blame(&self, expr: &Expr, wanted: bool, out: &mut Vec<Failure>) -> bool {
        match (expr, wanted) {
            (Expr::Not(inner), _) => self.blame(inner, !wanted, out),
            (Expr::Test(test), _) => {
                let span = test.span.start..test.span.end;
                let alone = self.text.get(span.clone()).unwrap_or_default();
                let holds = rule::parse(alone, self.rule.kind(), self.rule.syntax())
                    .and_then(|rule| Matcher::compile(&rule))
                    .is_ok_and(|matcher| matcher.matches(self.request));
                if holds != wanted {
                    out.push(Failure { span, negated: !wanted });
                }
                holds == wanted
            }
            // each part is needed: all that fail are to blame
            (Expr::All(parts), true) | (Expr::Any(parts), false) => {
                parts.iter().filter(|part| !self.blame(part, wanted, out)).count() == 0
            }
            // one part is enough
            (Expr::Any(parts), true) | (Expr::All(parts), false) => {
                let before = out.len();
                let enough = parts.iter().any(|part| self.blame(part, wanted, out));
                if enough {
                    out.truncate(before);
                }
                enough
            }
        }
    }
}
