//! Dynamic configuration in Traefik's file form
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/other-providers/file/>): texts in
//! YAML or TOML to declarations. Reading and watching the files is the runtime's.
//!
//! Other than in Traefik, where one unknown option refuses a whole file, each definition is read by
//! itself: a bad one costs only itself, is known as broken (so that its last good form stays), and is
//! told with file, line and column. A text that cannot be taken apart at all is one error. Of a name
//! that several files declare the first file, in the order given, has it.

use super::read::Reader;
use super::{Dynamic, Source, Tcp, TcpBroken};
use crate::diagnostic::{Diagnostic, Origin};
use crate::document::{self, Format, Limits, Spot};
use crate::model::Provider;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Largest file in bytes.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// What a file may hold: about a million values is a file of 16 MB.
const LIMITS: Limits = Limits { depth: 64, values: 2_000_000 };

/// What one or several files declare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The declarations.
    pub dynamic: Dynamic,
    /// What was refused or deserves a remark.
    pub problems: Vec<Diagnostic>,
    /// A section of it cannot be read, so that more may be declared than is known.
    pub unclear: bool,
}

impl Decoded {
    /// Takes what was declared before and is not any more for broken, so that its last good form
    /// stays in force.
    pub fn keep(&mut self, before: &Dynamic) {
        let (http, old) = (&mut self.dynamic.http, &before.http);
        let names = old.routers.keys().chain(&old.broken.routers).filter(|name| !http.routers.contains_key(*name));
        let names: Vec<_> = names.cloned().collect();
        http.broken.routers.extend(names);
        let names = old.middlewares.keys().chain(&old.broken.middlewares);
        let names: Vec<_> = names.filter(|name| !http.middlewares.contains_key(*name)).cloned().collect();
        http.broken.middlewares.extend(names);
        let names = old.servers_transports.keys().chain(&old.broken.servers_transports);
        let names: Vec<_> = names.filter(|name| !http.servers_transports.contains_key(*name)).cloned().collect();
        http.broken.servers_transports.extend(names);
        for (name, service) in old.services.iter().chain(&old.broken.services) {
            if !http.services.contains_key(name) && !http.broken.services.contains_key(name) {
                http.broken.services.insert(name.clone(), service.clone());
            }
        }
    }

    /// Takes over from the last reading what is the same, so that an unchanged definition is known as such.
    pub fn share(&mut self, before: &Self) {
        macro_rules! share {
            ($($section:ident).+) => {
                let same: Vec<_> = self.dynamic.$($section).+.iter().filter_map(|(name, value)| {
                    let old = before.dynamic.$($section).+.get(name)?;
                    (old == value && old.source.same(&value.source)).then(|| (name.clone(), old.clone()))
                }).collect();
                for (name, old) in same {
                    self.dynamic.$($section).+.insert(name, old);
                }
            };
        }
        share!(http.routers);
        share!(http.services);
        share!(http.middlewares);
        share!(http.servers_transports);
        share!(tcp.routers);
        share!(tcp.services);
        share!(tcp.middlewares);
        share!(tcp.servers_transports);
    }
}

/// The origin of something in a file.
pub(super) fn origin(provider: Provider, file: Option<&Arc<str>>, at: Option<Spot>) -> Origin {
    Origin {
        provider: Some(provider.as_str().into()),
        file: file.cloned(),
        line: at.map(|at| at.line),
        column: at.map(|at| at.column),
        ..Origin::default()
    }
}

/// Decodes one file.
///
/// # Errors
/// A text that cannot be taken apart, or that is a template: nothing is known of what it declares.
pub fn decode(bytes: &[u8], file: &Arc<str>) -> Result<Decoded, Box<Diagnostic>> {
    if let Some(at) = memchr::memmem::find(bytes, b"{{") {
        let before = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
        let at = document::spot(&before, before.len());
        let problem = Diagnostic::error("template", "the file is a Go template, which is not evaluated")
            .with_origin(origin(Provider::File, Some(file), Some(at)))
            .with_help("write out what the template gives");
        return Err(Box::new(problem));
    }
    let members = document::read(bytes, Format::of(Path::new(&**file)), LIMITS).map_err(|e| {
        let at = origin(Provider::File, Some(file), Some(e.at));
        Box::new(Diagnostic::error("malformed_file", e.message).with_origin(at))
    })?;
    Ok(Reader::new(Provider::File, Some(file)).read(members))
}

/// Decodes files and joins what they declare, in the order given. A file that cannot be decoded
/// declares nothing and is told.
pub fn read_all(files: &[(Arc<str>, Vec<u8>)]) -> Decoded {
    let mut bad = Vec::new();
    let decoded: Vec<Decoded> = files
        .iter()
        .filter_map(|(file, bytes)| decode(bytes, file).map_err(|problem| bad.push(*problem)).ok())
        .collect();
    let mut all = join(decoded.iter());
    all.problems.extend(bad);
    all
}

/// Joins what files declare; of a name that two of them declare the first one stays.
pub fn join<'a>(files: impl IntoIterator<Item = &'a Decoded>) -> Decoded {
    let mut all = Decoded::default();
    for file in files {
        all.problems.extend(file.problems.iter().cloned());
        all.unclear |= file.unclear;
        let (to, from) = (&mut all.dynamic, &file.dynamic);
        let problems = &mut all.problems;
        let broken = &from.http.broken;
        // a broken definition has its name, too: its last good form stays
        macro_rules! join {
            ($word:literal, $($section:ident).+ $(, broken $($broken:ident).+)?) => {
                for (name, value) in &from.$($section).+ {
                    let there = to.$($section).+.get(name).map(|there| there.source.clone());
                    $(let there = there.or_else(|| to.$($broken).+.contains(name).then(Source::default));)?
                    match there {
                        Some(there) => problems.push(twice($word, name, &there, &value.source)),
                        None => drop(to.$($section).+.insert(name.clone(), value.clone())),
                    }
                }
            };
        }
        let broken_services: BTreeSet<Arc<str>> = to.http.broken.services.keys().cloned().collect();
        join!("router", http.routers, broken http.broken.routers);
        join!("middleware", http.middlewares, broken http.broken.middlewares);
        for (name, value) in &from.http.services {
            let there = to.http.services.get(name).map(|there| there.source.clone());
            match there.or_else(|| broken_services.contains(name).then(Source::default)) {
                Some(there) => problems.push(twice("service", name, &there, &value.source)),
                None => drop(to.http.services.insert(name.clone(), value.clone())),
            }
        }
        join!("serversTransport", http.servers_transports, broken http.broken.servers_transports);
        join!("TCP router", tcp.routers, broken tcp.broken.routers);
        join!("TCP service", tcp.services);
        join!("TCP middleware", tcp.middlewares, broken tcp.broken.middlewares);
        join!("TCP serversTransport", tcp.servers_transports, broken tcp.broken.servers_transports);
        join_broken_tcp(&mut to.tcp, &from.tcp.broken);
        join!("UDP router", udp.routers);
        join!("UDP service", udp.services);
        join!("TLS option", tls.options);
        join!("TLS store", tls.stores);
        to.tls.certificates.extend(from.tls.certificates.iter().cloned());
        let free = |name: &&Arc<str>| !to.http.routers.contains_key(*name);
        let names: Vec<_> = broken.routers.iter().filter(free).cloned().collect();
        to.http.broken.routers.extend(names);
        let free = |name: &&Arc<str>| !to.http.middlewares.contains_key(*name);
        let names: Vec<_> = broken.middlewares.iter().filter(free).cloned().collect();
        to.http.broken.middlewares.extend(names);
        let free = |name: &&Arc<str>| !to.http.servers_transports.contains_key(*name);
        let names: Vec<_> = broken.servers_transports.iter().filter(free).cloned().collect();
        to.http.broken.servers_transports.extend(names);
        for (name, value) in &broken.services {
            if !to.http.services.contains_key(name) && !to.http.broken.services.contains_key(name) {
                to.http.broken.services.insert(name.clone(), value.clone());
            }
        }
    }
    all
}

/// Adds broken definitions whose names nothing has that can be used.
fn join_broken_tcp(to: &mut Tcp, from: &TcpBroken) {
    let free = |name: &&Arc<str>| !to.routers.contains_key(*name);
    to.broken.routers.extend(from.routers.iter().filter(free).cloned());
    let free = |name: &&Arc<str>| !to.middlewares.contains_key(*name);
    to.broken.middlewares.extend(from.middlewares.iter().filter(free).cloned());
    let free = |name: &&Arc<str>| !to.servers_transports.contains_key(*name);
    to.broken.servers_transports.extend(from.servers_transports.iter().filter(free).cloned());
    for (name, value) in &from.services {
        if !to.services.contains_key(name) && !to.broken.services.contains_key(name) {
            to.broken.services.insert(name.clone(), value.clone());
        }
    }
}

/// The word about a name that two files declare.
fn twice(word: &str, name: &str, there: &Source, here: &Source) -> Diagnostic {
    let place = there
        .place
        .as_ref()
        .map_or_else(|| "another file".to_owned(), |place| format!("`{}` (line {})", place.file, place.at.0));
    let at = here.place.as_ref().map(|place| Spot { line: place.at.0, column: place.at.1 });
    let kind = word.rsplit(' ').next().unwrap_or(word).to_ascii_lowercase();
    Diagnostic::error(
        &format!("{kind}_conflict"),
        format!("{word} `{name}` is declared in {place}, too; that one stays"),
    )
    .with_origin(origin(Provider::File, here.place.as_ref().map(|place| &place.file), at))
    .with_help(format!("give the {word} another name, or take one of them out"))
}
