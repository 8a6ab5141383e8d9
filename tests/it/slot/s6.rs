//! The service directories of `s6-overlay/`, under real s6: run as they are by `s6-svscan`, and compiled by s6-rc where
//! that is installed.

use super::super::support::{client, eventually};
use super::all;
use super::bed::{Bed, said};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("s6-overlay/s6-rc.d")
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "{} to {}", from.display(), to.display());
}

/// `s6-svscan` over a folder of a box; its services end with it.
struct Scan {
    child: Child,
    dir: PathBuf,
}

impl Scan {
    fn start(bed: &mut Bed) -> Self {
        let dir = bed.path("scan");
        let log = std::fs::File::create(bed.path("log")).expect("a file");
        std::fs::create_dir_all(bed.path("environment")).expect("a folder");
        let environment = bed.path("environment").display().to_string();
        bed.env.insert("PROXY_CONTAINER_ENVIRONMENT".to_owned(), environment);
        let mut command = Command::new("s6-svscan");
        command.arg(&dir).env_clear().envs(&bed.env).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        Self { child: command.spawn().expect("s6-svscan starts"), dir }
    }

    /// What `s6-svstat -o` says.
    fn status(&self, service: &str, what: &str) -> String {
        let output = Command::new("s6-svstat").args(["-o", what]).arg(self.dir.join(service)).output();
        said(&output.expect("s6-svstat runs")).1.trim().to_owned()
    }

    fn is(&self, bed: &Bed, service: &str, up: &str) {
        eventually(&format!("{service} is up: {up}"), || (self.status(service, "up") == up).then_some(()));
        assert!(!bed.log().contains("fatal"), "{}", bed.log());
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        drop(Command::new("s6-svscanctl").arg("-t").arg(&self.dir).status());
        drop(self.child.wait());
    }
}

#[test]
fn the_same_choice_under_s6() {
    if !all(&["s6-svscan", "execlineb", "caddy", "curl"]) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    for service in ["rust-lb", "caddy", "traefik", "consul-template"] {
        std::fs::create_dir_all(bed.path("scan")).expect("a folder");
        copy(&source().join(service), &bed.path("scan").join(service));
    }
    std::fs::create_dir_all(bed.path("environment")).expect("a folder");
    std::fs::write(bed.path("environment/PROXY_SERVER"), "rust-lb").expect("written");
    let scan = Scan::start(&mut bed);
    // rust-lb says itself that it is ready.
    eventually("rust-lb is ready", || (scan.status("rust-lb", "up,ready") == "true true").then_some(()));
    let answer = client::get(bed.http, "a.test", "/");
    assert_eq!(answer.status, 301, "{}", bed.log());
    scan.is(&bed, "caddy", "false");
    scan.is(&bed, "traefik", "false");
    // Checked and without a gap, as under supervisord.
    let (code, said) = bed.switch(&["caddy"]);
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    bed.served_by("caddy", "a.test");
    scan.is(&bed, "rust-lb", "false");
    let (code, said) = bed.switch(&["--rollback"]);
    assert_eq!(code, 0, "{said}\n{}", bed.log());
    bed.served_by("rust-lb", "a.test");
    scan.is(&bed, "caddy", "false");
    // A holder that dies is started again.
    let pid = scan.status("rust-lb", "pid");
    drop(Command::new("kill").args(["-KILL", &pid]).status());
    eventually("rust-lb is ready again", || {
        // At one moment: what is down is ready, too, to be started again.
        let status = scan.status("rust-lb", "up,ready,pid");
        status.strip_prefix("true true ").is_some_and(|other| other != pid).then_some(())
    });
    assert!(bed.log().contains("rust-lb was ended by signal 9"), "{}", bed.log());
    bed.served_by("rust-lb", "a.test");
}

#[test]
fn the_service_directories_compile_and_come_up_with_s6_rc() {
    if !all(&["s6-rc-compile", "s6-rc", "s6-svscan", "execlineb", "caddy"]) {
        return;
    }
    let mut bed = Bed::new(&["a.test"]);
    let tree = bed.path("source");
    copy(&source(), &tree);
    // What s6-overlay brings.
    for bundle in ["base", "user"] {
        std::fs::create_dir_all(tree.join(bundle).join("contents.d")).expect("a folder");
        std::fs::write(tree.join(bundle).join("type"), "bundle\n").expect("written");
    }
    let compiled = bed.path("compiled");
    let output = Command::new("s6-rc-compile").arg(&compiled).arg(&tree).output().expect("s6-rc-compile runs");
    assert!(output.status.success(), "{}", said(&output).1);
    std::fs::create_dir_all(bed.path("scan")).expect("a folder");
    std::fs::create_dir_all(bed.path("environment")).expect("a folder");
    std::fs::write(bed.path("environment/PROXY_SERVER"), "rust-lb").expect("written");
    let scan = Scan::start(&mut bed);
    eventually("s6-svscan runs", || bed.path("scan/.s6-svscan/control").exists().then_some(()));
    let live = bed.path("live");
    let init = Command::new("s6-rc-init").arg("-c").arg(&compiled).arg("-l").arg(&live).arg(bed.path("scan")).output();
    let init = init.expect("s6-rc-init runs");
    assert!(init.status.success(), "{}", said(&init).1);
    // Returns when rust-lb has said that it is ready; those that are not chosen keep nobody.
    let up = Command::new("s6-rc").arg("-l").arg(&live).args(["-t", "60000", "-u", "change", "user"]).output();
    let up = up.expect("s6-rc runs");
    assert!(up.status.success(), "{}\n{}", said(&up).1, bed.log());
    assert_eq!(client::get(bed.http, "a.test", "/").status, 301);
    scan.is(&bed, "rust-lb", "true");
    scan.is(&bed, "caddy", "false");
    let down = Command::new("s6-rc").arg("-l").arg(&live).args(["-t", "60000", "-d", "-a", "change"]).output();
    assert!(down.is_ok_and(|down| down.status.success()));
    scan.is(&bed, "rust-lb", "false");
}
