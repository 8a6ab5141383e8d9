//! The index against a naive walk over generated routers and requests, and tables of thousands.

use super::*;
use crate::tags::{options, service, world};
use proptest::prelude::*;
use rust_lb::rule::{self, Kind, Matcher, Syntax};
use rust_lb::tags::Decoder;

/// The matchers of all routers, compiled once.
pub(super) fn matchers(table: &Table) -> BTreeMap<Arc<str>, Matcher> {
    let compile =
        |r: &rust_lb::table::Router| Matcher::compile(&rule::parse(&r.rule, Kind::Http, Syntax::V3).unwrap()).unwrap();
    table.routers.iter().map(|(id, router)| (id.clone(), compile(router))).collect()
}

/// What the index must come to: all routers tried in their order.
pub(super) fn naive<'a>(
    table: &'a Table,
    matchers: &BTreeMap<Arc<str>, Matcher>,
    declarations: &Declarations,
    options: &BuildOptions,
    entry_point: &str,
    tls: bool,
    request: &impl RequestView,
) -> Option<&'a str> {
    let by_default = options.entry_points.iter().find(|e| *e.name == *entry_point)?.tls;
    let mut routers: Vec<_> = table
        .routers
        .values()
        .filter(|r| !table.shadowed.contains_key(&r.id))
        .filter(|r| r.entry_points.iter().any(|e| **e == *entry_point) && (r.tls || by_default) == tls)
        .filter(|r| matchers[&r.id].matches(request))
        .collect();
    routers.sort_by_key(|r| {
        let rank = match r.provider {
            Provider::File => 1,
            provider if provider == options.primary => 3,
            _ => 4,
        };
        let (name, source) = (r.id.split('@').next().unwrap(), &r.declared.source);
        let http = declarations.get(&r.provider).map(|dynamic| &dynamic.http);
        // what is kept of a router that cannot be read does not begin or cease to linger
        let lingers = http.is_some_and(|http| http.lingering.contains(name) && http.routers.contains_key(name));
        (std::cmp::Reverse(r.priority), lingers, source.create_index, rank, source.namespace.clone(), r.id.clone())
    });
    routers.first().map(|r| &*r.id)
}

/// Hosts that the rules of [`any_router`] mean, and some that they do not.
pub(super) fn rule_hosts() -> impl Strategy<Value = String> {
    prop_oneof!["[abc]\\.x\\.?", "[ab]-[0-9]\\.x", Just(String::new())]
}

pub(super) fn any_router() -> impl Strategy<Value = declare::Router> {
    let regex = prop_oneof![
        Just("^.*\\.x$"),
        Just("^[a-b]-[0-9]+\\.x$"),
        Just("^a"),
        Just("x?"),
        Just("^b-(1|2)\\.x\\.?$"),
        Just("(?i)^A\\.X$")
    ];
    let host = prop_oneof![
        6 => "[ab]\\.x".prop_map(|h| format!("Host(`{h}`)")),
        3 => regex.prop_map(|regex| format!("HostRegexp(`{regex}`)")),
        1 => "[ab]\\.x".prop_map(|h| format!("(Host(`{h}`) || Host(`{h}.`) || PathPrefix(`/z`))")),
        1 => Just("(HostRegexp(`^a`) || Host(`a.x`))".to_owned()),
    ];
    let path = prop_oneof![
        "/[abc]{0,2}".prop_map(|p| format!("PathPrefix(`{p}`)")),
        "/[abc]{0,2}".prop_map(|p| format!("Path(`{p}`)")),
        "/[abc]".prop_map(|p| format!("!PathPrefix(`{p}`)")),
        "/[abc]{0,2}".prop_map(|p| format!("(Path(`{p}`) || PathPrefix(`{p}/`) || PathRegexp(`^/[bc]+$`))")),
    ];
    let other =
        prop_oneof![Just("Method(`GET`)"), Just("Method(`PUT`)"), Just("Header(`X`, `y`)"), Just("!Query(`a`)")];
    let rule = prop_oneof![
        host.clone(),
        path.clone(),
        (host.clone(), path.clone()).prop_map(|(h, p)| format!("{h} && {p}")),
        (host.clone(), path.clone(), other).prop_map(|(h, p, o)| format!("{h} && {p} && {o}")),
        (host, path).prop_map(|(h, p)| format!("{p} || {h}")),
    ];
    let entry_points = prop_oneof![2 => Just(vec![]), 2 => Just(vec!["web"]), 1 => Just(vec!["websecure"])];
    (rule, entry_points, any::<bool>(), prop_oneof![Just(0i64), 1i64..4], 0u64..3, "[mn]?").prop_map(
        |(rule, entry_points, tls, priority, create_index, namespace)| declare::Router {
            entry_points: entry_points.into_iter().map(Arc::from).collect(),
            priority,
            tls: tls.then(RouterTls::default),
            source: Source { create_index, namespace: namespace.into(), ..Source::default() },
            ..router(&rule)
        },
    )
}

/// Few routers, or so many that hosts find them by path.
fn any_declarations() -> impl Strategy<Value = Declarations> {
    let routers = || {
        let map = proptest::collection::btree_map::<_, _>;
        prop_oneof![map("[a-h]", any_router().boxed(), 0..8), map("[a-z]{1,2}", any_router().boxed(), 30..90)]
    };
    let lingering = proptest::collection::vec("[a-h]", 0..3);
    (routers(), routers(), lingering).prop_map(|(n, c, lingering)| {
        let make = |routers: BTreeMap<String, declare::Router>| {
            let mut dynamic = dynamic(routers.iter().map(|(name, r)| (name.as_str(), r.clone())).collect());
            dynamic.http.lingering = lingering.iter().map(|name| Arc::from(&**name)).collect();
            dynamic
        };
        BTreeMap::from([(Provider::Nomad, make(n)), (Provider::ConsulCatalog, make(c))])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_index_finds_what_a_walk_over_all_finds_also_after_changes(
        steps in proptest::collection::vec(any_declarations(), 1..4),
        requests in proptest::collection::vec((rule_hosts(), "/[abcz]{0,3}"), 1..12),
    ) {
        let mut accepted = Accepted::default();
        let options = build_options();
        for declarations in steps {
            let built = build(&declarations, &accepted, &options);
            let matchers = matchers(&built.table);
            for (host, path) in &requests {
                let request = Request(host, path);
                for (entry_point, tls) in [("web", false), ("web", true), ("websecure", false), ("websecure", true)] {
                    let found = built.table.find(entry_point, tls, &request).map(|r| &*r.id);
                    let expected = naive(&built.table, &matchers, &declarations, &options, entry_point, tls, &request);
                    prop_assert_eq!(found, expected, "{}{}", host, path);
                    let told = built.table.explain(entry_point, tls, &request);
                    prop_assert_eq!(told.taken.as_ref().map(|r| &*r.id), found);
                    for asked in &told.asked {
                        let takes = Some(&*asked.router.id) == found;
                        prop_assert_eq!(asked.failures.is_empty(), takes, "{:?}", asked);
                    }
                }
            }
            accepted = built.accepted;
        }
    }
}

#[test]
#[allow(clippy::print_stdout)]
fn thousands_of_services_are_decoded_and_built_in_reasonable_time() {
    for count in [2_000usize, 10_000] {
        let make = |changed: Option<usize>| -> Vec<_> {
            (0..count)
                .map(|i| {
                    let (name, rule) = (
                        format!("svc-{i}"),
                        format!("traefik.http.routers.svc-{i}.rule=Host(`svc-{i}.example`) && PathPrefix(`/api`)"),
                    );
                    let port = if changed == Some(i) { 81 } else { 80 };
                    service(
                        &name,
                        &[
                            ("10.0.0.1", port, &["traefik.enable=true", &rule]),
                            ("10.0.0.2", 80, &["traefik.enable=true", &rule]),
                        ],
                    )
                })
                .collect()
        };
        let mut decoder = Decoder::new(BTreeMap::from([(Provider::Nomad, options())]));
        let mut planner = Planner::new(build_options(), 10 * SECOND);
        let now = Instant::now();
        let first = world(Provider::Nomad, make(None));
        // one service changes, the others keep their Arc
        let mut second = first.clone();
        let other = world(Provider::Nomad, make(Some(7)));
        let inventory = Arc::make_mut(second.sources.get_mut(&Provider::Nomad).unwrap());
        let changed = &other.sources[&Provider::Nomad].services;
        for (key, service) in changed.iter().filter(|(key, _)| &*key.name == "svc-7") {
            inventory.services.insert(key.clone(), service.clone());
        }
        let timed = |what: &str, start: Instant| println!("{count} services, {what}: {:?}", start.elapsed());
        let start = Instant::now();
        let decoded = decoder.decode(&first);
        timed("decoded", start);
        let all = Instant::now();
        let planned = planner.plan(decoded.declarations, now);
        timed("built", all);
        assert_eq!(planned.table.routers.len(), count);
        assert!(start.elapsed() < Duration::from_secs(60));
        let one = Instant::now();
        let decoded = decoder.decode(&second);
        timed("one changed, decoded", one);
        let one = Instant::now();
        let planned = planner.plan(decoded.declarations, now);
        timed("one changed, built", one);
        assert_eq!(planned.diff.services.len(), 1);
        assert!(planned.diff.routers.len() <= 1);
        let start = Instant::now();
        for i in 0..1_000 {
            let host = format!("svc-{i}.example");
            assert!(planned.table.find("web", false, &Request(&host, "/api/x")).is_some());
        }
        timed("1,000 look-ups", start);
    }
}
