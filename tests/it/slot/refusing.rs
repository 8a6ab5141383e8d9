//! Bad input: each leaves a proxy that serves, and a message that says what is wrong.

use super::super::support::eventually;
use super::all;
use super::bed::{Bed, program};
use std::path::Path;
use std::process::Command;

const NEEDED: &[&str] = &["supervisord", "caddy", "curl"];

/// The phase of the switch that is under way, and who switches.
fn under_way(bed: &Bed) -> Option<(String, String)> {
    let text = std::fs::read_to_string(bed.path("run/switch")).ok()?;
    let mut words = text.split_whitespace().skip(2).map(str::to_owned);
    Some((words.next()?, words.next()?))
}

#[test]
fn what_cannot_be_switched_to_changes_nothing() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test", "b.test"]);
    bed.start("caddy");
    bed.served_by("caddy", "a.test");
    bed.served_by("caddy", "b.test");
    let broken = bed.path("bin/broken");
    std::fs::write(&broken, "").expect("written");
    // A port that somebody else has.
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("bound").port().to_string();
    let (absent, broken) = (bed.path("absent").display().to_string(), broken.display().to_string());
    let nowhere = bed.path("etc/Caddyfile/host").display().to_string();
    let refused = [
        (&["nginx"][..], ("X", "x"), 2, "is none of"),
        (&["rust-lb", "caddy"][..], ("X", "x"), 2, "usage"),
        (&["rust-lb"][..], ("PROXY_RUST_LB", &*absent), 1, "there is no"),
        (&["rust-lb"][..], ("PROXY_RUST_LB", &*broken), 1, "is not executable"),
        (&["rust-lb"][..], ("PROXY_RUST_LB_ARGS", "--nonsense=1"), 1, "unknown key `nonsense`"),
        (&["traefik"][..], ("PROXY_TRAEFIK", &*absent), 1, "there is no"),
        (&["rust-lb"][..], ("PROXY_HTTP_PORT", &*taken), 1, "which is none of the slot's (caddy serves)"),
        // Neither place of the choice can be written.
        (&["rust-lb"][..], ("PROXY_LOCAL", "/proc/1"), 1, "can be written: the choice would be lost"),
    ];
    for (args, variable, exit, message) in refused {
        // Below a file nothing can be written.
        let nowhere = ("PROXY_DIR", &*nowhere);
        let env = if variable.0 == "PROXY_LOCAL" { vec![variable, nowhere] } else { vec![variable] };
        let (code, said) = bed.switch_with(args, &env);
        assert!(code == exit && said.contains(message), "{args:?} {variable:?}: {code}\n{said}");
        bed.served_by("caddy", "a.test");
    }
    // Another switch holds the lock.
    std::fs::create_dir_all(bed.path("run")).expect("a folder");
    let mut other =
        Command::new("flock").arg("-F").arg(bed.path("run/lock")).args(["sleep", "600"]).spawn().expect("flock");
    eventually("the lock is held", || {
        let held = Command::new("flock").arg("-n").arg(bed.path("run/lock")).arg("true").status();
        held.is_ok_and(|held| !held.success()).then_some(())
    });
    let (code, said) = bed.switch(&["rust-lb"]);
    drop(other.kill());
    drop(other.wait());
    assert!(code == 3 && said.contains("another switch"), "{code}\n{said}");
    // Caddy serves a host that no catalog names.
    bed.caddyfile(&["a.test", "b.test", "c.test"]);
    assert_eq!(bed.switch(&["--reload"]).0, 0);
    bed.served_by("caddy", "c.test");
    let (code, said) = bed.switch(&["rust-lb"]);
    assert!(code == 4 && said.contains("  c.test"), "{code}\n{said}");
    bed.served_by("caddy", "a.test");
    bed.register("c.test", "https://c.test");
    // Old tags that route nothing now.
    bed.register("old.test", "urlprefix-old.test/");
    let (code, said) = bed.switch(&["rust-lb"]);
    assert!(code == 5 && said.contains("newly exposed") && said.contains("  old.test"), "{code}\n{said}");
    bed.served_by("caddy", "a.test");
    let (code, said) = bed.switch(&["rust-lb", "--accept-new"]);
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    bed.served_by("rust-lb", "a.test");
    // It was newly exposed, and Caddy never had it: asked for by name, Caddy is told of, and not switched to.
    let (code, said) = bed.switch(&["caddy"]);
    assert!(code == 4 && said.contains("would not serve 1 hosts") && said.contains("  old.test"), "{code}\n{said}");
    bed.served_by("rust-lb", "a.test");
    // A file that Caddy refuses, as HinD's template makes it of two services with one tag.
    bed.caddyfile(&["a.test", "a.test"]);
    let (code, said) = bed.switch(&["--rollback"]);
    assert!(code == 1 && said.contains("ambiguous site definition"), "{code}\n{said}");
    bed.served_by("rust-lb", "a.test");
}

#[test]
fn a_switch_that_is_killed_leaves_a_proxy_and_the_next_one_mends() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    bed.start("caddy");
    bed.served_by("caddy", "a.test");
    for (target, phase) in [("rust-lb", "standby"), ("caddy", "overlap"), ("rust-lb", "leaving")] {
        let mut switch = bed.switching(&[target]);
        let pid = eventually(&format!("a switch is at {phase}"), || {
            under_way(&bed).filter(|(now, _)| now == phase).map(|(_, pid)| pid)
        });
        drop(Command::new("kill").args(["-KILL", &pid]).status());
        drop(switch.wait());
        let host = bed.ask("a.test").expect("somebody serves");
        assert_eq!(host.2, 200);
        let (_, said) = bed.switch(&["--status"]);
        assert!(said.contains("was interrupted"), "{phase}: {said}");
        let (code, said) = bed.switch(&[target]);
        assert!(code == 0 && said.contains("was interrupted") && said.contains("mended: "), "{phase}: {code}\n{said}");
        bed.served_by(target, "a.test");
    }
}

/// Killed while Caddy is on trial, beside rust-lb: the next one ends the trial and leaves nothing of it.
#[test]
fn a_trial_that_nobody_ends_is_ended_by_the_next_switch() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    bed.start("rust-lb");
    bed.served_at_http();
    let folders = || {
        let entries = std::fs::read_dir(bed.path("run")).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.display().to_string().contains("/work.")).collect::<Vec<_>>()
    };
    let mut switch = bed.switching(&["caddy"]);
    let trial = eventually("a trial runs", || {
        let pid = folders().iter().find_map(|folder| std::fs::read_to_string(folder.join("trial.pid")).ok())?;
        pid.trim().parse::<u32>().ok()
    });
    drop(switch.kill());
    drop(switch.wait());
    let left = folders();
    assert!(left.len() == 1 && Path::new(&format!("/proc/{trial}")).exists(), "{left:?}");
    let (code, said) = bed.switch(&["caddy"]);
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    bed.served_by("caddy", "a.test");
    let ended = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    eventually("the trial has ended", || ended(trial).then_some(()));
    assert_eq!(folders(), Vec::<std::path::PathBuf>::new());
    assert!(!bed.path("run/switch").exists() && !bed.path("run/standby.sock").exists());
}

/// What the file of the choice may look like, from whichever editor.
#[test]
fn the_file_of_the_choice_is_read_as_people_write_it() {
    if !all(&["curl"]) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    bed.env.insert("PROXY_SUPERVISORCTL".to_owned(), "false".to_owned());
    let file = bed.path("pv/rust-lb/host/proxy-server");
    std::fs::create_dir_all(bed.path("pv/rust-lb/host")).expect("a folder");
    let long = vec![b'x'; 1 << 20];
    let cases: [(&[u8], &str, &str); 8] = [
        (b"rust-lb\r\n", "chosen: rust-lb (", ""),
        (b"  rust-lb\t\n", "chosen: rust-lb (", ""),
        (b"\xef\xbb\xbfrust-lb\n", "chosen: rust-lb (", ""),
        (b"traefik", "chosen: traefik (", ""),
        (b"", "chosen: caddy (PROXY_SERVER", "says ``, which is none of"),
        (b"RUST-LB\n", "chosen: caddy (PROXY_SERVER", "says `RUST-LB`, which is none of"),
        (b"\x00\xff\x1b[31mx\n", "chosen: caddy (PROXY_SERVER", "says `[31mx`, which is none of"),
        (&long, "chosen: caddy (PROXY_SERVER", "xxxx`, which is none of"),
    ];
    for (text, chosen, message) in cases {
        std::fs::write(&file, text).expect("written");
        let (_, said) = bed.switch(&["--status"]);
        assert!(said.contains(chosen) && said.contains(message), "{message}: {said}");
        assert!(said.bytes().all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte)), "{said:?}");
    }
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("a folder");
    let (_, said) = bed.switch(&["--status"]);
    assert!(said.contains("proxy-server cannot be read") && said.contains("chosen: caddy ("), "{said}");
    assert!(said.contains("supervisord does not answer"), "{said}");
}

#[test]
fn a_proxy_that_turns_out_worse_is_taken_back() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    // Caddy passes its trial, and is another one when it is started.
    let good = std::fs::read_to_string(bed.path("etc/Caddyfile")).expect("a file");
    let redirect = good.lines().find(|line| line.contains("redir ")).expect("the redirect");
    std::fs::write(bed.path("etc/bad"), good.replace(redirect, "  respond 500")).expect("written");
    let bad = bed.path("bin/caddy-bad");
    let real = bed.env.insert("PROXY_CADDY".to_owned(), bad.display().to_string()).expect("Caddy");
    let file = bed.path("etc/bad").display().to_string();
    program(&bad, &format!("#!/bin/sh\nexec '{real}' run --config '{file}' --adapter caddyfile\n"));
    bed.start("rust-lb");
    bed.served_at_http();
    let (code, said) = bed.switch_with(&["caddy"], &[("PROXY_CADDY", &real)]);
    assert!(code == 6 && said.contains(": 301 now, 500 then"), "{code}\n{said}\n{}", bed.log());
    assert!(said.contains("going back to rust-lb") && said.contains("rust-lb serves again"), "{said}");
    bed.served_at_http();
    let (code, said) = bed.switch(&["--status"]);
    assert!(code == 0 && said.contains("chosen: rust-lb (") && !said.contains("running: caddy"), "{code}\n{said}");
}

#[test]
fn a_choice_that_cannot_be_had_comes_to_caddy() {
    if !all(NEEDED) {
        return;
    }
    let absent = "/nowhere/rust-lb".to_owned();
    let mut bed = Bed::new(&["a.test"]);
    // A name that is none, in the environment and in the file.
    std::fs::create_dir_all(bed.path("pv/rust-lb/host")).expect("a folder");
    std::fs::write(bed.path("pv/rust-lb/host/proxy-server"), "\u{7f}nonsense\nrust-lb\n").expect("written");
    bed.start("nginx");
    bed.served_by("caddy", "a.test");
    let log = bed.log();
    assert!(log.contains("says `nonsense`, which is none of") && log.contains("PROXY_SERVER is `nginx`"), "{log}");
    bed.stop();
    std::fs::remove_file(bed.path("pv/rust-lb/host/proxy-server")).expect("removed");
    // One that is not there.
    let real = bed.env.insert("PROXY_RUST_LB".to_owned(), absent).expect("a binary");
    bed.start("rust-lb");
    bed.served_by("caddy", "a.test");
    assert!(bed.log().contains("cannot be started: caddy stands in"), "{}", bed.log());
    bed.stop();
    // What cannot be written to /pv is kept beside.
    bed.env.insert("PROXY_RUST_LB".to_owned(), real);
    let flags = format!("{} --rustLb.stateDir={}", bed.env["PROXY_RUST_LB_ARGS"], bed.path("state").display());
    bed.env.insert("PROXY_RUST_LB_ARGS".to_owned(), flags);
    let nowhere = bed.path("etc/Caddyfile/rust-lb/host").display().to_string();
    bed.env.insert("PROXY_DIR".to_owned(), nowhere);
    bed.start("");
    bed.served_by("caddy", "a.test");
    let (code, said) = bed.switch(&["rust-lb"]);
    assert!(code == 0 && said.contains("cannot be written"), "{code}\n{said}\n{}", bed.log());
    bed.served_by("rust-lb", "a.test");
    bed.stop();
    bed.start("caddy");
    bed.served_by("rust-lb", "a.test");
}

#[test]
fn a_box_whose_rust_lb_cannot_start_is_served_by_caddy() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    let (binary, flags) = (bed.env["PROXY_RUST_LB"].clone(), bed.env["PROXY_RUST_LB_ARGS"].clone());
    let plain = bed.path("bin/plain");
    std::fs::write(&plain, "").expect("written");
    let plain = plain.display().to_string();
    let nonsense = format!("{flags} --nonsense=1");
    let cases = [(&plain, &flags, "is not executable"), (&binary, &nonsense, "unknown key `nonsense`")];
    for (binary, flags, message) in cases {
        bed.env.insert("PROXY_RUST_LB".to_owned(), binary.clone());
        bed.env.insert("PROXY_RUST_LB_ARGS".to_owned(), flags.clone());
        bed.start("rust-lb");
        bed.served_by("caddy", "a.test");
        let log = bed.log();
        assert!(log.contains(message) && log.contains("cannot be started: caddy stands in"), "{message}: {log}");
        bed.stop();
    }
}

/// /pv is away: what was served last is known from local disk, and it is said where the state lies.
#[test]
fn a_box_without_pv_serves_what_it_knew() {
    if !all(NEEDED) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    bed.start("rust-lb");
    bed.served_at_http();
    bed.wait_until_kept("a.test");
    bed.stop();
    // The copy is made at a start.
    bed.start("rust-lb");
    bed.served_at_http();
    eventually("the state is copied", || {
        let text = std::fs::read_to_string(bed.path("local/last-good.json")).ok()?;
        text.contains("a.test").then_some(())
    });
    bed.stop();
    bed.catalog = None;
    std::fs::rename(bed.path("pv"), bed.path("away")).expect("renamed");
    bed.start("rust-lb");
    bed.served_at_http();
    let log = bed.log();
    assert!(log.contains("is absent or cannot be written: the state of rust-lb is kept in"), "{log}");
}
