//! The mirror of the certificates that lie in Consul: a directory of our own, in Caddy's layout, from which the store serves. What
//! changes in Consul is written there at once; while Consul is away it is what there is.
//!
//! What always holds: a pair is replaced only by one that fits together; nothing is removed but what Consul had since its index last
//! went back, has not in a whole answer, and says of the key itself to have no more (rights that were lost look like an empty
//! list, a server that was wiped like one too); an error removes nothing. Directory 0700, files 0600, each written as a whole.

use super::storage::{News, Row, Storage, StorageError, layout};
use super::{Store, inspect};
use crate::diagnostic::{Diagnostic, Origin};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where certificates lie, in Consul and in the mirror.
const BELOW: &str = "certificates";
/// Keeps the highest index that was seen over restarts.
const INDEX: &str = "index";
/// What has been written is served no later than after so many, where there is much to write.
const BATCH: usize = 64;
/// A pair whose halves do not fit is told of when it stays so: they may be written one by one.
const SETTLE: Duration = Duration::from_secs(2);

/// The mirror, kept as long as this or a clone of it is.
#[derive(Clone)]
pub struct Mirror {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mirror").field(&self.inner.root).finish()
    }
}

struct Inner {
    /// Consul.
    remote: Storage,
    local: Storage,
    root: PathBuf,
    store: Store,
    state: Mutex<State>,
    _stop: DropGuard,
}

#[derive(Default)]
struct State {
    /// Whether the directory has been looked at.
    loaded: bool,
    /// The index of the last whole answer.
    index: Option<u64>,
    /// By directory, `certificates/<issuer>/<host>`.
    sites: BTreeMap<String, Site>,
    unreachable: Option<Diagnostic>,
}

/// A certificate.
#[derive(Default)]
struct Site {
    /// What Consul's values were when it was taken over.
    marks: Marks,
    /// It is in the directory.
    here: bool,
    /// Consul had it since its index last went back.
    seen: bool,
    /// Why what Consul has is not taken over, and since when.
    problem: Option<(String, Instant)>,
}

/// The modify indexes of chain, key and metadata; 0 for none.
type Marks = [u64; 3];

/// Rows of one certificate.
#[derive(Default)]
struct Rows<'a> {
    crt: Option<&'a Row>,
    key: Option<&'a Row>,
    json: Option<&'a Row>,
}

impl Rows<'_> {
    fn marks(&self) -> Marks {
        [self.crt, self.key, self.json].map(|row| row.map_or(0, |row| row.modified))
    }
}

/// The three keys of a directory.
fn keys(dir: &str) -> [String; 3] {
    let host = dir.rsplit('/').next().unwrap_or_default();
    ["crt", "key", "json"].map(|ending| format!("{dir}/{host}.{ending}"))
}

/// The chains that lie in a mirror. Reads the disk.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let keys = Storage::directory(root.to_owned()).list(BELOW).unwrap_or_default();
    let chain = |key: &String| layout::site_of(key).is_some_and(|(_, ending)| ending == "crt");
    keys.iter().filter(|key| chain(key)).map(|key| root.join(key)).collect()
}

impl Mirror {
    /// Mirrors what lies in `remote`, a storage in Consul, into `root`, which `store` was opened with. Waits for nothing.
    ///
    /// # Errors
    /// The prefix of the keys is none.
    pub fn start(remote: Storage, root: PathBuf, store: Store) -> Result<Self, StorageError> {
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            local: Storage::directory(root.clone()),
            remote,
            root,
            store,
            state: Mutex::default(),
            _stop: stop.clone().drop_guard(),
        });
        let weak = Arc::downgrade(&inner);
        // Known before the first answer comes.
        let cut = Arc::new(OnceLock::<String>::new());
        let prefix = cut.clone();
        let tell = move |news| {
            if let Some(inner) = weak.upgrade() {
                inner.hear(news, prefix.wait());
            }
        };
        let before = inner.remote.watch(BELOW, Box::new(tell), stop)?.unwrap_or_default();
        let _ = cut.set(before);
        Ok(Self { inner })
    }

    /// Takes over a certificate that was just put into Consul, without waiting to be told. Blocks as a disk does.
    pub fn put(&self, issuer: &str, name: &str, key: &[u8], chain: &[u8], json: &[u8]) {
        let site = layout::site(issuer, name);
        let Some((dir, _)) = layout::site_of(&site.crt) else { return };
        self.inner.load();
        let written = self.inner.write(dir, key, chain, Some(json));
        self.inner.site(dir, |site| {
            site.seen = true;
            site.here |= written;
        });
        self.inner.publish();
    }
}

impl Inner {
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn site<T>(&self, dir: &str, change: impl FnOnce(&mut Site) -> T) -> T {
        self.state(|state| change(state.sites.entry(dir.to_owned()).or_default()))
    }

    /// Looks at what is in the directory, once.
    fn load(&self) {
        if self.state(|state| state.loaded) {
            return;
        }
        let keys = self.local.list(BELOW).unwrap_or_default();
        let index = self.local.read(INDEX).ok().flatten();
        let index = index.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
        self.state(|state| {
            if std::mem::replace(&mut state.loaded, true) {
                return;
            }
            state.index = index;
            for (dir, _) in keys.iter().filter_map(|key| layout::site_of(key)).filter(|(_, ending)| *ending == "crt") {
                // Without an index nobody knows whether Consul is the one that had them.
                let site = Site { here: true, seen: index.is_some(), ..Site::default() };
                state.sites.insert(dir.to_owned(), site);
            }
        });
    }

    /// What the watcher tells. Blocks.
    fn hear(&self, news: News, before: &str) {
        self.load();
        match news {
            News::Failed(error) => {
                let message = format!("the certificates in Consul are not to be had: {error}");
                let told = Diagnostic::warning("certificate_store", message.clone());
                let told = told.with_help("those that were there are served from the local mirror");
                let new = self.state(|state| state.unreachable.replace(told).is_none());
                if new {
                    tracing::warn!("{message}; the local mirror is served");
                }
            }
            News::All { index, rows } => {
                if self.state(|state| state.unreachable.take()).is_some() {
                    tracing::info!("the certificates in Consul are to be had again");
                }
                self.take_over(index, &rows, before);
            }
        }
        self.publish();
    }

    /// Makes the directory what Consul has, as far as that is to be believed.
    fn take_over(&self, index: u64, rows: &[Row], before: &str) {
        let mut found: BTreeMap<&str, Rows<'_>> = BTreeMap::new();
        for row in rows {
            let Some((dir, ending)) = row.key.strip_prefix(before).and_then(layout::site_of) else { continue };
            let rows = found.entry(dir).or_default();
            match ending {
                "crt" => rows.crt = Some(row),
                "key" => rows.key = Some(row),
                _ => rows.json = Some(row),
            }
        }
        let last = self.state(|state| state.index.replace(index));
        if last.is_some_and(|last| index < last) {
            tracing::warn!("the index of the certificates in Consul went back: what is missing there is kept");
            self.state(|state| state.sites.values_mut().for_each(|site| site.seen = false));
        }
        let mut written = 0;
        for (dir, rows) in found.iter().filter(|(_, rows)| rows.crt.is_some()) {
            let known = self.site(dir, |site| {
                site.seen = true;
                site.marks == rows.marks()
            });
            if !known && self.take(dir, rows) {
                written += 1;
                if written % BATCH == 0 {
                    self.publish();
                }
            }
        }
        let missing: Vec<(String, bool)> = self.state(|state| {
            let missing = |dir: &&String| found.get(dir.as_str()).is_none_or(|rows| rows.crt.is_none());
            state.sites.iter().filter(|(dir, _)| missing(dir)).map(|(dir, site)| (dir.clone(), site.seen)).collect()
        });
        for (dir, seen) in missing {
            let gone = match seen {
                true => self.remote.read_surely(&keys(&dir)[0]).map(|value| value.is_none()),
                false => Ok(self.has_ended(&dir)),
            };
            match gone {
                Ok(true) => self.remove(&dir),
                Ok(false) => {}
                Err(error) => {
                    // The rest would fail as well.
                    tracing::warn!(%error, "what is missing in Consul is kept, since it does not say that it is gone");
                    break;
                }
            }
        }
        if last != Some(index)
            && let Err(error) = self.local.write(INDEX, index.to_string().as_bytes())
        {
            tracing::debug!(%error, "the index of the mirror is not kept");
        }
    }

    /// Takes over one certificate; true when something was written.
    fn take(&self, dir: &str, rows: &Rows<'_>) -> bool {
        let value = |row: Option<&Row>| row.and_then(Row::bytes);
        let (chain, key, json) = (value(rows.crt), value(rows.key), value(rows.json));
        let pair = chain.zip(key).ok_or_else(|| "it has no key, or its values cannot be read".to_owned());
        let pair = pair.and_then(|(chain, key)| match inspect(&chain, &key) {
            Ok(_) => Ok((chain, key)),
            Err(error) => Err(error.to_string()),
        });
        let (chain, key) = match pair {
            Ok(pair) => pair,
            Err(why) => {
                self.site(dir, |site| {
                    let since = site.problem.take().map_or_else(Instant::now, |(_, since)| since);
                    site.problem = Some((why, since));
                });
                return false;
            }
        };
        let same = || {
            let here = keys(dir).map(|key| self.local.read(&key).ok().flatten());
            here[0].as_deref() == Some(&*chain) && here[1].as_deref() == Some(&*key) && here[2] == json
        };
        let here = self.site(dir, |site| site.here);
        let (wrote, there) = match here && same() {
            true => (false, true),
            false => (true, self.write(dir, &key, &chain, json.as_deref())),
        };
        self.site(dir, |site| {
            site.here |= there;
            // What could not be written is tried again with the next answer.
            site.marks = if there { rows.marks() } else { Marks::default() };
            site.problem = None;
        });
        wrote
    }

    /// Writes a pair, or holds it in memory; true when it is on the disk.
    fn write(&self, dir: &str, key: &[u8], chain: &[u8], json: Option<&[u8]>) -> bool {
        let [crt_key, key_key, json_key] = keys(dir);
        let mut values = vec![(&*key_key, key), (&*crt_key, chain)];
        values.extend(json.map(|json| (&*json_key, json)));
        match self.local.write_all(&values) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "a certificate of Consul's is served from memory: the mirror cannot be written");
                self.store.hold(self.root.join(&crt_key), chain, key);
                false
            }
        }
    }

    /// Whether nobody can use it any more.
    fn has_ended(&self, dir: &str) -> bool {
        let [crt, key, _] = keys(dir);
        let read = |key: &str| self.local.read(key).ok().flatten();
        let (Some(crt), Some(key)) = (read(&crt), read(&key)) else { return false };
        inspect(&crt, &key).is_ok_and(|pair| pair.not_after < SystemTime::now())
    }

    fn remove(&self, dir: &str) {
        tracing::info!(dir, "a certificate was removed in Consul");
        self.state(|state| state.sites.remove(dir));
        // First it is no longer looked for: a file that is missing is a fault.
        self.publish();
        for key in keys(dir) {
            if let Err(error) = self.local.remove(&key) {
                tracing::warn!(%error, "a certificate that was removed in Consul stays in the mirror");
            }
        }
        // Fails where something else is in it.
        let _ = std::fs::remove_dir(self.root.join(dir));
    }

    /// Tells the store what there is, and what is wrong.
    fn publish(&self) {
        let (files, problems) = self.state(|state| {
            let here = state.sites.iter().filter(|(_, site)| site.here);
            let files: Vec<PathBuf> = here.map(|(dir, _)| self.root.join(&keys(dir)[0])).collect();
            let old = |dir: &&str| state.sites.get(*dir).is_some_and(|site| site.here);
            let broken = state.sites.iter().filter_map(|(dir, site)| {
                let (why, since) = site.problem.as_ref()?;
                let kept = if old(&dir.as_str()) { "the pair from before is served" } else { "it is not served" };
                let origin = Origin { file: Some(format!("consul:{dir}").into()), ..Origin::default() };
                let message = format!("a certificate in Consul is broken: {why}");
                Some((
                    Diagnostic::error("bad_certificate", message).with_origin(origin).with_help(kept),
                    *since + SETTLE,
                ))
            });
            let told = state.unreachable.iter().map(|told| (told.clone(), Instant::now()));
            (files, told.chain(broken).collect())
        });
        self.store.mirrored(files, problems);
    }
}
