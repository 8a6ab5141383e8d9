//! The TCP part of tables: order, conflicts, last good forms, and that a build comes to what one from scratch does.

use super::*;
use crate::declare::Dynamic;
use crate::table::{Accepted, BuildOptions, Built, EntryPoint, build, rebuild};
use proptest::prelude::*;
use serde_json::{Value, json};

fn options() -> BuildOptions {
    let entry_point = |name: &str, as_default| EntryPoint {
        name: name.into(),
        tls: false,
        as_default,
        middlewares: Vec::new(),
        tls_options: Arc::default(),
    };
    BuildOptions {
        entry_points: vec![entry_point("db", false), entry_point("web", true)],
        primary: Provider::Nomad,
        internal: Dynamic::default(),
    }
}

fn declared(of: &[(Provider, Value)]) -> Declarations {
    of.iter()
        .map(|(provider, value)| (*provider, serde_json::from_value(value.clone()).expect("a declaration")))
        .collect()
}

fn one(tcp: Value) -> Declarations {
    declared(&[(Provider::File, json!({ "tcp": tcp }))])
}

fn first(tcp: Value) -> Built {
    build(&one(tcp), &Accepted::default(), &options())
}

fn servers(addresses: &[&str]) -> Value {
    let servers: Vec<Value> = addresses.iter().map(|address| json!({ "address": address })).collect();
    json!({"loadBalancer": {"servers": servers}})
}

struct Client(&'static str);

impl ConnectionView for Client {
    fn server_name(&self) -> &str {
        self.0
    }

    fn any_alpn(&self, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }

    fn client_ip(&self) -> Option<std::net::IpAddr> {
        Some([10, 0, 0, 1].into())
    }
}

fn codes(built: &Built) -> Vec<&str> {
    built.diagnostics.iter().map(|problem| &*problem.code).collect()
}

#[test]
fn the_higher_priority_goes_first_and_any_name_last() {
    let built = first(json!({
        "routers": {
            "any": {"rule": "HostSNI(`*`)", "service": "s", "tls": {"passthrough": true}, "entryPoints": ["db"]},
            "a": {"rule": "HostSNI(`a.test`)", "service": "s", "tls": {}, "entryPoints": ["db"]},
            "ip": {"rule": "HostSNI(`a.test`) && ClientIP(`10.0.0.2`)", "service": "s", "tls": {}, "entryPoints": ["db"]},
            "plain": {"rule": "HostSNI(`*`)", "service": "s"},
        },
        "services": {"s": servers(&["10.0.0.1:1"])},
    }));
    assert_eq!(codes(&built), [""; 0]);
    let over_tls = |name| built.table.tcp_over_tls("db", &Client(name)).map(|router| &*router.id);
    assert_eq!(over_tls("a.test"), Some("a@file"));
    assert_eq!(over_tls("b.test"), Some("any@file"));
    let door = built.table.tcp_door("db").expect("routers");
    assert!(!door.has_plain() && door.has_tls() && !built.table.tcp_is_early("db", door));
    // without entry points it is on the default ones
    let door = built.table.tcp_door("web").expect("a router");
    assert_eq!(door.plain(&Client("")).map(|router| router.priority), Some(-1));
    assert!(built.table.tcp_is_early("web", door));
    assert!(built.table.tcp_door("other").is_none());
}

#[test]
fn https_of_the_host_goes_first_and_of_any_host_before_any_name() {
    let with = |rule: &str| {
        build(
            &declared(&[(
                Provider::File,
                json!({
                    "tcp": {
                        "routers": {
                            "any": {"rule": "HostSNI(`*`)", "service": "s", "tls": {"passthrough": true}},
                            "a": {"rule": "HostSNI(`a.test`)", "service": "s", "tls": {"passthrough": true}},
                        },
                        "services": {"s": servers(&["10.0.0.1:1"])},
                    },
                    "http": {
                        "routers": {"h": {"rule": rule, "service": "s", "tls": {}}},
                        "services": {"s": {"loadBalancer": {"servers": [{"url": "http://10.0.0.1"}]}}},
                    },
                }),
            )]),
            &Accepted::default(),
            &options(),
        )
    };
    let taken =
        |built: &Built, name| built.table.tcp_over_tls("web", &Client(name)).map(|router| router.id.to_string());
    for (rule, name, expected) in [
        ("Host(`a.test`)", "a.test", None),
        ("Host(`a.test`)", "b.test", Some("any@file")),
        ("Host(`*.test`)", "a.test", None),
        ("Host(`*.test`)", "a.other", Some("any@file")),
        ("HostRegexp(`.*`)", "a.test", Some("a@file")),
        ("HostRegexp(`.*`)", "b.test", None),
        ("PathPrefix(`/`)", "a.test", Some("a@file")),
        ("PathPrefix(`/`)", "b.test", None),
        ("Host(`x.test`) || PathPrefix(`/y`)", "b.test", Some("any@file")),
    ] {
        let built = with(rule);
        assert_eq!(taken(&built, name).as_deref(), expected, "{rule} {name}");
    }
}

#[test]
fn what_cannot_be_used_says_why_and_costs_only_itself() {
    let good = json!({"rule": "HostSNI(`*`)", "service": "s"});
    for (part, name, value, code) in [
        ("routers", "x", json!({"rule": "HostSNI(`a`)", "service": "s"}), "bad_rule"),
        ("routers", "x", json!({"rule": "Host(`a`)", "service": "s"}), "bad_rule"),
        ("routers", "x", json!({"service": "s"}), "bad_rule"),
        ("routers", "x", json!({"rule": "HostSNI(`*`)", "service": "none"}), "unknown_service"),
        ("routers", "x", json!({"rule": "HostSNI(`*`)", "service": "s", "middlewares": ["m"]}), "unknown_middleware"),
        ("routers", "x", json!({"rule": "HostSNI(`*`)", "service": "s", "entryPoints": ["x"]}), "unknown_entry_point"),
        (
            "routers",
            "x",
            json!({"rule": "HostSNI(`a`)", "service": "s", "tls": {"options": "o"}}),
            "unknown_tls_options",
        ),
        ("routers", "x", json!({"rule": "HostSNI(`*`)", "service": "s", "priority": i64::MAX}), "bad_priority"),
        ("services", "x", json!({}), "bad_service"),
        ("services", "x", json!({"weighted": {"services": []}}), "bad_service"),
        ("services", "x", json!({"weighted": {"services": [{"name": "x"}]}}), "bad_service"),
        ("services", "x", json!({"weighted": {"services": [{"name": "s", "weight": -1}]}}), "bad_service"),
        ("services", "x", json!({"loadBalancer": {"serversTransport": "t"}}), "bad_service"),
        ("services", "x", json!({"loadBalancer": {"proxyProtocol": {"version": 3}}}), "bad_service"),
        ("services", "x", servers(&["10.0.0.1"]), "bad_server_address"),
        ("services", "x", json!({"loadBalancer": {"healthCheck": {"port": 65_536}}}), "bad_health_check"),
        ("services", "x", json!({"loadBalancer": {"healthCheck": {"send": "x".repeat(65_536)}}}), "bad_health_check"),
        ("services", "x", json!({"loadBalancer": {"healthCheck": {"interval": "-1s"}}}), "health_check"),
        ("middlewares", "x", json!({"ipAllowList": {"sourceRange": ["x"]}}), "bad_middleware"),
        ("middlewares", "x", json!({"ipAllowList": {}}), "bad_middleware"),
        ("middlewares", "x", json!({"inFlightConn": {"amount": -1}}), "bad_middleware"),
        ("middlewares", "x", json!({}), "bad_middleware"),
        ("serversTransports", "x", json!({"dialTimeout": "-1s"}), "bad_servers_transport"),
        ("serversTransports", "x", json!({"tls": {"spiffe": {}}}), "bad_servers_transport"),
    ] {
        let mut all = json!({"routers": {"r": good.clone()}, "services": {"s": servers(&["10.0.0.1:1"])}});
        all[part][name] = value.clone();
        let built = first(all);
        assert_eq!(codes(&built), [code], "{value}");
        assert!(built.table.tcp.routers.contains_key("r@file"), "{value}");
    }
}

#[test]
fn a_circle_of_services_is_refused_and_what_it_names_stays() {
    let built = first(json!({
        "routers": {"r": {"rule": "HostSNI(`*`)", "service": "good"}, "x": {"rule": "ClientIP(`::1`)", "service": "a"}},
        "services": {
            "a": {"weighted": {"services": [{"name": "b"}]}},
            "b": {"weighted": {"services": [{"name": "a"}, {"name": "s"}]}},
            "good": {"weighted": {"services": [{"name": "s"}, {"name": "s", "weight": 0}]}},
            "s": servers(&["10.0.0.1:1", "[::1]:2"]),
        },
    }));
    assert_eq!(codes(&built), ["bad_service", "bad_service", "unknown_service"]);
    let router = &built.table.tcp.routers.get("r@file").expect("it does not lead there").service;
    let ServiceKind::Weighted(parts) = &router.kind else { panic!("{router:?}") };
    assert_eq!(parts.iter().map(|(of, weight)| (&*of.id, *weight)).collect::<Vec<_>>(), [("s@file", 1), ("s@file", 0)]);
    let ServiceKind::Servers(of) = &parts[0].0.kind else { panic!("servers") };
    assert_eq!(of.servers.iter().map(|s| (&*s.host, s.port)).collect::<Vec<_>>(), [("10.0.0.1", 1), ("::1", 2)]);
    assert_eq!(of.termination_delay, Some(Duration::from_millis(100)));
}

#[test]
fn what_was_accepted_stays_until_something_better_is_said() {
    let of = |rule: &str, server: &str| json!({"routers": {"r": {"rule": rule, "service": "s"}}, "services": {"s": servers(&[server])}});
    let before = first(of("HostSNI(`*`)", "10.0.0.1:1"));
    let after = build(&one(of("HostSNI(`*`", "10.0.0.2:1")), &before.accepted, &options());
    assert_eq!(codes(&after), ["bad_rule"]);
    let router = after.table.tcp.routers.get("r@file").expect("its last good form");
    assert_eq!(&*router.declared.rule, "HostSNI(`*`)");
    let ServiceKind::Servers(servers) = &router.service.kind else { panic!("servers") };
    assert_eq!(&*servers.servers[0].address, "10.0.0.2:1", "with the servers of today");
    let gone = build(&one(json!({})), &after.accepted, &options());
    assert_eq!((codes(&gone), gone.table.tcp.routers.len()), (Vec::new(), 0));
    assert!(gone.table.tcp_door("web").is_none());
}

#[test]
fn of_two_that_are_alike_the_one_that_was_there_stays() {
    let router = json!({"rule": "HostSNI(`*`)", "service": "s"});
    let of = |names: &[&str]| {
        let routers: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), router.clone())).collect();
        one(json!({"routers": routers, "services": {"s": servers(&["10.0.0.1:1"])}}))
    };
    let before = build(&of(&["b"]), &Accepted::default(), &options());
    let after = build(&of(&["a", "b"]), &before.accepted, &options());
    assert_eq!(codes(&after), ["shadowed_router"]);
    let taken =
        |built: &Built| built.table.tcp_door("web").and_then(|d| d.plain(&Client(""))).map(|r| r.id.to_string());
    assert_eq!(taken(&after).as_deref(), Some("b@file"));
    let alone = build(&of(&["a"]), &after.accepted, &options());
    assert_eq!((codes(&alone), taken(&alone).as_deref()), (Vec::new(), Some("a@file")));
}

#[test]
fn http_alone_changes_nothing_of_it() {
    let tcp = json!({"routers": {"r": {"rule": "HostSNI(`*`)", "service": "s"}}, "services": {"s": servers(&["10.0.0.1:1"])}});
    let with = |url: &str| {
        let http = json!({
            "routers": {"h": {"rule": "Host(`a`)", "service": "s"}},
            "services": {"s": {"loadBalancer": {"servers": [{"url": url}]}}},
        });
        declared(&[(Provider::File, json!({"tcp": tcp, "http": http}))])
    };
    let before = build(&with("http://10.0.0.1"), &Accepted::default(), &options());
    let after = build(&with("http://10.0.0.2"), &before.accepted, &options());
    assert!(Arc::ptr_eq(&before.table.tcp, &after.table.tcp) && before.table != after.table);
}

/// Definitions of which some fit together and some cannot be used.
fn any_tcp() -> impl Strategy<Value = Value> {
    let rule = prop::sample::select(vec!["HostSNI(`*`)", "HostSNI(`a.test`)", "ClientIP(`10.0.0.1`)", "HostSNI(", ""]);
    let router = (rule, prop::sample::select(vec!["s", "t", "w"]), any::<bool>(), prop::option::of(Just("m")))
        .prop_map(|(rule, service, tls, middleware)| {
            let mut router = json!({"rule": rule, "service": service, "entryPoints": ["db"]});
            if tls {
                router["tls"] = json!({});
            }
            if let Some(middleware) = middleware {
                router["middlewares"] = json!([middleware]);
            }
            router
        });
    let of_servers =
        prop::sample::select(vec!["10.0.0.1:1", "10.0.0.2:2", "bad"]).prop_map(|server| servers(&[server]));
    let weighted = prop::sample::select(vec!["s", "t", "none"])
        .prop_map(|name| json!({"weighted": {"services": [{"name": name}]}}));
    let services = (prop::option::of(of_servers.clone()), prop::option::of(of_servers), prop::option::of(weighted));
    let services = services.prop_map(|(s, t, w)| {
        let all = [("s", s), ("t", t), ("w", w)].into_iter().filter_map(|(name, of)| Some((name.to_owned(), of?)));
        Value::Object(all.collect())
    });
    let middleware =
        prop::sample::select(vec!["10.0.0.0/8", "bad"]).prop_map(|net| json!({"ipAllowList": {"sourceRange": [net]}}));
    let routers = prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), router, 0..4);
    let middlewares = prop::collection::btree_map(Just("m"), middleware, 0..2);
    (routers, services, middlewares)
        .prop_map(|(routers, services, middlewares)| json!({"routers": routers, "services": services, "middlewares": middlewares}))
}

proptest! {
    #[test]
    fn a_build_comes_to_what_one_from_scratch_does(steps in prop::collection::vec(any_tcp(), 1..6)) {
        let mut accepted = Accepted::default();
        for step in steps {
            let declarations = one(step);
            let built = build(&declarations, &accepted, &options());
            let again = rebuild(&declarations, &accepted, &options());
            prop_assert_eq!(&built.table.tcp, &again.table.tcp);
            prop_assert_eq!(&built.diagnostics, &again.diagnostics);
            // and the same once more changes nothing
            let same = build(&declarations, &built.accepted, &options());
            prop_assert!(Arc::ptr_eq(&same.table.tcp, &built.table.tcp));
            prop_assert_eq!(&same.diagnostics, &built.diagnostics);
            // what is kept on disk comes to the same
            let restored = build(&built.table.declarations(), &Accepted::default(), &options());
            for (id, router) in &built.table.tcp.routers {
                prop_assert_eq!(restored.table.tcp.routers.get(id).map(|r| &r.service), Some(&router.service));
            }
            accepted = built.accepted;
        }
    }
}
