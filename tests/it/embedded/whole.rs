//! Starting, ending, and the samples.

use super::raw::{self, get, soon};
use rust_lb::embedded::{EmbeddedError, Options, samples, start};
use std::collections::BTreeMap;
use std::net::SocketAddr;

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = start(&Options { consul: Some(addr), ..Options::default() }).unwrap_err();
    assert!(matches!(error, EmbeddedError::PortInUse { flag: "consul", .. }));
    let text = format!(
        "the embedded Consul cannot listen on {addr}: the port is in use; choose another with `--consul`, port 0 for any"
    );
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn dropping_it_ends_it() {
    let embedded = start(&Options::default()).unwrap();
    let addr = embedded.nomad_addr().unwrap();
    let mut events = raw::stream(addr, "/v1/event/stream?topic=Service", &[]).await;
    assert_eq!(soon(events.line()).await.as_deref(), Some("{}"));
    drop(embedded);
    assert!(soon(events.line()).await.is_none());
}

#[tokio::test]
async fn without_listeners_the_state_is_there_all_the_same() {
    let embedded = start(&Options { nomad: None, consul: None, ..Options::default() }).unwrap();
    assert_eq!((embedded.nomad_addr(), embedded.consul_addr()), (None, None));
    assert!(embedded.nomad().deregister("default", "x").is_none());
}

#[tokio::test]
async fn the_samples_answer_and_are_registered_in_every_dialect() {
    let embedded = start(&Options::default()).unwrap();
    let samples = samples::start(&embedded, "localhost").unwrap();
    let listed: BTreeMap<_, _> =
        samples.list.iter().map(|s| (s.service.as_str(), (s.dialect, s.host.as_str(), s.tls))).collect();
    assert_eq!(
        listed,
        BTreeMap::from([
            ("whoami", ("traefik", "whoami.localhost", false)),
            ("hello", ("traefik", "hello.localhost", false)),
            ("docs", ("urlprefix", "docs.localhost", false)),
            ("shop", ("urlprefix", "shop.localhost", false)),
            ("site", ("site", "site.localhost", true)),
        ])
    );
    let (nomad, consul) = (embedded.nomad_addr().unwrap(), embedded.consul_addr().unwrap());
    let whoami = get(nomad, "/v1/service/whoami").await.json();
    assert_eq!(whoami.as_array().unwrap().len(), 2);
    assert_eq!(get(nomad, "/v1/service/hello").await.json()[0]["Tags"].to_string(), r#"["traefik.enable=true"]"#);
    let tag = async |name: &str| {
        let entry = get(consul, &format!("/v1/health/service/{name}?passing")).await.json()[0].clone();
        (entry["Service"]["Tags"][0].as_str().unwrap().to_owned(), entry["Service"]["Port"].as_u64().unwrap() as u16)
    };
    assert_eq!(tag("docs").await.0, "urlprefix-docs.localhost/docs strip=/docs");
    assert_eq!(tag("shop").await.0, "urlprefix-shop.localhost/ weight=0.75");
    assert_eq!(tag("shop-canary").await.0, "urlprefix-shop.localhost/ weight=0.25");
    assert_eq!(tag("site").await.0, "https://site.localhost");
    let port = whoami[0]["Port"].as_u64().unwrap() as u16;
    for port in [port, tag("docs").await.1] {
        let answer =
            raw::get_with(SocketAddr::from(([127, 0, 0, 1], port)), "/a?b=c", &[("X-Real-Ip", "192.0.2.1")]).await;
        let text = answer.text();
        assert!(text.contains("request: GET /a?b=c HTTP/1.1") && text.contains("x-real-ip: 192.0.2.1"), "{text}");
    }
    drop(samples);
}
