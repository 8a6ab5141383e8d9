//! Switches that succeed, under load; what they cost is printed.

use super::all;
use super::bed::{Bed, Tls, echoes, goes_on, program};
use super::load::{Load, Outcome};
use std::io::Write;
use std::time::{Duration, Instant};

const NEEDED: &[&str] = &["supervisord", "caddy", "curl"];
const RATE: u32 = 500;
const STREAMS: usize = 20;

/// To the terminal: the harness swallows a passing test's output.
fn tell(what: &str, took: Duration, outcome: &Outcome, kept: usize) {
    let rest = outcome.other.len();
    drop(writeln!(
        std::io::stderr(),
        "{what}: took {took:.1?}; {} requests: {} refused (for {:.1?}), {} reset, {rest} other; {kept} of {STREAMS} streams kept",
        outcome.requests,
        outcome.refused,
        outcome.refused_for(),
        outcome.reset,
    ));
}

fn streams(bed: &Bed) -> Vec<Tls> {
    (0..STREAMS).map(|_| bed.stream("a.test")).collect()
}

fn kept(streams: &mut [Tls]) -> usize {
    streams.iter_mut().map(echoes).filter(|kept| *kept).count()
}

/// Whether the kernel moves what waits at a socket that closes; only then nothing of it is reset.
fn migrates() -> bool {
    std::fs::OpenOptions::new().write(true).open("/proc/sys/net/ipv4/tcp_migrate_req").is_ok()
}

#[test]
fn from_caddy_to_rust_lb_and_back_under_load() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test", "b.test"]);
    bed.start("caddy");
    let certificates = [bed.served_by("caddy", "a.test"), bed.served_by("caddy", "b.test")];
    bed.is("rust-lb", "EXITED");
    // Caddy closes WebSockets by itself as soon as it is told to end; answers go on until supervisord's limit for it.
    let mut web_sockets = streams(&bed);
    let mut open: Vec<Tls> = (0..STREAMS).map(|_| bed.answer("a.test")).collect();
    let load = Load::start(bed.http, RATE);
    let begun = Instant::now();
    let (code, said) = bed.switch(&["rust-lb"]);
    let took = begun.elapsed();
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    let streams_kept = open.iter_mut().map(goes_on).filter(|kept| *kept).count();
    let outcome = load.finish();
    tell("proxy-switch rust-lb", took, &outcome, streams_kept);
    let left = kept(&mut web_sockets);
    drop(writeln!(std::io::stderr(), "  and {left} of {STREAMS} WebSockets, which are Caddy's to keep"));
    assert_eq!((outcome.refused, &*outcome.other, streams_kept), (0, &[][..], STREAMS));
    assert!(outcome.reset == 0 || !migrates(), "{outcome:?}");
    let now = [bed.served_by("rust-lb", "a.test"), bed.served_by("rust-lb", "b.test")];
    assert!(now == certificates, "the same certificates");
    drop(open);
    bed.is("caddy", "STOPPED");
    bed.is("caddy-restarter", "STOPPED");
    let (code, said) = bed.switch(&["--status"]);
    assert!(code == 0 && said.contains("chosen: rust-lb (") && said.contains("before: caddy"), "{said}");
    // Who starts Caddy by habit starts nothing.
    bed.supervisorctl(&["start", "caddy"]);
    bed.is("caddy", "EXITED");

    let mut open = streams(&bed);
    let load = Load::start(bed.http, RATE);
    let begun = Instant::now();
    let (code, said) = bed.switch(&["--rollback"]);
    let took = begun.elapsed();
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    let streams_kept = kept(&mut open);
    let outcome = load.finish();
    tell("proxy-switch --rollback", took, &outcome, streams_kept);
    assert_eq!((outcome.refused, &*outcome.other, streams_kept), (0, &[][..], STREAMS));
    assert!(outcome.reset == 0 || !migrates(), "{outcome:?}");
    let now = [bed.served_by("caddy", "a.test"), bed.served_by("caddy", "b.test")];
    assert!(now == certificates, "the same certificates");
    bed.is("caddy-restarter", "RUNNING");
}

#[test]
fn a_reload_has_no_gap_and_a_restart_a_short_one() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    // Caddy makes the root that the streams trust.
    bed.start("caddy");
    bed.served_by("caddy", "a.test");
    let (code, said) = bed.switch(&["rust-lb"]);
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    bed.served_by("rust-lb", "a.test");
    let mut open = streams(&bed);
    let load = Load::start(bed.http, RATE);
    let begun = Instant::now();
    let (code, said) = bed.switch(&["--reload"]);
    let took = begun.elapsed();
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    let streams_kept = kept(&mut open);
    let outcome = load.finish();
    tell("proxy-switch --reload", took, &outcome, streams_kept);
    assert_eq!((outcome.refused, outcome.reset, &*outcome.other, streams_kept), (0, 0, &[][..], STREAMS));

    let load = Load::start(bed.http, RATE);
    let begun = Instant::now();
    bed.supervisorctl(&["restart", "rust-lb"]);
    let took = begun.elapsed();
    bed.served_by("rust-lb", "a.test");
    let streams_kept = kept(&mut open);
    let outcome = load.finish();
    tell("supervisorctl restart rust-lb", took, &outcome, streams_kept);
    assert_eq!(streams_kept, STREAMS, "streams drain beside the next one\n{}", bed.log());
}

#[test]
fn a_box_that_starts_without_catalogs_serves_what_it_knew() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    bed.start("rust-lb");
    bed.served_at_http();
    bed.is("caddy", "EXITED");
    bed.wait_until_kept("a.test");
    bed.stop();
    bed.catalog = None;
    bed.start("rust-lb");
    let up = bed.supervisor_up();
    let first = bed.served_at_http();
    drop(writeln!(std::io::stderr(), "supervisord up until the last known routes are served: {:.0?}", first - up));
}

/// Those that exist for Caddy follow the choice; where consul-template was not kept, its file is rendered for the way back.
#[test]
fn what_exists_for_caddy_follows_it() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test", "b.test"]);
    let [rendered, caddyfile] = ["etc/rendered", "etc/Caddyfile"].map(|name| bed.path(name).display().to_string());
    std::fs::rename(&caddyfile, &rendered).expect("renamed");
    bed.caddyfile(&["a.test"]);
    let script =
        format!("#!/bin/sh\ncase $1 in -once) exec cp '{rendered}' '{caddyfile}' ;; esac\nexec sleep 100000\n");
    program(&bed.path("bin/consul-template"), &script);
    bed.start("rust-lb");
    bed.served_at_http();
    bed.is("caddy-restarter", "EXITED");
    // By default it goes on: the file is fresh even where the catalogs are down at the time of the way back.
    bed.is("consul-template", "RUNNING");
    bed.stop();
    bed.env.insert("PROXY_KEEP_CADDYFILE".to_owned(), "0".to_owned());
    bed.start("rust-lb");
    bed.served_at_http();
    bed.is("consul-template", "EXITED");
    // Whoever starts the restarter by habit brings up no Caddy.
    bed.supervisorctl(&["start", "caddy-restarter"]);
    bed.is("caddy-restarter", "EXITED");
    bed.is("caddy", "EXITED");
    // The file knew one host only.
    let (code, said) = bed.switch(&["caddy"]);
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    bed.served_by("caddy", "b.test");
    bed.is("consul-template", "RUNNING");
    bed.is("caddy-restarter", "RUNNING");
    let (code, said) = bed.switch(&["rust-lb"]);
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    bed.is("consul-template", "STOPPED");
    // Where it cannot be rendered, what there is is taken.
    program(&bed.path("bin/consul-template"), "#!/bin/sh\necho 'no catalog' >&2\nexit 1\n");
    let (code, said) = bed.switch(&["--rollback"]);
    assert!(code == 0 && said.contains("cannot render") && said.contains("no catalog"), "{code}\n{said}");
    bed.served_by("caddy", "b.test");
}
