//! The routers of one host, of one expression that hosts fit, or of any host: a few are a list in their order, many are
//! found by path. Of a request's path every beginning that some router asks for is looked up, and the path as a whole.

use super::keyed::{HasKey, Keyed};
use super::{Cursors, Entry};
use crate::rule::PathHint;
use crate::table::Router;
use smallvec::SmallVec;
use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

/// More routers than this are found by path.
const MANY: usize = 16;
/// Fewer than this are a list again.
const FEW: usize = 8;

/// A router under one of its hints.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub priority: i64,
    pub router: Arc<Router>,
    pub entry: Arc<Entry>,
    path: Path,
    /// The hint says all that the rule asks.
    exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    Any,
    Prefix(Arc<str>),
    Exact(Arc<str>),
}

impl From<&PathHint> for Path {
    fn from(hint: &PathHint) -> Self {
        match hint {
            PathHint::Any => Self::Any,
            PathHint::Prefix(prefix) => Self::Prefix(prefix.as_str().into()),
            PathHint::Exact(exact) => Self::Exact(exact.as_str().into()),
        }
    }
}

impl Candidate {
    pub fn new(entry: &Arc<Entry>, path: &PathHint, exact: bool) -> Self {
        Self {
            priority: entry.order.priority.0,
            router: entry.router.clone(),
            entry: entry.clone(),
            path: path.into(),
            exact,
        }
    }

    /// Whether it is tried before another one.
    #[inline]
    pub fn is_before(&self, other: &Self) -> bool {
        self.priority > other.priority || self.priority == other.priority && self.entry.order < other.entry.order
    }

    fn order(&self, other: &Self) -> Ordering {
        let priority = Reverse(self.priority).cmp(&Reverse(other.priority));
        priority.then_with(|| self.entry.order.cmp(&other.entry.order))
    }

    /// Whether it takes the request. `host_fits`: what the hint says of the host holds for certain.
    #[inline]
    pub fn takes(&self, path: &str, host_fits: bool, request: &impl crate::rule::RequestView) -> bool {
        let fits = match &self.path {
            Path::Any => true,
            Path::Prefix(prefix) => path.starts_with(&**prefix),
            Path::Exact(exact) => path == &**exact,
        };
        fits && (self.exact && host_fits || self.entry.matcher.matches(request))
    }
}

/// Candidates in the order in which they are tried.
type List = SmallVec<[Candidate; 1]>;

fn add(list: &mut List, candidate: Candidate) {
    let at = list.partition_point(|other| other.is_before(&candidate));
    list.insert(at, candidate);
}

fn remove(list: &mut List, entry: &Arc<Entry>, path: &Path) {
    list.retain(|candidate| !(Arc::ptr_eq(&candidate.entry, entry) && candidate.path == *path));
}

/// What comes to a node, or goes.
#[derive(Debug)]
pub(super) struct Edit<'a> {
    pub entry: &'a Arc<Entry>,
    pub path: &'a PathHint,
    pub exact: bool,
    pub comes: bool,
}

/// See the top.
#[derive(Debug, Clone)]
pub(super) struct Node {
    key: SmallVec<[u8; 40]>,
    /// All, or those that ask for no path.
    list: List,
    paths: Option<Box<Paths>>,
    count: usize,
}

impl HasKey for Node {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Node {
    pub fn new(key: &[u8]) -> Self {
        Self { key: key.into(), list: List::new(), paths: None, count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes in what comes and lets go what goes.
    pub fn edit(&mut self, edits: &[Edit<'_>]) {
        for edit in edits.iter().filter(|edit| !edit.comes) {
            let path = edit.path.into();
            match (&mut self.paths, &path) {
                (Some(paths), Path::Prefix(_) | Path::Exact(_)) => paths.remove(edit.entry, &path),
                _ => remove(&mut self.list, edit.entry, &path),
            }
            self.count -= 1;
        }
        let coming = || edits.iter().filter(|edit| edit.comes);
        self.count += coming().count();
        match &self.paths {
            None if self.count > MANY => {
                let mut paths = Box::new(Paths::default());
                for candidate in std::mem::take(&mut self.list) {
                    paths.place(candidate, &mut self.list);
                }
                self.paths = Some(paths);
            }
            Some(paths) if self.count < FEW => {
                let all: Vec<Candidate> = paths.all().cloned().collect();
                self.list.extend(all);
                self.paths = None;
            }
            _ => {}
        }
        for edit in coming() {
            let candidate = Candidate::new(edit.entry, edit.path, edit.exact);
            match &mut self.paths {
                Some(paths) => paths.place(candidate, &mut self.list),
                None => self.list.push(candidate),
            }
        }
        // mostly in order already
        self.list.sort_by(Candidate::order);
    }

    /// All candidates, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Candidate> {
        self.list.iter().chain(self.paths.iter().flat_map(|paths| paths.all()))
    }

    /// Adds the lists in which candidates for the path are.
    #[inline]
    pub fn open<'a>(&'a self, path: &str, host_fits: bool, cursors: &mut Cursors<'a>) {
        cursors.push(&self.list, host_fits);
        if let Some(paths) = &self.paths {
            paths.open(path.as_bytes(), host_fits, cursors);
        }
    }
}

/// Candidates of one path.
#[derive(Debug, Clone)]
struct OfPath {
    path: Arc<str>,
    list: List,
}

impl HasKey for OfPath {
    fn key(&self) -> &[u8] {
        self.path.as_bytes()
    }
}

/// Candidates by path.
#[derive(Debug, Clone, Default)]
struct Paths {
    exact: Keyed<OfPath>,
    prefixes: Keyed<OfPath>,
    /// Lengths of prefixes in bytes, rising, and how many prefixes have each.
    lengths: SmallVec<[(usize, usize); 8]>,
}

impl Paths {
    /// Takes a candidate in, or gives it to `pathless`.
    fn place(&mut self, candidate: Candidate, pathless: &mut List) {
        let path = candidate.path.clone();
        let (table, path) = match &path {
            Path::Any => return pathless.push(candidate),
            Path::Prefix(path) => (&mut self.prefixes, path),
            Path::Exact(path) => (&mut self.exact, path),
        };
        let before = table.len();
        table.change(path.as_bytes(), |old| {
            let mut new = old.cloned().unwrap_or_else(|| OfPath { path: path.clone(), list: List::new() });
            add(&mut new.list, candidate.clone());
            Some(new)
        });
        if table.len() > before && matches!(candidate.path, Path::Prefix(_)) {
            match self.lengths.binary_search_by_key(&path.len(), |(length, _)| *length) {
                Ok(at) => self.lengths[at].1 += 1,
                Err(at) => self.lengths.insert(at, (path.len(), 1)),
            }
        }
    }

    fn remove(&mut self, entry: &Arc<Entry>, path: &Path) {
        let (table, text) = match path {
            Path::Any => return,
            Path::Prefix(text) => (&mut self.prefixes, text),
            Path::Exact(text) => (&mut self.exact, text),
        };
        let before = table.len();
        table.change(text.as_bytes(), |old| {
            let mut new = old.cloned()?;
            remove(&mut new.list, entry, path);
            (!new.list.is_empty()).then_some(new)
        });
        if table.len() < before && matches!(path, Path::Prefix(_)) {
            for length in self.lengths.iter_mut().filter(|(length, _)| *length == text.len()) {
                length.1 -= 1;
            }
            self.lengths.retain(|(_, count)| *count > 0);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Candidate> {
        self.exact.values().chain(self.prefixes.values()).flat_map(|of_path| &of_path.list)
    }

    #[inline]
    fn open<'a>(&'a self, path: &[u8], host_fits: bool, cursors: &mut Cursors<'a>) {
        if let Some(found) = self.exact.get(path) {
            cursors.push(&found.list, host_fits);
        }
        for (length, _) in &self.lengths {
            let Some(beginning) = path.get(..*length) else { return };
            if let Some(found) = self.prefixes.get(beginning) {
                cursors.push(&found.list, host_fits);
            }
        }
    }
}
