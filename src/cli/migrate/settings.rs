//! What the tags do not say: Fabio's properties and the entry points of the static configuration.

use super::Options;
use crate::config::{self, ADMIN_ENTRY_POINT, Input};
use crate::diagnostic::{Diagnostic, Origin};
use crate::migrate::{EntryPoint, Settings};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads both, where they are given.
pub(super) fn read(options: &Options) -> Result<Settings, Vec<Diagnostic>> {
    let mut settings = Settings::default();
    if let Some(file) = &options.fabio_config {
        let broken = |message: String| {
            let origin = Origin { file: Some(file.as_str().into()), ..Origin::default() };
            vec![Diagnostic::error("unreadable", message).with_origin(origin)]
        };
        let bytes = super::files::bytes(Path::new(file)).map_err(|error| broken(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| broken("this is not UTF-8".to_owned()))?;
        settings.fabio = properties(&text);
    }
    if let Some(file) = &options.config_file {
        let input = Input { default_paths: Vec::new(), ..Input::of_process(vec![format!("--configFile={file}")]) };
        let loaded = config::load(&input)?;
        let of = |entry: &config::EntryPoint| EntryPoint {
            name: entry.name.clone(),
            port: entry.address.port,
            tls: entry.tls,
        };
        let all = loaded.settled.entry_points.values();
        // No router of a tag belongs on the admin's.
        settings.entry_points = all.filter(|entry| &*entry.name != ADMIN_ENTRY_POINT).map(of).collect();
    }
    Ok(settings)
}

/// A Java properties text, which is what Fabio reads: `#` and `!` begin comments, `=`, `:` or white space end a key, a
/// backslash at its end continues a line.
fn properties(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
            line.pop();
            match lines.next() {
                Some(next) => line.push_str(next.trim_start()),
                None => break,
            }
        }
        let end = line.find(|c: char| c == '=' || c == ':' || c.is_whitespace()).unwrap_or(line.len());
        let (key, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
        all.insert(key.to_owned(), value.replace("\\\\", "\\"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_fabio_does() {
        let text = "# a comment\n! another\nproxy.matcher = glob\nproxy.addr=:80,\\\n   :443;cs=x\nproxy.auth name=a;file=/x\nempty =\n";
        let want = [
            ("empty", ""),
            ("proxy.addr", ":80,:443;cs=x"),
            ("proxy.auth", "name=a;file=/x"),
            ("proxy.matcher", "glob"),
        ];
        let got = properties(text);
        assert_eq!(got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
    }
}
