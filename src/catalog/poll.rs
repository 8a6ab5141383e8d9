//! The arithmetic of blocking queries, as Nomad and Consul ask of every client
//! (<https://developer.hashicorp.com/consul/api-docs/features/blocking>): which index to send,
//! how long to wait, when to give up, how to come back after a failure.
//!
//! Pure: time and randomness come in as arguments. What always holds: an index is only taken from
//! a good answer; an index that went back, a failure and the first query all lead to a read
//! without index; a query that blocks always carries an index of at least 1; an index that went
//! back is believed only when the next good answer came without a failure before it.

use rand::Rng;
use std::time::Duration;
use tokio::time::Instant;

/// How the index of an answer stands to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// First answer, or a higher index: something changed.
    Forward,
    /// The same index: the wait ran out, or the server was told to end.
    Same,
    /// A lower index: wiped state, a restored snapshot or another server. What was known of
    /// indexes is void.
    Back,
}

/// One query to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Index to wait beyond; `None` asks for an answer at once.
    pub index: Option<u64>,
    /// `wait` to send along with the index.
    pub wait: Duration,
    /// When the client gives up, counted from sending.
    pub deadline: Duration,
}

impl Query {
    /// The query parameters, to be appended behind `?…&` (empty without an index).
    pub fn parameters(&self) -> String {
        match self.index {
            Some(index) => format!("index={index}&wait={}ms", self.wait.as_millis()),
            None => String::new(),
        }
    }
}

/// Durations of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Longest `wait`; each query takes between a half of it and all, so that many do not end together.
    pub wait: Duration,
    /// Added to 17/16 of `wait` (the server lengthens a wait by up to 1/16) before giving up.
    pub margin: Duration,
    /// Deadline of a read without index.
    pub read: Duration,
}

/// The index of one query that is repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Poll {
    /// Index of the last good answer; `None` before it, after a failure and after a reset.
    next: Option<u64>,
    /// Index of the last good answer, kept over failures so that a reset is seen behind an outage.
    seen: u64,
    /// The index from before the last step back, until another answer has followed on that.
    was: Option<u64>,
}

impl Poll {
    /// A poll that goes on from an index that another read of the same query brought.
    pub fn from_index(index: u64) -> Self {
        Self { next: Some(index), seen: index, was: None }
    }

    /// A poll of a catalog of which this index was seen before; 0 for none.
    pub fn after(index: u64) -> Self {
        Self { next: None, seen: index, was: None }
    }

    /// What to send next.
    pub fn query(&self, waits: &Waits, rng: &mut impl Rng) -> Query {
        match self.next {
            Some(index) => {
                let wait = waits.wait.mul_f64(rng.random_range(0.5..=1.0));
                Query { index: Some(index.max(1)), wait, deadline: wait * 17 / 16 + waits.margin }
            }
            None => Query { index: None, wait: Duration::ZERO, deadline: waits.read },
        }
    }

    /// Takes the index of a good (200) answer. An answer without index cannot be waited on.
    pub fn answered(&mut self, index: Option<u64>) -> Step {
        let Some(index) = index else {
            self.next = None;
            return Step::Same;
        };
        let before = std::mem::replace(&mut self.seen, index);
        let first = self.next.is_none() && before == 0;
        let was = self.was.take();
        match index.cmp(&before) {
            std::cmp::Ordering::Less => {
                self.next = None;
                self.was = Some(before.max(was.unwrap_or_default()));
                Step::Back
            }
            std::cmp::Ordering::Equal if !first => {
                self.next = Some(index);
                Step::Same
            }
            _ => {
                self.next = Some(index);
                Step::Forward
            }
        }
    }

    /// The next query asks without index, and is answered at once.
    pub fn at_once(&mut self) {
        self.next = None;
    }

    /// The query failed, or what it led to: the next one asks without index, since the server may have been wiped
    /// and would sleep through every change below the old index. Where the index had gone back just before, what was known
    /// before that is what the next answer is compared with: one low index alone must not hide a wipe behind the failure.
    pub fn failed(&mut self) {
        self.next = None;
        if let Some(was) = self.was.take() {
            self.seen = was;
        }
    }

    /// The index that the next answer is compared with.
    pub fn index(&self) -> u64 {
        self.seen
    }
}

/// Pauses between attempts that fail: doubling from `first` to `last`, with full jitter in the
/// upper half of each step, so that many clients do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses between `first` and `last`.
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    /// The pause after one more failure.
    pub fn failed(&mut self, rng: &mut impl Rng) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(20)).min(self.last);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(rng.random_range(0.5..=1.0))
    }

    /// A good answer came.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// A token bucket: bounds how often something is read however often it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    every: Duration,
    burst: u32,
    /// When the bucket would be full if nothing were taken any more.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Allows `burst` at once and then one `every`.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { every, burst, full_at: None }
    }

    /// Allows one `every` from now on; what was taken before counts as many of these.
    pub fn set_every(&mut self, every: Duration, now: Instant) {
        if let Some(owed) = self.full_at.and_then(|at| at.checked_duration_since(now)) {
            let owed = owed.as_nanos() * every.as_nanos() / self.every.as_nanos().max(1);
            self.full_at = Some(now + Duration::from_nanos(u64::try_from(owed).unwrap_or(u64::MAX >> 8)));
        }
        self.every = every;
    }

    /// Takes a token and tells when it may be used: `now` or later.
    pub fn take(&mut self, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.every;
        self.full_at = Some(full_at);
        full_at.checked_sub(self.every * self.burst).map_or(now, |at| at.max(now))
    }
}

/// Notices a server that does not wait (one behind a cache, one that lost its index): answers without news
/// long before their wait is over. The first is a server that ends; the pauses after the next ones double.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Early(u32);

impl Early {
    /// First and longest pause.
    const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

    /// The pause before the next query, after one that was to wait for `wait` and `lasted` so long.
    pub fn pause(&mut self, step: Step, lasted: Duration, wait: Duration) -> Duration {
        if step != Step::Same || !wait.is_zero() && lasted >= wait / 4 {
            self.0 = 0;
            return Duration::ZERO;
        }
        self.0 = self.0.saturating_add(1);
        match self.0 {
            1 => Duration::ZERO,
            n => (Self::PAUSE.0 * (1 << (n - 2).min(10))).min(Self::PAUSE.1),
        }
    }
}

/// How often an answer of this size may be asked for when it changes all the time: what is small
/// at once, what is large at about 25 MB/s, so that a storm of changes costs the agent a part of a core.
pub fn pace(bytes: usize) -> Duration {
    Duration::from_millis(10) + Duration::from_nanos(40 * u64::try_from(bytes).unwrap_or(u64::MAX / 40))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const WAITS: Waits =
        Waits { wait: Duration::from_secs(60), margin: Duration::from_secs(7), read: Duration::from_secs(10) };

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(7)
    }

    #[test]
    fn a_server_that_does_not_wait_is_asked_less_and_less_until_it_does() {
        let ms = Duration::from_millis;
        let (mut early, wait) = (Early::default(), Duration::from_secs(60));
        let pauses: Vec<_> = (0..4).map(|_| early.pause(Step::Same, ms(1), wait)).collect();
        assert_eq!(pauses, [ms(0), ms(100), ms(200), ms(400)]);
        assert_eq!((0..20).map(|_| early.pause(Step::Same, ms(1), wait)).last(), Some(ms(5000)));
        assert_eq!(early.pause(Step::Same, wait / 2, wait), ms(0), "it waited");
        assert_eq!(early.pause(Step::Same, ms(1), wait), ms(0));
        assert_eq!(early.pause(Step::Same, ms(1), Duration::ZERO), ms(100), "asked without index, over and over");
        assert_eq!(early.pause(Step::Forward, ms(1), wait), ms(0), "news are no reason to pause");
        assert_eq!(early.pause(Step::Same, ms(1), wait), ms(0));
    }

    #[test]
    fn the_first_query_and_those_after_a_failure_do_not_block() {
        let mut poll = Poll::default();
        assert_eq!(
            poll.query(&WAITS, &mut rng()),
            Query { index: None, wait: Duration::ZERO, deadline: Duration::from_secs(10) }
        );
        assert_eq!(poll.answered(Some(12)), Step::Forward);
        assert_eq!(poll.query(&WAITS, &mut rng()).index, Some(12));
        poll.failed();
        assert_eq!(poll.query(&WAITS, &mut rng()).index, None);
        assert_eq!(poll.answered(Some(12)), Step::Same, "nothing changed behind the outage");
        poll.failed();
        assert_eq!(poll.answered(Some(6)), Step::Back, "wiped behind the outage");
        assert_eq!(poll.query(&WAITS, &mut rng()).index, None);
        assert_eq!(poll.answered(Some(6)), Step::Same);
        assert_eq!(poll.query(&WAITS, &mut rng()).index, Some(6));
    }

    #[test]
    fn a_low_index_hides_no_wipe_behind_a_failure() {
        let mut poll = Poll::after(500);
        assert_eq!(poll.answered(Some(1)), Step::Back);
        poll.failed();
        assert_eq!((poll.index(), poll.answered(Some(7))), (500, Step::Back), "wiped meanwhile");
        assert_eq!(poll.answered(Some(6)), Step::Back);
        poll.failed();
        assert_eq!(poll.answered(Some(500)), Step::Same, "the low index was a single server's");
        assert_eq!(poll.answered(Some(7)), Step::Back);
        poll.at_once();
        assert_eq!(poll.answered(Some(8)), Step::Forward, "the wipe is a fact");
        poll.failed();
        assert_eq!((poll.index(), poll.answered(Some(9))), (8, Step::Forward));
    }

    #[test]
    fn index_zero_is_sent_as_one() {
        let mut poll = Poll::default();
        assert_eq!(poll.answered(Some(0)), Step::Forward);
        assert_eq!(poll.query(&WAITS, &mut rng()).index, Some(1));
    }

    #[test]
    fn an_answer_without_index_is_not_waited_on() {
        let mut poll = Poll::from_index(5);
        assert_eq!(poll.answered(None), Step::Same);
        assert_eq!(poll.query(&WAITS, &mut rng()).index, None);
        assert_eq!(poll.index(), 5);
    }

    #[test]
    fn parameters_are_what_both_servers_parse() {
        let query = Query { index: Some(7), wait: Duration::from_millis(30_500), deadline: Duration::ZERO };
        assert_eq!(query.parameters(), "index=7&wait=30500ms");
    }

    #[test]
    fn backoff_grows_to_its_bound_and_starts_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut rng = rng();
        for (n, most) in [100, 200, 400, 800, 1600, 3200, 5000, 5000].into_iter().enumerate() {
            let pause = backoff.failed(&mut rng).as_millis();
            assert!((most / 2..=most).contains(&pause), "failure {n}: {pause} ms of {most}");
        }
        for _ in 0..100 {
            backoff.failed(&mut rng);
        }
        backoff.succeeded();
        assert!(backoff.failed(&mut rng) <= Duration::from_millis(100));
    }

    #[test]
    fn bucket_allows_a_burst_and_then_a_rate() {
        let start = Instant::now();
        let every = Duration::from_secs(1);
        let mut bucket = Bucket::new(2, every);
        assert_eq!(bucket.take(start), start);
        assert_eq!(bucket.take(start), start);
        assert_eq!(bucket.take(start), start + every);
        assert_eq!(bucket.take(start), start + every * 2);
        let later = start + every * 60;
        assert_eq!(bucket.take(later), later);
        assert_eq!(bucket.take(later), later);
        assert_eq!(bucket.take(later), later + every);
        bucket.set_every(every / 10, later);
        assert_eq!(bucket.take(later), later + every / 5, "three were taken at the slower rate");
        bucket.set_every(every, later);
        assert_eq!(bucket.take(later), later + every * 3);
        bucket.set_every(pace(2), later);
        let much_later = later + every * 60;
        assert_eq!(bucket.take(much_later), much_later);
        assert!(pace(2) < Duration::from_millis(11) && pace(800_000) > Duration::from_millis(40));
    }

    proptest! {
        #[test]
        fn a_lower_index_is_always_a_reset_and_never_waited_on(indexes in prop::collection::vec(0u64..50, 1..40)) {
            let mut poll = Poll::default();
            let mut last = 0;
            for index in indexes {
                let step = poll.answered(Some(index));
                prop_assert_eq!(step == Step::Back, index < last);
                let query = poll.query(&WAITS, &mut rng());
                prop_assert_eq!(query.index.is_none(), step == Step::Back);
                prop_assert!(query.index.is_none_or(|i| i >= 1 && i >= index));
                prop_assert!(query.deadline > query.wait);
                last = index;
            }
        }
    }
}
