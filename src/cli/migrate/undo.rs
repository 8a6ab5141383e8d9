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
            Some(now) => now.without_tags() != old.without_tags() || own_tags(&now) != own_tags(&old),
            None => true,
        };
        if by_hand {
            let backup = backup.display();
            return Err(format!("has changed by hand since and is left as it is; `{backup}` is what it was"));
        }
    }
    restore(&file, &backup).map(|()| true).map_err(|error| format!("cannot be restored: {error}"))
}

/// The tags that no migration makes or removes, service by service.
fn own_tags(document: &Document) -> Vec<Vec<String>> {
    let own = |tag: &str| !["traefik.", "urlprefix-", "https://"].iter().any(|prefix| tag.starts_with(prefix));
    let of = |tags: &[crate::migrate::Tag]| tags.iter().filter(|tag| own(&tag.text)).map(edit::shown).collect();
    document.services().map(|service| of(&service.tags)).collect()
}
