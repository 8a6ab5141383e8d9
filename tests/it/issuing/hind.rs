//! HinD's way: hosts of `https://` tags and of `FQDN` get certificates without anybody asking for them.

use super::World;
use crate::acme::ca::Manner;
use crate::support::proxy::Catalog;

#[test]
fn hosts_of_site_tags_and_of_fqdn_are_ordered_for() {
    let world = World::new(Manner { waits: true, ..Manner::default() });
    let catalog = Catalog::start();
    let tag = ["https://app.shop.com", "urlprefix-old.shop.com/"];
    catalog.register("a", "app", world.server.addr, &tag[..1]);
    // Fabio's tags and Traefik's without a resolver ask for nothing, nor do names of the own network.
    catalog.register("b", "old", world.server.addr, &tag[1..]);
    catalog.register(
        "c",
        "web",
        world.server.addr,
        &["traefik.enable=true", "traefik.http.routers.w.rule=Host(`w.shop.com`)"],
    );
    catalog.register("d", "inner", world.server.addr, &["https://inner.localhost"]);
    let setup = world.setup(&["--rustLb.certificates.resolver=tls"]);
    let setup = setup
        .env("FQDN", "nomad.shop.com")
        .arg(format!("--providers.consulCatalog.endpoint.address=http://{}", catalog.consul()))
        .arg("--providers.consulCatalog.exposedByDefault=false");
    let proxy = world.start(setup);
    world.wait_for(&proxy, "app.shop.com");
    world.wait_for(&proxy, "nomad.shop.com");
    assert_eq!(world.orders(), 2);
    // One more tag, one more order; one that goes leaves its certificate where it is.
    catalog.register("e", "new", world.server.addr, &["https://new.shop.com"]);
    world.wait_for(&proxy, "new.shop.com");
    catalog.deregister("a");
    assert!(world.site("app.shop.com").join("app.shop.com.crt").exists());
    assert_eq!(world.orders(), 3);
}
