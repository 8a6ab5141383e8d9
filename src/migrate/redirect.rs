//! `redirect=` of Fabio's as Traefik's `redirectRegex` and `redirectScheme`
//! (<https://doc.traefik.io/traefik/middlewares/http/redirectregex/>).
//!
//! What always holds: the new location of a GET is that of the old tag; the statuses of other methods are Traefik's
//! (308, 307).

use crate::tags::legacy::PrefixOptions;

/// A redirect as tags of a middleware say it, each without the middleware's name.
#[derive(Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Options and values.
    pub options: Vec<(&'static str, String)>,
    /// The status of a GET is not the one that the tag names.
    pub other_status: Option<u16>,
}

/// What a pool's redirect becomes; `None` for statuses that no middleware answers with.
pub fn redirect(options: &PrefixOptions, https_port: &str) -> Option<Redirect> {
    let (status, url) = options.redirect.as_ref()?;
    let permanent = match status {
        301 | 308 => true,
        302 | 307 => false,
        _ => return None,
    };
    let other_status = match status {
        307 => Some(302),
        308 => Some(301),
        _ => None,
    };
    let plain = options.strip.is_empty() && options.prepend.is_empty();
    let said = |permanent: bool| ("permanent", permanent.to_string());
    // `redirectScheme` sends a client to the Host that it named, as `$host` does; a name in the tag stays that name
    if options.to_https && plain && url.contains("$host") {
        let mut all = vec![("redirectscheme.scheme", "https".to_owned())];
        if !matches!(https_port, "" | "443") {
            all.push(("redirectscheme.port", https_port.to_owned()));
        }
        all.push(("redirectscheme.permanent", said(permanent).1));
        return Some(Redirect { options: all, other_status });
    }
    let own_port = options.to_https && !matches!(https_port, "" | "443");
    let with_port = own_port.then(|| url.replacen("$path", &format!(":{https_port}$path"), 1));
    let url = with_port.as_deref().unwrap_or(url);
    let (regex, replacement) = expression(url, &options.strip, &options.prepend, options.to_https);
    let options = vec![
        ("redirectregex.regex", regex),
        ("redirectregex.replacement", replacement),
        ("redirectregex.permanent", said(permanent).1),
    ];
    Some(Redirect { options, other_status })
}

/// The expression and what it is replaced by. A redirect to HTTPS takes no port of the request's along.
fn expression(url: &str, strip: &str, prepend: &str, to_https: bool) -> (String, String) {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let (target, query) = url.split_once('?').map_or((url, None), |(target, query)| (target, Some(query)));
    let query = query.filter(|query| !query.is_empty());
    // the slash before the request's path is its own
    let target = target.replacen("/$path", "$path", 1);
    let (scheme, rest) = match target.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, &*target),
    };
    let (host, path) = match scheme {
        Some(_) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (host, path) = match host.split_once("$path") {
        // right behind the host
        Some((host, behind)) => (host, format!("$path{behind}{path}")),
        None => (host, path.to_owned()),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let names_host = host.contains("$host");
    let own_path = path.contains("$path");
    if !names_host && !own_path {
        let slash = if scheme.is_some() && !path.starts_with('/') { "/" } else { "" };
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let scheme = scheme.map_or_else(String::new, |scheme| format!("{scheme}://"));
        return ("^.*$".to_owned(), literal(&format!("{scheme}{host}{slash}{path}{query}")));
    }
    let mut groups = 0;
    let mut group = || {
        groups += 1;
        groups
    };
    let mut regex = "^https?://".to_owned();
    let mut replacement = scheme.map_or_else(String::new, |scheme| format!("{scheme}://"));
    if names_host {
        let number = group();
        // a port 80 in the request's Host would make `https://host:80/`; it can be told where the path's slash follows
        regex.push_str(match () {
            () if to_https => "([^/:]*)(?::[0-9]*)?",
            () if strip.is_empty() => "([^/]*?)(?::80)?",
            () => "([^/]*)",
        });
        let (before, behind) = host.split_once("$host").unwrap_or((host, ""));
        replacement.push_str(&literal(before));
        replacement.push_str(&reference(number, behind.chars().next().or(Some('/'))));
        replacement.push_str(&literal(behind));
    } else {
        // HTTP/1.0 may name no host
        regex.push_str("[^/]*");
        replacement.push_str(&literal(host));
    }
    match path.split_once("$path") {
        Some((before, behind)) => {
            if !strip.is_empty() {
                regex.push_str(&format!("(?:{})?", crate::tags::legacy::quote(strip)));
            }
            let lead = match prepend {
                "" if before.is_empty() && !strip.is_empty() => {
                    // what is left of `/s/x` and of `/sx` begins with one slash
                    regex.push_str("/?");
                    "/"
                }
                prepend if before.is_empty() && !prepend.is_empty() && !prepend.starts_with('/') => "/",
                _ => "",
            };
            let own = if names_host && strip.is_empty() { "(/[^?]*)" } else { "([^?]*)" };
            // a `?` with nothing behind it goes, as in Fabio
            regex.push_str(&format!("{own}(\\?.+)?\\??$"));
            let path_group = group();
            let query_group = group();
            replacement.push_str(&literal(before));
            replacement.push_str(lead);
            replacement.push_str(&literal(prepend));
            let next = behind.chars().next().or(query.map(|_| '?'));
            replacement.push_str(&reference(path_group, next));
            replacement.push_str(&literal(behind));
            match query {
                Some(query) => replacement.push_str(&literal(&format!("?{query}"))),
                None => replacement.push_str(&reference(query_group, None)),
            }
        }
        None => {
            regex.push_str("(?:/.*)?$");
            let slash = if scheme.is_some() && !path.starts_with('/') { "/" } else { "" };
            replacement.push_str(&literal(&format!("{slash}{path}")));
            if let Some(query) = query {
                replacement.push_str(&literal(&format!("?{query}")));
            }
        }
    }
    (regex, replacement)
}

/// `$` stands for itself only if it is doubled.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A group's text, in braces only where a word would go on: job files give `${` a meaning of their own.
fn reference(group: usize, next: Option<char>) -> String {
    match next {
        Some(c) if c.is_ascii_alphanumeric() || c == '_' => format!("${{{group}}}"),
        _ => format!("${group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(url: &str, strip: &str, prepend: &str, from: &str) -> Option<String> {
        let (regex, replacement) = expression(url, strip, prepend, false);
        let to = regex::Regex::new(&regex).unwrap().replace_all(from, &*replacement).into_owned();
        (to != from).then_some(to)
    }

    #[test]
    fn locations_are_fabios() {
        let x = "http://old/a/b?c=d";
        for (url, strip, prepend, from, to) in [
            ("https://n$path", "", "", x, "https://n/a/b?c=d"),
            ("https://n/$path", "", "", x, "https://n/a/b?c=d"),
            ("https://n$path", "", "", "http://old/a?", "https://n/a"),
            ("https://n$path", "", "", "http://old/a??b?", "https://n/a??b?"),
            ("https://n:8443/$path", "", "", x, "https://n:8443/a/b?c=d"),
            ("https://n/fixed", "", "", x, "https://n/fixed"),
            ("https://n", "", "", x, "https://n/"),
            ("https://n/fixed?e=f", "", "", x, "https://n/fixed?e=f"),
            ("https://n$path?e=f", "", "", x, "https://n/a/b?e=f"),
            ("https://n$path", "/a", "", x, "https://n/b?c=d"),
            ("https://n$path", "/a", "", "http://old/a", "https://n/"),
            ("https://n$path", "/a", "", "http://old/ab", "https://n/b"),
            ("https://n$path", "/z", "", x, "https://n/a/b?c=d"),
            ("https://n$path", "", "/v", x, "https://n/v/a/b?c=d"),
            ("https://n$path", "", "v", x, "https://n/v/a/b?c=d"),
            ("https://n$path", "/a", "/v", x, "https://n/v/b?c=d"),
            ("https://n/p$path/q", "", "", x, "https://n/p/a/b/q?c=d"),
            ("https://n/p$pathq", "", "", x, "https://n/p/a/bq?c=d"),
            ("https://$host$path", "", "", "http://old:80/x?y", "https://old/x?y"),
            ("https://$host:8443$path", "", "", "http://old/x", "https://old:8443/x"),
            ("https://$host$path", "", "/v", x, "https://old/v/a/b?c=d"),
            ("https://$host$path", "/a", "/v", x, "https://old/v/b?c=d"),
            ("https://$host$path", "/a", "", "http://old.c/ab", "https://old.c/b"),
            ("https://$host/fixed", "", "", x, "https://old/fixed"),
            ("https://www.$host$path", "", "", x, "https://www.old/a/b?c=d"),
            ("https://$hostx$path", "", "", x, "https://oldx/a/b?c=d"),
            ("/new$path", "", "", x, "/new/a/b?c=d"),
            ("https://n/$x", "", "", x, "https://n/$x"),
        ] {
            assert_eq!(moved(url, strip, prepend, from).as_deref(), Some(to), "{url} {strip} {prepend} {from}");
        }
    }

    #[test]
    fn statuses_without_a_middleware_are_refused() {
        let of = |status| PrefixOptions { redirect: Some((status, "https://n/".into())), ..PrefixOptions::default() };
        assert_eq!(redirect(&of(303), ""), None);
        assert_eq!(redirect(&of(308), "").and_then(|r| r.other_status), Some(301));
        let to_https = |url: &str| {
            let options =
                PrefixOptions { to_https: true, redirect: Some((301, url.into())), ..PrefixOptions::default() };
            redirect(&options, "8443").map(|redirect| redirect.options[1].clone())
        };
        assert_eq!(to_https("https://$host$path"), Some(("redirectscheme.port", "8443".to_owned())));
        let literal = Some(("redirectregex.replacement", "https://h:8443$1$2".to_owned()));
        assert_eq!(to_https("https://h$path"), literal);
    }
}
