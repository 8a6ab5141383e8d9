//! *Choose*, without a socket: the server that the next request of a client would get, as far as that can be known.
//!
//! What always holds: turns are looked at, never taken; strategies that draw or go by what servers are doing show one of
//! those that may be chosen.

use super::scene::Servers;
use crate::balance::{rendezvous, wrr::Schedule};
use crate::http::{Headers, cookie};
use crate::table::{Child, CompositeKind, Server, Service, Sticky, Strategy};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A server, and the service that it is of.
pub(super) type Of<'a> = (&'a Service, &'a Arc<Server>);

/// The servers of a service and of all inside that may answer, in the order of declaration.
pub(super) fn all(service: &Service) -> Vec<Of<'_>> {
    match &service.composite {
        None => service.servers.iter().map(|server| (service, server)).collect(),
        Some(composite) => composite.answering().flat_map(|inner| all(inner)).collect(),
    }
}

/// How a server is chosen, in words.
pub(super) fn strategy(service: &Service) -> String {
    let shares = |children: &[Child]| {
        let share = |child: &Child| format!("`{}` {}", child.service.id, child.weight);
        children.iter().map(share).collect::<Vec<_>>().join(", ")
    };
    let how = match service.composite.as_ref().map(|composite| &composite.kind) {
        Some(CompositeKind::Weighted(children)) => format!("services by weight: {}", shares(children)),
        Some(CompositeKind::HighestRandomWeight(children)) => {
            format!("services by the client's address: {}", shares(children))
        }
        Some(CompositeKind::Mirroring { service, mirrors, .. }) => {
            let copies = mirrors.iter().map(|mirror| format!("`{}` {} %", mirror.service.id, mirror.percent));
            format!("`{}` answers, copies go to {}", service.id, copies.collect::<Vec<_>>().join(", "))
        }
        Some(CompositeKind::Failover { service, fallback, .. }) => {
            let name =
                |service: &Option<Arc<Service>>| service.as_ref().map_or("nobody".into(), |s| format!("`{}`", s.id));
            format!("{}, and {} while it has no usable server", name(service), name(fallback))
        }
        None => match &service.strategy {
            Strategy::Wrr | Strategy::Other(_) => "weighted round robin".to_owned(),
            Strategy::IpHash => "hash of the client's address".to_owned(),
            Strategy::Hrw => "hash of the client's address, by weight".to_owned(),
            Strategy::P2c => "the less busy of two that are drawn".to_owned(),
            Strategy::LeastConn => "the least busy".to_owned(),
            Strategy::LeastTime => "the quickest and least busy".to_owned(),
            Strategy::Random => "drawn by weight".to_owned(),
            Strategy::HashHeader(name) => format!("hash of the field `{name}`"),
            Strategy::HashCookie(name) => format!("hash of the cookie `{name}`"),
        },
    };
    match &service.sticky {
        Some(sticky) => format!("{how}; sticky by the cookie `{}`", sticky.name),
        None => how,
    }
}

/// Choices one after another.
pub(super) struct Chooser<'a> {
    pub(super) servers: &'a dyn Servers,
    pub(super) client: IpAddr,
    pub(super) headers: &'a Headers,
    turns: BTreeMap<Arc<str>, u32>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(servers: &'a dyn Servers, client: IpAddr, headers: &'a Headers) -> Self {
        Self { servers, client, headers, turns: BTreeMap::new() }
    }

    /// The server of the next turn, as the proxy chooses: one that is left alone only if there is no other.
    pub(super) fn next<'s>(&mut self, service: &'s Service) -> Option<Of<'s>> {
        self.pick(service, true).or_else(|| self.pick(service, false)).or_else(|| all(service).first().copied())
    }

    /// Tells how many turns were taken.
    pub(super) fn end(self) {
        for (service, turn) in &self.turns {
            self.servers.turned(service, *turn);
        }
    }

    fn turn(&mut self, service: &Arc<str>) -> u32 {
        let turn = self.turns.entry(service.clone()).or_insert_with(|| self.servers.turn(service));
        let now = *turn;
        *turn = turn.wrapping_add(1);
        now
    }

    fn pick<'s>(&mut self, service: &'s Service, up: bool) -> Option<Of<'s>> {
        let Some(composite) = &service.composite else { return self.server(service, up) };
        match &composite.kind {
            CompositeKind::Weighted(children) => {
                let named = self.named(service, children.iter().map(|child| &*child.name));
                let of_cookie = named.and_then(|at| self.pick(&children.get(at)?.service, up));
                let weights: Vec<u32> = children.iter().map(|child| child.weight).collect();
                let schedule = Schedule::by_deadlines(&weights);
                of_cookie.or_else(|| {
                    (0..schedule.len()).find_map(|_| {
                        let at = schedule.at(self.turn(&service.id))?;
                        self.pick(&children.get(at)?.service, up)
                    })
                })
            }
            CompositeKind::HighestRandomWeight(children) => {
                let mut out = Vec::new();
                loop {
                    let parts = children.iter().map(|child| (rendezvous::fingerprint(&child.name), child.weight));
                    let client = rendezvous::client(self.client);
                    let at = rendezvous::pick_weighted(client, parts, |at| !out.contains(&at))?;
                    match self.pick(&children.get(at)?.service, up) {
                        Some(picked) => return Some(picked),
                        None => out.push(at),
                    }
                }
            }
            CompositeKind::Mirroring { service, .. } => self.pick(service, up),
            CompositeKind::Failover { service, fallback, .. } => {
                let first = service.as_ref().and_then(|service| self.pick(service, up));
                first.or_else(|| self.pick(fallback.as_ref()?, up))
            }
        }
    }

    /// The candidate that a sticky cookie names.
    fn named<'n>(&self, service: &Service, names: impl Iterator<Item = &'n str>) -> Option<usize> {
        let value = cookie(self.headers, &service.sticky.as_ref()?.name)?;
        let is = |name: &str| Sticky::value(name) == value || Sticky::former_values(name).iter().any(|v| v == value);
        names.into_iter().position(is)
    }

    fn server<'s>(&mut self, service: &'s Service, only_up: bool) -> Option<Of<'s>> {
        let candidates = &service.servers;
        let state: Vec<_> = candidates.iter().map(|server| self.servers.state(&server.id)).collect();
        let usable = |at: usize| !only_up || state[at].up != Some(false);
        let named = self.named(service, candidates.iter().map(|server| &*server.id.url));
        let named = named.filter(|at| usable(*at) && candidates[*at].weight > 0);
        let weights: Vec<u32> = candidates.iter().map(|server| server.weight).collect();
        let prints = || candidates.iter().map(|server| rendezvous::fingerprint(&server.id.url));
        let hashed = |key: u64| rendezvous::pick_weighted(key, prints().zip(weights.iter().copied()), usable);
        let client = rendezvous::client(self.client);
        let by_key = match &service.strategy {
            Strategy::IpHash => Some(rendezvous::pick(client, prints(), usable)),
            Strategy::Hrw => Some(hashed(client)),
            Strategy::HashHeader(name) => {
                let name = crate::http::HeaderName::try_from(&**name).ok();
                let value = name.and_then(|name| self.headers.get(&name));
                value.map(|value| hashed(rendezvous::key(value)))
            }
            Strategy::HashCookie(name) => {
                cookie(self.headers, name).map(|value| hashed(rendezvous::key(value.as_bytes())))
            }
            Strategy::LeastConn | Strategy::LeastTime => {
                let usable = (0..candidates.len()).filter(|at| usable(*at) && weights[*at] > 0);
                // where it is not known, turns tell better
                let known = state.iter().any(|state| state.in_flight.is_some_and(|requests| requests > 0));
                known.then(|| usable.min_by_key(|at| state[*at].in_flight.unwrap_or(0)))
            }
            Strategy::Wrr | Strategy::P2c | Strategy::Random | Strategy::Other(_) => None,
        };
        let at = match (named, by_key) {
            (Some(named), _) => Some(named),
            (None, Some(by_key)) => by_key,
            (None, None) => Schedule::new(&weights).pick(|| self.turn(&service.id), usable),
        };
        at.and_then(|at| Some((service, candidates.get(at)?)))
    }
}
