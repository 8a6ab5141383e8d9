//! What files say, by itself.

use proptest::prelude::*;
use rust_lb::declare::file::{Decoded, decode, read_all};
use rust_lb::declare::{Dynamic, MiddlewareKind, rest};
use serde_json::{Value, json};

fn read(name: &str, text: &str) -> Decoded {
    decode(text.as_bytes(), &name.into()).unwrap_or_else(|problem| panic!("{problem}"))
}

fn codes(decoded: &Decoded) -> Vec<String> {
    decoded
        .problems
        .iter()
        .map(|p| format!("{}:{}:{}", p.code, p.origin.line.unwrap_or(0), p.origin.column.unwrap_or(0)))
        .collect()
}

fn printed(dynamic: &Dynamic) -> Value {
    serde_json::to_value(dynamic).expect("JSON")
}

const YAML: &str = "\
http:
  Routers:
    a:
      RULE: Host(`a.test`)
      entrypoints: web, websecure
      service: a
      priority: 0x10
      tls:
        domains:
          - main: a.test
            sans: [b.test]
    A:
      rule: Host(`upper.test`)
      service: a
      tls: {}
  services:
    a:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:1
            weight: '3'
          - url: http://127.0.0.1:2
        passHostHeader: false
        healthCheck:
          path: /health
          interval: 10s
          timeout: 3
    w:
      weighted:
        services:
          - {name: a, weight: 3}
        healthCheck: {}
  middlewares:
    cut:
      stripPrefix:
        prefixes: [/x]
    auth:
      basicAuth:
        users: ['a:b,c']
        removeHeader: true
  serversTransports:
    mtls:
      rootCAs: [/ca.pem]
tcp:
  services:
    t:
      loadBalancer:
        servers:
          - address: 127.0.0.1:3
tls:
  certificates:
    - certFile: /a.crt
      keyFile: /a.key
  options:
    modern:
      minVersion: VersionTLS13
";

const TOML: &str = r#"
[http.Routers.a]
RULE = "Host(`a.test`)"
entrypoints = "web, websecure"
service = "a"
priority = 0x10
[[http.routers_.x]]
"#;

#[test]
fn yaml_says_what_traefik_takes_it_for() {
    let decoded = read("t.yaml", YAML);
    assert!(decoded.problems.iter().all(|p| !p.is_error() && &*p.code == "not_served"), "{:#?}", decoded.problems);
    let expected = json!({
        "http": {
            "routers": {
                "a": {"rule": "Host(`a.test`)", "entryPoints": ["web", "websecure"], "service": "a", "priority": 16,
                    "tls": {"domains": [{"main": "a.test", "sans": ["b.test"]}]}},
                "A": {"rule": "Host(`upper.test`)", "service": "a", "tls": {}},
            },
            "services": {
                "a": {"loadBalancer": {
                    "servers": [{"url": "http://127.0.0.1:1", "weight": 3}, {"url": "http://127.0.0.1:2"}],
                    "strategy": "wrr", "passHostHeader": false, "responseForwarding": {"flushInterval": "100ms"},
                    "healthCheck": {"mode": "http", "path": "/health", "interval": "10s", "timeout": "3s", "followRedirects": true},
                }},
                "w": {"weighted": {"services": [{"name": "a", "weight": 3}], "healthCheck": {}}},
            },
            "middlewares": {
                "cut": {"stripPrefix": {"prefixes": ["/x"]}},
                "auth": {"basicAuth": {"users": ["a:b,c"], "removeHeader": true}},
            },
            "serversTransports": {"mtls": {"rootCAs": ["/ca.pem"]}},
        },
        "tcp": {"services": {"t": {"loadBalancer": {"servers": [{"address": "127.0.0.1:3"}]}}}},
        "tls": {
            "certificates": [{"certFile": "/a.crt", "keyFile": "/a.key"}],
            "options": {"modern": {"minVersion": "VersionTLS13"}},
        },
    });
    assert_eq!(printed(&decoded.dynamic), expected);
    // what is not served is said once for each definition, at its place
    let warned: Vec<&str> = decoded.problems.iter().map(|p| p.message.as_str()).collect();
    assert!(!warned.iter().any(|w| w.contains("`modern`")), "TLS options are served");
    assert!(!warned.iter().any(|w| w.contains("`mtls`")), "transports are served");
    assert!(!warned.iter().any(|w| w.contains("TCP service")), "so is TCP");
    assert!(!warned.iter().any(|w| w.contains("TLS certificate")), "one that is named by its files is served");
    let text = read("t.yaml", "tls: {certificates: [{certFile: '-----BEGIN CERTIFICATE-----', keyFile: x}]}");
    assert!(codes(&text).is_empty(), "nor one that stands there as text");
    // Stores other than the default one serve nobody, as with Traefik.
    let other =
        read("t.yaml", "tls: {certificates: [{certFile: /a, keyFile: /b, stores: [other]}], stores: {other: {}}}");
    assert_eq!(codes(&other), ["not_served:1:22", "not_served:1:78"]);
}

#[test]
fn toml_and_json_say_the_same() {
    let yaml = read("t.yaml", YAML).dynamic;
    let document = printed(&yaml);
    let toml = toml_of(&document);
    assert_eq!(printed(&read("t.toml", &toml).dynamic), document, "{toml}");
    assert_eq!(printed(&read("t.yml", &document.to_string()).dynamic), document);
    let rest = rest::decode(document.to_string().as_bytes()).expect("taken");
    assert_eq!(printed(&rest.dynamic), document);
    let problem = decode(TOML.as_bytes(), &"t.toml".into()).expect("TOML");
    assert_eq!(codes(&problem), ["unknown_option:7:8"]);
    assert_eq!(problem.dynamic.http.routers.len(), 1);
}

/// TOML of a JSON document, tables inline.
fn toml_of(value: &Value) -> String {
    fn inline(value: &Value) -> String {
        match value {
            Value::Object(map) => {
                let members: Vec<String> = map.iter().map(|(k, v)| format!("{} = {}", json!(k), inline(v))).collect();
                format!("{{ {} }}", members.join(", "))
            }
            Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
            other => other.to_string(),
        }
    }
    let Value::Object(top) = value else { panic!("an object") };
    top.iter().map(|(k, v)| format!("{k} = {}\n", inline(v))).collect()
}

#[test]
fn a_bad_definition_costs_itself_only() {
    let decoded = read(
        "t.yaml",
        "http:\n  routers:\n    good: {rule: Host(`g`), service: s}\n    bad:\n      rule: [a, b]\n      service: s\n    \
         worse: 1\n    typo:\n      rule: Host(`t`)\n      midlewares: [a]\n  services:\n    s:\n      loadBalancer:\n        \
         servers:\n          - url: http://x\n        passHostHeader: perhaps\n    none:\n      loadbalancr: {}\n  middlewares:\n    \
         two:\n      addPrefix: {prefix: /a}\n      stripPrefix: {prefixes: /b}\n",
    );
    let names: Vec<&str> = decoded.dynamic.http.routers.keys().map(|name| &**name).collect();
    assert_eq!(names, ["good"]);
    let broken = &decoded.dynamic.http.broken;
    let names: Vec<&str> = broken.routers.iter().map(|name| &**name).collect();
    assert_eq!(names, ["bad", "typo", "worse"]);
    assert!(broken.middlewares.contains("two"));
    // servers that could be read are known, and that none could be read, too
    let servers = |name: &str| broken.services[name].load_balancer.as_ref().map(|lb| lb.servers.len());
    assert_eq!((servers("s"), servers("none")), (Some(1), None));
    assert_eq!(
        codes(&decoded),
        [
            "bad_value:5:13",
            "bad_value:7:12",
            "unknown_option:10:7",
            "bad_value:16:25",
            "unknown_option:18:7",
            "bad_value:20:5"
        ]
    );
    assert_eq!(decoded.problems[2].help.as_deref(), Some("did you mean `middlewares`?"));
    assert!(!decoded.unclear);
    assert!(read("t.yaml", "http:\n  routes: {a: {rule: x}}\n").unclear);
    assert!(read("t.yaml", "http: nothing\n").unclear);
}

#[test]
fn nothing_is_shown_that_may_be_a_secret() {
    let decoded = read(
        "t.yaml",
        "http:\n  middlewares:\n    a:\n      basicAuth:\n        users: {a: hunter2}\n    b:\n      forwardAuth:\n        tls:\n          key: [hunter2]\n",
    );
    assert_eq!(decoded.problems.iter().filter(|p| p.is_error()).count(), 2);
    assert!(!format!("{:?}", decoded.problems).contains("hunter2"), "{:?}", decoded.problems);
}

#[test]
fn of_a_name_that_two_files_declare_the_first_one_stays() {
    let file = |name: &str, rule: &str| {
        (name.into(), format!("http:\n  routers:\n    r: {{rule: {rule}, service: s}}\n").into_bytes())
    };
    let decoded =
        read_all(&[file("a.yaml", "Host(`a`)"), file("b.yaml", "Host(`b`)"), ("c.yaml".into(), b"[".to_vec())]);
    assert_eq!(&*decoded.dynamic.http.routers["r"].rule, "Host(`a`)");
    let told: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
    assert!(
        told[0].starts_with("b.yaml:3:5: error[router_conflict]: router `r` is declared in `a.yaml` (line 3)"),
        "{told:?}"
    );
    assert!(told[1].starts_with("c.yaml:") && told[1].contains("malformed_file"), "{told:?}");
}

#[test]
fn templates_and_bombs_are_refused() {
    for (name, text, code) in [
        ("t.yaml", "# x\nhttp: {{ env \"X\" }}\n".to_owned(), "template"),
        ("t.yaml", format!("{}1{}", "{a: ".repeat(5000), "}".repeat(5000)), "malformed_file"),
        ("t.toml", format!("{}a = 1\n", "a.".repeat(100_000)), "malformed_file"),
        ("t.yaml", bomb(), "malformed_file"),
        ("t.yaml", "\u{0}".to_owned(), "malformed_file"),
    ] {
        let problem = decode(text.as_bytes(), &name.into()).expect_err(code);
        assert_eq!(&*problem.code, code, "{problem}");
        assert!(problem.origin.line.is_some(), "{problem}");
    }
}

fn bomb() -> String {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let one = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![one; 10].join(", ")));
    }
    bomb
}

/// Declarations as JSON, of names and values that occur.
fn declarations() -> impl Strategy<Value = Value> {
    let name = "[a-zA-Z][a-z0-9_.-]{0,6}";
    let text = "[ -~é]{0,12}".prop_filter("no template", |t| !t.contains("{{"));
    let router = (text.clone(), proptest::collection::vec(name, 0..3), any::<i32>(), proptest::option::of(name))
        .prop_map(|(rule, middlewares, priority, tls)| {
            let mut router =
                json!({"rule": format!("x{rule}"), "middlewares": middlewares, "service": "s", "priority": priority});
            if let Some(options) = tls {
                router["tls"] = json!({"options": options});
            }
            router
        });
    let server = (any::<u16>(), proptest::option::of(any::<u32>()))
        .prop_map(|(port, weight)| json!({"url": format!("http://127.0.0.1:{port}"), "weight": weight.unwrap_or(1)}));
    // Traefik's JSON leaves out a duration of zero, which then reads as the default
    let service = (proptest::collection::vec(server, 1..3), any::<bool>(), 1_i64..100).prop_map(|(servers, host, seconds)| {
        json!({"loadBalancer": {"servers": servers, "passHostHeader": host, "healthCheck": {"interval": format!("{seconds}s")}}})
    });
    let middleware = prop_oneof![
        proptest::collection::vec(text.clone(), 1..3).prop_map(|p| json!({"stripPrefix": {"prefixes": p}})),
        text.clone().prop_map(|p| json!({"addPrefix": {"prefix": p}})),
        (text, any::<bool>()).prop_map(|(scheme, p)| json!({"redirectScheme": {"scheme": scheme, "permanent": p}})),
        (1_i64..999).prop_map(|n| json!({"rateLimit": {"average": n}})),
        Just(json!({"compress": {}})),
    ];
    let some = |of: BoxedStrategy<Value>| proptest::collection::btree_map(name, of, 0..4);
    (some(router.boxed()), some(service.boxed()), some(middleware.boxed())).prop_map(|(routers, services, middlewares)| {
        json!({"http": {"routers": routers, "services": services, "middlewares": middlewares}})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_printed_reads_the_same(document in declarations()) {
        let first = read("t.yaml", &document.to_string());
        let errors: Vec<_> = first.problems.iter().filter(|p| p.is_error()).collect();
        prop_assert!(errors.is_empty(), "{:?}", errors);
        let text = printed(&first.dynamic);
        let second = read("t.yaml", &text.to_string());
        prop_assert_eq!(&second.dynamic, &first.dynamic);
        let toml = toml_of(&text);
        prop_assert_eq!(&read("t.toml", &toml).dynamic, &first.dynamic);
        let rest = rest::decode(text.to_string().as_bytes()).map(|decoded| decoded.dynamic);
        prop_assert_eq!(rest.as_ref().ok(), Some(&first.dynamic));
    }

    #[test]
    fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-z:{}\\[\\] \n\"'&*-]{0,80}") {
        for name in ["t.yaml", "t.toml"] {
            drop(decode(&bytes, &name.into()));
            drop(decode(text.as_bytes(), &name.into()));
            drop(decode(format!("http:\n  routers:\n    a:\n      {text}").as_bytes(), &name.into()));
        }
        drop(rest::decode(&bytes));
    }
}

#[test]
fn a_served_middleware_is_typed() {
    let decoded = read("t.yaml", "http: {middlewares: {p: {addprefix: {PREFIX: /x}}}}");
    assert_eq!(decoded.dynamic.http.middlewares["p"].kind, MiddlewareKind::AddPrefix { prefix: "/x".into() });
    assert!(decoded.problems.is_empty(), "{:?}", decoded.problems);
}
