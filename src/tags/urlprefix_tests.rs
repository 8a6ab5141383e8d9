//! Tags of Fabio's as they are read, with the cases of its recorded answers.

use super::*;
use crate::catalog::Checks;

fn tag(text: &str) -> (Option<Read>, Vec<Diagnostic>) {
    let full = format!("urlprefix-{text}");
    let mut notes = Notes { problems: Vec::new(), tag: &full };
    let read = read(text, &LegacyOptions::default(), "DC-East", &mut notes);
    (read, notes.problems)
}

fn key(text: &str) -> String {
    match tag(text).0.map(|r| r.key) {
        Some(PoolKey::Prefix { host, path }) => format!("{host}|{path}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn sources_as_recorded() {
    assert_eq!(key("shop.example.org/"), "shop.example.org|/");
    assert_eq!(key("SHOP.Example.ORG/Cart"), "shop.example.org|/Cart");
    assert_eq!(key("*.example.org"), "*.example.org|/");
    assert_eq!(key("/"), "|/");
    assert_eq!(key("//x"), "|//x");
    assert_eq!(key("shop.example.org:443/"), "shop.example.org:443|/");
    assert_eq!(key("h/$DC/x"), "h|/DC-East/x");
    assert_eq!(key("h/$NOPE/x"), "h|//x");
    assert_eq!(key("h/$1x"), "h|/x");
    assert_eq!(key("h/$*a"), "h|/a");
    assert_eq!(key("${DC}.example.org/"), "dc-east.example.org|/");
    assert_eq!(key("h/x    strip=/x"), "h|/x");
}

#[test]
fn refused_sources_say_why() {
    for (text, code) in [
        ("", "bad_route"),
        (":", "bad_port"),
        (":5432", "not_served"),
        ("bücher.example/", "bad_host"),
        ("#x/", "bad_host"),
        ("[ab.example.org/", "bad_glob"),
        ("h:8443/", "no_entry_point"),
        ("h:http/", "bad_port"),
        ("h/a\nb", "bad_path"),
        ("h/ weight=50%", "bad_value"),
        ("h/ weight=+Inf", "bad_value"),
        ("h/ weight=1__0", "bad_value"),
        ("h/ weight=0x1", "bad_value"),
        ("h/ proto=tcp", "not_served"),
        ("h/ redirect=400,https://x/", "bad_value"),
        ("h/ redirect=301,https://%zz/", "bad_value"),
        ("h/ redirect=301,https://x/ proto=https", "bad_value"),
    ] {
        let (read, problems) = tag(text);
        assert!(read.is_none(), "{text}");
        assert_eq!(&*problems.last().unwrap().code, code, "{text}: {problems:?}");
    }
}

#[test]
fn broken_access_rules_let_nobody_in() {
    for text in
        ["h/ allow=192.0.2.1", "h/ allow=ip:192.0.2.1,ip:x", "h/ deny=ip:", "h/ allow=ip:::1 deny=ip:10.0.0.0/8"]
    {
        let (read, problems) = tag(text);
        assert!(read.unwrap().options.closed, "{text}");
        assert_eq!(&*problems.last().unwrap().code, "bad_value", "{text}: {problems:?}");
    }
    assert!(!tag("h/ allow=").0.unwrap().options.closed);
}

fn instance(health: Health) -> Instance {
    Instance {
        id: "i".into(),
        node: "n".into(),
        address: "10.0.0.1".into(),
        node_address: "".into(),
        port: 80,
        tags: vec![],
        health,
        datacenter: "dc1".into(),
        create_index: 1,
        job: "".into(),
        alloc: "".into(),
        checks: None,
    }
}

#[test]
fn a_state_that_nobody_knows_is_good_only_where_none_is_told() {
    let is = |health, provider| routed(&instance(health), provider, &LegacyOptions::default());
    assert!(is(Health::Unknown, Provider::Nomad) && is(Health::Passing, Provider::ConsulCatalog));
    assert!(!is(Health::Unknown, Provider::ConsulCatalog) && !is(Health::Warning, Provider::ConsulCatalog));
}

#[test]
fn checks_count_one_by_one_as_in_fabio() {
    let passes = |own: &[Health], out: bool, all_checks: bool, accepted: &[Health]| {
        let legacy = LegacyOptions {
            all_checks,
            service_status: accepted.iter().copied().collect(),
            ..LegacyOptions::default()
        };
        let checks = Some(Checks { own: own.to_vec(), out });
        // a check of the node that fails is nothing to Fabio
        let instance = Instance { checks, ..instance(Health::Critical) };
        super::passes(&instance, Provider::ConsulCatalog, &legacy)
    };
    use Health::{Critical, Passing, Warning};
    assert!(passes(&[Passing, Critical], false, false, &[Passing]));
    assert!(!passes(&[Passing, Critical], false, true, &[Passing]));
    assert!(passes(&[Passing, Warning], false, true, &[Passing, Warning]));
    assert!(!passes(&[Warning], false, false, &[Passing]));
    assert!(!passes(&[Passing], true, false, &[Passing]), "down, or in maintenance");
}

#[test]
fn settings_of_fabio() {
    let with = |text: &str, legacy: &LegacyOptions| {
        let mut notes = Notes { problems: Vec::new(), tag: text };
        (read(text, legacy, "dc1", &mut notes), notes.problems)
    };
    let any_port = LegacyOptions { any_port: true, ..LegacyOptions::default() };
    assert_eq!(with("h:8443/", &any_port).0.unwrap().options.entry_points, [Arc::from("port-8443")]);
    let no_globs = LegacyOptions { glob_disabled: true, ..LegacyOptions::default() };
    let (read, problems) = with("*.h/", &no_globs);
    assert!(read.is_none() && &*problems[0].code == "dead_route");
    assert!(with("h/*", &no_globs).0.is_some());
    let globs = LegacyOptions { matcher: PathMatcher::Glob, ..LegacyOptions::default() };
    let (read, problems) = with("h/[a", &globs);
    assert!(read.is_none() && &*problems[0].code == "bad_glob");
}

#[test]
fn options() {
    let (read, problems) = tag("h/c strip=/c prepend=v1 proto=https weight=0.3 host=dst");
    let read = read.unwrap();
    assert_eq!(problems, []);
    assert_eq!((read.scheme, read.weight), ("https", Some(0.3)));
    assert_eq!((&*read.options.strip, &*read.options.prepend, &*read.options.send_host), ("/c", "v1", "dst"));

    let (read, problems) = tag("h/c stripp=/c");
    assert!(read.is_some());
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `strip=`?"));
    assert_eq!(problems[0].origin.column, Some(15));

    let weight = |text: &str| tag(&format!("h/ weight={text}")).0.and_then(|read| read.weight);
    assert_eq!([weight("1_0.5"), weight("0x1p-2"), weight("0X_1.8p1")], [Some(10.5), Some(0.25), Some(3.0)]);
    assert_eq!([weight("1_"), weight("0x.p1"), weight("-0x1p0"), weight("-1")], [None; 4]);
    let strip = |text: &str| tag(text).0.map(|read| read.options.strip.to_string());
    assert_eq!(strip("h/ strip=/"), Some(String::new()), "comes back at once");
    assert_eq!(strip("h/ strip=/ redirect=301,https://x$path prepend=/p"), Some("/".into()));

    let (read, _) = tag("h/c proto=tcp proto=https");
    assert_eq!(read.unwrap().scheme, "https", "the last protocol counts");

    let (read, _) = tag("h:80/ redirect=301,https://h$path");
    assert!(read.unwrap().options.to_https);
    let (read, _) = tag("h:80/ redirect=301,https://other$path");
    assert!(!read.unwrap().options.to_https);
    let (read, problems) = tag("h/ redirect=");
    assert!(read.unwrap().options.redirect.is_none() && problems.len() == 1);
    let (read, _) = tag("h/ allow=ip:::ffff:192.0.2.1,ip:10.0.0.0/8");
    assert_eq!(read.unwrap().options.allow, ["192.0.2.1/32".into(), "10.0.0.0/8".into()]);
    let (read, problems) = tag("h/ deny=IP:10.0.0.0/8 strip=/a strip= prepend=/b prepend=");
    let read = read.unwrap();
    assert_eq!((&*read.options.deny, problems.len()), (&["10.0.0.0/8".into()][..], 0), "the type in any case");
    assert_eq!((&*read.options.strip, &*read.options.prepend), ("", ""), "the last one counts, empty or not");
    let (read, problems) = tag(r"h/ strip=/a\b");
    assert_eq!((&*read.unwrap().options.strip, &*problems[0].code), (r"/a\\b", "backslash"));
    let (_, problems) = tag("h/ proto=https host=name");
    assert_eq!(&*problems[0].code, "not_served");
}

#[test]
fn what_fabio_passes_over_says_how_servers_are_chosen() {
    let manner = |text: &str| {
        let (read, problems) = tag(text);
        let Manner { unverified, strategy, sticky } = read.unwrap().manner;
        let codes: Vec<_> = problems.iter().map(|p| p.code.to_string()).collect();
        (strategy.map(|s| s.as_str().into_owned()), sticky.as_deref().map(str::to_owned), unverified, codes.join(" "))
    };
    let said = |strategy: Option<&str>, sticky: Option<&str>, unverified, codes: &str| {
        (strategy.map(str::to_owned), sticky.map(str::to_owned), unverified, codes.to_owned())
    };
    assert_eq!(manner("h/ lb=round_robin sticky"), said(Some("wrr"), Some(""), false, ""));
    assert_eq!(manner("h/ lb=least_conn sticky=seat"), said(Some("least_conn"), Some("seat"), false, ""));
    assert_eq!(manner("h/ sticky=true sticky=false tlsskipverify=true"), said(None, None, true, ""));
    assert_eq!(manner("h/ tlsskipverify=true tlsskipverify=yes"), said(None, None, false, ""));
    assert_eq!(manner("h/ lb=fastest sticky=a;b"), said(None, None, false, "bad_value bad_value"));
    assert_eq!(manner("h/ lb"), said(None, None, false, "unknown_option"));
    assert_eq!(manner("h/ proto=grpc"), said(None, None, false, ""));
}
