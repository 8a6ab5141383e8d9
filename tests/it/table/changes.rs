//! Change after change: a build that takes up what the last one found out comes to the same as one that works everything
//! out, and shares with the last table all that did not change.

use super::walk::{any_router, matchers, naive, rule_hosts};
use super::*;
use proptest::prelude::*;
use rust_lb::table::rebuild;

const PROVIDERS: [Provider; 3] = [Provider::File, Provider::Nomad, Provider::ConsulCatalog];
const SERVICES: [&str; 3] = ["s", "t", "u"];
const MIDDLEWARES: [&str; 3] = ["m", "n", "o"];
const TRANSPORTS: [&str; 2] = ["v", "w"];

/// Something that stands in a catalog, that nobody can read, or that is not there.
#[derive(Debug, Clone)]
enum State<T> {
    Good(T),
    Broken(T),
    Gone,
}

#[derive(Debug, Clone)]
enum Edit {
    Router(usize, String, State<Arc<declare::Router>>, bool),
    Service(usize, usize, State<Arc<declare::Service>>),
    Middleware(usize, usize, State<MiddlewareKind>),
    Transport(usize, usize, State<&'static str>),
    Provider(usize),
}

fn any_state<T: Clone + std::fmt::Debug + 'static>(
    of: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = State<T>> {
    (of, 0..6).prop_map(|(value, which)| match which {
        0 => State::Gone,
        1 => State::Broken(value),
        _ => State::Good(value),
    })
}

fn any_service() -> impl Strategy<Value = declare::Service> {
    let servers =
        proptest::collection::vec(prop_oneof![Just("http://10.0.0.1:80"), Just("http://10.0.0.2:80"), Just("x")], 0..3);
    let middlewares = proptest::option::weighted(0.3, 0..MIDDLEWARES.len());
    let transports = prop_oneof![5 => Just(""), 3 => Just("v"), 1 => Just("w@file"), 1 => Just("default@internal"), 1 => Just("none")];
    (servers, middlewares, proptest::bool::weighted(0.9), transports).prop_map(
        |(servers, middleware, balanced, transport)| {
            let mut service = backend(&servers);
            service.load_balancer.iter_mut().for_each(|balancer| balancer.servers_transport = transport.into());
            service.middlewares = middleware.map(|m| MIDDLEWARES[m].into()).into_iter().collect();
            service.load_balancer = service.load_balancer.filter(|_| balanced);
            service
        },
    )
}

fn any_middleware() -> impl Strategy<Value = MiddlewareKind> {
    let not_served = NotServed { kind: "basicAuth".into(), options: declare::Options::default() };
    let add = |prefix: &str| MiddlewareKind::AddPrefix { prefix: prefix.into() };
    prop_oneof![
        4 => Just(add("/x")),
        2 => Just(add("/y")),
        1 => Just(MiddlewareKind::Refuse { status: 7 }),
        1 => Just(MiddlewareKind::NotServed(not_served)),
    ]
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let middlewares = proptest::collection::vec(prop_oneof![Just("m"), Just("n"), Just("n@file"), Just("none")], 0..2);
    let service = prop_oneof![5 => Just("s"), 3 => Just("t"), 1 => Just("u"), 1 => Just("s@file")];
    let rules = prop_oneof![8 => Just(None), 1 => Just(Some("Host(")), 2 => Just(Some("Host(`a.x`) && Path(`/b`)"))];
    let router = (any_router(), middlewares, service, rules).prop_map(|(router, middlewares, service, rule)| {
        let middlewares = middlewares.into_iter().map(Arc::from).collect();
        let rule = rule.map_or(router.rule.clone(), Arc::from);
        declare::Router { middlewares, service: service.into(), rule, ..router }
    });
    let provider = 0..PROVIDERS.len();
    // boxed: all of them by value are too much for the stack of a test
    let router = (provider.clone(), "[a-j]", any_state(router.prop_map(Arc::new)), proptest::bool::weighted(0.1))
        .prop_map(|(p, name, state, lingers)| Edit::Router(p, name, state, lingers));
    let service = (provider.clone(), 0..SERVICES.len(), any_state(any_service().prop_map(Arc::new)))
        .prop_map(|(p, n, state)| Edit::Service(p, n, state));
    let middleware = (provider.clone(), 0..MIDDLEWARES.len(), any_state(any_middleware()))
        .prop_map(|(p, n, state)| Edit::Middleware(p, n, state));
    let versions = prop_oneof![3 => Just("VersionTLS12"), 2 => Just("VersionTLS13"), 1 => Just("1.2")];
    let transport = (provider.clone(), 0..TRANSPORTS.len(), any_state(versions))
        .prop_map(|(p, n, state)| Edit::Transport(p, n, state));
    prop_oneof![
        8 => router.boxed(),
        4 => service.boxed(),
        3 => middleware.boxed(),
        2 => transport.boxed(),
        1 => provider.prop_map(Edit::Provider).boxed(),
    ]
}

fn apply(edit: Edit, declarations: &mut Declarations) {
    match edit {
        Edit::Router(provider, name, state, lingers) => {
            let http = &mut declarations.entry(PROVIDERS[provider]).or_default().http;
            let name: Arc<str> = name.into();
            http.broken.routers.remove(&name);
            http.lingering.remove(&name);
            http.routers.remove(&name);
            match state {
                State::Good(router) => drop(http.routers.insert(name.clone(), router)),
                State::Broken(_) => drop(http.broken.routers.insert(name.clone())),
                State::Gone => {}
            }
            if lingers {
                http.lingering.insert(name);
            }
        }
        Edit::Service(provider, name, state) => {
            let http = &mut declarations.entry(PROVIDERS[provider]).or_default().http;
            let name: Arc<str> = SERVICES[name].into();
            http.broken.services.remove(&name);
            http.services.remove(&name);
            match state {
                State::Good(service) => drop(http.services.insert(name, service)),
                State::Broken(service) => drop(http.broken.services.insert(name, service)),
                State::Gone => {}
            }
        }
        Edit::Middleware(provider, name, state) => {
            let http = &mut declarations.entry(PROVIDERS[provider]).or_default().http;
            let name: Arc<str> = MIDDLEWARES[name].into();
            http.broken.middlewares.remove(&name);
            http.middlewares.remove(&name);
            match state {
                State::Good(kind) => drop(http.middlewares.insert(name, middleware(kind))),
                State::Broken(_) => drop(http.broken.middlewares.insert(name)),
                State::Gone => {}
            }
        }
        Edit::Transport(provider, name, state) => {
            let http = &mut declarations.entry(PROVIDERS[provider]).or_default().http;
            let name: Arc<str> = TRANSPORTS[name].into();
            http.broken.servers_transports.remove(&name);
            http.servers_transports.remove(&name);
            match state {
                State::Good(version) => drop(http.servers_transports.insert(name, transport(version))),
                State::Broken(_) => drop(http.broken.servers_transports.insert(name)),
                State::Gone => {}
            }
        }
        Edit::Provider(provider) => drop(declarations.remove(&PROVIDERS[provider])),
    }
}

/// Whether everything that is equal in both maps is the same.
fn shares<V: PartialEq>(before: &rust_lb::model::Map<Arc<str>, V>, after: &rust_lb::model::Map<Arc<str>, V>) -> bool {
    before.differences(after).all(|d| d.before != d.after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn building_on_what_is_known_comes_to_the_same_as_building_all(
        steps in proptest::collection::vec((proptest::collection::vec(any_edit(), 1..5), 0..12), 1..25),
        requests in proptest::collection::vec((rule_hosts(), "/[abcz]{0,3}"), 1..8),
    ) {
        let mut declarations = Declarations::new();
        for provider in PROVIDERS {
            declarations.insert(provider, dynamic(vec![]));
        }
        let mut accepted = Accepted::default();
        let mut options = build_options();
        for (edits, which) in steps {
            edits.into_iter().for_each(|edit| apply(edit, &mut declarations));
            match which {
                0 => options.primary = Provider::ConsulCatalog,
                1 => options = build_options(),
                2 => options.entry_points[0].tls ^= true,
                _ => {}
            }
            let built = build(&declarations, &accepted, &options);
            let all = rebuild(&declarations, &accepted, &options);
            prop_assert_eq!(&built.table, &all.table);
            prop_assert_eq!(&built.diagnostics, &all.diagnostics);
            for d in accepted.table().routers.differences(&built.table.routers) {
                // where it was declared is no part of what it is
                let same = d.before.zip(d.after).is_some_and(|(a, b)| a == b && Arc::ptr_eq(&a.declared, &b.declared));
                prop_assert!(!same, "{}", d.key);
            }
            prop_assert!(shares(&accepted.table().services, &built.table.services));
            prop_assert!(shares(&accepted.table().middlewares, &built.table.middlewares));
            prop_assert!(shares(&accepted.table().transports, &built.table.transports));
            let matchers = matchers(&built.table);
            for (host, path) in &requests {
                for (entry_point, tls) in [("web", false), ("web", true), ("websecure", true)] {
                    let asked = |table: &Table| {
                        let told = table.explain(entry_point, tls, &Request(host, path));
                        let asked: Vec<_> = told.asked.iter().map(|asked| asked.router.id.clone()).collect();
                        (asked, told.taken.map(|router| router.id.clone()))
                    };
                    let told = asked(&built.table);
                    let expected = naive(&built.table, &matchers, &declarations, &options, entry_point, tls, &Request(host, path));
                    prop_assert_eq!(told.1.as_deref(), expected);
                    // how many are asked on the way depends on how the index came about, who takes it does not
                    prop_assert_eq!(told.1, asked(&all.table).1);
                }
            }
            // nothing new comes to nothing new
            let again = build(&declarations, &built.accepted, &options);
            prop_assert!(diff(&built.table, &again.table).is_empty());
            prop_assert_eq!(&again.diagnostics, &built.diagnostics);
            accepted = built.accepted;
        }
    }
}
