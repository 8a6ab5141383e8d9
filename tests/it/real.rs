//! The same journey over a real Consul and a real Nomad, where these are on PATH. A test that cannot run says
//! `skipped`; with `RUST_LB_TEST_REQUIRE=consul,nomad` a skip is a failure.

use super::support::client::{self, Connection};
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::server::Server;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

/// True when the program is there; else says so, or fails where it is required.
fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        let required = std::env::var("RUST_LB_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|r| r.trim() == program), "`{program}` is required and not on PATH");
        // The harness swallows a passing test's output; the terminal is told all the same.
        drop(writeln!(std::io::stderr(), "skipped: `{program}` is not on PATH"));
    }
    found
}

/// An agent in a folder of its own, killed at the end.
struct Agent {
    child: Child,
    http: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ports that were free a moment ago; all are held until all are known.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0").expect("a loopback port")).collect();
    std::array::from_fn(|i| held[i].local_addr().expect("bound").port())
}

impl Agent {
    fn consul() -> Self {
        let [http, server, lan, wan] = free_ports();
        let dir = tempfile::tempdir().expect("a folder");
        let child = Command::new("consul")
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-log-level", "err"])
            .args(["-dns-port", "-1", "-grpc-port", "-1"])
            .args(["-http-port", &http.to_string(), "-server-port", &server.to_string()])
            .args(["-serf-lan-port", &lan.to_string(), "-serf-wan-port", &wan.to_string()])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("consul starts");
        let agent = Self { child, http: ([127, 0, 0, 1], http).into(), dir };
        agent.wait_for_leader();
        agent
    }

    fn nomad() -> Self {
        let [http, rpc, serf] = free_ports();
        let dir = tempfile::tempdir().expect("a folder");
        let config = format!(
            "disable_update_check = true\nbind_addr = \"127.0.0.1\"\nports {{\n  http = {http}\n  rpc = {rpc}\n  serf = {serf}\n}}\n\
             plugin \"raw_exec\" {{\n  config {{\n    enabled = true\n  }}\n}}\n\
             client {{\n  options = {{ \"fingerprint.denylist\" = \"env_aws,env_gce,env_azure,env_digitalocean\" }}\n\
             \x20 network_interface = \"lo\"\n  cpu_total_compute = 100000\n  memory_total_mb = 100000\n}}\n"
        );
        std::fs::write(dir.path().join("nomad.hcl"), config).expect("written");
        let child = Command::new("nomad")
            .args(["agent", "-dev", "-config=nomad.hcl"])
            .env_remove("AWS_CA_BUNDLE")
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nomad starts");
        let agent = Self { child, http: ([127, 0, 0, 1], http).into(), dir };
        agent.wait_for_leader();
        agent
    }

    fn wait_for_leader(&self) {
        eventually("the agent has a leader", || {
            let answer = client::try_get(self.http, "agent", "/v1/status/leader").ok()?;
            (answer.status == 200 && answer.text().len() > 4).then_some(())
        });
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "kill {signal}");
    }
}

#[test]
fn real_consul_from_registration_to_removal_and_through_a_pause() {
    if !have("consul") {
        return;
    }
    let agent = Agent::consul();
    let proxy = Proxy::start(&[
        &format!("--providers.consulCatalog.endpoint.address=http://{}", agent.http),
        "--rustLb.linger.for=0s",
    ]);
    let server = Server::start("real");
    let register = |tags: &[&str]| {
        let body = serde_json::json!({"ID": "r1", "Name": "real", "Address": "127.0.0.1", "Port": server.addr.port(), "Tags": tags,
            "Check": {"CheckID": "r1", "TTL": "1h", "Status": "passing"}});
        assert_eq!(
            client::send(agent.http, "PUT", "c", "/v1/agent/service/register", "", &body.to_string()).status,
            200
        );
    };
    register(&["urlprefix-real.test/"]);
    proxy.wait_for("real.test", "/", 200);
    register(&["traefik.enable=true", "traefik.http.routers.real.rule=Host(`other.test`)"]);
    proxy.wait_for("other.test", "/", 200);
    proxy.wait_for("real.test", "/", 404);

    assert_eq!(client::send(agent.http, "PUT", "c", "/v1/agent/check/fail/r1", "", "").status, 200);
    proxy.wait_for("other.test", "/", 404);
    assert_eq!(client::send(agent.http, "PUT", "c", "/v1/agent/check/pass/r1", "", "").status, 200);
    proxy.wait_for("other.test", "/", 200);

    // Half-open: the kernel accepts, nobody answers. Requests are served from what is known.
    agent.signal("-STOP");
    let mut connection = Connection::open(proxy.web()).expect("connects");
    for _ in 0..100 {
        assert_eq!(connection.get("other.test", "/").expect("an answer").status, 200);
    }
    agent.signal("-CONT");
    assert_eq!(client::send(agent.http, "PUT", "c", "/v1/agent/service/deregister/r1", "", "").status, 200);
    proxy.wait_for("other.test", "/", 404);
}

#[test]
fn real_consul_killed_and_started_empty_keeps_the_routes() {
    if !have("consul") {
        return;
    }
    let agent = Agent::consul();
    let proxy = Proxy::start(&[
        &format!("--providers.consulCatalog.endpoint.address=http://{}", agent.http),
        "--rustLb.linger.for=0s",
    ]);
    let server = Server::start("real");
    let body = serde_json::json!({"ID": "r1", "Name": "real", "Address": "127.0.0.1", "Port": server.addr.port(), "Tags": ["urlprefix-real.test/"]});
    assert_eq!(client::send(agent.http, "PUT", "c", "/v1/agent/service/register", "", &body.to_string()).status, 200);
    proxy.wait_for("real.test", "/", 200);
    drop(agent);
    eventually("the outage is shown", || {
        let state = proxy.admin("/api/rawdata").json()["providers"]["consulcatalog"]["state"].clone();
        (state == "retrying").then_some(())
    });
    for _ in 0..20 {
        assert_eq!(proxy.get("real.test", "/").status, 200);
    }
}

#[test]
fn real_nomad_from_job_to_removal() {
    if !have("nomad") {
        return;
    }
    let agent = Agent::nomad();
    let proxy =
        Proxy::start(&[&format!("--providers.nomad.endpoint.address=http://{}", agent.http), "--rustLb.linger.for=0s"]);
    let server = Server::start("real");
    // The task only lives; the static port of its group is the one that the test's own server listens on.
    let job = format!(
        r#"job "real" {{
  type = "service"
  group "g" {{
    network {{
      port "http" {{
        static = {}
      }}
    }}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "sleep"
        args    = ["600"]
      }}
      service {{
        name     = "real"
        provider = "nomad"
        port     = "http"
        tags     = ["traefik.enable=true", "traefik.http.routers.real.rule=Host(`real.test`)"]
      }}
      resources {{
        cpu    = 50
        memory = 32
      }}
    }}
  }}
}}
"#,
        server.addr.port()
    );
    std::fs::write(agent.dir.path().join("real.nomad.hcl"), job).expect("written");
    let nomad = |args: &[&str]| {
        let output = Command::new("nomad")
            .args(args)
            .env("NOMAD_ADDR", format!("http://{}", agent.http))
            .env_remove("AWS_CA_BUNDLE")
            .current_dir(agent.dir.path())
            .output()
            .expect("the nomad command");
        assert!(output.status.success(), "nomad {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    eventually("a client node is ready", || {
        let nodes = client::try_get(agent.http, "n", "/v1/nodes").ok()?.text();
        nodes.contains("\"Status\":\"ready\"").then_some(())
    });
    nomad(&["job", "run", "-detach", "real.nomad.hcl"]);
    proxy.wait_for("real.test", "/", 200);
    nomad(&["job", "stop", "-detach", "-purge", "real"]);
    proxy.wait_for("real.test", "/", 404);
}
