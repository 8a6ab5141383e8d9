//! Consul's key-value store and its sessions, as `agent/consul/state/{kvs,session}.go` keep them: locks
//! are advisory; a session that ends releases or deletes what it holds, and nobody else gets those keys
//! before its lock delay is over; one with a TTL ends at twice that after its last renewal (seen by whoever asks
//! next). Time is handed in.
//!
//! Indexes are those of `kvsGetTxn` and `kvsListTxn`: a key that is there has its own, one that is not the table's; a
//! prefix has the highest of its keys and of what was deleted below it (which is never forgotten here), or the
//! table's when it has neither.

use super::{ConsulStore, Radix, Read, Touched, Watch};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Consul's `SessionTTLMultiplier`.
const TTL_MULTIPLIER: u32 = 2;

/// A key.
#[derive(Debug, Clone)]
struct Row {
    value: Bytes,
    flags: u64,
    session: Option<String>,
    lock_index: u64,
    create: u64,
    modify: u64,
}

/// What becomes of a session's keys when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behavior {
    /// They stay, unlocked.
    Release,
    /// They go.
    Delete,
}

/// A session as it is asked for.
#[derive(Debug, Clone)]
pub struct SessionEntry {
    /// For people.
    pub name: String,
    /// Life without renewal; `None`: for ever.
    pub ttl: Option<Duration>,
    /// What becomes of its keys.
    pub behavior: Behavior,
    /// How long nobody gets its keys after it has ended.
    pub lock_delay: Duration,
}

#[derive(Debug)]
struct Session {
    entry: SessionEntry,
    index: u64,
    renewed: Instant,
}

/// Keys and sessions.
#[derive(Debug, Default)]
pub(super) struct Keys {
    rows: BTreeMap<String, Row>,
    sessions: BTreeMap<String, Session>,
    delayed: BTreeMap<String, Instant>,
    /// Index of the table.
    index: u64,
    /// The graveyard: what was deleted, and when.
    stones: BTreeMap<String, u64>,
    tree: Radix,
}

/// A key in the tree.
fn leaf(key: &str) -> Vec<u8> {
    format!("{key}\0").into_bytes()
}

/// On what condition a key is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// None.
    Always,
    /// Its modify index is this one; 0: there is none.
    Index(u64),
    /// The session gets or has its lock.
    Acquire(String),
    /// The session has its lock, and lets go of it.
    Release(String),
}

/// There is no such session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSession(pub String);

fn uuid() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl ConsulStore {
    /// Writes a key; false when the condition does not hold.
    ///
    /// # Errors
    /// The session is none.
    pub fn put_key(
        &mut self,
        key: &str,
        value: Bytes,
        flags: u64,
        condition: &Condition,
        now: Instant,
    ) -> Result<bool, NoSession> {
        self.end_sessions(now);
        let old = self.keys.rows.get(key);
        let (mut session, mut lock_index) = old.map_or((None, 0), |row| (row.session.clone(), row.lock_index));
        match condition {
            Condition::Always => {}
            Condition::Index(index) => {
                if old.map_or(0, |row| row.modify) != *index {
                    return Ok(false);
                }
            }
            Condition::Acquire(id) => {
                if !self.keys.sessions.contains_key(id) {
                    return Err(NoSession(id.clone()));
                }
                if session.as_ref().is_some_and(|holder| holder != id)
                    || self.keys.delayed.get(key).is_some_and(|until| *until > now)
                {
                    return Ok(false);
                }
                lock_index += u64::from(session.is_none());
                session = Some(id.clone());
            }
            Condition::Release(id) => {
                if session.as_ref() != Some(id) {
                    return Ok(false);
                }
                session = None;
            }
        }
        let create = old.map(|row| row.create);
        let modify = self.next_index();
        let row = Row { value, flags, session, lock_index, create: create.unwrap_or(modify), modify };
        self.keys.rows.insert(key.to_owned(), row);
        self.keys.index = modify;
        let touched = self.keys.tree.insert(&leaf(key));
        self.wake_keys(&[touched]);
        Ok(true)
    }

    /// Removes a key, where `index` is said only with this modify index; false when that does not hold.
    pub fn delete_key(&mut self, key: &str, index: Option<u64>) -> bool {
        if let Some(index) = index
            && self.keys.rows.get(key).is_some_and(|row| row.modify != index)
        {
            return false;
        }
        if self.keys.rows.remove(key).is_some() {
            let index = self.next_index();
            self.bury(key, index);
        }
        true
    }

    /// Notes that a key has gone, and wakes who watches it.
    fn bury(&mut self, key: &str, index: u64) {
        self.keys.index = index;
        self.keys.stones.insert(key.to_owned(), index);
        let touched = self.keys.tree.remove(&leaf(key));
        self.wake_keys(&[touched]);
    }

    fn wake_keys(&mut self, touched: &[Touched]) {
        self.wakes.wake(|watch| match watch {
            Watch::Keys(node) => touched.iter().any(|touched| touched.hits(node)),
            _ => false,
        });
    }

    /// Removes every key that begins so.
    pub fn delete_keys(&mut self, prefix: &str) {
        let index = self.next_index();
        let gone: Vec<String> =
            self.keys.rows.extract_if(.., |key, _| key.starts_with(prefix)).map(|(k, _)| k).collect();
        if gone.is_empty() {
            return;
        }
        self.keys.index = index;
        if !prefix.is_empty() {
            // One for all of them.
            self.keys.stones.insert(prefix.to_owned(), index);
        }
        let touched: Vec<Touched> = gone.iter().map(|key| self.keys.tree.remove(&leaf(key))).collect();
        self.wake_keys(&touched);
    }

    /// A key as the API shows it, with its value; for a query that may wait.
    pub fn read_key(&mut self, key: &str, now: Instant) -> Read<Option<(Bytes, Value)>> {
        let value = self.key(key, now);
        let index = self.keys.rows.get(key).map_or(self.keys.index, |row| row.modify);
        let node = self.keys.tree.watched(&leaf(key));
        Read { index: index.max(1), value, changed: self.wakes.watch(Watch::Keys(node)) }
    }

    /// Every key that begins so, as the API shows it; for a query that may wait.
    pub fn read_keys(&mut self, prefix: &str, now: Instant) -> Read<Vec<(String, Value)>> {
        let keys = self.keys(prefix, now);
        let newest = keys.iter().filter_map(|key| Some(self.keys.rows.get(key)?.modify)).max();
        let below = self.keys.stones.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let index = match newest.max(below.map(|(_, index)| *index).max()) {
            Some(index) if !prefix.is_empty() => index,
            _ => self.keys.index,
        };
        let value = keys.into_iter().filter_map(|key| self.key(&key, now).map(|(_, shown)| (key, shown))).collect();
        let node = self.keys.tree.watched(prefix.as_bytes());
        Read { index: index.max(1), value, changed: self.wakes.watch(Watch::Keys(node)) }
    }

    /// Every key that begins so.
    pub fn keys(&mut self, prefix: &str, now: Instant) -> Vec<String> {
        self.end_sessions(now);
        self.keys
            .rows
            .range(prefix.to_owned()..)
            .map(|(key, _)| key)
            .take_while(|k| k.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// A key's value, and the key as the API shows it.
    pub fn key(&mut self, key: &str, now: Instant) -> Option<(Bytes, Value)> {
        self.end_sessions(now);
        let row = self.keys.rows.get(key)?;
        let value = if row.value.is_empty() { Value::Null } else { STANDARD.encode(&row.value).into() };
        let mut shown = json!({
            "LockIndex": row.lock_index, "Key": key, "Flags": row.flags, "Value": value,
            "CreateIndex": row.create, "ModifyIndex": row.modify,
        });
        if let Some(session) = &row.session {
            shown["Session"] = json!(session);
        }
        Some((row.value.clone(), shown))
    }

    /// Makes a session; gives its id.
    pub fn create_session(&mut self, entry: SessionEntry, now: Instant) -> String {
        let (id, index) = (uuid(), self.next_index());
        self.keys.sessions.insert(id.clone(), Session { entry, index, renewed: now });
        id
    }

    /// Renews a session; false when there is none.
    pub fn renew_session(&mut self, id: &str, now: Instant) -> bool {
        self.end_sessions(now);
        self.keys.sessions.get_mut(id).map(|session| session.renewed = now).is_some()
    }

    /// A session as the API shows it.
    pub fn session(&mut self, id: &str, now: Instant) -> Option<Value> {
        self.end_sessions(now);
        let Session { entry, index, .. } = self.keys.sessions.get(id)?;
        Some(json!({
            "ID": id, "Name": entry.name, "Node": super::LOCAL_NODE, "NodeChecks": ["serfHealth"],
            "ServiceChecks": null, "LockDelay": u64::try_from(entry.lock_delay.as_nanos()).unwrap_or(u64::MAX),
            "Behavior": match entry.behavior { Behavior::Release => "release", Behavior::Delete => "delete" },
            "TTL": entry.ttl.map(|ttl| format!("{}s", ttl.as_secs())).unwrap_or_default(),
            "CreateIndex": index, "ModifyIndex": index,
        }))
    }

    /// Ends a session, with what that means for its keys.
    pub fn destroy_session(&mut self, id: &str, now: Instant) {
        let Some(session) = self.keys.sessions.remove(id) else { return };
        let index = self.next_index();
        let held = |row: &Row| row.session.as_deref() == Some(id);
        let keys: Vec<String> =
            self.keys.rows.iter().filter(|(_, row)| held(row)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            match session.entry.behavior {
                Behavior::Delete => {
                    self.keys.rows.remove(&key);
                    self.bury(&key, index);
                }
                Behavior::Release => {
                    if let Some(row) = self.keys.rows.get_mut(&key) {
                        (row.session, row.modify) = (None, index);
                    }
                    self.keys.index = index;
                    let touched = self.keys.tree.insert(&leaf(&key));
                    self.wake_keys(&[touched]);
                }
            }
            if !session.entry.lock_delay.is_zero() {
                self.keys.delayed.insert(key, now + session.entry.lock_delay);
            }
        }
    }

    /// Ends every session, as when nobody has renewed one for long.
    pub fn destroy_sessions(&mut self, now: Instant) {
        let ids: Vec<String> = self.keys.sessions.keys().cloned().collect();
        ids.iter().for_each(|id| self.destroy_session(id, now));
    }

    fn end_sessions(&mut self, now: Instant) {
        let over =
            |session: &Session| session.entry.ttl.is_some_and(|ttl| session.renewed + ttl * TTL_MULTIPLIER <= now);
        let ids: Vec<String> =
            self.keys.sessions.iter().filter(|(_, session)| over(session)).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.destroy_session(id, now));
        self.keys.delayed.retain(|_, until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    fn entry(behavior: Behavior) -> SessionEntry {
        SessionEntry { name: "t".into(), ttl: Some(TTL), behavior, lock_delay: Duration::from_secs(1) }
    }

    #[test]
    fn locks_are_of_one_session_until_it_releases_or_ends() {
        let (mut store, now) = (ConsulStore::default(), Instant::now());
        let (a, b) =
            (store.create_session(entry(Behavior::Delete), now), store.create_session(entry(Behavior::Delete), now));
        let mut put = |condition, now| store.put_key("k", Bytes::from_static(b"v"), 0, &condition, now);
        assert_eq!(put(Condition::Acquire("x".into()), now), Err(NoSession("x".into())));
        assert_eq!(put(Condition::Acquire(a.clone()), now), Ok(true));
        assert_eq!(put(Condition::Acquire(b.clone()), now), Ok(false));
        assert_eq!(put(Condition::Release(b.clone()), now), Ok(false));
        assert_eq!(put(Condition::Release(a.clone()), now), Ok(true));
        assert_eq!(put(Condition::Acquire(b.clone()), now), Ok(true));
        // Its holder is gone: the key is, too, and stays free for the delay.
        assert!(store.renew_session(&a, now + TTL));
        let later = now + TTL * 2;
        assert!(store.key("k", later - Duration::from_millis(1)).is_some());
        assert!(store.key("k", later).is_none() && !store.renew_session(&b, later));
        let take = Condition::Acquire(a);
        assert_eq!(store.put_key("k", Bytes::new(), 0, &take, later), Ok(false), "the lock's delay");
        assert_eq!(store.put_key("k", Bytes::new(), 0, &take, later + Duration::from_secs(1)), Ok(true));
    }

    #[test]
    fn writes_can_depend_on_the_index() {
        let (mut store, now) = (ConsulStore::default(), Instant::now());
        let mut put = |index| store.put_key("a/k", Bytes::from_static(b"v"), 7, &Condition::Index(index), now).unwrap();
        assert!(put(0) && !put(0));
        let index = store.key("a/k", now).unwrap().1["ModifyIndex"].as_u64().unwrap();
        assert!(!store.delete_key("a/k", Some(index + 1)) && store.delete_key("a/k", Some(index)));
        assert!(store.delete_key("a/k", None), "that there is none is no error");
        for key in ["a/1", "a/2", "b"] {
            store.put_key(key, Bytes::new(), 0, &Condition::Always, now).unwrap();
        }
        assert_eq!(store.keys("a/", now), ["a/1", "a/2"]);
        store.delete_keys("a/");
        assert_eq!(store.keys("", now), ["b"]);
    }

    #[test]
    fn a_prefix_has_an_index_of_its_own_and_sleeps_through_other_writes() {
        use futures_util::FutureExt;
        let (mut store, now) = (ConsulStore::default(), Instant::now());
        let put = |store: &mut ConsulStore, key| {
            store.put_key(key, Bytes::from_static(b"v"), 0, &Condition::Always, now).unwrap();
        };
        assert_eq!(store.read_keys("a/", now).index, 1, "never 0, which would not wait");
        put(&mut store, "a/1");
        let Read { index, changed, .. } = store.read_keys("a/", now);
        put(&mut store, "b/1");
        assert!(changed.now_or_never().is_none(), "a write elsewhere");
        assert_eq!(store.read_keys("a/", now).index, index);
        assert!(store.read_keys("c/", now).index > index, "none below it: the table's");
        let Read { changed, .. } = store.read_keys("a/", now);
        put(&mut store, "a/2");
        assert!(changed.now_or_never().is_some());
        let Read { index, changed, value } = store.read_keys("a/", now);
        assert_eq!(value.len(), 2);
        store.delete_key("a/2", None);
        assert!(changed.now_or_never().is_some());
        let Read { index: deleted, changed, .. } = store.read_keys("a/", now);
        assert!(deleted > index, "what was deleted counts");
        store.delete_keys("a/");
        assert!(changed.now_or_never().is_some());
        let Read { index, value, .. } = store.read_keys("a/", now);
        assert!(index > deleted && value.is_empty());
        let one = store.read_key("a/1", now);
        put(&mut store, "a/1");
        assert!(one.changed.now_or_never().is_some() && one.value.is_none());
        assert_eq!(store.read_key("a/1", now).index, store.read_keys("a/", now).index);
    }
}
