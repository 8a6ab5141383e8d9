//! The way of a request, and the state of a service, as people read them.

use super::ask::{Proxy, Question, Told};
use crate::cli::FAILED;
use crate::cli::output::{self, Style};
use crate::diagnostic::Diagnostic;
use crate::table::{Failure, Router, Server};
use std::io::{self, Write};
use std::sync::Arc;

/// Routers that were asked before the one that took the request: no more are shown.
const MAX_ASKED: usize = 20;

/// Tells the way of a request. Gives the exit code.
pub(super) fn request(
    question: &Question,
    told: &Told,
    proxy: &Proxy,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let tls = if told.tls { "TLS" } else { "plain" };
    writeln!(
        out,
        "{} {}",
        style.bold("request      "),
        style.bold(&format!("{} {}", question.method, question.target))
    )?;
    writeln!(out, "entry point   {} ({tls})", told.entry_point)?;
    if let Some(explanation) = &told.explanation {
        let (host, path) = &told.seen;
        writeln!(out, "rules see     host `{host}`, path `{path}`")?;
        writeln!(out, "\n{}", style.bold("routers asked, in order"))?;
        if explanation.asked.is_empty() {
            writeln!(out, "  none: no router is for this host, and none is for any host")?;
        }
        let hidden = explanation.asked.len().saturating_sub(MAX_ASKED);
        if hidden > 0 {
            writeln!(out, "  {} …", style.dim(&format!("{hidden} that refused")))?;
        }
        for asked in explanation.asked.iter().skip(hidden) {
            let takes = explanation.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &asked.router));
            let mark = if takes { style.green("takes it") } else { style.red("refuses ") };
            writeln!(out, "  {mark} {} (priority {})", asked.router.id, asked.router.priority)?;
            rule(&asked.router, &asked.failures, style, out)?;
        }
        for loser in &explanation.shadows {
            writeln!(out, "  {} {loser} has the same rule and priority and gets nothing", style.yellow("shadowed"))?;
        }
        if !explanation.near.is_empty() {
            writeln!(out, "\n{}", style.bold("what would nearly have taken it"))?;
            for near in &explanation.near {
                writeln!(out, "  {} (priority {})", near.router.id, near.router.priority)?;
                if near.elsewhere {
                    let only = if near.router.tls { ", with TLS only" } else { "" };
                    let places = near.router.entry_points.join("`, `");
                    writeln!(out, "      its rule holds, but it answers on `{places}`{only}")?;
                } else {
                    rule(&near.router, &near.failures, style, out)?;
                }
            }
        }
        if let Some(router) = &explanation.taken {
            parts(router, style, out)?;
        }
    }
    writeln!(out)?;
    let code = verdict(told, style, out)?;
    let service = told.explanation.as_ref().and_then(|e| e.taken.as_ref()).map(|r| r.declared.source.service.clone());
    let (host, _) = &told.seen;
    let concerns = |problem: &&Diagnostic| match &service {
        Some(service) if told.answer.outcome != "no_server" => {
            problem.origin.service.as_ref() == Some(service) && problem.is_error()
        }
        Some(service) => problem.origin.service.as_ref() == Some(service),
        // of a request that nobody takes all that was refused may be to blame; first what names its host
        None => problem.is_error() || problem.message.contains(&**host),
    };
    let mut problems: Vec<&Diagnostic> = proxy.problems.iter().filter(concerns).collect();
    problems.sort_by_key(|problem| !problem.message.contains(&**host));
    if !problems.is_empty() {
        writeln!(out, "\n{}", style.bold("what was refused"))?;
    }
    for problem in problems {
        output::diagnostic(out, problem, style)?;
    }
    Ok(code)
}

/// A rule, with marks under what failed.
fn rule(router: &Router, failures: &[Failure], style: Style, out: &mut dyn Write) -> io::Result<()> {
    // on one line, so that marks stand under their places
    let text: String = router.rule.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(out, "      {text}")?;
    if failures.is_empty() {
        return Ok(());
    }
    let mut marks = String::new();
    for (at, _) in router.rule.char_indices() {
        marks.push(if failures.iter().any(|failure| failure.span.contains(&at)) { '^' } else { ' ' });
    }
    let negated = failures.iter().all(|failure| failure.negated);
    let why = if negated { "holds, and must not" } else { "does not hold" };
    writeln!(out, "      {} {why}", style.red(marks.trim_end()))
}

/// Middlewares, service and servers.
fn parts(router: &Router, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if !router.middlewares.is_empty() {
        writeln!(out, "\n{}", style.bold("middlewares"))?;
    }
    for middleware in &router.middlewares {
        let kind = serde_json::to_string(&middleware.kind).unwrap_or_default();
        writeln!(out, "  {} {}", middleware.id, style.dim(&kind))?;
    }
    let service = &router.service;
    writeln!(out, "\n{} {} ({:?})", style.bold("service"), service.id, service.strategy)?;
    let server = |server: &Arc<Server>| format!("  {} weight {}", server.id.url, server.weight);
    if service.servers.is_empty() {
        writeln!(out, "  {}", style.red("it has no server: none of its instances is healthy, or none can be reached"))?;
    }
    service.servers.iter().try_for_each(|s| writeln!(out, "{}", server(s)))
}

fn verdict(told: &Told, style: Style, out: &mut dyn Write) -> io::Result<u8> {
    let answer = &told.answer;
    let status = answer.status.unwrap_or_default();
    let text = match (answer.outcome, &answer.upstream) {
        ("proxied", Some(to)) => {
            let line = format!("proxied to {}://{} as `{}`, Host `{}`", to.scheme, to.addr, to.request_uri, to.host);
            writeln!(out, "{} {}", style.bold("answer"), style.green(&line))?;
            return Ok(0);
        }
        ("redirect", _) => {
            let line = format!("{status}, redirect to {}", answer.location.as_deref().unwrap_or_default());
            writeln!(out, "{} {}", style.bold("answer"), style.green(&line))?;
            return Ok(0);
        }
        ("no_route", _) => "no router takes it",
        ("no_server", _) => "the service has no server",
        ("denied", _) => "an access rule of the route does not let this client in",
        ("unauthorized", _) => "the route asks for a password, or for one that nobody can give",
        _ => "the request is not acceptable",
    };
    writeln!(out, "{} {}", style.bold("answer"), style.red(&format!("{status}: {text}")))?;
    Ok(FAILED)
}

/// Tells why a service is or is not routed. Gives the exit code.
pub(super) fn service(name: &str, proxy: &Proxy, style: Style, out: &mut dyn Write) -> io::Result<u8> {
    let instances: Vec<_> = proxy
        .world
        .sources
        .values()
        .flat_map(|inventory| inventory.services.values())
        .filter(|service| *service.key.name == *name)
        .flat_map(|service| &service.instances)
        .collect();
    if instances.is_empty() {
        writeln!(out, "{}", style.red(&format!("there is no service `{name}`")))?;
        return Ok(FAILED);
    }
    for instance in instances {
        let address = instance.dial_address().unwrap_or("no address");
        let state = format!("{:?}", instance.health).to_lowercase();
        writeln!(out, "{} {} at {address}:{}, {state}", style.bold("instance"), instance.id, instance.port)?;
        for tag in &instance.tags {
            let problems: Vec<_> = proxy
                .problems
                .iter()
                .filter(|p| p.origin.tag.as_ref() == Some(tag) && p.origin.service.as_deref() == Some(name))
                .collect();
            writeln!(out, "  tag {tag}")?;
            for problem in problems {
                output::diagnostic(out, problem, style)?;
            }
        }
    }
    let general = |p: &&Diagnostic| p.origin.tag.is_none() && p.origin.service.as_deref() == Some(name);
    for problem in proxy.problems.iter().filter(general) {
        output::diagnostic(out, problem, style)?;
    }
    let mut code = FAILED;
    for router in proxy.table.routers.values().filter(|router| *router.declared.source.service == *name) {
        writeln!(out, "\n{} {} on `{}`", style.bold("router"), router.id, router.entry_points.join("`, `"))?;
        rule(router, &[], style, out)?;
        match proxy.table.shadowed.get(&router.id) {
            Some(winner) => writeln!(out, "  {} gets nothing: {winner} has the same rule", style.yellow("shadowed"))?,
            None => code = 0,
        }
        parts(router, style, out)?;
    }
    if code != 0 {
        writeln!(out, "\n{}", style.red("nothing routes to this service"))?;
    }
    Ok(code)
}
