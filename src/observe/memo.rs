//! Where the counts of the requests that come again and again are: requests that agree in entry
//! point, router, service, method, status and TLS are counted in the same places, which are found
//! here by the addresses of the names instead of by the names.
//!
//! What always holds: an entry keeps the names alive that it was made of, so that no other name can
//! come to stand at their addresses; and all entries go when series may have moved (a sweep).

use super::record::RequestRecord;
use super::shard::Kind;
use std::sync::Arc;

/// Entries; a power of two. Two stand for each hash, the younger one first; a third takes the place
/// of the older one, which costs its requests a look-up by name.
const SIZE: usize = 512;

/// Where the counts of a request are in one kind of scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scope: u32,
    pub(super) series: u32,
    pub(super) tls: u32,
}

impl Place {
    /// Nowhere.
    pub(super) const NONE: Self = Self { scope: u32::MAX, series: u32::MAX, tls: u32::MAX };
}

/// Places in the scopes of entry point, router and service.
pub(super) type Places = [Place; 3];

/// Addresses of names and static texts, and the status. Static texts agree where their addresses
/// do; where they do not, the slow way looks closer.
type Key = [usize; 7];

/// The entries of one worker.
#[derive(Debug, Default)]
pub(super) struct Memo {
    entries: Vec<(Key, Places)>,
    /// The names of the entries, in their order.
    names: Vec<[Option<Arc<str>>; 3]>,
}

fn address(name: Option<&Arc<str>>) -> usize {
    name.map_or(0, |name| Arc::as_ptr(name).cast::<u8>().addr())
}

fn key(record: &RequestRecord<'_>) -> Key {
    let kind = Kind::of(record);
    let text = |text: &'static str| text.as_ptr().addr();
    [
        address(Some(record.entry_point)),
        address(record.router),
        address(record.service),
        text(kind.method),
        // Statuses are three digits; the protocol follows from them.
        usize::from(kind.code),
        record.tls.map_or(0, |tls| text(tls.cipher)),
        record.tls.map_or(0, |tls| text(tls.version)),
    ]
}

/// The first of a key's two entries.
fn slot(key: &Key) -> usize {
    let hash = key[..5].iter().fold(0u64, |hash, word| {
        // Fibonacci hashing: the upper bits of the product are well mixed.
        let hash = (hash ^ *word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ (hash >> 32)
    });
    hash as usize & (SIZE - 2)
}

impl Memo {
    /// The places of a request, by `find` where they are not known.
    #[inline]
    pub(super) fn places(&mut self, record: &RequestRecord<'_>, find: impl FnOnce() -> Places) -> Places {
        let key = key(record);
        let at = slot(&key);
        if let Some(pair) = self.entries.get(at..at + 2) {
            for (known, places) in pair {
                if *known == key {
                    return *places;
                }
            }
        }
        let places = find();
        self.remember(at, key, places, record);
        places
    }

    fn remember(&mut self, at: usize, key: Key, places: Places, record: &RequestRecord<'_>) {
        if self.entries.is_empty() {
            self.entries.resize(SIZE, ([0; 7], [Place::NONE; 3]));
            self.names.resize(SIZE, [const { None }; 3]);
        }
        self.entries.swap(at, at + 1);
        self.names.swap(at, at + 1);
        self.entries[at] = (key, places);
        self.names[at] = [Some(record.entry_point.clone()), record.router.cloned(), record.service.cloned()];
    }

    /// Lets go of all entries.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
        self.names.clear();
    }
}
