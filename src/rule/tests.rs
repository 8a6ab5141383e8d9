//! The behaviours of rules, one check a line, and the properties that hold for all of them. The large
//! comparison with Traefik's recorded answers is in `tests/it/rule.rs`.

use super::*;
use proptest::prelude::*;

/// A request by its parts.
#[derive(Debug, Clone, Default)]
struct Asked {
    host: String,
    authority: Option<String>,
    path: String,
    method: String,
    query: String,
    headers: Vec<(String, String)>,
    ip: Option<IpAddr>,
}

impl RequestView for Asked {
    fn host(&self) -> &str {
        &self.host
    }
    fn authority(&self) -> &str {
        self.authority.as_deref().unwrap_or(&self.host)
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn method(&self) -> &str {
        &self.method
    }
    fn query(&self) -> &str {
        &self.query
    }
    fn any_header(&self, name: &str, f: &mut dyn FnMut(&str) -> bool) -> bool {
        self.headers.iter().any(|(key, value)| key.eq_ignore_ascii_case(name) && f(value))
    }
    fn client_ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

/// A connection by its parts.
struct Opened(&'static str, &'static [&'static str], Option<IpAddr>);

impl ConnectionView for Opened {
    fn server_name(&self) -> &str {
        self.0
    }
    fn any_alpn(&self, f: &mut dyn FnMut(&str) -> bool) -> bool {
        self.1.iter().any(|protocol| f(protocol))
    }
    fn client_ip(&self) -> Option<IpAddr> {
        self.2
    }
}

fn http(text: &str) -> Result<Rule, RuleError> {
    parse(text, Kind::Http, Syntax::V3)
}

fn matcher(text: &str, kind: Kind, syntax: Syntax) -> Matcher {
    let rule = parse(text, kind, syntax).unwrap_or_else(|error| panic!("{text}: {error}"));
    Matcher::compile(&rule).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn holds(text: &str, syntax: Syntax, asked: &Asked) -> bool {
    matcher(text, Kind::Http, syntax).matches(asked)
}

#[test]
fn prints_the_canonical_form() {
    for (text, canonical) in [
        ("Host(\"a\")", "Host(`a`)"),
        ("(Host(`a`)&&(path(`/b`)))||METHOD(`get`)", "Host(`a`) && Path(`/b`) || Method(`get`)"),
        ("Host(`a`) && (Path(`/b`) || Path(`/c`))", "Host(`a`) && (Path(`/b`) || Path(`/c`))"),
        ("!!Host(`a`) && !(!(Path(`/b`)))", "Host(`a`) && Path(`/b`)"),
        ("!(Host(`a`) || Host(`b`))", "!(Host(`a`) || Host(`b`))"),
        ("Header(\"a`b\", \"c\\n\\u00e9\\\\\")", "Header(\"a`b\", \"c\\né\\\\\")"),
        ("Host(`a`,) // c", "Host(`a`)"),
        ("/* c */Host(`a`...) &&\n\tHost /* d */ (\n`b`)\n\n", "Host(`a`) && Host(`b`)"),
        ("\u{feff}Host(`a\r`)", "Host(`a`)"),
        ("Path(\"/\\x63\\141f\\xc3\\xa9\\xff\")", "Path(`/café\u{fffd}`)"),
    ] {
        assert_eq!(http(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string(), canonical);
    }
}

#[test]
fn refuses_with_place_and_expectation() {
    for (text, place, code, message) in [
        ("", "", "syntax", "expected a matcher, `!` or `(`, found the end"),
        ("Host(`a`", "", "syntax", "expected `,` or `)`, found the end"),
        ("Host(`a`))", ")", "syntax", "expected `&&`, `||` or the end, found `)`"),
        ("(Host(`a`)", "", "syntax", "expected `&&`, `||` or `)`, found the end"),
        ("Host(`a`) == Host(`b`)", "==", "syntax", "expected `&&`, `||` or the end, found `==`"),
        ("Host(`a`) && || Host(`b`)", "||", "syntax", "expected a matcher, `!` or `(`, found `||`"),
        ("Host(`a) && Path(`/`)", "/", "syntax", "expected `,` or `)`, found `/`"),
        ("Host(\"a)", "\"a)", "syntax", "a string is not closed, expected a double quote"),
        ("Host(`a`) /* x", "/*", "syntax", "a comment is not closed, expected `*/`"),
        ("Host(a)", "a", "syntax", "expected a string or `)`, found `a`"),
        ("Host", "", "syntax", "expected `(` behind the matcher's name, found the end"),
        ("Host(`a`\0)", "\0", "syntax", "a NUL character in a rule's text is not allowed"),
        (
            "Host(`a`)\n|| Host(`b`)",
            "",
            "syntax",
            "expected `&&`, `||` or the end, found the end of the line (it may only end after an operator, `,` or `(`)",
        ),
        ("headers(`a`, `b`)", "headers", "unknown_matcher", "unknown matcher `headers`, expected `Header`"),
        ("pathPrefix(`/`)", "pathPrefix", "unknown_matcher", "unknown matcher `pathPrefix`, expected `PathPrefix`"),
        ("Host(`b`) && Host()", "Host()", "no_args", "`Host` got 0 arguments, expected 1"),
        ("Host(`a`, `b`)", "Host(`a`, `b`)", "param_count", "`Host` got 2 arguments, expected 1"),
        ("Header(`a`, ``)", "``", "empty_arg", "`Header` got an empty argument"),
        ("Path(`a`)", "`a`", "bad_path", "expected a path that begins with `/`, got `a`"),
        (
            "ClientIP(`10.0.0.0/33`)",
            "`10.0.0.0/33`",
            "bad_ip",
            "expected an IP address or a network such as `10.0.0.0/8`, got `10.0.0.0/33`",
        ),
        (
            "Header(`a`, `b`) && HeaderRegexp(`a`, `(?=b)`)",
            "`(?=b)`",
            "bad_regex",
            "bad regular expression `(?=b)`: invalid group or flag `=` behind `(?`",
        ),
        (
            "PathRegexp(\"\\d\")",
            "d",
            "syntax",
            "expected an escape such as `\\n`, `\\\\`, `\\x41` or `\\u00e9` (or a string in backticks), found `d`",
        ),
    ] {
        let error = http(text).expect_err(text);
        assert_eq!((&text[error.span.clone()], error.problem.code(), &*error.to_string()), (place, code, message));
    }
    let error = parse("Host(`a`)", Kind::Tcp, Syntax::V3).expect_err("no TCP matcher");
    assert_eq!(
        error.to_string(),
        "unknown matcher `Host`, expected one of `HostSNI`, `HostSNIRegexp`, `ClientIP`, `ALPN`"
    );
    let error = parse("Query(`a`)", Kind::Http, Syntax::V2).expect_err("half a pair");
    assert_eq!(error.to_string(), "`Query` got 1 arguments, expected arguments of the form `name=value`");
    let error = parse("Path(`/{a`)", Kind::Http, Syntax::V2).expect_err("a brace is open");
    assert_eq!(error.to_string(), "bad template `/{a`: `{` without `}`");
}

#[test]
fn deep_nesting_is_an_error_and_length_is_none() {
    let deep = |n: usize| format!("{}Host(`a`){}", "(".repeat(n), ")".repeat(n));
    assert!(http(&deep(100)).is_ok());
    assert_eq!(http(&deep(100_000)).expect_err("too deep").problem, Problem::TooDeep { limit: 100 });
    assert!(http(&format!("{}Host(`a`)", "!".repeat(100_001))).is_ok_and(|rule| matches!(rule.root(), Expr::Not(_))));
    let long = vec!["Host(`a`) && Path(`/`)"; 5_000].join(" || ");
    assert_eq!(http(&long).expect("a long rule").domains().len(), 5_000);
    assert!(parse(&format!("HostRegexp(`{}`)", "(".repeat(100_000)), Kind::Http, Syntax::V3).is_err());
}

#[test]
fn priorities_are_lengths_but_for_the_catch_all() {
    let of = |text: &str, kind| priority(text, &parse(text, kind, Syntax::V3).expect(text));
    assert_eq!(of(" Path(`/é`)", Kind::Http), 12);
    assert_eq!(of(" hostsni(`*`) ", Kind::Tcp), -1);
    assert_eq!(of("!(HostSNI(`*`))", Kind::Tcp), -1);
    assert_eq!(of("HostSNI(`*`) && HostSNI(`*`)", Kind::Tcp), 28);
    assert_eq!(of("Host(`*`)", Kind::Http), 9);
}

#[test]
fn hosts() {
    let at = |host: &str| Asked { host: host.to_owned(), ..Asked::default() };
    for (text, host, expected) in [
        ("Host(`A.example`)", "a.example", true),
        ("Host(`a.example`)", "a.example.", true),
        ("Host(`a.example.`)", "a.example", true),
        ("Host(`a.example`)", "a.example..", false),
        ("Host(`*`)", "", true),
        ("!Host(`a`)", "", true),
        ("Host(`*.example`)", "a.example", true),
        ("Host(`*.example.`)", "a.example", true),
        ("Host(`*.example`)", "a.b.example", false),
        ("Host(`*.example`)", "example", false),
        ("Host(`*example`)", "aexample", false),
        ("HostRegexp(`^a\\.`)", "a.b", true),
        ("HostRegexp(`^(a|$)`)", "b", true), // fits the empty CNAME
        ("HostRegexp(`^a$`)", "", false),
    ] {
        assert_eq!(holds(text, Syntax::V3, &at(host)), expected, "{text} on {host}");
    }
    for (text, host, expected) in [
        ("Host(`a`, `B`)", "b", true),
        ("HostHeader(`a.`)", "a", true),
        ("Host(`*.a`)", "b.a", false),
        ("HostRegexp(`{x}.a`)", "b.a", true),
        ("HostRegexp(`{x}.a`)", "b.c.a", false),
        ("HostRegexp(`{x:[a-z]+}.a`, `b`)", "b", true),
    ] {
        assert_eq!(holds(text, Syntax::V2, &at(host)), expected, "{text} on {host}");
    }
    let sent = Asked { host: "::1".to_owned(), authority: Some("[::1]".to_owned()), ..Asked::default() };
    assert!(holds("HostRegexp(`[::1]`)", Syntax::V2, &sent), "brackets stay without a port");
    let sent = Asked { authority: Some("[::1]:80".to_owned()), ..sent };
    assert!(holds("HostRegexp(`::1`)", Syntax::V2, &sent), "and fall with it");
}

#[test]
fn paths() {
    let at = |path: &str| Asked { path: path.to_owned(), ..Asked::default() };
    for (syntax, text, path, expected) in [
        (Syntax::V3, "Path(`/a`)", "/a/", false),
        (Syntax::V3, "PathPrefix(`/a`)", "/ab", true),
        (Syntax::V3, "PathPrefix(`/{a}`)", "/b", false),
        (Syntax::V3, "PathRegexp(`^/\\d+$`)", "/12", true),
        (Syntax::V3, "PathRegexp(`^/\\d+$`)", "/٣", false),
        (Syntax::V2, "Path(`/a/{b}`)", "/a/x", true),
        (Syntax::V2, "Path(`/a/{b}`)", "/a/x/y", false),
        (Syntax::V2, "Path(`/a`, `/b/{c:[0-9]{2,}}/`)", "/b/123/", true),
        (Syntax::V2, "PathPrefix(`/a.{b}`)", "/a.x/y", true),
        (Syntax::V2, "PathPrefix(`/a.{b}`)", "/aax", false),
    ] {
        assert_eq!(holds(text, syntax, &at(path)), expected, "{text} on {path}");
    }
    assert!(parse("Path(`/{a:(}`)", Kind::Http, Syntax::V2).is_err());
    assert!(parse("Path(`/{a:x)(y}`)", Kind::Http, Syntax::V2).is_err());
}

#[test]
fn queries() {
    let at = |query: &str| Asked { query: query.to_owned(), ..Asked::default() };
    for (syntax, text, query, expected) in [
        (Syntax::V3, "Query(`a`)", "b&a", true),
        (Syntax::V3, "Query(`a`)", "a=1", false),
        (Syntax::V3, "Query(`a b`, `c=d`)", "a+b=c%3Dd", true),
        (Syntax::V3, "Query(`a`, `1`)", "a=%zz&a=1", true),
        (Syntax::V3, "Query(`a`, `1`)", "a=1;b", false),
        (Syntax::V3, "QueryRegexp(`a`, `^.é$`)", "a=x%C3%A9", true),
        (Syntax::V3, "QueryRegexp(`a`, `^..$`)", "a=x%C3", true),
        (Syntax::V3, "QueryRegexp(`a`)", "a", true),
        (Syntax::V2, "Query(`a=1`)", "a=1&a=2", true),
        (Syntax::V2, "Query(`a=2`)", "a=1&a=2", false),
        (Syntax::V2, "Query(`a=`)", "a=x", true),
        (Syntax::V2, "Query(`a=`)", "b", false),
        (Syntax::V2, "Query(`a={x:[0-9]+}`, `b=c`)", "b=c&a=12", true),
        (Syntax::V2, "Query(`a`, `b`)", "a=b", true),
    ] {
        assert_eq!(holds(text, syntax, &at(query)), expected, "{text} on {query}");
    }
    assert!(parse("Query(`a={x}`, `b={x}`)", Kind::Http, Syntax::V2).is_err());
}

#[test]
fn methods_headers_and_addresses() {
    let asked = Asked {
        method: "GET".to_owned(),
        headers: [("X-Env", "dev"), ("X-Env", "prod"), ("Host", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ip: "::ffff:10.1.2.3".parse().ok(),
        ..Asked::default()
    };
    for (syntax, text, expected) in [
        (Syntax::V3, "Method(`get`)", true),
        (Syntax::V2, "Method(`post`, `get`)", true),
        (Syntax::V3, "Header(`x-env`, `prod`)", true),
        (Syntax::V3, "Header(`x-env`, `PROD`)", false),
        (Syntax::V3, "Header(`host`, `a`)", false),
        (Syntax::V3, "HeaderRegexp(`Host`, `a`)", false),
        (Syntax::V3, "HeaderRegexp(`X-Env`, `^pr`)", true),
        (Syntax::V2, "Headers(`X-Env`, `x`, `X-Env`, `dev`)", true),
        (Syntax::V2, "HeadersRegexp(`X-Env`, `d`, `X-No`, ``)", false),
        (Syntax::V3, "ClientIP(`10.1.2.3`)", true),
        (Syntax::V3, "ClientIP(`10.9.9.9/8`)", true),
        (Syntax::V3, "ClientIP(`::ffff:10.0.0.0/104`)", true),
        (Syntax::V3, "ClientIP(`::/0`)", false),
        (Syntax::V2, "ClientIP(`::1`, `10.0.0.0/08`)", true),
    ] {
        let text = text.replace(", `X-No`, ``", ", `X-No`, `.`");
        assert_eq!(holds(&text, syntax, &asked), expected, "{text}");
    }
    for text in ["ClientIP(`10.0.0.1/`)", "ClientIP(`fe80::1%eth0`)", "ClientIP(`10.0.0.01`)", "ClientIP(`::1/129`)"] {
        assert_eq!(http(text).expect_err(text).problem.code(), "bad_ip");
    }
    assert!(!holds("ClientIP(`0.0.0.0/0`)", Syntax::V3, &Asked::default()), "no address matches no network");
}

#[test]
fn connections() {
    let ip: Option<IpAddr> = "10.0.0.1".parse().ok();
    for (syntax, text, name, expected) in [
        (Syntax::V3, "HostSNI(`*`)", "", true),
        (Syntax::V3, "HostSNI(`A.example.`)", "a.example", true),
        (Syntax::V3, "HostSNI(`a.example`)", "a.example.", false),
        (Syntax::V3, "HostSNI(`*.example`)", "a.example", true),
        (Syntax::V3, "HostSNIRegexp(`^$`)", "", true),
        (Syntax::V3, "ClientIP(`10.0.0.0/8`) && ALPN(`h2`)", "", true),
        (Syntax::V3, "ALPN(`H2`)", "", false),
        (Syntax::V2, "HostSNI(`a`, `*`)", "", false),
        (Syntax::V2, "HostSNI(`a`, `*`)", "b", true),
        (Syntax::V2, "HostSNI(`*`, `a`)", "", true),
        (Syntax::V2, "HostSNI(`a.`)", "a", true),
        (Syntax::V2, "HostSNI(`a.`)", "a.", true),
        (Syntax::V2, "HostSNIRegexp(`{x:[A-B]}.c`)", "a.c", true),
        (Syntax::V2, "ALPN(`x`, `h2`)", "", true),
    ] {
        let opened = Opened(name, &["http/1.1", "h2"], ip);
        assert_eq!(matcher(text, Kind::Tcp, syntax).matches_connection(&opened), expected, "{text} on {name}");
    }
    for text in ["HostSNI(`*a`)", "HostSNI(`a b`)", "HostSNI(`*.`)", "ALPN(`acme-tls/1`)"] {
        assert_eq!(parse(text, Kind::Tcp, Syntax::V3).expect_err(text).problem.code(), "bad_value");
    }
    let (any_http, any_tcp) =
        (matcher("Host(`*`)", Kind::Http, Syntax::V3), matcher("HostSNI(`*`)", Kind::Tcp, Syntax::V3));
    assert!(!any_http.matches_connection(&Opened("", &[], None)) && !any_tcp.matches(&Asked::default()));
}

#[test]
fn regular_expressions_are_gos() {
    for (pattern, text, expected) in [
        (r"^\w+$", "é", false),
        (r"\bé", "é", false),
        (r"^[\W]$", "é", true),
        (r"(?i)^É\x{df}$", "éẞ", true),
        (r"(?i)[^\W]", "\u{212a}", true),
        (r"^\Qa.b\E+$", "a.bb", true),
        (r"^[a&&b]+$", "&b", true),
        (r"^[[a]+$", "[", true),
        (r"^[]a-]+$", "]-a", true),
        (r"^\101\x42\x{43}\a$", "ABC\x07", true),
        (r"^a{,2}$", "a{,2}", true),
        (r"^a{2}b{1,}$", "aab", true),
        (r"^x{0}y$", "y", true),
        (r"a(?i)b|c$", "C", true),
        (r"(?i:a)b", "AB", false),
        (r"(?s)^.$", "\n", true),
        (r"^.$", "\n", false),
        (r"(?m)^b$", "a\nb\nc", true),
        (r"a$", "a\n", false),
        (r"^(?P<1>a)(?<b_2>b)$", "ab", true),
        (r"^[[:alpha:][:^alpha:]]$", "é", true),
        (r"^\p{greek}\P{^Lu}\pN$", "αA1", true),
        (r"^\p{Uppercase Letter}$", "A", true),
        (r"^[^\x{0}-\x{10FFFF}]", "a", false),
        (r"^(|a)(?:)b$", "b", true),
        (r"a(?i)*b", "aab", true),
        (r"\_\/\-", "_/-", true),
        ("^#x y$", "#x y", true),
    ] {
        let compiled = regex::compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(compiled.is_match(text.as_bytes()), expected, "{pattern} on {text}");
    }
    for pattern in [
        "(",
        ")",
        "[",
        "[a",
        "*a",
        "a**",
        "a+*",
        "a{2}{3}",
        "a{1001}",
        "(a{100}){11}",
        "a{2,1}",
        "|*",
        "(?x)a",
        "(?=a)",
        "(?P=a)",
        "(?P<>a)",
        "(?<a",
        "(?i",
        "(?-)",
        r"\1",
        r"\8",
        r"\C",
        r"\Z",
        r"\y",
        r"\é",
        r"\x{110000}",
        r"\xg0",
        r"\x1",
        r"\",
        "[b-a]",
        r"[a-\d]",
        "[[:nope:]]",
        r"\p",
        r"\p{Nope}",
        r"\p{Latn}",
        r"\p{sc=Greek}",
        r"\p{Alphabetic}",
    ] {
        assert!(regex::translate(pattern).is_err(), "{pattern}");
    }
    let error = matcher_error(r"PathRegexp(`(\pL{1000}\pL{1000}){1,1}(\pL{1000}){1,1}`)");
    assert_eq!((error.span, error.problem.code()), (0..55, "bad_regex"));
}

fn matcher_error(text: &str) -> RuleError {
    let rule = http(text).expect("the syntax is right");
    Matcher::compile(&rule).expect_err("it is too large")
}

fn exact(path: &str) -> PathHint {
    PathHint::Exact(path.to_owned())
}

fn prefix(path: &str) -> PathHint {
    PathHint::Prefix(path.to_owned())
}

#[test]
fn hints_name_hosts_and_paths() {
    for (syntax, text, expected) in [
        (Syntax::V3, "Host(`A.example.`) && PathPrefix(`/b`)", vec![(Some("a.example"), prefix("/b"))]),
        (
            Syntax::V3,
            "Host(`a`) && (Path(`/b`) || PathPrefix(`/c`))",
            vec![(Some("a"), exact("/b")), (Some("a"), prefix("/c"))],
        ),
        (Syntax::V3, "!(!Host(`a`) || Path(`/b`))", vec![(Some("a"), PathHint::Any)]),
        (Syntax::V3, "PathPrefix(`/a`) && PathPrefix(`/a/b`) && Method(`GET`)", vec![(None, prefix("/a/b"))]),
        (Syntax::V3, "PathPrefix(`/a`) && Path(`/b`)", vec![]),
        (Syntax::V3, "Host(`a`) && Host(`b`)", vec![]),
        (Syntax::V3, "Host(`a`) || !Path(`/`)", vec![(None, PathHint::Any)]),
        (Syntax::V3, "Host(`*.a`) && PathRegexp(`^/a/b?c`)", vec![(None, prefix("/a/"))]),
        (Syntax::V3, "PathRegexp(`^/a|b`)", vec![(None, PathHint::Any)]),
        (Syntax::V2, "Host(`a`, `b`) && Path(`/c/{d}`)", vec![(Some("a"), prefix("/c/")), (Some("b"), prefix("/c/"))]),
        (Syntax::V2, "Path(`/c`)", vec![(None, exact("/c"))]),
    ] {
        let rule = parse(text, Kind::Http, syntax).expect(text);
        let got: Vec<_> = hints(&rule).into_iter().map(|hint| (hint.host, hint.path)).collect();
        let expected: Vec<_> = expected.into_iter().map(|(host, path)| (host.map(str::to_owned), path)).collect();
        assert_eq!(got, expected, "{text}");
    }
    let rule = parse("HostSNI(`A`) && ALPN(`h2`)", Kind::Tcp, Syntax::V3).expect("a TCP rule");
    let [hint] = &*hints(&rule) else { panic!("one hint") };
    assert_eq!((hint.host.as_deref(), &hint.path, hint.exact), (Some("a"), &PathHint::Any, false));
}

fn satisfies(hint: &Hint, asked: &Asked) -> bool {
    let fits = |regex: &str| ::regex::Regex::new(regex).is_ok_and(|r| r.is_match("") || r.is_match(&asked.host));
    hint.host.as_deref().is_none_or(|host| host == host_key(&asked.host))
        && hint.host_regex.as_deref().is_none_or(fits)
        && match &hint.path {
            PathHint::Any => true,
            PathHint::Prefix(prefix) => asked.path.starts_with(&**prefix),
            PathHint::Exact(path) => asked.path == *path,
        }
}

/// Rules over few hosts and paths, so that requests match them often.
fn rule_text(syntax: Syntax) -> impl Strategy<Value = String> {
    let v3 = prop_oneof![
        "Host\\(`(\\*|\\*\\.b|[ab](\\.b)?\\.?)`\\)",
        "host\\(\"[AB]\"\\)",
        "HostRegexp\\(`\\^?[ab]\\$?`\\)",
        "Path(Prefix)?\\(`/[ab]?(/[ab])?`\\)",
        "PathRegexp\\(`\\^?/[ab]?[?*|+]?/?[ab]?`\\)",
        "Method\\(`(get|POST)`\\)",
        "Header\\(`X`, `[ab\"\\\\]`\\)",
        "HeaderRegexp\\(`X`, `[ab]`\\)",
        "Query\\(`a`(, `[ab]`)?\\)",
        "ClientIP\\(`10\\.0\\.0\\.[01](/31)?`\\)",
    ];
    let v2 = prop_oneof![
        "Host(Header)?\\(`[ab*]\\.?`(, `[ab]\\.b`)?\\)",
        "HostRegexp\\(`(\\{x\\}|a)(\\.b)?`\\)",
        "Path(Prefix)?\\(`/[ab]?(/\\{x(:[ab]+)?\\})?`(, `/a`)?\\)",
        "Method\\(`get`, `POST`\\)",
        "Headers(Regexp)?\\(`X`, `[ab]`\\)",
        "Query\\(`a=(\\{x\\}|[ab])?`\\)",
    ];
    let leaf = if syntax == Syntax::V2 { v2.boxed() } else { v3.boxed() };
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|rule| format!("!({rule})")),
            (inner.clone(), "( |\n|\t)*", inner.clone()).prop_map(|(a, gap, b)| format!("({a}) &&{gap}({b})")),
            (inner.clone(), "( |\n|/\\* x \\*/)*", inner).prop_map(|(a, gap, b)| format!("{a} ||{gap}{b}")),
        ]
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let header = prop_oneof![Just(vec![]), "[ab\"\\\\]".prop_map(|value| vec![("x".to_owned(), value)])];
    let ip = (0_u8..3).prop_map(|last| Some(IpAddr::from([10, 0, 0, last])));
    ("([ab](\\.b)?\\.?)?", "/[ab]?/?[ab]{0,2}", "(GET|POST)", "(a|a=a|a=b|b=%61)?", header, ip).prop_map(
        |(host, path, method, query, headers, ip)| Asked { host, authority: None, path, method, query, headers, ip },
    )
}

/// The rule with negations pushed to its matchers, as Traefik evaluates it.
fn evaluate(expr: &Expr, negated: bool, leaf: &dyn Fn(&Test) -> bool) -> bool {
    match (expr, negated) {
        (Expr::Test(test), _) => leaf(test) != negated,
        (Expr::Not(inner), _) => evaluate(inner, !negated, leaf),
        (Expr::All(parts), false) | (Expr::Any(parts), true) => parts.iter().all(|part| evaluate(part, negated, leaf)),
        (Expr::Any(parts), false) | (Expr::All(parts), true) => parts.iter().any(|part| evaluate(part, negated, leaf)),
    }
}

fn syntaxes() -> impl Strategy<Value = (Syntax, String)> {
    prop_oneof![
        rule_text(Syntax::V3).prop_map(|text| (Syntax::V3, text)),
        rule_text(Syntax::V2).prop_map(|text| (Syntax::V2, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn text_never_makes_it_panic(text in "\\PC*", tcp: bool, v2: bool) {
        let kind = if tcp { Kind::Tcp } else { Kind::Http };
        if let Err(error) = parse(&text, kind, if v2 { Syntax::V2 } else { Syntax::V3 }) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {text:?}", error.span);
        }
    }

    #[test]
    fn near_rules_never_make_it_panic(text in "(Host|Path|Query|[Hh]ostRegexp|\\(|\\)|`[a\\[({*?]{0,4}`|\"[a\\\\xu0]*\"|&&|\\|\\||!|,|\\.\\.\\.|/\\*|\\*/|//|\n| |\u{feff}|é){0,12}") {
        for syntax in [Syntax::V2, Syntax::V3] {
            match parse(&text, Kind::Http, syntax) {
                Ok(rule) => prop_assert_eq!(&parse(&rule.to_string(), Kind::Http, syntax).expect("canonical"), &rule),
                Err(error) => prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {text:?}", error.span),
            }
        }
    }

    #[test]
    fn any_argument_survives_printing(value in "(\\PC|[\u{0}-\u{1f}`\"\\\\\u{feff}\u{7f}é\u{10ffff}]){1,8}") {
        let rule = Rule::new(Kind::Http, Syntax::V3, Expr::Test(Test {
            name: Name::Header,
            args: vec!["a".to_owned(), value],
            span: Span::default(),
        }));
        prop_assert_eq!(parse(&rule.to_string(), Kind::Http, Syntax::V3), Ok(rule));
    }

    #[test]
    fn printing_and_parsing_give_the_same_rule((syntax, text) in syntaxes()) {
        let rule = parse(&text, Kind::Http, syntax).expect(&text);
        let printed = rule.to_string();
        let again = parse(&printed, Kind::Http, syntax).expect(&printed);
        prop_assert_eq!(&again, &rule);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn what_matches_satisfies_a_hint((syntax, text) in syntaxes(), requests in prop::collection::vec(asked(), 16)) {
        let rule = parse(&text, Kind::Http, syntax).expect(&text);
        let (matcher, hints) = (Matcher::compile(&rule).expect(&text), hints(&rule));
        for request in &requests {
            if matcher.matches(request) {
                prop_assert!(hints.iter().any(|hint| satisfies(hint, request)), "{text} on {request:?}: {hints:?}");
            } else if !request.host.ends_with('.') {
                let exact = hints.iter().any(|hint| hint.exact && satisfies(hint, request));
                prop_assert!(!exact, "{text} on {request:?}: {hints:?}");
            }
        }
    }

    #[test]
    fn operators_mean_what_they_say((syntax, text) in syntaxes(), request in asked()) {
        let rule = parse(&text, Kind::Http, syntax).expect(&text);
        let leaf = |test: &Test| {
            let alone = Rule::new(Kind::Http, syntax, Expr::Test(test.clone()));
            Matcher::compile(&alone).expect("a part of a rule is one").matches(&request)
        };
        prop_assert_eq!(Matcher::compile(&rule).expect(&text).matches(&request), evaluate(rule.root(), false, &leaf));
    }

    #[test]
    fn a_translated_expression_compiles(pattern in "(\\PC|[\\[\\](){}|*+?^$.\\\\aB1-]|\\\\[pPQExdDwWsSbB]|\\(\\?[iU-]{0,2}[:)]|\\{[0-9],?[0-9]?\\}){0,10}") {
        if let (Ok(_), Err(reason)) = (regex::translate(&pattern), regex::compile(&pattern)) {
            prop_assert!(reason.contains("larger than"), "{pattern:?}: {reason}");
        }
    }
}
