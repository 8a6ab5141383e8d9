//! What the list and the reads of each name make of the services together. Pure.
//!
//! What always holds: a service goes when both the list and its own read say so, in whatever
//! order they come. A name that the list shows and whose read is empty twice is one whose nodes
//! may not be seen: it is held, not removed. So is everything when `consul`, which every server
//! registers, is no longer in a list that had it.

use super::decode::List;
use crate::catalog::believe::{Belief, Compared, Trust};
use crate::catalog::{Instance, ServiceKey, Spawn};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// The services of one namespace.
#[derive(Debug)]
pub struct State {
    spawn: Spawn,
    namespace: Arc<str>,
    /// What is believed of them.
    pub belief: Belief,
    listed: BTreeSet<Arc<str>>,
    servers_seen: bool,
    doubted: BTreeMap<Arc<str>, Doubt>,
    /// Index of the last read of each name, and how many older ones came after it.
    reads: BTreeMap<Arc<str>, (u64, u8)>,
}

/// A listed name whose read was empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The list is older than the read; a newer one has to tell.
    Listed(Instant),
    /// A newer list still shows it; another read has to tell.
    ListedStill,
    /// That was empty as well.
    Unseen,
}

/// What to do after a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// Names that are new, or whose doubt or hold another read settles.
    pub read: Vec<Arc<str>>,
    /// Names that are no longer listed, or whose hold is over: no watcher is needed, and a read has to confirm it.
    pub gone: Vec<Arc<str>>,
    /// The servers' own service vanished: the token lost rights on services.
    pub narrowed: bool,
    /// Other names are listed than before.
    pub changed: bool,
}

/// How often a read that is older than the last is asked for again.
const AGAIN: u8 = 3;

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// An older answer than the last one: ask again.
    Again,
    /// It counts.
    Taken,
    /// Empty although listed: a newer list has to tell.
    Doubted,
    /// Empty although still listed: the nodes of its instances may not be seen.
    Unseen,
}

impl State {
    /// Nothing known but what was known of this namespace before.
    pub fn new(spawn: Spawn, namespace: &str) -> Self {
        let belief = Belief::remembering(spawn.reset_hold, spawn.remembered(namespace));
        Self {
            spawn,
            namespace: namespace.into(),
            belief,
            listed: BTreeSet::new(),
            servers_seen: false,
            doubted: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Which namespace.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// The routed names of the last list.
    pub fn listed(&self) -> &BTreeSet<Arc<str>> {
        &self.listed
    }

    /// Drops what is held, by a person's word: then what is seen now is what may be seen. Gives the names.
    pub fn forget(&mut self) -> Vec<String> {
        self.servers_seen = false;
        self.belief.forget()
    }

    /// Names are listed, and of none of them may an instance be seen.
    pub fn sees_no_instance(&self) -> bool {
        !self.listed.is_empty()
            && self.belief.services().is_empty()
            && self.listed.iter().all(|name| self.doubted.contains_key(name))
    }

    /// Some name is listed, still, and its read is empty: nodes may not be seen.
    pub fn unseen(&self) -> bool {
        self.doubted.values().any(|doubt| !matches!(doubt, Doubt::Listed(_))) || self.sees_no_instance()
    }

    /// Names that are listed while their reads are empty.
    pub fn doubted(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.doubted.keys()
    }

    /// Whether some name waits for a newer list.
    pub fn waits_for_list(&self) -> bool {
        self.doubted.values().any(|doubt| matches!(doubt, Doubt::Listed(_)))
    }

    /// Takes a list that was asked for at `asked`.
    pub fn list(&mut self, list: &List<'_>, trust: Trust, asked: Instant, now: Instant) -> Next {
        let narrowed = self.servers_seen && !list.servers;
        self.servers_seen |= list.servers;
        let confirms = trust == Trust::Full;
        let trust = if narrowed && confirms { Trust::Reset } else { trust };
        let mut next = Next { narrowed, ..Next::default() };
        if !self.listed.iter().map(|name| &**name).eq(list.routed.iter().map(|(_, name)| name)) {
            let before = std::mem::take(&mut self.listed);
            // A name that stays keeps its text.
            let names = list.routed.iter().map(|(_, name)| name);
            self.listed = names.map(|name| before.get(name).cloned().unwrap_or_else(|| name.into())).collect();
            next.changed = true;
        }

        if trust == Trust::Reset {
            self.reads.clear();
        }
        let (listed, belief, namespace) = (&self.listed, &self.belief, &self.namespace);
        // Mostly it holds those that are listed and no other.
        if next.changed || self.reads.len() > listed.len() {
            self.reads.retain(|name, _| listed.contains(name) || belief.get(&key(namespace, name)).is_some());
        }

        let Compared { missing, unsettled } = self.belief.compare(&list.routed);
        match trust {
            Trust::Full => next.gone.extend(missing.into_iter().map(|key| key.name)),
            Trust::Aged => {}
            Trust::Reset => self.belief.hold(missing, now),
        }
        // A token that stays narrower shows after the time of the hold what there is.
        if confirms {
            next.gone.extend(self.belief.confirm(&list.routed, now).into_iter().map(|key| key.name));
        }
        let unsettled = unsettled.into_iter().filter_map(|key| listed.get(&key.name).cloned());
        let held = |name: &Arc<str>| self.belief.is_held(&key(namespace, name));
        next.read.extend(unsettled.filter(|name| !self.doubted.contains_key(name) || held(name)));
        let (mut settled, listed) = (Vec::new(), &self.listed);
        self.doubted.retain(|name, doubt| {
            match (listed.contains(name), *doubt) {
                (false, _) => {
                    settled.push(name.clone());
                    return false;
                }
                (true, Doubt::Listed(at)) if asked > at => {
                    *doubt = Doubt::ListedStill;
                    next.read.push(name.clone());
                }
                _ => {}
            }
            true
        });
        // Its own read said so before the list did: nothing more to ask.
        for name in settled {
            self.belief.gone(&key(&self.namespace, &name), trust, now);
            next.gone.retain(|gone| *gone != name);
        }
        next
    }

    /// Takes a read of one name. Watchers and readers overtake each other; what is older than the
    /// last is asked for again, a few times, since a name's index may also go back for good.
    pub fn read(&mut self, name: &Arc<str>, instances: Vec<Instance>, index: u64, trust: Trust, now: Instant) -> Read {
        let (last, older) = self.reads.entry(name.clone()).or_default();
        if index < *last && *older < AGAIN {
            *older += 1;
            return Read::Again;
        }
        (*last, *older) = (index, 0);
        let key = key(&self.namespace, name);
        if !instances.is_empty() {
            self.doubted.remove(name);
            if self.spawn.routes(instances.iter().flat_map(|i| &i.tags)) {
                self.belief.put(&key, instances, trust);
            } else if trust == Trust::Full {
                self.belief.remove(&key);
            }
            return Read::Taken;
        }
        if !self.listed.contains(name) {
            self.belief.gone(&key, trust, now);
            return Read::Taken;
        }
        let doubt = self.doubted.entry(name.clone()).or_insert(Doubt::Listed(now));
        match doubt {
            Doubt::Listed(_) => Read::Doubted,
            Doubt::ListedStill | Doubt::Unseen => {
                *doubt = Doubt::Unseen;
                self.belief.hold([key], now);
                Read::Unseen
            }
        }
    }
}

fn key(namespace: &Arc<str>, name: &Arc<str>) -> ServiceKey {
    ServiceKey { namespace: namespace.clone(), name: name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::consul::decode::{self, SERVERS};
    use crate::catalog::http::testing::{Recording, spawn};
    use crate::catalog::names::Names;
    use std::borrow::Cow;
    use std::time::Duration;

    const TAG: &str = "traefik.enable=true";

    fn list(text: &str) -> List<'_> {
        let names = || text.split_whitespace().map(Cow::from);
        let routed = names().filter(|name| name != SERVERS).collect();
        List {
            routed: Names::new(vec![("".into(), routed)]),
            servers: names().any(|name| name == SERVERS),
            is_empty: text.is_empty(),
        }
    }

    fn instances(tags: &[&str]) -> Vec<Instance> {
        let json = serde_json::json!([{"Node": {"Node": "n", "Address": "10.0.0.1"}, "Service": {"ID": "a", "Port": 80, "Tags": tags}}]);
        decode::service(json.to_string().as_bytes()).unwrap()
    }

    struct Steps {
        state: State,
        now: Instant,
    }

    impl Steps {
        fn new(names: &str) -> Self {
            let mut steps = Self { state: State::new(spawn(false), ""), now: Instant::now() };
            let next = steps.list(names);
            for name in next.read {
                assert_eq!(steps.read(&name, &[TAG]), Read::Taken);
            }
            steps
        }

        fn list(&mut self, names: &str) -> Next {
            self.now += Duration::from_secs(1);
            self.state.list(&list(names), Trust::Full, self.now, self.now)
        }

        fn read(&mut self, name: &str, tags: &[&str]) -> Read {
            self.now += Duration::from_secs(1);
            self.state.read(&name.into(), instances(tags), 5, Trust::Full, self.now)
        }

        fn empty(&mut self, name: &str) -> Read {
            self.now += Duration::from_secs(1);
            self.state.read(&name.into(), Vec::new(), 5, Trust::Full, self.now)
        }

        fn names(&self) -> String {
            self.state.belief.services().keys().map(|k| &*k.name).collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn a_service_goes_when_list_and_read_agree_in_either_order() {
        let mut steps = Steps::new("consul web api");
        assert_eq!(steps.names(), "api web");
        assert_eq!(steps.list("consul api").gone, ["web".into()]);
        assert_eq!(steps.names(), "api web", "the list alone does not remove");
        assert_eq!(steps.empty("web"), Read::Taken);
        assert_eq!(steps.names(), "api");
        assert_eq!(steps.empty("api"), Read::Doubted);
        assert_eq!(steps.names(), "api", "nor does the read alone");
        assert_eq!(steps.list("consul"), Next { changed: true, ..Next::default() });
        assert_eq!(steps.names(), "");
    }

    #[test]
    fn a_name_that_is_listed_without_instances_is_held() {
        let mut steps = Steps::new("consul web");
        assert_eq!(steps.empty("web"), Read::Doubted);
        assert!(steps.state.waits_for_list() && !steps.state.sees_no_instance());
        let before = steps.now - Duration::from_secs(1);
        assert_eq!(
            steps.state.list(&list("consul web"), Trust::Full, before, steps.now),
            Next::default(),
            "an older list"
        );
        assert_eq!(steps.list("consul web").read, ["web".into()]);
        assert_eq!(steps.empty("web"), Read::Unseen);
        assert_eq!((steps.names().as_str(), steps.state.belief.held()), ("web", vec!["web".to_owned()]));
        assert_eq!(steps.list("consul web").read, ["web".into()], "looked at again with each list");
        assert_eq!(steps.read("web", &[TAG]), Read::Taken);
        assert_eq!(steps.state.belief.held(), [""; 0]);
    }

    #[test]
    fn a_token_without_node_rights_from_the_start_sees_no_instance() {
        let mut state = State::new(spawn(false), "");
        let now = Instant::now();
        let next = state.list(&list("consul web"), Trust::Full, now, now);
        assert_eq!(state.read(&next.read[0], Vec::new(), 5, Trust::Full, now), Read::Doubted);
        assert!(state.sees_no_instance());
    }

    #[test]
    fn when_the_servers_vanish_from_the_list_nothing_goes() {
        let mut steps = Steps::new("consul web api");
        let next = steps.list("api");
        assert_eq!((next.narrowed, next.gone.len()), (true, 0));
        assert_eq!(steps.empty("web"), Read::Taken);
        assert_eq!((steps.names().as_str(), steps.state.belief.held()), ("api web", vec!["web".to_owned()]));
        let next = steps.list("consul web api");
        assert_eq!((next.narrowed, next.read), (false, vec!["web".into()]));
        assert!(steps.list("api").narrowed);
        assert_eq!(steps.state.forget(), ["web"]);
        assert!(!steps.list("api").narrowed, "a narrower token that a person agreed to");
    }

    #[test]
    fn a_reset_holds_what_is_missing_and_an_aged_list_takes_nothing() {
        let mut steps = Steps::new("web api");
        assert_eq!(steps.state.list(&list(""), Trust::Aged, steps.now, steps.now).gone.len(), 0);
        assert_eq!(steps.state.list(&list("api"), Trust::Reset, steps.now, steps.now).gone.len(), 0);
        assert_eq!(steps.state.belief.held(), ["web"]);
        assert_eq!(steps.names(), "api web");
    }

    #[test]
    fn a_hold_that_is_over_ends_only_when_list_and_read_confirm_it() {
        let mut steps = Steps::new("consul web api");
        assert_eq!(steps.state.list(&list("consul api"), Trust::Reset, steps.now, steps.now).gone, []);
        assert_eq!(steps.empty("web"), Read::Taken);
        assert_eq!(steps.list("consul api").gone, [], "its time is not over");
        steps.now += steps.state.spawn.reset_hold;
        assert_eq!(steps.empty("web"), Read::Taken);
        assert_eq!(steps.names(), "api web", "a read alone does not end it");
        assert_eq!(steps.state.list(&list("consul api"), Trust::Aged, steps.now, steps.now).gone, []);
        assert_eq!(steps.list("consul api web").gone, [], "it is back");
        assert_eq!(steps.list("api").gone, ["web".into()], "nor does the list alone");
        assert_eq!(steps.names(), "api web");
        assert_eq!(steps.empty("web"), Read::Taken);
        assert_eq!((steps.names().as_str(), steps.state.belief.take_ended()), ("api", vec!["web".to_owned()]));
    }

    #[test]
    fn a_name_without_a_routing_tag_any_more_goes() {
        let mut steps = Steps::new("consul web");
        assert_eq!(steps.read("web", &["plain"]), Read::Taken);
        assert_eq!(steps.names(), "");
        let before = steps.state.listed().first().unwrap().clone();
        steps.list("consul web");
        assert!(Arc::ptr_eq(&before, steps.state.listed().first().unwrap()));
    }

    #[test]
    fn an_overtaken_read_is_asked_for_again_but_not_for_ever() {
        let mut steps = Steps::new("consul web");
        let (web, now) = ("web".into(), steps.now);
        assert_eq!(steps.state.read(&web, instances(&[TAG, "new"]), 9, Trust::Full, now), Read::Taken);
        for _ in 0..AGAIN {
            assert_eq!(steps.state.read(&web, instances(&[TAG]), 8, Trust::Full, now), Read::Again);
        }
        let tags = |steps: &Steps| steps.state.belief.services().values().next().unwrap().instances[0].tags.len();
        assert_eq!(tags(&steps), 2);
        assert_eq!(steps.state.read(&web, instances(&[TAG]), 8, Trust::Full, now), Read::Taken);
        assert_eq!(tags(&steps), 1);
        assert_eq!(steps.state.read(&web, instances(&[TAG]), 7, Trust::Full, now), Read::Again);
        steps.state.list(&list("consul web"), Trust::Reset, now, now);
        assert_eq!(steps.state.read(&web, instances(&[TAG]), 2, Trust::Full, now), Read::Taken, "indexes start anew");
    }

    /// The tokens of the recorded matrix: what may be seen decides what is believed.
    #[test]
    fn recorded_answers_without_rights_remove_nothing() {
        let recording = Recording::read("consul", "acl-default-deny.json");
        let lists: Vec<_> = recording.good().filter(|e| e.path() == "/v1/catalog/services").map(|e| e.body()).collect();
        let empty = lists.iter().find(|body| *body == "{}").expect("an answer without rights");
        let full = lists.iter().find(|body| body.contains("web")).expect("an answer with rights");
        let mut state = State::new(spawn(true), "");
        let now = Instant::now();
        let all = spawn(true);
        for name in state.list(&decode::list(full.as_bytes(), "", all.as_routes()).unwrap(), Trust::Full, now, now).read
        {
            state.read(&name, instances(&[]), 5, Trust::Full, now);
        }
        let next = state.list(&decode::list(empty.as_bytes(), "", all.as_routes()).unwrap(), Trust::Full, now, now);
        assert!(next.narrowed && next.gone.is_empty());
        assert_eq!((state.belief.services().len(), state.belief.held().len()), (3, 3));
    }
}
