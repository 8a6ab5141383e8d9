//! `migrate --undo`: files come back from their backups, byte for byte.
//!
//! What always holds: a file that was changed by hand since is left alone, and so is its backup.

use super::files;
use super::replace::{backup_of, restore, target};
use super::{Options, Styles};
use crate::cli::{FAILED, USAGE, written};
use crate::migrate::edit::{self, Document};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What became of a file: `Err` tells why it was left.
type Done = (PathBuf, Result<(), String>);

pub(super) fn run(options: &Options, styles: Styles, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let (mut done, mut problems): (Vec<Done>, Vec<_>) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for path in &options.paths {
        let path = Path::new(path);
        let (found, trouble) = files::within(path, &|file| file.extension().is_some_and(|ending| ending == "bak"));
        problems.extend(trouble);
        for (found, named) in found {
            let file = match found.extension() {
                Some(ending) if ending == "bak" => found.with_extension(""),
                _ => found,
            };
            if seen.insert(file.clone()) {
                match undo(&file, named) {
                    Ok(true) => done.push((file, Ok(()))),
                    // In folders, backups of other programs are no concern of this one.
                    Ok(false) => {}
                    Err(why) => done.push((file, Err(why))),
                }
            }
        }
    }
    let failed = done.iter().any(|(_, result)| result.is_err());
    let told = if options.json {
        let one = |(file, result): &Done| match result {
            Ok(()) => json!({"file": file, "restored": true}),
            Err(why) => json!({"file": file, "restored": false, "why": why}),
        };
        let files: Vec<_> = done.iter().map(one).collect();
        writeln!(stdout, "{:#}", json!({"files": files, "problems": problems}))
    } else {
        done.iter().try_for_each(|(file, result)| match result {
            Ok(()) => writeln!(stdout, "restored {}", file.display()),
            Err(why) => writeln!(stderr, "{} {} {why}", styles.stderr.red("error:"), file.display()),
        })
    };
    match written(told) {
        0 if !problems.is_empty() => USAGE,
        0 if failed => FAILED,
        0 if done.is_empty() && !options.json => written(writeln!(stdout, "no backups, nothing to undo")),
        code => code,
    }
}

/// Restores one file; `false`: there is nothing of ours.
fn undo(path: &Path, named: bool) -> Result<bool, String> {
    // The link may have gone, the file behind it not.
    let file = target(path).unwrap_or_else(|_| path.to_owned());
    let backup = backup_of(&file);
    let Ok(old) = files::bytes(&backup) else {
        return if named { Err(format!("has no backup `{}`", backup.display())) } else { Ok(false) };
    };
    let of = |bytes: &[u8]| edit::read(&path.to_string_lossy().into(), bytes).ok().flatten();
    let Some(old) = of(&old) else {
        return if named { Err("has a backup that is no job and defines no services".to_owned()) } else { Ok(false) };
    };
    if let Ok(now) = files::bytes(&file) {
        let by_hand = match of(&now) {
            Some(now) => now.without_tags() != old.without_tags() || has_own(&now, &old),
            None => true,
        };
        if by_hand {
            let backup = backup.display();
            return Err(format!(
                "has changed by hand since and is left as it is; `{backup}` is what it was: take over what is new, or \
                 remove this file to have it back as it was"
            ));
        }
    }
    restore(&file, &backup).map(|()| true).map_err(|error| format!("cannot be restored: {error}"))
}

/// Whether a document has tags that no migration has made of the other one's, or lacks some that none removes.
fn has_own(now: &Document, old: &Document) -> bool {
    let tags = |document: &Document| -> Vec<Vec<String>> {
        document.services().map(|service| service.tags.iter().map(edit::shown).collect()).collect()
    };
    let (now, old) = (tags(now), tags(old));
    let is_legacy = |tag: &str| ["urlprefix-", "https://"].iter().any(|prefix| tag.trim().starts_with(prefix));
    let differ = |(now, old): (&Vec<String>, &Vec<String>)| {
        now.iter().any(|tag| !old.contains(tag) && !is_made(tag))
            || old.iter().any(|tag| !now.contains(tag) && !is_legacy(tag))
    };
    now.len() != old.len() || now.iter().zip(&old).any(differ)
}

/// Whether a tag looks like one that a migration makes: of a router, service or middleware with a name of its own.
fn is_made(tag: &str) -> bool {
    let named = tag.strip_prefix("traefik.http.").or_else(|| tag.strip_prefix("traefik.tcp."));
    let name = named.and_then(|rest| rest.split('.').nth(1)).unwrap_or_default();
    tag == "traefik.enable=true" || ["fb-", "site-"].iter().any(|kind| name.starts_with(kind))
}
