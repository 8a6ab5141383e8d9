//! The way of a request as people read it.

use crate::cli::output::{self, Style};
use crate::explain::{Backend, Candidate, Catalog, Fail, Report};
use std::io::{self, Write};

/// Routers that were asked before the one that took the request: no more are shown.
const MAX_ASKED: usize = 20;

/// Tells the way of a request.
pub(super) fn request(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let tls = if report.tls { "TLS" } else { "plain" };
    let url = style.bold(&format!("{} {}", report.request.method, report.url));
    writeln!(out, "{} {url}", style.bold("request      "))?;
    if !report.request.remote.is_empty() {
        writeln!(out, "client        {}", report.request.remote)?;
    }
    writeln!(out, "entry point   {} ({tls})", report.entry_point)?;
    if let Some(seen) = &report.seen {
        writeln!(out, "rules see     host `{}`, path `{}`", seen.host, seen.path)?;
    }
    for remark in &report.remarks {
        writeln!(out, "{} {remark}", style.yellow("note         "))?;
    }
    catalogs(&report.catalogs, style, out)?;
    if report.seen.is_some() {
        writeln!(out, "\n{}", style.bold("routers asked, in order"))?;
        if report.routers.is_empty() {
            writeln!(out, "  none: no router is for this host, and none is for any host")?;
        }
        let hidden = report.routers.len().saturating_sub(MAX_ASKED);
        if hidden > 0 {
            writeln!(out, "  {} …", style.dim(&format!("{hidden} that refused")))?;
        }
        for asked in report.routers.iter().skip(hidden) {
            let mark = if asked.takes { style.green("takes it") } else { style.red("refuses ") };
            candidate(&mark, asked, style, out)?;
        }
        for behind in &report.behind {
            candidate(&style.yellow("behind  "), behind, style, out)?;
        }
        if !report.near.is_empty() {
            writeln!(out, "\n{}", style.bold("what would nearly have taken it"))?;
        }
        for near in &report.near {
            candidate(&style.yellow("near    "), near, style, out)?;
        }
    }
    if !report.middlewares.is_empty() {
        writeln!(out, "\n{}", style.bold("middlewares"))?;
    }
    for step in &report.middlewares {
        writeln!(out, "  {}: {}", step.middleware, step.does)?;
        writeln!(out, "      {}", style.dim(&step.definition.to_string()))?;
    }
    if let Some(of) = &report.backend {
        writeln!(out, "\n{} {} ({})", style.bold("service"), of.service, of.strategy)?;
        backend(of, style, out)?;
    }
    if !report.services.is_empty() {
        writeln!(out, "\n{}", style.bold("services of the catalog that this host concerns"))?;
    }
    for concerned in &report.services {
        writeln!(out, "  {}", place(&concerned.named.provider, &concerned.named.namespace, &concerned.named.name))?;
        for why in &concerned.why {
            output::diagnostic(out, why, style)?;
        }
        let name = &concerned.named.name;
        writeln!(out, "  {}", style.dim(&format!("more: rust-lb explain --service {name}")))?;
    }
    if !report.problems.is_empty() {
        writeln!(out, "\n{}", style.bold("what was refused"))?;
    }
    for problem in &report.problems {
        output::diagnostic(out, problem, style)?;
    }
    let good = matches!(&*report.answer.outcome, "proxied" | "redirect");
    let says = if good { style.green(&report.says) } else { style.red(&report.says) };
    let reason = match &report.reason {
        Some(reason) if !good => style.dim(&format!(" [{reason}]")),
        _ => String::new(),
    };
    writeln!(out, "\n{} {says}{reason}", style.bold("answer"))
}

/// `name@provider`, with the namespace where there is one.
pub(super) fn place(provider: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{name}@{provider}")
    } else {
        format!("{name}@{provider} in namespace `{namespace}`")
    }
}

/// Catalogs that are not as they should be.
pub(super) fn catalogs(catalogs: &[Catalog], style: Style, out: &mut dyn Write) -> io::Result<()> {
    catalogs.iter().try_for_each(|catalog| writeln!(out, "{} {}", style.yellow("catalog      "), catalog.says))
}

fn candidate(mark: &str, candidate: &Candidate, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let by = match &*candidate.declared_by {
        "" => String::new(),
        service => style.dim(&format!(", by service `{service}`")),
    };
    writeln!(out, "  {mark} {} (priority {}){by}", candidate.router, candidate.priority)?;
    rule(&candidate.rule, &candidate.failures, style, out)?;
    if !candidate.why.is_empty() {
        writeln!(out, "      {}", candidate.why)?;
    }
    Ok(())
}

/// A rule, with marks under what failed.
pub(super) fn rule(rule: &str, failures: &[Fail], style: Style, out: &mut dyn Write) -> io::Result<()> {
    // on one line, so that marks stand under their places
    let text: String = rule.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(out, "      {text}")?;
    if failures.is_empty() {
        return Ok(());
    }
    let mut marks = String::new();
    for (at, _) in rule.char_indices() {
        marks.push(if failures.iter().any(|f| (f.span.0..f.span.1).contains(&at)) { '^' } else { ' ' });
    }
    let mut why: Vec<&str> = failures.iter().map(|f| f.why.as_str()).filter(|why| !why.is_empty()).collect();
    why.dedup();
    let why = if why.is_empty() { "does not hold".to_owned() } else { why.join("; ") };
    writeln!(out, "      {} {why}", style.red(marks.trim_end()))
}

/// Servers, and the one that would be chosen.
pub(super) fn backend(backend: &Backend, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for server in &backend.servers {
        let of =
            if server.service.is_empty() { String::new() } else { format!("{} of {}", server.url, server.service) };
        let server_of = if of.is_empty() { &server.url } else { &of };
        let mut line = format!("  {server_of} weight {}", server.weight);
        match server.up {
            Some(true) => line.push_str(", up"),
            Some(false) => line.push_str(&format!(", {}", style.red("left alone: it refused connections"))),
            None => {}
        }
        if let Some(in_flight) = server.in_flight {
            line.push_str(&format!(", {in_flight} in flight"));
        }
        if server.chosen {
            line.push_str(&format!("  {}", style.green("<- the next request of this client")));
        }
        writeln!(out, "{line}")?;
    }
    if backend.remark.is_empty() { Ok(()) } else { writeln!(out, "  {}", style.red(&backend.remark)) }
}
