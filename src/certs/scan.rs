//! Looking for pairs under the certificate directory: Caddy's `certificates/<issuer>/<host>/`,
//! certbot's `live/<name>/`, and pairs beside each other in the directory itself.
//!
//! What always holds: a file whose stat has not changed is not read again; a pair stays as it was
//! when its new files are broken; a removal counts only where the directory could be listed and
//! something else is still there (an unmounted directory looks empty). All of it may hang on a
//! dead NFS server, so it runs on a thread that nothing waits for.

use super::index::Index;
use super::pair::{self, Pair, PairError};
use rustls::crypto::CryptoProvider;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Larger files are no chains and no keys.
const FILE_LIMIT: u64 = 256 * 1024;
/// Pairs served at most.
const PAIR_LIMIT: usize = 20_000;
/// Names looked at in one directory.
const NAME_LIMIT: usize = 50_000;
/// A directory changed so shortly before it was listed may change again within its time stamp.
const RACY: Duration = Duration::from_secs(2);

/// What tells a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    /// Of a directory on most file systems: how many directories are in it.
    links: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn stamp(meta: &fs::Metadata) -> Stamp {
    Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        links: meta.nlink(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }
}

/// A directory as last listed.
struct Listing {
    stamp: Stamp,
    racy: bool,
    names: Arc<[String]>,
}

/// Files that may be a pair.
struct Candidate {
    chain: PathBuf,
    key: PathBuf,
    local: bool,
}

/// A candidate as last read.
#[derive(Default)]
struct Known {
    stamps: Option<(Stamp, Stamp)>,
    pair: Option<Arc<Pair>>,
    problem: Option<PairError>,
    round: u64,
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Directories whose stat changed.
    Changed,
    /// Every file.
    Every,
}

/// What a look has found.
pub(super) struct Found {
    /// Whether the index differs from the last one.
    pub(super) changed: bool,
    /// Whether something was broken that was not before: it may be a renewal seen half-way.
    pub(super) unsettled: bool,
}

/// A file and why it is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// An older pair of the same file is still served.
    pub(super) kept: bool,
}

/// Remembers what it has seen.
pub(super) struct Scanner {
    dir: PathBuf,
    provider: Arc<CryptoProvider>,
    listings: HashMap<PathBuf, Listing>,
    known: BTreeMap<PathBuf, Known>,
    /// What is wrong with directories.
    trouble: Vec<Problem>,
    /// Pairs that are named one by one: chain and key.
    named: Arc<Vec<(PathBuf, PathBuf)>>,
    round: u64,
}

/// Temporary files of Caddy and of NFS, and hidden ones.
fn ignored(name: &str) -> bool {
    name.starts_with('.') || name.bytes().all(|b| b.is_ascii_digit())
}

/// Missing, or not a directory: nothing to find there, and nothing wrong.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Scanner {
    pub(super) fn new(dir: PathBuf, provider: Arc<CryptoProvider>) -> Self {
        Self {
            dir,
            provider,
            listings: HashMap::new(),
            known: BTreeMap::new(),
            trouble: Vec::new(),
            named: Arc::default(),
            round: 0,
        }
    }

    /// Pairs to look for besides, wherever they are.
    pub(super) fn name(&mut self, named: Arc<Vec<(PathBuf, PathBuf)>>) {
        self.named = named;
    }

    /// Looks once. `clock` is the time that directories' time stamps are compared with.
    pub(super) fn look(&mut self, depth: Depth, clock: SystemTime) -> Found {
        self.round += 1;
        self.trouble.clear();
        let mut found = Found { changed: false, unsettled: false };
        let dir = self.dir.clone();
        let named = self.named.iter().cloned().map(|(chain, key)| Candidate { chain, key, local: false }).collect();
        self.take(named, true, &mut found);
        match self.list(&dir, depth, clock) {
            Ok((names, _)) => {
                let flat = self.flat(&names);
                self.take(flat, true, &mut found);
            }
            Err(error) => {
                // Not even the directory itself: everything stays.
                self.trouble.push(Problem { file: dir, text: error.to_string(), kept: self.serves() });
                return found;
            }
        }
        self.caddy(&dir.join("certificates"), depth, clock, &mut found);
        self.certbot(&dir.join("live"), depth, clock, &mut found);
        self.forget(&mut found);
        found
    }

    fn serves(&self) -> bool {
        self.known.values().any(|known| known.pair.is_some())
    }

    /// Names in a directory, and whether it was listed anew.
    fn list(&mut self, dir: &Path, depth: Depth, clock: SystemTime) -> io::Result<(Arc<[String]>, bool)> {
        let meta = fs::metadata(dir)?;
        let now = stamp(&meta);
        if depth == Depth::Changed
            && let Some(last) = self.listings.get(dir)
            && last.stamp == now
            && !last.racy
        {
            return Ok((last.names.clone(), false));
        }
        let racy = meta.modified().is_ok_and(|m| clock.duration_since(m).is_ok_and(|age| age < RACY));
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)?.take(NAME_LIMIT) {
            if let Ok(name) = entry?.file_name().into_string()
                && !ignored(&name)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        let names: Arc<[String]> = names.into();
        self.listings.insert(dir.to_owned(), Listing { stamp: now, racy, names: names.clone() });
        Ok((names, true))
    }

    /// Names in a directory below the first, or `None`: then what is known there stays as it is.
    fn list_below(&mut self, dir: &Path, depth: Depth, clock: SystemTime) -> Option<(Arc<[String]>, bool)> {
        match self.list(dir, depth, clock) {
            Ok(listed) => Some(listed),
            Err(error) if absent(&error) => None,
            Err(error) => {
                let mut kept = false;
                for known in self.known.iter_mut().filter(|(file, _)| file.starts_with(dir)).map(|(_, k)| k) {
                    known.round = self.round;
                    kept |= known.pair.is_some();
                }
                self.trouble.push(Problem { file: dir.to_owned(), text: error.to_string(), kept });
                None
            }
        }
    }

    fn caddy(&mut self, root: &Path, depth: Depth, clock: SystemTime, found: &mut Found) {
        let Some((issuers, _)) = self.list_below(root, depth, clock) else { return };
        for issuer in issuers.iter() {
            let issuer_dir = root.join(issuer);
            let Some((hosts, _)) = self.list_below(&issuer_dir, depth, clock) else { continue };
            for host in hosts.iter() {
                let dir = issuer_dir.join(host);
                let Some((names, fresh)) = self.list_below(&dir, depth, clock) else { continue };
                let stems = names.iter().filter_map(|name| name.strip_suffix(".crt"));
                let candidate = |stem: &str| Candidate {
                    chain: dir.join(format!("{stem}.crt")),
                    key: dir.join(format!("{stem}.key")),
                    local: issuer == "local",
                };
                self.take(stems.map(candidate).collect(), fresh, found);
            }
        }
    }

    fn certbot(&mut self, root: &Path, depth: Depth, clock: SystemTime, found: &mut Found) {
        let Some((lineages, _)) = self.list_below(root, depth, clock) else { return };
        for lineage in lineages.iter() {
            let dir = root.join(lineage);
            let Some((names, _)) = self.list_below(&dir, depth, clock) else { continue };
            // What the links point to changes without the directory.
            self.take(certbot_pair(&dir, &names).into_iter().collect(), true, found);
        }
    }

    /// Pairs beside each other; files without a partner are somebody else's, unless they were one.
    fn flat(&self, names: &[String]) -> Vec<Candidate> {
        let dir = &self.dir;
        let has = |name: &str| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
        let mut candidates: Vec<_> = certbot_pair(dir, names).into_iter().collect();
        for name in names {
            let key = if let Some(stem) = name.strip_suffix(".crt") {
                format!("{stem}.key")
            } else if let Some(stem) = name.strip_suffix("-cert.pem") {
                format!("{stem}-key.pem")
            } else if name == "cert.pem" && !has("privkey.pem") {
                "key.pem".to_owned()
            } else if name.ends_with(".pem")
                && !name.ends_with("-key.pem")
                && !["cert.pem", "key.pem", "ca.pem", "chain.pem", "fullchain.pem", "privkey.pem"].contains(&&**name)
            {
                name.clone()
            } else {
                continue;
            };
            let chain = dir.join(name);
            if has(&key) || self.known.contains_key(&chain) {
                candidates.push(Candidate { chain, key: dir.join(key), local: false });
            }
        }
        candidates
    }

    /// Reads what changed among the candidates; `fresh` is false when their directory did not change.
    fn take(&mut self, candidates: Vec<Candidate>, fresh: bool, found: &mut Found) {
        for candidate in candidates {
            let mut known = match self.known.remove(&candidate.chain) {
                Some(known) => known,
                None if self.known.len() >= PAIR_LIMIT => {
                    let text = format!("more than {PAIR_LIMIT} certificates, the rest is not served");
                    let file = self.dir.clone();
                    if !self.trouble.iter().any(|p| p.file == file) {
                        self.trouble.push(Problem { file, text, kept: false });
                    }
                    continue;
                }
                None => Known::default(),
            };
            known.round = self.round;
            // A problem is looked at again each time: the key may have come meanwhile.
            if fresh || known.stamps.is_none() {
                self.read(&candidate, &mut known, found);
            }
            self.known.insert(candidate.chain, known);
        }
    }

    fn read(&self, candidate: &Candidate, known: &mut Known, found: &mut Found) {
        let stamps = stamps(candidate);
        let result = match &stamps {
            Ok(now) if known.stamps.as_ref() == Some(now) => return,
            Ok(_) => self.load(candidate),
            Err(error) => Err(error.clone()),
        };
        known.stamps = stamps.ok();
        match result {
            Ok(Some(pair)) => {
                known.pair = Some(Arc::new(pair));
                known.problem = None;
                found.changed = true;
            }
            Ok(None) => known.problem = known.pair.is_some().then_some(PairError::NoKey),
            Err(error) => {
                found.unsettled |= known.problem.as_ref() != Some(&error);
                known.problem = Some(error);
            }
        }
    }

    /// The pair; `None` for a `.pem` that holds something else than a pair on purpose.
    fn load(&self, candidate: &Candidate) -> Result<Option<Pair>, PairError> {
        let chain = read(&candidate.chain)?;
        let combined = candidate.chain == candidate.key;
        if combined {
            let has = |text: &[u8]| memchr::memmem::find(&chain, text).is_some();
            if has(b"-----BEGIN ") && !(has(b"-----BEGIN CERTIFICATE-----") && has(b"PRIVATE KEY-----")) {
                return Ok(None);
            }
        }
        let key = if combined { chain.clone() } else { read(&candidate.key)? };
        pair::parse(&chain, &key, candidate.chain.clone(), candidate.local, &self.provider).map(Some)
    }

    /// Drops what is no longer there, unless nothing at all is.
    fn forget(&mut self, found: &mut Found) {
        let round = self.round;
        if self.serves() && self.known.values().all(|known| known.round != round) {
            let text = "every certificate has gone from it at once; the last ones are served on".to_owned();
            self.trouble.push(Problem { file: self.dir.clone(), text, kept: true });
            return;
        }
        let before = self.known.len();
        self.known.retain(|_, known| known.round == round);
        found.changed |= self.known.len() != before;
        let known = &self.known;
        let lives = |dir: &Path| known.range(dir.to_owned()..).next().is_some_and(|(f, _)| f.starts_with(dir));
        if self.listings.len() > 2 * known.len() + 1_000 {
            self.listings.retain(|dir, _| lives(dir));
        }
    }

    /// What is found now, by name.
    pub(super) fn index(&self) -> Index {
        let all: Vec<_> = self.known.values().filter_map(|known| known.pair.clone()).collect();
        let of = |name| self.known.get(&self.dir.join(name)).and_then(|known| known.pair.clone());
        let default = of("cert.pem").or_else(|| of("fullchain.pem"));
        Index::new(all, default)
    }

    /// What is wrong now, by file.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let of_files = self.known.iter().filter_map(|(file, known)| {
            let text = known.problem.as_ref()?.to_string();
            Some(Problem { file: file.clone(), text, kept: known.pair.is_some() })
        });
        self.trouble.iter().cloned().chain(of_files).collect()
    }
}

fn certbot_pair(dir: &Path, names: &[String]) -> Option<Candidate> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let chain = ["fullchain.pem", "cert.pem"].into_iter().find(|name| has(name))?;
    has("privkey.pem").then(|| Candidate { chain: dir.join(chain), key: dir.join("privkey.pem"), local: false })
}

fn meta(file: &Path) -> Result<Stamp, PairError> {
    match fs::metadata(file) {
        Ok(meta) if meta.is_file() => Ok(stamp(&meta)),
        // Opening a pipe would wait for its other end.
        Ok(_) => Err(PairError::NotAFile(file.to_owned())),
        Err(error) => Err(PairError::Read { file: file.to_owned(), reason: error.to_string() }),
    }
}

fn stamps(candidate: &Candidate) -> Result<(Stamp, Stamp), PairError> {
    let chain = meta(&candidate.chain)?;
    match fs::metadata(&candidate.key) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(PairError::KeyMissing(candidate.key.clone())),
        _ => Ok((chain, meta(&candidate.key)?)),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, PairError> {
    let failed = |error: io::Error| PairError::Read { file: file.to_owned(), reason: error.to_string() };
    let mut text = Vec::new();
    fs::File::open(file).map_err(failed)?.take(FILE_LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(PairError::TooLarge { file: file.to_owned(), limit: FILE_LIMIT });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file.with_extension("crt"), made.cert.pem()).unwrap();
        fs::write(file.with_extension("key"), made.signing_key.serialize_pem()).unwrap();
    }

    fn names(scanner: &Scanner) -> Vec<String> {
        let mut names: Vec<_> =
            scanner.index().all().iter().flat_map(|p| p.names.iter().map(ToString::to_string)).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn directories_that_did_not_change_are_not_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("certificates/le/a/a");
        write(&host, &["a.test"]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut scanner = Scanner::new(dir.path().to_owned(), provider);
        let now = SystemTime::now();
        let later = now + 2 * RACY;
        assert!(scanner.look(Depth::Every, now).changed);

        // Listed within the resolution of time stamps: not trusted yet.
        write(&host, &["b.test"]);
        assert!(scanner.look(Depth::Changed, now).changed);
        assert_eq!(names(&scanner), ["b.test"]);

        // Later a write in place, which the directory does not show, waits for a look at everything.
        assert!(!scanner.look(Depth::Changed, later).changed);
        write(&host, &["c.test"]);
        assert!(!scanner.look(Depth::Changed, later).changed);
        assert!(scanner.look(Depth::Every, later).changed);
        assert_eq!(names(&scanner), ["c.test"]);

        // New hosts and issuers change the directory above.
        write(&dir.path().join("certificates/le/d/d"), &["d.test"]);
        write(&dir.path().join("certificates/other/e/e"), &["e.test"]);
        assert!(scanner.look(Depth::Changed, later).changed);
        assert_eq!(names(&scanner), ["c.test", "d.test", "e.test"]);
        assert!(!scanner.look(Depth::Every, later).changed);
    }
}
