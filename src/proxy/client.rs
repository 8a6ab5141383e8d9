//! A client's connection: what all its requests share, and the bell that wakes it when the worker drains.

use super::accept::Open;
use super::flood::Resets;
use crate::http::{Protocol, TlsInfo};
use crate::upstream::Proxied;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

/// What all requests of one connection share.
pub(super) struct Client {
    pub(super) open: Open,
    pub(super) peer: SocketAddr,
    /// The peer's address as headers write it.
    pub(super) peer_text: String,
    pub(super) tls: bool,
    /// What the TLS handshake agreed on.
    pub(super) tls_info: Option<TlsInfo>,
    /// The TLS options of its handshake.
    pub(super) tls_options: Option<Arc<str>>,
    since: Instant,
    pub(super) protocol: Protocol,
    pub(super) trusted: bool,
    /// Requests that came by it.
    pub(super) requests: Cell<u64>,
    /// Those that it gave up.
    resets: Resets,
    abusive: Cell<bool>,
}

impl Client {
    pub(super) fn new(open: Open, peer: SocketAddr, tls: Option<(TlsInfo, Arc<str>)>, protocol: Protocol) -> Self {
        let (tls_info, tls_options) = tls.unzip();
        let tls = tls_info.is_some();
        let trusted = open.entry.trust.believes(peer.ip());
        Self {
            peer,
            peer_text: peer.ip().to_string(),
            tls,
            tls_info,
            tls_options,
            since: Instant::now(),
            protocol,
            trusted,
            requests: Cell::new(0),
            resets: Resets::new(Instant::now()),
            abusive: Cell::new(false),
            open,
        }
    }

    /// Counts a request. Gives whether the connection ends with it (`keepAliveMaxRequests`, `keepAliveMaxTime`).
    pub(super) fn count(&self) -> bool {
        self.requests.set(self.requests.get() + 1);
        let entry = &self.open.entry;
        let limited = entry.keep_alive_max_requests > 0 || !entry.keep_alive_max_time.is_zero();
        limited && entry.is_last(self.requests.get(), self.since.elapsed())
    }

    /// Counts a request that the client gave up before its answer.
    pub(super) fn given_up(&self) {
        if self.protocol == Protocol::Http2 && self.resets.count(Instant::now()) {
            self.abusive.set(true);
        }
    }

    /// Whether it gave up too many.
    pub(super) fn is_abusive(&self) -> bool {
        self.abusive.get()
    }

    /// Who came to whom, for servers that want to know it by the PROXY protocol.
    pub(super) fn proxied(&self) -> Option<Proxied> {
        Some(Proxied { source: self.peer, destination: self.open.local? })
    }
}

/// Wakes the connections of a worker that have nothing to do, when they should end.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Cell<bool>,
    /// Until when a connection without a request may wait for one; its answer then says that it was the last.
    patience: Cell<Option<tokio::time::Instant>>,
    sleepers: RefCell<Slab<Waker>>,
}

impl Bell {
    /// Rings for good. Connections without a request end at once, or by `patience`.
    pub(super) fn ring(&self, patience: Option<tokio::time::Instant>) {
        self.rung.set(true);
        self.patience.set(patience);
        for (_, sleeper) in self.sleepers.borrow().iter() {
            sleeper.wake_by_ref();
        }
    }

    /// Until when a connection without a request may wait for one, once it has rung; `None`: no longer.
    pub(super) fn patience(&self) -> Option<tokio::time::Instant> {
        self.patience.get()
    }

    /// By when a client that has asked nothing yet has to begin.
    pub(super) fn first_by(&self) -> tokio::time::Instant {
        let soon = tokio::time::Instant::now() + super::handshake::FIRST_REQUEST;
        self.patience.get().map_or(soon, |patience| soon.max(patience))
    }

    /// Whether it has rung.
    pub(super) fn has_rung(&self) -> bool {
        self.rung.get()
    }
}

/// One task's place at the bell.
pub(super) struct Listener<'a> {
    bell: &'a Bell,
    place: Option<usize>,
}

impl<'a> Listener<'a> {
    pub(super) fn new(bell: &'a Bell) -> Self {
        Self { bell, place: None }
    }

    /// Whether the bell has rung. The task is woken when it does.
    pub(super) fn hears(&mut self, cx: &Context<'_>) -> bool {
        // A task has one waker all its life.
        if self.place.is_none() {
            self.place = Some(self.bell.sleepers.borrow_mut().insert(cx.waker().clone()));
        }
        self.bell.has_rung()
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.bell.sleepers.borrow_mut().try_remove(place);
        }
    }
}
