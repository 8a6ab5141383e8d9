//! One run: the documents and services given, what becomes of their tags, and whether that holds.

use super::files::{Gathered, Passed};
use super::replace::{self, Replacement};
use crate::cli::{FAILED, USAGE};
use crate::diagnostic::{Diagnostic, Origin};
use crate::migrate::edit::{self, Document, Edited};
use crate::migrate::{Conversion, Outcome, Proof, Service, Set, Settings, apply, convert, prove};
use std::path::Path;
use std::sync::Arc;

/// Everything there is to tell of a run.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) documents: Vec<Document>,
    /// What becomes of each document.
    pub(super) edits: Vec<Edited>,
    pub(super) passed: Vec<Passed>,
    pub(super) unreadable: Vec<Diagnostic>,
    /// All services, document after document, then those of catalogs.
    pub(super) set: Set,
    /// What becomes of each service.
    pub(super) conversions: Vec<Conversion>,
    pub(super) proof: Proof,
    /// The old tags stay.
    pub(super) keep: bool,
    /// Files that were written.
    pub(super) wrote: Vec<Arc<str>>,
    /// Why others were not.
    pub(super) unwritten: Vec<Diagnostic>,
}

/// How far a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// No legacy tags.
    Nothing,
    /// Every legacy tag has a faithful form.
    Ready,
    /// As before, and there is something to know.
    Remarks,
    /// A tag has none, or stands where it cannot be edited.
    Hand,
}

impl State {
    /// For people.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing to do",
            Self::Ready => "ready",
            Self::Remarks => "ready with remarks",
            Self::Hand => "needs a hand",
        }
    }
}

impl Work {
    pub(super) fn new(gathered: Gathered, running: Vec<Service>, settings: &Settings, keep: bool) -> Self {
        let Gathered { documents, passed, unreadable } = gathered;
        let of_documents = documents.iter().flat_map(Document::services).cloned();
        let mut set = Set { services: of_documents.chain(running).collect() };
        let mut left: Vec<Option<Edited>> = documents.iter().map(|_| None).collect();
        // A document that cannot be edited takes the rest of its routes along, which may be what another one's edit needed.
        let (conversions, edits) = loop {
            let conversions = convert(&set, settings);
            let (mut edits, mut from, mut again) = (Vec::new(), 0, false);
            for (document, left) in documents.iter().zip(&mut left) {
                let to = from + document.services().count();
                let edited = match left {
                    Some(edited) => edited.clone(),
                    None => document.edited(conversions.get(from..to).unwrap_or_default(), keep),
                };
                if left.is_none() && !edited.changed && !edited.problems.is_empty() {
                    set.services.get_mut(from..to).unwrap_or_default().iter_mut().for_each(|of| of.fixed = true);
                    (*left, again) = (Some(edited.clone()), true);
                }
                edits.push(edited);
                from = to;
            }
            if !again {
                break (conversions, edits);
            }
        };
        let proof = prove(&set, &apply(&set, &conversions, keep), settings);
        let (wrote, unwritten) = (Vec::new(), Vec::new());
        Self { documents, edits, passed, unreadable, set, conversions, proof, keep, wrote, unwritten }
    }

    /// Services with what becomes of them.
    pub(super) fn services(&self) -> impl Iterator<Item = (&Service, &Conversion)> {
        self.set.services.iter().zip(&self.conversions)
    }

    /// Problems of documents: tags that cannot be edited, documents that are left.
    pub(super) fn of_documents(&self) -> impl Iterator<Item = &Diagnostic> {
        let own = self.documents.iter().flat_map(|document| &document.problems);
        own.chain(self.edits.iter().flat_map(|edited| &edited.problems))
    }

    /// How far a service is.
    pub(super) fn state(&self, service: &Service, conversion: &Conversion) -> State {
        let is_its = |d: &&Diagnostic| {
            d.origin.file.as_ref() == Some(&service.place.file)
                && d.origin.service.as_deref().is_none_or(|name| *name == *service.name)
        };
        let error = self.of_documents().filter(is_its).any(Diagnostic::is_error);
        let warning = self.of_documents().filter(is_its).any(|d| !d.is_error());
        let is = |wanted: fn(&Outcome) -> bool| conversion.outcomes.iter().any(wanted);
        match () {
            () if error || is(|o| matches!(o, Outcome::Refused(_))) => State::Hand,
            () if warning || !conversion.remarks.is_empty() => State::Remarks,
            () if is(|o| matches!(o, Outcome::Converted(_))) => State::Ready,
            () => State::Nothing,
        }
    }

    /// How many tags are still to be converted; `all`: also those that can be.
    pub(super) fn left(&self, all: bool) -> usize {
        let left = |outcome: &&Outcome| match outcome {
            Outcome::Refused(_) => true,
            Outcome::Converted(new) => all && (!new.is_empty() || !self.keep),
            Outcome::Kept => false,
        };
        let outcomes = self.conversions.iter().flat_map(|conversion| &conversion.outcomes).filter(left).count();
        outcomes + self.of_documents().filter(|d| d.is_error()).count()
    }

    /// The exit code.
    pub(super) fn verdict(&self, check: bool) -> u8 {
        match () {
            () if !self.unreadable.is_empty() => USAGE,
            () if !self.proof.holds() || self.left(check) > 0 || !self.unwritten.is_empty() => FAILED,
            () => 0,
        }
    }

    /// Edits the files, unless requests would go elsewhere.
    pub(super) fn write(&mut self, backup: bool) {
        let changed: Vec<(&Document, &Edited)> =
            self.documents.iter().zip(&self.edits).filter(|(_, edited)| edited.changed).collect();
        let done = if self.proof.holds() {
            let files: Vec<Replacement<'_>> = (changed.iter())
                .map(|(document, edited)| Replacement {
                    path: Path::new(&*document.file),
                    old: document.bytes(),
                    new: &edited.bytes,
                })
                .collect();
            replace::replace(&files, backup, &|at, bytes| {
                let (document, _) = changed[at];
                let other = edit::read(&document.file, bytes);
                matches!(other, Ok(Some(other)) if other.without_tags() == document.without_tags())
            })
        } else {
            vec![Err("is left as it is: its new tags would not route as the old ones".to_owned()); changed.len()]
        };
        let (mut wrote, mut unwritten) = (Vec::new(), Vec::new());
        for ((document, _), done) in changed.iter().zip(done) {
            match done {
                Ok(()) => wrote.push(document.file.clone()),
                Err(why) => {
                    let origin = Origin { file: Some(document.file.clone()), ..Origin::default() };
                    let message = format!("the file {why}");
                    unwritten.push(Diagnostic::error("not_written", message).with_origin(origin));
                }
            }
        }
        (self.wrote, self.unwritten) = (wrote, unwritten);
    }
}
