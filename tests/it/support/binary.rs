//! The real binary, started and ended by a test.

use super::{PATIENCE, eventually};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// `rust-lb` with these arguments and no `TRAEFIK_*`, `NOMAD_*`, … of the surroundings.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rust-lb"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// Runs to the end.
pub fn output(args: &[&str]) -> Output {
    command(args).output().expect("the binary runs")
}

/// A process that is killed when the test ends.
pub struct Running {
    child: Child,
    /// What it printed on its first line.
    pub said: serde_json::Value,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    /// `rust-lb dev --json` on ports of the kernel's, in a folder of the test's.
    pub fn dev(dir: &std::path::Path, more: &[&str]) -> Self {
        let any = "127.0.0.1:0";
        let mut command = command(&["dev", "--json", "--web", any, "--websecure", any, "--admin", any]);
        command.args(["--nomad", any, "--consul", any, "--workers", "1"]).args(more);
        let mut child =
            command.env("HOME", dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            drop(stderr.read_to_string(&mut text));
            text
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout");
        // The access log goes to stdout too; somebody has to read it.
        std::thread::spawn(move || drop(std::io::copy(&mut stdout, &mut std::io::sink())));
        let said = serde_json::from_str(&line).unwrap_or_else(|e| panic!("not a JSON line ({e}): {line:?}"));
        Self { child, said, stderr: Some(stderr) }
    }

    pub fn addr(&self, name: &str) -> SocketAddr {
        self.said[name].as_str().and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no {name} in {}", self.said))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "kill {signal}");
    }

    /// Waits for the end; gives the status and what was written to stderr.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = eventually(&format!("the process ends within {PATIENCE:?}"), || {
            self.child.try_wait().expect("a child of ours")
        });
        let stderr = self.stderr.take().map(|t| t.join().expect("the reader")).unwrap_or_default();
        (status, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
