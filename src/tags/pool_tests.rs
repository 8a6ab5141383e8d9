//! Pools: shares, order, names and redirects, with the cases of Fabio's recorded answers.

use super::*;

#[test]
fn slots_as_recorded() {
    assert_eq!(slots(&[None, None]), None);
    assert_eq!(slots(&[Some(1.0)]), Some(vec![10_000]));
    assert_eq!(slots(&[Some(0.3), Some(0.1)]), Some(vec![7_500, 2_500]));
    assert_eq!(slots(&[None, Some(2.0)]), Some(vec![0, 10_000]));
    assert_eq!(slots(&[Some(0.666_667), Some(0.333_333)]), Some(vec![6_666, 3_333]));
    assert_eq!(slots(&[Some(0.7), Some(0.6), Some(0.5)]), Some(vec![3_888, 3_333, 2_777]));
    assert_eq!(slots(&[Some(0.142_857); 7]), Some(vec![1_428; 7]));
    assert_eq!(slots(&[None, Some(0.999_99)]), Some(vec![10, 999_990]));
    assert_eq!(slots(&[Some(f64::MAX), Some(f64::MAX)]), Some(vec![0, 0]));
}

#[test]
fn priorities_keep_fabios_order() {
    let ranked = |matcher| move |host, path| priority(host, path, false, matcher);
    let rank = ranked(PathMatcher::Prefix);
    assert!(rank("a.example.org", "/") > rank("*.example.org", "/very/long/path"));
    assert!(rank("*.example.org", "/") > rank("*.org", "/x"));
    assert!(rank("*.org", "/") > rank("*", "/"));
    assert!(rank("*", "/") > rank("", "/a/long/path"));
    assert!(rank("a", "/a/b") > rank("a", "/a"));
    assert!(rank("app-*.h", "/") > rank("*.h", "/a/b"));
    assert!(priority("a", "/", true, PathMatcher::Prefix) > rank("a", "/a/b"));
    // the last wildcard decides where the literal ends are equally long; `}` goes before every letter
    assert!(rank("?.h", "/") > rank("app-*.h", "/a") && rank("[ab].h", "/") > rank("?.h", "/a"));
    assert!(rank("{a,b}.h", "/") > rank("a.h", "/a") && rank("{a,b}.h", "/") > rank("{a,b}.a.h", "/a"));
    assert!(priority("*.h", "/", true, PathMatcher::Prefix) > rank("*.h", "/a"));
    assert!(rank("app-*.h", "/") > priority("*.h", "/a", true, PathMatcher::Prefix));
    let long = format!("?.{}", "a".repeat(250));
    assert!(rank(&long, "/") < rank("a", "/") && rank(&long, "/") >= rank("?.h", "/"));
    let iprefix = ranked(PathMatcher::IPrefix);
    assert!(iprefix("", "/foo") > iprefix("", "/FOO/bar") && iprefix("", "/foo/BAR") > iprefix("", "/foo"));
    assert!(iprefix("*.h", "/") > iprefix("", "/foo") && iprefix("h", "/") > iprefix("*.h", "/foo"));
    let glob = ranked(PathMatcher::Glob);
    assert!(glob("", "/?") > glob("", "/*") && glob("", "/a*") > glob("", "/?"));
    let rule = prefix_rule;
    assert_eq!(rule("app-*.h", "/x", PathMatcher::Prefix), r"HostRegexp(`^app\-.*\.h$`) && PathPrefix(`/x`)");
    assert_eq!(rule("", "/", PathMatcher::Prefix), "PathPrefix(`/`)");
    assert_eq!(rule("h", "/a.b", PathMatcher::IPrefix), r"Host(`h`) && PathRegexp(`(?i)^\/a\.b`)");
    assert_eq!(rule("h", "/a*", PathMatcher::Glob), r"Host(`h`) && PathRegexp(`^\/a.*$`)");
    assert_eq!(rule("", "/a", PathMatcher::Glob), "Path(`/a`)");
    assert_eq!(site_rule("*.a.example"), (r"HostRegexp(`^[^.]+\.a\.example$`)".to_owned(), 2));
}

#[test]
fn names_stay_apart() {
    assert_ne!(pool_name("fb", "h", "/a-b"), pool_name("fb", "h", "/a/b"));
    assert_ne!(pool_name("fb", "h", "/X"), pool_name("fb", "h", "/x"));
    assert!(pool_name("fb", "*.shop.example", "/c").starts_with("fb-any-shop-example--c-"));
}

#[test]
fn hosts_as_sent_where_globs_are_off() {
    let rule = sent_host_rule;
    let host = r"Host(`a.h`) && HostRegexp(`{host:(?-i:a\.h)}`)";
    assert_eq!(rule("a.h", "/", PathMatcher::Prefix), host);
    assert_eq!(rule("a.h", "/x", PathMatcher::Prefix), format!("{host} && PathPrefix(`/x`)"));
    assert_eq!(rule("a.h", "/{x", PathMatcher::Prefix), format!(r"{host} && PathPrefix(`/{{path:\x7Bx}}`)"));
    assert_eq!(rule("a.h", "/x", PathMatcher::IPrefix), format!("{host} && PathPrefix(`/{{path:(?i:x)}}`)"));
    assert_eq!(rule("a.h", "/", PathMatcher::Glob), format!("{host} && Path(`/`)"));
    assert_eq!(rule("a.h", "/x*", PathMatcher::Glob), format!("{host} && Path(`/{{path:(?:x.*)}}`)"));
    for matcher in [PathMatcher::Prefix, PathMatcher::IPrefix, PathMatcher::Glob] {
        for path in ["/", "/x", "/{a,b}/*", "/a{,b}$", "/[a-c]?", "/é|^"] {
            let text = rule("a.h", path, matcher);
            let parsed = crate::rule::parse(&text, crate::rule::Kind::Http, crate::rule::Syntax::V2);
            assert!(parsed.is_ok(), "{text}: {parsed:?}");
        }
    }
}

#[test]
fn redirects_to_themselves_leave_the_request_to_the_next_route() {
    let guard = |host: &str, url: &str, strip: &str| {
        let redirect = Some((301, Arc::from(url)));
        loop_guard(
            &PrefixOptions { host: host.into(), redirect, strip: strip.into(), ..PrefixOptions::default() },
            false,
        )
    };
    let https = Some(" && !Header(`X-Forwarded-Proto`, `https`)".to_owned());
    assert_eq!(guard("h", "https://h$path", ""), https);
    assert_eq!(guard("*.h", "https://$host/$path", ""), https);
    assert_eq!(
        guard("*.h", "https://a.h$path", ""),
        Some(" && !(Header(`X-Forwarded-Proto`, `https`) && Host(`a.h`))".to_owned())
    );
    assert_eq!(guard("h", "http://h$path", ""), Some(" && !Header(`X-Forwarded-Proto`, `http`)".to_owned()));
    for (host, url, strip) in [
        ("h", "https://other$path", ""),
        ("h", "https://h/x", ""),
        ("h", "https://h$path", "/a"),
        ("h", "/x$path", ""),
        ("*.h", "https://a.h:8443$path", ""),
    ] {
        assert_eq!(guard(host, url, strip), None, "{url}");
    }
}
