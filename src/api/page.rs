//! Query parameters of lists: search, status, order and pages, as Traefik reads them
//! (<https://github.com/traefik/traefik/tree/v3.6/pkg/api>, `criterion.go` and `sort.go`).

use serde_json::{Map, Value};

/// A JSON object of a list.
pub(super) type Item = Map<String, Value>;

/// Decodes `%41` (and `+` in queries); what is not a valid escape stays as it is.
pub(super) fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
                continue;
            }
            (b'+', ..) if plus => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The first value of a parameter that is not empty.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| decode(key, true) == name).map(|(_, v)| decode(v, true)).next().filter(|v| !v.is_empty())
}

fn text<'a>(item: &'a Item, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn keep(item: &Item, query: &str) -> bool {
    let contains = |value: &str, part: &str| value.to_lowercase().contains(&part.to_lowercase());
    let found = parameter(query, "search")
        .is_none_or(|part| ["name", "rule"].iter().any(|key| contains(text(item, key), &part)));
    let status = parameter(query, "status").is_none_or(|status| text(item, "status").eq_ignore_ascii_case(&status));
    let service = parameter(query, "serviceName").is_none_or(|wanted| {
        let service = text(item, "service");
        !item.contains_key("service")
            || service == if service.contains('@') { &wanted } else { wanted.split('@').next().unwrap_or_default() }
    });
    let middleware = parameter(query, "middlewareName").is_none_or(|wanted| {
        let list = item.get("middlewares").and_then(Value::as_array);
        !item.contains_key("rule") || list.is_some_and(|list| list.iter().any(|m| *m == *wanted))
    });
    found && status && service && middleware
}

/// What a list is ordered by: numbers before texts, as each parameter has only one of them.
fn key(item: &Item, by: &str) -> (i64, String) {
    let length = |value: Option<&Value>| value.and_then(Value::as_array).map_or(0, |list| list.len() as i64);
    match by {
        "priority" => (item.get("priority").and_then(Value::as_i64).unwrap_or(0), String::new()),
        "entryPoints" => (length(item.get("entryPoints")), String::new()),
        "servers" => (length(item.get("loadBalancer").and_then(|lb| lb.get("servers"))), String::new()),
        "provider" | "status" | "rule" | "service" | "type" => (0, text(item, by).to_owned()),
        _ => (0, String::new()),
    }
}

fn number(query: &str, name: &str, default: usize) -> Result<usize, String> {
    let Some(raw) = parameter(query, name) else { return Ok(default) };
    match raw.parse::<i64>() {
        Ok(n) if n > 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        Ok(n) => Err(format!("invalid request: {name}: {n}")),
        Err(_) => Err(format!("invalid request: {name}: 0")),
    }
}

/// One page, and the number of the next one (1 after the last).
///
/// # Errors
/// A page or a size that is not a positive number, or a page beyond the end.
pub(super) fn page(mut items: Vec<Item>, query: &str) -> Result<(Vec<Item>, usize), String> {
    items.retain(|item| keep(item, query));
    let by = parameter(query, "sortBy").unwrap_or_default();
    items.sort_by_cached_key(|item| (key(item, &by), text(item, "name").to_owned()));
    if parameter(query, "direction").is_some_and(|direction| direction != "asc") {
        items.reverse();
    }
    let per_page = number(query, "per_page", 100)?;
    let page = number(query, "page", 1)?;
    let start = (page - 1).saturating_mul(per_page);
    if start != 0 && start >= items.len() {
        return Err(format!("invalid request: page: {page}, per_page: {per_page}"));
    }
    let end = start.saturating_add(per_page).min(items.len());
    let next = if end < items.len() { page + 1 } else { 1 };
    items.truncate(end);
    items.drain(..start);
    Ok((items, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn items() -> Vec<Item> {
        let routers = json!([
            {"name": "b@nomad", "rule": "Host(`x`)", "status": "enabled", "priority": 3, "service": "b", "entryPoints": ["web"]},
            {"name": "a@nomad", "rule": "Host(`Y`)", "status": "disabled", "priority": 20, "service": "a@file", "entryPoints": ["web", "x"]},
            {"name": "c@file", "rule": "Host(`z`)", "status": "enabled", "priority": 100, "service": "b", "middlewares": ["m@file"]},
        ]);
        serde_json::from_value(routers).unwrap()
    }

    fn check(query: &str, want: &[&str], next: usize) {
        let (page, got) = page(items(), query).unwrap();
        let names: Vec<_> = page.iter().map(|item| text(item, "name")).collect();
        assert_eq!((&*names, got), (want, next), "{query}");
    }

    #[test]
    fn lists_are_searched_sorted_and_cut_as_traefik_does() {
        check("", &["a@nomad", "b@nomad", "c@file"], 1);
        check("search=host(%60y", &["a@nomad"], 1);
        check("search=NOMAD&status=Enabled", &["b@nomad"], 1);
        check("serviceName=b%40nomad", &["b@nomad", "c@file"], 1);
        check("serviceName=a@nomad", &[], 1);
        check("middlewareName=m@file", &["c@file"], 1);
        check("sortBy=priority", &["b@nomad", "a@nomad", "c@file"], 1);
        check("sortBy=entryPoints&direction=desc", &["a@nomad", "b@nomad", "c@file"], 1);
        check("sortBy=nonsense&direction=desc", &["c@file", "b@nomad", "a@nomad"], 1);
        check("per_page=2", &["a@nomad", "b@nomad"], 2);
        check("per_page=2&page=2", &["c@file"], 1);
        check("per_page=3", &["a@nomad", "b@nomad", "c@file"], 1);
    }

    #[test]
    fn pages_that_are_none_are_refused_in_traefiks_words() {
        for (query, error) in [
            ("page=0", "invalid request: page: 0"),
            ("page=x", "invalid request: page: 0"),
            ("per_page=-3", "invalid request: per_page: -3"),
            ("page=2", "invalid request: page: 2, per_page: 100"),
            ("page=99999999999&per_page=99999999999", "invalid request: page: 99999999999, per_page: 99999999999"),
        ] {
            assert_eq!(page(items(), query).unwrap_err(), error, "{query}");
        }
        assert_eq!(page(Vec::new(), "").unwrap(), (Vec::new(), 1));
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(decode("a%40b+c%", true), "a@b c%");
        assert_eq!(decode("a+%zz%4", false), "a+%zz%4");
    }

    proptest! {
        #[test]
        fn no_query_breaks_a_list(query in "\\PC*|[a-zA-Z_=&%+0-9-]*") {
            let _ = page(items(), &query);
        }
    }
}
