//! Dynamic configuration from files and through the API, in a running proxy.

mod decode;

use super::support::client;
use super::support::eventually;
use super::support::proxy::{Catalog, Proxy};
use super::support::server::Server;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A router for `NAME.test` with its service, in YAML.
fn route(name: &str, server: &Server) -> String {
    format!(
        "http:\n  routers:\n    {name}:\n      rule: Host(`{name}.test`)\n      service: {name}\n  services:\n    {name}:\n      \
         loadBalancer:\n        servers:\n          - url: http://{}\n",
        server.addr
    )
}

struct Rig {
    proxy: Proxy,
    dir: PathBuf,
    _kept: tempfile::TempDir,
}

impl Rig {
    /// A proxy over a directory with these files.
    fn start(files: &[(&str, String)], flags: &[&str]) -> Self {
        let kept = tempfile::tempdir().expect("a folder");
        let dir = kept.path().to_owned();
        for (name, text) in files {
            fs::write(dir.join(name), text).expect("a file");
        }
        let directory = format!("--providers.file.directory={}", dir.display());
        let flags: Vec<&str> = [directory.as_str()].into_iter().chain(flags.iter().copied()).collect();
        Self { proxy: Proxy::start(&flags), dir, _kept: kept }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).expect("a file");
    }

    /// Beside itself and renamed, as editors and deployments do.
    fn replace(&self, name: &str, text: &str) {
        let beside = self.dir.join(format!("{name}.new"));
        fs::write(&beside, text).expect("a file");
        fs::rename(&beside, self.dir.join(name)).expect("a rename");
    }

    fn wait_for_problem(&self, code: &str) -> serde_json::Value {
        eventually(&format!("the problem `{code}`"), || {
            let problems = self.proxy.admin("/api/problems").json();
            problems.as_array()?.iter().find(|p| p["code"] == code).cloned()
        })
    }
}

#[test]
fn files_are_served_from_the_start_and_shown() {
    let server = Server::start("a");
    let off = ["--providers.nomad=false", "--providers.consulCatalog=false"];
    let rig = Rig::start(&[("a.yaml", route("a", &server))], &off);
    // without waiting: they are read before the first connection is accepted
    assert_eq!(rig.proxy.get("a.test", "/").status, 200);
    assert_eq!(rig.proxy.admin("/ready").status, 200);
    let raw = rig.proxy.admin("/api/rawdata").json();
    assert_eq!(raw["providers"]["file"]["state"], "connected", "{raw}");
    assert_eq!(raw["routers"]["a@file"]["status"], "enabled", "{raw}");
    let routers = rig.proxy.admin("/api/http/routers").json();
    let router = routers.as_array().and_then(|all| all.iter().find(|r| r["name"] == "a@file"));
    assert_eq!(router.expect("the router")["provider"], "file");
}

#[test]
fn changes_are_taken_up_however_they_are_written() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let rig = Rig::start(&[("a.yaml", route("a", &a))], &[]);
    rig.write("a.yaml", &route("in-place", &a));
    rig.proxy.wait_for("in-place.test", "/", 200);
    assert_eq!(rig.proxy.get("a.test", "/").status, 404);
    rig.replace("a.yaml", &route("renamed", &a));
    rig.proxy.wait_for("renamed.test", "/", 200);
    fs::create_dir(rig.dir.join("below")).expect("a directory");
    rig.write("below/b.yml", &route("b", &b));
    rig.proxy.wait_for("b.test", "/", 200);
    fs::remove_file(rig.dir.join("below/b.yml")).expect("removed");
    rig.proxy.wait_for("b.test", "/", 404);
    assert_eq!(rig.proxy.get("renamed.test", "/").status, 200);
}

#[test]
fn one_file_alone_is_watched_too() {
    let server = Server::start("a");
    let kept = tempfile::tempdir().expect("a folder");
    let file = kept.path().join("dynamic.toml");
    let toml = |host: &str| {
        format!(
            "[http.routers.a]\nrule = \"Host(`{host}`)\"\nservice = \"a\"\n[[http.services.a.loadBalancer.servers]]\nurl = \"http://{}\"\n",
            server.addr
        )
    };
    fs::write(&file, toml("one.test")).expect("a file");
    let proxy = Proxy::start(&[&format!("--providers.file.filename={}", file.display())]);
    assert_eq!(proxy.get("one.test", "/").status, 200);
    let beside = kept.path().join("x");
    fs::write(&beside, toml("two.test")).expect("a file");
    fs::rename(&beside, &file).expect("a rename");
    proxy.wait_for("two.test", "/", 200);
}

#[test]
fn a_bad_file_disables_no_other_and_keeps_what_it_declared() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let rig = Rig::start(&[("a.yaml", route("a", &a)), ("bad.yaml", "http: [\n".to_owned())], &[]);
    assert_eq!(rig.proxy.get("a.test", "/").status, 200);
    let problem = rig.wait_for_problem("malformed_file");
    assert!(problem["file"].as_str().is_some_and(|file| file.ends_with("/bad.yaml")), "{problem}");
    assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{problem}");
    rig.write("bad.yaml", &route("b", &b));
    rig.proxy.wait_for("b.test", "/", 200);
    rig.write("bad.yaml", "http:\n  routers: }\n");
    let problem = rig.wait_for_problem("malformed_file");
    assert!(problem["help"].as_str().is_some_and(|help| help.contains("stays in force")), "{problem}");
    assert_eq!(rig.proxy.get("b.test", "/").status, 200);
    rig.write("bad.yaml", "{{ range . }}\n");
    rig.wait_for_problem("template");
    assert_eq!(rig.proxy.get("b.test", "/").status, 200);
    rig.write("bad.yaml", &route("c", &b));
    rig.proxy.wait_for("c.test", "/", 200);
    assert_eq!(rig.proxy.get("b.test", "/").status, 404);
}

#[test]
fn a_bad_definition_costs_itself_only_and_a_live_one_keeps_its_last_good_form() {
    let server = Server::start("s");
    let rig = Rig::start(&[("a.yaml", route("a", &server)), ("b.yaml", route("b", &server))], &[]);
    assert_eq!(rig.proxy.get("a.test", "/").status, 200);
    let bad = route("a", &server).replace("rule: Host(`a.test`)", "rule: Host(`other.test`)\n      entryPoint: web");
    let more = "    fresh:\n      rule: Host(`fresh.test`)\n      service: a\n  services:\n";
    rig.write("a.yaml", &bad.replace("  services:\n", more));
    rig.proxy.wait_for("fresh.test", "/", 200);
    assert_eq!(rig.proxy.get("a.test", "/").status, 200, "its last good form stays");
    assert_eq!(rig.proxy.get("other.test", "/").status, 404, "it is not served without what cannot be read");
    let problem = rig.wait_for_problem("unknown_option");
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(5), Some(7)), "{problem}");
    assert_eq!(problem["help"], "did you mean `entryPoints`?");
    // a heading that cannot be read loses nothing either
    rig.write("b.yaml", &route("b", &server).replace("  routers:", "  router:"));
    eventually("the heading is told", || {
        rig.proxy.admin("/api/problems").text().contains("did you mean `routers`?").then_some(())
    });
    assert_eq!(rig.proxy.get("b.test", "/").status, 200);
}

#[test]
fn a_half_written_file_is_waited_for() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let whole = format!("{}\n# the end\n", route("a", &a));
    let rig = Rig::start(&[("a.yaml", whole.clone())], &[]);
    let changed = whole.replace("a.test", "changed.test");
    let half = changed.find("changed.test").map(|at| &changed[..at + 4]).expect("half of it");
    let mut file = fs::File::create(rig.dir.join("a.yaml")).expect("emptied");
    // another file is taken up meanwhile, so the directory was looked at
    rig.write("b.yaml", &route("b", &b));
    rig.proxy.wait_for("b.test", "/", 200);
    assert_eq!(rig.proxy.get("a.test", "/").status, 200, "an emptied file counts as half-written");
    file.write_all(half.as_bytes()).expect("written");
    rig.write("b.yaml", &route("c", &b));
    rig.proxy.wait_for("c.test", "/", 200);
    assert_eq!(rig.proxy.get("a.test", "/").status, 200);
    file.write_all(&changed.as_bytes()[half.len()..]).expect("written");
    drop(file);
    rig.proxy.wait_for("changed.test", "/", 200);
    assert_eq!(rig.proxy.get("a.test", "/").status, 404);
}

#[test]
fn a_tag_may_name_a_middleware_of_a_file() {
    let server = Server::start("n");
    let middleware = "http:\n  middlewares:\n    cut:\n      stripPrefix:\n        prefixes: [/api]\n";
    let rig = Rig::start(&[("m.yaml", middleware.to_owned())], &[]);
    let tags = [
        "traefik.enable=true",
        "traefik.http.routers.n.rule=Host(`n.test`)",
        "traefik.http.routers.n.middlewares=cut@file",
    ];
    rig.proxy.catalog.register_nomad("n1", "n", server.addr, &tags);
    let answer = rig.proxy.wait_for("n.test", "/api/x", 200);
    assert!(answer.text().starts_with("n\nGET /x HTTP/1.1"), "{}", answer.text());
    // and a file a service of the catalog
    let router = "http:\n  routers:\n    f:\n      rule: Host(`f.test`)\n      service: n@nomad\n";
    rig.write("r.yaml", router);
    rig.proxy.wait_for("f.test", "/", 200);
}

#[test]
fn a_file_that_cannot_be_read_at_the_start_has_what_was_last_good() {
    let server = Server::start("a");
    let (catalog, state) = (Catalog::start(), Arc::new(tempfile::tempdir().expect("a folder")));
    let files = tempfile::tempdir().expect("a folder");
    fs::write(files.path().join("a.yaml"), route("a", &server)).expect("a file");
    let directory = format!("--providers.file.directory={}", files.path().display());
    let flags = [directory.as_str(), "--providers.nomad=false", "--providers.consulCatalog=false"];
    let first = Proxy::over(catalog.clone(), state.clone(), &flags);
    assert_eq!(first.get("a.test", "/").status, 200);
    first.running.stop();
    fs::write(files.path().join("a.yaml"), "http: [").expect("a file");
    let second = Proxy::over(catalog, state, &flags);
    assert_eq!(second.get("a.test", "/").status, 200);
    fs::write(files.path().join("a.yaml"), "http: {}\n").expect("a file");
    second.wait_for("a.test", "/", 404);
}

#[test]
fn certificates_that_a_file_names_are_served() {
    let server = Server::start("t");
    let made = rcgen::generate_simple_self_signed(vec!["t.test".to_owned()]).expect("a certificate");
    let certs = tempfile::tempdir().expect("a folder");
    let (chain, key) = (certs.path().join("t.crt"), certs.path().join("t.key"));
    fs::write(&chain, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let tls = format!("tls:\n  certificates:\n    - certFile: {}\n      keyFile: {}\n", chain.display(), key.display());
    let rig = Rig::start(&[("t.yaml", route("t", &server)), ("tls.yaml", tls)], &[]);
    let secure = rig.proxy.entry_point("websecure");
    let status = || super::support::tls::get(secure, made.cert.pem().as_bytes(), "t.test", "/");
    assert_eq!(status(), Some(200), "from the first handshake on");
}

/// What a PUT answers.
fn put(proxy: &Proxy, headers: &str, body: &str) -> client::Answer {
    client::send(proxy.entry_point("traefik"), "PUT", "127.0.0.1", "/api/providers/rest", headers, body)
}

fn document(name: &str, server: &Server) -> String {
    serde_json::json!({"http": {
        "routers": {name: {"rule": format!("Host(`{name}.test`)"), "service": name}},
        "services": {name: {"loadBalancer": {"servers": [{"url": format!("http://{}", server.addr)}]}}},
    }})
    .to_string()
}

fn token_file(dir: &Path) -> String {
    let file = dir.join("token");
    fs::write(&file, "hunter2\n").expect("a file");
    format!("--rustLb.api.tokenFile={}", file.display())
}

#[test]
fn the_api_takes_a_document_whole_or_not_at_all_and_keeps_it() {
    let server = Server::start("r");
    let (catalog, state) = (Catalog::start(), Arc::new(tempfile::tempdir().expect("a folder")));
    let token = token_file(state.path());
    let flags = ["--providers.rest=true", token.as_str()];
    let proxy = Proxy::over(catalog.clone(), state.clone(), &flags);
    for headers in ["", "Authorization: Bearer wrong\r\n"] {
        let answer = put(&proxy, headers, &document("r", &server));
        assert!(matches!(answer.status, 401 | 403), "{}", answer.text());
    }
    let bearer = "Authorization: Bearer hunter2\r\n";
    assert_eq!(put(&proxy, bearer, &document("r", &server)).status, 200);
    proxy.wait_for("r.test", "/", 200);
    let raw = proxy.admin("/api/rawdata").json();
    assert_eq!(
        (&raw["providers"]["rest"]["state"], &raw["routers"]["r@rest"]["status"]),
        (&"connected".into(), &"enabled".into())
    );
    let refused = [
        ("{", "malformed_file"),
        ("[]", "malformed_file"),
        (r#"{"http":{"routers":{"x":{"rul":"Host(`x.test`)"}}}}"#, "unknown_option"),
        (r#"{"http":{"routers":{"x":{"rule":"Host(`x.test`","service":"x"}}}}"#, "bad_rule"),
    ];
    for (body, code) in refused {
        let answer = put(&proxy, bearer, body);
        let reasons = answer.json();
        assert_eq!((answer.status, &reasons["problems"][0]["code"]), (400, &code.into()), "{reasons}");
    }
    assert_eq!(proxy.get("r.test", "/").status, 200, "a refused document changes nothing");
    proxy.running.stop();
    let again = Proxy::over(catalog, state, &flags);
    assert_eq!(again.get("r.test", "/").status, 200, "what was put outlives a restart");
    assert_eq!(put(&again, bearer, "{}").status, 200);
    again.wait_for("r.test", "/", 404);
}

#[test]
fn the_api_takes_documents_only_where_that_is_on() {
    let server = Server::start("r");
    let off = Proxy::start(&[]);
    assert_eq!(put(&off, "", &document("r", &server)).status, 404);
    let closed = Proxy::start(&["--providers.rest=true"]);
    assert_eq!(put(&closed, "", &document("r", &server)).status, 403);
    let open = Proxy::start(&["--providers.rest.insecure=true"]);
    assert_eq!(put(&open, "Origin: http://evil.test\r\n", &document("r", &server)).status, 403);
    assert_eq!(put(&open, "", &document("r", &server)).status, 200);
    open.wait_for("r.test", "/", 200);
    assert_eq!(open.admin("/api/providers/rest").status, 405);
}

#[test]
fn check_reads_the_files_and_points_at_the_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let dynamic = dir.path().join("dynamic.yaml");
    let text = "http:\n  routers:\n    a:\n      rule: Host(`a.test`\n      service: nowhere\n    b:\n      rule: Host(`b.test`)\n      servce: b\n";
    fs::write(&dynamic, text).expect("a file");
    let file = format!("--providers.file.filename={}", dynamic.display());
    let output = super::support::binary::output(&["check", &file]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("unknown option `servce` in `http.routers.b`"), "{stderr}");
    assert!(stderr.contains("dynamic.yaml:8:7\n"), "{stderr}");
    assert!(stderr.contains("      ^^^^^^\n"), "{stderr}");
    assert!(stderr.contains("did you mean `service`?"), "{stderr}");
    assert!(stderr.contains("names the service `nowhere`, which does not exist"), "{stderr}");
    assert!(stderr.contains("dynamic.yaml:5:16\n"), "{stderr}");
}
