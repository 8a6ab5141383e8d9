//! What became of a service, as people read it.

use super::tell::{backend, catalogs, place, rule};
use crate::cli::output::{self, Style};
use crate::explain::{Fate, ServiceReport, Standing};
use std::io::{self, Write};

/// Instances that are shown.
const MAX_INSTANCES: usize = 20;

/// Tells what became of a service.
pub(super) fn tell(report: &ServiceReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    catalogs(&report.catalogs, style, out)?;
    if report.found.is_empty() {
        writeln!(out, "{}", style.red(&report.remark))?;
        for near in &report.near {
            writeln!(out, "  did you mean {}?", style.bold(&place(&near.provider, &near.namespace, &near.name)))?;
        }
        return Ok(());
    }
    for (at, standing) in report.found.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        stand(standing, style, out)?;
    }
    let gets = |fate| matches!(fate, Fate::Served | Fate::Kept);
    if !report.served {
        let routed = report.found.iter().flat_map(|found| &found.routers).any(|router| gets(router.fate));
        let says = if routed { "it is routed, and has no server" } else { "nothing routes to this service" };
        writeln!(out, "\n{}", style.red(says))?;
    }
    Ok(())
}

fn stand(standing: &Standing, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let named = &standing.named;
    writeln!(out, "{} {}", style.bold("service"), place(&named.provider, &named.namespace, &named.name))?;
    for instance in standing.instances.iter().take(MAX_INSTANCES) {
        let health = match instance.health.as_str() {
            "passing" => style.green("passing"),
            "unknown" => "health not told by the catalog".to_owned(),
            other => style.red(other),
        };
        writeln!(out, "  instance {} at {}, {health}", instance.id, instance.address)?;
    }
    if let Some(more) = standing.instances.len().checked_sub(MAX_INSTANCES).filter(|more| *more > 0) {
        writeln!(out, "  … and {more} more")?;
    }
    writeln!(out, "\n{}", style.bold("tags"))?;
    for tag in &standing.tags {
        let (mark, what) = match tag.state.as_str() {
            "read" => (style.green("read    "), tag.says.as_str()),
            "remark" => (style.yellow("remark  "), tag.says.as_str()),
            "refused" => (style.red("refused "), tag.says.as_str()),
            "not_counted" => (style.yellow("ignored "), tag.says.as_str()),
            _ => (style.dim("-       "), "routes nothing"),
        };
        writeln!(out, "  {mark} tag {}  {}", tag.tag, style.dim(&format!("({what})")))?;
        for problem in &tag.problems {
            output::diagnostic(out, problem, style)?;
        }
    }
    if !standing.reasons.is_empty() || !standing.problems.is_empty() {
        writeln!(out, "\n{}", style.bold("what is wrong"))?;
    }
    for problem in standing.reasons.iter().chain(&standing.problems) {
        output::diagnostic(out, problem, style)?;
    }
    for router in &standing.routers {
        let places = router.entry_points.join("`, `");
        let places = if places.is_empty() { String::new() } else { format!(" on `{places}`") };
        let tls = if router.tls { ", TLS only" } else { "" };
        let priority = if router.priority == 0 { String::new() } else { format!(" (priority {})", router.priority) };
        writeln!(out, "\n{} {}{places}{tls}{priority}", style.bold("router"), router.router)?;
        if !router.rule.is_empty() {
            rule(&router.rule, &[], style, out)?;
        }
        let fate = match router.fate {
            Fate::Served if router.why.is_empty() => style.green("served"),
            Fate::Served => style.yellow("served"),
            Fate::Kept => style.yellow("kept"),
            Fate::Shadowed => style.yellow("shadowed, it gets nothing"),
            Fate::Refused => style.red("refused"),
            Fate::Conflict => style.red("lost its name"),
        };
        match &router.why[..] {
            [] => writeln!(out, "  {fate}")?,
            all => all.iter().try_for_each(|why| writeln!(out, "  {fate}: {why}"))?,
        }
        if !router.middlewares.is_empty() {
            writeln!(out, "  middlewares {}", router.middlewares.join(", "))?;
        }
        if let Some(of) = &router.backend {
            writeln!(out, "  service {} ({})", of.service, of.strategy)?;
            backend(of, style, out)?;
        }
        if let Some(example) = router.example.as_ref().filter(|_| matches!(router.fate, Fate::Served | Fate::Kept)) {
            writeln!(out, "  try {example}")?;
        }
    }
    Ok(())
}
