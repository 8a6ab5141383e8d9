//! State of a service, shared by all workers.

use super::budget::Budget;
use super::crowd::Crowd;
use super::registry::Padded;
use crate::http::CopyFate;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What is shared of a service.
#[derive(Debug, Default)]
pub struct ServiceState {
    cursor: Padded<AtomicU32>,
    mirroring: Padded<Mirroring>,
    budget: Padded<Budget>,
    crowd: Padded<Crowd>,
}

/// What a service is mirrored, or gets of others as a mirror.
#[derive(Debug, Default)]
struct Mirroring {
    requests: AtomicU64,
    /// In the order of [`CopyFate::ALL`].
    copies: [AtomicU64; 4],
}

impl ServiceState {
    pub(super) fn crowd(&self) -> &Crowd {
        &self.crowd.0
    }

    /// Requests that wait for a place at one of its servers.
    pub fn waiting(&self) -> u32 {
        self.crowd.0.waiting()
    }

    /// One of its servers may have a place: who waits longest looks.
    pub fn place_freed(&self) {
        self.crowd.0.freed();
    }

    /// How many of its requests may be tried again.
    pub fn budget(&self) -> &Budget {
        &self.budget.0
    }

    /// Counts a request that may be mirrored; gives its number, from 1.
    pub fn mirrors(&self) -> u64 {
        self.mirroring.0.requests.fetch_add(1, Relaxed) + 1
    }

    /// Counts a copy that it gets, or does not get.
    pub fn copied(&self, fate: CopyFate) {
        if let Some(copies) = self.mirroring.0.copies.get(fate as usize) {
            copies.fetch_add(1, Relaxed);
        }
    }

    /// Copies by what became of them, in the order of [`CopyFate::ALL`].
    pub(super) fn copies(&self) -> [u64; 4] {
        self.mirroring.0.copies.each_ref().map(|copies| copies.load(Relaxed))
    }

    /// Where the round robin's cursor is.
    pub(super) fn turn(&self) -> u32 {
        self.cursor.0.load(Relaxed)
    }

    /// Moves the round robin's cursor; gives where it was.
    pub fn next(&self) -> u32 {
        self.cursor.0.fetch_add(1, Relaxed)
    }
}
