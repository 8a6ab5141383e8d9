//! The real binary over servers that a file names: one router and one service a host, the access log in a
//! file, one worker (so that there is one pool), and three ways in.

use super::binary::Running;
use super::client;
use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A running proxy.
pub struct Stand {
    /// Plain, with whatever the flags say of `web`.
    pub web: SocketAddr,
    /// Plain, with the default settings.
    pub calm: SocketAddr,
    /// TLS, HTTP/1.1 and HTTP/2, with the default settings.
    pub secure: SocketAddr,
    /// What TLS clients have to trust.
    pub root: Vec<u8>,
    running: Running,
    log: PathBuf,
    dir: tempfile::TempDir,
}

impl Stand {
    /// Starts with a route for each host; the service has the host's name. `more` goes into the file
    /// of dynamic configuration, below `http`.
    pub fn start(routes: &[(String, SocketAddr)], flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("routes.yaml");
        std::fs::write(&file, declaration(routes)).expect("written");
        let log = dir.path().join("access.log");
        let calm = "--entryPoints.calm.address=127.0.0.1:0";
        let provider = format!("--providers.file.filename={}", file.display());
        let access = format!("--accessLog.filePath={}", log.display());
        let all = "--entryPoints.calm.asDefault=true";
        let mut args = vec!["--no-samples", calm, all, &provider, &access, "--accessLog.format=json"];
        args.extend(flags);
        let running = Running::dev(dir.path(), &args);
        let ca = running.said["ca"].as_str().expect("a root");
        let root = std::fs::read(ca).expect("the root");
        let (web, secure) = (running.addr("web"), running.addr("websecure"));
        let entry_points = client::get(running.addr("admin"), "127.0.0.1", "/api/entrypoints").json();
        let calm = entry_points.as_array().and_then(|all| all.iter().find(|e| e["name"] == "calm"));
        let calm = calm.and_then(|calm| calm["bound"][0].as_str()?.parse().ok()).expect("the address of `calm`");
        Self { web, calm, secure, root, running, log, dir }
    }

    /// Ends it in peace; gives the lines of its access log and what it said on stderr.
    pub fn stop(self) -> (Vec<Value>, String) {
        self.running.signal("-TERM");
        let (status, stderr) = self.running.wait();
        assert!(status.success(), "{status}: {stderr}");
        let log = std::fs::read(&self.log).expect("an access log");
        drop(self.dir);
        let lines = String::from_utf8_lossy(&log);
        let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        (lines.collect(), stderr)
    }
}

fn declaration(routes: &[(String, SocketAddr)]) -> String {
    let mut text = "http:\n  routers:\n".to_owned();
    for (host, _) in routes {
        let name = host.replace('.', "-");
        let _ = write!(text, "    {name}:\n      rule: Host(`{host}`)\n      service: {name}\n");
    }
    text.push_str("  services:\n");
    for (host, address) in routes {
        let name = host.replace('.', "-");
        let _ = write!(text, "    {name}:\n      loadBalancer:\n        servers:\n          - url: http://{address}\n");
    }
    text
}
