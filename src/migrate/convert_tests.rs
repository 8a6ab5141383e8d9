//! Conversions, tag by tag, and that all that is converted is proved.

use super::super::prove::table_of;
use super::super::{Gap, Piece, Place, Proof, apply, pieces, prove};
use super::*;
use proptest::prelude::*;

fn tag(text: &str) -> Tag {
    Tag { text: text.into(), holes: Vec::new(), place: Place { file: "a.nomad".into(), line: 3, column: 7 } }
}

fn service(name: &str, count: u32, tags: &[&str]) -> Service {
    Service { name: name.into(), count, tags: tags.iter().map(|t| tag(t)).collect(), ..Service::default() }
}

fn set(services: &[(&str, &[&str])]) -> Set {
    Set { services: services.iter().map(|(name, tags)| service(name, 1, tags)).collect() }
}

fn settings() -> Settings {
    let auth = ("proxy.auth".to_owned(), "name=team;type=basic;file=/etc/users;realm=Team".to_owned());
    Settings { fabio: [auth].into(), ..Settings::default() }
}

/// The new tags of the only service.
fn new(text: &str) -> Vec<String> {
    let all = convert(&set(&[("s", &[text])]), &settings());
    match &all[0].outcomes[0] {
        Outcome::Converted(new) => new.iter().map(ToString::to_string).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> Diagnostic {
    match &convert(&set(&[("s", &[text])]), &settings())[0].outcomes[0] {
        Outcome::Refused(problem) => (**problem).clone(),
        other => panic!("{text}: {other:?}"),
    }
}

fn proof(set: &Set, settings: &Settings) -> Proof {
    let conversions = convert(set, settings);
    for keep in [true, false] {
        let after = apply(set, &conversions, keep);
        let proof = prove(set, &after, settings);
        if !keep || !proof.holds() {
            return proof;
        }
    }
    Proof::default()
}

#[test]
fn a_route_is_named_after_its_prefix() {
    let new = new("urlprefix-App.example.com/Api");
    let name = new[0].strip_prefix("traefik.http.routers.").unwrap().split('.').next().unwrap().to_owned();
    assert!(name.starts_with("fb-app-example-com--"), "{name}");
    let of = |option: &str| format!("traefik.http.routers.{name}.{option}");
    assert_eq!(
        new,
        [
            of("rule=Host(`app.example.com`) && PathPrefix(`/Api`)"),
            of("priority=1000004"),
            of(&format!("service={name}")),
            format!("traefik.http.services.{name}.loadbalancer.server.scheme=http"),
        ]
    );
}

#[test]
fn services_with_one_prefix_get_one_route() {
    let set = set(&[("a", &["urlprefix-h/ strip=/x"]), ("b", &["urlprefix-h strip=/x", "blue"])]);
    let all = convert(&set, &settings());
    assert_eq!(all[0].outcomes[0], all[1].outcomes[0]);
    assert_eq!(all[1].outcomes[1], Outcome::Kept);
    assert_eq!(all[0].besides, ["traefik.enable=true".into()]);
    assert!(proof(&set, &settings()).holds());
}

#[test]
fn options_that_differ_refuse_the_whole_route() {
    let set =
        set(&[("a", &["urlprefix-h/ strip=/x", "urlprefix-i/"]), ("b", &["urlprefix-h/"]), ("c", &["urlprefix-H"])]);
    let all = convert(&set, &settings());
    for conversion in &all {
        let Outcome::Refused(problem) = &conversion.outcomes[0] else { panic!("{conversion:?}") };
        assert_eq!(&*problem.code, "pool_conflict");
        assert!(problem.message.contains("`a`") && problem.message.contains("`b`"), "{}", problem.message);
        assert_eq!((problem.origin.line, problem.origin.column), (Some(3), Some(7)));
    }
    assert!(matches!(all[0].outcomes[1], Outcome::Converted(_)));
    assert!(all[0].remarks.iter().any(|r| &*r.code == "left_beside"));
    let proof = proof(&set, &settings());
    assert!(proof.holds() && proof.routes == 1, "{proof:?}");
}

#[test]
fn a_bad_tag_refuses_the_route_everywhere() {
    let set = set(&[("a", &["urlprefix-h/ weight=much"]), ("b", &["urlprefix-h/"])]);
    let codes: Vec<String> = convert(&set, &settings())
        .iter()
        .map(|c| match &c.outcomes[0] {
            Outcome::Refused(problem) => problem.code.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, ["bad_value", "half_route"]);
}

#[test]
fn what_has_no_form_is_refused_with_advice() {
    for (text, code) in [
        ("urlprefix-h/ redirect=303,https://x/", "redirect_status"),
        ("urlprefix-h/ redirect=200,https://x/", "bad_value"),
        ("urlprefix-h/ redirect=301,https://x/ proto=https", "bad_value"),
        ("urlprefix-[ab.h/", "bad_glob"),
        ("urlprefix-[2001:db8::1]/", "bad_host"),
        ("urlprefix-h:8443/", "no_entry_point"),
        ("urlprefix-h/ allow=192.0.2.1", "bad_value"),
        ("urlprefix-h/ allow=ip:10.0.0.1 deny=ip:10.0.0.2", "bad_value"),
        ("urlprefix-h/ auth=nobody", "unknown_auth"),
        ("urlprefix-$DC.h/", "datacenter"),
        ("urlprefix-bücher.example/", "bad_host"),
        ("urlprefix-h/a\"b", "double_quote"),
        ("https://a..b", "bad_site"),
        ("urlprefix-:0", "bad_port"),
    ] {
        let problem = refused(text);
        assert_eq!(&*problem.code, code, "{text}: {problem}");
        assert!(problem.is_error() && problem.help.is_some(), "{text}: {problem}");
    }
}

#[test]
fn every_option_is_proved() {
    for text in [
        "urlprefix-h/",
        "urlprefix-h",
        "urlprefix-/api/",
        "urlprefix-/",
        "urlprefix-h/foo",
        "urlprefix-h/foo/",
        "urlprefix-*.h/",
        "urlprefix-*/p",
        "urlprefix-app-*.h/",
        "urlprefix-{a,b}.h/x",
        "urlprefix-?.h/",
        "urlprefix-[a-c]1.h/",
        "urlprefix-[!a]2.h/",
        "urlprefix-h:80/",
        "urlprefix-h:443/x",
        "urlprefix-h/a*b",
        "urlprefix-h/ü",
        "urlprefix-h/a%20b",
        "urlprefix-h/s strip=/s",
        "urlprefix-h/ strip=/",
        "urlprefix-h/ strip=s",
        "urlprefix-h/ prepend=/v",
        "urlprefix-h/p strip=/p prepend=/v",
        "urlprefix-h/ redirect=301,https://n$path",
        "urlprefix-h/ redirect=302,https://n/fixed",
        "urlprefix-h/ redirect=308,https://n$path?x=1",
        "urlprefix-h/s strip=/s redirect=301,https://n$path",
        "urlprefix-h/s prepend=/s redirect=301,https://n/$path",
        "urlprefix-h/ redirect=301,https://$host$path",
        "urlprefix-h:80/ redirect=301,https://h$path",
        "urlprefix-h/ host=dst",
        "urlprefix-h/ host=other.example",
        "urlprefix-h/ proto=https",
        "urlprefix-h/ proto=https tlsskipverify=true",
        "urlprefix-h/ lb=round_robin",
        "urlprefix-h/ lb=least_conn sticky",
        "urlprefix-h/ sticky=seat",
        "urlprefix-h/ proto=grpc",
        "urlprefix-h/ proto=ws",
        "urlprefix-h/ auth=team",
        "urlprefix-h/p auth=team strip=/p",
        "urlprefix-h/ allow=ip:10.1.0.0/16,ip:192.0.2.1",
        "urlprefix-h/ deny=ip:10.1.0.0/16,ip:192.0.2.1",
        "urlprefix-h/ weight=0.3",
        "urlprefix-h/ register=other",
        "urlprefix-:5432 proto=tcp",
        "urlprefix-:5432 proto=tcp pxyproto=true",
        "urlprefix-:5432 proto=tcp allow=ip:10.0.0.0/8",
        "urlprefix-:5432 proto=tcp deny=ip:10.0.0.0/8",
        "urlprefix-db.h/ proto=tcp",
        "https://a.example",
        "https://a.example/x",
        "https://*.a.example",
        "https://a.example, http://b.example",
    ] {
        let set = set(&[("s", &[text])]);
        let proof = proof(&set, &settings());
        assert!(proof.holds() && proof.routes > 0, "{text}: {:#?}", proof.differences.first());
        let new = new(text);
        assert!(!new.iter().any(|tag| tag.contains('"')), "{new:?}");
    }
}

#[test]
fn routes_that_get_in_each_others_way_keep_their_order() {
    let tags: &[&str] = &[
        "urlprefix-h/",
        "urlprefix-h/a",
        "urlprefix-h/a/very/long/path",
        "urlprefix-/a/very/long/path/without/a/host/that/makes/the/rule/longer/than/the/others",
        "urlprefix-*.h/x/y/z",
        "urlprefix-b.h/only",
        "urlprefix-*.b.h/",
        "urlprefix-*/x",
        "urlprefix-h/deny deny=ip:10.0.0.0/8",
        "urlprefix-h/denyx",
        "urlprefix-h:80/ redirect=301,https://h$path",
        "https://h",
        "https://*.h",
        "https://b.h/x",
    ];
    let services: Vec<Service> =
        tags.iter().enumerate().map(|(at, tag)| service(&format!("s{at}"), 1, &[tag])).collect();
    let proof = proof(&Set { services }, &settings());
    assert!(proof.holds(), "{:#?}", proof.differences.first());
}

#[test]
fn weights_are_shares() {
    let of = |services: &[(u32, &str)]| {
        let services = services.iter().enumerate().map(|(at, (count, tag))| service(&format!("s{at}"), *count, &[tag]));
        Set { services: services.collect() }
    };
    for services in [
        &[(1, "urlprefix-h/ weight=0.2"), (1, "urlprefix-h/ weight=0.8")][..],
        &[(2, "urlprefix-h/ weight=0.2"), (1, "urlprefix-h/ weight=0.8")],
        &[(1, "urlprefix-h/ weight=0.5"), (2, "urlprefix-h/")],
        &[(1, "urlprefix-h/ weight=1"), (3, "urlprefix-h/")],
        &[(7, "urlprefix-h/ weight=0.142857"), (3, "urlprefix-h/ weight=3")],
    ] {
        let set = of(services);
        let proof = proof(&set, &settings());
        assert!(proof.holds(), "{:#?}", proof.differences.first());
        let mixed = services.iter().any(|(_, tag)| !tag.contains("weight"));
        let remarked = convert(&set, &settings())[0].remarks.iter().any(|r| &*r.code == "mixed_weights");
        assert_eq!(remarked, mixed);
    }
}

#[test]
fn holes_stay_holes() {
    let holed = |file: &str, text: &str, holes: &[&str]| Tag {
        text: text.into(),
        holes: holes.iter().map(|h| Arc::from(*h)).collect(),
        place: Place { file: file.into(), line: 1, column: 1 },
    };
    let one = |tags: Vec<Tag>| Service { name: "s".into(), count: 1, tags, ..Service::default() };
    let set = Set {
        services: vec![
            one(vec![holed("a", "urlprefix-\u{fffc}/\u{fffc} strip=/\u{fffc}", &["${var.h}", "${var.p}", "${var.p}"])]),
            one(vec![holed("b", "urlprefix-\u{fffc}.x/", &["${var.h}"])]),
            one(vec![holed("b", "urlprefix-\u{fffc}/", &["${NOMAD_ALLOC_INDEX}"])]),
            one(vec![holed("b", "urlprefix-\u{fffc}", &["${var.all}"])]),
            one(vec![holed("b", "urlprefix-h/ weight=\u{fffc}", &["${var.w}"])]),
        ],
    };
    let all = convert(&set, &settings());
    let Outcome::Converted(new) = &all[0].outcomes[0] else { panic!("{:?}", all[0]) };
    let rule = pieces(&new[0]);
    assert_eq!(rule[1..], [Piece::Hole(0), Piece::Text("`) && PathPrefix(`/"), Piece::Hole(1), Piece::Text("`)")]);
    assert!(matches!(&all[1].outcomes[0], Outcome::Converted(_)));
    for refused in &all[2..] {
        assert!(matches!(&refused.outcomes[0], Outcome::Refused(p) if &*p.code == "expression"), "{refused:?}");
    }
    let proof = proof(&set, &settings());
    assert!(proof.holds() && proof.routes == 2, "{proof:#?}");
}

#[test]
fn known_gaps_are_named() {
    let set = set(&[(
        "s",
        &[
            "urlprefix-h/ allow=ip:127.0.0.0/8",
            "urlprefix-r/ redirect=301,https://n$path",
            "urlprefix-p/p strip=/p prepend=/v",
            "urlprefix-h/bad redirect=303,https://x/",
            "https://a.example",
        ],
    )]);
    let proof = proof(&set, &settings());
    assert!(proof.holds(), "{:#?}", proof.differences.first());
    let codes: BTreeSet<&str> = proof.gaps.iter().map(|gap: &Gap| &*gap.code).collect();
    for code in [
        "forwarded_for",
        "redirect_status",
        "strip_prepend",
        "refused_route",
        "port_in_host",
        "trailing_dot",
        "client_hash",
    ] {
        assert!(codes.contains(code), "{code} of {codes:?}");
    }
}

#[test]
fn a_wrong_conversion_is_found() {
    let set = set(&[
        ("a", &["urlprefix-h/", "urlprefix-h/x strip=/x"]),
        ("b", &["urlprefix-i/ weight=0.5"]),
        ("c", &["urlprefix-i/ weight=0.5"]),
    ]);
    let conversions = convert(&set, &settings());
    let good = apply(&set, &conversions, true);
    assert!(prove(&set, &good, &settings()).holds());
    for (old, new) in [
        ("Host(`h`)", "Host(`h2`)"),
        ("priority=1000002", "priority=5"),
        ("stripprefix.prefixes=/x", "stripprefix.prefixes=/xy"),
        ("PathPrefix(`/x`)", "Path(`/x`)"),
        ("server.weight=1", "server.weight=3"),
    ] {
        let mut bad = good.clone();
        let tags = bad.services.iter_mut().take(2).flat_map(|service| &mut service.tags);
        let tag = tags.filter(|tag| tag.text.contains(old)).last().unwrap_or_else(|| panic!("{old}"));
        tag.text = tag.text.replace(old, new).into();
        let proof = prove(&set, &bad, &settings());
        let first = proof.differences.first();
        assert!(!proof.holds() && first.is_some_and(|d| !d.before.says.is_empty()), "{old} -> {new}");
    }
}

#[test]
fn a_service_that_hides_itself_is_not_converted() {
    let problem = convert(&set(&[("s", &["traefik.enable=false", "urlprefix-h/"])]), &settings());
    assert!(matches!(&problem[0].outcomes[1], Outcome::Refused(p) if &*p.code == "switched_off"));
    let own = "traefik.http.routers.fb-h---000000.rule=Host(`h`)";
    assert!(matches!(
        &convert(&set(&[("s", &[own, "urlprefix-h/"])]), &settings())[0].outcomes[1],
        Outcome::Converted(_)
    ));
}

#[test]
fn much_is_converted_and_proved() {
    let many = |count: usize| {
        let services = (0..count).map(|at| {
            let tags = [format!("urlprefix-h{at}.example/"), format!("urlprefix-/p{at} strip=/p{at}")];
            service(&format!("s{at}"), 1, &[&tags[0], &tags[1]])
        });
        Set { services: services.collect() }
    };
    let set = many(1_000);
    let conversions = convert(&set, &settings());
    let after = apply(&set, &conversions, true);
    let proof = prove(&set, &after, &settings());
    assert!(proof.holds() && proof.routes == 2_000, "{:#?}", proof.differences.first());
}

/// With settings of Fabio's.
fn of_fabio(said: &[(&str, &str)]) -> Settings {
    Settings { fabio: said.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), ..Settings::default() }
}

/// The rules and priorities of the only service's routers.
fn rules(text: &str, settings: &Settings) -> Vec<String> {
    let set = set(&[("s", &[text])]);
    let all = convert(&set, settings);
    let Outcome::Converted(new) = &all[0].outcomes[0] else { panic!("{text}: {all:?}") };
    let proof = prove(&set, &apply(&set, &all, false), settings);
    assert!(proof.holds() && proof.routes == 1, "{text}: {:#?}", proof.differences.first());
    let value = |tag: &Arc<str>| {
        let (key, value) = tag.split_once('=')?;
        [".rule", ".priority", ".entrypoints"].iter().any(|of| key.ends_with(of)).then(|| value.to_owned())
    };
    new.iter().filter_map(value).collect()
}

#[test]
fn variables_of_the_datacenter_are_written_out() {
    let settings = of_fabio(&[("dc", "Eu1")]);
    assert_eq!(rules("urlprefix-a.$DC.h/${DC}/x", &settings)[0], "Host(`a.eu1.h`) && PathPrefix(`/Eu1/x`)");
    // any other vanishes, as in Fabio
    assert_eq!(rules("urlprefix-$NOPEx.h/", &settings)[0], "Host(`.h`)");
    let all = convert(&set(&[("s", &["urlprefix-h/p strip=/$DC"])]), &settings);
    let Outcome::Converted(new) = &all[0].outcomes[0] else { panic!("{all:?}") };
    assert!(new.iter().any(|tag| tag.ends_with("stripprefix.prefixes=/$DC")), "not in options: {new:?}");
}

#[test]
fn matchers_decide_about_paths() {
    let iprefix = of_fabio(&[("proxy.matcher", "iprefix")]);
    assert_eq!(rules("urlprefix-h/Foo.x", &iprefix)[0], r"Host(`h`) && PathRegexp(`(?i)^\/Foo\.x`)");
    let glob = of_fabio(&[("proxy.matcher", "glob")]);
    assert_eq!(rules("urlprefix-h/", &glob)[0], "Host(`h`) && Path(`/`)");
    assert_eq!(rules("urlprefix-h/foo", &glob)[0], "Host(`h`) && Path(`/foo`)");
    assert_eq!(rules("urlprefix-h/f?o/*", &glob)[0], r"Host(`h`) && PathRegexp(`^\/f.o\/.*$`)");
    let of = |first: &str, second: &str, settings: &Settings| {
        let number = |text: &str| rules(text, settings)[1].parse::<i64>().unwrap();
        number(first) > number(second)
    };
    assert!(of("urlprefix-h/foo", "urlprefix-h/FOO/bar", &iprefix), "small letters first");
    assert!(of("urlprefix-h/?", "urlprefix-h/*", &glob) && of("urlprefix-h/a*", "urlprefix-h/?", &glob));
    let off = of_fabio(&[("glob.matching.disabled", "true")]);
    assert_eq!(rules("urlprefix-h/", &off)[0], "Host(`h`)");
}

#[test]
fn host_patterns_are_expressions() {
    for (host, rule) in [
        ("*.h", r"^.*\.h$"),
        ("app-*.h", r"^app\-.*\.h$"),
        ("{a,b}.h", r"^(a|b)\.h$"),
        ("[!a]2.h", r"^[^a]2\.h$"),
        ("?.h", r"^.\.h$"),
    ] {
        let [text, priority] = &rules(&format!("urlprefix-{host}/"), &settings())[..] else { panic!("{host}") };
        assert_eq!(*text, format!("HostRegexp(`{rule}`)"));
        assert!(priority.parse::<i64>().unwrap() > 100_000, "{host} {priority}");
    }
}

#[test]
fn ports_that_fabio_listens_on_are_entry_points() {
    let settings = of_fabio(&[("proxy.addr", ":80,:443;cs=x,:8443;cs=x,:5432;proto=tcp")]);
    let text = "urlprefix-h:8443/";
    assert_eq!(rules(text, &settings), ["Host(`h`)", "port-8443", "1500001"]);
    let codes = |text: &str| {
        let all = convert(&set(&[("s", &[text])]), &settings);
        all[0].remarks.iter().map(|remark| remark.code.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(codes(text), ["entry_point_needed"]);
    assert_eq!(codes("urlprefix-h:443/"), Vec::<String>::new());
    assert_eq!(&*refused("urlprefix-h:8443/").code, "no_entry_point", "nobody says that something listens there");
}

#[test]
fn a_port_with_a_slash_is_that_of_the_service() {
    let both = set(&[("shop", &["urlprefix-:8080/", "urlprefix-h/"]), ("other", &["urlprefix-h/"])]);
    let all = convert(&both, &settings());
    let Outcome::Converted(new) = &all[0].outcomes[1] else { panic!("{all:?}") };
    assert!(new.iter().any(|tag| tag.ends_with(".loadbalancer.server.port=8080")), "{new:?}");
    assert_eq!(all[0].outcomes[0], Outcome::Converted(Vec::new()));
    let told = all[0].remarks.iter().find(|remark| &*remark.code == "service_port");
    assert!(told.is_some_and(|told| told.message.contains("plain Fabio")), "{all:?}");
    let after = apply(&both, &all, false);
    let held = prove(&both, &after, &settings());
    assert!(held.holds() && held.routes == 1, "{:#?}", held.differences.first());
    assert_eq!(
        table_of(&after, &settings())
            .services
            .iter()
            .flat_map(|(_, s)| s.servers.iter())
            .filter(|s| s.port == 8080)
            .count(),
        1
    );
    // alone it routes nothing, here as there
    let alone = set(&[("shop", &["urlprefix-:8080/"])]);
    let all = convert(&alone, &settings());
    let only = Outcome::Converted(vec!["traefik.http.services.shop.loadbalancer.server.port=8080".into()]);
    assert_eq!((&all[0].outcomes[0], all[0].besides.len()), (&only, 0));
    assert!(proof(&alone, &settings()).holds());
    // a part of the service stays as it is
    let rest = convert(&set(&[("shop", &["urlprefix-:8080/", "urlprefix-h/ redirect=303,https://x/"])]), &settings());
    assert!(matches!(&rest[0].outcomes[0], Outcome::Refused(problem) if &*problem.code == "half_route"), "{rest:?}");
    assert!(new_is_tcp("urlprefix-:8080") && new_is_tcp("urlprefix-:8080/ proto=tcp"));
}

fn new_is_tcp(text: &str) -> bool {
    new(text)[0].starts_with("traefik.tcp.routers.")
}

#[test]
fn how_servers_are_chosen_is_converted() {
    let of = |text: &str| {
        let all = new(text);
        let of_service = all.iter().filter_map(|tag| tag.split_once(".loadbalancer.").map(|(_, said)| said.to_owned()));
        of_service.collect::<Vec<_>>()
    };
    let plain = "server.scheme=http".to_owned();
    assert_eq!(of("urlprefix-h/ lb=p2c sticky"), [plain.clone(), "strategy=p2c".into(), "sticky.cookie=true".into()]);
    assert_eq!(of("urlprefix-h/ sticky=seat"), [plain, "sticky.cookie.name=seat".into()]);
    let codes = |text: &str| {
        let all = convert(&set(&[("s", &[text])]), &settings());
        all[0].remarks.iter().map(|remark| remark.code.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(codes("urlprefix-h/ lb=least_conn"), ["own_strategy"]);
    assert_eq!(codes("urlprefix-h/ lb=leasttime"), [""; 0]);
}

#[test]
fn a_pool_that_is_converted_by_half_is_told_of() {
    let both: [(&str, &[&str]); 2] = [("a", &["urlprefix-h/ weight=0.2"]), ("b", &["urlprefix-h/ weight=0.8"])];
    let whole = set(&both);
    let done = apply(&whole, &convert(&whole, &settings()), false);
    // the one has its new tags alone, the other one its old ones
    let half = Set { services: vec![done.services[0].clone(), whole.services[1].clone()] };
    let proof = prove(&half, &apply(&half, &convert(&half, &settings()), false), &settings());
    assert!(!proof.holds() && proof.differences[0].what.contains("another pool"), "{proof:#?}");
    // both sets beside each other are no half
    let kept = apply(&whole, &convert(&whole, &settings()), true);
    let half = Set { services: vec![kept.services[0].clone(), whole.services[1].clone()] };
    let after = apply(&half, &convert(&half, &settings()), true);
    assert_eq!(after, kept);
    assert!(prove(&half, &after, &settings()).holds());
}

#[test]
fn a_tag_that_cannot_be_edited_counts_in_its_pool() {
    let mut set = set(&[("a", &["urlprefix-h/ weight=0.2", "urlprefix-i/"]), ("b", &["urlprefix-h/ weight=0.8"])]);
    set.services[1].fixed = true;
    let all = convert(&set, &settings());
    assert!(matches!(&all[0].outcomes[0], Outcome::Refused(problem) if &*problem.code == "half_route"), "{all:?}");
    assert!(matches!(&all[0].outcomes[1], Outcome::Converted(_)));
    assert!(matches!(&all[1].outcomes[0], Outcome::Refused(problem) if &*problem.code == "not_editable"));
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]\\.[cd]",
        1 => Just(String::new()),
        1 => Just("*".to_owned()),
        2 => "\\*\\.[cd]",
        1 => "[ab]\\*\\.[cd]",
        1 => "\\{a,b\\}\\.[cd]",
        1 => "[AB]\\.[cd]:(80|443|8443)",
        1 => "[?\\[\\]a!-]{1,4}\\.c",
    ]
}

fn option() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("strip=/x".to_owned()),
        Just("strip=/".to_owned()),
        Just("prepend=/v".to_owned()),
        Just("proto=https".to_owned()),
        Just("host=dst".to_owned()),
        Just("host=o.example".to_owned()),
        Just("auth=team".to_owned()),
        "weight=0?\\.[0-9]",
        "weight=[0-9a.-]{0,3}",
        "redirect=30[0-9],https://n(\\$path|/x|/\\$path|:8443/\\$path|)",
        "redirect=30[12],https://(\\$host|a\\.c)(\\$path|/x)",
        "(allow|deny)=ip:10\\.[01]\\.0\\.0(/16)?",
        "(allow|deny)=ip:198\\.51\\.100\\.0/24",
        "[a-z]{1,4}=[/a-z\"`,$]{0,4}",
    ]
}

fn legacy_tag() -> impl Strategy<Value = String> {
    let prefix = (host(), "(/[xy]{0,2}){1,2}|/[xy*%2f?]{0,3}|", proptest::collection::vec(option(), 0..3))
        .prop_map(|(host, path, options)| format!("urlprefix-{host}{path} {}", options.join(" ")));
    prop_oneof![
        8 => prefix,
        1 => "https://(\\*\\.)?[ab]\\.[cd](/[xy]{0,2})?".prop_map(String::from),
        1 => "urlprefix-:(5432|0|x)( proto=tcp)?( deny=ip:10\\.0\\.0\\.1)?".prop_map(String::from),
        1 => "traefik\\.enable=(true|false)".prop_map(String::from),
        1 => "\\PC{0,12}".prop_map(String::from),
        1 => "urlprefix-\\PC{0,12}".prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the tags are: nothing panics, what is converted is proved, and what was converted stays as it is.
    #[test]
    fn all_that_is_converted_is_proved(
        services in proptest::collection::vec((1u32..4, proptest::collection::vec(legacy_tag(), 1..4)), 1..6)
    ) {
        let services = services.iter().enumerate().map(|(at, (count, tags))| {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            service(&format!("s{at}"), *count, &tags)
        });
        let set = Set { services: services.collect() };
        let settings = settings();
        let conversions = convert(&set, &settings);
        for (service, conversion) in set.services.iter().zip(&conversions) {
            prop_assert_eq!(service.tags.len(), conversion.outcomes.len());
        }
        let after = apply(&set, &conversions, true);
        let proof = prove(&set, &after, &settings);
        prop_assert!(proof.holds(), "{:#?}\n{:#?}", set, proof.differences.first());
        let again = convert(&after, &settings);
        prop_assert_eq!(apply(&after, &again, true), after);
    }
}
