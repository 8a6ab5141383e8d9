//! Records to requests: access logs line by line, HAR files and catalogs as a whole. The format is guessed from the first
//! lines unless it is said. A line that cannot be read is counted, the first ones are kept with their reason; memory is
//! bounded by the number of different requests that are wanted.

mod clf;
mod har;
mod json;
#[cfg(test)]
mod tests;

use super::request::{Bad, Defaults, Place, Recorded, Request};
use crate::http::Method;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// Longest line that is read, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// Largest document (HAR, catalog) that is read, in bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024 * 1024;
/// Lines that are looked at to guess a format.
const LOOKED_AT: usize = 20;
/// Bad lines that are kept with their reason.
const KEPT: usize = 5;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Common Log Format, `combined`, and Traefik's with its fields behind; a virtual host may stand before.
    Clf,
    /// Caddy's JSON.
    Caddy,
    /// Traefik's JSON, which is rust-lb's too.
    Traefik,
    /// JSON with the names that people choose for nginx, HAProxy, Envoy and others.
    Json,
    /// An HTTP archive of a browser.
    Har,
    /// `URL` or `METHOD URL` a line.
    Urls,
    /// What `/api/rawdata` says: requests for the rules of its routers.
    Rawdata,
}

impl Format {
    /// All, in the order in which they are guessed.
    pub const ALL: [Self; 7] =
        [Self::Clf, Self::Caddy, Self::Traefik, Self::Json, Self::Har, Self::Urls, Self::Rawdata];

    /// The word for it on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clf => "clf",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
            Self::Json => "json",
            Self::Har => "har",
            Self::Urls => "urls",
            Self::Rawdata => "rawdata",
        }
    }

    /// By its word. `combined` and `traefik-clf` are `clf`.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "combined" | "common" | "traefik-clf" => Some(Self::Clf),
            _ => Self::ALL.into_iter().find(|format| format.as_str() == text),
        }
    }

    fn is_document(self) -> bool {
        matches!(self, Self::Har | Self::Rawdata)
    }
}

/// What a line turned out to be.
enum Line {
    Request(Recorded),
    /// Something that belongs into such a log and is no request: an empty line, an error, a connection without one.
    Other,
}

/// Requests for the rules of routers; given by the caller, who knows rules.
pub type Witnesses<'a> = &'a dyn Fn(&serde_json::Value) -> Vec<Recorded>;

/// What is wanted of the sources.
pub struct Wanted<'a> {
    /// What records leave open.
    pub defaults: &'a Defaults,
    /// Methods that may be sent, in upper case.
    pub methods: &'a [String],
    /// Share of the different requests, from 0 to 1.
    pub sample: f64,
    /// Most different requests; nothing for all.
    pub limit: Option<usize>,
    /// For catalogs.
    pub witnesses: Witnesses<'a>,
}

impl Wanted<'_> {
    fn sends(&self, method: &str) -> bool {
        self.methods.iter().any(|allowed| allowed == method)
    }
}

/// What was read of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// File, `-` or option.
    pub source: Arc<str>,
    /// How it is written.
    pub format: Format,
    /// Whether that was guessed.
    pub guessed: bool,
    /// Records, the bad ones and the others included.
    pub records: u64,
    /// Lines that are no request and belong there all the same.
    pub others: u64,
    /// Records that cannot be read or sent.
    pub bad: u64,
    /// The first of these.
    pub first_bad: Vec<(Place, Bad)>,
    /// Not read to its end, for there were requests enough.
    pub left_at: Option<u64>,
}

/// Why a source cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The reader's.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing in it.
    #[error("empty")]
    Empty,
    /// No format fits its first lines.
    #[error("its first lines have none of the formats that are known ({0})")]
    Unknown(Bad),
    /// A document that is too large.
    #[error("larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// A document that has not its form.
    #[error("not {0}: {1}")]
    Document(&'static str, String),
}

/// The different requests of all sources.
#[derive(Debug, Default)]
pub struct Requests {
    list: Vec<Request>,
    places: HashMap<String, Option<usize>>,
    /// Records that made a request, equal ones and those not chosen included.
    pub found: u64,
    /// Records by methods that are not sent.
    pub refused: BTreeMap<String, u64>,
    /// Different requests that were not chosen (`sample`).
    pub left_out: u64,
}

impl Requests {
    /// The requests, in the order in which they were first seen.
    pub fn into_list(self) -> Vec<Request> {
        self.list
    }

    /// How many different ones there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn refuse(&mut self, method: &str) {
        // strangers choose methods: the words that are kept are few
        let known = self.refused.len() < 32 || self.refused.contains_key(method);
        *self.refused.entry(if known { method } else { "other" }.to_owned()).or_default() += 1;
    }

    fn add(&mut self, request: Request, wanted: &Wanted<'_>) {
        if !wanted.sends(request.method.as_str()) {
            return self.refuse(request.method.as_str());
        }
        self.found += 1;
        let key = request.key();
        match self.places.get(&key) {
            Some(Some(at)) => {
                if let Some(seen) = self.list.get_mut(*at) {
                    seen.times += 1;
                }
            }
            Some(None) => {}
            None if request.lot() >= wanted.sample => {
                self.left_out += 1;
                // equal ones are known only as far as there is room
                if self.places.len() < 1_000_000 {
                    self.places.insert(key, None);
                }
            }
            None => {
                self.places.insert(key, Some(self.list.len()));
                self.list.push(request);
            }
        }
    }

    /// One that was said in words.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn say(&mut self, text: &str, line: u64, wanted: &Wanted<'_>) -> Result<(), Bad> {
        let place = Place { source: "--url".into(), line };
        match url(text)? {
            Line::Request(recorded) => self.add(recorded.request(wanted.defaults, place)?, wanted),
            Line::Other => return Err(Bad::Form(URL_FORM)),
        }
        Ok(())
    }

    fn is_full(&self, wanted: &Wanted<'_>) -> bool {
        wanted.limit.is_some_and(|limit| self.list.len() >= limit)
    }

    /// Reads a source to its end, or until there are requests enough.
    ///
    /// # Errors
    /// It cannot be read at all.
    pub fn read(
        &mut self,
        source: &str,
        input: &mut dyn BufRead,
        format: Option<Format>,
        wanted: &Wanted<'_>,
    ) -> Result<Told, ReadError> {
        let mut lines = Lines { input, number: 0 };
        let mut first = Vec::new();
        // a document may be one line, so the first one may be long
        while first.len() < LOOKED_AT {
            let limit = if first.is_empty() { MAX_DOCUMENT } else { MAX_LINE };
            match lines.next(limit)? {
                Some((number, Ok(line))) if !line.trim().is_empty() => first.push((number, Ok(line))),
                Some((_, Ok(_))) => {}
                Some((number, Err(bad))) => first.push((number, Err(bad))),
                None => break,
            }
            // what is not a value a line is one value
            if first.len() == 1 && document_begins(&first) {
                break;
            }
        }
        if first.is_empty() {
            return Err(ReadError::Empty);
        }
        let guessed = format.is_none();
        let mut text = String::new();
        let format = match format {
            Some(format) => format,
            None if document_begins(&first) => {
                text = lines.document(std::mem::take(&mut first))?;
                json::document(&text)?
            }
            None => guess(&first)?,
        };
        let mut told = Told {
            source: source.into(),
            format,
            guessed,
            records: 0,
            others: 0,
            bad: 0,
            first_bad: Vec::new(),
            left_at: None,
        };
        if format.is_document() {
            if text.is_empty() {
                text = lines.document(first)?;
            }
            let records = match format {
                Format::Har => har::records(&text)?,
                _ => {
                    let value = serde_json::from_str(&text).map_err(|e| ReadError::Document("JSON", e.to_string()))?;
                    (wanted.witnesses)(&value).into_iter().map(Line::Request).map(Ok).collect()
                }
            };
            for (record, number) in records.into_iter().zip(1..) {
                self.take(record, number, &mut told, wanted);
                if self.is_full(wanted) {
                    told.left_at = Some(number);
                    break;
                }
            }
            return Ok(told);
        }
        let mut first = first.into_iter();
        loop {
            let Some((number, line)) = first.next().map_or_else(|| lines.next(MAX_LINE), |line| Ok(Some(line)))? else {
                return Ok(told);
            };
            self.take(line.and_then(|line| read_line(&line, format)), number, &mut told, wanted);
            if self.is_full(wanted) {
                told.left_at = Some(number);
                return Ok(told);
            }
        }
    }

    fn take(&mut self, line: Result<Line, Bad>, number: u64, told: &mut Told, wanted: &Wanted<'_>) {
        let place = Place { source: told.source.clone(), line: number };
        told.records += 1;
        // what is not sent need not be sendable (`CONNECT host:443`)
        if let Ok(Line::Request(recorded)) = &line
            && !wanted.sends(&recorded.method)
            && Method::from_bytes(recorded.method.as_bytes()).is_ok()
        {
            return self.refuse(&recorded.method);
        }
        let made = line.and_then(|line| match line {
            Line::Request(recorded) => recorded.request(wanted.defaults, place.clone()).map(Some),
            Line::Other => Ok(None),
        });
        match made {
            Ok(Some(request)) => self.add(request, wanted),
            Ok(None) => told.others += 1,
            Err(bad) => {
                told.bad += 1;
                if told.first_bad.len() < KEPT {
                    told.first_bad.push((place, bad));
                }
            }
        }
    }
}

/// One line by a format of lines.
fn read_line(line: &str, format: Format) -> Result<Line, Bad> {
    let line = line.trim_end_matches(['\r', '\n']).trim_start_matches('\u{feff}');
    if line.trim().is_empty() {
        return Ok(Line::Other);
    }
    match format {
        Format::Clf => clf::read(line),
        Format::Caddy => json::caddy(line),
        Format::Traefik => json::traefik(line),
        Format::Json => json::any(line),
        Format::Urls => url(line),
        Format::Har | Format::Rawdata => Err(Bad::Form("a document")),
    }
}

const URL_FORM: &str = "`URL` or `METHOD URL`, with http:// or https://";

fn url(line: &str) -> Result<Line, Bad> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Other);
    }
    let (method, url) = match line.split_once(char::is_whitespace) {
        Some((method, url)) => (method, url.trim()),
        None => ("GET", line),
    };
    let scheme = url.split_once("://").and_then(|(scheme, _)| super::Scheme::named(scheme));
    if scheme.is_none() || url.contains(char::is_whitespace) {
        return Err(Bad::Form(URL_FORM));
    }
    Ok(Line::Request(Recorded { method: method.to_owned(), ..Recorded::get(url) }))
}

type Numbered = (u64, Result<String, Bad>);

fn document_begins(first: &[Numbered]) -> bool {
    let Some((_, Ok(line))) = first.first() else { return false };
    let line = line.trim_start_matches('\u{feff}').trim_start();
    // a line that was cut off is no beginning of a document
    let open = line.trim_end().ends_with(['{', '[']);
    line.starts_with('{') && json::shape(line).map_or(open, Format::is_document)
}

/// The format that most of the first lines have.
fn guess(first: &[Numbered]) -> Result<Format, ReadError> {
    let mut votes: BTreeMap<Format, usize> = BTreeMap::new();
    let mut why = Bad::Form("lines of an access log, a HAR file, or URLs");
    for (_, line) in first {
        let line = match line {
            Ok(line) => {
                if line.contains(char::REPLACEMENT_CHARACTER) {
                    why = Bad::NotText;
                }
                line.trim_start_matches('\u{feff}')
            }
            Err(bad) => {
                why = bad.clone();
                continue;
            }
        };
        let format = if line.trim_start().starts_with('{') {
            json::shape(line)
        } else {
            // comments are no sign
            [Format::Caddy, Format::Clf, Format::Urls]
                .into_iter()
                .find(|format| matches!(read_line(line, *format), Ok(Line::Request(_))))
        };
        if let Some(format) = format {
            *votes.entry(format).or_default() += 1;
        }
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(format, _)| format).ok_or(ReadError::Unknown(why))
}

struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    /// The next line with its number; what is longer than `limit` is read over.
    fn next(&mut self, limit: usize) -> io::Result<Option<Numbered>> {
        let mut line = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        if (&mut *self.input).take(most + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.len() > limit && line.last() != Some(&b'\n') {
            self.skip()?;
            return Ok(Some((self.number, Err(Bad::TooLong))));
        }
        // a user agent may be any bytes; what would be sent and is no text is refused later
        Ok(Some((self.number, Ok(String::from_utf8_lossy(&line).into_owned()))))
    }

    fn skip(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let (used, done) = match memchr::memchr(b'\n', buffer) {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.input.consume(used);
            if done {
                return Ok(());
            }
        }
    }

    /// The first lines and the rest.
    fn document(&mut self, first: Vec<Numbered>) -> Result<String, ReadError> {
        let mut text = String::new();
        for (_, line) in first {
            match line {
                Ok(line) => text.push_str(&line),
                Err(Bad::TooLong) => return Err(ReadError::TooLarge),
                Err(bad) => return Err(ReadError::Unknown(bad)),
            }
        }
        let room = u64::try_from(MAX_DOCUMENT.saturating_sub(text.len())).unwrap_or(u64::MAX);
        let read = (&mut *self.input).take(room + 1).read_to_string(&mut text)?;
        if u64::try_from(read).unwrap_or(u64::MAX) > room {
            return Err(ReadError::TooLarge);
        }
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        Ok(text)
    }
}
