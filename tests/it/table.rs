//! The table: what is accepted, what is refused, who gets a request, what lingers, what it costs.

mod changes;
mod entry_points;
mod transports;
mod walk;

use rust_lb::declare::{self, Declarations, Dynamic, LoadBalancer, MiddlewareKind, NotServed, RouterTls, Source};
use rust_lb::diagnostic::{Diagnostic, Severity, list};
use rust_lb::model::Provider;
use rust_lb::rule::RequestView;
use rust_lb::table::{Accepted, BuildOptions, Built, Change, EntryPoint, Planner, Table, build, diff};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Request<'a>(&'a str, &'a str);

impl RequestView for Request<'_> {
    fn host(&self) -> &str {
        self.0
    }
    fn path(&self) -> &str {
        self.1
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        ""
    }
    fn any_header(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }
    fn client_ip(&self) -> Option<IpAddr> {
        None
    }
}

fn build_options() -> BuildOptions {
    let entry_point = |name: &str, tls| EntryPoint {
        name: name.into(),
        tls,
        as_default: false,
        middlewares: Vec::new(),
        tls_options: Default::default(),
    };
    BuildOptions {
        entry_points: vec![entry_point("web", false), entry_point("websecure", true)],
        primary: Provider::Nomad,
        internal: Dynamic::default(),
    }
}

fn router(rule: &str) -> declare::Router {
    declare::Router { rule: rule.into(), service: "s".into(), ..declare::Router::default() }
}

fn backend(urls: &[&str]) -> declare::Service {
    let servers = urls.iter().map(|u| declare::Server { url: (*u).into(), ..declare::Server::default() }).collect();
    declare::Service {
        load_balancer: Some(LoadBalancer { servers, ..LoadBalancer::default() }),
        source: Source::default(),
        ..declare::Service::default()
    }
}

/// One provider's declarations, with a service `s` of one server.
fn dynamic(routers: Vec<(&str, declare::Router)>) -> Dynamic {
    let mut dynamic = Dynamic::default();
    dynamic.http.routers = routers.into_iter().map(|(name, r)| (name.into(), Arc::new(r))).collect();
    dynamic.http.services.insert("s".into(), Arc::new(backend(&["http://10.0.0.1:80"])));
    dynamic
}

/// A transport with this least version of TLS.
fn transport(version: &str) -> Arc<declare::ServersTransport> {
    let options = serde_json::json!({"minVersion": version});
    Arc::new(serde_json::from_value(options).expect("a transport"))
}

fn nomad(routers: Vec<(&str, declare::Router)>) -> Declarations {
    BTreeMap::from([(Provider::Nomad, dynamic(routers))])
}

fn fresh(declarations: &Declarations) -> Built {
    build(declarations, &Accepted::default(), &build_options())
}

fn found<'a>(table: &'a Table, entry_point: &str, tls: bool, host: &str, path: &str) -> Option<&'a str> {
    table.find(entry_point, tls, &Request(host, path)).map(|r| &*r.id)
}

fn codes(problems: &[Diagnostic]) -> Vec<&str> {
    problems.iter().map(|p| &*p.code).collect()
}

fn middleware(kind: MiddlewareKind) -> Arc<declare::Middleware> {
    Arc::new(declare::Middleware { kind, source: Source::default() })
}

#[test]
fn tls_by_router_and_by_entry_point() {
    let tls = |rule: &str, entry_point: &str| declare::Router {
        tls: Some(RouterTls::default()),
        entry_points: vec![entry_point.into()],
        ..router(rule)
    };
    let built = fresh(&nomad(vec![("both", router("Host(`both`)")), ("tls", tls("Host(`tls`)", "web"))]));
    assert_eq!(codes(&built.diagnostics), [] as [&str; 0]);
    for (entry_point, encrypted, host, expected) in [
        ("web", false, "both", Some("both@nomad")),
        ("web", true, "both", None),
        ("websecure", true, "both", Some("both@nomad")),
        ("websecure", false, "both", None),
        ("web", true, "tls", Some("tls@nomad")),
        ("web", false, "tls", None),
        ("websecure", true, "tls", None),
        ("other", false, "both", None),
    ] {
        assert_eq!(
            found(&built.table, entry_point, encrypted, host, "/"),
            expected,
            "{entry_point} {encrypted} {host}"
        );
    }
}

#[test]
fn a_router_without_an_entry_point_is_on_the_default_ones() {
    let mut options = build_options();
    options.entry_points[1].as_default = true;
    let built = build(&nomad(vec![("r", router("Host(`a`)"))]), &Accepted::default(), &options);
    assert_eq!(found(&built.table, "web", false, "a", "/"), None);
    assert_eq!(found(&built.table, "websecure", true, "a", "/"), Some("r@nomad"));
    assert_eq!(built.table.routers["r@nomad"].entry_points, ["websecure".into()]);
}

#[test]
fn hosts_compare_without_trailing_dots_and_fall_through_to_any_host() {
    let built = fresh(&nomad(vec![
        ("host", declare::Router { priority: 10, ..router("Host(`a.example`) && PathPrefix(`/x`)") }),
        ("any", declare::Router { priority: 5, ..router("PathPrefix(`/`)") }),
        ("top", declare::Router { priority: 20, ..router("Path(`/x/top`)") }),
    ]));
    for (host, path, expected) in [
        ("a.example", "/x", "host@nomad"),
        ("a.example.", "/x", "host@nomad"),
        ("a.example", "/y", "any@nomad"),
        ("", "/x", "any@nomad"),
        ("a.example", "/x/top", "top@nomad"),
    ] {
        assert_eq!(found(&built.table, "web", false, host, path), Some(expected), "{host}{path}");
    }
}

#[test]
fn what_names_something_unknown_is_refused_and_never_served_without_it() {
    let with = |middleware: &str| declare::Router { middlewares: vec![middleware.into()], ..router("Host(`a`)") };
    let mut declarations = nomad(vec![
        ("auth", with("auth")),
        ("none", with("none")),
        ("other", with("none@file")),
        ("badprovider", with("none@nowhere")),
        ("service", declare::Router { service: "gone".into(), ..router("Host(`b`)") }),
        ("entry", declare::Router { entry_points: vec!["wbe".into()], ..router("Host(`c`)") }),
        ("some", declare::Router { entry_points: vec!["web".into(), "wbe".into()], ..router("Host(`d`)") }),
        (
            "rule",
            declare::Router {
                source: Source {
                    tag: "traefik.http.routers.rule.rule=Host(`é`) && Hots(`x`)".into(),
                    ..Source::default()
                },
                ..router("Host(`é`) && Hots(`x`)")
            },
        ),
    ]);
    let http = &mut declarations.get_mut(&Provider::Nomad).unwrap().http;
    let kind = MiddlewareKind::NotServed(NotServed { kind: "basicAuth".into(), options: declare::Options::default() });
    http.middlewares.insert("auth".into(), middleware(kind));
    let built = fresh(&declarations);
    assert_eq!(built.table.routers.keys().map(|k| &**k).collect::<Vec<_>>(), ["some@nomad"]);
    let mut found = codes(&built.diagnostics);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "bad_rule",
            "not_served",
            "unknown_entry_point",
            "unknown_entry_point",
            "unknown_middleware",
            "unknown_middleware",
            "unknown_middleware",
            "unknown_service"
        ]
    );
    let rule = built.diagnostics.iter().find(|p| &*p.code == "bad_rule").unwrap();
    assert!(rule.span.is_some() && rule.origin.column.is_some_and(|c| c >= 32), "{rule:?}");
}

#[test]
fn a_services_middlewares_run_behind_the_routers_and_are_never_left_out() {
    let add = |prefix: &str| middleware(MiddlewareKind::AddPrefix { prefix: prefix.into() });
    let with = |of_service: &[&str]| {
        let mut declarations =
            nomad(vec![("r", declare::Router { middlewares: vec!["own".into()], ..router("Host(`a`)") })]);
        let http = &mut declarations.get_mut(&Provider::Nomad).unwrap().http;
        http.middlewares.insert("own".into(), add("/own"));
        http.middlewares.insert("shared".into(), add("/shared"));
        let mut backend = backend(&["http://10.0.0.1:80"]);
        backend.middlewares = of_service.iter().map(|m| (*m).into()).collect();
        http.services.insert("s".into(), Arc::new(backend));
        declarations
    };
    let built = fresh(&with(&["shared"]));
    let ran = |table: &Table| table.routers["r@nomad"].middlewares.iter().map(|m| m.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ran(&built.table), ["own@nomad", "shared@nomad"]);
    // and the last good copy knows them, too
    let again = fresh(&built.table.declarations());
    assert_eq!(ran(&again.table), ["own@nomad", "shared@nomad"]);
    let refused = fresh(&with(&["auth"]));
    assert_eq!(codes(&refused.diagnostics), ["unknown_middleware"]);
    assert!(refused.table.routers.is_empty());
}

#[test]
fn two_services_of_two_catalogs_with_one_rule_are_told_of_and_one_service_in_both_is_not() {
    let of = |service: &str| declare::Router {
        source: Source { service: service.into(), ..Source::default() },
        ..router("Host(`a`)")
    };
    for (service, expected) in [("web", &[][..]), ("shop", &["shadowed_router"])] {
        let mut both = nomad(vec![("n", of("web"))]);
        both.insert(Provider::ConsulCatalog, dynamic(vec![("c", of(service))]));
        assert_eq!(codes(&fresh(&both).diagnostics), expected, "{service}");
    }
}

#[test]
fn a_problem_names_the_tag_that_it_is_about_and_what_follows() {
    let rule = "traefik.http.routers.r.rule=Host(`a`)";
    let source = |tag: &str, options: &[&str]| Source {
        tag: tag.into(),
        options: options.iter().map(|o| Arc::from(*o)).collect(),
        ..Source::default()
    };
    let points = "traefik.http.routers.r.entrypoints=web,wbe";
    let some = declare::Router {
        entry_points: vec!["web".into(), "wbe".into()],
        source: source(rule, &[rule, points]),
        ..router("Host(`a`)")
    };
    let problem = fresh(&nomad(vec![("r", some)])).diagnostics.remove(0);
    assert_eq!((&*problem.code, problem.origin.tag.as_deref()), ("unknown_entry_point", Some(points)));

    let mut declarations = nomad(vec![("r", declare::Router { source: source(rule, &[rule]), ..router("Host(`a`)") })]);
    let of_service = "traefik.http.services.s.middlewares=none";
    let http = &mut declarations.get_mut(&Provider::Nomad).unwrap().http;
    let service = declare::Service {
        middlewares: vec!["none".into()],
        source: source(of_service, &[]),
        ..backend(&["http://10.0.0.1:80"])
    };
    http.services.insert("s".into(), Arc::new(service));
    let problem = fresh(&declarations).diagnostics.remove(0);
    assert_eq!((&*problem.code, problem.origin.tag.as_deref()), ("unknown_middleware", Some(of_service)));
    assert_eq!(problem.help.as_deref(), Some("router `r` is not routed"));
}

#[test]
fn other_tls_options_than_the_default_ones_are_never_left_out() {
    let with = |options: &str| {
        let tls = Some(RouterTls { options: options.into(), ..RouterTls::default() });
        fresh(&nomad(vec![("r", declare::Router { tls, ..router("Host(`a`)") })]))
    };
    assert_eq!(codes(&with("default").diagnostics), [""; 0]);
    let built = with("mutual@file");
    assert_eq!(codes(&built.diagnostics), ["unknown_tls_options"]);
    assert!(built.table.routers.is_empty());
}

#[test]
fn a_middleware_of_two_kinds_keeps_its_last_good_form() {
    let with = |json: &str| {
        let mut declarations =
            nomad(vec![("r", declare::Router { middlewares: vec!["m".into()], ..router("Host(`a`)") })]);
        let kind: MiddlewareKind = serde_json::from_str(json).unwrap();
        declarations.get_mut(&Provider::Nomad).unwrap().http.middlewares.insert("m".into(), middleware(kind));
        declarations
    };
    let two = with(r#"{"addPrefix":{"prefix":"/x"},"stripPrefix":{"prefixes":["/y"]}}"#);
    let first = fresh(&two);
    assert_eq!(codes(&first.diagnostics), ["bad_middleware", "refused_middleware"]);
    let good = fresh(&with(r#"{"stripPrefix":{"prefixes":["/y"],"forceSlash":true}}"#));
    assert_eq!(codes(&good.diagnostics), [""; 0]);
    let then = build(&two, &good.accepted, &build_options());
    assert_eq!(codes(&then.diagnostics), ["bad_middleware"]);
    let strip = MiddlewareKind::StripPrefix { prefixes: vec!["/y".into()] };
    assert_eq!(then.table.routers["r@nomad"].middlewares[0].kind, strip);
}

#[test]
fn servers_that_cannot_be_dialled_are_refused_by_themselves() {
    let mut declarations = nomad(vec![("r", router("Host(`a`)"))]);
    let http = &mut declarations.get_mut(&Provider::Nomad).unwrap().http;
    http.services
        .insert("s".into(), Arc::new(backend(&["http://10.0.0.1:http", "http://10.0.0.2:80", "http://10.0.0.3:0"])));
    let first = fresh(&declarations);
    let servers: Vec<&str> = first.table.services["s@nomad"].servers.iter().map(|s| &*s.authority).collect();
    assert_eq!(servers, ["10.0.0.2:80"]);
    assert_eq!(codes(&first.diagnostics), ["bad_server_url", "bad_server_url"]);
    let again = build(&declarations, &first.accepted, &build_options());
    assert_eq!(codes(&again.diagnostics), ["bad_server_url", "bad_server_url"], "it stays visible");
}

#[test]
fn a_definition_that_turns_bad_keeps_its_last_good_form() {
    let good = nomad(vec![("r", router("Host(`a`)"))]);
    let first = fresh(&good);
    let mut with_middleware = router("Host(`a`)");
    with_middleware.middlewares = vec!["none".into()];
    for bad in [router("Host(`a`) &&"), with_middleware] {
        let second = build(&nomad(vec![("r", bad)]), &first.accepted, &build_options());
        assert_eq!(found(&second.table, "web", false, "a", "/"), Some("r@nomad"));
        assert_eq!(&*second.table.routers["r@nomad"].rule, "Host(`a`)");
        assert!(second.diagnostics[0].is_error());
        assert!(second.diagnostics[0].help.as_ref().unwrap().contains("last good"), "{}", second.diagnostics[0]);
        // and it is gone when the definition is
        let third = build(&nomad(vec![]), &second.accepted, &build_options());
        assert_eq!(found(&third.table, "web", false, "a", "/"), None);
    }
    // its servers are those of today
    let mut moved = nomad(vec![("r", router("Host("))]);
    moved
        .get_mut(&Provider::Nomad)
        .unwrap()
        .http
        .services
        .insert("s".into(), Arc::new(backend(&["http://10.0.0.9:80"])));
    let second = build(&moved, &first.accepted, &build_options());
    assert_eq!(&*second.table.routers["r@nomad"].service.servers[0].authority, "10.0.0.9:80");
}

#[test]
fn what_the_decoder_could_not_read_keeps_its_last_good_form() {
    let good = nomad(vec![("r", declare::Router { middlewares: vec!["m".into()], ..router("Host(`a`)") })]);
    let mut good = good;
    let http = &mut good.get_mut(&Provider::Nomad).unwrap().http;
    http.middlewares.insert("m".into(), middleware(MiddlewareKind::AddPrefix { prefix: "/p".into() }));
    let mut settings = backend(&["http://10.0.0.1:80"]);
    settings.load_balancer.as_mut().unwrap().pass_host_header = false;
    http.services.insert("s".into(), Arc::new(settings));
    let first = fresh(&good);
    assert_eq!(codes(&first.diagnostics), [] as [&str; 0]);

    let mut bad = Dynamic::default();
    bad.http.broken.routers.insert("r".into());
    bad.http.broken.middlewares.insert("m".into());
    bad.http.broken.services.insert("s".into(), Arc::new(backend(&["http://10.0.0.2:80"])));
    let second = build(&BTreeMap::from([(Provider::Nomad, bad)]), &first.accepted, &build_options());
    assert_eq!(codes(&second.diagnostics), ["last_good_kept"]);
    let mut never = Dynamic::default();
    never.http.broken.routers.insert("r".into());
    assert_eq!(codes(&fresh(&BTreeMap::from([(Provider::Nomad, never)])).diagnostics), ["not_routed"]);
    let kept = &second.table.routers["r@nomad"];
    assert_eq!((&*kept.service.servers[0].authority, kept.service.pass_host_header), ("10.0.0.2:80", false));
    assert_eq!(kept.middlewares.len(), 1);
    assert_eq!(found(&second.table, "web", false, "a", "/"), Some("r@nomad"));
}

#[test]
fn between_equals_the_primary_wins_and_between_namespaces_the_accepted_then_the_older() {
    let equal = |index: u64, namespace: &str| declare::Router {
        source: Source { create_index: index, namespace: namespace.into(), ..Source::default() },
        ..router("Host(`a`)")
    };
    let mut both = nomad(vec![("n", equal(9, ""))]);
    both.insert(Provider::ConsulCatalog, dynamic(vec![("c", equal(1, ""))]));
    let built = fresh(&both);
    assert_eq!(found(&built.table, "web", false, "a", "/"), Some("n@nomad"));
    assert_eq!(codes(&built.diagnostics), [] as [&str; 0], "a service in both catalogs is no trouble");
    let mut options = build_options();
    options.primary = Provider::ConsulCatalog;
    let built = build(&both, &built.accepted, &options);
    assert_eq!(found(&built.table, "web", false, "a", "/"), Some("c@consulcatalog"), "also when it comes later");

    let young = nomad(vec![("young", equal(9, "team"))]);
    let two = nomad(vec![("old", equal(1, "default")), ("young", equal(9, "team"))]);
    let built = fresh(&two);
    assert_eq!(found(&built.table, "web", false, "a", "/"), Some("old@nomad"));
    assert_eq!(codes(&built.diagnostics), ["host_conflict"]);
    assert_eq!(&*built.table.shadowed["young@nomad"], "old@nomad");
    let accepted = fresh(&young).accepted;
    let built = build(&two, &accepted, &build_options());
    assert_eq!(found(&built.table, "web", false, "a", "/"), Some("young@nomad"), "the accepted one stays");
    let built = build(&nomad(vec![("old", equal(1, "default"))]), &built.accepted, &build_options());
    assert_eq!(found(&built.table, "web", false, "a", "/"), Some("old@nomad"), "and the other follows when it goes");

    let same = nomad(vec![("a", equal(1, "x")), ("b", equal(2, "x"))]);
    let built = fresh(&same);
    assert_eq!(built.diagnostics[0].severity, Severity::Warning);
    assert_eq!(codes(&built.diagnostics), ["shadowed_router"]);
}

#[test]
fn internal_routers_cannot_be_taken() {
    let mut options = build_options();
    let mut internal = dynamic(vec![("fqdn", declare::Router { priority: i64::MAX, ..router("Host(`control`)") })]);
    internal.http.services.insert("s".into(), Arc::new(declare::Service::default()));
    options.internal = internal;
    let thief = nomad(vec![
        ("same", declare::Router { priority: i64::MAX, ..router("Host(`control`)") }),
        ("other", declare::Router { priority: i64::MAX, ..router("Host(`control`) && PathPrefix(`/`)") }),
    ]);
    let built = build(&thief, &Accepted::default(), &options);
    assert_eq!(found(&built.table, "web", false, "control", "/"), Some("fqdn@internal"));
    assert_eq!(codes(&built.diagnostics), ["reserved_host", "reserved_host", "reserved_rule"]);
}

#[test]
fn what_did_not_change_keeps_its_arc() {
    let before = nomad(vec![("a", router("Host(`a`)")), ("b", router("Host(`b`)"))]);
    let first = fresh(&before);
    let same = build(&before.clone(), &first.accepted, &build_options());
    assert_eq!(first.table, same.table);
    assert!(Arc::ptr_eq(&first.table.routers["a@nomad"], &same.table.routers["a@nomad"]));
    // also if the declarations were decoded anew
    let anew =
        build(&nomad(vec![("a", router("Host(`a`)")), ("b", router("Host(`c`)"))]), &first.accepted, &build_options());
    assert!(Arc::ptr_eq(&first.table.services["s@nomad"], &anew.table.services["s@nomad"]));
    assert!(Arc::ptr_eq(&first.table.routers["a@nomad"].service, &anew.table.routers["a@nomad"].service));
    assert_eq!(found(&anew.table, "web", false, "b", "/"), None);
    assert_eq!(found(&anew.table, "web", false, "c", "/"), Some("b@nomad"));
    assert_eq!(found(&anew.table, "web", false, "a", "/"), Some("a@nomad"));
    let changes = diff(&first.table, &anew.table);
    assert_eq!(changes.routers.into_iter().collect::<Vec<_>>(), [("b@nomad".into(), Change::Changed)]);
    assert!(changes.services.is_empty());
    assert!(diff(&first.table, &same.table).is_empty());
}

#[test]
fn a_server_that_comes_is_a_change_of_its_service_and_of_no_other() {
    let first = fresh(&nomad(vec![(
        "a",
        declare::Router { source: Source { service: "web".into(), ..Source::default() }, ..router("Host(`a`)") },
    )]));
    let mut more = nomad(vec![(
        "a",
        declare::Router { source: Source { service: "web".into(), ..Source::default() }, ..router("Host(`a`)") },
    )]);
    more.get_mut(&Provider::Nomad)
        .unwrap()
        .http
        .services
        .insert("s".into(), Arc::new(backend(&["http://10.0.0.1:80", "http://10.0.0.2:80"])));
    let second = build(&more, &first.accepted, &build_options());
    let changes = diff(&first.table, &second.table);
    assert_eq!(changes.services.into_iter().collect::<Vec<_>>(), [("s@nomad".into(), Change::Changed)]);
    assert_eq!(&*changes.causes.first().unwrap().service, "web");
    let (old, new) = (&first.table.services["s@nomad"].servers, &second.table.services["s@nomad"].servers);
    assert!(Arc::ptr_eq(&old[0], &new[0]));
}

#[test]
fn a_table_survives_the_disk() {
    let mut declarations = nomad(vec![
        (
            "a",
            declare::Router { middlewares: vec!["m".into()], tls: Some(RouterTls::default()), ..router("Host(`a`)") },
        ),
        ("b", router("Host(`b`) && PathPrefix(`/x`)")),
    ]);
    let http = &mut declarations.get_mut(&Provider::Nomad).unwrap().http;
    let redirect = MiddlewareKind::RedirectScheme { scheme: "https".into(), port: "".into(), permanent: true };
    http.middlewares.insert("m".into(), middleware(redirect));
    http.servers_transports.insert("t".into(), transport("VersionTLS13"));
    let mut service = backend(&["https://10.0.0.1:443"]);
    service.load_balancer.as_mut().unwrap().servers_transport = "t".into();
    http.services.insert("s".into(), Arc::new(service));
    let table = fresh(&declarations).table;
    assert_eq!(&*table.services["s@nomad"].transport.as_ref().unwrap().id, "t@nomad");
    let text = serde_json::to_string(&table.declarations()).unwrap();
    let back: Declarations = serde_json::from_str(&text).unwrap();
    let built = fresh(&back);
    assert_eq!(codes(&built.diagnostics), [] as [&str; 0]);
    assert_eq!(built.table, table);
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_route_outlives_its_last_server_for_a_while() {
    let start = Instant::now();
    let mut planner = Planner::new(build_options(), 10 * SECOND);
    let with = || {
        let mut d = nomad(vec![("r", declare::Router { middlewares: vec!["m".into()], ..router("Host(`a`)") })]);
        let http = &mut d.get_mut(&Provider::Nomad).unwrap().http;
        http.middlewares.insert("m".into(), middleware(MiddlewareKind::AddPrefix { prefix: "/p".into() }));
        d
    };
    let planned = planner.plan(with(), start);
    assert_eq!(planned.next_deadline, None);
    let planned = planner.plan(Declarations::new(), start + SECOND);
    assert_eq!(planned.next_deadline, Some(start + 11 * SECOND));
    let lingering = planned.table.find("web", false, &Request("a", "/")).unwrap();
    assert!(lingering.service.servers.is_empty());
    assert_eq!(lingering.middlewares.len(), 1);
    assert_eq!(planned.diff.services["s@nomad"], Change::Changed);
    assert_eq!(codes(&list(&planned.problems)), [] as [&str; 0]);
    // another change meanwhile does not prolong it
    let planned = planner.plan(BTreeMap::from([(Provider::Nomad, Dynamic::default())]), start + 5 * SECOND);
    assert_eq!(planned.next_deadline, Some(start + 11 * SECOND));
    let planned = planner.tick(start + 11 * SECOND);
    assert_eq!((found(&planned.table, "web", false, "a", "/"), planned.next_deadline), (None, None));
    assert_eq!(planned.diff.routers["r@nomad"], Change::Removed);

    // it comes back in time
    planner.plan(with(), start + 20 * SECOND);
    planner.plan(Declarations::new(), start + 21 * SECOND);
    let planned = planner.plan(with(), start + 22 * SECOND);
    assert_eq!(planned.next_deadline, None);
    assert_eq!(planned.table.find("web", false, &Request("a", "/")).unwrap().service.servers.len(), 1);
}

#[test]
fn a_router_that_is_taken_out_on_purpose_goes_at_once_and_nothing_lingers_for_zero() {
    let start = Instant::now();
    let mut planner = Planner::new(build_options(), 10 * SECOND);
    planner.plan(nomad(vec![("r", router("Host(`a`)")), ("q", router("Host(`b`)"))]), start);
    let planned = planner.plan(nomad(vec![("q", router("Host(`b`)"))]), start);
    assert_eq!((found(&planned.table, "web", false, "a", "/"), planned.next_deadline), (None, None));

    let mut planner = Planner::new(build_options(), Duration::ZERO);
    planner.plan(nomad(vec![("r", router("Host(`a`)"))]), start);
    let planned = planner.plan(Declarations::new(), start);
    assert_eq!((found(&planned.table, "web", false, "a", "/"), planned.next_deadline), (None, None));
}

#[test]
fn what_lingers_yields_to_what_lives() {
    let start = Instant::now();
    let mut planner = Planner::new(build_options(), 10 * SECOND);
    let old = declare::Router { source: Source { create_index: 1, ..Source::default() }, ..router("Host(`a`)") };
    planner.plan(nomad(vec![("old", old)]), start);
    let mut renamed = Dynamic::default();
    renamed.http.services.insert("s2".into(), Arc::new(backend(&["http://10.0.0.2:80"])));
    let new = declare::Router {
        service: "s2".into(),
        source: Source { create_index: 9, ..Source::default() },
        ..router("Host(`a`)")
    };
    renamed.http.routers.insert("new".into(), Arc::new(new));
    let planned = planner.plan(BTreeMap::from([(Provider::Nomad, renamed)]), start + SECOND);
    assert_eq!(found(&planned.table, "web", false, "a", "/"), Some("new@nomad"));
    assert_eq!(codes(&list(&planned.problems)), [] as [&str; 0]);
}

#[test]
fn explain_blames_what_failed_at_its_place() {
    let blamed = |rule: &str| {
        let declared = dynamic(vec![("r", router(rule))]);
        let table = build(&BTreeMap::from([(Provider::Nomad, declared)]), &Accepted::default(), &build_options()).table;
        let told = table.explain("web", false, &Request("a", "/x"));
        let asked = told.asked.first().cloned();
        let failures =
            asked.map_or_else(|| told.near.iter().flat_map(|n| n.failures.clone()).collect(), |a| a.failures);
        failures.into_iter().map(|f| (rule[f.span].to_owned(), f.negated)).collect::<Vec<_>>()
    };
    let no = |text: &str| (text.to_owned(), false);
    assert_eq!(blamed("Host(`a`) && (PathPrefix(`/x`) || Method(`PUT`))"), []);
    assert_eq!(blamed("Host(`a`) && PathPrefix(`/y`)"), [no("PathPrefix(`/y`)")]);
    assert_eq!(blamed("PathPrefix(`/y`) && Query(`q`)"), [no("PathPrefix(`/y`)"), no("Query(`q`)")]);
    assert_eq!(blamed("Path(`/y`) || Path(`/z`)"), [no("Path(`/y`)"), no("Path(`/z`)")]);
    assert_eq!(blamed("Host(`a`) && !PathPrefix(`/x`)"), [("PathPrefix(`/x`)".to_owned(), true)]);
    assert_eq!(blamed("Host(`b`)"), [no("Host(`b`)")], "a near miss");
}

#[test]
fn explain_tells_of_the_wrong_entry_point_and_of_shadows() {
    let tls = declare::Router { tls: Some(RouterTls::default()), ..router("Host(`a`)") };
    let declared = dynamic(vec![("tls", tls), ("one", router("Host(`b`)")), ("two", router("Host(`b`)"))]);
    let table = build(&BTreeMap::from([(Provider::Nomad, declared)]), &Accepted::default(), &build_options()).table;
    let told = table.explain("web", false, &Request("a", "/"));
    assert!(told.taken.is_none() && told.asked.is_empty());
    assert!(told.near[0].elsewhere && &*told.near[0].router.id == "tls@nomad", "{:?}", told.near);
    let told = table.explain("web", false, &Request("b", "/"));
    assert_eq!(told.shadows, [Arc::from("two@nomad")]);
}
