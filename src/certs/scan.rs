//! Looking for certificates under the certificate directory: Caddy's `certificates/<issuer>/<host>/`, certbot's `live/<name>/`, and
//! what lies in the directory itself (pairs, Traefik's `acme.json`); besides, those that configuration names.
//!
//! What always holds: a directory or file whose stamp has not changed is not read again; a removal counts only where the directory
//! could be listed and something else is still there (an unmounted directory looks empty). All of it may hang on a dead NFS server, so
//! it runs on a thread that nothing waits for. Many directories are looked at by several threads: on a network file system the time
//! is that of round trips.

use super::files::{self, NAME_LIMIT, Stamp};
use super::folder::{Depth, Folder, Kind, PAIR_LIMIT, Problem, Shared, flat_sources, racy};
use super::index::{Defaults, Index};
use super::named::Named;
use super::pair::Pair;
use super::staple::{self, STAPLE_LIMIT, Staple};
use super::unit::{Source, Unit};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

/// From so many directories on, a look is shared among threads.
const SHARED: usize = 256;
/// At most so many.
const THREADS: usize = 8;

/// A directory as last listed.
struct Listing {
    stamp: Stamp,
    racy: bool,
    names: Arc<[String]>,
}

/// Remembers what it has seen.
pub(super) struct Scanner {
    dir: PathBuf,
    shared: Shared,
    lists: HashMap<PathBuf, Listing>,
    folders: HashMap<PathBuf, Folder>,
    /// What is wrong with directories.
    trouble: Vec<Problem>,
    named: Arc<Vec<Source>>,
    mirrored: Arc<Vec<Source>>,
    /// The mirror's list differs from the one that was looked at last.
    mirror_changed: bool,
    /// The directory need not exist.
    optional: bool,
    round: u64,
    staples: HashMap<String, (Stamp, Option<Arc<Staple>>)>,
    /// Folders of which something is to be said: so that an event costs the same however many others there are.
    noted: BTreeSet<PathBuf>,
}

/// The folders of what is nowhere in the directory.
const NAMED: &str = "";
const MIRROR: &str = "mirror";
const COPIED: &str = "copy";

/// Of the directory, or of its copy.
fn is_inside(folder: &Path) -> bool {
    folder != Path::new(NAMED) && folder != Path::new(MIRROR)
}

impl Scanner {
    /// `optional`: that the directory is not there is no fault.
    pub(super) fn new(dir: PathBuf, optional: bool) -> Self {
        Self {
            dir,
            shared: Shared::default(),
            lists: HashMap::new(),
            folders: HashMap::new(),
            trouble: Vec::new(),
            named: Arc::default(),
            mirrored: Arc::default(),
            mirror_changed: false,
            optional,
            round: 0,
            staples: HashMap::new(),
            noted: BTreeSet::new(),
        }
    }

    /// Sources to look for besides, wherever they are: certificates that are named, documents of Traefik's.
    pub(super) fn name(&mut self, named: &[Arc<Named>], documents: &[PathBuf]) {
        let named = named.iter().cloned().map(Source::Named);
        let documents = documents.iter().map(|file| Source::Traefik(file.as_path().into()));
        self.named = Arc::new(named.chain(documents).collect());
    }

    /// Chains to look for besides, in Caddy's layout, which their keeper tells.
    pub(super) fn mirror(&mut self, files: &[PathBuf]) {
        if files.iter().map(PathBuf::as_path).eq(self.mirrored.iter().map(Source::file)) {
            return;
        }
        let is_local = |file: &Path| file.ancestors().nth(2).is_some_and(|issuer| issuer.ends_with("local"));
        let source = |file: &PathBuf| Source::Crt(file.as_path().into(), is_local(file));
        self.mirrored = Arc::new(files.iter().map(source).collect());
        self.mirror_changed = true;
    }

    /// Looks at everything once. `clock` is the time that directories' time stamps are compared with. True when the index differs
    /// from the last one.
    pub(super) fn look(&mut self, depth: Depth, clock: SystemTime) -> bool {
        self.round += 1;
        self.trouble.clear();
        let dir = self.dir.clone();
        self.want(Path::new(NAMED), Kind::Anywhere);
        self.want(Path::new(MIRROR), Kind::Mirror);
        match self.list(&dir, depth, clock) {
            Ok(_) => {
                self.want(&dir, Kind::Root);
                self.caddy(&dir.join("certificates"), depth, clock);
                for lineage in self.list_below(&dir.join("live"), depth, clock).iter().flat_map(|names| names.iter()) {
                    self.want(&dir.join("live").join(lineage), Kind::Live);
                }
            }
            Err(error) if self.optional && files::absent(&error) && !self.serves() => {}
            Err(error) => {
                // Not even the directory itself: everything stays.
                self.trouble.push(Problem {
                    file: dir.clone(),
                    text: error.to_string(),
                    kept: self.serves(),
                    remark: false,
                });
                self.stays(&dir);
            }
        }
        let mut changed = self.visit(depth, clock);
        self.mirror_changed = false;
        changed |= self.forget(None);
        self.staple(clock);
        changed
    }

    /// Looks at what these files and directories belong to; true when the index differs.
    pub(super) fn touch(&mut self, paths: &BTreeSet<PathBuf>, clock: SystemTime) -> bool {
        let mut touched = BTreeMap::new();
        for path in paths {
            match place(&self.dir, path) {
                Place::In(folder, kind) => drop(touched.insert(folder, kind)),
                Place::Above => return self.look(Depth::Changed, clock),
                Place::Elsewhere => {}
            }
            let of = |source: &Source| match source {
                Source::Named(named) => named.is_of(path),
                source => source.file() == path,
            };
            if self.named.iter().any(of) {
                touched.insert(NAMED.into(), Kind::Anywhere);
            }
        }
        self.round += 1;
        for (folder, kind) in &touched {
            // The folder itself finds out what is wrong with it, except for this one.
            if *kind == Kind::Root && self.list(folder, Depth::Changed, clock).is_err() {
                return self.look(Depth::Changed, clock);
            }
            self.want(folder, *kind);
        }
        let changed = self.visit(Depth::Every, clock);
        if self.serves_besides(&touched) {
            changed | self.forget(Some(&touched))
        } else {
            // Nothing else would be left: for a look at everything to decide.
            changed | self.look(Depth::Changed, clock)
        }
    }

    /// Looks where a certificate for this host would be.
    pub(super) fn seek(&mut self, host: &str, clock: SystemTime) -> bool {
        let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !host.contains("..");
        if !plain || host.starts_with('.') || self.folders.len() <= SHARED {
            return self.look(Depth::Changed, clock);
        }
        let (root, host) = (self.dir.join("certificates"), host.to_ascii_lowercase());
        let issuers = self.list_below(&root, Depth::Changed, clock).unwrap_or_default();
        let wildcard = host.split_once('.').map(|(_, suffix)| format!("wildcard_.{suffix}"));
        let names = || std::iter::once(&host).chain(wildcard.as_ref());
        let issuers: Vec<PathBuf> = issuers.iter().map(|issuer| root.join(issuer)).collect();
        let hosts = issuers.iter().flat_map(|issuer| names().map(move |name| issuer.join(name)));
        let there = hosts.chain([self.dir.join("live").join(&host)]).filter(|dir| dir.is_dir());
        let mut paths: BTreeSet<PathBuf> = there.collect();
        paths.insert(self.dir.clone());
        paths.extend(self.named.iter().map(|source| source.file().to_owned()));
        self.touch(&paths, clock)
    }

    /// Whether something of the directory is served, from there or from the copy.
    pub(super) fn serves(&self) -> bool {
        let inside = self.folders.iter().filter(|(path, _)| is_inside(path));
        inside.flat_map(|(_, folder)| &folder.units).any(|unit| !unit.pairs.is_empty())
    }

    /// Whether anything but what was just looked for and not found is served.
    fn serves_besides(&self, touched: &BTreeMap<PathBuf, Kind>) -> bool {
        let round = self.round;
        self.folders.iter().filter(|(path, _)| is_inside(path)).any(|(path, folder)| {
            let apart = !touched.contains_key(path);
            folder.units.iter().any(|unit| (apart || unit.seen == round) && !unit.pairs.is_empty())
        })
    }

    fn want(&mut self, folder: &Path, kind: Kind) {
        let round = self.round;
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.wanted = round;
            return;
        }
        let new =
            Folder { kind, stamp: None, racy: false, units: Vec::new(), wanted: round, visited: round, trouble: None };
        self.folders.insert(folder.to_owned(), new);
    }

    /// Names in a directory.
    fn list(&mut self, dir: &Path, depth: Depth, clock: SystemTime) -> io::Result<Arc<[String]>> {
        let meta = fs::metadata(dir)?;
        let now = files::stamp(&meta);
        if depth != Depth::Every
            && let Some(last) = self.lists.get(dir)
            && last.stamp == now
            && !last.racy
        {
            return Ok(last.names.clone());
        }
        let (names, more) = files::names(dir)?;
        if more {
            let text = format!("more than {NAME_LIMIT} names in it, the rest is not looked at");
            self.trouble.push(Problem { file: dir.to_owned(), text, kept: false, remark: false });
        }
        let names: Arc<[String]> = names.into();
        let racy = racy(&meta, clock);
        self.lists.insert(dir.to_owned(), Listing { stamp: now, racy, names: names.clone() });
        Ok(names)
    }

    /// Names in a directory below the first, or `None`: then what is known there stays as it is.
    fn list_below(&mut self, dir: &Path, depth: Depth, clock: SystemTime) -> Option<Arc<[String]>> {
        match self.list(dir, depth, clock) {
            Ok(names) => Some(names),
            Err(error) if files::absent(&error) => None,
            Err(error) => {
                let kept = self.stays(dir);
                self.trouble.push(Problem { file: dir.to_owned(), text: error.to_string(), kept, remark: false });
                None
            }
        }
    }

    /// Everything below a directory that cannot be read stays as it is; whether anything of it is served.
    fn stays(&mut self, dir: &Path) -> bool {
        let (round, mut kept) = (self.round, false);
        for (_, folder) in self.folders.iter_mut().filter(|(path, _)| path.starts_with(dir)) {
            for unit in folder.units.iter_mut().filter(|unit| unit.seen == folder.visited) {
                unit.seen = round;
                kept |= !unit.pairs.is_empty();
            }
            folder.visited = round;
        }
        kept
    }

    fn caddy(&mut self, root: &Path, depth: Depth, clock: SystemTime) {
        for issuer in self.list_below(root, depth, clock).iter().flat_map(|names| names.iter()) {
            let dir = root.join(issuer);
            let kind = Kind::Host(issuer == "local");
            for host in self.list_below(&dir, depth, clock).iter().flat_map(|names| names.iter()) {
                self.want(&dir.join(host), kind);
            }
        }
    }

    /// Visits the folders that this look wants.
    fn visit(&mut self, depth: Depth, clock: SystemTime) -> bool {
        let (round, shared, named, mirrored) = (self.round, &self.shared, &*self.named, &*self.mirrored);
        let mirror = depth >= Depth::Files || self.mirror_changed;
        let flat = self.lists.get(&self.dir).map(|listing| listing.names.clone()).unwrap_or_default();
        let mut work: Vec<_> = self.folders.iter_mut().filter(|(_, folder)| folder.wanted == round).collect();
        let each = |work: &mut [(&PathBuf, &mut Folder)]| {
            let mut changed = false;
            for (path, folder) in work {
                let sources = match folder.kind {
                    Kind::Root => Some(folder.with_known(flat_sources(path, &flat), path, &flat)),
                    Kind::Anywhere => Some(named.to_vec()),
                    Kind::Mirror if mirror => Some(mirrored.to_vec()),
                    Kind::Mirror => {
                        folder.stay(round);
                        continue;
                    }
                    Kind::Host(_) | Kind::Live => None,
                };
                changed |= folder.look(path, sources, depth, clock, round, shared);
            }
            changed
        };
        if work.len() <= SHARED {
            return each(&mut work);
        }
        let share = work.len().div_ceil(THREADS);
        std::thread::scope(|scope| {
            let threads: Vec<_> = work.chunks_mut(share).map(|work| scope.spawn(|| each(work))).collect();
            // One that panicked has looked at something: the index is made again of what is there.
            threads.into_iter().map(|thread| thread.join().unwrap_or(true)).fold(false, |all, one| all | one)
        })
    }

    /// Drops what is no longer there among all folders or these, unless nothing at all is.
    fn forget(&mut self, only: Option<&BTreeMap<PathBuf, Kind>>) -> bool {
        let round = self.round;
        let inside = || self.folders.iter().filter(|(path, _)| is_inside(path));
        let found = || inside().flat_map(|(_, folder)| &folder.units).any(|unit| unit.seen == round);
        let gone = only.is_none() && self.serves() && !found();
        if gone && !self.trouble.iter().any(|problem| problem.file == self.dir) {
            let text = "every certificate has gone from it at once; the last ones are served on".to_owned();
            self.trouble.push(Problem { file: self.dir.clone(), text, kept: true, remark: false });
        }
        let trouble: Vec<&PathBuf> = self.trouble.iter().map(|problem| &problem.file).collect();
        let mut changed = false;
        // Whether the folder itself stays.
        let mut keep = |folder: &mut Folder| {
            let inside = !matches!(folder.kind, Kind::Anywhere | Kind::Mirror);
            if gone && inside {
                folder.units.iter_mut().for_each(|unit| unit.missing = None);
                return true;
            }
            folder.units.retain_mut(|unit| {
                let copied = matches!(&unit.source, Source::Copied(file, _)
                    if gone || trouble.iter().any(|dir| file.starts_with(dir)));
                let seen = unit.seen == round || copied;
                if seen {
                    unit.missing = None;
                }
                let stays = seen || inside && unit.lingers();
                changed |= !stays && !unit.pairs.is_empty();
                stays
            });
            folder.wanted == round || !folder.units.is_empty()
        };
        match only {
            Some(only) => {
                for path in only.keys() {
                    let Some(folder) = self.folders.get_mut(path) else { continue };
                    let before = folder.units.len();
                    let stays = keep(folder);
                    self.shared.units.fetch_sub(before.saturating_sub(folder.units.len()), Ordering::Relaxed);
                    if !stays {
                        self.folders.remove(path);
                    }
                }
            }
            None => {
                self.folders.retain(|_, folder| keep(folder));
                let units = self.folders.values().map(|folder| folder.units.len()).sum();
                self.shared.units.store(units, Ordering::Relaxed);
            }
        }
        self.note(only);
        let units = self.shared.units.load(Ordering::Relaxed);
        let limit = format!("more than {PAIR_LIMIT} certificates, the rest is not served");
        if units >= PAIR_LIMIT && !self.trouble.iter().any(|problem| problem.text == limit) {
            self.trouble.push(Problem { file: self.dir.clone(), text: limit, kept: false, remark: false });
        }
        changed
    }

    /// Remembers where something is to be said, after a visit of all folders or of these.
    fn note(&mut self, only: Option<&BTreeMap<PathBuf, Kind>>) {
        let Some(only) = only else {
            let noted = self.folders.iter().filter(|(_, folder)| folder.is_noted());
            self.noted = noted.map(|(path, _)| path.clone()).collect();
            return;
        };
        for path in only.keys() {
            if self.folders.get(path).is_some_and(Folder::is_noted) {
                self.noted.insert(path.clone());
            } else {
                self.noted.remove(path);
            }
        }
    }

    fn noted(&self) -> impl Iterator<Item = (&PathBuf, &Folder)> {
        self.noted.iter().filter_map(|path| self.folders.get_key_value(path))
    }

    /// Staples what lies in `ocsp/`.
    fn staple(&mut self, clock: SystemTime) {
        let dir = self.dir.join("ocsp");
        let names = self.list(&dir, Depth::Changed, clock).unwrap_or_default();
        if names.is_empty() && self.staples.is_empty() {
            return;
        }
        let by_hash = staple::by_hash(&names);
        let mut kept = HashMap::new();
        for pair in self.folders.values().flat_map(|folder| &folder.units).flat_map(|unit| &unit.pairs) {
            let Some(name) = by_hash.get(&pair.bundle) else {
                pair.staple(None);
                continue;
            };
            let file = dir.join(name);
            let Ok(stamp) = files::stamp_of(&file) else { continue };
            let known = self.staples.get(*name).filter(|(last, _)| *last == stamp).map(|(_, staple)| staple.clone());
            let staple = known.unwrap_or_else(|| {
                let response = files::read(&file, STAPLE_LIMIT).ok()?;
                Staple::of(response, pair).map(Arc::new)
            });
            pair.staple(staple.clone());
            kept.insert((*name).clone(), (stamp, staple));
        }
        self.staples = kept;
    }

    /// All pairs.
    fn pairs(&self) -> impl Iterator<Item = &Arc<Pair>> {
        self.folders.values().flat_map(|folder| &folder.units).flat_map(|unit| &unit.pairs)
    }

    /// What is found now, by name.
    pub(super) fn index(&self) -> Index {
        self.shared.chains.sweep();
        let units = || self.folders.values().flat_map(|folder| &folder.units);
        let of = |name: &str| {
            let file = self.dir.join(name);
            self.pairs().find(|pair| *pair.file == *file).cloned()
        };
        let is_default = |unit: &&Unit| matches!(&unit.source, Source::Named(named) if named.default);
        let everybody = units().find(is_default).and_then(|unit| unit.pairs.first()).cloned();
        let no_host = of("cert.pem").or_else(|| of("fullchain.pem"));
        Index::new(self.pairs().cloned().collect(), Defaults { everybody, no_host })
    }

    /// What is wrong now, by file. Not what has been wrong for a shorter time than `settled`: it may be a renewal seen half-way.
    pub(super) fn problems(&self, settled: std::time::Duration) -> Vec<Problem> {
        let units = self.noted().flat_map(|(_, folder)| &folder.units);
        let of_files = units.flat_map(|unit| {
            let file = || unit.source.file().to_owned();
            let old = unit.since.is_none_or(|since| since.elapsed() >= settled);
            let problems = unit.problems.iter().filter(move |_| old).map(move |(error, kept)| Problem {
                file: file(),
                text: error.to_string(),
                kept: *kept,
                remark: false,
            });
            let remark = unit.remark.iter().map(move |text| Problem {
                file: file(),
                text: text.clone(),
                kept: false,
                remark: true,
            });
            problems.chain(remark)
        });
        let of_folders = self.noted().filter_map(|(_, folder)| folder.trouble.clone());
        let mut all: Vec<Problem> = self.trouble.iter().cloned().chain(of_folders).chain(of_files).collect();
        all.sort_by(|a, b| a.file.cmp(&b.file).then_with(|| a.text.cmp(&b.text)));
        all.dedup();
        all
    }

    /// Where something has been wrong for a shorter time than that, or has just gone.
    pub(super) fn unsettled(&self, settled: std::time::Duration) -> BTreeSet<PathBuf> {
        let young =
            |unit: &&Unit| unit.missing.is_some() || unit.since.is_some_and(|since: Instant| since.elapsed() < settled);
        let mut places = BTreeSet::new();
        for (path, folder) in self.noted() {
            let mut units = folder.units.iter().filter(young);
            match folder.kind {
                Kind::Anywhere => places.extend(units.map(|unit| unit.source.file().to_owned())),
                _ if units.next().is_some() => drop(places.insert(path.clone())),
                _ => {}
            }
        }
        places
    }

    /// How many of the local copy are served because the directory does not answer for them.
    pub(super) fn copied(&self) -> usize {
        self.folders.get(Path::new(COPIED)).map_or(0, |folder| folder.units.len())
    }

    /// How many sources there are.
    pub(super) fn len(&self) -> usize {
        self.shared.units.load(Ordering::Relaxed)
    }

    /// Whether something that was served before the start may be missing: a directory cannot be read, files are broken, or there is
    /// nothing at all.
    pub(super) fn lacks(&self) -> bool {
        let broken =
            |folder: &Folder| folder.trouble.is_some() || folder.units.iter().any(|unit| unit.pairs.is_empty());
        !self.trouble.is_empty() || !self.serves() || self.folders.values().any(broken)
    }

    /// Takes from the local copy what is missing, and nothing that the directory has answered about. How many it took.
    pub(super) fn seed(&mut self, copied: Vec<Pair>) -> usize {
        let round = self.round;
        // As if unmounted, or just begun.
        let empty = self.folders.iter().all(|(path, folder)| !is_inside(path) || folder.units.is_empty());
        let mut taken = 0;
        let units = self.folders.values_mut().flat_map(|folder| &mut folder.units);
        let mut known: HashMap<PathBuf, &mut Unit> = units.map(|unit| (unit.source.file().to_owned(), unit)).collect();
        let mut elsewhere = Vec::new();
        for pair in copied.into_iter().map(Arc::new) {
            let Some(unit) = known.get_mut(&*pair.file) else {
                elsewhere.push(pair);
                continue;
            };
            if !unit.problems.is_empty() && !unit.pairs.iter().any(|known| known.entry == pair.entry) {
                unit.problems.iter_mut().for_each(|(_, kept)| *kept = true);
                unit.pairs.push(pair);
                taken += 1;
            }
        }
        for pair in elsewhere {
            if !empty && !self.trouble.iter().any(|problem| pair.file.starts_with(&problem.file)) {
                continue;
            }
            self.want(Path::new(COPIED), Kind::Anywhere);
            if let Some(folder) = self.folders.get_mut(Path::new(COPIED)) {
                // Not seen by this look: as what has gone from the directory, it stays as long as nothing else is there.
                let source = Source::Copied(pair.file.clone(), pair.entry.clone());
                let mut unit = Unit::new(source, round.wrapping_sub(1));
                unit.pairs.push(pair);
                folder.units.push(unit);
                taken += 1;
            }
        }
        taken
    }
}

/// What a path in the directory is a part of.
enum Place {
    In(PathBuf, Kind),
    /// An issuer, or all of them.
    Above,
    /// Nothing that is looked at.
    Elsewhere,
}

fn place(root: &Path, path: &Path) -> Place {
    let Ok(below) = path.strip_prefix(root) else { return Place::Elsewhere };
    let parts: Vec<_> = below.iter().take(3).collect();
    match &*parts {
        [top] | [top, _] if *top == "certificates" => Place::Above,
        [top] if *top == "live" => Place::Above,
        [] | [_] => Place::In(root.to_owned(), Kind::Root),
        [top, issuer, host] if *top == "certificates" => {
            Place::In(root.join(top).join(issuer).join(host), Kind::Host(*issuer == "local"))
        }
        [top, name, ..] if *top == "live" || *top == "archive" => Place::In(root.join("live").join(name), Kind::Live),
        _ => Place::Elsewhere,
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
