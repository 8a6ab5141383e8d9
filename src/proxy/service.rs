//! *Choose*: a service bound to its slots (schedules, shared state, pools), and the choice of one of its servers.
//!
//! A service that is made of others is a tree; the servers of all its leaves stand in one list, each node's side by
//! side, and a choice is a place in that list.
//!
//! What always holds: a server that was tried is not chosen again; one that is left alone is chosen only if there is
//! no other in the whole tree. So a service inside whose servers are all out is as one that is not there. A server that
//! works on as many requests as it may is passed over, and not in favour of one that is left alone.

use super::mirror::Places;
use super::standing::Knocking;
use super::sticky::Sticky;
use crate::balance::{Random, least, rendezvous, wrr::Schedule};
use crate::http::{HeaderName, HeaderValue, Headers, cookie};
use crate::table::{Child, CompositeKind, Limit, Passive, Server, Service, Strategy};
use crate::upstream::{Endpoint, Pool, Pools, Registry, ServiceState};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

/// What choices of one worker share.
pub(super) struct Chooser {
    random: Random,
    /// Milliseconds in which a new server comes to its share; 0 means that it has it at once.
    slow_start: u64,
    /// Where copies of requests stand.
    pub(super) places: Rc<Places>,
}

impl Chooser {
    pub(super) fn new(seed: u64, slow_start: std::time::Duration) -> Self {
        let slow_start = u64::try_from(slow_start.as_millis()).unwrap_or(u64::MAX);
        Self { random: Random::new(seed), slow_start, places: Rc::default() }
    }

    /// Whether a request may be for a server that is new: the older, the likelier.
    fn is_warm(&self, age: u64) -> bool {
        age >= self.slow_start || u128::from(self.random.next()) * u128::from(self.slow_start) < u128::from(age) << 32
    }
}

/// A service, bound.
pub(super) struct BoundService {
    /// Bindings are found by its address.
    _service: Arc<Service>,
    /// The servers of all services inside that may answer.
    pub(super) servers: Vec<BoundServer>,
    root: Node,
    pub(super) chooser: Rc<Chooser>,
    /// Answers of some servers make others be asked.
    fails_over: bool,
    /// The services inside whose servers have limits.
    pub(super) limited: Vec<(Arc<ServiceState>, Limit)>,
    /// Somebody knocks at servers that refuse connections, for requests that wait.
    pub(super) knocking: RefCell<Weak<Knocking>>,
}

/// A server, bound.
#[derive(Clone)]
pub(super) struct BoundServer {
    pub(super) server: Arc<Server>,
    /// Whether it gets the client's Host.
    pub(super) pass_host_header: bool,
    pub(super) pool: Rc<Pool>,
    /// Whether its response times are noted.
    pub(super) timed: bool,
    /// When it is left alone for failed requests, and the servers of its service.
    pub(super) passive: Option<(Passive, Range<usize>)>,
    /// How many requests it works on at once, and where those wait that are more.
    pub(super) limit: Option<(u32, Arc<ServiceState>)>,
    fingerprint: u64,
}

/// A service of the tree.
struct Node {
    /// Its servers, and those of all services inside.
    range: Range<usize>,
    kind: Kind,
    state: Arc<ServiceState>,
    sticky: Option<Sticky>,
}

enum Kind {
    Servers { strategy: By, schedule: Schedule },
    Weighted { children: Vec<Part>, schedule: Schedule },
    ByAddress { children: Vec<Part> },
    Mirroring { service: Box<Node>, mirrors: Rc<[Mirror]> },
    Failover { service: Option<Box<Node>>, fallback: Option<Box<Node>>, statuses: Vec<RangeInclusive<u16>> },
}

/// A strategy, ready to be followed.
enum By {
    Wrr,
    P2c,
    Hrw,
    LeastTime,
    IpHash,
    LeastConn,
    Random,
    Header(HeaderName),
    Cookie(Arc<str>),
}

/// One of several services.
struct Part {
    name: Arc<str>,
    fingerprint: u64,
    weight: u32,
    node: Node,
}

/// A service that gets copies.
pub(super) struct Mirror {
    percent: u8,
    /// Whether copies have the request's body.
    pub(super) with_body: bool,
    /// Requests with a longer body, in bytes, are not copied.
    pub(super) max_body: Option<u64>,
    pub(super) service: Rc<BoundService>,
    pub(super) state: Arc<ServiceState>,
}

/// What a choice goes by.
pub(super) struct Asking<'a> {
    pub(super) client: IpAddr,
    pub(super) headers: &'a Headers,
    /// Servers that are not to be chosen.
    pub(super) tried: &'a [usize],
    /// Services that are not to be chosen from.
    pub(super) left: &'a [Range<usize>],
    /// It has waited for a place.
    pub(super) queued: bool,
}

/// A mirroring service that was passed, and its mirrors.
pub(super) type Mirrored<'a> = (&'a ServiceState, &'a [Mirror]);

/// What a choice came to.
#[derive(Default)]
pub(super) struct Choosing<'a> {
    /// Cookies to be set.
    pub(super) cookies: SmallVec<[HeaderValue; 1]>,
    /// Who gets copies of the request, as far as mirroring services were passed.
    pub(super) mirrors: SmallVec<[Mirrored<'a>; 1]>,
    /// Nobody was chosen, and a server would have been if it were not busy.
    pub(super) full: bool,
}

/// What a walk through the tree goes by.
struct Walk<'a, 'b> {
    asking: &'b Asking<'b>,
    servers: &'a [BoundServer],
    chooser: &'a Chooser,
    now: u64,
    which: Which,
    /// A server was passed over because it is busy.
    full: Cell<bool>,
}

/// Which servers are chosen from.
enum Which {
    /// Those that nothing speaks against.
    Good,
    /// Also those that are left alone, but not those about which something is to be known first.
    Judged,
    All,
}

impl Walk<'_, '_> {
    fn may(&self, at: usize) -> bool {
        let Asking { tried, left, .. } = self.asking;
        let wanted = |server: &BoundServer| match self.which {
            Which::Good => !server.pool.state().is_ejected(self.now),
            Which::Judged => server.is_judged(),
            Which::All => true,
        };
        let server = &self.servers[at];
        let may = !tried.contains(&at) && !left.iter().any(|range| range.contains(&at)) && wanted(server);
        if may && !server.takes(self.asking) {
            self.full.set(true);
            return false;
        }
        may
    }

    fn is_warm(&self, at: usize) -> bool {
        self.chooser.slow_start == 0 || self.chooser.is_warm(self.servers[at].pool.state().age(self.now))
    }
}

impl BoundService {
    pub(super) fn new(service: &Arc<Service>, registry: &Registry, pools: &Pools, chooser: &Rc<Chooser>) -> Self {
        let (servers, limited) = (Vec::new(), Vec::new());
        let mut binding = Binding { registry, pools, chooser, servers, limited, fails_over: false };
        let root = binding.node(service);
        let Binding { servers, limited, fails_over, .. } = binding;
        Self {
            _service: service.clone(),
            servers,
            root,
            chooser: chooser.clone(),
            fails_over,
            limited,
            knocking: RefCell::default(),
        }
    }

    /// A server that was not tried; one that is left alone only if there is no other, or so few are healthy that all
    /// are used. `choosing` tells whether there is one that is busy only.
    pub(super) fn choose<'a>(
        &'a self,
        asking: &Asking<'_>,
        registry: &Registry,
        choosing: &mut Choosing<'a>,
    ) -> Option<usize> {
        if let ([server], Kind::Servers { .. }, None) = (&*self.servers, &self.root.kind, &self.root.sticky) {
            let takes = server.takes(asking);
            choosing.full = asking.tried.is_empty() && !takes;
            return (asking.tried.is_empty() && takes).then_some(0);
        }
        let now = registry.millis(Instant::now());
        let (servers, chooser, full) = (&*self.servers, &*self.chooser, Cell::new(false));
        let mut walk = Walk { asking, servers, chooser, now, which: Which::Good, full };
        if !self.panics(now, registry) {
            // One that another request is trying just now is ejected by then, so that this comes to an end.
            for _ in 0..self.servers.len() {
                *choosing = Choosing::default();
                let Some(at) = self.root.pick(&walk, choosing) else { break };
                if self.servers[at].pool.state().may_try(now) {
                    return Some(at);
                }
            }
            if walk.full.get() {
                choosing.full = true;
                return None;
            }
        }
        for which in [Which::Judged, Which::All] {
            walk.which = which;
            *choosing = Choosing::default();
            if let Some(at) = self.root.pick(&walk, choosing) {
                return Some(at);
            }
            if walk.full.get() {
                choosing.full = true;
                return None;
            }
        }
        // What is left has no weight; still better than no answer.
        let at = (0..self.servers.len()).find(|at| walk.may(*at));
        choosing.full = at.is_none() && walk.full.get();
        at
    }

    /// What is shared of the service.
    pub(super) fn state(&self) -> &Arc<ServiceState> {
        &self.root.state
    }

    /// The servers that are not asked any more after one of them answered so, as others are to be.
    pub(super) fn fails_over(&self, at: usize, status: u16) -> Option<Range<usize>> {
        if !self.fails_over {
            return None;
        }
        self.root.fails_over(at, status)
    }
}

struct Binding<'a> {
    registry: &'a Registry,
    pools: &'a Pools,
    chooser: &'a Rc<Chooser>,
    servers: Vec<BoundServer>,
    limited: Vec<(Arc<ServiceState>, Limit)>,
    fails_over: bool,
}

impl Binding<'_> {
    fn node(&mut self, service: &Arc<Service>) -> Node {
        let start = self.servers.len();
        let state = self.registry.service(&service.id);
        let kind = match service.composite.as_ref().map(|composite| &composite.kind) {
            None => self.leaf(service, &state),
            Some(CompositeKind::Weighted(children)) => {
                let weights: Vec<u32> = children.iter().map(|child| child.weight).collect();
                Kind::Weighted { children: self.parts(children), schedule: Schedule::by_deadlines(&weights) }
            }
            Some(CompositeKind::HighestRandomWeight(children)) => Kind::ByAddress { children: self.parts(children) },
            Some(CompositeKind::Mirroring { service, mirrors, with_body, max_body }) => {
                let mirror = |mirror: &crate::table::Mirror| Mirror {
                    percent: mirror.percent,
                    with_body: *with_body,
                    max_body: *max_body,
                    service: Rc::new(BoundService::new(&mirror.service, self.registry, self.pools, self.chooser)),
                    state: self.registry.service(&mirror.service.id),
                };
                let mirrors = mirrors.iter().map(mirror).collect();
                Kind::Mirroring { service: Box::new(self.node(service)), mirrors }
            }
            Some(CompositeKind::Failover { service, fallback, statuses }) => {
                self.fails_over |= !statuses.is_empty();
                let mut node = |service: &Arc<Service>| Box::new(self.node(service));
                Kind::Failover {
                    service: service.as_ref().map(&mut node),
                    fallback: fallback.as_ref().map(node),
                    statuses: statuses.clone(),
                }
            }
        };
        let range = start..self.servers.len();
        let sticky = service.sticky.as_ref().map(|cookie| match &kind {
            Kind::Weighted { children, .. } | Kind::ByAddress { children } => {
                Sticky::new(cookie, children.iter().map(|part| &*part.name).enumerate())
            }
            _ => {
                let servers = service.servers.iter().enumerate().filter(|(_, server)| server.weight > 0);
                Sticky::new(cookie, servers.map(|(at, server)| (at, &*server.id.url)))
            }
        });
        Node { range, kind, state, sticky }
    }

    fn leaf(&mut self, service: &Service, state: &Arc<ServiceState>) -> Kind {
        let weights: Vec<u32> = service.servers.iter().map(|server| server.weight).collect();
        let settings = self.pools.settings(service);
        let timed = service.strategy == Strategy::LeastTime;
        let start = self.servers.len();
        let passive = service.passive.map(|rule| (rule, start..start + service.servers.len()));
        let servers = service.servers.iter().map(|server| {
            let endpoint = Endpoint { tls: server.tls, h2c: server.h2c, host: server.host.clone(), port: server.port };
            let pool = self.pools.get(self.registry, &server.id, &endpoint, &settings);
            if service.limit.is_some() {
                pool.state().limit(state);
            }
            BoundServer {
                pass_host_header: service.pass_host_header,
                pool,
                limit: service.limit.map(|limit| (limit.requests.get(), state.clone())),
                timed,
                passive: passive.clone(),
                fingerprint: rendezvous::fingerprint(&server.id.url),
                server: server.clone(),
            }
        });
        self.servers.extend(servers);
        if let Some(limit) = service.limit
            && !self.limited.iter().any(|(known, _)| Arc::ptr_eq(known, state))
        {
            self.limited.push((state.clone(), limit));
        }
        let strategy = match &service.strategy {
            Strategy::P2c => By::P2c,
            Strategy::Hrw => By::Hrw,
            Strategy::LeastTime => By::LeastTime,
            Strategy::IpHash => By::IpHash,
            Strategy::LeastConn => By::LeastConn,
            Strategy::Random => By::Random,
            Strategy::HashHeader(name) => HeaderName::try_from(&**name).map_or(By::Wrr, By::Header),
            Strategy::HashCookie(name) => By::Cookie(name.clone()),
            Strategy::Wrr | Strategy::Other(_) => By::Wrr,
        };
        Kind::Servers { strategy, schedule: Schedule::new(&weights) }
    }

    fn parts(&mut self, children: &[Child]) -> Vec<Part> {
        let part = |child: &Child| Part {
            name: child.name.clone(),
            fingerprint: rendezvous::fingerprint(&child.name),
            weight: child.weight,
            node: self.node(&child.service),
        };
        children.iter().map(part).collect()
    }
}

impl Node {
    fn pick<'a>(&'a self, walk: &Walk<'a, '_>, choosing: &mut Choosing<'a>) -> Option<usize> {
        let named = self.sticky.as_ref().and_then(|sticky| Some((sticky, sticky.named(walk.asking.headers)?)));
        if let Some((sticky, named)) = named
            && let Some(picked) = self.pick_named(named.at, walk, choosing)
        {
            if named.former {
                choosing.cookies.extend(sticky.set(self.name_of(named.at, walk)));
            }
            return Some(picked);
        }
        let (candidate, picked) = match &self.kind {
            Kind::Servers { strategy, schedule } => {
                let at = self.pick_server(strategy, schedule, walk)?;
                (at, self.range.start + at)
            }
            Kind::Weighted { children, schedule } => {
                let mut out: SmallVec<[usize; 8]> = SmallVec::new();
                let mut picked = None;
                for _ in 0..schedule.len() {
                    let at = schedule.at(self.state.next())?;
                    if out.contains(&at) {
                        continue;
                    }
                    picked = children.get(at).and_then(|part| Some((at, part.node.pick(walk, choosing)?)));
                    if picked.is_some() || out.len() + 1 == children.len() {
                        break;
                    }
                    out.push(at);
                }
                picked?
            }
            Kind::ByAddress { children } => {
                let mut out: SmallVec<[usize; 8]> = SmallVec::new();
                loop {
                    let parts = children.iter().map(|part| (part.fingerprint, part.weight));
                    let client = rendezvous::client(walk.asking.client);
                    let at = rendezvous::pick_weighted(client, parts, |at| !out.contains(&at))?;
                    match children.get(at)?.node.pick(walk, choosing) {
                        Some(picked) => break (at, picked),
                        None => out.push(at),
                    }
                }
            }
            Kind::Mirroring { service, mirrors } => {
                let picked = service.pick(walk, choosing)?;
                choosing.mirrors.push((&self.state, mirrors));
                return Some(picked);
            }
            Kind::Failover { service, fallback, .. } => {
                let mut pick = |node: &'a Option<Box<Node>>| node.as_ref()?.pick(walk, choosing);
                return pick(service).or_else(|| pick(fallback));
            }
        };
        if let Some(sticky) = &self.sticky {
            choosing.cookies.extend(sticky.set(self.name_of(candidate, walk)));
        }
        Some(picked)
    }

    /// The candidate that a cookie names, if it can be used.
    fn pick_named<'a>(&'a self, at: usize, walk: &Walk<'a, '_>, choosing: &mut Choosing<'a>) -> Option<usize> {
        match &self.kind {
            Kind::Weighted { children, .. } | Kind::ByAddress { children } => {
                children.get(at)?.node.pick(walk, choosing)
            }
            _ => Some(self.range.start + at).filter(|at| walk.may(*at)),
        }
    }

    /// What cookies are made of.
    fn name_of<'a>(&'a self, at: usize, walk: &Walk<'a, '_>) -> &'a str {
        match &self.kind {
            Kind::Weighted { children, .. } | Kind::ByAddress { children } => {
                children.get(at).map_or("", |part| &*part.name)
            }
            _ => walk.servers.get(self.range.start + at).map_or("", |server| &*server.server.id.url),
        }
    }

    fn pick_server(&self, strategy: &By, schedule: &Schedule, walk: &Walk<'_, '_>) -> Option<usize> {
        let start = self.range.start;
        let servers = walk.servers.get(self.range.clone())?;
        let may = |at: usize| walk.may(start + at);
        let hashed = |key: u64| {
            let candidates = servers.iter().map(|server| (server.fingerprint, server.server.weight));
            rendezvous::pick_weighted(key, candidates, may)
        };
        match strategy {
            By::IpHash => {
                let client = rendezvous::client(walk.asking.client);
                return rendezvous::pick(client, servers.iter().map(|server| server.fingerprint), may);
            }
            By::Hrw => return hashed(rendezvous::client(walk.asking.client)),
            // Who says nothing takes turns with the others who do not.
            By::Header(name) => {
                if let Some(value) = walk.asking.headers.get(name) {
                    return hashed(rendezvous::key(value));
                }
            }
            By::Cookie(name) => {
                if let Some(value) = cookie(walk.asking.headers, name) {
                    return hashed(rendezvous::key(value.as_bytes()));
                }
            }
            By::Wrr | By::P2c | By::LeastTime | By::LeastConn | By::Random => {}
        }
        let pick = |usable: &dyn Fn(usize) -> bool| self.pick_moving(strategy, schedule, servers, walk, usable);
        if walk.chooser.slow_start == 0 {
            return pick(&may);
        }
        pick(&|at| may(at) && walk.is_warm(start + at)).or_else(|| pick(&may))
    }

    /// By a strategy that gives a client now this server and now that one.
    fn pick_moving(
        &self,
        strategy: &By,
        schedule: &Schedule,
        servers: &[BoundServer],
        walk: &Walk<'_, '_>,
        usable: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let random = &walk.chooser.random;
        let in_flight = |at: usize| servers.get(at).map_or(0, |server| server.pool.state().in_flight());
        let weights = servers.iter().map(|server| server.server.weight);
        match strategy {
            By::P2c => least::p2c(schedule, random, in_flight, usable),
            By::Random => least::random(schedule, random, usable),
            By::LeastConn => {
                let load = |at: usize| f64::from(in_flight(at)) + 1.0;
                least::least(schedule, || self.state.next(), weights, load, usable)
            }
            By::LeastTime => {
                let time = |at: usize| servers.get(at).and_then(|server| server.pool.state().response_time(walk.now));
                // One that has not answered yet is thought as quick as the quickest.
                let quickest = (0..servers.len()).filter(|at| usable(*at)).filter_map(time).fold(f64::MAX, f64::min);
                let quickest = if quickest == f64::MAX { 1.0 } else { quickest };
                let score = |at: usize| time(at).unwrap_or(quickest) * (f64::from(in_flight(at)) + 1.0);
                least::least(schedule, || self.state.next(), weights, score, usable)
            }
            _ => schedule.pick(|| self.state.next(), usable),
        }
    }

    fn fails_over(&self, at: usize, status: u16) -> Option<Range<usize>> {
        if !self.range.contains(&at) {
            return None;
        }
        match &self.kind {
            Kind::Servers { .. } => None,
            Kind::Weighted { children, .. } | Kind::ByAddress { children } => {
                children.iter().find_map(|part| part.node.fails_over(at, status))
            }
            Kind::Mirroring { service, .. } => service.fails_over(at, status),
            Kind::Failover { service, fallback, statuses } => {
                let inner = [service, fallback].into_iter().flatten().find_map(|node| node.fails_over(at, status));
                inner.or_else(|| {
                    let first = service.as_ref().filter(|first| first.range.contains(&at))?;
                    let counts = fallback.is_some() && statuses.iter().any(|range| range.contains(&status));
                    counts.then(|| first.range.clone())
                })
            }
        }
    }
}

impl Mirror {
    /// Whether the request of this number (from 1) is among those that are copied: they lie evenly.
    pub(super) fn wants(&self, number: u64) -> bool {
        copies(number, self.percent)
    }
}

fn copies(number: u64, percent: u8) -> bool {
    let so_far = |requests: u64| requests.wrapping_mul(u64::from(percent)).div_ceil(100);
    so_far(number) > so_far(number.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn new_servers_come_to_their_share_by_age() {
        let chooser = Chooser::new(5, Duration::from_secs(10));
        let share = |age: u64| (0..10_000).filter(|_| chooser.is_warm(age)).count();
        assert_eq!((share(0), share(10_000), share(u64::MAX)), (0, 10_000, 10_000));
        assert!((2_300..2_700).contains(&share(2_500)), "{}", share(2_500));
        assert!((8_800..9_200).contains(&share(9_000)), "{}", share(9_000));
    }

    #[test]
    fn copies_lie_evenly() {
        for percent in 0..=100u64 {
            let copied = |number: &u64| copies(*number, percent as u8);
            assert_eq!((1..=100).filter(copied).count() as u64, percent);
            assert_eq!((1..=1_000_000).filter(copied).count() as u64, percent * 10_000);
        }
        // as in Traefik the first of a hundred is copied
        assert!(copies(1, 1) && !copies(2, 1) && copies(101, 1));
    }
}
