//! When a removal is believed: the last good services of one source, and the rule by which they
//! may go (ARCHITECTURE.md, invariant 5). Pure: the clock is an argument.
//!
//! What always holds:
//! - An error changes nothing here: there is no method for it.
//! - A name that is missing from a list is only *asked for*; it goes when its own read, good and
//!   empty, confirms it, so a whole list turned empty never empties the services by itself.
//! - After a reset (index back, wiped state, rights gone) what is missing is held until the name
//!   reappears or a person says [`Belief::forget`]. Its time runs only while the catalog can be read, and
//!   the end of it alone drops nothing: a list
//!   read after it has to lack the name ([`Belief::confirm`]), and then the name's own read.
//! - An answer that is older than the accepted age (no leader) adds, and takes nothing away.
//! - A service that did not change keeps its `Arc`.

use super::names::Names;
use super::{Instance, Inventory, Service, ServiceKey};
use crate::model::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How far an answer can be trusted to take something away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A known leader or a fresh enough stale read, index not below the last one: removals count.
    Full,
    /// Read from a server without a leader, older than accepted: removals do not count.
    Aged,
    /// The index went back, the state was wiped or the rights are gone: removals are held.
    Reset,
}

/// Judges an answer by its head: `last_contact` is how long ago the answering server heard of a
/// leader, `bound` the accepted age, `back` whether its index is below one seen before.
pub fn trust(known_leader: bool, last_contact: Duration, bound: Duration, back: bool) -> Trust {
    match (back, known_leader) {
        (true, _) => Trust::Reset,
        (false, true) if last_contact <= bound => Trust::Full,
        // A server that just lost its leader still serves what was true within the bound.
        (false, false) if last_contact <= bound && !last_contact.is_zero() => Trust::Full,
        _ => Trust::Aged,
    }
}

/// What a list says against what is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Believed and not listed, and not held: to be asked for one by one.
    pub missing: Vec<ServiceKey>,
    /// Listed, and not believed or held: to be read.
    pub unsettled: Vec<ServiceKey>,
}

/// The last good services of a source.
#[derive(Debug, Clone)]
pub struct Belief {
    services: Map<ServiceKey, Service>,
    held: BTreeMap<ServiceKey, Hold>,
    hold: Duration,
    ended: Vec<String>,
    changed: bool,
}

/// A removal that is held back.
#[derive(Debug, Clone, Copy)]
struct Hold {
    until: Instant,
    /// A list that was read after that time lacks the name.
    absent: bool,
}

impl Belief {
    /// Nothing known yet; removals after a reset are held for `hold`.
    pub fn new(hold: Duration) -> Self {
        Self { services: Map::new(), held: BTreeMap::new(), hold, ended: Vec::new(), changed: false }
    }

    /// Starts from what was believed before: it stays until a read says otherwise.
    pub fn remembering(hold: Duration, services: Vec<Arc<Service>>) -> Self {
        let services = services.into_iter().map(|service| (service.key.clone(), service)).collect();
        Self { services, ..Self::new(hold) }
    }

    /// The services as they are believed.
    pub fn services(&self) -> &Map<ServiceKey, Service> {
        &self.services
    }

    /// One service, if it is believed to exist.
    pub fn get(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// True when something changed since the last call; the caller publishes then.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// An inventory of what is believed.
    pub fn inventory(&self) -> Arc<Inventory> {
        Arc::new(Inventory { services: self.services.clone() })
    }

    /// Names whose removal is held back, `namespace/name` where there is a namespace.
    pub fn held(&self) -> Vec<String> {
        self.held.keys().map(shown).collect()
    }

    /// A service was read, or an event told of it: these are its instances now. Without instances
    /// nothing happens (see [`Belief::gone`]). With `Trust::Aged` instances are only added.
    pub fn put(&mut self, key: &ServiceKey, mut instances: Vec<Instance>, trust: Trust) {
        if instances.is_empty() {
            return;
        }
        let before = self.services.get(key).cloned();
        if let (Trust::Aged, Some(before)) = (trust, &before) {
            let known: BTreeSet<_> = instances.iter().map(|i| (i.id.clone(), i.node.clone())).collect();
            let missing = before.instances.iter().filter(|i| !known.contains(&(i.id.clone(), i.node.clone())));
            instances.extend(missing.cloned().collect::<Vec<_>>());
        }
        instances.sort_by(|a, b| (&a.id, &a.node).cmp(&(&b.id, &b.node)));
        if self.held.remove(key).is_some() {
            self.changed = true;
        }
        if before.is_some_and(|service| service.instances == instances) {
            return;
        }
        self.services.insert(key.clone(), Arc::new(Service { key: key.clone(), instances }));
        self.changed = true;
    }

    /// What a list says against what is believed; one walk, since both are in order.
    pub fn compare(&self, listed: &Names<'_>) -> Compared {
        let mut compared = Compared::default();
        let mut believed = self.services.keys().peekable();
        let mut missing = |key: &ServiceKey| {
            if !self.is_held(key) {
                compared.missing.push(key.clone());
            }
        };
        for (namespace, name) in listed.iter() {
            while let Some(key) = believed.next_if(|key| (&*key.namespace, &*key.name) < (namespace, name)) {
                missing(key);
            }
            match believed.next_if(|key| *key.name == *name && *key.namespace == *namespace) {
                Some(key) if !self.is_held(key) => {}
                _ => compared.unsettled.push(ServiceKey { namespace: namespace.into(), name: name.into() }),
            }
        }
        believed.for_each(missing);
        compared
    }

    /// The read of the name itself came back good and empty, or an event took its last instance.
    /// A name that is held stays held (after a reset an empty read is what is to be expected),
    /// unless its time is over and a list has confirmed since that it is missing.
    pub fn gone(&mut self, key: &ServiceKey, trust: Trust, now: Instant) {
        match trust {
            Trust::Full => match self.held.get(key) {
                Some(Hold { absent: false, .. }) => {}
                Some(_) => {
                    self.ended.push(shown(key));
                    self.remove(key);
                }
                None => self.remove(key),
            },
            Trust::Aged => {}
            Trust::Reset => self.hold([key.clone()], now),
        }
    }

    /// Removals of these names are held from now on (a hold that runs already is not prolonged).
    pub fn hold(&mut self, keys: impl IntoIterator<Item = ServiceKey>, now: Instant) {
        for key in keys {
            if self.services.contains_key(&key) && !self.held.contains_key(&key) {
                self.held.insert(key, Hold { until: now + self.hold, absent: false });
                self.changed = true;
            }
        }
    }

    /// The catalog could not be read for so long. What is held could not be seen to come back meanwhile, so this time does not count.
    pub fn away(&mut self, time: Duration) {
        self.held.values_mut().for_each(|hold| hold.until += time);
    }

    /// Whether the removal of this name is held back.
    pub fn is_held(&self, key: &ServiceKey) -> bool {
        !self.held.is_empty() && self.held.contains_key(key)
    }

    /// A removal that is certain: an event said so, or the service lost its routing tags.
    pub fn remove(&mut self, key: &ServiceKey) {
        self.held.remove(key);
        self.changed |= self.services.remove(key).is_some();
    }

    /// When the next hold that still runs is over; in the past where one waits to be confirmed.
    pub fn next_end(&self) -> Option<Instant> {
        self.held.values().map(|hold| hold.until).min()
    }

    /// A list was read that can be trusted: gives the names whose time is over and that it lacks.
    /// Their own reads, good and empty, end the hold.
    pub fn confirm(&mut self, listed: &Names<'_>, now: Instant) -> Vec<ServiceKey> {
        for (key, hold) in &mut self.held {
            hold.absent = hold.until <= now && !listed.contains(key);
        }
        self.held.iter().filter(|(_, hold)| hold.absent).map(|(key, _)| key.clone()).collect()
    }

    /// The next few held names behind this one, in a circle: each may have come back unseen.
    pub fn held_after(&self, last: Option<&ServiceKey>, count: usize) -> Vec<ServiceKey> {
        let behind = self.held.keys().filter(|key| last.is_some_and(|last| *key > last));
        let before = self.held.keys().filter(|key| last.is_none_or(|last| *key <= last));
        behind.chain(before).take(count).cloned().collect()
    }

    /// Names whose hold ended since the last call.
    pub fn take_ended(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ended)
    }

    /// Drops everything held, by a person's word; gives the names.
    pub fn forget(&mut self) -> Vec<String> {
        let keys: Vec<_> = std::mem::take(&mut self.held).into_keys().collect();
        for key in &keys {
            self.remove(key);
        }
        keys.iter().map(shown).collect()
    }
}

/// A service's name for people.
pub fn shown(key: &ServiceKey) -> String {
    if key.namespace.is_empty() { key.name.to_string() } else { format!("{}/{}", key.namespace, key.name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Health;
    use proptest::prelude::*;

    const HOLD: Duration = Duration::from_secs(600);

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "default".into(), name: name.into() }
    }

    fn instance(id: &str, port: u16) -> Instance {
        Instance {
            id: id.into(),
            node: "n".into(),
            address: "10.0.0.1".into(),
            node_address: "".into(),
            port,
            tags: Vec::new(),
            health: Health::Unknown,
            datacenter: "dc1".into(),
            create_index: 1,
            job: "".into(),
            alloc: "".into(),
            checks: None,
        }
    }

    fn belief(names: &[&str]) -> Belief {
        let mut belief = Belief::new(HOLD);
        for name in names {
            belief.put(&key(name), vec![instance("a", 1), instance("b", 2)], Trust::Full);
        }
        assert!(belief.take_changed());
        belief
    }

    fn missing(belief: &Belief, listed: &[&str]) -> Vec<String> {
        let names = Names::new(vec![("default".into(), listed.iter().map(|name| (*name).into()).collect())]);
        belief.compare(&names).missing.iter().map(|key| key.name.to_string()).collect()
    }

    #[test]
    fn trust_needs_a_leader_or_a_recent_one_and_an_index_not_below() {
        let (bound, s) = (Duration::from_secs(10), Duration::from_secs(1));
        for (leader, contact, back, expected) in [
            (true, Duration::ZERO, false, Trust::Full),
            (true, s, false, Trust::Full),
            (true, s * 11, false, Trust::Aged),
            (false, Duration::from_millis(1676), false, Trust::Full),
            (false, Duration::from_millis(28_281), false, Trust::Aged),
            (false, Duration::ZERO, false, Trust::Aged),
            (true, Duration::ZERO, true, Trust::Reset),
            (false, s * 11, true, Trust::Reset),
        ] {
            assert_eq!(trust(leader, contact, bound, back), expected, "{leader} {contact:?} {back}");
        }
    }

    #[test]
    fn a_list_turned_empty_removes_nothing_until_each_name_is_confirmed() {
        let mut belief = belief(&["web", "api"]);
        assert_eq!(missing(&belief, &[]), ["api", "web"]);
        assert!(!belief.take_changed());
        belief.put(&key("web"), Vec::new(), Trust::Full);
        assert_eq!(belief.services().len(), 2, "an empty read is no put");
        belief.gone(&key("web"), Trust::Full, Instant::now());
        assert!(belief.take_changed());
        assert_eq!(missing(&belief, &[]), ["api"]);
    }

    #[test]
    fn a_list_tells_what_is_new_what_is_missing_and_what_is_held_and_back() {
        let names = |listed: &[(&'static str, &[&'static str])]| {
            let group = |names: &[&'static str]| names.iter().map(|name| (*name).into()).collect();
            Names::new(listed.iter().map(|(namespace, names)| ((*namespace).into(), group(names))).collect())
        };
        let mut belief = belief(&["b", "d", "f"]);
        belief.hold([key("d")], Instant::now());
        let told = belief.compare(&names(&[("default", &["e", "d", "b", "a"]), ("also", &["b"]), ("other", &["f"])]));
        assert_eq!(told.missing, [key("f")]);
        let shown: Vec<_> = told.unsettled.iter().map(shown).collect();
        assert_eq!(shown, ["also/b", "default/a", "default/d", "default/e", "other/f"]);
        assert_eq!(
            belief.compare(&names(&[("default", &["f", "b"])])),
            Compared::default(),
            "what is held is not missing"
        );
    }

    #[test]
    fn after_a_reset_what_is_missing_is_held_until_it_reappears() {
        let now = Instant::now();
        let mut belief = belief(&["web", "api"]);
        belief.hold([key("web"), key("api"), key("never-seen")], now);
        assert_eq!(belief.held(), ["default/api", "default/web"]);
        assert_eq!(missing(&belief, &[]), [""; 0], "held names are not asked for");
        belief.gone(&key("api"), Trust::Full, now);
        assert_eq!(belief.services().len(), 2, "nor does an empty read end the hold");
        belief.put(&key("web"), vec![instance("new", 9)], Trust::Full);
        assert_eq!(belief.held(), ["default/api"]);
        assert_eq!(belief.get(&key("web")).unwrap().instances, [instance("new", 9)]);
        assert_eq!(belief.services().len(), 2);
        belief.gone(&key("web"), Trust::Full, now);
        assert_eq!(belief.services().len(), 1, "what reappeared may go again");
    }

    #[test]
    fn a_hold_does_not_run_while_the_catalog_is_away() {
        let (now, late) = (Instant::now(), Instant::now() + HOLD);
        let mut belief = belief(&["web"]);
        belief.hold([key("web")], now);
        belief.away(HOLD / 2);
        assert_eq!(belief.confirm(&Names::default(), late), []);
        assert_eq!(belief.confirm(&Names::default(), late + HOLD / 2), [key("web")]);
    }

    #[test]
    fn a_hold_ends_by_hand_or_when_list_and_read_confirm_it_after_its_time() {
        let (now, late) = (Instant::now(), Instant::now() + HOLD);
        let names = |listed: &[&'static str]| {
            Names::new(vec![("default".into(), listed.iter().map(|name| (*name).into()).collect())])
        };
        let mut belief = belief(&["web", "api"]);
        belief.gone(&key("web"), Trust::Reset, now);
        belief.hold([key("web")], now + HOLD / 2);
        assert_eq!(belief.next_end(), Some(now + HOLD), "not prolonged");
        assert_eq!(belief.confirm(&names(&["api"]), now + HOLD / 2), [], "too early");
        belief.gone(&key("web"), Trust::Full, late);
        assert_eq!(belief.services().len(), 2, "a read alone does not end it, whatever the time");
        assert_eq!(belief.confirm(&names(&["api", "web"]), late), [], "it is listed");
        belief.gone(&key("web"), Trust::Full, late);
        assert_eq!(belief.confirm(&names(&["api"]), late), [key("web")]);
        belief.gone(&key("web"), Trust::Aged, late);
        belief.gone(&key("web"), Trust::Reset, late);
        assert_eq!((belief.services().len(), belief.held().len()), (2, 1), "the list alone does not end it");
        belief.gone(&key("web"), Trust::Full, late);
        assert_eq!((belief.services().len(), belief.take_ended()), (1, vec!["default/web".to_owned()]));
        belief.hold([key("api")], now);
        assert_eq!(belief.forget(), ["default/api"]);
        assert!(belief.services().is_empty() && belief.held().is_empty() && belief.next_end().is_none());
    }

    #[test]
    fn held_names_are_looked_at_in_a_circle() {
        let mut belief = belief(&["a", "b", "c", "d"]);
        belief.hold([key("a"), key("c"), key("d")], Instant::now());
        let last = key("c");
        assert_eq!(belief.held_after(None, 2), [key("a"), key("c")]);
        assert_eq!(belief.held_after(Some(&last), 2), [key("d"), key("a")]);
        assert_eq!(belief.held_after(Some(&last), 9), [key("d"), key("a"), key("c")]);
    }

    #[test]
    fn an_aged_answer_adds_and_changes_but_takes_nothing() {
        let mut belief = belief(&["web"]);
        belief.put(&key("web"), vec![instance("b", 3), instance("c", 4)], Trust::Aged);
        assert_eq!(belief.get(&key("web")).unwrap().instances, [instance("a", 1), instance("b", 3), instance("c", 4)]);
        belief.gone(&key("web"), Trust::Aged, Instant::now());
        assert_eq!(belief.services().len(), 1);
        belief.put(&key("web"), vec![instance("c", 4)], Trust::Full);
        assert_eq!(belief.get(&key("web")).unwrap().instances, [instance("c", 4)]);
    }

    #[test]
    fn what_did_not_change_keeps_its_arc() {
        let mut belief = belief(&["web"]);
        let before = belief.get(&key("web")).unwrap().clone();
        belief.put(&key("web"), vec![instance("b", 2), instance("a", 1)], Trust::Full);
        assert!(!belief.take_changed());
        assert!(Arc::ptr_eq(&before, belief.get(&key("web")).unwrap()));
    }

    proptest! {
        /// Whatever comes without a confirmed removal, no name goes before its hold ends.
        #[test]
        fn nothing_goes_without_a_reason(steps in prop::collection::vec((0usize..5, 0usize..4), 0..60)) {
            let names = ["a", "b", "c", "d"];
            let now = Instant::now();
            let mut belief = belief(&names);
            for (what, n) in steps {
                match what {
                    0 => belief.put(&key(names[n]), vec![instance("x", 5)], Trust::Full),
                    1 => belief.put(&key(names[n]), Vec::new(), Trust::Full),
                    2 => belief.gone(&key(names[n]), Trust::Aged, now),
                    3 => belief.gone(&key(names[n]), Trust::Reset, now),
                    _ => drop(belief.confirm(&Names::default(), now + HOLD / 2)),
                }
                prop_assert_eq!(belief.services().len(), names.len());
                prop_assert!(belief.services().values().all(|s| !s.instances.is_empty()));
            }
        }
    }
}
