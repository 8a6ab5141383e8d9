//! Tags: the recorded answers of Traefik's providers, and what the dialects come to together.

use proptest::prelude::*;
use rust_lb::catalog::{Health, Instance, Inventory, Service, ServiceKey, World};
use rust_lb::declare::{self, Declarations, Dialect, Http, MiddlewareKind};
use rust_lb::diagnostic::Diagnostic;
use rust_lb::model::Provider;
use rust_lb::tags::{Decoded, Decoder, LegacyMode, TagOptions, decode, is_routing_tag};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The default options, so that tests read `options()`.
pub(crate) fn options() -> TagOptions {
    TagOptions::default()
}

/// A service in the default namespace: instances by address, port and tags.
pub(crate) fn service(name: &str, instances: &[(&str, u16, &[&str])]) -> Service {
    let instances = instances.iter().enumerate().map(|(at, (address, port, tags))| Instance {
        id: format!("{name}-{at}").into(),
        node: "n1".into(),
        address: (*address).into(),
        node_address: "".into(),
        port: *port,
        tags: tags.iter().map(|t| Arc::from(*t)).collect(),
        health: Health::Passing,
        datacenter: "dc1".into(),
        create_index: 10 + at as u64,
        job: "".into(),
        alloc: "".into(),
        checks: None,
    });
    Service { key: ServiceKey { namespace: "default".into(), name: name.into() }, instances: instances.collect() }
}

/// A world with one source.
pub(crate) fn world(provider: Provider, services: Vec<Service>) -> World {
    let services = services.into_iter().map(|s| (s.key.clone(), Arc::new(s))).collect();
    World { sources: BTreeMap::from([(provider, Arc::new(Inventory { services }))]) }
}

/// Decodes one provider's services.
fn read(provider: Provider, services: Vec<Service>, options: TagOptions) -> (Http, Vec<Diagnostic>) {
    let Decoded { mut declarations, diagnostics } =
        decode(&world(provider, services), &BTreeMap::from([(provider, options)]));
    (declarations.remove(&provider).unwrap_or_default().http, diagnostics)
}

fn codes(problems: &[Diagnostic]) -> Vec<&str> {
    problems.iter().map(|p| &*p.code).collect()
}

fn urls(http: &Http, name: &str) -> Vec<(String, Option<u32>)> {
    let lb = http.services[name].load_balancer.as_ref().unwrap();
    lb.servers.iter().map(|s| (s.url.to_string(), s.weight)).collect()
}

/// The only pool router's name.
fn only_router(http: &Http) -> &str {
    assert_eq!(http.routers.len(), 1, "{:?}", http.routers.keys());
    http.routers.keys().next().unwrap()
}

#[test]
fn a_bad_tag_disables_only_its_router() {
    let tags = &[
        "traefik.enable=true",
        "traefik.http.routers.good.rule=Host(`good`)",
        "traefik.http.routers.bad.rule=Host(`bad`)",
        "traefik.http.routers.bad.priority=high",
        "traefik.http.middlewares.m.addprefix.prefixx=/a",
    ];
    let (http, problems) = read(Provider::Nomad, vec![service("web", &[("10.0.0.1", 80, tags)])], options());
    assert_eq!(http.routers.keys().map(|n| &**n).collect::<Vec<_>>(), ["good"]);
    assert!(http.broken.routers.contains("bad") && http.broken.middlewares.contains("m"));
    assert_eq!(codes(&problems), ["unknown_option", "bad_value"]);
    let bad = &problems[1];
    assert_eq!(bad.origin.tag.as_deref(), Some("traefik.http.routers.bad.priority=high"));
    assert_eq!(bad.origin.column, Some(35));
    assert_eq!(bad.origin.provider.as_deref(), Some("nomad"));
    assert_eq!(bad.origin.service.as_deref(), Some("web"));
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `prefix`?"));
}

#[test]
fn a_broken_service_still_says_which_servers_there_are() {
    let tags = &["traefik.enable=true", "traefik.http.services.s.loadbalancer.passhostheader=maybe"];
    let (http, problems) = read(Provider::Nomad, vec![service("web", &[("10.0.0.1", 80, tags)])], options());
    assert!(http.services.is_empty());
    let servers = &http.broken.services["s"].load_balancer.as_ref().unwrap().servers;
    assert_eq!(&*servers[0].url, "http://10.0.0.1:80");
    assert_eq!(codes(&problems), ["bad_value"]);
}

#[test]
fn the_older_instance_keeps_the_router_during_a_deployment() {
    let old = &["traefik.enable=true", "traefik.http.routers.r.rule=Host(`old`)"];
    let new = &["traefik.enable=true", "traefik.http.routers.r.rule=Host(`new`)"];
    let both = service("web", &[("10.0.0.1", 80, old), ("10.0.0.2", 80, new)]);
    let (http, problems) = read(Provider::Nomad, vec![both], options());
    assert_eq!(&*http.routers["r"].rule, "Host(`old`)");
    assert_eq!(urls(&http, "web").len(), 2, "the servers are of one service whatever the routers say");
    assert_eq!(codes(&problems), ["router_conflict"]);
    let (http, problems) = read(Provider::Nomad, vec![service("web", &[("10.0.0.2", 80, new)])], options());
    assert_eq!((&*http.routers["r"].rule, problems.len()), ("Host(`new`)", 0));
}

#[test]
fn a_name_stays_with_the_service_that_has_it_and_both_sides_are_named() {
    let tags =
        |host: &str| vec!["traefik.enable=true".to_owned(), format!("traefik.http.routers.r.rule=Host(`{host}`)")];
    let make = |name: &str, index: u64| {
        let mut s = service(name, &[("10.0.0.1", 80, &[])]);
        s.instances[0].tags = tags(name).iter().map(|t| t.as_str().into()).collect();
        s.instances[0].create_index = index;
        s
    };
    let (older, younger) = (make("older", 5), make("younger", 9));
    let mut decoder = Decoder::new(BTreeMap::from([(Provider::Nomad, options())]));
    let mut step = |services: Vec<Service>| {
        let decoded = decoder.decode(&world(Provider::Nomad, services));
        let http = &decoded.declarations[&Provider::Nomad].http;
        (http.routers["r"].rule.to_string(), decoded.diagnostics)
    };
    let (rule, problems) = step(vec![older.clone(), younger.clone()]);
    assert_eq!(rule, "Host(`older`)");
    assert_eq!(codes(&problems), ["router_conflict"]);
    assert!(problems[0].message.contains("`older`") && problems[0].message.contains("`younger`"));
    // the younger one gets the name when the older goes, and keeps it when that comes back
    assert_eq!(step(vec![younger.clone()]), ("Host(`younger`)".to_owned(), vec![]));
    let (rule, problems) = step(vec![older, younger]);
    assert_eq!((rule.as_str(), codes(&problems)), ("Host(`younger`)", vec!["router_conflict"]));
}

#[test]
fn servers_of_another_namespace_do_not_join() {
    let tags = &["traefik.enable=true", "traefik.http.routers.r.rule=Host(`a`)"];
    let mut theirs = service("web", &[("10.0.0.2", 80, tags)]);
    theirs.key.namespace = "team".into();
    theirs.instances[0].create_index = 99;
    let (http, problems) = read(Provider::Nomad, vec![service("web", &[("10.0.0.1", 80, tags)]), theirs], options());
    assert_eq!(urls(&http, "web"), [("http://10.0.0.1:80".to_owned(), None)]);
    assert_eq!(codes(&problems), ["service_conflict"]);
}

#[test]
fn nomad_and_consul_differ_about_enable() {
    for (tag, nomad, consul) in [
        ("traefik.enable=true", 1, 1),
        ("traefik.enable=TRUE", 0, 1),
        ("traefik.enable=1", 0, 0),
        ("traefik.enable=false", 0, 0),
    ] {
        let s = || vec![service("web", &[("10.0.0.1", 80, &[tag])])];
        assert_eq!(read(Provider::Nomad, s(), options()).0.routers.len(), nomad, "{tag}");
        assert_eq!(read(Provider::ConsulCatalog, s(), options()).0.routers.len(), consul, "{tag}");
    }
}

#[test]
fn health_decides_by_dialect() {
    let mut s = service("web", &[("10.0.0.1", 80, &["traefik.enable=true", "urlprefix-/a", "https://a.example"])]);
    let opts = || {
        let mut o = options();
        o.legacy.mode = LegacyMode::Merge;
        o
    };
    for (health, traefik, legacy) in [
        (Health::Passing, true, true),
        // Consul tells a state that nobody knows: Fabio does not route it
        (Health::Unknown, true, false),
        (Health::Warning, true, false),
        (Health::Critical, false, false),
        (Health::Maintenance, false, false),
    ] {
        s.instances[0].health = health;
        let (http, _) = read(Provider::ConsulCatalog, vec![s.clone()], opts());
        assert_eq!(http.services.contains_key("web"), traefik, "{health:?}");
        assert_eq!(http.routers.keys().any(|n| n.starts_with("fb-")), legacy, "{health:?}");
        assert_eq!(http.routers.keys().any(|n| n.starts_with("site-")), legacy, "{health:?}");
    }
}

#[test]
fn legacy_tags_count_by_mode_and_never_where_the_service_is_switched_off() {
    let both: &[&str] = &["traefik.enable=true", "urlprefix-a.example/"];
    let cases = [
        (LegacyMode::Fallback, both, 1),
        (LegacyMode::Merge, both, 2),
        (LegacyMode::Off, both, 1),
        (LegacyMode::Fallback, &["urlprefix-a.example/"], 1),
        (LegacyMode::Fallback, &["urlprefix-a.example/", "traefik.http.routers.r.rule=Host(`a`)"], 1),
        (LegacyMode::Merge, &["urlprefix-a.example/", "traefik.enable=false"], 0),
        (LegacyMode::Off, &["urlprefix-a.example/"], 0),
    ];
    for (mode, tags, routers) in cases {
        let mut opts = options();
        opts.legacy.mode = mode;
        let (http, _) = read(Provider::Nomad, vec![service("web", &[("10.0.0.1", 80, tags)])], opts);
        assert_eq!(http.routers.len(), routers, "{mode:?} {tags:?}");
    }
}

#[test]
fn a_prefix_is_one_pool_over_services() {
    let a = service("a", &[("10.0.0.1", 80, &["urlprefix-shop.example/cart strip=/cart prepend=/v1 weight=0.2"])]);
    let b = service("b", &[("10.0.0.2", 80, &["urlprefix-SHOP.example/cart weight=0.8 strip=/cart prepend=/v1"])]);
    let (http, problems) = read(Provider::ConsulCatalog, vec![a, b], options());
    assert_eq!(problems, []);
    let name = only_router(&http);
    let router = &http.routers[name];
    assert_eq!((&*router.rule, router.priority), ("Host(`shop.example`) && PathPrefix(`/cart`)", 1_000_005));
    assert_eq!(urls(&http, name), [("http://10.0.0.1:80".into(), Some(1)), ("http://10.0.0.2:80".into(), Some(4))]);
    let kinds: Vec<&MiddlewareKind> = router.middlewares.iter().map(|m| &http.middlewares[m].kind).collect();
    assert_eq!(
        kinds,
        [
            &MiddlewareKind::StripPrefix { prefixes: vec!["/cart".into()] },
            &MiddlewareKind::LeadingSlash {},
            &MiddlewareKind::AddPrefix { prefix: "/v1".into() }
        ]
    );
}

#[test]
fn shares_that_ask_for_other_options_are_refused_and_named() {
    let a = service("a", &[("10.0.0.1", 80, &["urlprefix-/p strip=/p"])]);
    let b = service("b", &[("10.0.0.2", 80, &["urlprefix-/p"])]);
    let (http, problems) = read(Provider::ConsulCatalog, vec![a, b], options());
    assert_eq!(urls(&http, only_router(&http)), [("http://10.0.0.1:80".into(), None)]);
    assert_eq!(codes(&problems), ["pool_conflict"]);
    assert!(problems[0].message.contains("`a`") && problems[0].message.contains("`b`"), "{}", problems[0]);
}

#[test]
fn a_prefix_belongs_to_one_namespace() {
    let mine = service("a", &[("10.0.0.1", 80, &["urlprefix-h/"])]);
    let mut theirs = service("b", &[("10.0.0.2", 80, &["urlprefix-h/"])]);
    theirs.key.namespace = "team".into();
    theirs.instances[0].create_index = 99;
    let (http, problems) = read(Provider::Nomad, vec![mine, theirs], options());
    assert_eq!(urls(&http, only_router(&http)), [("http://10.0.0.1:80".into(), None)]);
    assert_eq!(codes(&problems), ["host_conflict"]);
}

#[test]
fn what_a_prefix_needs_is_a_middleware_of_its_router() {
    let tags = &[
        "urlprefix-a/ allow=ip:10.0.0.0/8",
        "urlprefix-b/ auth=team",
        "urlprefix-c/ redirect=302,https://x/",
        "urlprefix-d/ host=h",
        "urlprefix-e/ deny=ip:192.0.2.7",
    ];
    let (http, problems) = read(Provider::Nomad, vec![service("s", &[("10.0.0.1", 80, tags)])], options());
    assert_eq!(problems, []);
    let kinds = http.routers.values().map(|router| {
        let [name] = &router.middlewares[..] else { panic!("{router:?}") };
        (router.rule.to_string(), http.middlewares.get(name).map(|m| m.kind.clone()))
    });
    let kinds: BTreeMap<_, _> = kinds.collect();
    let range = |net: &str| vec![Arc::from(net)];
    assert_eq!(kinds["Host(`a`)"], Some(MiddlewareKind::PrefixAllowList { source_range: range("10.0.0.0/8") }));
    // it is the file provider's, and without it nobody is let in
    assert_eq!(kinds["Host(`b`)"], None);
    assert!(matches!(kinds["Host(`c`)"], Some(MiddlewareKind::PrefixRedirect { status: 302, .. })));
    assert!(matches!(kinds["Host(`d`)"], Some(MiddlewareKind::Headers(_))));
    assert_eq!(kinds["Host(`e`)"], Some(MiddlewareKind::PrefixDenyList { source_range: range("192.0.2.7/32") }));
}

#[test]
fn a_site_is_a_pool_by_client_address_with_a_redirect() {
    let a = service("a", &[("10.0.0.1", 80, &["https://Wiki.example"]), ("10.0.0.2", 80, &["https://wiki.example"])]);
    let b = service("b", &[("10.0.0.3", 80, &["https://wiki.example"])]);
    let (http, problems) = read(Provider::ConsulCatalog, vec![a, b], options());
    assert_eq!(problems, []);
    let site = http.routers.iter().find(|(n, _)| n.starts_with("site-wiki")).unwrap();
    assert_eq!(
        (&*site.1.rule, &*site.1.entry_points, site.1.tls.is_some()),
        ("Host(`wiki.example`)", &["websecure".into()][..], true)
    );
    assert_eq!(site.1.source.dialect, Dialect::Site);
    assert_eq!(urls(&http, site.0).len(), 3);
    let lb = http.services[site.0].load_balancer.as_ref().unwrap();
    assert_eq!(lb.strategy, declare::Strategy::IpHash);
    let redirect = http.routers.iter().find(|(n, _)| n.starts_with("site-redirect-")).unwrap().1;
    assert_eq!((&*redirect.entry_points, redirect.tls.is_none()), (&["web".into()][..], true));
    let MiddlewareKind::RedirectScheme { scheme, permanent, .. } = &http.middlewares[&redirect.middlewares[0]].kind
    else {
        panic!()
    };
    assert_eq!((&**scheme, *permanent), ("https", true));
}

#[test]
fn a_host_claimed_by_two_namespaces_stays_with_the_older_one() {
    let make = |namespace: &str, index: u64, tag: &str| {
        let mut s = service("wiki", &[("10.0.0.1", 80, &[tag])]);
        s.key.namespace = namespace.into();
        s.instances[0].create_index = index;
        s.instances[0].address = format!("10.0.{index}.1").into();
        s
    };
    let services = vec![make("a", 9, "https://wiki.example/admin"), make("b", 5, "https://wiki.example")];
    let (http, problems) = read(Provider::Nomad, services, options());
    assert_eq!(codes(&problems), ["host_conflict"]);
    assert_eq!(problems[0].origin.namespace.as_deref(), Some("a"));
    assert!(http.routers.values().all(|r| &*r.source.namespace == "b"));
}

#[test]
fn plain_sites_and_wildcards() {
    let tags = &["http://ignored.example", "https://*.apps.example, http://plain.example", "https://x.example/only"];
    let (http, problems) = read(Provider::Nomad, vec![service("s", &[("10.0.0.1", 80, tags)])], options());
    assert_eq!(problems, []);
    let rules: BTreeSet<(&str, &str, bool)> =
        http.routers.values().map(|r| (&*r.rule, &*r.entry_points[0], r.tls.is_some())).collect();
    assert!(rules.contains(&("Host(`plain.example`)", "web", false)));
    assert!(rules.contains(&("HostRegexp(`^[^.]+\\.apps\\.example$`)", "websecure", true)));
    assert!(rules.contains(&("Host(`x.example`) && Path(`/only`)", "websecure", true)));
    assert_eq!(rules.len(), 5, "two of them redirect: {rules:?}");
}

#[test]
fn routing_tags_are_told_from_others() {
    let opts = options();
    for tag in ["traefik.enable=true", "urlprefix-a/", "  urlprefix-a/", "https://a"] {
        assert!(is_routing_tag(tag, &opts), "{tag}");
    }
    for tag in ["traefik", "traefikx.enable=true", "Traefik.enable=true", "blue", "ftp://a", "http://a", ""] {
        assert!(!is_routing_tag(tag, &opts), "{tag}");
    }
    let mut off = options();
    off.legacy.mode = LegacyMode::Off;
    assert!(!is_routing_tag("https://a", &off));
}

#[test]
fn only_what_changed_gets_a_new_arc_and_steps_come_to_the_same_as_a_fresh_start() {
    let make = |port: u16| -> Vec<_> {
        (0..50)
            .map(|i| {
                let (host, prefix) =
                    (format!("traefik.http.routers.r{i}.rule=Host(`h{i}`)"), format!("urlprefix-/p{}", i % 7));
                service(
                    &format!("s{i}"),
                    &[("10.0.0.1", if i == 3 { port } else { 80 }, &["traefik.enable=true", &host, &prefix])],
                )
            })
            .collect()
    };
    let mut opts = options();
    opts.legacy.mode = LegacyMode::Merge;
    let opts = BTreeMap::from([(Provider::Nomad, opts)]);
    let mut decoder = Decoder::new(opts.clone());
    let before = decoder.decode(&world(Provider::Nomad, make(80)));
    let after = decoder.decode(&world(Provider::Nomad, make(81)));
    assert_eq!(after, decode(&world(Provider::Nomad, make(81)), &opts));
    let (before, after) = (&before.declarations[&Provider::Nomad].http, &after.declarations[&Provider::Nomad].http);
    let changed: Vec<&str> =
        after.services.iter().filter(|(n, s)| !Arc::ptr_eq(s, &before.services[*n])).map(|(n, _)| &**n).collect();
    assert_eq!(changed.len(), 2, "the service and its pool: {changed:?}");
    assert!(after.routers.iter().all(|(n, r)| Arc::ptr_eq(r, &before.routers[n])));
}

#[test]
fn a_bad_option_costs_its_own_definition_only() {
    let rule = "traefik.http.routers.r.rule=Host(`a`)";
    for (bad, router, service) in [
        ("traefik.http.routers.r.priority=99999999999999999999", false, true),
        ("traefik.http.services.web.loadbalancer.servers[0].url=http://10.0.0.9:81", true, false),
        ("traefik.http.services.web.mirroring.service=a", true, false),
        ("traefik.http.services.web.loadbalancer.server.weight=-1", true, false),
        ("traefik.http.services.web.loadbalancer.healthcheck.interval=soon", true, false),
        ("traefik.http.middlewares.m.ratelimit.average=many", true, true),
        ("traefik.tcp.services.db.loadbalancer.proxyprotocol.version=x", true, true),
    ] {
        let web = service_with(&["traefik.enable=true", rule, bad]);
        let (http, problems) = read(Provider::Nomad, vec![web], options());
        assert!(problems.iter().any(Diagnostic::is_error), "{bad}");
        assert_eq!((http.routers.contains_key("r"), http.services.contains_key("web")), (router, service), "{bad}");
        // what cannot be read is known to be there, so that the last good form of it can stay
        assert!(router || http.broken.routers.contains("r"), "{bad}");
        assert!(service || http.broken.services.contains_key("web"), "{bad}");
    }
}

fn service_with(tags: &[&str]) -> Service {
    service("web", &[("10.0.0.1", 80, tags)])
}

#[test]
fn a_disagreement_keeps_the_older_definition() {
    let tags = |pass: &'static str| ["traefik.enable=true", pass];
    let old = tags("traefik.http.services.s.loadbalancer.passhostheader=false");
    let new = tags("traefik.http.services.s.loadbalancer.passhostheader=true");
    let both = service("web", &[("10.0.0.1", 80, &old), ("10.0.0.2", 80, &new)]);
    let (http, problems) = read(Provider::Nomad, vec![both], options());
    assert_eq!(codes(&problems), ["service_conflict"]);
    assert!(!http.services["s"].load_balancer.as_ref().unwrap().pass_host_header);
    assert_eq!(urls(&http, "s").len(), 2);
}

#[test]
fn a_default_rule_that_is_no_template_costs_its_routers_only() {
    let mut opts = options();
    opts.default_rule = "Host(`{{ .Name `)".into();
    let own = service_with(&["traefik.enable=true", "traefik.http.routers.r.rule=Host(`a`)"]);
    let other = service("api", &[("10.0.0.2", 80, &["traefik.enable=true"])]);
    let (http, problems) = read(Provider::Nomad, vec![own, other], opts);
    assert_eq!(http.routers.keys().map(|n| &**n).collect::<Vec<_>>(), ["r"]);
    assert_eq!(codes(&problems), ["default_rule_failed"]);
}

#[test]
fn a_mistyped_enable_exposes_nothing_in_consul() {
    for (tag, nomad, consul) in [
        ("traefik.enabled=false", 1, 0),
        ("traefik.consulcatalog.canari=true", 1, 0),
        ("traefik.consulcatalog.canary=true", 1, 1),
    ] {
        let read = |provider| {
            let mut opts = options();
            opts.exposed_by_default = true;
            read(provider, vec![service_with(&[tag])], opts)
        };
        assert_eq!(read(Provider::Nomad).0.routers.len(), nomad, "{tag}");
        let (http, problems) = read(Provider::ConsulCatalog);
        assert_eq!(http.routers.len(), consul, "{tag}");
        assert_eq!(codes(&problems).contains(&"unknown_option"), consul == 0, "{tag}");
    }
}

#[test]
fn blanks_before_a_key_make_it_another_one() {
    let tags =
        &["traefik.enable=true", "traefik. http.routers.r.rule=Host(`a`)", "traefik.http.routers.q.rule = Host(`q`)"];
    let (http, problems) = read(Provider::Nomad, vec![service_with(tags)], options());
    assert_eq!(http.routers.keys().map(|n| &**n).collect::<Vec<_>>(), ["q"]);
    assert_eq!(codes(&problems), ["ignored_option"]);
}

#[test]
fn what_is_not_served_is_declared_all_the_same() {
    let tags = &[
        "traefik.enable=true",
        "traefik.http.services.s.loadbalancer.sticky.cookie.name=c",
        "traefik.http.services.s.loadbalancer.server.preservepath=true",
        "traefik.tcp.routers.db.rule=HostSNI(`*`)",
        "traefik.tcp.routers.empty.priority=1",
        "traefik.udp.services.dns.loadbalancer.server.port=53",
    ];
    let decoded =
        decode(&world(Provider::Nomad, vec![service_with(tags)]), &BTreeMap::from([(Provider::Nomad, options())]));
    let declared = &decoded.declarations[&Provider::Nomad];
    let lb = declared.http.services["s"].load_balancer.as_ref().unwrap();
    let cookie = lb.sticky.as_ref().and_then(|s| s.cookie.as_ref()).unwrap();
    assert_eq!((&*cookie.name, cookie.path.as_deref()), ("c", Some("/")));
    assert!(lb.servers[0].preserve_path);
    assert_eq!(&*declared.tcp.routers["db"].service, "web");
    assert_eq!(&*declared.tcp.services["web"].load_balancer.as_ref().unwrap().servers[0].address, "10.0.0.1:80");
    assert_eq!(&*declared.udp.services["dns"].load_balancer.as_ref().unwrap().servers[0].address, "10.0.0.1:53");
    let errors: Vec<&str> = decoded.diagnostics.iter().filter(|p| p.is_error()).map(|p| &*p.code).collect();
    assert_eq!(errors, ["tcp_router_without_rule"]);
    let warned = decoded.diagnostics.iter().filter(|p| &*p.code == "not_served").count();
    assert_eq!(warned, 1, "of UDP one a definition: {:#?}", decoded.diagnostics);
}

/// Pieces that tags are made of, well and badly put together.
fn any_tag() -> impl Strategy<Value = String> {
    let key = "(traefik|urlprefix-|https://|http://|Traefik)";
    let piece = "(\\.|http|tcp|udp|plugin|compress|sticky|healthcheck|interval|tls\\.stores\\.default|\\[0\\]|routers|services|middlewares|a|b|rule|tls|domains\\[0\\]|loadbalancer|server|port|weight|=|=true|Host\\(`h`\\)|\
                 stripprefix|prefixes|/p|\\*|\\?|\\[|\\]|\\{|\\}|,|:80|:443|:| |strip=/x|weight=0\\.5|weight=1e308|redirect=301,|allow=ip:|\\$DC|\\$\\{|%zz|ä|\\n|\")";
    (key, proptest::collection::vec(piece, 0..10)).prop_map(|(key, pieces)| key + &pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_tags_never_panic_and_never_disable_others(
        tags in proptest::collection::vec(any_tag(), 1..6),
        garbage in "\\PC{0,40}",
        consul in any::<bool>(),
    ) {
        let provider = if consul { Provider::ConsulCatalog } else { Provider::Nomad };
        let mut bad = service("bad", &[("10.9.9.9", 80, &[])]);
        bad.instances[0].create_index = 1000;
        bad.instances[0].tags = tags.iter().map(|t| t.as_str().into()).chain([garbage.as_str().into(), "traefik.enable=true".into()]).collect();
        let good = service("good", &[("10.0.0.1", 80, &[
            "traefik.enable=true", "traefik.http.routers.good.rule=Host(`good.example`)", "urlprefix-good.example/fine", "https://good.example",
        ])]);
        let mut opts = options();
        opts.legacy.mode = LegacyMode::Merge;
        let (alone, _) = read(provider, vec![good.clone()], opts.clone());
        let (http, _) = read(provider, vec![bad, good], opts);
        for (name, router) in &alone.routers {
            prop_assert_eq!(http.routers.get(name), Some(router));
        }
        for name in alone.services.keys() {
            prop_assert!(http.services[name].load_balancer.as_ref().unwrap().servers.iter().any(|s| &*s.url == "http://10.0.0.1:80"));
        }
    }
}

#[test]
fn a_source_that_has_not_answered_declares_nothing() {
    let decoded = decode(&World::default(), &BTreeMap::from([(Provider::Nomad, options())]));
    assert_eq!(decoded.declarations, Declarations::new());
}

#[test]
fn repeated_lone_and_dotted_keys_are_read_as_traefik_reads_them() {
    let tags = &[
        "traefik.http.routers.lone=whatever",
        "traefik.http.routers.Web.RULE=Host(`first`)",
        "traefik.http.routers.web.priority=high",
        "traefik.http.routers.web.pRiority=low",
        "traefik.http.routers.web.rule=Host(`last`)",
        "traefik.http.routers.web.rulesyntax=",
        "traefik.http.services.s.loadbalancer=ignored",
        "traefik.http.services.s.loadbalancer.server.port=81",
        "traefik.http.middlewares.m.headers.customrequestheaders.X.Y=1",
    ];
    let at_one_address = &[("10.0.0.1", 80, &tags[..]), ("10.0.0.1", 80, &tags[..])];
    let exposed = TagOptions { exposed_by_default: true, ..options() };
    let (http, problems) = read(Provider::Nomad, vec![service("web", at_one_address)], exposed.clone());
    assert_eq!(http.routers.keys().map(|n| &**n).collect::<Vec<_>>(), ["lone"], "the other has a bad priority");
    assert_eq!(&*http.routers["lone"].rule, "Host(`web`)");
    assert!(http.broken.routers.contains("Web"), "the first key gives the name");
    assert_eq!(urls(&http, "s"), [("http://10.0.0.1:81".to_owned(), None)], "one address is one server");
    let printed = serde_json::to_value(&http.middlewares["m"]).unwrap();
    assert_eq!(printed["headers"]["customRequestHeaders"]["X.Y"], "1");
    assert_eq!(codes(&problems).iter().filter(|c| **c == "ignored_value").count(), 2, "{problems:#?}");
    let refused: Vec<_> = problems.iter().filter(|p| p.is_error()).map(|p| p.origin.tag.as_deref().unwrap()).collect();
    assert_eq!(
        refused,
        ["traefik.http.routers.web.priority=high"],
        "of equal keys only the one that counts is checked"
    );

    // one instance switches the service off for all, unless another says that it is on
    let said = |other: &'static [&'static str]| {
        let instances: &[(&str, u16, &[&str])] =
            &[("10.0.0.1", 80, other), ("10.0.0.2", 80, &["traefik.enable=false"])];
        read(Provider::Nomad, vec![service("web", instances)], exposed.clone())
    };
    let (http, problems) = said(&[]);
    assert!(http.routers.is_empty() && codes(&problems) == ["not_exposed"], "{problems:#?}");
    let (http, _) = said(&["traefik.enable=true"]);
    assert_eq!(urls(&http, "web"), [("http://10.0.0.1:80".to_owned(), None)]);
}

#[test]
fn an_instance_without_an_address_is_refused() {
    let (http, problems) = read(Provider::ConsulCatalog, vec![service("s", &[("", 80, &["urlprefix-h/"])])], options());
    assert!(http.routers.is_empty());
    assert_eq!(codes(&problems), ["no_address"]);
}

#[test]
fn blanks_around_a_tag_do_not_matter() {
    let tags = &["  urlprefix-h/x   strip=/x "];
    let (http, problems) = read(Provider::ConsulCatalog, vec![service("s", &[("10.0.0.1", 80, tags)])], options());
    assert_eq!(problems, []);
    assert_eq!(&*http.routers[only_router(&http)].rule, "Host(`h`) && PathPrefix(`/x`)");
}
