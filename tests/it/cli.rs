//! The real binary: `dev`, `serve`, `check`, `version`, `healthcheck`, exit codes and signals.

use super::support::binary::{Running, command, output};
use super::support::client::{self, Connection};
use super::support::eventually;
use super::support::server::Server;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn dev_answers_on_every_printed_url() {
    let dir = tempfile::tempdir().expect("a folder");
    let dev = Running::dev(dir.path(), &[]);
    let samples = dev.said["samples"].as_array().expect("samples").clone();
    let dialects: std::collections::BTreeSet<_> = samples.iter().filter_map(|s| s["dialect"].as_str()).collect();
    assert!(dialects.len() >= 3, "every dialect has a sample: {samples:?}");
    let root = std::fs::read(dev.said["ca"].as_str().expect("ca")).expect("the root's file");
    for sample in &samples {
        let url = sample["url"].as_str().expect("url");
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, format!("/{p}")));
        let path = if path.is_empty() { "/".to_owned() } else { path };
        eventually(&format!("{url} answers"), || {
            let status = if scheme == "https" {
                super::support::tls::get(dev.addr("websecure"), &root, authority, &path)?
            } else {
                client::try_get(dev.addr("web"), authority, &path).ok()?.status
            };
            (status == 200).then_some(())
        });
    }
    dev.signal("-TERM");
    let (status, stderr) = dev.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn dev_takes_registrations_as_curl_sends_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let dev = Running::dev(dir.path(), &["--no-samples", "--rustLb.linger.for=0s"]);
    assert_eq!(dev.said["samples"], serde_json::json!([]));
    let server = Server::start("mine");
    let body = format!(
        r#"{{"Name":"hello","Address":"127.0.0.1","Port":{},"Tags":["urlprefix-hello.localhost/"]}}"#,
        server.addr.port()
    );
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let answer = client::send(dev.addr("consul"), "PUT", "c", "/v1/agent/service/register", form, &body);
    assert_eq!(answer.status, 200);
    eventually("served", || (client::get(dev.addr("web"), "hello.localhost", "/").status == 200).then_some(()));
    client::send(dev.addr("consul"), "PUT", "c", "/v1/agent/service/deregister/hello", "", "");
    eventually("gone", || (client::get(dev.addr("web"), "hello.localhost", "/").status == 404).then_some(()));
}

#[test]
fn a_request_in_flight_ends_before_the_process_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let dev = Running::dev(dir.path(), &["--no-samples"]);
    // A server of the test's own, so that the answer comes when the test says so.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let body = format!(
        r#"{{"Name":"slow","Address":"127.0.0.1","Port":{},"Tags":["urlprefix-slow.localhost/"]}}"#,
        listener.local_addr().expect("bound").port()
    );
    client::send(dev.addr("consul"), "PUT", "c", "/v1/agent/service/register", "", &body);
    eventually("the route is known", || {
        client::get(dev.addr("admin"), "127.0.0.1", "/api/rawdata").text().contains("slow.localhost").then_some(())
    });
    let mut client = Connection::open(dev.addr("web")).expect("connects");
    client.send(b"GET / HTTP/1.1\r\nHost: slow.localhost\r\n\r\n").expect("sent");
    let (mut accepted, _) = listener.accept().expect("the proxy connects");
    let mut head = [0; 4096];
    let read = std::io::Read::read(&mut accepted, &mut head).expect("a request");
    assert!(read > 0);
    dev.signal("-TERM");
    eventually("ping says that it ends", || {
        client::try_get(dev.addr("admin"), "127.0.0.1", "/ping").ok().is_none_or(|a| a.status == 503).then_some(())
    });
    std::io::Write::write_all(&mut accepted, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").expect("answered");
    let answer = client.read(false).expect("the answer comes through");
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    drop(client);
    let (status, stderr) = dev.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn the_local_roots_key_is_for_its_owner_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let dev = Running::dev(dir.path(), &["--no-samples"]);
    let root = std::path::PathBuf::from(dev.said["ca"].as_str().expect("ca"));
    let mut keys = 0;
    for entry in std::fs::read_dir(root.parent().expect("a folder")).expect("readable").flatten() {
        if entry.path().extension().is_some_and(|e| e == "key") {
            keys += 1;
            assert_eq!(entry.metadata().expect("there").permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }
    assert_eq!(keys, 1, "beside {root:?}");
}

#[test]
fn a_port_in_use_names_its_owner() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = held.local_addr().expect("bound");
    let dir = tempfile::tempdir().expect("a folder");
    let output =
        command(&["serve", &format!("--entryPoints.web.address={addr}"), "--entryPoints.traefik.address=127.0.0.1:0"])
            .args(["--stateDir", &dir.path().display().to_string()])
            .output()
            .expect("runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&addr.port().to_string()), "{stderr}");
    assert!(stderr.contains(&std::process::id().to_string()), "the owner's pid is named: {stderr}");
}

#[test]
fn healthcheck_tells_running_from_not_running() {
    let dir = tempfile::tempdir().expect("a folder");
    let dev = Running::dev(dir.path(), &["--no-samples"]);
    let flag = format!("--entryPoints.traefik.address={}", dev.addr("admin"));
    eventually("ready", || (output(&["healthcheck", &flag]).status.code() == Some(0)).then_some(()));
    drop(dev);
    let ended = output(&["healthcheck", &flag]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("/ready"), "{}", text(&ended.stderr));
}

#[test]
fn wrong_words_are_usage_errors_with_advice() {
    for (args, word) in [
        (vec!["serv"], "unknown command"),
        (vec!["top"], "not in this version"),
        (vec!["migrate"], "nothing is given"),
        (vec!["serve", "--entryPoint.web.address=:80"], "entryPoints"),
        (vec!["dev", "--web", "nonsense"], "nonsense"),
        (vec!["version", "--what"], "--json"),
        (vec!["help", "nonesuch"], "unknown command"),
    ] {
        let output = output(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(word), "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn version_and_help_are_printed() {
    assert!(text(&output(&["version"]).stdout).starts_with(&format!("rust-lb {}", env!("CARGO_PKG_VERSION"))));
    let json: serde_json::Value = serde_json::from_slice(&output(&["version", "--json"]).stdout).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(output(&["--version"]).stdout, output(&["version"]).stdout);
    for command in ["serve", "dev", "check", "rule", "render", "explain", "healthcheck", "version"] {
        let help = output(&[command, "--help"]);
        assert_eq!(output(&["help", command]).stdout, help.stdout);
        assert_eq!(help.status.code(), Some(0), "{command}: {}", text(&help.stderr));
        assert!(text(&help.stdout).to_lowercase().contains("usage: rust-lb"), "{command}: {}", text(&help.stdout));
    }
}

#[test]
fn check_exits_by_what_it_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        format!("--configFile={}", path.display())
    };
    let good = write("good.yaml", "entryPoints:\n  web:\n    address: \":80\"\n");
    let bad = write("bad.yaml", "entryPoints:\n  web:\n    adress: \":80\"\n");
    assert_eq!(output(&["check", &good]).status.code(), Some(0));
    let refused = output(&["check", &bad]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stdout) + &text(&refused.stderr);
    assert!(said.contains("bad.yaml:3:5") && said.contains("address"), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output(&["check", "--json", &bad]).stdout).expect("JSON");
    assert!(json.to_string().contains("adress"), "{json}");
}

/// A configuration on a file system that hangs: here a named pipe that nobody writes to.
#[test]
fn a_configuration_that_cannot_be_read_again_keeps_nobody_from_ending_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rust-lb.yaml");
    std::fs::write(&file, "log:\n  level: INFO\n").expect("written");
    let running = Running::dev(dir.path(), &["--no-samples", &format!("--configFile={}", file.display())]);
    std::fs::remove_file(&file).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.is_ok_and(|status| status.success()));
    running.signal("-HUP");
    running.signal("-HUP");
    assert_eq!(client::get(running.addr("admin"), "127.0.0.1", "/ping").status, 200);
    running.signal("-TERM");
    let (status, log) = running.wait();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn a_second_signal_ends_it_without_waiting_for_requests() {
    let dir = tempfile::tempdir().expect("a folder");
    let grace = "--entryPoints.web.transport.lifeCycle.graceTimeOut=1h";
    let dev = Running::dev(dir.path(), &["--no-samples", grace]);
    // It takes requests and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = silent.local_addr().expect("bound").port();
    let body = format!(r#"{{"Name":"silent","Address":"127.0.0.1","Port":{port},"Tags":["urlprefix-silent.test/"]}}"#);
    assert_eq!(client::send(dev.addr("consul"), "PUT", "c", "/v1/agent/service/register", "", &body).status, 200);
    eventually("the route is there", || {
        client::get(dev.addr("admin"), "127.0.0.1", "/api/rawdata").text().contains("silent.test").then_some(())
    });
    let mut connection = Connection::open(dev.addr("web")).expect("connects");
    connection.send(b"GET / HTTP/1.1\r\nHost: silent.test\r\n\r\n").expect("sent");
    let _held = silent.accept().expect("the proxy comes");
    dev.signal("-TERM");
    eventually("it drains", || (client::get(dev.addr("admin"), "127.0.0.1", "/ping").status == 503).then_some(()));
    dev.signal("-TERM");
    let (status, log) = dev.wait();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("asked again"), "{log}");
}
