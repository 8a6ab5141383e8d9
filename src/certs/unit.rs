//! Files that are one source of certificates: as they were last read, and what of them is served.
//!
//! What always holds: files whose stamps have not changed are not read again; a pair stays when what comes in its place is broken,
//! or is not valid while it is.

use super::files::{self, FILE_LIMIT, Stamp};
use super::named::{Content, Named};
use super::pair::{self, Chains, Pair, PairError, Whence};
use super::traefik;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Whoever replaces a file by removing it and making it anew (`install`, `rm` and `cp`) needs less than this.
pub(super) const MISSED: Duration = Duration::from_millis(250);

/// Files that may be certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `x.crt`, with its key in `x.key`. `true`: of the issuer `local`.
    Crt(Arc<Path>, bool),
    /// A chain and its key.
    Files(Arc<Path>, PathBuf),
    /// Both in one file.
    Combined(Arc<Path>),
    /// Traefik's `acme.json`.
    Traefik(Arc<Path>),
    /// Named by configuration.
    Named(Arc<Named>),
    /// In the local copy; this is where it was read when it was copied.
    Copied(Arc<Path>, Option<Arc<str>>),
}

type Stamps = (Option<Stamp>, Option<Stamp>);

impl Source {
    pub(super) fn file(&self) -> &Path {
        match self {
            Self::Crt(file, _)
            | Self::Files(file, _)
            | Self::Combined(file)
            | Self::Traefik(file)
            | Self::Copied(file, _) => file,
            Self::Named(named) => named.file(),
        }
    }

    /// The file of the key.
    fn key(&self) -> Option<Cow<'_, Path>> {
        match self {
            Self::Crt(file, _) => Some(file.with_extension("key").into()),
            Self::Files(_, key) => Some(key.into()),
            Self::Combined(file) | Self::Traefik(file) => Some((&**file).into()),
            Self::Named(named) => match &named.key {
                Content::File(file) => Some(file.into()),
                Content::Text(_) => None,
            },
            Self::Copied(..) => None,
        }
    }

    fn stamps(&self) -> Result<Stamps, PairError> {
        let chain = match self {
            Self::Copied(..) => None,
            Self::Named(named) if matches!(named.chain, Content::Text(_)) => None,
            _ => Some(files::stamp_of(self.file())?),
        };
        let key = match self {
            Self::Combined(_) | Self::Traefik(_) => chain,
            _ => self.key().map(|key| files::stamp_of_key(&key)).transpose()?,
        };
        Ok((chain, key))
    }

    fn load(&self, chains: &Chains) -> Result<Vec<traefik::Entry>, PairError> {
        let file: Arc<Path> = match self {
            Self::Crt(file, _) | Self::Files(file, _) | Self::Combined(file) | Self::Traefik(file) => file.clone(),
            Self::Named(named) => named.file().as_path().into(),
            Self::Copied(..) => return Ok(Vec::new()),
        };
        let whence =
            |default| Whence { file: file.clone(), entry: None, local: matches!(self, Self::Crt(_, true)), default };
        let content = |content: &Content| match content {
            Content::File(file) => files::read(file, FILE_LIMIT),
            Content::Text(text) => Ok(text.reveal().as_bytes().to_vec()),
        };
        let (chain, key, default) = match self {
            Self::Traefik(_) => return traefik::parse(&files::read(&file, traefik::DOCUMENT_LIMIT)?, &file, chains),
            Self::Combined(_) => {
                let text = files::read(&file, FILE_LIMIT)?;
                let has = |part: &[u8]| memchr::memmem::find(&text, part).is_some();
                if has(b"-----BEGIN ") && !(has(b"-----BEGIN CERTIFICATE-----") && has(b"PRIVATE KEY-----")) {
                    // Something else than a pair on purpose.
                    return Ok(Vec::new());
                }
                (text.clone(), text, false)
            }
            Self::Named(named) => (content(&named.chain)?, content(&named.key)?, named.default),
            _ => {
                let key = self.key().map(|key| files::read(&key, FILE_LIMIT)).transpose()?;
                (files::read(&file, FILE_LIMIT)?, key.unwrap_or_default(), false)
            }
        };
        let pair = pair::parse(&chain, &key, whence(default), chains).map_err(|error| self.in_key(error));
        Ok(vec![(Arc::default(), pair)])
    }

    /// With the key's file, where that is another one than the chain's, which problems are told by.
    fn in_key(&self, error: PairError) -> PairError {
        let of_key = matches!(error, PairError::NoKey | PairError::EncryptedKey | PairError::BadKey);
        match self.key().filter(|key| of_key && &**key != self.file()) {
            Some(key) => PairError::InKey { file: key.into_owned(), error: Box::new(error) },
            None => error,
        }
    }

    /// What is to be said of the modes of its files.
    fn exposed(&self, stamps: &Stamps) -> Option<String> {
        let (mode, key) = (stamps.1?.mode & 0o777, self.key()?);
        let key = key.display();
        match self {
            // As Traefik, which refuses it.
            Self::Traefik(_) if mode & 0o077 != 0 => {
                Some(format!("the keys in `{key}` can be read or changed by others than their owner (mode {mode:04o})"))
            }
            _ if mode & 0o006 != 0 => {
                Some(format!("the key `{key}` can be read or changed by everybody (mode {mode:04o})"))
            }
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct Unit {
    pub(super) source: Source,
    stamps: Option<Stamps>,
    pub(super) pairs: Vec<Arc<Pair>>,
    /// What is wrong, and whether an older pair is served all the same.
    pub(super) problems: Vec<(PairError, bool)>,
    /// Since when.
    pub(super) since: Option<Instant>,
    /// What is to be said although it is served.
    pub(super) remark: Option<String>,
    /// Since when it is not there.
    pub(super) missing: Option<Instant>,
    /// The look that saw it last.
    pub(super) seen: u64,
}

impl Unit {
    pub(super) fn new(source: Source, seen: u64) -> Self {
        Self {
            source,
            stamps: None,
            pairs: Vec::new(),
            problems: Vec::new(),
            since: None,
            remark: None,
            missing: None,
            seen,
        }
    }

    /// Whether it stays after a look that did not find it: only for as long as somebody may be replacing it.
    pub(super) fn lingers(&mut self) -> bool {
        !self.pairs.is_empty() && self.missing.get_or_insert_with(Instant::now).elapsed() < MISSED
    }

    /// Whether it is to be read again, changed or not: it was broken, or was never read.
    pub(super) fn open(&self) -> bool {
        self.stamps.is_none()
    }

    /// Reads it if it changed; true when what it serves is different now.
    pub(super) fn read(&mut self, clock: SystemTime, chains: &Chains) -> bool {
        let stamps = self.source.stamps();
        let loaded = match &stamps {
            Ok(now) if self.stamps.as_ref() == Some(now) => return false,
            Ok(_) => self.source.load(chains),
            Err(error) => Err(error.clone()),
        };
        self.remark = stamps.as_ref().ok().and_then(|stamps| self.source.exposed(stamps));
        self.stamps = stamps.ok();
        let before = std::mem::take(&mut self.problems);
        let changed = match loaded {
            Ok(entries) if entries.is_empty() && matches!(self.source, Source::Combined(_)) => {
                // It was a pair, and somebody is writing; or it never was one.
                self.problems.extend((!self.pairs.is_empty()).then_some((PairError::NoKey, true)));
                false
            }
            Ok(entries) => self.replace(entries, clock),
            Err(error) => {
                self.problems.push((error, !self.pairs.is_empty()));
                false
            }
        };
        if self.problems.is_empty() {
            self.since = None;
        } else if self.problems != before || self.since.is_none() {
            self.since = Some(Instant::now());
        }
        changed
    }

    fn replace(&mut self, entries: Vec<traefik::Entry>, clock: SystemTime) -> bool {
        let before = std::mem::take(&mut self.pairs);
        let labelled = matches!(self.source, Source::Traefik(_));
        let mut changed = false;
        for (label, loaded) in entries {
            let same = |pair: &&Arc<Pair>| !labelled || pair.entry.as_deref() == Some(&*label);
            let old = before.iter().find(same);
            match loaded {
                Ok(new) => {
                    let wrong = new.out_of_time(clock).filter(|_| !new.valid_at(clock));
                    if let Some((wrong, old)) = wrong.zip(old.filter(|old| old.valid_at(clock))) {
                        self.problems.push((PairError::NotValid(wrong), true));
                        self.pairs.push(old.clone());
                        // Time may mend it.
                        self.stamps = None;
                        continue;
                    }
                    changed = true;
                    self.pairs.push(Arc::new(new));
                }
                Err(error) => {
                    self.problems.push((error, old.is_some()));
                    self.pairs.extend(old.cloned());
                }
            }
        }
        changed || self.pairs.len() != before.len()
    }
}
