//! Requests for the rules of a catalog: for each router of `/api/rawdata` the hosts and paths that it names, and what is
//! just below and just beside these, so that a prefix that is read otherwise shows.

use crate::compare::{Recorded, Scheme};
use crate::explain::plain;
use crate::rule::{self, Expr, Kind, Name, Syntax};
use serde_json::Value;

/// Alternatives of one rule that are asked for.
const MOST: usize = 64;

/// What a request has to look like.
#[derive(Debug, Clone, Default)]
struct Want {
    host: Option<String>,
    path: Option<Path>,
    method: Option<String>,
    headers: Vec<(String, String)>,
    query: Vec<String>,
    /// Something that cannot be had from here.
    beyond: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum Path {
    Exact(String),
    Prefix(String),
}

/// The requests; rules for which there are none go to `without`, with the reason.
pub(super) fn requests(rawdata: &Value, without: &mut Vec<String>) -> Vec<Recorded> {
    let routers = rawdata.get("routers").and_then(Value::as_object);
    let mut found = Vec::new();
    for (name, router) in routers.into_iter().flatten() {
        let text = |key: &str| router.get(key).and_then(Value::as_str).unwrap_or_default();
        if name.ends_with("@internal") || text("status") == "disabled" {
            continue;
        }
        let parsed = match rule::parse(text("rule"), Kind::Http, Syntax::named(text("ruleSyntax"))) {
            Ok(parsed) => parsed,
            Err(error) => {
                without.push(format!("router {name}: its rule cannot be read: {error}"));
                continue;
            }
        };
        let wants = alternatives(parsed.root());
        if let Some(why) = wants.iter().find_map(|want| want.beyond) {
            without.push(format!("router {name}: {why}"));
        }
        for want in wants.iter().filter(|want| want.beyond.is_none()) {
            for scheme in schemes(router) {
                found.extend(want.requests(scheme));
            }
        }
    }
    found
}

/// By which schemes a router is reached; where its entry points do not tell, the caller knows better.
fn schemes(router: &Value) -> Vec<Option<Scheme>> {
    if router.get("tls").is_some_and(|tls| !tls.is_null()) {
        return vec![Some(Scheme::Https)];
    }
    let points = ["using", "entryPoints"].iter().find_map(|key| router.get(*key)?.as_array());
    let scheme = |name: &str| match name {
        "web" | "http" => Some(Scheme::Http),
        "websecure" | "https" => Some(Scheme::Https),
        _ => None,
    };
    let mut found: Vec<Option<Scheme>> =
        points.into_iter().flatten().filter_map(Value::as_str).map(scheme).filter(Option::is_some).collect();
    found.dedup();
    if found.is_empty() { vec![None] } else { found }
}

/// The rule as a list of what would each do, as far as it asks for something.
fn alternatives(expr: &Expr) -> Vec<Want> {
    match expr {
        Expr::Any(parts) => parts.iter().flat_map(alternatives).take(MOST).collect(),
        Expr::All(parts) => parts.iter().fold(vec![Want::default()], |wants, part| {
            let more = alternatives(part);
            let joined = wants.iter().flat_map(|want| more.iter().map(move |other| want.and(other)));
            joined.take(MOST).collect()
        }),
        Expr::Not(_) => vec![Want::default()],
        Expr::Test(test) => {
            let first = || test.args.first().cloned().unwrap_or_default();
            let pair = || (first(), test.args.get(1).cloned().unwrap_or_default());
            let one = |change: &dyn Fn(&mut Want)| {
                let mut want = Want::default();
                change(&mut want);
                vec![want]
            };
            // version 2 takes several arguments for alternatives
            let each = |change: &dyn Fn(&mut Want, String)| {
                test.args.iter().flat_map(|arg| one(&|want| change(want, arg.clone()))).collect()
            };
            match test.name {
                Name::Host | Name::HostHeader => each(&|want, host| want.host = Some(host)),
                Name::Path => each(&|want, path| want.path = Some(Path::Exact(path))),
                Name::PathPrefix => each(&|want, path| want.path = Some(Path::Prefix(path))),
                Name::HostRegexp => one(&|want| want.host = Some(plain(&first()))),
                Name::PathRegexp => one(&|want| want.path = Some(Path::Exact(plain(&first())))),
                Name::Method => each(&|want, method| want.method = Some(method.to_ascii_uppercase())),
                Name::Header | Name::Headers => one(&|want| want.headers.push(pair())),
                Name::HeaderRegexp | Name::HeadersRegexp => one(&|want| {
                    let (name, pattern) = pair();
                    want.headers.push((name, plain(&pattern)));
                }),
                Name::Query => one(&|want| {
                    let (name, value) = pair();
                    want.query.push(if value.is_empty() { name } else { format!("{name}={value}") });
                }),
                Name::QueryRegexp => one(&|want| {
                    let (name, pattern) = pair();
                    want.query.push(format!("{name}={}", plain(&pattern)));
                }),
                Name::ClientIp => one(&|want| want.beyond = Some("it asks for the address of the client")),
                _ => Vec::new(),
            }
        }
    }
}

impl Want {
    fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.host = other.host.clone().or(both.host);
        both.path = other.path.clone().or(both.path);
        both.method = other.method.clone().or(both.method);
        both.headers.extend(other.headers.clone());
        both.query.extend(other.query.clone());
        both.beyond = both.beyond.or(other.beyond);
        both
    }

    fn requests(&self, scheme: Option<Scheme>) -> Vec<Recorded> {
        let paths = match &self.path {
            None => vec!["/".to_owned(), "/below".to_owned()],
            Some(Path::Exact(path)) => vec![path.clone(), format!("{}/below", path.trim_end_matches('/'))],
            Some(Path::Prefix(path)) => {
                let bare = path.trim_end_matches('/');
                let mut paths = vec![path.clone(), format!("{bare}/"), format!("{bare}/below")];
                if !bare.is_empty() {
                    paths.extend([bare.to_owned(), format!("{bare}beside")]);
                }
                paths
            }
        };
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.join("&")) };
        let recorded = |path: String| Recorded {
            method: self.method.clone().unwrap_or_else(|| "GET".to_owned()),
            scheme,
            host: self.host.clone(),
            target: format!("{path}{query}"),
            headers: self.headers.clone(),
            ..Recorded::default()
        };
        paths.into_iter().map(recorded).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(router: Value) -> (Vec<String>, Vec<String>) {
        let mut without = Vec::new();
        let found = requests(&json!({"routers": {"r@nomad": router}}), &mut without);
        let line = |r: Recorded| {
            let scheme = r.scheme.map_or("-", Scheme::as_str);
            format!("{} {scheme} {}{}", r.method, r.host.unwrap_or_default(), r.target)
        };
        (found.into_iter().map(line).collect(), without)
    }

    #[test]
    fn every_alternative_is_asked_for() {
        let rule = "(Host(`a.test`) || Host(`b.test`)) && PathPrefix(`/api`) && Method(`POST`)";
        let (found, without) = asked(json!({"rule": rule, "using": ["websecure"]}));
        assert!(without.is_empty());
        assert_eq!(found.len(), 10);
        assert!(found.contains(&"POST https b.test/apibeside".to_owned()), "{found:?}");
        let (found, _) = asked(json!({"rule": "Host(`a.test`)", "using": ["web", "websecure"]}));
        assert_eq!(
            found,
            ["GET http a.test/", "GET http a.test/below", "GET https a.test/", "GET https a.test/below",]
        );
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let (found, without) = asked(json!({"rule": "Host(`a`) && ClientIP(`10.0.0.0/8`)"}));
        assert_eq!((found.len(), without.len()), (0, 1));
        let (found, without) = asked(json!({"rule": "Host("}));
        assert_eq!((found.len(), without.len()), (0, 1), "{without:?}");
        assert_eq!(asked(json!({"rule": "Host(`a`)", "status": "disabled"})).0.len(), 0);
    }

    #[test]
    fn many_alternatives_are_bounded() {
        let hosts: Vec<String> = (0..100).map(|n| format!("Host(`h{n}`)")).collect();
        let paths: Vec<String> = (0..100).map(|n| format!("Path(`/{n}`)")).collect();
        let rule = format!("({}) && ({})", hosts.join(" || "), paths.join(" || "));
        assert_eq!(asked(json!({"rule": rule})).0.len(), MOST * 2);
    }
}
