//! What a conversion has to say: refusals with what to do by hand, and remarks on what differs, in stable codes
//! (fabio-to-traefik's list of what a tool must refuse or warn about).

use super::holes::{Unfit, has};
use super::options::Scheme;
use super::set::{Place, Service, Tag};
use crate::diagnostic::{Diagnostic, Origin};
use crate::tags::legacy::{Prefix, TcpRoute};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Strategies that Traefik has too (<https://doc.traefik.io/traefik/reference/routing-configuration/http/load-balancing/service>).
const OF_TRAEFIK: [&str; 4] = ["wrr", "p2c", "hrw", "leasttime"];

/// Something to say of a tag, without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    code: Arc<str>,
    message: String,
    help: Option<String>,
}

impl Told {
    fn new(code: &str, message: impl Into<String>, help: &str) -> Self {
        let help = (!help.is_empty()).then(|| help.to_owned());
        Self { code: code.into(), message: message.into(), help }
    }

    /// With the place of a tag (or of the service).
    pub fn diagnostic(&self, error: bool, service: &Service, tag: Option<usize>) -> Diagnostic {
        let tag = tag.and_then(|at| service.tags.get(at));
        let make = if error { Diagnostic::error } else { Diagnostic::warning };
        let place = tag.map_or(&service.place, |tag| &tag.place);
        let mut made = make(&self.code, self.message.clone()).with_origin(Origin {
            tag: tag.map(|tag| written(tag).into()),
            service: Some(service.name.clone()),
            namespace: Some(service.namespace.clone()).filter(|n| !n.is_empty()),
            ..origin(place)
        });
        made.help.clone_from(&self.help);
        made
    }
}

fn origin(place: &Place) -> Origin {
    Origin {
        file: Some(place.file.clone()).filter(|file| !file.is_empty()),
        line: Some(place.line).filter(|line| *line > 0),
        column: Some(place.column).filter(|column| *column > 0),
        ..Origin::default()
    }
}

/// A tag as its document has it.
pub fn written(tag: &Tag) -> String {
    let mut holes = tag.holes.iter();
    let mut parts = tag.text.split(Tag::HOLE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(holes.next().map_or("…", |hole| hole));
        out.push_str(part);
    }
    out
}

/// Its document cannot be edited.
pub fn fixed() -> Told {
    Told::new(
        "not_editable",
        "the document that it stands in cannot be edited",
        "write the new tags by hand, of all of its route at once",
    )
}

/// It stands in no list that can be edited.
pub fn beyond(why: &str) -> Told {
    let help = "write them as a list of texts, or write the new tags by hand, of all of its route at once";
    Told::new("tags_by_expression", why, help)
}

/// Why a tag with expressions of the document is refused.
pub fn unfit(unfit: Unfit, tag: &Tag) -> Told {
    let hole = |at: usize| tag.holes.get(at).map_or("", |hole| &**hole);
    match unfit {
        Unfit::Broken => Told::new("bad_tag", "the tag holds the character U+FFFC", "remove it"),
        Unfit::Many => Told::new("expression", "the tag has too many expressions", "write it out"),
        Unfit::Varies(at) => Told::new(
            "expression",
            format!(
                "`{}` may be another one for each instance, and each instance would define the same router otherwise",
                hole(at)
            ),
            "write the `traefik.*` tags by hand, with the expression in the router's and service's names too",
        ),
        Unfit::Open(at) => Told::new(
            "expression",
            format!("whether `{}` is a host alone or has a path too cannot be seen from here", hole(at)),
            "put a `/` behind the host outside of the expression, or write the `traefik.*` tags by hand",
        ),
    }
}

/// What the reader of a tag has to say, in a conversion's words.
pub fn of_tag(problem: &Diagnostic, told: impl Fn(&str) -> String) -> Told {
    let message = told(&problem.message);
    let message = message.strip_suffix(", so the tag routes nothing").unwrap_or(&message);
    let message = message.strip_suffix("; the route stays and lets nobody in").unwrap_or(message);
    let help = match &*problem.code {
        _ if message.contains("is not `ip:") || message.contains("`allow=` and `deny=`") => {
            "Fabio lets everybody in here: decide who may come in and write the rule anew, or remove it"
        }
        "no_entry_point" => "name the entry point of that port (`--configFile`), or drop the port from the tag",
        "bad_host" | "bad_glob" => "the tag has never routed anything: mend the host or remove the tag",
        "bad_value" if message.contains("redirect status") => {
            "Fabio passes the request on to that URL's host; write what is meant by hand"
        }
        "bad_value" if message.contains("redirect to the instance itself") => "remove `proto=` or `redirect=`",
        "bad_route" | "bad_port" | "bad_path" | "bad_value" | "bad_site" => "mend the tag or remove it",
        _ => "",
    };
    Told { help: (!help.is_empty()).then(|| help.to_owned()), ..Told::new(&problem.code, message, "") }
}

/// What of a reader's remark is one of a conversion, too: that something is not served *here* is not.
pub fn beside(problem: &Diagnostic, told: Told) -> Option<Told> {
    match &*problem.code {
        "not_served" if problem.message.contains("`register=`") => Some(Told::new(
            "register",
            "`register=` made Fabio register itself under that name; no tag does that",
            "make a DNS record or a Consul service of that name",
        )),
        "not_served" => None,
        "percent_in_path" => Some(Told { help: Some("write the path decoded, if it is to match".to_owned()), ..told }),
        _ => Some(told),
    }
}

/// A tag that nothing answers to.
pub fn routes_nothing() -> Told {
    Told::new("dead_route", "the tag routes nothing", "remove it")
}

/// The service is switched off.
pub fn switched_off() -> Told {
    Told::new(
        "switched_off",
        "the service has `traefik.enable=false`, which hides it from Traefik and rust-lb; Fabio does not know that tag and routes it",
        "remove `traefik.enable=false` if the service is to be routed, or else the old tag",
    )
}

/// As [`leading_blank`] of the format's notes.
pub fn leading_blank() -> Told {
    Told::new(
        "leading_blank",
        "a blank stands before the tag: Fabio routes it only if another tag of the service begins with the prefix",
        "",
    )
}

/// The same route is not converted because of another tag.
pub fn because_of(told: &Told, service: &Service) -> Told {
    let whose = if service.name.is_empty() { String::new() } else { format!(" of service `{}`", service.name) };
    Told {
        code: "half_route".into(),
        message: format!("the same route has a tag{whose} that cannot be converted ({}): {}", told.code, told.message),
        help: Some("mend that one first".to_owned()),
    }
}

/// An option whose value is an expression, where what it becomes depends on that value.
pub fn bound(text: &str) -> Option<Told> {
    let free = ["strip=", "prepend=", "host=", "redirect="];
    let is_bound = |option: &&str| has(option) && !free.iter().any(|name| option.starts_with(name));
    let option = text.split(' ').skip(1).find(is_bound)?;
    let name = option.split('=').next().filter(|name| !has(name)).unwrap_or_default();
    Some(Told::new(
        "expression",
        format!("the value of `{name}=` is an expression, and what it becomes depends on it"),
        "write the value out, or the `traefik.*` tags by hand",
    ))
}

/// What a tag asks for that no `traefik.*` tag can say.
pub fn unfaithful(
    prefix: &Prefix,
    text: &str,
    schemes: &BTreeMap<String, Scheme>,
    datacenter: Option<&str>,
) -> Option<Told> {
    let options = &prefix.options;
    let route = text.split(' ').next().unwrap_or_default();
    let variable = ["$DC", "${DC}"].iter().any(|v| route.contains(v)) && route.contains('/');
    if variable && datacenter.is_none() {
        return Some(Told::new(
            "datacenter",
            "`$DC` is the name of Fabio's datacenter, which is not known here",
            "write the name in its place",
        ));
    }
    if options.host.starts_with('[') && options.host.contains(':') {
        return Some(Told::new(
            "bad_host",
            format!("`{}` is a glob class in Fabio, it never matched that IPv6 address", options.host),
            "write the `traefik.*` tags by hand, if the address is to be served",
        ));
    }
    if options.closed {
        return Some(Told::new(
            "bad_value",
            "the access rule cannot be read, and Fabio lets everybody in",
            "decide who may come in and write the rule anew, or remove it",
        ));
    }
    if !options.auth.is_empty() && !schemes.contains_key(&*options.auth) {
        return Some(Told::new(
            "unknown_auth",
            format!("the users of the scheme `{}` stand in Fabio's configuration, not in tags", options.auth),
            "give it with `--fabio-config`, or write a `basicauth` middleware by hand",
        ));
    }
    if let Some((status, _)) = &options.redirect
        && !matches!(status, 301 | 302 | 307 | 308)
    {
        return Some(Told::new(
            "redirect_status",
            format!("no middleware redirects with {status}"),
            "choose 301 or 302, or redirect in the service itself",
        ));
    }
    let list = [("strip", &options.strip), ("auth", &options.auth)];
    if let Some((name, _)) = list.iter().find(|(_, value)| value.contains(',')) {
        return Some(Told::new(
            "comma",
            format!("`{name}=` has a comma, which separates values in `traefik.*` tags"),
            "choose a path without one",
        ));
    }
    if text.contains('`') {
        return Some(Told::new(
            "quote",
            "a back-tick cannot stand in a rule without double quotes, which Fabio refuses",
            "",
        ));
    }
    None
}

/// The redirect has no form.
pub fn no_redirect() -> Told {
    Told::new("redirect_status", "no middleware redirects with this status", "choose 301 or 302")
}

/// A new tag would break Fabio.
pub fn double_quote(line: &str) -> Told {
    let message = format!("the new tag `{line}` would have a double quote, and Fabio refuses its whole table for one");
    Told::new("double_quote", message, "choose a path or value without it")
}

/// A tag that stays would.
pub fn quote_beside() -> Told {
    Told::new(
        "double_quote",
        "this tag has a double quote: as long as Fabio reads the service, it refuses its whole table for it",
        "write rules with back-ticks",
    )
}

/// The service has another definition of the same name.
pub fn says_otherwise(option: &str, old: &str, service: &str) -> Told {
    let message = format!("service `{service}` has the tag `{old}`, but the route needs another value of `{option}`");
    Told::new("says_otherwise", message, "remove that tag, or the old one if it is no longer true")
}

/// Tags of one route ask for different things.
pub fn disagree(texts: (&str, &str), services: (&str, &str)) -> Told {
    Told::new(
        "pool_conflict",
        format!(
            "`{}` of service `{}` and `{}` of service `{}` are one route with different options; in Traefik a route has one set of them",
            texts.0, services.0, texts.1, services.1
        ),
        "make their options equal (weights apart), or give them different prefixes",
    )
}

/// What of the service is not converted goes dead where new tags count alone.
pub fn left_beside() -> Told {
    Told::new(
        "left_beside",
        "some old tags of the service stay beside the new ones: rust-lb reads them only with `legacyTags: merge`, Traefik not at all",
        "mend them before the switch",
    )
}

/// A tag with holes was converted.
pub fn with_holes() -> Told {
    Told::new(
        "expression",
        "expressions are taken for plain text without wildcards; a route that another file writes with the same expression is another route",
        "",
    )
}

/// Weights of which some are free.
pub fn mixed_weights(services: &[(u32, Vec<Option<f64>>)], weights: &[u32]) -> Told {
    let told: Vec<String> = services
        .iter()
        .zip(weights)
        .map(|((count, fixed), weight)| {
            let fixed: Vec<String> = fixed.iter().map(|w| w.map_or("free".to_owned(), |w| w.to_string())).collect();
            format!("{count} × {} becomes {weight}", fixed.join("+"))
        })
        .take(10)
        .collect();
    Told::new(
        "mixed_weights",
        format!(
            "some weights of the route are fixed and some are free: the shares hold for the instances of now ({}); in Fabio a free instance gets (1 - sum of the fixed) / number of the free, in Traefik weight / sum of all weights",
            told.join(", ")
        ),
        "convert anew after scaling, or give every service of the route a weight",
    )
}

/// Two host patterns fit one name.
pub fn overlap(one: &str, other: &str, name: &str) -> Told {
    Told::new(
        "overlapping_globs",
        format!("`{one}` and `{other}` both fit `{name}`: which goes first is Fabio's order as far as it is known"),
        "check a name that both fit",
    )
}

/// What differs for a tag of Fabio's.
pub fn of_prefix(prefix: &Prefix, text: &str, schemes: &BTreeMap<String, Scheme>) -> Vec<Told> {
    let options = &prefix.options;
    let mut all = Vec::new();
    let mut tell = |code: &str, message: &str, help: &str| all.push(Told::new(code, message, help));
    if !options.allow.is_empty() || !options.deny.is_empty() {
        tell(
            "forwarded_for",
            "Fabio also tests every address in X-Forwarded-For; Traefik's lists look at the client's own address alone",
            "",
        );
    }
    if !options.deny.is_empty() {
        tell("deny_list", "there is no deny list in Traefik: a second router takes these clients and answers 403", "");
    }
    if let Some((status, url)) = &options.redirect {
        let other = match status {
            307 => "a GET gets 302 instead of 307",
            308 => "a GET gets 301 instead of 308",
            301 => "methods other than GET get 308 instead of 301",
            _ => "methods other than GET get 307 instead of 302",
        };
        tell("redirect_status", other, "");
        if url.contains("$host") && !options.to_https {
            tell("redirect_port", "a port 80 in the request's Host is not taken along to the target", "");
        }
    } else if !options.strip.is_empty() && !options.prepend.is_empty() {
        tell(
            "strip_prepend",
            "of a path of which nothing is left, Fabio sends the new prefix with a slash behind it",
            "",
        );
    }
    if !options.auth.is_empty() && schemes.contains_key(&*options.auth) {
        tell("auth_file", "the proxy has to be able to read the file of users at the same path as Fabio", "");
    }
    let proto = text.split_whitespace().filter_map(|o| o.strip_prefix("proto=")).next_back().unwrap_or_default();
    if prefix.scheme == "h2c" || proto == "grpcs" {
        tell(
            "grpc",
            "in Fabio a host route of gRPC was found by the metadata key `dsthost` alone; now it is by its name. `strip=`, `auth=`, `allow=` and `deny=` now hold for it",
            "",
        );
    }
    if let Some(strategy) =
        prefix.manner.strategy.as_ref().filter(|strategy| !OF_TRAEFIK.contains(&&*strategy.as_str()))
    {
        let message = format!("`{}` is a strategy of rust-lb alone: Traefik serves nothing by it", strategy.as_str());
        tell("own_strategy", &message, "for Traefik, choose `p2c` or `round_robin`");
    }
    if prefix.manner.unverified {
        tell(
            "skip_verify",
            "that certificates are not verified cannot be said in tags: the route is served only with a serversTransport `skip` in a file",
            "add `http.serversTransports.skip.insecureSkipVerify: true` to the file provider's file",
        );
    }
    if prefix.scheme == "https" && !matches!(&*options.send_host, "" | "dst") {
        tell(
            "sni_name",
            "Fabio also asks for the name of `host=` in the TLS handshake and verifies it",
            "add a serversTransport with `serverName`, if the server needs it",
        );
    }
    if !options.send_host.is_empty() && options.redirect.is_none() {
        tell("forwarded_host", "X-Forwarded-Host is now the client's Host; Fabio sent the new one", "");
    }
    if text.contains('"') {
        tell("double_quote", "Fabio refuses its whole table for the double quote in this tag", "");
    }
    all
}

/// A port of the tag that only Fabio is known to listen on.
pub fn entry_point_needed(name: &str, port: &str) -> Told {
    Told::new(
        "entry_point_needed",
        format!("the port {port} needs an entry point; entry points are not made by tags"),
        &format!("add `entryPoints.{name}.address: :{port}` to the static configuration"),
    )
}

/// A port with a slash behind it: the port of the service.
pub fn service_port(port: u16) -> Told {
    Told::new(
        "service_port",
        format!(
            "`:{port}/` is taken for the port of the service; plain Fabio routes nothing by it and goes to the registered port"
        ),
        &format!(
            "if all TCP connections to the port {port} are meant, write `:{port} proto=tcp`; if the registered port is right, remove the tag"
        ),
    )
}

/// The port of a service of which some tags stay.
pub fn port_of_a_rest() -> Told {
    Told::new("half_route", "other old tags of the service stay, and need this one", "mend them first")
}

/// Another port of the service.
pub fn other_port(first: u16) -> Told {
    Told::new("bad_port", format!("the port of the service is said to be {first} already"), "remove one of both")
}

/// What a TCP route needs.
pub fn of_tcp<'a>(route: &TcpRoute, known: impl Iterator<Item = &'a Arc<str>>) -> Vec<Told> {
    let mut all = Vec::new();
    let known: Vec<&Arc<str>> = known.collect();
    if let Some(missing) = route.entry_points.iter().find(|e| !known.contains(e)) {
        all.push(entry_point_needed(missing, missing.rsplit('-').next().unwrap_or_default()));
    }
    if route.rule.starts_with("HostSNIRegexp") {
        all.push(Told::new("dead_in_fabio", "a pattern never matched a TLS name in Fabio; now it does", ""));
    }
    if !route.deny.is_empty() {
        all.push(Told::new(
            "deny_list",
            "there is no deny list in Traefik: a second router ends these connections",
            "",
        ));
    }
    all
}
