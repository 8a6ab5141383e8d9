//! When what is held is looked at again: a few names at a time, in a circle, since each may have come back unseen; and the list itself as
//! soon as the time of a hold is over, because together with the reads that it leads to it says whether the name is gone.
//!
//! What always holds: while something is held a look is planned, and none while nothing is.

use super::ServiceKey;
use super::believe::Belief;
use std::time::Duration;
use tokio::time::Instant;

/// How many held names are read at a time.
const AT_ONCE: usize = 64;

/// The looks of one watcher.
#[derive(Debug, Default)]
pub struct Looks {
    at: Option<Instant>,
    last: Option<ServiceKey>,
    list: bool,
}

impl Looks {
    /// When the next one is due.
    pub fn due(&self) -> Option<Instant> {
        self.at
    }

    /// Plans the next one, at most `pause` from now.
    pub fn plan(&mut self, belief: &Belief, pause: Duration, now: Instant) {
        let Some(end) = belief.next_end() else {
            (self.at, self.last) = (None, None);
            return;
        };
        let at = self.at.get_or_insert(now + pause);
        if end > now {
            *at = (*at).min(end);
        }
    }

    /// It is due: the names to be read, and whether the list is to be read at once.
    pub fn take(&mut self, belief: &Belief, now: Instant) -> (Vec<ServiceKey>, bool) {
        self.at = None;
        let names = belief.held_after(self.last.as_ref(), AT_ONCE);
        self.last = names.last().cloned();
        let list = belief.next_end().is_some_and(|end| end <= now);
        self.list |= list;
        (names, list)
    }

    /// It is due at a time at which nothing can be read: another is planned.
    pub fn pass(&mut self) {
        self.at = None;
    }

    /// Nothing of what was asked for comes.
    pub fn failed(&mut self) {
        self.list = false;
    }

    /// Whether the list that came was read for a look.
    pub fn take_list(&mut self) -> bool {
        std::mem::take(&mut self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Health, Instance};

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "default".into(), name: name.into() }
    }

    fn holding(names: &[&str], now: Instant) -> Belief {
        let mut belief = Belief::new(SECOND * 10);
        for name in names {
            let instance = Instance {
                id: "a".into(),
                node: "n".into(),
                address: "10.0.0.1".into(),
                node_address: "".into(),
                port: 80,
                tags: Vec::new(),
                health: Health::Unknown,
                datacenter: "".into(),
                create_index: 0,
                job: "".into(),
                alloc: "".into(),
                checks: None,
            };
            belief.put(&key(name), vec![instance], super::super::believe::Trust::Full);
        }
        belief.hold(names.iter().map(|name| key(name)), now);
        belief
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_looked_at_in_a_circle_and_the_list_when_the_time_is_over() {
        let now = Instant::now();
        let names: Vec<_> = (0..100).map(|n| format!("s{n:03}")).collect();
        let belief = holding(&names.iter().map(String::as_str).collect::<Vec<_>>(), now);
        let mut looks = Looks::default();
        looks.plan(&belief, SECOND * 4, now);
        assert_eq!(looks.due(), Some(now + SECOND * 4));
        let (first, list) = looks.take(&belief, now + SECOND * 4);
        assert_eq!((first.len(), &*first[0].name, list), (AT_ONCE, "s000", false));
        assert_eq!(looks.due(), None);
        looks.plan(&belief, SECOND * 40, now + SECOND * 4);
        assert_eq!(looks.due(), Some(now + SECOND * 10), "not behind the end of a hold");
        let (second, list) = looks.take(&belief, now + SECOND * 10);
        assert_eq!((&*second[0].name, &*second[36].name, list), ("s064", "s000", true));
        assert!(looks.take_list() && !looks.take_list());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_planned_while_nothing_is_held() {
        let now = Instant::now();
        let mut looks = Looks::default();
        looks.plan(&holding(&["web"], now), SECOND, now);
        assert!(looks.due().is_some());
        looks.plan(&holding(&[], now), SECOND, now);
        assert_eq!(looks.due(), None);
    }
}
