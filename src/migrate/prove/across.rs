//! Requests that concern two routes at once, which the boundaries of one of them do not show: a path of a route for all
//! hosts (or for a pattern of hosts) at the names of the others, where priorities decide; and requests that fit the rules
//! of the new table that the old one does not have.
//!
//! What always holds: the number of requests is bounded; where not all pairs are tried, each priority that is not what it
//! was is.

use super::judge::{Verdict, is_own, own_router};
use super::witness::{self, NOBODY, Witness};
use super::world::{Bounds, Route, Scenes};
use crate::migrate::set::Set;
use crate::rule::{self, Expr, Kind, Name, Syntax, Test};
use crate::table::Router;
use crate::tags::legacy::{is_glob, to_regex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pairs of routes that are tried, at most (two for each route at least).
const MAX_PAIRS: usize = 20_000;
/// Rules that requests are made for, at most.
const MAX_RULES: usize = 1_000;
/// Requests for one rule, at most.
const MAX_OF_RULE: usize = 64;

/// How a route stands among the others.
pub struct Standing {
    /// Its number among the scenes' routes.
    pub route: usize,
    /// Whether its first request was over TLS.
    pub secure: bool,
    /// Its priority with the old tags.
    pub rank: i64,
    /// The new priority less the old one.
    pub shift: i64,
}

/// Hosts that a route takes besides one.
enum Wide {
    Any,
    Pattern(regex::Regex),
    Label(String),
}

impl Wide {
    fn of(route: &Route, scenes: &Scenes) -> Option<Self> {
        match &route.bounds {
            Bounds::Prefix(host, ..) if host.is_empty() => Some(Self::Any),
            Bounds::Prefix(host, ..) if is_glob(host) && !scenes.options.glob_disabled => {
                regex::Regex::new(&to_regex(host).ok()?).ok().map(Self::Pattern)
            }
            Bounds::Site(site) => site.host.strip_prefix('*').map(|rest| Self::Label(rest.to_owned())),
            _ => None,
        }
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Pattern(regex) => regex.is_match(name),
            Self::Label(rest) => {
                name.strip_suffix(&**rest).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
        }
    }
}

/// The paths of routes for many hosts at the names of other routes, with the number of the former.
pub fn pairs(scenes: &Scenes, standings: &[Standing], mut each: impl FnMut(usize, Witness)) {
    let wide: Vec<(&Standing, Wide)> =
        standings.iter().filter_map(|one| Some((one, Wide::of(scenes.routes.get(one.route)?, scenes)?))).collect();
    let mut groups: BTreeMap<i64, Vec<(&Standing, String)>> = BTreeMap::new();
    for one in standings {
        let first = scenes.routes.get(one.route).and_then(|route| witness::first(route, &scenes.options));
        if let Some((name, _)) = first {
            groups.entry(one.shift).or_default().push((one, name));
        }
    }
    let names: usize = groups.values().map(Vec::len).sum();
    if wide.is_empty() || names == 0 {
        return;
    }
    let most = match wide.len().saturating_mul(names) {
        all if all <= MAX_PAIRS => names,
        _ => (MAX_PAIRS / (wide.len() * groups.len())).max(2),
    };
    groups.values_mut().for_each(|group| group.sort_by_key(|(one, _)| one.rank));
    for (of, hosts) in &wide {
        let Some(path) = scenes.routes.get(of.route).and_then(|route| match &route.bounds {
            Bounds::Prefix(_, path, _) => Some(witness::first_path(path, &scenes.options)),
            Bounds::Site(site) => Some(site.path.as_deref().unwrap_or("/").trim_end_matches('*').to_owned()),
            Bounds::Tcp(..) => None,
        }) else {
            continue;
        };
        for group in groups.values() {
            for (other, name) in spread(group, most).filter(|(other, name)| other.route != of.route && hosts.fits(name))
            {
                for secure in BTreeSet::from([of.secure, other.secure]) {
                    each(of.route, witness::plain(name, &path, secure));
                }
            }
        }
    }
}

/// As many of a list, the first and the last among them.
fn spread<T>(list: &[T], most: usize) -> impl Iterator<Item = &T> {
    let (most, last) = (most.min(list.len()), list.len().saturating_sub(1));
    (0..most).filter_map(move |at| list.get(at * last / (most - 1).max(1)))
}

/// Requests for the rules that the new table has and the old one has not, each with its router.
pub fn rules<'a>(scenes: &'a Scenes, standings: &[Standing]) -> Vec<(&'a Arc<Router>, Witness)> {
    let old: BTreeSet<(&str, i64)> =
        scenes.old.table.routers.iter().map(|(_, router)| (&*router.rule, router.priority)).collect();
    let names: Vec<String> = standings
        .iter()
        .filter_map(|one| Some(witness::first(scenes.routes.get(one.route)?, &scenes.options)?.0))
        .take(8)
        .chain([NOBODY.to_owned()])
        .collect();
    let mut all = Vec::new();
    let new = scenes.new.table.routers.iter().map(|(_, router)| router);
    for router in new.filter(|router| !old.contains(&(&*router.rule, router.priority))).take(MAX_RULES) {
        let Ok(rule) = rule::parse(&router.rule, Kind::Http, Syntax::named(&router.declared.rule_syntax)) else {
            continue;
        };
        let asked = Asked::of(rule.root());
        let hosts = if asked.hosts.is_empty() { &names } else { &asked.hosts };
        let paths = if asked.paths.is_empty() { &["/".to_owned()][..] } else { &asked.paths[..] };
        let both = hosts.iter().flat_map(|host| paths.iter().map(move |path| (host, path)));
        for ((host, path), secure) in both.flat_map(|one| [(one, false), (one, true)]).take(MAX_OF_RULE) {
            let mut witness = witness::plain(host, path, secure);
            asked.put_into(&mut witness);
            all.push((router, witness));
        }
    }
    all
}

/// What a verdict on such a request comes to: a router that was there before the conversion does not say anything of the old
/// tags where none of them routes, and is told of where one does.
pub fn of_rule(
    verdict: Verdict,
    old: Option<&Arc<Router>>,
    new: Option<&Arc<Router>>,
    before: &BTreeSet<&str>,
) -> Verdict {
    let name = new.and_then(|router| router.id.split('@').next()).unwrap_or_default();
    let was_there = before.contains(name);
    match verdict {
        Verdict::Differs(_) if old.is_none() && (was_there || !new.is_some_and(is_own)) => Verdict::Same,
        Verdict::Gap("own_router", _) if old.is_none() => Verdict::Same,
        Verdict::Differs(_) if was_there => own_router(),
        verdict => verdict,
    }
}

/// The names of the routers that a set has already.
pub fn routers_of(set: &Set) -> BTreeSet<&str> {
    let tags = set.services.iter().flat_map(|service| &service.tags);
    tags.filter_map(|tag| Some(tag.text.trim().strip_prefix("traefik.http.routers.")?.split_once('.')?.0)).collect()
}

/// What a rule's matchers name.
#[derive(Default)]
struct Asked {
    hosts: Vec<String>,
    paths: Vec<String>,
    method: Option<String>,
    headers: Vec<(String, String)>,
    query: Vec<String>,
    client: Option<String>,
}

impl Asked {
    fn of(root: &Expr) -> Self {
        let mut asked = Self::default();
        root.each_test(&mut |test| asked.take(test));
        asked
    }

    fn take(&mut self, test: &Test) {
        let first = test.args.first().cloned().unwrap_or_default();
        let second = test.args.get(1).cloned().unwrap_or_default();
        match test.name {
            Name::Host | Name::HostHeader => self.hosts.extend(test.args.iter().cloned()),
            Name::HostRegexp => self.hosts.extend(test.args.iter().filter_map(|regex| example(regex))),
            Name::Path | Name::PathPrefix => self.paths.extend(test.args.iter().cloned()),
            Name::PathRegexp => self.paths.extend(test.args.iter().filter_map(|regex| example(regex))),
            Name::Method => self.method = Some(first),
            Name::Header | Name::Headers => self.headers.push((first, second)),
            Name::Query => self.query.push(format!("{first}={second}")),
            Name::ClientIp => self.client = first.split('/').next().map(str::to_owned),
            _ => {}
        }
    }

    fn put_into(&self, witness: &mut Witness) {
        let question = &mut witness.question;
        if let Some(method) = &self.method {
            question.method.clone_from(method);
        }
        question.headers.extend(self.headers.iter().cloned());
        if !self.query.is_empty() {
            question.target.push('?');
            question.target.push_str(&self.query.join("&"));
        }
        if let Some(client) = &self.client {
            question.remote.clone_from(client);
        }
    }
}

/// A text that a simple expression fits, if it is one.
fn example(regex: &str) -> Option<String> {
    let mut text = regex.trim_start_matches("(?i)").trim_start_matches('^').trim_end_matches('$').to_owned();
    for (of, with) in [("[^.]+", "a"), ("[^/]+", "a"), (".*", "a"), (".+", "a"), ("\\", "")] {
        text = text.replace(of, with);
    }
    let compiled = regex::Regex::new(regex).ok()?;
    compiled.is_match(&text).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_list_are_among_its_sample() {
        let of = |list: &[u8], most| spread(list, most).copied().collect::<Vec<_>>();
        assert_eq!(of(&[1, 2, 3, 4, 5], 2), [1, 5]);
        assert_eq!(of(&[1, 2, 3, 4, 5], 3), [1, 3, 5]);
        assert_eq!(of(&[1, 2], 9), [1, 2]);
        assert_eq!(of(&[1], 2), [1]);
        assert_eq!(of(&[], 2), Vec::<u8>::new());
        assert_eq!(example(r"^.*\.h\.test$").as_deref(), Some("a.h.test"));
        assert_eq!(example("^(a|b)$"), None);
    }
}
