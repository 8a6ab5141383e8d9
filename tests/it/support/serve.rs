//! `rust-lb serve` as people run it: a holder and its worker, over routes that a file names, on ports of the kernel's.

use super::server::Server;
use super::{PATIENCE, client, eventually};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How it is started.
pub struct Setup {
    dir: tempfile::TempDir,
    command: Command,
}

impl Setup {
    /// A router for `a.test` to `server`.
    pub fn new(server: SocketAddr, flags: &[&str]) -> Self {
        Self::of(Path::new(env!("CARGO_BIN_EXE_rust-lb")), server, flags)
    }

    /// The same from another path.
    pub fn of(binary: &Path, server: SocketAddr, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let routes = format!(
            "http:\n  routers: {{a: {{rule: 'Host(`a.test`)', service: s}}}}\n  \
             services: {{s: {{loadBalancer: {{servers: [{{url: 'http://{server}'}}]}}}}}}\n"
        );
        std::fs::write(path("routes.yaml"), routes).expect("written");
        let mut command = Command::new(binary);
        command.env_clear().stdin(Stdio::null()).args([
            "serve",
            "--entryPoints.web.address=127.0.0.1:0",
            "--entryPoints.traefik.address=127.0.0.1:0",
            &format!("--providers.file.filename={}", path("routes.yaml")),
            &format!("--rustLb.stateDir={}", path("state")),
            &format!("--rustLb.certificates.directory={}", path("certs")),
            "--accessLog=false",
        ]);
        command.args(flags);
        Self { dir, command }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn start(mut self) -> Serve {
        let mut child = self.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let hears = said.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                hears.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                hears.1.notify_all();
            }
        });
        Serve { child, said, reader: Some(reader), _dir: self.dir }
    }
}

/// A running one; killed at the end of the test.
pub struct Serve {
    child: Child,
    said: Arc<(Mutex<Vec<String>>, Condvar)>,
    reader: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Serve {
    pub fn start(server: &Server, flags: &[&str]) -> Self {
        Setup::new(server.addr, flags).start()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until this stands in `number` lines of what it says; gives the last of these.
    pub fn says(&self, text: &str, number: usize) -> String {
        let mut lines = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(line) = lines.iter().filter(|line| line.contains(text)).nth(number - 1) {
                return line.clone();
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            assert!(!left.is_zero(), "it does not say {text:?} {number} times:\n{}", lines.join("\n"));
            lines = self.said.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All that it has said.
    pub fn said(&self) -> Vec<String> {
        self.said.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The address of an entry point, as its last worker told it.
    pub fn address(&self, entry_point: &str) -> SocketAddr {
        let named = format!("\"entry_point\":\"{entry_point}\"");
        eventually(&format!("{entry_point} listens"), || {
            let said = self.said();
            let line = said.iter().rev().find(|line| line.contains("\"listening\"") && line.contains(&named))?;
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["address"].as_str()?.parse().ok()
        })
    }

    pub fn web(&self) -> SocketAddr {
        self.address("web")
    }

    pub fn admin(&self, path: &str) -> std::io::Result<client::Answer> {
        client::try_get(self.address("traefik"), "127.0.0.1", path)
    }

    /// Waits until `a.test` is served.
    pub fn wait_until_served(&self) {
        let web = self.web();
        eventually("a.test is served", || {
            client::try_get(web, "a.test", "/").ok().filter(|answer| answer.status == 200).map(drop)
        });
    }

    /// The worker processes, the oldest first.
    pub fn workers(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_ascii_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
    }

    /// The one worker, once there is one.
    pub fn worker(&self) -> u32 {
        eventually("there is one worker", || match self.workers().as_slice() {
            &[worker] => Some(worker),
            _ => None,
        })
    }

    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// SIGUSR2, and waits until the new worker serves: the `number`th to do so.
    pub fn hand_over(&self, number: usize) {
        self.signal("-USR2");
        self.says(" takes no more connections", number);
    }

    /// Waits for the end of all its processes.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = eventually("it ends", || self.child.try_wait().expect("a child of ours"));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        (status, self.said())
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // A worker that hangs outlives its holder; the tests make some.
        self.workers().into_iter().for_each(kill_quietly);
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.is_ok_and(|s| s.success()), "kill {signal} {pid}");
}

fn kill_quietly(pid: u32) {
    drop(Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status());
}

/// Whether a process is there and not a zombie.
pub fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

/// A path that leads to the binary, and can be made to lead elsewhere.
pub fn link(dir: &Path) -> PathBuf {
    let path = dir.join("rust-lb");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rust-lb"), &path).expect("a link");
    path
}

/// Puts a script where the binary was.
pub fn replace(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let beside = path.with_extension("new");
    std::fs::write(&beside, script).expect("written");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755)).expect("executable");
    std::fs::rename(&beside, path).expect("replaced");
}
