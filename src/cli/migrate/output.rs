//! What a run prints: changes as a unified diff, problems with their lines, and all of it as JSON.

use super::work::Work;
use crate::cli::output::{self, Style};
use crate::diagnostic::Diagnostic;
use crate::migrate::edit::{Document, Edited, shown, shown_new};
use crate::migrate::{Conversion, Outcome, Service};
use serde_json::{Value, json};
use similar::TextDiff;
use std::io::{self, Write};
use std::time::Duration;

/// A diff of large files that takes longer is given as it is, coarser.
const PATIENCE: Duration = Duration::from_secs(2);

/// Problems, most of them with their line, on stderr.
pub(super) fn problems(work: &Work, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for passed in work.passed.iter().filter(|passed| passed.named) {
        writeln!(out, "{} {}: no job and no service definition, passed over", style.dim("note:"), passed.file)?;
    }
    let found = work.passed.iter().filter(|passed| !passed.named).count();
    if found > 0 {
        let files = if found == 1 { "file is" } else { "files are" };
        writeln!(out, "{} {found} {files} no job and no service definition, passed over", style.dim("note:"))?;
    }
    all(work).try_for_each(|problem| output::diagnostic(out, &in_place(problem), style))?;
    for difference in &work.proof.differences {
        writeln!(out, "{} {}: {}", style.red("differs"), difference.url, difference.what)?;
        for (name, answer) in [("old tags", &difference.before), ("new tags", &difference.after)] {
            let rule =
                if answer.rule.is_empty() { String::new() } else { format!("  ({} {})", answer.router, answer.rule) };
            writeln!(out, "  {name}: {}{rule}", answer.says)?;
        }
        let place = &difference.place;
        writeln!(out, "  shown by `{}` of {} at {}:{}", difference.tag, difference.service, place.file, place.line)?;
    }
    let more = work.proof.differ.saturating_sub(work.proof.differences.len());
    if more > 0 {
        writeln!(out, "  and {more} more")?;
    }
    for gap in &work.proof.gaps {
        writeln!(out, "{} {} ({}, {} times, first {})", style.dim("known:"), gap.says, gap.code, gap.times, gap.url)?;
    }
    Ok(())
}

/// All diagnostics of a run.
pub(super) fn all(work: &Work) -> impl Iterator<Item = &Diagnostic> {
    let refused = work.conversions.iter().flat_map(|conversion| {
        let refused = conversion.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Refused(why) => Some(&**why),
            _ => None,
        });
        refused.chain(&conversion.remarks)
    });
    work.unreadable.iter().chain(work.of_documents()).chain(refused).chain(&work.unwritten)
}

/// A diagnostic whose column is one of the file, which is shown with its line where it can be read again.
fn in_place(problem: &Diagnostic) -> Diagnostic {
    let mut shown = problem.clone();
    let o = &mut shown.origin;
    match (&o.file, o.line) {
        (Some(file), Some(line)) if &**file == "-" => {
            o.file = Some(format!("{file}:{line}:{}", o.column.unwrap_or(1)).into());
            (o.line, o.column) = (None, None);
        }
        (Some(_), Some(_)) => (o.tag, o.service) = (None, None),
        _ => {}
    }
    shown
}

/// What would change.
pub(super) fn changes(work: &Work, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for (document, edited) in work.documents.iter().zip(&work.edits).filter(|(_, edited)| edited.changed) {
        for line in diff(document, edited).split_inclusive('\n') {
            let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
            let painted = match body.as_bytes().first() {
                Some(b'+') => style.green(body),
                Some(b'-') => style.red(body),
                Some(b'@') => style.dim(body),
                _ => body.to_owned(),
            };
            write!(out, "{painted}{end}")?;
        }
    }
    let running = work.set.services.len() - work.documents.iter().map(|d| d.services().count()).sum::<usize>();
    for (service, conversion) in work.services().skip(work.set.services.len() - running) {
        live(work, service, conversion, style, out)?;
    }
    Ok(())
}

fn diff(document: &Document, edited: &Edited) -> String {
    let (old, new) = (document.bytes(), &edited.bytes);
    let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(new));
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&*old, &*new);
    let name = document.file.trim_start_matches('/');
    diff.unified_diff().header(&format!("a/{name}"), &format!("b/{name}")).to_string()
}

/// The tags of a service that runs: there is no file to show them in.
fn live(work: &Work, service: &Service, conversion: &Conversion, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if !conversion.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Converted(_))) {
        return Ok(());
    }
    let address = service.address.as_ref().map(|(host, port)| format!(" ({host}:{port})")).unwrap_or_default();
    writeln!(out, "{}{address}", style.bold(&service.name))?;
    for (tag, outcome) in service.tags.iter().zip(&conversion.outcomes) {
        let goes = !work.keep && matches!(outcome, Outcome::Converted(_));
        let line = format!("{} {}", if goes { '-' } else { ' ' }, shown(tag));
        writeln!(out, "{}", if goes { style.red(&line) } else { line })?;
    }
    for text in new_tags(service, conversion) {
        writeln!(out, "{}", style.green(&format!("+ {text}")))?;
    }
    Ok(())
}

/// The tags that a service gets.
pub(super) fn new_tags(service: &Service, conversion: &Conversion) -> Vec<String> {
    let mut all: Vec<String> = conversion.besides.iter().map(ToString::to_string).collect();
    for (tag, outcome) in service.tags.iter().zip(&conversion.outcomes) {
        if let Outcome::Converted(new) = outcome {
            all.extend(new.iter().map(|text| shown_new(text, tag)));
        }
    }
    all
}

/// What `--write` did.
pub(super) fn what_was_written(work: &Work, out: &mut dyn Write) -> io::Result<()> {
    work.wrote.iter().try_for_each(|file| writeln!(out, "wrote {file}"))
}

/// Everything as one document.
pub(super) fn json(work: &Work, code: u8) -> Value {
    let mut services = work.services();
    let mut documents = Vec::new();
    for (document, edited) in work.documents.iter().zip(&work.edits) {
        let of_it: Vec<Value> =
            services.by_ref().take(document.services().count()).map(|(s, c)| service(work, s, c)).collect();
        let problems: Vec<&Diagnostic> = document.problems.iter().chain(&edited.problems).collect();
        documents.push(json!({
            "file": document.file, "kind": document.kind.as_str(), "changed": edited.changed,
            "written": work.wrote.contains(&document.file), "services": of_it, "problems": problems,
        }));
    }
    let running: Vec<Value> = services.map(|(s, c)| service(work, s, c)).collect();
    let passed: Vec<_> = work.passed.iter().map(|passed| &passed.file).collect();
    let unread: Vec<_> = work.unreadable.iter().chain(&work.unwritten).collect();
    json!({
        "exitCode": code, "keepLegacy": work.keep, "documents": documents, "running": running, "passedOver": passed,
        "problems": unread, "left": work.left(true), "holds": work.proof.holds(), "proof": work.proof,
    })
}

fn service(work: &Work, service: &Service, conversion: &Conversion) -> Value {
    let tags: Vec<Value> = (service.tags.iter().zip(&conversion.outcomes))
        .map(|(tag, outcome)| {
            let mut told = json!({"tag": shown(tag), "line": tag.place.line, "column": tag.place.column});
            match outcome {
                Outcome::Kept => told["outcome"] = "kept".into(),
                Outcome::Converted(new) => {
                    told["outcome"] = "converted".into();
                    told["new"] = new.iter().map(|text| shown_new(text, tag)).collect();
                }
                Outcome::Refused(why) => {
                    told["outcome"] = "refused".into();
                    told["why"] = json!(why);
                }
            }
            told
        })
        .collect();
    let address = service.address.as_ref().map(|(host, port)| json!({"host": host, "port": port}));
    json!({
        "name": service.name.replace(crate::migrate::Tag::HOLE, "${…}"), "namespace": service.namespace,
        "count": service.count, "address": address, "file": service.place.file, "line": service.place.line,
        "state": work.state(service, conversion).as_str(), "tags": tags, "besides": conversion.besides,
        "remarks": conversion.remarks,
    })
}
