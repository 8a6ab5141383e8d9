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
    assert_eq!(slots(&[None, Some(0.999_99)]), Some(vec![1, 9_999]));
    assert_eq!(slots(&[Some(f64::MAX), Some(f64::MAX)]), Some(vec![0, 0]));
}

#[test]
fn priorities_keep_fabios_order() {
    let ranked = |matcher| move |host, path| prefix_rule(host, path, false, matcher).1;
    let rank = ranked(PathMatcher::Prefix);
    assert!(rank("a.example.org", "/") > rank("*.example.org", "/very/long/path"));
    assert!(rank("*.example.org", "/") > rank("*.org", "/x"));
    assert!(rank("*.org", "/") > rank("*", "/"));
    assert!(rank("*", "/") > rank("", "/a/long/path"));
    assert!(rank("a", "/a/b") > rank("a", "/a"));
    assert!(rank("app-*.h", "/") > rank("*.h", "/a/b"));
    assert!(prefix_rule("a", "/", true, PathMatcher::Prefix).1 > rank("a", "/a/b"));
    let iprefix = ranked(PathMatcher::IPrefix);
    assert!(iprefix("", "/foo") > iprefix("", "/FOO/bar") && iprefix("", "/foo/BAR") > iprefix("", "/foo"));
    assert!(iprefix("*.h", "/") > iprefix("", "/foo") && iprefix("h", "/") > iprefix("*.h", "/foo"));
    let glob = ranked(PathMatcher::Glob);
    assert!(glob("", "/?") > glob("", "/*") && glob("", "/a*") > glob("", "/?"));
    let rule = |host, path, matcher| prefix_rule(host, path, false, matcher).0;
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
fn redirects_as_measured() {
    assert_eq!(
        redirect_regex("https://n$path", "", ""),
        (r"^https?://[^/]+([^?]*)(\?.*)?$".into(), "https://n${1}${2}".into())
    );
    assert_eq!(redirect_regex("https://n/fixed", "", ""), ("^.*$".into(), "https://n/fixed".into()));
    assert_eq!(
        redirect_regex("https://n$path", "/s", ""),
        (r"^https?://[^/]+(?:/s)?/?([^?]*)(\?.*)?$".into(), "https://n/${1}${2}".into())
    );
    assert_eq!(redirect_regex("https://n/$path", "", "").1, "https://n${1}${2}");
    assert_eq!(redirect_regex("https://n/a/$path", "", "").1, "https://n/a${1}${2}");
    let to = |strip: &str, prepend: &str, url: &str| {
        let (regex, replacement) = redirect_regex("https://n$path", strip, prepend);
        regex::Regex::new(&regex).unwrap().replace(url, replacement.as_str()).into_owned()
    };
    assert_eq!(to("/s", "", "http://h/s/x?y"), "https://n/x?y");
    assert_eq!(to("/s", "", "http://h/s"), "https://n/");
    assert_eq!(to("/s", "", "http://h/other"), "https://n/other", "what has no such prefix keeps its path");
    assert_eq!(to("/s", "/n", "http://h/s/x"), "https://n/n/x");
    assert_eq!(to("/s", "/n", "http://h/s"), "https://n/n");
    assert_eq!(to("/s", "/n", "http://h/sx"), "https://n/nx");
    assert_eq!(redirect_regex("https://n$path?x=1", "", "/n").1, "https://n/n${1}?x=1");
    assert_eq!(redirect_regex("https://$host$path", "", "").1, "https://${1}${2}${3}");
}
