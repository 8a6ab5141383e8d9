//! Real agents in development mode: started, paused, killed and started again at the same ports. Nothing of theirs is left.

pub use super::super::support::program::have;
use super::super::support::{client, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

/// The token of a Consul with [`DENY`] that may do everything.
const MASTER: &str = "5d1d8a6e-0000-4000-8000-000000000001";

/// Configuration of a Consul that denies by default.
pub const DENY: &str = "acl { enabled = true default_policy = \"deny\" tokens { \
    master = \"5d1d8a6e-0000-4000-8000-000000000001\" agent = \"5d1d8a6e-0000-4000-8000-000000000001\" } }";

/// An agent in a folder of its own, killed at the end.
pub struct Agent {
    pub http: SocketAddr,
    program: &'static str,
    args: Vec<String>,
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports that were free a moment ago; all are held until all are known.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0").expect("a loopback port")).collect();
    std::array::from_fn(|i| held[i].local_addr().expect("bound").port())
}

impl Agent {
    /// Consul, with more configuration.
    pub fn consul(config: &str) -> Self {
        let [http, server, lan, wan] = free_ports();
        let args = format!(
            "agent -dev -bind 127.0.0.1 -client 127.0.0.1 -log-level err -dns-port -1 -grpc-port -1 -config-file more.hcl \
             -http-port {http} -server-port {server} -serf-lan-port {lan} -serf-wan-port {wan}"
        );
        Self::new("consul", http, &args, "more.hcl", config)
    }

    /// Nomad, with tasks that are plain processes.
    pub fn nomad() -> Self {
        let [http, rpc, serf] = free_ports();
        let config = format!(
            "disable_update_check = true\nbind_addr = \"127.0.0.1\"\nports {{\n  http = {http}\n  rpc = {rpc}\n  serf = {serf}\n}}\n\
             plugin \"raw_exec\" {{\n  config {{\n    enabled = true\n  }}\n}}\n\
             client {{\n  options = {{ \"fingerprint.denylist\" = \"env_aws,env_gce,env_azure,env_digitalocean\" }}\n\
             \x20 network_interface = \"lo\"\n  cpu_total_compute = 100000\n  memory_total_mb = 100000\n}}\n"
        );
        Self::new("nomad", http, "agent -dev -config=nomad.hcl", "nomad.hcl", &config)
    }

    fn new(program: &'static str, http: u16, args: &str, file: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(file), config).expect("written");
        let args = args.split_whitespace().map(str::to_owned).collect();
        let mut agent = Self { http: ([127, 0, 0, 1], http).into(), program, args, child: None, dir };
        agent.start();
        agent
    }

    /// Starts it (again), at the same ports and without any state; returns once it leads.
    pub fn start(&mut self) {
        let mut command = Command::new(self.program);
        command.args(&self.args).current_dir(self.dir.path()).env("TMPDIR", self.dir.path());
        // Nomad's fingerprinter trips over this one.
        command.env_remove("AWS_CA_BUNDLE").stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the agent starts"));
        eventually("the agent has a leader", || {
            let answer = client::try_get(self.http, "agent", "/v1/status/leader").ok()?;
            (answer.status == 200 && answer.text().len() > 4).then_some(())
        });
        // A Consul that has just started is in the ACL system's old mode for a moment; without ACLs it says 401.
        eventually("rights can be given", || {
            let token = format!("X-Consul-Token: {MASTER}\r\n");
            let answer = client::send(self.http, "GET", "agent", "/v1/acl/policies", &token, "");
            (self.program != "consul" || answer.status != 500).then_some(())
        });
    }

    /// SIGKILL. Tasks would outlive it, and so would their mounts: they go, too.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let tasks = descendants(child.id());
        drop(child.kill());
        drop(child.wait());
        for task in tasks {
            drop(Command::new("kill").args(["-KILL", &task.to_string()]).stderr(Stdio::null()).status());
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let ours = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| std::path::Path::new(at).starts_with(self.dir.path()));
        for mount in ours {
            drop(Command::new("umount").args(["--lazy", mount]).stderr(Stdio::null()).status());
        }
    }

    /// Sends a signal to the agent alone.
    pub fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "kill {signal}");
    }

    /// A request that has to succeed; gives the JSON that came, or null.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let token = format!("X-Consul-Token: {MASTER}\r\n");
        let token = if self.program == "consul" { token.as_str() } else { "" };
        let answer = client::send(self.http, method, "agent", path, token, &body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }
}

/// The processes that descend from one.
fn descendants(of: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: BTreeMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&known) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| **parent == known).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}
