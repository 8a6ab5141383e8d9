//! Sources of certificates that are side by side: one host of Caddy's, one lineage of certbot's, the certificate directory itself.
//!
//! What always holds: a folder that has not changed is not listed again; one that cannot be read keeps what it had.

use super::files::{self, STAMP_RACY, Stamp};
use super::pair::Chains;
use super::unit::{Source, Unit};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

/// Sources of certificates at most.
pub(super) const PAIR_LIMIT: usize = 20_000;

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Depth {
    /// Directories whose stamp changed, and files outside of Caddy's directories.
    Changed,
    /// The stamp of every file besides.
    Files,
    /// Every directory is listed again.
    Every,
}

/// Where sources are side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The directory itself.
    Root,
    /// One host of Caddy's. `true`: of the issuer `local`.
    Host(bool),
    /// One lineage of certbot's.
    Live,
    /// Named by configuration, or the local copy.
    Anywhere,
    /// The mirror, whose keeper tells what is in it.
    Mirror,
}

pub(super) struct Folder {
    pub(super) kind: Kind,
    pub(super) stamp: Option<Stamp>,
    pub(super) racy: bool,
    pub(super) units: Vec<Unit>,
    /// The look that wants it looked at.
    pub(super) wanted: u64,
    /// The last look that reached it.
    pub(super) visited: u64,
    pub(super) trouble: Option<Problem>,
}

/// A file or directory and why it is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// An older pair of the same file is still served.
    pub(super) kept: bool,
    /// It is served, but this is to be said.
    pub(super) remark: bool,
}

/// What looking threads share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) chains: Chains,
    pub(super) units: AtomicUsize,
}

pub(super) fn racy(meta: &fs::Metadata, clock: SystemTime) -> bool {
    meta.modified().is_ok_and(|m| clock.duration_since(m).is_ok_and(|age| age < STAMP_RACY))
}

impl Folder {
    /// Looks; `sources` is what is in it where that was found out already. True when what is served differs.
    pub(super) fn look(
        &mut self,
        path: &Path,
        sources: Option<Vec<Source>>,
        depth: Depth,
        clock: SystemTime,
        round: u64,
        shared: &Shared,
    ) -> bool {
        self.trouble = None;
        let mut fresh = true;
        match sources {
            Some(sources) => self.set(sources, round, shared),
            None => match self.list(path, depth, clock) {
                Ok(Some(sources)) => self.set(sources, round, shared),
                Ok(None) => {
                    fresh = false;
                    self.stay(round);
                }
                Err(error) if files::absent(&error) => self.stamp = None,
                Err(error) => {
                    self.stay(round);
                    let kept = self.units.iter().any(|unit| !unit.pairs.is_empty());
                    let problem = Problem { file: path.to_owned(), text: error.to_string(), kept, remark: false };
                    self.trouble = Some(problem);
                    return false;
                }
            },
        }
        self.visited = round;
        let mut changed = false;
        for unit in self.units.iter_mut().filter(|unit| unit.seen == round) {
            // What is broken is looked at again each time: the key may have come meanwhile.
            if fresh || depth >= Depth::Files || unit.open() {
                changed |= unit.read(clock, &shared.chains);
            }
        }
        changed
    }

    /// Whether something is to be said of it.
    pub(super) fn is_noted(&self) -> bool {
        let noted = |unit: &Unit| !unit.problems.is_empty() || unit.remark.is_some() || unit.missing.is_some();
        self.trouble.is_some() || self.units.iter().any(noted)
    }

    /// What is in it; `None` when it has not changed.
    fn list(&mut self, path: &Path, depth: Depth, clock: SystemTime) -> io::Result<Option<Vec<Source>>> {
        let meta = fs::metadata(path)?;
        let now = files::stamp(&meta);
        // What certbot's links lead to changes without the directory.
        if depth != Depth::Every && self.stamp == Some(now) && !self.racy && self.kind != Kind::Live {
            return Ok(None);
        }
        let (names, _) = files::names(path)?;
        (self.stamp, self.racy) = (Some(now), racy(&meta, clock));
        let crt = |local| {
            let crt = names.iter().filter(|name| name.ends_with(".crt"));
            crt.map(|name| Source::Crt(path.join(name).into(), local)).collect()
        };
        Ok(Some(match self.kind {
            Kind::Host(local) => crt(local),
            _ => self.with_known(certbot_pair(path, &names).into_iter().collect(), path, &names),
        }))
    }

    /// Besides these, what is known and has lost its key alone: that is a fault, and no removal.
    pub(super) fn with_known(&self, mut sources: Vec<Source>, path: &Path, names: &[String]) -> Vec<Source> {
        let there = |source: &Source| {
            let name = source.file().strip_prefix(path).ok().and_then(Path::to_str);
            name.is_some_and(|name| names.binary_search_by(|known| known.as_str().cmp(name)).is_ok())
        };
        let paired: HashSet<&Path> = sources.iter().map(Source::file).collect();
        let alone = self.units.iter().map(|unit| &unit.source).filter(|source| !paired.contains(source.file()));
        let alone: Vec<Source> = alone.filter(|source| there(source)).cloned().collect();
        sources.extend(alone);
        sources
    }

    fn set(&mut self, sources: Vec<Source>, round: u64, shared: &Shared) {
        if self.units.len().max(sources.len()) < 16 {
            for source in sources {
                match self.units.iter_mut().find(|unit| unit.source == source) {
                    Some(unit) => unit.seen = round,
                    None => self.add(source, round, shared),
                }
            }
            return;
        }
        let known: HashMap<PathBuf, Vec<usize>> =
            self.units.iter().enumerate().fold(HashMap::new(), |mut known, (at, unit)| {
                known.entry(unit.source.file().to_owned()).or_default().push(at);
                known
            });
        for source in sources {
            let places = known.get(source.file()).into_iter().flatten();
            match places.copied().find(|at| self.units.get(*at).is_some_and(|unit| unit.source == source)) {
                Some(at) => self.units.iter_mut().skip(at).take(1).for_each(|unit| unit.seen = round),
                None => self.add(source, round, shared),
            }
        }
    }

    fn add(&mut self, source: Source, round: u64, shared: &Shared) {
        if shared.units.fetch_add(1, Ordering::Relaxed) < PAIR_LIMIT {
            self.units.push(Unit::new(source, round));
        }
    }

    /// What was there at the last look is there now.
    pub(super) fn stay(&mut self, round: u64) {
        let last = self.visited;
        self.units.iter_mut().filter(|unit| unit.seen == last).for_each(|unit| unit.seen = round);
        self.visited = round;
    }
}

/// Sources beside each other; files without a partner are somebody else's.
pub(super) fn flat_sources(dir: &Path, names: &[String]) -> Vec<Source> {
    let has = |name: &str| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
    let mut sources: Vec<_> = certbot_pair(dir, names).into_iter().collect();
    for name in names {
        let file = || Arc::<Path>::from(dir.join(name));
        let source = if let Some(stem) = name.strip_suffix(".crt") {
            has(&format!("{stem}.key")).then(|| Source::Crt(file(), false))
        } else if let Some(stem) = name.strip_suffix("-cert.pem") {
            let key = format!("{stem}-key.pem");
            has(&key).then(|| Source::Files(file(), dir.join(key)))
        } else if name == "cert.pem" && !has("privkey.pem") {
            has("key.pem").then(|| Source::Files(file(), dir.join("key.pem")))
        } else if name == "acme.json" {
            Some(Source::Traefik(file()))
        } else {
            let parts = ["cert.pem", "key.pem", "ca.pem", "chain.pem", "fullchain.pem", "privkey.pem"];
            let combined = name.ends_with(".pem") && !name.ends_with("-key.pem") && !parts.contains(&&**name);
            combined.then(|| Source::Combined(file()))
        };
        sources.extend(source);
    }
    sources
}

fn certbot_pair(dir: &Path, names: &[String]) -> Option<Source> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let chain = ["fullchain.pem", "cert.pem"].into_iter().find(|name| has(name))?;
    has("privkey.pem").then(|| Source::Files(dir.join(chain).into(), dir.join("privkey.pem")))
}
