//! The report: a line a service, for a terminal, as Markdown and as JSON.

use super::work::{State, Work};
use crate::cli::output::Style;
use crate::diagnostic::Diagnostic;
use crate::migrate::{Conversion, Outcome, Service, Tag};
use serde_json::{Value, json};
use std::io::{self, Write};

/// A line of the report.
struct Line {
    state: State,
    service: String,
    place: String,
    legacy: usize,
    new: usize,
    says: Vec<String>,
}

fn lines(work: &Work) -> Vec<Line> {
    work.services().map(|(service, conversion)| line(work, service, conversion)).collect()
}

fn line(work: &Work, service: &Service, conversion: &Conversion) -> Line {
    let (mut legacy, mut new) = (0, conversion.besides.len());
    for outcome in &conversion.outcomes {
        match outcome {
            Outcome::Kept => {}
            Outcome::Refused(_) => legacy += 1,
            Outcome::Converted(texts) => {
                legacy += 1;
                new += texts.len();
            }
        }
    }
    let refused = conversion.outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Refused(why) => Some(&**why),
        _ => None,
    });
    let its = |d: &&Diagnostic| {
        d.origin.file.as_ref() == Some(&service.place.file) && d.origin.service.as_deref() == Some(&*service.name)
    };
    let says = work.of_documents().filter(its).chain(refused).chain(&conversion.remarks);
    let mut said: Vec<String> = says.map(|d| d.message.clone()).collect();
    said.dedup();
    let place = match service.place.line {
        0 => service.place.file.to_string(),
        line => format!("{}:{line}", service.place.file),
    };
    let name = service.name.replace(Tag::HOLE, "${…}");
    let name = if service.namespace.is_empty() { name } else { format!("{name} ({})", service.namespace) };
    Line { state: work.state(service, conversion), service: name, place, legacy, new, says: said }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What all of it comes to.
fn summary(work: &Work, lines: &[Line]) -> String {
    let of = |state: State| lines.iter().filter(|line| line.state == state).count();
    let mut parts = vec![
        format!("{}: {} ready", counted(lines.len(), "service"), of(State::Ready)),
        format!("{} ready with remarks", of(State::Remarks)),
        of(State::Hand).to_string() + if of(State::Hand) == 1 { " needs a hand" } else { " need a hand" },
    ];
    if of(State::Nothing) > 0 {
        parts.push(format!("{} without legacy tags", of(State::Nothing)));
    }
    if !work.unreadable.is_empty() {
        parts.push(format!("{} not read", counted(work.unreadable.len(), "file")));
    }
    parts.join(", ")
}

fn proof(work: &Work) -> String {
    let compared = format!("{} on {}", counted(work.proof.requests, "request"), counted(work.proof.routes, "route"));
    match work.proof.differ {
        0 if work.proof.requests == 0 => "nothing to compare".to_owned(),
        0 => format!("the new tags route as the old ones ({compared})"),
        n => format!("the new tags route otherwise: {} of {compared}", counted(n, "difference")),
    }
}

/// For a terminal.
pub(super) fn terminal(work: &Work, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let lines = lines(work);
    let shown: Vec<&Line> = lines.iter().filter(|line| line.state != State::Nothing).collect();
    let width = |of: fn(&Line) -> usize| shown.iter().map(|line| of(line)).max().unwrap_or(0).min(60);
    let (name, place) = (width(|line| line.service.chars().count()), width(|line| line.place.chars().count()));
    for line in &shown {
        let state = format!("{:<18}", line.state.as_str());
        let state = match line.state {
            State::Ready => style.green(&state),
            State::Remarks => style.yellow(&state),
            _ => style.red(&state),
        };
        let counts = format!("{} -> {}", line.legacy, line.new);
        writeln!(out, "{state}  {:<name$}  {:<place$}  {counts}", line.service, line.place)?;
        line.says.iter().try_for_each(|says| writeln!(out, "{:20}{} {says}", "", style.dim("-")))?;
    }
    let verdict = proof(work);
    let verdict = if work.proof.holds() { style.green(&verdict) } else { style.red(&verdict) };
    writeln!(out, "{}\n{verdict}", style.bold(&summary(work, &lines)))
}

/// For a page.
pub(super) fn markdown(work: &Work, out: &mut dyn Write) -> io::Result<()> {
    let lines = lines(work);
    // A bar or a line break would end the cell, and markup of a name is none of ours.
    let cell =
        |text: &str| text.replace(['\n', '\r'], " ").replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
    writeln!(out, "| state | service | place | legacy tags | new tags | remarks |\n|---|---|---|---|---|---|")?;
    for line in lines.iter().filter(|line| line.state != State::Nothing) {
        let says = line.says.iter().map(|says| cell(says)).collect::<Vec<_>>().join("<br>");
        let (service, place) = (cell(&line.service), cell(&line.place));
        let state = line.state.as_str();
        writeln!(out, "| {state} | {service} | {place} | {} | {} | {says} |", line.legacy, line.new)?;
    }
    writeln!(out, "\n{}.\n{}.", summary(work, &lines), proof(work))
}

/// For programs.
pub(super) fn json(work: &Work) -> Value {
    let lines = lines(work);
    let of = |state: State| lines.iter().filter(|line| line.state == state).count();
    let services: Vec<Value> = (lines.iter())
        .map(|line| {
            json!({
                "state": line.state.as_str(), "service": line.service, "place": line.place,
                "legacyTags": line.legacy, "newTags": line.new, "remarks": line.says,
            })
        })
        .collect();
    json!({
        "services": services, "ready": of(State::Ready), "readyWithRemarks": of(State::Remarks),
        "needAHand": of(State::Hand), "withoutLegacyTags": of(State::Nothing), "holds": work.proof.holds(),
        "routes": work.proof.routes, "requests": work.proof.requests, "differences": work.proof.differ,
    })
}
