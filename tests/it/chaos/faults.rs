//! What goes wrong: one step at a time, chosen by a seeded generator, over catalogs, servers and the state directory. Whatever lasts ends by
//! itself, and [`Faults::heal`] ends all of it.
//!
//! What is true is kept here: which servers are registered at each service. The catalogs lie, are late or are gone, but no step takes
//! a stable service's registration away for longer than an agent takes to be restored.

use super::motion::origin::{Manner, Origin, Reserved};
use super::motion::stage::{Catalog, Kind, Origins, tags};
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rust_lb::embedded::{Acl, Fault};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server's place: its port is its own for the whole run, whether anybody listens on it or not.
pub struct Slot {
    pub service: String,
    pub name: String,
    pub addr: SocketAddr,
    _hold: Reserved,
    origin: Option<Origin>,
}

impl Slot {
    pub fn new(service: &str, number: usize, origins: &Origins) -> Self {
        let hold = Reserved::new().expect("a port");
        let (name, addr) = (format!("{service}-{number}"), hold.addr);
        let mut slot = Self { service: service.to_owned(), name, addr, _hold: hold, origin: None };
        slot.open(origins);
        slot
    }

    fn open(&mut self, origins: &Origins) {
        if self.origin.is_none() {
            // The one before may be closing still; then another step opens it.
            let opened = Reserved::at(self.addr)
                .and_then(|port| Origin::open(origins.runtime.handle(), &self.name, &origins.ledger, port));
            self.origin = opened.ok();
        }
    }

    fn is_open(&self) -> bool {
        self.origin.is_some()
    }
}

/// Everything that can go wrong.
pub struct Faults<'a> {
    pub catalog: &'a Catalog,
    pub origins: &'a Origins,
    pub rng: SmallRng,
    /// Servers of services that nothing happens to.
    pub stable: Vec<(Kind, Slot)>,
    /// Servers of the others.
    pub wild: Vec<(Kind, Slot)>,
    /// Places in `wild` that are registered, each with the tags' version.
    pub registered: BTreeMap<usize, bool>,
    pub state_dir: PathBuf,
    /// What lasts, by catalog, and when it ends.
    lasting: BTreeMap<Kind, (Instant, &'static str)>,
    /// Servers that behave badly, until then.
    bad: BTreeMap<usize, Instant>,
    /// Silent answers are given until then only: a client cannot tell them from a long wait.
    silence_until: Instant,
    /// How often each was done.
    pub done: BTreeMap<&'static str, u64>,
}

impl<'a> Faults<'a> {
    pub fn new(
        catalog: &'a Catalog,
        origins: &'a Origins,
        rng: SmallRng,
        stable: Vec<(Kind, Slot)>,
        wild: Vec<(Kind, Slot)>,
        silence: Duration,
    ) -> Self {
        let registered = (0..wild.len()).map(|place| (place, false)).collect();
        let silence_until = Instant::now() + silence;
        let (lasting, bad, done) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let state_dir = PathBuf::new();
        Self { catalog, origins, rng, stable, wild, registered, state_dir, lasting, bad, silence_until, done }
    }

    /// Registers all that is registered in truth.
    pub fn register_all(&self, of: Kind) {
        for (_, slot) in self.stable.iter().filter(|(kind, _)| *kind == of) {
            self.catalog.register(of, &slot.service, &slot.name, slot.addr);
        }
        for (place, odd) in &self.registered {
            if self.wild[*place].0 == of {
                self.register(*place, *odd);
            }
        }
    }

    fn register(&self, place: usize, odd: bool) {
        let (kind, slot) = &self.wild[place];
        let mut tags = tags(&slot.service).to_vec();
        if odd {
            tags.push(format!("traefik.http.routers.{}.priority=1000", slot.service));
        }
        self.catalog.register_with(*kind, &slot.service, &slot.name, slot.addr, &tags);
    }

    /// One more thing goes wrong, or changes.
    pub fn step(&mut self) {
        self.end_what_is_over(Instant::now());
        let what = match self.rng.random_range(0..100) {
            0..40 => self.change(),
            40..60 => self.server(),
            60..80 => self.answer(),
            80..92 => self.agent(),
            _ => self.disk(),
        };
        *self.done.entry(what).or_default() += 1;
    }

    /// What users do all day: services come, go and change.
    fn change(&mut self) -> &'static str {
        let place = self.rng.random_range(0..self.wild.len());
        let (kind, name) = (self.wild[place].0, self.wild[place].1.name.clone());
        match self.rng.random_range(0..4) {
            0 => {
                self.registered.remove(&place);
                self.catalog.deregister(kind, &name);
                "deregistered"
            }
            1 => {
                // A definition that is refused: the last good one stays, and truth is what comes next.
                let service = self.wild[place].1.service.clone();
                let broken = ["traefik.enable=true".to_owned(), format!("traefik.http.routers.{service}.rule=Host(`x")];
                self.catalog.register_with(kind, &service, &name, self.wild[place].1.addr, &broken);
                self.registered.insert(place, false);
                self.register(place, false);
                "broken tags"
            }
            2 => {
                for odd in [true, false].repeat(self.rng.random_range(1..8)) {
                    self.registered.insert(place, odd);
                    self.register(place, odd);
                }
                "flapped"
            }
            _ => {
                let odd = self.rng.random();
                self.registered.insert(place, odd);
                self.register(place, odd);
                "registered"
            }
        }
    }

    fn server(&mut self) -> &'static str {
        let place = self.rng.random_range(0..self.wild.len());
        let slot = &mut self.wild[place].1;
        if !slot.is_open() {
            slot.open(self.origins);
            return "server started";
        }
        let Some(origin) = &slot.origin else { return "server started" };
        let until = Instant::now() + Duration::from_millis(self.rng.random_range(50..3000));
        match self.rng.random_range(0..6) {
            0 => {
                origin.kill();
                slot.origin = None;
                "server killed"
            }
            1 => {
                // Dropped only with the last of what it was asked.
                origin.drain();
                let draining = slot.origin.take();
                self.origins.runtime.spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(draining);
                });
                "server ended"
            }
            n => {
                let manner = [Manner::Silent, Manner::Garbage, Manner::Short, Manner::Closes][n - 2];
                origin.behave(manner);
                self.bad.insert(place, until);
                "server misbehaves"
            }
        }
    }

    fn any_kind(&mut self) -> Kind {
        if self.rng.random() { Kind::Nomad } else { Kind::Consul }
    }

    fn answer(&mut self) -> &'static str {
        let kind = self.any_kind();
        let paths: &[&str] = match kind {
            Kind::Nomad => &["/v1/services", "/v1/service/", "/v1/event/stream", "/v1/status"],
            Kind::Consul => &["/v1/catalog/services", "/v1/health/service/", "/v1/catalog/nodes", "/v1/status"],
        };
        let mut faults = vec![
            Fault::Truncated,
            Fault::Html,
            Fault::Garbage,
            Fault::Close,
            Fault::Huge(1 << 20),
            Fault::Body("{\"a\":[{".to_owned()),
            Fault::Status(500, "No cluster leader".to_owned()),
            Fault::Status(403, "Permission denied".to_owned()),
            Fault::Status(429, "Too Many Requests".to_owned()),
            // Never ahead of the agent's own: none does that, and it would hide every change below.
            Fault::Index(1),
        ];
        if Instant::now() < self.silence_until {
            faults.push(Fault::Silence);
        }
        let fault = faults.swap_remove(self.rng.random_range(0..faults.len()));
        let path = paths.choose(&mut self.rng).copied().unwrap_or("/v1/");
        self.catalog.control(kind).spoil(path, fault);
        "answer spoilt"
    }

    /// The agent as a whole; one thing at a time.
    fn agent(&mut self) -> &'static str {
        let kind = self.any_kind();
        if self.lasting.contains_key(&kind) {
            return "agent left alone";
        }
        let control = self.catalog.control(kind);
        let what = match self.rng.random_range(0..9) {
            0 => {
                self.stop(kind);
                "killed"
            }
            1 => {
                control.freeze(true);
                "paused"
            }
            2 => {
                control.partition(true);
                "partitioned"
            }
            3 => {
                control.slow(Duration::from_millis(self.rng.random_range(50..1500)));
                "slow"
            }
            4 => {
                control.lose_leader(Duration::from_secs(self.rng.random_range(0..60)), Duration::from_secs(1));
                "leaderless"
            }
            5 => {
                self.deny(kind, true);
                "forbidden"
            }
            6 => {
                control.limit_connections(self.rng.random_range(1..20));
                "limited"
            }
            7 => {
                control.strand();
                return "connections stranded";
            }
            _ => {
                self.stop(kind);
                self.wipe(kind);
                // What was there comes back at once, or only when it listens already.
                let early = self.rng.random();
                if early {
                    self.register_all(kind);
                }
                self.start(kind);
                if !early {
                    std::thread::sleep(Duration::from_millis(self.rng.random_range(1..300)));
                    self.register_all(kind);
                }
                return "wiped and restored";
            }
        };
        let lasts = Duration::from_millis(self.rng.random_range(100..4000));
        self.lasting.insert(kind, (Instant::now() + lasts, what));
        what
    }

    fn stop(&self, kind: Kind) {
        let embedded = &self.catalog.embedded;
        self.catalog.runtime.block_on(async {
            match kind {
                Kind::Nomad => embedded.nomad().stop().await,
                Kind::Consul => embedded.consul().stop().await,
            }
        });
    }

    fn start(&self, kind: Kind) {
        let embedded = &self.catalog.embedded;
        let started = match kind {
            Kind::Nomad => embedded.nomad().start_again(),
            Kind::Consul => embedded.consul().start_again(),
        };
        started.expect("the agent's port");
    }

    fn wipe(&self, kind: Kind) {
        match kind {
            Kind::Nomad => self.catalog.embedded.nomad().store(|store| store.wipe()),
            Kind::Consul => self.catalog.embedded.consul().store(|store| store.wipe()),
        }
    }

    fn deny(&self, kind: Kind, on: bool) {
        match kind {
            Kind::Nomad => self.catalog.embedded.nomad().set_acl(on.then(Acl::deny)),
            Kind::Consul => self.catalog.embedded.consul().set_acl(on.then(Acl::deny)),
        }
    }

    fn end(&self, kind: Kind, what: &str) {
        let control = self.catalog.control(kind);
        match what {
            "killed" => self.start(kind),
            "paused" => control.freeze(false),
            "partitioned" => control.partition(false),
            "slow" => control.slow(Duration::ZERO),
            "leaderless" => control.elect(),
            "forbidden" => self.deny(kind, false),
            _ => control.limit_connections(32_767),
        }
    }

    fn end_what_is_over(&mut self, now: Instant) {
        let over: Vec<_> =
            self.lasting.iter().filter(|(_, (at, _))| *at <= now).map(|(kind, l)| (*kind, l.1)).collect();
        for (kind, what) in over {
            self.lasting.remove(&kind);
            self.end(kind, what);
        }
        let well: Vec<_> = self.bad.iter().filter(|(_, at)| **at <= now).map(|(place, _)| *place).collect();
        for place in well {
            self.bad.remove(&place);
            let slot = &mut self.wild[place].1;
            // What it owes an answer to gets its end, and the next server is a good one.
            if slot.origin.take().is_some() {
                slot.open(self.origins);
            }
        }
    }

    fn disk(&mut self) -> &'static str {
        let dir = &self.state_dir;
        let files: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        // What fails here has been broken by an earlier step.
        match self.rng.random_range(0..4) {
            0 => drop(std::fs::remove_dir_all(dir)),
            1 => {
                drop(std::fs::remove_dir_all(dir));
                drop(std::fs::write(dir, "a file where the folder was"));
            }
            2 => {
                if let Some(file) = files.choose(&mut self.rng) {
                    drop(std::fs::write(file, "{\"half\": [1, 2"));
                }
            }
            _ => {
                drop(std::fs::remove_file(dir));
                drop(std::fs::create_dir_all(dir));
            }
        }
        "disk"
    }

    /// Everything that lasts ends, and every server is there and good.
    pub fn heal(&mut self) {
        for (kind, (_, what)) in std::mem::take(&mut self.lasting) {
            self.end(kind, what);
        }
        for kind in [Kind::Nomad, Kind::Consul] {
            self.catalog.control(kind).unspoil();
        }
        self.bad.clear();
        for (_, slot) in &mut self.wild {
            slot.origin = None;
        }
        let end = Instant::now() + Duration::from_secs(10);
        while !self.wild.iter().all(|(_, slot)| slot.is_open()) {
            assert!(Instant::now() < end, "every server opens its port again");
            std::thread::park_timeout(Duration::from_millis(2));
            for (_, slot) in &mut self.wild {
                slot.open(self.origins);
            }
        }
        if !self.state_dir.is_dir() {
            drop(std::fs::remove_file(&self.state_dir));
        }
    }
}
