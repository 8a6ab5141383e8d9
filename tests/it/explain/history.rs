//! What changed the routing table is always named.

use super::super::support::eventually;
use super::super::support::proxy::Proxy;
use super::super::support::server::Server;

#[test]
fn every_change_names_its_cause() {
    let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
    let server = Server::start("x");
    // its service is there and its router is refused
    let tags = [
        "traefik.enable=true",
        "traefik.http.routers.x.rule=Host(`x.test`)",
        "traefik.http.routers.x.middlewares=nope",
    ];
    let changes = |wanted: usize| {
        eventually(&format!("{wanted} changes"), || {
            let history = proxy.admin("/api/history").json();
            history.as_array().filter(|all| all.len() >= wanted).cloned()
        })
    };
    proxy.catalog.register("x1", "x", server.addr, &tags);
    changes(1);
    proxy.catalog.deregister("x1");
    for change in changes(2) {
        assert_eq!((&change["provider"], &change["services"][0]), (&"consulcatalog".into(), &"x".into()), "{change}");
        assert_eq!(change["causes"][0]["service"], "x", "{change}");
    }
}
