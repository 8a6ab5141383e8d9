//! Consul's key-value store and its sessions, as `agent/consul/state/{kvs,session}.go` keep them: locks
//! are advisory; a session that ends releases or deletes what it holds, and nobody else gets those keys
//! before its lock delay is over; one with a TTL ends at twice that after its last renewal.
//! Time is handed in.

use super::ConsulStore;
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
            self.next_index();
        }
        true
    }

    /// Removes every key that begins so.
    pub fn delete_keys(&mut self, prefix: &str) {
        self.keys.rows.retain(|key, _| !key.starts_with(prefix));
        self.next_index();
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
                Behavior::Delete => drop(self.keys.rows.remove(&key)),
                Behavior::Release => {
                    if let Some(row) = self.keys.rows.get_mut(&key) {
                        (row.session, row.modify) = (None, index);
                    }
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
}
