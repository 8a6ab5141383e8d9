//! The providers: where the catalogs' agents are, with which rights they are asked and what they expose;
//! which files are read.

use super::merge::{Merged, View};
use super::settle::SetUp;
use super::value::shown;
use super::*;
use crate::diagnostic::Diagnostic;

const NOMAD_ADDRESS: &str = "http://127.0.0.1:4646";
const CONSUL_ADDRESS: &str = "http://127.0.0.1:8500";

/// Traefik's default rule.
const TRAEFIKS_RULE: &str = "Host(`{{ normalize .Name }}`)";

/// `providers.nomad`, where it is on.
pub(super) fn nomad(
    merged: &Merged,
    set_up: &SetUp,
    suffix: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<NomadProvider> {
    merged.is_on(&["providers", "nomad"]).then(|| {
        let view = merged.at(&["providers", "nomad"]);
        NomadProvider {
            common: common(merged, "nomad", NOMAD_ADDRESS, set_up.traefiks_nomad, suffix, diagnostics),
            namespaces: view.list("namespaces"),
            region: view.text("endpoint.region"),
            allocation_checks: view.bool("allocationChecks"),
        }
    })
}

/// `providers.consulCatalog`, where it is on.
pub(super) fn consul(
    merged: &Merged,
    set_up: &SetUp,
    suffix: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ConsulProvider> {
    merged.is_on(&["providers", "consulCatalog"]).then(|| {
        let view = merged.at(&["providers", "consulCatalog"]);
        ConsulProvider {
            common: common(merged, "consulCatalog", CONSUL_ADDRESS, set_up.traefiks_consul, suffix, diagnostics),
            namespaces: view.list("namespaces"),
            partition: view.text("partition"),
            datacenter: view.text("endpoint.datacenter"),
            strict_checks: view.list("strictChecks"),
            watch_connections: view.size("watchConnections"),
        }
    })
}

/// `providers.file`, where it is on.
pub(super) fn files(merged: &Merged, diagnostics: &mut Vec<Diagnostic>) -> Option<FileProvider> {
    if !merged.is_on(&["providers", "file"]) {
        return None;
    }
    let view = merged.at(&["providers", "file"]);
    let watch = view.bool("watch");
    match (view.path_of("directory"), view.path_of("filename")) {
        (Some(path), other) => {
            if other.is_some() {
                let message = "`providers.file.filename` does nothing beside `directory`, here as in Traefik";
                diagnostics.push(Diagnostic::warning("file_unused", message).with_origin(view.origin("filename")));
            }
            Some(FileProvider { path, is_directory: true, watch })
        }
        (None, Some(path)) => Some(FileProvider { path, is_directory: false, watch }),
        (None, None) => {
            let message = "`providers.file` names no `filename` and no `directory`";
            let origin = merged.origin(&["providers", "file"]);
            diagnostics.push(Diagnostic::error("no_file", message).with_origin(origin));
            None
        }
    }
}

/// `providers.rest`, where it is on.
pub(super) fn rest(
    merged: &Merged,
    token_file: Option<&PathBuf>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RestProvider> {
    if !merged.is_on(&["providers", "rest"]) {
        return None;
    }
    let insecure = merged.at(&["providers", "rest"]).bool("insecure");
    let warning = match (insecure, token_file) {
        (true, _) => Some((
            "rest_insecure",
            "`providers.rest.insecure`: whoever reaches the admin entry point can replace routes",
            "set `rustLb.api.tokenFile` instead",
        )),
        (false, None) => Some((
            "rest_without_token",
            "`providers.rest` takes nothing, since writes on the admin API are switched off",
            "set `rustLb.api.tokenFile`",
        )),
        (false, Some(_)) => None,
    };
    if let Some((code, message, help)) = warning {
        let origin = merged.origin(&["providers", "rest"]);
        diagnostics.push(Diagnostic::warning(code, message).with_origin(origin).with_help(help));
    }
    Some(RestProvider { insecure })
}

fn common(
    merged: &Merged,
    name: &str,
    default_address: &str,
    traefiks: bool,
    suffix: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> CatalogCommon {
    let view = merged.at(&["providers", name]);
    let scheme = if name == "consulCatalog" { view.text("endpoint.scheme") } else { String::new() };
    let endpoint = endpoint(&view.text("endpoint.address"), &scheme, default_address).unwrap_or_else(|message| {
        let message = format!("`providers.{name}.endpoint.address`: {message}");
        diagnostics.push(Diagnostic::error("bad_endpoint", message).with_origin(view.origin("endpoint.address")));
        String::new()
    });
    let tls = ClientTls {
        ca: view.path_of("endpoint.tls.ca"),
        cert: view.path_of("endpoint.tls.cert"),
        key: view.path_of("endpoint.tls.key"),
        server_name: Some(view.text("endpoint.tls.serverName")).filter(|name| !name.is_empty()),
        insecure_skip_verify: view.bool("endpoint.tls.insecureSkipVerify"),
    };
    for (one, other, has, lacks) in [("cert", "key", &tls.cert, &tls.key), ("key", "cert", &tls.key, &tls.cert)] {
        if has.is_some() && lacks.is_none() {
            let message = format!("`providers.{name}.endpoint.tls` has a `{one}` but no `{other}`");
            let origin = view.origin(&format!("endpoint.tls.{one}"));
            diagnostics.push(Diagnostic::error("half_a_pair", message).with_origin(origin));
        }
    }
    if endpoint.starts_with("http://") {
        let files = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
        if let Some((key, _)) = files.into_iter().find(|(_, file)| file.is_some()) {
            let message = format!("`providers.{name}.endpoint.tls` does nothing: `{endpoint}` is plain HTTP");
            let origin = view.origin(&format!("endpoint.tls.{key}"));
            let help = "write `https://` where TLS is meant";
            diagnostics.push(Diagnostic::warning("tls_unused", message).with_origin(origin).with_help(help));
        }
    }
    if !view.bool("watch") {
        let message = format!("`providers.{name}.watch`: changes are always waited for; `false` does nothing");
        diagnostics.push(Diagnostic::warning("watch_is_on", message).with_origin(view.origin("watch")));
    }
    let said_rule = view.text("defaultRule");
    let suffix_said = merged.at(&[]).entry("rustLb.domainSuffix").is_some();
    CatalogCommon {
        endpoint,
        tls,
        token: token(&view),
        stale: view.bool("stale"),
        exposed_by_default: view.bool("exposedByDefault"),
        default_rule: match (said_rule.is_empty(), traefiks && !suffix_said) {
            (false, _) => said_rule,
            (true, true) => TRAEFIKS_RULE.to_owned(),
            (true, false) => format!("Host(`{{{{ normalize .Name }}}}.{suffix}`)"),
        },
        prefix: view.text("prefix"),
        constraints: view.text("constraints"),
        legacy_tags: legacy_tags(merged, name),
    }
}

/// A token file and a token: the one said later counts; said together, the file, as in Consul's
/// client (<https://pkg.go.dev/github.com/hashicorp/consul/api#NewClient>).
fn token(view: &View<'_>) -> Token {
    let text = view.text("endpoint.token");
    let layer = |key: &str| view.entry(key).map(|entry| entry.layer);
    match view.path_of("endpoint.tokenFile") {
        Some(file) if text.is_empty() || layer("endpoint.tokenFile") >= layer("endpoint.token") => Token::File(file),
        _ if text.is_empty() => Token::None,
        _ => Token::Value(Secret::new(text)),
    }
}

/// What is said for one catalog counts before what `rustLb.legacyTags` says for all.
fn legacy_tags(merged: &Merged, provider: &str) -> LegacyTags {
    let (own, all) = (merged.at(&["providers", provider, "legacyTags"]), merged.at(&["rustLb", "legacyTags"]));
    let view = |key: &str| if own.entry(key).is_some() { &own } else { &all };
    LegacyTags {
        mode: match view("mode").text("mode").as_str() {
            "merge" => LegacyMode::Merge,
            "off" => LegacyMode::Off,
            _ => LegacyMode::Fallback,
        },
        prefix: view("prefix").text("prefix"),
        matcher: view("matcher").text("matcher"),
        glob_disabled: view("globDisabled").bool("globDisabled"),
        service_status: view("serviceStatus").list("serviceStatus"),
        all_checks: view("checksRequired").text("checksRequired") == "all",
        dialects: view("dialects")
            .list("dialects")
            .iter()
            .filter_map(|dialect| match dialect.as_str() {
                "traefik" => Some(Dialect::Traefik),
                "urlprefix" => Some(Dialect::Urlprefix),
                "site" => Some(Dialect::Site),
                _ => None,
            })
            .collect(),
    }
}

/// The address of an agent with its scheme. `https` said as the scheme counts over `http://` in the
/// address, as in Consul's client.
fn endpoint(said: &str, scheme: &str, default: &str) -> Result<String, String> {
    let text = said.trim().trim_end_matches('/');
    let text = if text.is_empty() { default } else { text };
    let wrong = |what: &str| {
        // A token may have been put into the query.
        let (text, cut) = text.split_once('?').map_or((text, ""), |(text, _)| (text, "?***"));
        format!("expected `http://host:port`, `https://host:port` or `unix:///path`, got `{}{cut}`{what}", shown(text))
    };
    if let Some(path) = text.strip_prefix("unix://") {
        return match path.starts_with('/') {
            true => Ok(text.to_owned()),
            false => Err(wrong(", whose path does not begin with `/`")),
        };
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((own, rest)) if own.eq_ignore_ascii_case("http") => {
            (if scheme == "https" { "https" } else { "http" }, rest)
        }
        Some((own, rest)) if own.eq_ignore_ascii_case("https") => ("https", rest),
        Some(_) => return Err(wrong(", whose scheme is another")),
        None if text.starts_with('/') => return Err(wrong("; write `unix://` before a path")),
        None => (if scheme.is_empty() { "http" } else { scheme }, text),
    };
    let whole = format!("{scheme}://{rest}");
    let uri: ::http::Uri = whole.parse().map_err(|_| wrong(""))?;
    let authority = uri.authority().map_or("", |a| a.as_str());
    if authority.contains('@') {
        return Err(wrong("; say a token in its own key, not in the address"));
    }
    let (host, port) = crate::model::split_port(authority);
    if host.is_empty() || port.is_some_and(|port| port.parse::<u16>().map_or(true, |n| n == 0)) {
        return Err(wrong(", which has no host or a port out of range"));
    }
    if uri.query().is_some() {
        return Err(wrong(", which has a query"));
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (said, scheme, want) in [
            ("", "", "http://default:1"),
            ("http://127.0.0.1:4646/", "", "http://127.0.0.1:4646"),
            ("consul.example:8500", "", "http://consul.example:8500"),
            ("consul.example:8501", "https", "https://consul.example:8501"),
            ("http://consul.example:8501", "https", "https://consul.example:8501"),
            ("https://nomad.example", "", "https://nomad.example"),
            ("unix:///secrets/api.sock", "https", "unix:///secrets/api.sock"),
            ("http://[::1]:4646", "", "http://[::1]:4646"),
            ("http://host:1/prefix", "", "http://host:1/prefix"),
        ] {
            assert_eq!(endpoint(said, scheme, "http://default:1").as_deref(), Ok(want), "{said}");
        }
        for said in [
            "ftp://x",
            "http://",
            "/run/x.sock",
            "unix://x",
            "http://h:99999",
            "http://h:0",
            "http://a b",
            "http://h/?q",
            "::",
        ] {
            assert!(endpoint(said, "", "http://default:1").is_err(), "{said}");
        }
        let refused = endpoint("http://me:hunter2@h:1", "", "").unwrap_err();
        assert!(!refused.contains("hunter2"), "{refused}");
        let refused = endpoint("http://h:8500/?token=hunter2", "", "").unwrap_err();
        assert!(!refused.contains("hunter2") && refused.contains("which has a query"), "{refused}");
    }
}
