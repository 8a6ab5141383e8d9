//! Cookies of requests.

use super::{Headers, name};

/// The first value of a cookie (RFC 6265, 4.2), without the quotes that may stand around it.
pub fn cookie<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let lines = headers.all(&name::COOKIE).filter_map(|line| std::str::from_utf8(line).ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(said, _)| said.trim_end() == name)?;
    let value = value.trim_start();
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::{HeaderMap, HeaderValue, header};

    #[test]
    fn cookies_are_found_as_clients_write_them() {
        let mut map = HeaderMap::new();
        for line in ["a=1; lb=x;lb=y", "c=\"q\"; empty=; bare"] {
            map.append(header::COOKIE, HeaderValue::from_static(line));
        }
        let headers = Headers::from_map(&map, Default::default());
        let get = |name| cookie(&headers, name);
        assert_eq!((get("a"), get("lb"), get("c"), get("empty")), (Some("1"), Some("x"), Some("q"), Some("")));
        assert_eq!((get("bare"), get("LB"), get("")), (None, None, None));
    }
}
