//! Whether a server has room for another request, where its service limits what it works on.
//!
//! What always holds: without a limit there is room, and nothing is looked at for that.

use super::service::{Asking, BoundServer, BoundService};
use crate::upstream::InFlight;
use std::sync::Arc;

impl BoundServer {
    /// Counts a request; `None` where it is one too many.
    pub(super) fn enter(&self) -> Option<InFlight> {
        match &self.limit {
            None => Some(self.pool.enter()),
            Some((most, _)) => self.pool.enter_below(*most),
        }
    }

    fn has_room(&self) -> bool {
        self.limit.as_ref().is_none_or(|(most, _)| self.pool.state().in_flight() < *most)
    }

    /// Whether a request may have a place there; one that does not wait leaves those alone that others wait for.
    pub(super) fn takes(&self, asking: &Asking<'_>) -> bool {
        let Some((_, service)) = &self.limit else { return true };
        self.has_room() && (asking.queued || service.waiting() == 0)
    }
}

impl BoundService {
    /// Those who wait are told if there is a place.
    pub(super) fn tell_of_places(&self) {
        for (state, _) in self.limited.iter().filter(|(state, _)| state.waiting() > 0) {
            let of_it = |server: &&BoundServer| server.limit.as_ref().is_some_and(|(_, of)| Arc::ptr_eq(of, state));
            if self.servers.iter().filter(of_it).any(BoundServer::has_room) {
                state.place_freed();
            }
        }
    }
}
