//! The images, built by buildah over a Debian that debootstrap makes: what is in them works, and they add little to their base.
//! The binary is this test's own, so that nothing is compiled twice.

use super::{path, said, succeeds};
use crate::support::{ports, program::have};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an image may have beyond its base and the binary.
const BESIDE_BINARY: u64 = 1 << 20;

/// One after the other, in the container; `PORT` is the admin entry point's.
const SERVING: &str = r#"
printf '%s' '{entryPoints: {web: {address: "127.0.0.1:0"}, traefik: {address: "127.0.0.1:PORT"}}, providers: {rest: {insecure: true}}}' >/tmp/rust-lb.yaml
export RUST_LB_CONFIGFILE=/tmp/rust-lb.yaml
rust-lb serve --rustLb.certificates.directory=/tmp/certs 2>/tmp/log &
tries=0
until rust-lb healthcheck 2>/tmp/health || [ "$tries" -gt 300 ]; do tries=$((tries + 1)); sleep 0.1; done
kill $!
wait $! && echo ended 0 && exit
cat /tmp/log /tmp/health
"#;

/// Images in a folder of their own.
struct Store {
    dir: PathBuf,
}

impl Store {
    fn buildah(&self, args: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.dir.join("images")).arg("--runroot").arg(self.dir.join("run"));
        // Works where neither overlays nor user namespaces do.
        command.args(["--storage-driver", "vfs"]).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        succeeds(&mut self.buildah(args)).trim().to_owned()
    }

    fn build(&self, file: &str, tag: &str, context: &Path) {
        let mut build =
            self.buildah(&["bud", "-q", "--format", "docker", "--isolation", "chroot", "--network", "host"]);
        for base in ["BUILD_IMAGE", "BASE_IMAGE", "HIND_IMAGE"] {
            build.args(["--build-arg", &format!("{base}=localhost/base")]);
        }
        build.args(["--build-arg", "BINARY=rust-lb", "-t", tag, "-f"]).arg(context.join(file)).arg(context);
        succeeds(&mut build);
    }

    /// Bytes of an image.
    fn size(&self, image: &str) -> u64 {
        let container = self.run(&["from", image]);
        let mounted = self.run(&["mount", &container]);
        let counted = succeeds(Command::new("du").args(["-s", "-B1", "--apparent-size", &mounted]));
        self.run(&["rm", &container]);
        counted.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.buildah(&["rm", "--all"]).output());
        drop(self.buildah(&["rmi", "--all", "--force"]).output());
    }
}

/// A Debian with what HinD's image has, as far as the slot needs it; made once. Nothing where no mirror can be reached.
fn debian() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-bookworm");
    let (root, whole) = (dir.join("root"), dir.join("whole"));
    if whole.exists() {
        return Some(root);
    }
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir_all(&dir).expect("a folder");
    let mut make = Command::new("debootstrap");
    make.args(["--variant=minbase", "--include=ca-certificates,curl,supervisor", "bookworm"]);
    let output = make.arg(&root).arg("http://deb.debian.org/debian").output().expect("debootstrap runs");
    if !output.status.success() {
        let required = std::env::var("RUST_LB_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name.trim() == "debootstrap"), "{}", said(&output));
        drop(writeln!(std::io::stderr(), "skipped: debootstrap makes no Debian here: {}", said(&output)));
        return None;
    }
    for needless in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"] {
        drop(std::fs::remove_dir_all(root.join(needless)));
    }
    std::fs::write(whole, "").expect("written");
    Some(root)
}

#[test]
fn the_images_are_built_and_small() {
    if !have("buildah") || !have("debootstrap") {
        return;
    }
    if !rustix::process::getuid().is_root() {
        drop(writeln!(std::io::stderr(), "skipped: images are built over debootstrap's Debian by root alone"));
        return;
    }
    let Some(debian) = debian() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store { dir: dir.path().join("store") };
    let base = store.run(&["from", "scratch"]);
    store.run(&["add", "-q", &base, &debian.display().to_string(), "/"]);
    store.run(&["commit", "-q", "--rm", &base, "base"]);

    let context = dir.path().join("context");
    std::fs::create_dir(&context).expect("a folder");
    for part in ["Dockerfile", "Dockerfile.hind", "supervisor", "etc"] {
        succeeds(Command::new("cp").arg("-a").arg(path(part)).arg(&context));
    }
    let binary = context.join("rust-lb");
    // Another one (a release build), where its size is asked.
    let given = std::env::var("RUST_LB_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_rust-lb").to_owned());
    let stripped = Command::new("strip").arg("-o").arg(&binary).arg(&given).status();
    if !stripped.is_ok_and(|status| status.success()) {
        std::fs::copy(&given, &binary).expect("copied");
    }
    let bytes = std::fs::metadata(&binary).expect("a file").len();

    store.build("Dockerfile", "rust-lb", &context);
    let beyond = store.size("localhost/rust-lb").saturating_sub(store.size("localhost/base"));
    drop(writeln!(std::io::stderr(), "image: {beyond} bytes beyond its base, of which the binary has {bytes}"));
    assert!(beyond < bytes + BESIDE_BINARY, "{beyond} bytes beyond the base, with a binary of {bytes}");
    let inspected = store.run(&["inspect", "--type", "image", "localhost/rust-lb"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let config = &inspected["Docker"]["config"];
    assert_eq!(config["User"], "10001:10001");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "rust-lb", "healthcheck"]));
    assert_eq!(
        (&config["Entrypoint"], &config["Cmd"]),
        (&serde_json::json!(["rust-lb"]), &serde_json::json!(["serve"]))
    );
    let container = store.run(&["from", "localhost/rust-lb"]);
    let inside = |command: &str| store.run(&["run", "--isolation", "chroot", &container, "--", "sh", "-c", command]);
    assert!(inside("rust-lb version").starts_with("rust-lb "));
    assert_eq!(
        inside(
            "id -u; touch /var/lib/rust-lb/x && echo writes; test -s /etc/ssl/certs/ca-certificates.crt && echo roots"
        ),
        "10001\nwrites\nroots"
    );
    // Serves as its own user, and says that it is well; then ends in peace.
    let port = ports::free();
    let serving = SERVING.replace("PORT", &port.to_string());
    let said = inside(&serving);
    assert!(said.contains("OK: http://127.0.0.1:") && said.ends_with("ended 0"), "{said}");
    store.run(&["rm", &container]);

    store.build("Dockerfile.hind", "hind", &context);
    let container = store.run(&["from", "localhost/hind"]);
    let inside = |command: &str| store.run(&["run", "--isolation", "chroot", &container, "--", "sh", "-c", command]);
    assert!(inside("rust-lb check --strict").contains("/etc/rust-lb.yaml"));
    assert_eq!(
        inside("id -u; ls /etc/supervisor/conf.d; proxy-run --chosen caddy && echo caddy"),
        "0\nzz-proxy.conf\ncaddy"
    );
    assert_eq!(inside("PROXY_SERVER=rust-lb proxy-run --chosen rust-lb && echo rust-lb"), "rust-lb");
    assert!(inside("proxy-switch --help").contains("proxy-switch caddy|traefik|rust-lb"));
}
