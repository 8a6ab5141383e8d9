//! Real Traefik in the slot: to it and back, with its ports to itself and shared; and the configuration of its trial.

use super::super::support::{client, eventually};
use super::all;
use super::bed::{Bed, which};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A box whose Traefik has the entry points of the others, and its API on the port of rust-lb's.
fn bed(share: bool) -> Bed {
    let mut bed = Bed::new(&["a.test"]);
    let admin = bed.env["PROXY_RUST_LB_ADMIN"].clone();
    let consul = bed.catalog.as_ref().expect("a catalog").addr("consul");
    let reuse = format!("    reusePort: {share}\n");
    let text = format!(
        "entryPoints:\n  web:\n    address: \"{}\"\n{reuse}    http:\n      redirections:\n        entryPoint: {{to: websecure}}\n  \
         websecure:\n    address: \"{}\"\n{reuse}    http:\n      tls: {{}}\n  traefik:\n    address: \"{admin}\"\n\
         api:\n  insecure: true\nproviders:\n  consulCatalog:\n    exposedByDefault: false\n    endpoint:\n      address: \"{consul}\"\n",
        bed.http, bed.https
    );
    std::fs::write(bed.path("etc/traefik.yaml"), text).expect("written");
    let config = bed.path("etc/traefik.yaml").display().to_string();
    let binary = which("traefik").unwrap_or_default().display().to_string();
    for (name, value) in [("PROXY_TRAEFIK", binary), ("PROXY_TRAEFIK_CONFIG", config), ("PROXY_TRAEFIK_ADMIN", admin)] {
        bed.env.insert(name.to_owned(), value);
    }
    bed
}

/// Waits until this one alone runs, and answers.
fn runs(bed: &Bed, name: &str) {
    let line = format!("running: {name} (pid ");
    eventually(&format!("{name} alone runs"), || {
        let (_, said) = bed.switch(&["--status"]);
        let running = said.lines().filter(|said| said.starts_with("running: ")).collect::<Vec<_>>();
        (running.len() == 1 && running[0].starts_with(&line) && running[0].ends_with("has the ports")).then_some(())
    });
    eventually("it answers", || {
        client::try_get(bed.http, "a.test", "/").ok().filter(|answer| answer.status < 400).map(drop)
    });
}

#[test]
fn to_traefik_and_back() {
    if !all(&["supervisord", "caddy", "curl", "traefik"]) {
        return;
    }
    for share in [false, true] {
        let mut bed = bed(share);
        bed.start("caddy");
        bed.served_by("caddy", "a.test");
        // Traefik knows nothing of HinD's tags.
        let (code, said) = bed.switch(&["traefik"]);
        assert!(code == 4 && said.contains("would not serve 1 hosts") && said.contains("  a.test"), "{code}\n{said}");
        runs(&bed, "caddy");
        bed.register_tags(
            "a.test",
            &["https://a.test", "traefik.enable=true", "traefik.http.routers.a.rule=Host(`a.test`)"],
        );
        let (code, said) = bed.switch(&["traefik"]);
        assert_eq!(code, 0, "{said}\n{}", bed.log());
        assert_eq!(said.contains("caddy and traefik cannot share the ports"), !share, "{said}");
        runs(&bed, "traefik");
        // With that tag, and without a certificate that anybody trusts, it is served at port 80 too: told, and accepted.
        let (code, said) = bed.switch(&["rust-lb"]);
        assert!(code == 4 && said.contains("301 now, 200 then"), "{code}\n{said}");
        runs(&bed, "traefik");
        let (code, said) = bed.switch(&["rust-lb", "--accept-differences"]);
        assert_eq!(code, 0, "{said}\n{}", bed.log());
        // Both have their API on one port.
        assert!(said.contains("traefik and rust-lb cannot share the ports"), "{said}");
        runs(&bed, "rust-lb");
        for name in ["traefik", "rust-lb"] {
            let (code, said) = bed.switch(&["--rollback"]);
            assert_eq!(code, 0, "{said}\n{}", bed.log());
            runs(&bed, name);
        }
    }
}

#[test]
fn the_trial_of_traefik_has_ports_of_its_own() {
    let text = "# mine\nentryPoints:\n  # first\n  web:\n    address: \":80\"\n  secure:\n    address: '0.0.0.0:443/tcp' # x\n  \
                big: {address: \":8080\"}\n  metrics:\n    address: :8081\nproviders:\n  nomad:\n    endpoint:\n      \
                address: http://127.0.0.1:80\ncertificatesResolvers:\n  r:\n    acme:\n      storage: /etc/acme.json\n";
    let expected = "# mine\nentryPoints:\n  traefik:\n    address: \"127.0.0.1:18081\"\n  # first\n  web:\n    address: \":18080\"\n  \
                    secure:\n    address: '0.0.0.0:18443/tcp' # x\n  big: {address: \":18081\"}\n  metrics:\n    \
                    address: :8081\nproviders:\n  nomad:\n    endpoint:\n      address: http://127.0.0.1:80\n\
                    certificatesResolvers:\n  r:\n    acme:\n      storage: /dev/null\napi:\n  insecure: true\n";
    let dir = tempfile::tempdir().expect("a folder");
    let script = "set -u; . ./proxy-lib.sh; . ./proxy-probe.sh; trial_http=18080 trial_https=18443 trial_api=18081; trial_traefik";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("supervisor"));
    // With the defaults of all that is not set.
    shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("work", dir.path());
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
