//! Two rust-lb beside each other: over plain connections, TLS and a Unix socket, by the rules of one of them.

use super::{Scripted, compare_with};
use crate::support::binary::Running;
use crate::support::{client, eventually};
use std::net::SocketAddr;

fn register(consul: SocketAddr, name: &str, tags: &str, server: SocketAddr) {
    let body = format!(r#"{{"Name":"{name}","Address":"127.0.0.1","Port":{},"Tags":[{tags}]}}"#, server.port());
    let answer = client::send(consul, "PUT", "127.0.0.1", "/v1/agent/service/register", "", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn instance(dir: &std::path::Path) -> Running {
    Running::dev(dir, &["--no-samples"])
}

fn served(web: SocketAddr, host: &str, path: &str) {
    eventually(&format!("{host}{path} is served"), || {
        client::try_get(web, host, path).ok().filter(|answer| answer.status == 200).map(drop)
    });
}

#[test]
fn the_rules_of_one_are_asked_of_both() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Scripted::saying("s");
    let home = |name: &str| {
        let home = dir.path().join(name);
        std::fs::create_dir(&home).expect("a folder");
        instance(&home)
    };
    let (old, new) = (home("old"), home("new"));
    let ca = dir.path().join("roots.pem").display().to_string();
    let root = |of: &Running| std::fs::read_to_string(of.said["ca"].as_str().expect("a root")).expect("a file");
    std::fs::write(&ca, root(&old) + &root(&new)).expect("written");
    let legacy = r#""urlprefix-shop.test/api""#;
    // a prefix of Fabio's is one of characters; one that ends in a slash is not
    let other = r#""traefik.enable=true","traefik.http.routers.shop.rule=Host(`shop.test`) && PathPrefix(`/api/`)""#;
    register(old.addr("consul"), "shop", legacy, server.addr);
    register(new.addr("consul"), "shop", legacy, server.addr);
    for instance in [&old, &new] {
        served(instance.addr("web"), "shop.test", "/api");
    }
    let url = |instance: &Running, name: &str, scheme: &str| format!("{scheme}://{}", instance.addr(name));
    let (old_web, new_web) = (url(&old, "web", "http"), url(&new, "web", "http"));
    let (old_tls, new_tls) = (url(&old, "websecure", "https"), url(&new, "websecure", "https"));
    let admin = url(&old, "admin", "http");
    let both = [
        "--old",
        &old_web,
        "--old",
        &old_tls,
        "--new",
        &new_web,
        "--new",
        &new_tls,
        "--from-admin",
        &admin,
        "--rate",
        "0",
    ];
    let run = |more: &[&str]| compare_with("", &[&both[..], more].concat());
    let given = run(&["--ca", &ca]);
    assert_eq!(given.code, Some(0), "{}{}", given.out, given.err);
    assert!(given.err.contains("records of the routers of an instance"), "{}", given.err);
    assert!(given.out.contains("compared 8 requests (of 10 recorded): 8 the same"), "{}", given.out);
    assert!(!given.out.contains("another scheme"), "{}", given.out);

    register(new.addr("consul"), "shop", other, server.addr);
    eventually("the prefix has a slash", || {
        client::try_get(new.addr("web"), "shop.test", "/api").ok().filter(|answer| answer.status == 404).map(drop)
    });
    let given = run(&["--insecure"]);
    assert_eq!(given.code, Some(1), "{}{}", given.out, given.err);
    for scheme in ["http", "https"] {
        let line = format!("different GET {scheme}://shop.test/api (");
        assert!(given.out.contains(&line), "{line:?} not in\n{}", given.out);
        assert!(!given.out.contains(&format!("{scheme}://shop.test/api/below")), "{}", given.out);
    }

    // nobody's certificate
    let given = compare_with("", &["--old", &old_tls, "--new", &new_tls, "--url", "https://shop.test/api"]);
    assert_eq!(given.code, Some(2), "{}", given.out);
    assert!(given.err.contains("no TLS") && given.err.contains("hint: `--ca FILE`"), "{}", given.err);
}

#[test]
fn http2_is_spoken_where_it_is_offered() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Scripted::saying("s");
    let one = instance(dir.path());
    register(one.addr("consul"), "shop", r#""urlprefix-shop.test/""#, server.addr);
    served(one.addr("web"), "shop.test", "/");
    let (plain, tls) = (format!("http://{}", one.addr("web")), format!("https://{}", one.addr("websecure")));
    let run = |old: &str, more: &[&str]| {
        let urls = [
            "--url",
            "https://shop.test:8443/a?b=c",
            "--url",
            "HEAD https://shop.test/h",
            "--url",
            "OPTIONS https://shop.test/o",
        ];
        let given =
            compare_with("", &[&["--old", old, "--new", &tls, "--insecure", "--rate", "0"][..], &urls, more].concat());
        assert_eq!(given.code, Some(0), "{}{}", given.out, given.err);
        given
    };
    let before = server.heads().len();
    let json = run(&tls, &["--json"]).json();
    assert_eq!(json["protocols"], serde_json::json!({"old": ["HTTP/2"], "new": ["HTTP/2"]}), "{json}");
    assert_eq!(json["requests"]["same"], 3, "{json}");
    let heads = server.heads().split_off(before);
    assert_eq!(heads.len(), 6, "{heads:?}");
    let host =
        |head: &String| head.starts_with("GET /a?b=c ") && head.to_lowercase().contains("host: shop.test:8443\r\n");
    assert_eq!(heads.iter().filter(|head| host(head)).count(), 2, "{heads:?}");
    let json = run(&tls, &["--json", "--http1"]).json();
    assert_eq!(json["protocols"], serde_json::json!({"old": ["HTTP/1.1"], "new": ["HTTP/1.1"]}), "{json}");
    // a plain address has no HTTP/2, which is told
    let given = run(&plain, &["--ignore-header", "strict-transport-security"]);
    assert!(given.out.contains("note: the old proxy answers by HTTP/1.1, the new one by HTTP/2\n"), "{}", given.out);
}
