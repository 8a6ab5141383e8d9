//! Small changes of new tags, one at a time: each that changes what happens to some request must be found.

use super::super::{Outcome, Place, Service, Set, Settings, Tag, apply, convert, prove};

fn set(services: &[&[&str]]) -> Set {
    let tag = |text: &&str| Tag { text: (*text).into(), holes: Vec::new(), place: Place::default() };
    let one = |(at, tags): (usize, &&[&str])| Service {
        name: format!("s{at}").into(),
        count: 1,
        tags: tags.iter().map(tag).collect(),
        ..Service::default()
    };
    Set { services: services.iter().enumerate().map(one).collect() }
}

fn settings() -> Settings {
    let auth = ("proxy.auth".to_owned(), "name=team;type=basic;file=/etc/users;realm=Team".to_owned());
    Settings { fabio: [auth].into(), ..Settings::default() }
}

/// The first tag with this text in a changed copy; `None` takes it away.
fn changed(set: &Set, of: &str, to: impl Fn(&str) -> Option<String>) -> Option<Set> {
    let mut set = set.clone();
    for service in &mut set.services {
        if let Some(at) = service.tags.iter().position(|tag| tag.text.contains(of)) {
            match to(&service.tags[at].text) {
                Some(text) => service.tags[at].text = text.into(),
                None => drop(service.tags.remove(at)),
            }
            return Some(set);
        }
    }
    None
}

/// The old tags, a part of the new tag that is changed, what it becomes.
type Case = (&'static [&'static [&'static str]], &'static str, &'static str);

const CASES: &[Case] = &[
    // hosts
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "Host(`g.test`)"),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "HostRegexp(`h.test`)"),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "HostRegexp(`^h.test$`)"),
    (&[&["urlprefix-h.test/p"]], "Host(`h.test`) && ", ""),
    (&[&["urlprefix-*.h.test/"]], "^.*", "^.+\\.x"),
    (&[&["urlprefix-*.h.test/"]], "^.*", "^[^.]*"),
    (&[&["urlprefix-*.h.test/"]], "^.*", "^.+x"),
    (&[&["urlprefix-*.h.test/"]], "test$", "test"),
    (&[&["urlprefix-*.h.test/"]], "^.*\\.h", "^.*.h"),
    (&[&["urlprefix-app-*.h.test/"]], "^app", "app"),
    (&[&["urlprefix-{a,b}.h.test/"]], "(a|b)", "(a|c)"),
    (&[&["urlprefix-{a,b}.h.test/"]], "(a|b)", "a"),
    (&[&["urlprefix-[a-c]1.h.test/"]], "[a-c]", "[a-b]"),
    (&[&["urlprefix-[!a]2.h.test/"]], "[^a]", "."),
    (&[&["urlprefix-?.h.test/"]], "^.\\.", "^[a-z]\\."),
    // paths
    (&[&["urlprefix-h.test/p"]], "PathPrefix(`/p`)", "PathPrefix(`/p/`)"),
    (&[&["urlprefix-h.test/p/"]], "PathPrefix(`/p/`)", "PathPrefix(`/p`)"),
    (&[&["urlprefix-h.test/p"]], "PathPrefix(`/p`)", "Path(`/p`)"),
    (&[&["urlprefix-h.test/pq"]], "PathPrefix(`/pq`)", "PathPrefix(`/p`)"),
    (&[&["urlprefix-h.test/pq"]], "PathPrefix(`/pq`)", "PathRegexp(`(?i)^/pq`)"),
    (&[&["urlprefix-h.test/pq"]], "PathPrefix(`/pq`)", "PathRegexp(`/pq`)"),
    (&[&["urlprefix-h.test/p"]], " && PathPrefix(`/p`)", ""),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "Host(`h.test`) && Method(`GET`)"),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "Host(`h.test`) && !Header(`X-Beta`, `1`)"),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "Host(`h.test`) && !Query(`beta`, `1`)"),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "Host(`h.test`) && !PathPrefix(`/admin`)"),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "Host(`h.test`) && !ClientIP(`192.0.2.0/24`)"),
    (&[&["urlprefix-h.test/"]], "Host(`h.test`)", "Host(`h.test`) || Host(`other.test`)"),
    // priorities
    (&[&["urlprefix-h.test/"], &["urlprefix-h.test/a"]], "priority=1000002", "priority=1000000"),
    (&[&["urlprefix-h.test/"], &["urlprefix-h.test/a"]], "priority=1000001", "priority=1000003"),
    (&[&["urlprefix-h.test/"], &["urlprefix-/a/long/path"]], "priority=1000001", "priority=1"),
    (&[&["urlprefix-h.test/"], &["urlprefix-/a/long/path"]], "priority=12", "priority=1000012"),
    (&[&["urlprefix-b.h.test/"], &["urlprefix-*.h.test/api/v1"]], "priority=1000001", "priority=1001"),
    (&[&["urlprefix-b.h.test/"], &["urlprefix-*/api/v1"]], "priority=1000001", "priority=1001"),
    (&[&["urlprefix-*.b.h.test/"], &["urlprefix-*.h.test/api/v1"]], "Host", "Host"),
    (&[&["https://b.h.test"], &["urlprefix-/api/v1"]], "HostRegexp", "HostRegexp"),
    // middlewares
    (&[&["urlprefix-h.test/p strip=/p"]], "prefixes=/p", "prefixes=/px"),
    (&[&["urlprefix-h.test/p strip=/p"]], ".middlewares=", "-"),
    (&[&["urlprefix-h.test/p strip=/p prepend=/v"]], "-strip,", "-prepend,"),
    (&[&["urlprefix-h.test/ prepend=/v"]], "prefix=/v", "prefix=/w"),
    (&[&["urlprefix-h.test/ auth=team"]], "usersfile=/etc/users", "usersfile=/etc/others"),
    (&[&["urlprefix-h.test/ auth=team"]], "realm=Team", "realm=Other"),
    (&[&["urlprefix-h.test/ auth=team"]], ".middlewares=", "-"),
    (&[&["urlprefix-h.test/ host=dst"]], "passhostheader", "-"),
    (&[&["urlprefix-h.test/ host=in.test"]], "Host=in.test", "Host=out.test"),
    (
        &[&["urlprefix-h.test/ host=in.test"]],
        "customrequestheaders.Host=in.test",
        "customrequestheaders.X-Host=in.test",
    ),
    // access
    (&[&["urlprefix-h.test/ allow=ip:10.1.0.0/16"]], "10.1.0.0/16", "10.1.0.0/17"),
    (&[&["urlprefix-h.test/ allow=ip:10.1.0.0/16"]], "10.1.0.0/16", "10.0.0.0/15"),
    (&[&["urlprefix-h.test/ allow=ip:10.1.0.0/16,ip:2001:db8::/48"]], ",2001:db8::/48", ""),
    (&[&["urlprefix-h.test/ allow=ip:2001:db8:1::/48"]], "2001:db8:1::/48", "2001:db8:1::/49"),
    (&[&["urlprefix-h.test/ allow=ip:10.1.0.0/16"]], ".middlewares=", "-"),
    (&[&["urlprefix-h.test/ deny=ip:10.1.0.0/16"]], "!ClientIP(`10.1.0.0/16`)", "!ClientIP(`10.1.0.0/15`)"),
    (&[&["urlprefix-h.test/ deny=ip:10.1.0.0/16"]], " && ClientIP(`10.1.0.0/16`)", " && ClientIP(`10.1.0.0/17`)"),
    (&[&["urlprefix-h.test/ deny=ip:10.1.0.0/16"]], "255.255.255.255/32", "0.0.0.0/0"),
    (&[&["urlprefix-h.test/ deny=ip:2001:db8::1"]], "!ClientIP(`2001:db8::1/128`)", "!ClientIP(`2001:db8::2/128`)"),
    // redirects
    (&[&["urlprefix-h.test/ redirect=301,https://n.test$path"]], "permanent=true", "permanent=false"),
    (&[&["urlprefix-h.test/ redirect=302,https://n.test/x"]], "permanent=false", "permanent=true"),
    (&[&["urlprefix-h.test/ redirect=301,https://n.test$path"]], "n.test$1$2", "n.test$1"),
    (&[&["urlprefix-h.test/ redirect=301,https://n.test$path"]], "n.test$1", "m.test$1"),
    (&[&["urlprefix-h.test/ redirect=301,https://n.test$path"]], ".middlewares=", "-"),
    (&[&["urlprefix-h.test/ redirect=301,https://h.test$path"]], " && !Header(`X-Forwarded-Proto`, `https`)", ""),
    // entry points
    (&[&["urlprefix-h.test:80/"]], "entrypoints=web", "entrypoints=websecure"),
    (&[&["urlprefix-h.test:80/"]], ".entrypoints=", "-"),
    // services
    (&[&["urlprefix-h.test/"]], "server.scheme=http", "server.scheme=https"),
    (&[&["urlprefix-h.test/"]], "server.scheme=http", "server.port=9"),
    (&[&["urlprefix-h.test/"]], "server.scheme=http", "sticky.cookie=true"),
    (&[&["urlprefix-h.test/"]], "server.scheme=http", "strategy=leasttime"),
    (&[&["urlprefix-h.test/"]], "server.scheme=http", "healthcheck.path=/up"),
    (&[&["urlprefix-h.test/"]], "server.scheme=http", "serverstransport=skip@file"),
    (&[&["urlprefix-h.test/ proto=https tlsskipverify=true"]], "serverstransport", "-"),
    (&[&["urlprefix-h.test/ lb=p2c"]], "strategy=p2c", "strategy=leasttime"),
    (&[&["urlprefix-h.test/ sticky"]], "sticky.cookie=true", "-"),
    (&[&["urlprefix-h.test/ weight=0.2"], &["urlprefix-h.test/ weight=0.8"]], "weight=1", "weight=2"),
    (&[&["urlprefix-h.test/ weight=0.2"], &["urlprefix-h.test/ weight=0.8"]], "weight=1", "weight=0"),
    (&[&["urlprefix-h.test/"], &["urlprefix-h.test/"]], "server.scheme=http", "server.weight=2"),
    // sites
    (&[&["https://h.test"]], ".entrypoints=websecure", ".entrypoints=web"),
    (&[&["https://h.test"]], "redirectscheme.permanent=true", "redirectscheme.permanent=false"),
    (&[&["https://h.test"]], "strategy=hrw", "strategy=wrr"),
    (&[&["https://h.test/x"]], "Path(`/x`)", "PathPrefix(`/x`)"),
    (&[&["https://*.h.test"]], "^[^.]+", "^.+"),
    // TCP
    (&[&["urlprefix-:5432 proto=tcp"]], "entrypoints=port-5432", "entrypoints=port-5433"),
    (&[&["urlprefix-:5432 proto=tcp"]], "HostSNI(`*`)", "HostSNI(`*`) && !ClientIP(`198.51.100.0/24`)"),
    (&[&["urlprefix-:5432 proto=tcp"]], "server.tls=false", "server.tls=true"),
    (&[&["urlprefix-:5432 proto=tcp"]], "server.tls=false", "server.port=9"),
    (&[&["urlprefix-:5432 proto=tcp pxyproto=true"]], "proxyprotocol", "-"),
    (&[&["urlprefix-:5432 proto=tcp allow=ip:10.0.0.0/8"]], "10.0.0.0/8", "10.0.0.0/9"),
    (&[&["urlprefix-:5432 proto=tcp allow=ip:10.0.0.0/8"]], ".middlewares=", "-"),
    (&[&["urlprefix-:5432 proto=tcp deny=ip:10.0.0.0/8"]], "!ClientIP(`10.0.0.0/8`)", "!ClientIP(`10.0.0.0/9`)"),
    (&[&["urlprefix-:5432 proto=tcp deny=ip:10.0.0.0/8"]], "255.255.255.255/32", "0.0.0.0/0"),
    (&[&["urlprefix-db.test/ proto=tcp"]], "HostSNI(`db.test`)", "HostSNI(`db2.test`)"),
    (&[&["urlprefix-db.test/ proto=tcp"]], "HostSNI(`db.test`)", "HostSNI(`*`)"),
    (&[&["urlprefix-db.test/ proto=tcp"]], "tls.passthrough=true", "tls=true"),
];

#[test]
fn each_change_that_matters_is_found() {
    let settings = settings();
    let mut missed = Vec::new();
    for (services, of, to) in CASES {
        let before = set(services);
        let good = apply(&before, &convert(&before, &settings), false);
        let proof = prove(&before, &good, &settings);
        assert!(proof.holds(), "{services:?}: {:#?}", proof.differences.first());
        if of == to {
            continue;
        }
        // a tag whose option goes away says nothing: so does one without a name that is known
        let bad = changed(&good, of, |text| (*to != "-").then(|| text.replacen(of, to, 1)));
        let Some(bad) = bad else { panic!("{services:?} has no `{of}`: {:?}", tags(&good)) };
        if prove(&before, &bad, &settings).holds() {
            missed.push(format!("{services:?}: `{of}` -> `{to}`"));
        }
    }
    assert!(missed.is_empty(), "{} of {} missed:\n{}", missed.len(), CASES.len(), missed.join("\n"));
}

fn tags(set: &Set) -> Vec<String> {
    set.services.iter().flat_map(|service| &service.tags).map(|tag| tag.text.to_string()).collect()
}

/// Tags that are added to what was written.
#[test]
fn each_addition_that_matters_is_found() {
    let settings = settings();
    let mut missed = Vec::new();
    let before =
        set(&[&["urlprefix-h.test/", "urlprefix-/path"], &["urlprefix-*.test/x", "urlprefix-:5432 proto=tcp"]]);
    let good = apply(&before, &convert(&before, &settings), true);
    let name = tags(&good)
        .iter()
        .find_map(|tag| Some(tag.strip_prefix("traefik.http.routers.")?.split_once('.')?.0.to_owned()));
    let name = name.unwrap_or_default();
    for added in [
        &["traefik.http.routers.N.middlewares=m", "traefik.http.middlewares.m.ratelimit.average=1"][..],
        &["traefik.http.routers.N.middlewares=m", "traefik.http.middlewares.m.compress=true"],
        &["traefik.http.routers.N.middlewares=m", "traefik.http.middlewares.m.headers.customrequestheaders.X-A=b"],
        &["traefik.http.routers.N.middlewares=m", "traefik.http.middlewares.m.headers.customresponseheaders.X-A=b"],
        &["traefik.http.routers.N.middlewares=m", "traefik.http.middlewares.m.replacepath.path=/z"],
        &["traefik.http.routers.N.middlewares=m", "traefik.http.middlewares.m.inflightreq.amount=1"],
        &["traefik.http.routers.N.middlewares=m", "traefik.http.middlewares.m.retry.attempts=3"],
        &["traefik.http.routers.N.entrypoints=web"],
        &["traefik.http.routers.N.tls=true"],
        &["traefik.http.services.N.loadbalancer.server.port=81"],
        &["traefik.http.services.N.loadbalancer.sticky.cookie.name=c"],
        &["traefik.http.services.N.loadbalancer.passhostheader=false"],
        &["traefik.http.services.N.loadbalancer.healthcheck.path=/up"],
        &[
            "traefik.http.services.N.loadbalancer.server.weight=0",
            "traefik.http.services.N.loadbalancer.server.url=http://192.0.2.1",
        ],
        &["traefik.http.routers.fb-more.rule=Host(`more.test`)", "traefik.http.routers.fb-more.service=N"],
        &[
            "traefik.http.routers.fb-more.rule=Host(`h.test`) && PathPrefix(`/secret`)",
            "traefik.http.routers.fb-more.priority=2000000",
            "traefik.http.routers.fb-more.service=N",
            "traefik.http.routers.fb-more.middlewares=m",
            "traefik.http.middlewares.m.replacepath.path=/z",
        ],
    ] {
        let mut bad = good.clone();
        let more = added.iter().map(|text| Tag {
            text: text.replace('N', &name).into(),
            holes: Vec::new(),
            place: Place::default(),
        });
        bad.services[0].tags.extend(more);
        if prove(&before, &bad, &settings).holds() {
            missed.push(format!("{added:?}"));
        }
    }
    assert!(missed.is_empty(), "missed:\n{}", missed.join("\n"));
}

/// A router of the service's own that takes requests of an old tag is told of, wherever its rule begins.
#[test]
fn a_router_of_the_services_own_is_told_of() {
    let own: &[&str] = &[
        "traefik.enable=true",
        "traefik.http.routers.own.rule=Host(`h.test`) && PathPrefix(`/inside`)",
        "traefik.http.routers.own.priority=9000000",
        "traefik.http.routers.own.middlewares=cut",
        "traefik.http.middlewares.cut.stripprefix.prefixes=/inside",
        "urlprefix-h.test/",
    ];
    let before = set(&[own, &["traefik.http.routers.else.rule=Host(`else.test`)"]]);
    let conversions = convert(&before, &settings());
    assert!(matches!(&conversions[0].outcomes[5], Outcome::Converted(_)), "{conversions:?}");
    let proof = prove(&before, &apply(&before, &conversions, true), &settings());
    assert!(proof.holds(), "{:#?}", proof.differences.first());
    let gap = proof.gaps.iter().find(|gap| &*gap.code == "own_router").map(|gap| gap.url.clone());
    assert_eq!(gap.as_deref(), Some("http://h.test/inside"), "{:#?}", proof.gaps);
}

/// What was converted before says nothing of the old tags that are left.
#[test]
fn files_that_were_converted_before_are_no_difference() {
    let whole = set(&[&["urlprefix-a.test/"], &["urlprefix-/"]]);
    let done = apply(&whole, &convert(&whole, &settings()), false);
    let none = prove(&done, &done, &settings());
    assert!(none.holds() && none.gaps.is_empty(), "{none:#?}");
    // the first file is converted, its old tags are gone; the second one follows
    let half = Set { services: vec![done.services[0].clone(), whole.services[1].clone()] };
    let proof = prove(&half, &apply(&half, &convert(&half, &settings()), false), &settings());
    assert!(proof.holds(), "{:#?}", proof.differences.first());
    assert!(proof.gaps.iter().any(|gap| &*gap.code == "own_router"), "{:#?}", proof.gaps);
}
