//! What the event stream, the list and the point reads make of the services together. Pure.
//!
//! What always holds: for an instance, the newer of event and read counts, by raft index, in
//! whatever order they arrive; only names with a routing tag are kept; a removal by event is
//! believed, one by absence from the list is first asked for (see [`Belief`]).

use super::decode::{Event, Registration};
use crate::catalog::believe::{Belief, Compared, Trust};
use crate::catalog::names::Names;
use crate::catalog::{Instance, ServiceKey, Spawn};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// How often a read that is older than an event is asked for again at once; more only happens on a server
/// that lags behind its own event stream, or where what is known of indexes is from before a reset that nobody noticed.
const AGAIN: u8 = 5;
/// How often it is asked for with pauses after that. No server with a leader lags that long, so then it counts as after a reset.
const LATE: u8 = 2;

/// The services of one namespace (or of all), and by which index each is known.
#[derive(Debug)]
pub struct State {
    spawn: Spawn,
    /// What is believed of them.
    pub belief: Belief,
    seen: BTreeMap<ServiceKey, Seen>,
    highest: u64,
    /// Highest index of anything: a list that is asked for after it cannot be below.
    top: u64,
}

/// Indexes by which a name is known.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    read: u64,
    event: u64,
    again: u8,
}

/// What a point read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// It counts.
    Taken,
    /// An event is newer: ask again.
    Again,
    /// It is so still: ask again after a pause.
    Late,
}

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it is known, or of no interest.
    Enough,
    /// The name has to be read, since not all of its instances may be known.
    Part(ServiceKey),
    /// It is older than the last read and does not agree with it: the name has to be read again after a
    /// pause, since its index may be from before a reset that nobody noticed.
    Doubt(ServiceKey),
}

impl State {
    /// Nothing known but what was known of this namespace before.
    pub fn new(spawn: Spawn, namespace: &str) -> Self {
        let belief = Belief::remembering(spawn.reset_hold, spawn.remembered(namespace));
        Self { spawn, belief, seen: BTreeMap::new(), highest: 0, top: 0 }
    }

    /// Highest index of an event or of a complete read.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Highest index of any event, read or list. A list that is asked for afterwards and is below it comes
    /// from a server that lags, for a moment, or from one whose state was wiped.
    pub fn top(&self) -> u64 {
        self.top.max(self.highest)
    }

    /// A list was read, or everything it named: events up to its index are in what was read.
    pub fn complete_to(&mut self, index: u64) {
        self.highest = self.highest.max(index);
    }

    /// The index went back: what was known of indexes is void.
    pub fn reset(&mut self) {
        self.seen.clear();
        (self.highest, self.top) = (0, 0);
    }

    /// The names to read after a list: with `all` every routed one, otherwise those that are new
    /// or held; and those that vanished or whose hold is over, to confirm it, unless a reset holds them.
    pub fn unsettled(&mut self, routed: &Names<'_>, all: bool, trust: Trust, now: Instant) -> Vec<ServiceKey> {
        let Compared { missing, mut unsettled } = self.belief.compare(routed);
        if all {
            unsettled = routed.keys().collect();
        }
        match trust {
            Trust::Full => {
                unsettled.extend(missing);
                unsettled.extend(self.belief.confirm(routed, now));
            }
            Trust::Aged => {}
            Trust::Reset => self.belief.hold(missing, now),
        }
        unsettled
    }

    /// Forgets the indexes of names that are gone, so that names that come and go do not add up.
    pub fn prune(&mut self, index: u64) {
        let belief = &self.belief;
        // Mostly it holds those that are believed and no other.
        if self.seen.len() > belief.services().len() {
            self.seen.retain(|key, seen| belief.get(key).is_some() || seen.event > index);
        }
    }

    /// Applies an event.
    pub fn event(&mut self, event: Event, now: Instant) -> Told {
        self.highest = self.highest.max(event.index);
        let Registration { key, instance } = event.registration;
        let known = self.belief.get(&key).filter(|_| !self.belief.is_held(&key)).cloned();
        let routes = event.registered && self.spawn.routes(&instance.tags);
        let relevant = routes || self.belief.get(&key).is_some() || self.seen.contains_key(&key);
        if !relevant {
            return Told::Enough;
        }
        let seen = self.seen.entry(key.clone()).or_default();
        if event.index <= seen.read {
            let believed = self.belief.get(&key).into_iter().flat_map(|service| &service.instances);
            let mut same = believed.filter(|known| known.id == instance.id);
            let agrees = if event.registered { same.any(|known| *known == instance) } else { same.next().is_none() };
            return if agrees { Told::Enough } else { Told::Doubt(key) };
        }
        (seen.event, seen.again) = (seen.event.max(event.index), 0);
        let others = known.iter().flat_map(|service| &service.instances).filter(|other| other.id != instance.id);
        let mut instances: Vec<Instance> = others.cloned().collect();
        if event.registered {
            instances.push(instance);
        }
        if instances.is_empty() {
            // A held name is not touched by the removal of an instance that it is not known by.
            if known.is_some() {
                self.belief.gone(&key, Trust::Full, now);
            }
        } else if self.spawn.routes(instances.iter().flat_map(|i| &i.tags)) {
            self.belief.put(&key, instances, Trust::Full);
        } else if known.is_some() {
            self.belief.remove(&key);
        }
        if known.is_none() && event.registered { Told::Part(key) } else { Told::Enough }
    }

    /// Takes the answer of a point read; `index` is its own, `floor` that of the list that named it.
    pub fn read(
        &mut self,
        key: &ServiceKey,
        found: Vec<Registration>,
        (index, floor): (u64, u64),
        mut trust: Trust,
        now: Instant,
    ) -> Read {
        self.top = self.top.max(index);
        let seen = self.seen.entry(key.clone()).or_default();
        if index < seen.event.max(seen.read).max(floor) {
            seen.again = seen.again.saturating_add(1);
            if seen.again <= AGAIN {
                return Read::Again;
            }
            if seen.again <= AGAIN + LATE || trust != Trust::Full {
                return Read::Late;
            }
            seen.event = 0;
            // It counts, but whoever gives it may have been wiped.
            trust = Trust::Reset;
        }
        *seen = Seen { read: index, event: seen.event, again: 0 };
        let instances: Vec<_> = found.into_iter().map(|registration| registration.instance).collect();
        if instances.is_empty() {
            self.belief.gone(key, trust, now);
        } else if self.spawn.routes(instances.iter().flat_map(|i| &i.tags)) {
            self.belief.put(key, instances, trust);
        } else if trust == Trust::Full {
            self.belief.remove(key);
        }
        Read::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::http::Product;
    use crate::catalog::http::testing::{Recording, spawn};
    use crate::catalog::nomad::decode;
    use std::collections::BTreeSet;

    fn key(namespace: &str, name: &str) -> ServiceKey {
        ServiceKey { namespace: namespace.into(), name: name.into() }
    }

    fn event(kind: &str, index: u64, id: &str, tags: &[&str]) -> Event {
        let line = serde_json::json!({"Index": index, "Events": [{"Topic": "Service", "Type": kind, "Index": index,
            "Payload": {"Service": {"ID": id, "ServiceName": "web", "Namespace": "default", "Port": 80, "Tags": tags}}}]});
        decode::line(line.to_string().as_bytes()).unwrap().remove(0)
    }

    fn ids(state: &State) -> Vec<String> {
        let web = state.belief.get(&key("default", "web"));
        web.iter().flat_map(|s| s.instances.iter().map(|i| i.id.to_string())).collect()
    }

    fn registered(ids: &[&str]) -> Vec<Registration> {
        ids.iter().map(|id| event("ServiceRegistration", 1, id, &["traefik.enable=true"]).registration).collect()
    }

    const ON: &[&str] = &["traefik.enable=true"];

    #[test]
    fn the_newer_of_event_and_read_counts_in_whatever_order() {
        let (mut state, now, web) = (State::new(spawn(false), "*"), Instant::now(), key("default", "web"));
        assert_eq!(state.event(event("ServiceRegistration", 10, "a", ON), now), Told::Part(web.clone()));
        assert_eq!(ids(&state), ["a"], "it counts before the read");
        assert_eq!(state.read(&web, registered(&["a", "b"]), (12, 0), Trust::Full, now), Read::Taken);
        assert_eq!(state.event(event("ServiceDeregistration", 12, "b", ON), now), Told::Doubt(web.clone()));
        assert_eq!(ids(&state), ["a", "b"], "the read was newer");
        state.event(event("PlanResult", 14, "a", ON), now);
        assert_eq!(ids(&state), ["b"]);
        assert_eq!(state.read(&web, registered(&["a", "b"]), (13, 0), Trust::Full, now), Read::Again);
        assert_eq!(ids(&state), ["b"], "the event was newer");
        state.event(event("ServiceDeregistration", 15, "b", ON), now);
        assert_eq!(ids(&state), [""; 0]);
        assert_eq!(
            state.read(&web, registered(&["b"]), (14, 0), Trust::Full, now),
            Read::Again,
            "no rising from the dead"
        );
        assert_eq!((ids(&state), state.highest()), (vec![], 15));
        state.prune(14);
        assert_eq!(state.read(&web, registered(&["b"]), (14, 0), Trust::Full, now), Read::Again);
        state.prune(15);
        assert!(state.seen.is_empty());
    }

    #[test]
    fn a_read_from_before_the_list_is_asked_for_again() {
        let (mut state, now, web) = (State::new(spawn(false), "*"), Instant::now(), key("default", "web"));
        assert_eq!(state.read(&web, registered(&["a"]), (9, 10), Trust::Full, now), Read::Again);
        assert_eq!(state.read(&web, registered(&["a"]), (10, 10), Trust::Full, now), Read::Taken);
        assert_eq!(ids(&state), ["a"]);
    }

    #[test]
    fn a_read_that_stays_behind_is_asked_for_after_pauses_and_counts_in_the_end() {
        let (mut state, now, web) = (State::new(spawn(false), "*"), Instant::now(), key("default", "web"));
        state.event(event("ServiceRegistration", 10, "a", ON), now);
        let mut read = |trust| state.read(&web, registered(&["b"]), (9, 0), trust, now);
        let again = (0..20).take_while(|_| read(Trust::Full) == Read::Again).count();
        assert_eq!(again, usize::from(AGAIN));
        assert_eq!([read(Trust::Full), read(Trust::Aged)], [Read::Late; 2], "not without a leader");
        assert_eq!(read(Trust::Full), Read::Taken, "the index is from before a reset that nobody noticed");
        assert_eq!(ids(&state), ["b"]);
        assert_eq!(state.event(event("ServiceRegistration", 10, "c", ON), now), Told::Enough, "it goes on from there");
        assert_eq!(ids(&state), ["b", "c"]);
    }

    #[test]
    fn a_read_that_stays_behind_takes_nothing_away() {
        let (mut state, now, web) = (State::new(spawn(false), "*"), Instant::now(), key("default", "web"));
        state.event(event("ServiceRegistration", 10, "a", ON), now);
        let reads = (0..20).map(|_| state.read(&web, Vec::new(), (1, 10), Trust::Full, now));
        assert_eq!(reads.filter(|read| *read == Read::Taken).count(), 2);
        assert_eq!((ids(&state), state.belief.held()), (vec!["a".to_owned()], vec!["default/web".to_owned()]));
    }

    #[test]
    fn an_older_event_that_does_not_agree_with_the_read_asks_for_another() {
        let (mut state, now, web) = (State::new(spawn(false), "*"), Instant::now(), key("default", "web"));
        state.event(event("ServiceRegistration", 10, "a", ON), now);
        assert_eq!(state.read(&web, registered(&["a"]), (120, 0), Trust::Full, now), Read::Taken);
        assert_eq!(state.event(event("ServiceRegistration", 110, "a", ON), now), Told::Enough);
        assert_eq!(state.event(event("ServiceDeregistration", 110, "b", ON), now), Told::Enough);
        assert_eq!(state.event(event("ServiceRegistration", 110, "b", ON), now), Told::Doubt(web.clone()));
        assert_eq!(state.event(event("ServiceDeregistration", 111, "a", ON), now), Told::Doubt(web));
        assert_eq!((ids(&state), state.top()), (vec!["a".to_owned()], 120));
        state.reset();
        assert_eq!(state.top(), 0);
    }

    #[test]
    fn a_hold_that_is_over_ends_only_when_list_and_read_confirm_it() {
        let (mut state, now, web) = (State::new(spawn(false), "*"), Instant::now(), key("default", "web"));
        state.event(event("ServiceRegistration", 10, "a", ON), now);
        state.reset();
        // Registered again, and told, before the list that lacks it was read.
        state.event(event("ServiceRegistration", 5, "a", ON), now);
        assert_eq!(state.unsettled(&Names::default(), true, Trust::Reset, now), []);
        assert_eq!(state.belief.held(), ["default/web"]);
        assert_eq!(state.read(&web, Vec::new(), (6, 4), Trust::Full, now), Read::Taken);
        let late = now + state.spawn.reset_hold;
        assert_eq!(state.unsettled(&Names::default(), true, Trust::Aged, late), []);
        assert_eq!(state.read(&web, Vec::new(), (6, 4), Trust::Full, late), Read::Taken);
        assert_eq!(ids(&state), ["a"]);
        assert_eq!(state.unsettled(&Names::default(), true, Trust::Full, late), std::slice::from_ref(&web));
        assert_eq!(state.belief.held_after(None, 1), std::slice::from_ref(&web));
        assert_eq!(state.read(&web, registered(&["a"]), (7, 4), Trust::Full, late), Read::Taken);
        assert_eq!((ids(&state), state.belief.held().len()), (vec!["a".to_owned()], 0), "it was there all the time");
        state.unsettled(&Names::default(), true, Trust::Reset, now);
        state.unsettled(&Names::default(), true, Trust::Full, late);
        assert_eq!(state.read(&web, Vec::new(), (7, 4), Trust::Full, late), Read::Taken);
        assert_eq!((ids(&state), state.belief.take_ended()), (vec![], vec!["default/web".to_owned()]));
    }

    #[test]
    fn only_names_with_a_routing_tag_are_kept_but_all_of_their_instances() {
        let (mut state, now) = (State::new(spawn(false), "*"), Instant::now());
        assert_eq!(state.event(event("ServiceRegistration", 10, "a", &["tcp"]), now), Told::Enough);
        assert!(state.seen.is_empty());
        state.event(event("ServiceRegistration", 11, "b", ON), now);
        state.event(event("ServiceRegistration", 12, "c", &["traefik-off", "canary"]), now);
        assert_eq!(ids(&state), ["b", "c"]);
        state.event(event("ServiceRegistration", 13, "b", &["plain"]), now);
        assert_eq!(ids(&state), [""; 0], "the routing tag is gone");
        let mut all = State::new(spawn(true), "*");
        all.event(event("ServiceRegistration", 10, "a", &["tcp"]), now);
        assert_eq!(ids(&all), ["a"]);
    }

    #[test]
    fn a_list_asks_for_what_is_new_and_what_vanished() {
        let (mut state, now, web) = (State::new(spawn(false), "*"), Instant::now(), key("default", "web"));
        state.event(event("ServiceRegistration", 10, "a", ON), now);
        let body = br#"[{"Namespace":"default","Services":[{"ServiceName":"api","Tags":["traefik.enable=true"]},{"ServiceName":"db","Tags":[]}]}]"#;
        let routed = decode::list(body, state.spawn.as_routes()).unwrap().routed;
        let asked = state.unsettled(&routed, false, Trust::Full, now);
        assert_eq!(asked, [key("default", "api"), web.clone()]);
        assert_eq!(ids(&state), ["a"], "asked for, not taken away");
        assert_eq!(state.unsettled(&routed, false, Trust::Aged, now), [key("default", "api")]);
        assert_eq!(state.unsettled(&routed, false, Trust::Reset, now), [key("default", "api")]);
        assert_eq!(state.belief.held(), ["default/web"]);
        assert_eq!(
            state.unsettled(&Names::new(vec![("default".into(), vec!["web".into()])]), false, Trust::Full, now),
            std::slice::from_ref(&web),
            "held and back: read it"
        );
        state.event(event("ServiceDeregistration", 11, "x", ON), now);
        assert_eq!((ids(&state), state.belief.held().len()), (vec!["a".to_owned()], 1));
        state.event(event("ServiceRegistration", 12, "n", ON), now);
        assert_eq!((ids(&state), state.belief.held().len()), (vec!["n".to_owned()], 0), "reappeared as another");
    }

    /// The stream's lines of a recorded job's life, replayed, agree with the reads recorded between them.
    #[test]
    fn the_recorded_life_of_a_job_ends_as_recorded() {
        let recording = Recording::read("nomad", "lifecycle.json");
        let mut events = Vec::new();
        for change in recording.measurements().as_array().unwrap() {
            for seen in change["then"].as_array().unwrap().iter().filter(|seen| seen["on"] == "stream") {
                let event = &seen["event"];
                let mut service = event.clone();
                service["ID"] = event["Key"].clone();
                service["Namespace"] = "default".into();
                let line = serde_json::json!({"Events": [{"Topic": "Service", "Type": event["Type"], "Index": event["Index"],
                    "Payload": {"Service": service}}]});
                events.extend(decode::line(line.to_string().as_bytes()).unwrap());
            }
        }
        assert!(events.len() > 40);
        let (mut state, now, mut compared) = (State::new(spawn(true), "*"), Instant::now(), 0);
        let mut events = events.into_iter().peekable();
        for exchange in recording.good().filter(|e| e.path() == "/v1/service/web") {
            let index = exchange.meta(Product::Nomad).index.unwrap();
            while let Some(event) = events.next_if(|event| event.index <= index) {
                state.event(event, now);
            }
            // The recorded keys are cut at the front.
            let of = |i: &Instance| (i.port, i.tags.iter().map(ToString::to_string).collect::<Vec<_>>());
            let mut read: Vec<_> =
                decode::service(exchange.body().as_bytes()).unwrap().iter().map(|r| of(&r.instance)).collect();
            let web = state.belief.get(&key("default", "web"));
            let mut made: Vec<_> = web.iter().flat_map(|s| s.instances.iter().map(of)).collect();
            read.sort();
            made.sort();
            assert_eq!(made, read, "at index {index}");
            compared += 1;
        }
        assert!(compared >= 7, "{compared}");
        assert!(state.belief.services().is_empty(), "{:?}", state.belief.services().keys());
    }

    #[test]
    fn the_recorded_stream_ends_as_the_recorded_list() {
        let recording = Recording::read("nomad", "event-stream.json");
        let (mut state, now) = (State::new(spawn(false), "*"), Instant::now());
        for exchange in recording.good().filter(|e| e.path().starts_with("/v1/event/stream?topic=Service")) {
            for line in exchange.lines() {
                for event in decode::line(line.as_bytes()).unwrap() {
                    state.event(event, now);
                }
            }
        }
        let exchange = recording.good().find(|e| e.path() == "/v1/services?namespace=*").unwrap();
        let body = exchange.body();
        let routed = decode::list(body.as_bytes(), state.spawn.as_routes()).unwrap().routed;
        let listed: BTreeSet<_> = routed.keys().collect();
        let late = key("late-ns", "late-svc");
        let known: BTreeSet<_> = state.belief.services().keys().cloned().collect();
        assert_eq!(&listed - &known, [late.clone()].into(), "made after the stream was opened: only the list knows");
        assert_eq!(&known - &listed, [].into());
        assert_eq!(state.unsettled(&routed, false, Trust::Full, now), [late]);
    }
}
