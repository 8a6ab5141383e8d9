//! What a reader of a form of document finds: services, the lists that their tags stand in, and what cannot be read.

use super::list::{Element, List};
use super::text::Text;
use crate::diagnostic::{Diagnostic, Origin};
use crate::migrate::{Place, Service, Tag};
use std::collections::HashMap;
use std::sync::Arc;

/// A service and where each of its tags stands: number of the list, number of the element.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) service: Service,
    pub(super) slots: Vec<(usize, usize)>,
}

/// What has been found so far.
#[derive(Debug)]
pub(super) struct Reading<'t> {
    pub(super) file: Arc<str>,
    pub(super) text: &'t Text,
    pub(super) services: Vec<Found>,
    pub(super) lists: Vec<List>,
    pub(super) problems: Vec<Diagnostic>,
    /// Lists by where they begin: several services may use one.
    known: HashMap<usize, usize>,
}

impl<'t> Reading<'t> {
    pub(super) fn new(file: Arc<str>, text: &'t Text) -> Self {
        Self { file, text, services: Vec::new(), lists: Vec::new(), problems: Vec::new(), known: HashMap::new() }
    }

    /// A place in the document.
    pub(super) fn place(&self, at: usize) -> Place {
        let (line, column) = self.text.place(at);
        Place { file: self.file.clone(), line, column }
    }

    /// Keeps a list; gives its number.
    pub(super) fn list(&mut self, list: List) -> usize {
        let start = list.inside.start;
        if let Some(number) = self.known.get(&start) {
            self.lists[*number].conditional |= list.conditional;
            return *number;
        }
        self.lists.push(list);
        self.known.insert(start, self.lists.len() - 1);
        self.lists.len() - 1
    }

    /// Keeps a service whose tags stand in these lists, and others beyond of them, each with the reason.
    pub(super) fn service(&mut self, mut service: Service, lists: &[usize], beyond: Vec<(Beyond, Arc<str>)>) {
        let mut slots = Vec::new();
        for number in lists {
            for (at, element) in self.lists[*number].elements.iter().enumerate() {
                if let Element { tag: Some(tag), .. } = element {
                    service.tags.push(tag.clone());
                    slots.push((*number, at));
                }
            }
        }
        for (tag, why) in beyond {
            let Beyond { text, holes, at } = tag;
            service.tags.push(Tag { text: text.into(), holes, place: self.place(at) });
            service.beyond.push(why);
        }
        service.count = service.count.max(1);
        self.services.push(Found { service, slots });
    }

    /// An origin in the document.
    pub(super) fn origin(&self, at: usize, service: &str) -> Origin {
        let (line, column) = self.text.place(at);
        Origin {
            file: Some(self.file.clone()),
            line: Some(line),
            column: Some(column),
            service: (!service.is_empty()).then(|| service.into()),
            ..Origin::default()
        }
    }

    /// Something that this document does not show.
    pub(super) fn remark(&mut self, at: usize, service: &str, message: String, help: &str) {
        let origin = self.origin(at, service);
        let problem = Diagnostic::warning("tags_elsewhere", message).with_origin(origin).with_help(help);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// A legacy tag that stands where no list of tags can be edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beyond {
    pub(super) text: String,
    pub(super) holes: Vec<Arc<str>>,
    /// Where the text begins that it stands in.
    pub(super) at: usize,
}

/// The legacy tags in a text, which may have several of them (`split`, `jsondecode`).
pub(super) fn legacy_texts(text: &str, holes: &[Arc<str>], at: usize) -> Vec<Beyond> {
    let (offset, rest) = (text.len() - text.trim_start().len(), text.trim());
    let starts: Vec<usize> = if rest.starts_with("https://") {
        vec![offset]
    } else {
        text.match_indices("urlprefix-").map(|(start, _)| start).collect()
    };
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let mut found = Vec::new();
    for (start, end) in starts.iter().copied().zip(ends) {
        let one = text[start..end].trim_end_matches(|c: char| c.is_whitespace() || ",;|\"]".contains(c));
        let before = text[..start].matches(Tag::HOLE).count();
        let its = holes.iter().skip(before).take(one.matches(Tag::HOLE).count());
        found.push(Beyond { text: one.to_owned(), holes: its.cloned().collect(), at });
    }
    found
}
