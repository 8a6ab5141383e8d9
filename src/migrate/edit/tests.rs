//! The editor with outcomes made up for the purpose: what it reads, and that it changes lists of tags alone.

use super::*;
use crate::migrate::set::hole;

fn document(text: &str) -> Document {
    match read(&"job.nomad".into(), text.as_bytes()) {
        Ok(Some(document)) => document,
        other => panic!("{other:?}"),
    }
}

/// Each legacy tag becomes two new ones, with its first hole in them if it has one.
fn conversions(document: &Document) -> Vec<Conversion> {
    let of = |service: &Service| {
        let outcome = |tag: &Tag| match tag.text.strip_prefix("urlprefix-") {
            None => Outcome::Kept,
            Some(_) if tag.text.contains("refused") => {
                Outcome::Refused(Box::new(Diagnostic::error("refused", "for the test")))
            }
            Some(_) if tag.text.contains("nothing") => Outcome::Converted(Vec::new()),
            Some(rest) => {
                let rest = if tag.holes.is_empty() { rest.to_owned() } else { hole(0) };
                Outcome::Converted(vec![format!("new-{rest}").into(), format!("more-{rest}=`${{1}}\\\"").into()])
            }
        };
        let outcomes: Vec<Outcome> = service.tags.iter().map(outcome).collect();
        let some = outcomes.iter().any(|o| matches!(o, Outcome::Converted(new) if !new.is_empty()));
        let besides = if some { vec!["enable".into()] } else { Vec::new() };
        Conversion { outcomes, besides, remarks: Vec::new() }
    };
    document.services().map(of).collect()
}

fn edit(text: &str, keep: bool) -> String {
    let document = document(text);
    let edited = document.edited(&conversions(&document), keep);
    assert_eq!(edited.problems, Vec::new(), "{text}");
    String::from_utf8(edited.bytes).expect("UTF-8")
}

fn job(tags: &str) -> String {
    format!("job \"j\" {{\n  group \"g\" {{\n    service {{\n      tags = {tags}\n    }}\n  }}\n}}\n")
}

#[test]
fn lists_keep_their_form() {
    let more = "more-a/=`$${1}\\\\\\\"";
    for (old, kept, dropped) in [
        (
            "[\"urlprefix-a/\"]",
            format!("[\"urlprefix-a/\", \"enable\", \"new-a/\", \"{more}\"]"),
            format!("[\"enable\", \"new-a/\", \"{more}\"]"),
        ),
        (
            "[ \"urlprefix-a/\", \"x\", ] # why",
            format!("[ \"urlprefix-a/\", \"enable\", \"new-a/\", \"{more}\", \"x\", ] # why"),
            format!("[ \"enable\", \"new-a/\", \"{more}\", \"x\", ] # why"),
        ),
        (
            "[\n\t\t\"urlprefix-a/\", # main, [the] \"site\"\n\n\t\t\"x\" // other\n      ]",
            format!(
                "[\n\t\t\"urlprefix-a/\", # main, [the] \"site\"\n\t\t\"enable\",\n\t\t\"new-a/\",\n\t\t\"{more}\",\n\n\t\t\"x\" // other\n      ]"
            ),
            format!(
                "[\n\t\t\"enable\",\n\t\t\"new-a/\",\n\t\t\"{more}\", # main, [the] \"site\"\n\n\t\t\"x\" // other\n      ]"
            ),
        ),
        (
            "[\n        \"x\",\n        \"urlprefix-a/\" # last\n      ]",
            format!(
                "[\n        \"x\",\n        \"urlprefix-a/\", # last\n        \"enable\",\n        \"new-a/\",\n        \"{more}\"\n      ]"
            ),
            format!("[\n        \"x\",\n        \"enable\",\n        \"new-a/\",\n        \"{more}\" # last\n      ]"),
        ),
        (
            "[\n  \"urlprefix-a/\" /* a\n b */, \"x\"]",
            format!("[\n  \"urlprefix-a/\",\n  \"enable\",\n  \"new-a/\",\n  \"{more}\" /* a\n b */, \"x\"]"),
            format!("[\n  \"enable\",\n  \"new-a/\",\n  \"{more}\" /* a\n b */, \"x\"]"),
        ),
    ] {
        assert_eq!(edit(&job(old), true), job(&kept));
        assert_eq!(edit(&job(old), false), job(&dropped));
        let crlf = job(old).replace('\n', "\r\n");
        assert_eq!(edit(&crlf, true), job(&kept).replace('\n', "\r\n"));
        assert_eq!(edit(&crlf, false), job(&dropped).replace('\n', "\r\n"));
    }
}

#[test]
fn tags_go_with_their_lines() {
    for (old, dropped) in [
        ("[\"x\", \"urlprefix-nothing/\"]", "[\"x\"]"),
        ("[\"urlprefix-nothing/\", \"x\"]", "[\"x\"]"),
        ("[\"urlprefix-nothing/\"]", "[]"),
        ("[\n  \"urlprefix-nothing/\",\n  \"x\",\n]", "[\n  \"x\",\n]"),
        ("[\n  \"x\",\n  \"urlprefix-nothing/\",\n]", "[\n  \"x\",\n]"),
        ("[\n  \"urlprefix-nothing/\", # why\n  \"x\",\n]", "[\n  # why\n  \"x\",\n]"),
    ] {
        assert_eq!(edit(&job(old), false), job(dropped));
        assert_eq!(edit(&job(old), true), job(old));
    }
    let services = |tags: &str| format!("{{\"service\": {{\"name\": \"a\", \"tags\": {tags}}}}}");
    for (old, dropped) in [
        ("[\"x\", \"urlprefix-nothing/\"]", "[\"x\"]"),
        ("[\n \"urlprefix-nothing/1\",\n \"x\"\n]", "[\n \"x\"\n]"),
        ("[\n \"x\",\n \"urlprefix-nothing/\",\n \"urlprefix-nothing/2\"\n]", "[\n \"x\"\n]"),
        ("[ \"urlprefix-nothing/\" ]", "[]"),
        ("[\n \"urlprefix-a\",\n \"urlprefix-nothing/2\"]", "[\n \"enable\",\n \"new-a\",\n \"more-a=`${1}\\\\\\\"\"]"),
    ] {
        assert_eq!(edit(&services(old), false), services(dropped));
        assert_eq!(edit(&services(dropped), true), services(dropped));
    }
}

#[test]
fn expressions_are_holes_or_are_told_of() {
    let holes = edit(&job("[\"urlprefix-${var.host}/${a[\"}\"]}\", format(\"urlprefix-%s/p\", var.other)]"), false);
    assert!(
        holes.contains("[\"enable\", \"new-${var.host}\", \"more-${var.host}=`$${1}\\\\\\\"\", \"new-${var.other}\""),
        "{holes}"
    );
    let concat = edit(&job("concat([\"urlprefix-a/\"], var.more, c ? [\"urlprefix-b/\"] : [])"), true);
    assert!(concat.contains("concat([\"urlprefix-a/\", \"enable\", \"new-a/\", "), "{concat}");
    assert!(concat.contains(", var.more, c ? [\"urlprefix-b/\", \"new-b/\", "), "{concat}");
    for (tags, how, place) in [
        ("flatten([for h in var.hosts : [\"urlprefix-${h}/\"]])", "a `for` expression", (4, 45)),
        ("[for h in var.hosts : \"urlprefix-${h}/\"]", "a `for` expression", (4, 36)),
        ("split(\",\", \"urlprefix-a/,urlprefix-b/\")", "the function `split`", (4, 25)),
        ("[var.on ? \"urlprefix-a/\" : \"\"]", "a condition", (4, 24)),
        ("[<<EOT\nurlprefix-a/\nEOT\n]", "a heredoc", (4, 15)),
        ("[<<EOT\nhttps://a\nEOT\n]", "a heredoc", (4, 15)),
        ("[\"urlprefix-a/\"][*]", "`[\"urlprefix-a/\"][*]`", (4, 15)),
        ("[\"${\"urlprefix-a/\"}\"]", "an expression", (4, 18)),
    ] {
        let document = document(&job(tags));
        assert_eq!(document.problems, Vec::new());
        let service = document.services().next().expect("a service");
        assert_eq!(service.tags.len(), service.beyond.len(), "{tags}: {service:?}");
        let why = service.beyond(0).expect("a reason");
        assert!(why.starts_with(&format!("legacy tags are made by {how}")), "{tags}: {why}");
        assert_eq!((service.tags[0].place.line, service.tags[0].place.column), place, "{tags}");
    }
    let all = document(&job("split(\",\", \"urlprefix-a/,urlprefix-b/ strip=/x\")"));
    let tags: Vec<&str> = all.services().flat_map(|service| &service.tags).map(|tag| &*tag.text).collect();
    assert_eq!(tags, ["urlprefix-a/", "urlprefix-b/ strip=/x"]);
    let problems = document(&job("var.tags")).problems;
    assert_eq!(
        problems.iter().map(|p| (&*p.code, p.origin.column)).collect::<Vec<_>>(),
        [("tags_elsewhere", Some(14))]
    );
}

#[test]
fn parts_of_named_values_are_found() {
    let locals = "locals {\n  tags = { web = [\"urlprefix-a/\"], \"api\" = [\"x\"] }\n  all = [local.tags.web]\n  one = \"urlprefix-b/\"\n}\n";
    for (tags, edited) in [
        ("local.tags.web", "web = [\"urlprefix-a/\", \"enable\", \"new-a/\", "),
        ("concat(local.tags[\"web\"], local.tags.api)", "web = [\"urlprefix-a/\", \"enable\", \"new-a/\", "),
        ("local.all[0]", "web = [\"urlprefix-a/\", \"enable\", \"new-a/\", "),
        ("[local.one]", "tags = [local.one, \"enable\", \"new-b/\", "),
    ] {
        let new = edit(&format!("{locals}{}", job(tags)), true);
        assert!(new.contains(edited), "{tags}: {new}");
    }
    for tags in [
        "lookup(local.tags, \"web\", [])",
        "merge(local.tags, {}).web",
        "local.tags[var.x]",
        "[for t in local.all : t]",
    ] {
        let document = document(&format!("{locals}{}", job(tags)));
        let service = document.services().next().expect("a service");
        assert_eq!((&*service.tags[0].text, service.tags[0].place.line), ("urlprefix-a/", 2), "{tags}");
        assert!(service.beyond(0).is_some_and(|why| why.contains(" in line 9,")), "{tags}: {:?}", service.beyond);
    }
    let turns = "job \"j\" {\n  group \"g\" {\n    dynamic \"service\" {\n      for_each = local.all\n      content {\n        tags = service.value.tags\n      }\n    }\n  }\n}\n";
    let all = "locals {\n  all = [{ url = \"https://x\", tags = [\"urlprefix-a/\"] }]\n}\n";
    let document = document(&format!("{all}{turns}"));
    let service = document.services().next().expect("a service");
    assert_eq!(service.tags.iter().map(|tag| &*tag.text).collect::<Vec<_>>(), ["urlprefix-a/"]);
    assert!(service.beyond(0).is_some_and(|why| why.contains("dynamic block")), "{:?}", service.beyond);
}

#[test]
fn names_that_lead_to_many_are_followed_once() {
    let step = |n: usize| format!("  l{n} = concat({})\n", vec![format!("local.l{}", n + 1); 40].join(", "));
    let steps: String = (0..12).map(step).collect();
    let text = format!("locals {{\n{steps}  l12 = [\"urlprefix-a/\"]\n}}\n{}", job("local.l0"));
    let tags: Vec<_> = document(&text).services().flat_map(|service| service.tags.clone()).collect();
    assert_eq!(tags.iter().map(|tag| &*tag.text).collect::<Vec<_>>(), ["urlprefix-a/"]);
}

#[test]
fn names_of_the_document_are_followed() {
    let local = format!("locals {{\n  all = [\"urlprefix-a/\"]\n}}\n{}", job("concat(local.all, [\"x\"])"));
    let edited = edit(&local, true);
    assert!(edited.contains("all = [\"urlprefix-a/\", \"enable\", \"new-a/\", "), "{edited}");
    let (two, _) = (job("local.all").replace("  }\n}\n", "    service {\n      tags = local.all\n    }\n  }\n}\n"), ());
    let edited = edit(&format!("locals {{\n  all = [\"urlprefix-a/\"]\n}}\n{two}"), true);
    assert_eq!(edited.matches("enable").count(), 1, "{edited}");
    let endless = format!("locals {{\n  a = local.b\n  b = local.a\n}}\n{}", job("local.a"));
    assert_eq!(edit(&endless, true), endless);
}

#[test]
fn services_are_found_where_jobs_have_them() {
    let text = r#"
variable "n" { default = 3 }
job "shop" {
  namespace = "team"
  group "web" {
    count = var.n
    update { canary = 2 }
    service {
      name = "web-${var.zone}"
      provider = "nomad"
      tags = ["a"]
      canary_tags = ["b"]
      connect {
        sidecar_service {
          tags = ["c"]
        }
      }
    }
    dynamic "service" {
      for_each = var.all
      content {
        name = service.value
        tags = ["d"]
      }
    }
    task "t" {
      service { tags = ["e"] }
    }
  }
}
"#;
    let all: Vec<(String, String, u32, String)> = (document(text).services())
        .map(|s| (s.name.to_string(), s.namespace.to_string(), s.count, s.tags[0].text.to_string()))
        .collect();
    let want = [
        ("web-\u{fffc}", "team", 3, "a"),
        ("web-\u{fffc}", "team", 2, "b"),
        ("web-\u{fffc}-sidecar-proxy", "team", 3, "c"),
        ("\u{fffc}", "", 3, "d"),
        ("shop-web-t", "", 3, "e"),
    ];
    assert_eq!(all, want.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c, d.to_owned())));
}

#[test]
fn json_has_the_same_services() {
    for (text, kind, names) in [
        (
            r#"{"Job": {"ID": "shop", "TaskGroups": [{"Name": "web", "Count": 2, "Services": [{"Name": "", "Tags": ["urlprefix-a/"], "CanaryTags": ["b"], "Connect": {"SidecarService": {"Tags": ["c"]}}}], "Tasks": [{"Name": "t", "Services": [{"Name": "x", "Tags": null}]}]}]}}"#,
            Kind::NomadJson,
            vec!["shop-web", "shop-web", "shop-web-sidecar-proxy", "x"],
        ),
        (
            r#"{"job": {"shop": [{"group": {"web": {"count": 2, "service": [{"tags": ["urlprefix-${var.h}/"]}], "task": {"t": {"service": {"name": "x", "canary_tags": ["a"]}}}}}}]}}"#,
            Kind::NomadHclJson,
            vec!["shop-web", "x", "x"],
        ),
        (
            r#"{"services": [{"name": "a", "address": "10.0.0.1", "port": 80, "tags": ["urlprefix-${DC}/"]}, {"Name": "b"}]}"#,
            Kind::ConsulJson,
            vec!["a", "b"],
        ),
        (r#"{"Name": "a", "Tags": ["urlprefix-a/"]}"#, Kind::ConsulJson, vec!["a"]),
    ] {
        let document = document(text);
        assert_eq!(document.kind, kind);
        assert_eq!(document.services().map(|s| s.name.to_string()).collect::<Vec<_>>(), names);
        let edited = edit(text, true);
        assert!(serde_json::from_str::<serde_json::Value>(&edited).is_ok() && edited.contains("enable"), "{edited}");
    }
    let live = edit(r#"{"job":{"a":{"group":{"b":{"service":{"tags":["urlprefix-${var.h}/"]}}}}}}"#, false);
    assert!(live.contains(r#"["enable", "new-${var.h}", "more-${var.h}=`$${1}\\\""]"#), "{live}");
    for other in
        ["{}", "[]", "{\"name\": \"x\"}", "{\"compilerOptions\": {}}", "variable \"x\" {}\n", "", "\n# nothing\n"]
    {
        assert!(matches!(read(&"x".into(), other.as_bytes()), Ok(None)), "{other}");
    }
}

#[test]
fn what_is_broken_is_told_with_its_place() {
    for (text, place) in [
        ("job \"j\" {\n  group \"g\" {\n    count = \n  }\n}\n", (3, 13)),
        ("job \"j\" {\n", (1, 11)),
        ("{\n  \"job\": {\n    \"a\" 1\n}}", (3, 9)),
        ("job \"é\" { \u{1} }", (1, 11)),
    ] {
        let error = read(&"x".into(), text.as_bytes()).expect_err(text);
        assert_eq!((error.origin.line, error.origin.column), (Some(place.0), Some(place.1)), "{text}: {error}");
    }
}

#[test]
fn deep_documents_are_refused_and_nothing_overflows() {
    let deep = |open: &str, close: &str, n: usize| format!("x = {}1{}\n", open.repeat(n), close.repeat(n));
    for text in [
        deep("[", "]", 100_000),
        deep("(", ")", 100_000),
        deep("{a=", "}", 100_000),
        deep("\"${", "}\"", 50_000),
        deep("-", "", 100_000),
        deep("f(", ")", 100_000),
        deep("1+", "", 100_000),
        deep("true?1:", "", 50_000),
        "a {\n".repeat(100_000),
        format!("x = a{}\n", "[0]".repeat(100_000)),
    ] {
        let _ = read(&"x".into(), text.as_bytes());
    }
    let json = format!("{{\"job\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(matches!(read(&"x".into(), json.as_bytes()), Ok(Some(_))));
    let json = "{\"job\":".repeat(200_000);
    assert!(read(&"x".into(), json.as_bytes()).is_err());
}
