//! What people and programs see of a comparison.

use super::Read;
use crate::cli::output::Style;
use crate::compare::read::{Format, Requests, Told};
use crate::compare::{Aspect, Difference, Replay, Tally, Times, Verdict};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// Verdicts that are kept for the JSON document.
const KEPT: usize = 1000;
/// Hosts that the summary names.
const HOSTS: usize = 10;
/// Fields that are shown where already the status differs.
const FIELDS: usize = 3;

/// What was read, in numbers.
pub(super) struct Counts {
    sources: Vec<Told>,
    without: Vec<String>,
    found: u64,
    different: usize,
    left_out: u64,
    refused: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn of(requests: &Requests, sources: Vec<Told>, without: Vec<String>) -> Self {
        Self {
            sources,
            without,
            found: requests.found,
            different: requests.len(),
            left_out: requests.left_out,
            refused: requests.refused.clone(),
        }
    }

    fn bad(&self) -> u64 {
        self.sources.iter().map(|told| told.bad).sum()
    }

    /// What could be done about there being nothing.
    pub(super) fn hint(&self) -> &'static str {
        let no_host = |told: &Told| told.first_bad.iter().any(|(_, bad)| *bad == crate::compare::Bad::NoHost);
        if self.sources.iter().any(no_host) {
            "\nhint: `--host` names the host of records that have none"
        } else if !self.refused.is_empty() {
            "\nhint: `--methods` allows others than GET, HEAD and OPTIONS"
        } else {
            ""
        }
    }
}

fn words(format: Format) -> &'static str {
    match format {
        Format::Clf => "Common Log Format",
        Format::Caddy => "Caddy's JSON",
        Format::Traefik => "Traefik's JSON",
        Format::Json => "JSON",
        Format::Har => "an HTTP archive",
        Format::Urls => "URLs",
        Format::Rawdata => "the routers of an instance",
    }
}

/// How each source was read, and what of it could not be.
pub(super) fn sources(err: &mut dyn Write, style: Style, read: &Read) -> io::Result<()> {
    for told in &read.sources {
        let guessed = if told.guessed {
            format!(" (guessed; else `--format`; this is `{}`)", told.format.as_str())
        } else {
            String::new()
        };
        let left = told.left_at.map_or_else(String::new, |at| format!(", not read beyond {at} (`--limit`)"));
        let records = told.records;
        writeln!(err, "{}: {records} records of {}{guessed}{left}", told.source, words(told.format))?;
        for (place, bad) in &told.first_bad {
            writeln!(err, "{} {place}: {bad}", style.yellow("warning:"))?;
        }
        let more = told.bad - u64::try_from(told.first_bad.len()).unwrap_or(0);
        if more > 0 {
            writeln!(err, "{} {}: {more} more that cannot be read or sent", style.yellow("warning:"), told.source)?;
        }
    }
    for line in read.without.iter().take(HOSTS) {
        writeln!(err, "{} {line}: not asked for", style.yellow("warning:"))?;
    }
    if let Some(more) = read.without.len().checked_sub(HOSTS).filter(|more| *more > 0) {
        writeln!(err, "{} {more} more routers are not asked for", style.yellow("warning:"))?;
    }
    Ok(())
}

/// What was left out, and why.
pub(super) fn counts(out: &mut dyn Write, style: Style, counts: &Counts) -> io::Result<()> {
    let mut skipped = Vec::new();
    for (method, number) in &counts.refused {
        skipped.push(format!("{number} {method} (`--methods`)"));
    }
    if counts.left_out > 0 {
        skipped.push(format!("{} not in the sample", counts.left_out));
    }
    if counts.bad() > 0 {
        skipped.push(format!("{} bad records", counts.bad()));
    }
    if !skipped.is_empty() {
        writeln!(out, "{} {}", style.dim("left out:"), skipped.join(", "))?;
    }
    Ok(())
}

/// Whether more is to be said of it than that it is the same.
pub(super) fn is_worth_telling(verdict: &Verdict) -> bool {
    !verdict.differences.is_empty() || !verdict.unstable.is_empty()
}

fn names(aspects: &BTreeSet<Aspect>) -> String {
    aspects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A verdict with its request.
pub(super) fn verdict(out: &mut dyn Write, style: Style, work: &Replay, verdict: &Verdict) -> io::Result<()> {
    let Some(request) = work.requests.get(verdict.request) else { return Ok(()) };
    let kind = if verdict.differences.is_empty() { style.yellow("unstable ") } else { style.red("different") };
    let times = if request.times > 1 { format!(", {} times", request.times) } else { String::new() };
    let place = style.dim(&format!("({}{times})", request.place));
    writeln!(out, "{kind} {} {} {place}", request.method, style.bold(&request.url()))?;
    for (name, value) in request.shown_headers() {
        writeln!(out, "  with {name}: {value}")?;
    }
    // an error page has other fields, too: few of them say more
    let status = verdict.differences.iter().any(|d| d.aspect == Aspect::Status);
    let (mut fields, mut hidden) = (0, 0);
    for Difference { aspect, old, new } in &verdict.differences {
        if matches!(aspect, Aspect::Header(_)) {
            fields += 1;
            if status && fields > FIELDS {
                hidden += 1;
                continue;
            }
        }
        let again = if verdict.wavering.contains(aspect) { style.yellow(" (not every time)") } else { String::new() };
        writeln!(out, "  {aspect}: {old} -> {new}{again}")?;
    }
    if hidden > 0 {
        writeln!(out, "  and {hidden} other header{}", if hidden == 1 { "" } else { "s" })?;
    }
    if !verdict.unstable.is_empty() {
        writeln!(out, "  the old proxy differs from itself in: {}", names(&verdict.unstable))?;
    }
    Ok(())
}

/// What is kept for the end.
pub(super) struct Report {
    work: Arc<Replay>,
    counts: Counts,
    tally: Tally,
    kept: Vec<Verdict>,
}

impl Report {
    pub(super) fn new(work: Arc<Replay>, counts: Counts) -> Self {
        Self { work, counts, tally: Tally::default(), kept: Vec::new() }
    }

    pub(super) fn add(&mut self, verdict: Verdict) {
        if let Some(request) = self.work.requests.get(verdict.request) {
            self.tally.add(request, &verdict);
        }
        if is_worth_telling(&verdict) && self.kept.len() < KEPT {
            self.kept.push(verdict);
        }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many requests are asked for over another scheme than theirs, with the old and the new proxy.
    fn changed(&self) -> [usize; 2] {
        let count = |proxy: &crate::compare::Proxy| {
            self.work.requests.iter().filter(|request| proxy.changes(request.scheme)).count()
        };
        [count(&self.work.old), count(&self.work.new)]
    }

    fn held_back(&self) -> usize {
        self.work.requests.iter().filter(|request| request.held_back).count()
    }

    pub(super) fn summary(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let Tally { compared, same, different, unstable, unanswered, .. } = self.tally;
        let paint = |number: u64, text: &str, bad: bool| {
            let text = format!("{number} {text}");
            if number > 0 && bad { style.red(&text) } else { text }
        };
        writeln!(
            out,
            "compared {compared} requests (of {} recorded): {} the same, {}, {}",
            self.counts.found,
            same,
            paint(different, "different", true),
            paint(unstable, "unstable", false),
        )?;
        let mut hosts: Vec<(&String, &u64)> = self.tally.hosts.iter().collect();
        hosts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        if !hosts.is_empty() {
            let more = hosts.len().saturating_sub(HOSTS);
            let mut text: Vec<String> = hosts.iter().take(HOSTS).map(|(host, n)| format!("{host} {n}")).collect();
            if more > 0 {
                text.push(format!("{more} more hosts"));
            }
            writeln!(out, "{} {}", style.dim("different by host:"), text.join(", "))?;
        }
        let mut aspects: Vec<(&Aspect, &u64)> = self.tally.aspects.iter().collect();
        aspects.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        if !aspects.is_empty() {
            let more = aspects.len().saturating_sub(HOSTS);
            let mut text: Vec<String> = aspects.iter().take(HOSTS).map(|(aspect, n)| format!("{aspect} {n}")).collect();
            if more > 0 {
                text.push(format!("{more} more"));
            }
            writeln!(out, "{} {}", style.dim("different in:"), text.join(", "))?;
        }
        if unanswered > 0 {
            let why = self.tally.why_unanswered.as_deref().unwrap_or_default();
            writeln!(out, "{} {unanswered}: {why}", style.dim("answered by neither:"))?;
        }
        for (number, which) in self.changed().into_iter().zip(["old", "new"]) {
            if number > 0 {
                writeln!(
                    out,
                    "{} {number} requests asked of the {which} proxy by another scheme than the recorded one: it was given one address",
                    style.dim("note:")
                )?;
            }
        }
        let [old, new] = self.tally.protocols.each_ref().map(|spoken| spoken.iter().copied().collect::<Vec<_>>());
        if old != new && !old.is_empty() && !new.is_empty() {
            let (old, new) = (old.join(" and "), new.join(" and "));
            writeln!(out, "{} the old proxy answers by {old}, the new one by {new}", style.dim("note:"))?;
        }
        let held_back = self.held_back();
        if held_back > 0 {
            writeln!(
                out,
                "{} {held_back} requests sent without their cookies and Authorization (`--credentials`)",
                style.dim("note:")
            )?;
        }
        counts(out, style, &self.counts)?;
        let shown = |times: &Times| {
            let at = |share| times.quantile(share).map_or_else(|| "-".to_owned(), milliseconds);
            format!("{} median, {} p95, {} p99", at(0.5), at(0.95), at(0.99))
        };
        writeln!(out, "{} old {}; new {}", style.dim("time:"), shown(&self.tally.old), shown(&self.tally.new))
    }

    pub(super) fn json(&self, out: &mut dyn Write, whole: bool) -> io::Result<()> {
        let Tally { compared, same, different, unstable, unanswered, .. } = self.tally;
        let sources = self.counts.sources.iter().map(|told| {
            let bad = |(place, bad): &(crate::compare::Place, crate::compare::Bad)| {
                json!({"at": place.line, "message": bad.to_string()})
            };
            json!({
                "source": &*told.source, "format": told.format.as_str(), "guessed": told.guessed, "records": told.records,
                "others": told.others, "bad": told.bad, "firstBad": told.first_bad.iter().map(bad).collect::<Vec<_>>(),
                "leftAt": told.left_at,
            })
        });
        let of = |verdict: &&Verdict| !verdict.differences.is_empty();
        let list = |wanted: bool| -> Vec<Value> {
            self.kept.iter().filter(|verdict| of(verdict) == wanted).map(|verdict| self.verdict(verdict)).collect()
        };
        let times = |times: &Times| {
            let at = |share| times.quantile(share).map(|time| (time.as_secs_f64() * 1e6).round() / 1e3);
            json!({"answers": times.count(), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0)})
        };
        let addresses =
            |proxy: &crate::compare::Proxy| proxy.addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
        let [by_other_old, by_other_new] = self.changed();
        let document = json!({
            "same": whole && different == 0 && compared > 0,
            "whole": whole,
            "old": addresses(&self.work.old),
            "new": addresses(&self.work.new),
            "sources": sources.collect::<Vec<_>>(),
            "requests": {
                "recorded": self.counts.found, "distinct": self.counts.different, "compared": compared, "same": same,
                "different": different, "unstable": unstable, "unanswered": unanswered, "bad": self.counts.bad(),
                "leftOut": {"methods": self.counts.refused, "sample": self.counts.left_out},
                "routersWithout": self.counts.without,
                "byOtherScheme": {"old": by_other_old, "new": by_other_new}, "withoutCredentials": self.held_back(),
            },
            "hosts": self.tally.hosts,
            "aspects": self.tally.aspects.iter().map(|(aspect, n)| (aspect.to_string(), *n)).collect::<BTreeMap<_, _>>(),
            "protocols": {"old": self.tally.protocols[0], "new": self.tally.protocols[1]},
            "differences": list(true),
            "unstable": list(false),
            "milliseconds": {"old": times(&self.tally.old), "new": times(&self.tally.new)},
        });
        serde_json::to_writer_pretty(&mut *out, &document)?;
        writeln!(out)
    }

    fn verdict(&self, verdict: &Verdict) -> Value {
        let Some(request) = self.work.requests.get(verdict.request) else { return Value::Null };
        let difference = |d: &Difference| {
            let mut value = match &d.aspect {
                Aspect::Header(name) => json!({"what": "header", "name": name}),
                other => json!({"what": other.to_string()}),
            };
            value["old"] = json!(d.old);
            value["new"] = json!(d.new);
            value["everyTime"] = json!(!verdict.wavering.contains(&d.aspect));
            value
        };
        json!({
            "method": request.method.as_str(), "url": request.url(),
            "headers": request.shown_headers().into_iter().collect::<BTreeMap<_, _>>(),
            "source": &*request.place.source, "at": request.place.line, "times": request.times,
            "askedAgain": verdict.repeated,
            "differences": verdict.differences.iter().map(difference).collect::<Vec<_>>(),
            "unstable": verdict.unstable.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
