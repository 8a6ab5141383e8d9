//! One JSON object a line: Caddy's (`request` within, <https://caddyserver.com/docs/logging>), Traefik's
//! (`RequestMethod`, …), and others by the names that people give to the same things.

use super::{Format, Line, ReadError};
use crate::compare::request::{Bad, Recorded, Scheme};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::collections::HashMap;

type Object = Map<String, Value>;

/// Names of objects within, where other loggers put the request.
const WITHIN: [&str; 5] = ["request", "req", "httpRequest", "http_request", "http"];
const METHOD: [&str; 6] = ["method", "request_method", "http_method", "verb", "requestMethod", "RequestMethod"];
const TARGET: [&str; 8] = ["request_uri", "uri", "requestUrl", "url", "target", "path", "request_path", "RequestPath"];
const HOST: [&str; 8] =
    ["host", "http_host", "authority", ":authority", "request_host", "vhost", "server_name", "RequestHost"];
const SCHEME: [&str; 4] = ["scheme", "request_scheme", "x_forwarded_proto", "RequestScheme"];
const REQUEST: [&str; 2] = ["request", "request_line"];
const QUERY: [&str; 4] = ["query", "query_string", "args", "request_query"];

fn object(line: &str) -> Result<Object, Bad> {
    serde_json::from_str(line).map_err(|e| Bad::Json(e.to_string()))
}

/// What a line or document is; nothing where it is no object as a whole.
pub(super) fn shape(line: &str) -> Option<Format> {
    let object = object(line).ok()?;
    let entries = object.get("log").and_then(|log| log.get("entries")).is_some_and(Value::is_array);
    let routers = object.get("routers").is_some_and(Value::is_object);
    Some(if entries {
        Format::Har
    } else if routers {
        Format::Rawdata
    } else if object.contains_key("RequestMethod") || object.contains_key("DownstreamStatus") {
        Format::Traefik
    } else if object.contains_key("logger") && object.contains_key("ts")
        || object.get("request").is_some_and(|request| request.get("uri").is_some() && request.get("proto").is_some())
    {
        Format::Caddy
    } else {
        Format::Json
    })
}

/// What a document over many lines is, by its first names.
pub(super) fn document(text: &str) -> Result<Format, ReadError> {
    let names: HashMap<String, IgnoredAny> =
        serde_json::from_str(text).map_err(|e| ReadError::Document("JSON", e.to_string()))?;
    match (names.contains_key("log"), names.contains_key("routers")) {
        (true, _) => Ok(Format::Har),
        (false, true) => Ok(Format::Rawdata),
        _ => Err(ReadError::Unknown(Bad::Form("`log` of an HTTP archive, or `routers` of `/api/rawdata`"))),
    }
}

/// Caddy's. Its console form has the object behind a few words, and its file has other messages among requests.
pub(super) fn caddy(line: &str) -> Result<Line, Bad> {
    const FORM: &str = "a line of Caddy's access log with `request`";
    let (words, text) = line.split_at(line.find('{').ok_or(Bad::Form(FORM))?);
    if !words.trim().is_empty() && !words.contains("handled request") {
        return Err(Bad::Form(FORM));
    }
    let line = object(text)?;
    let text = |object: &Object, name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    // errors of handlers are logged besides the requests
    if text(&line, "logger").is_some_and(|logger| !logger.starts_with("http.log.access")) {
        return Ok(Line::Other);
    }
    let Some(request) = line.get("request").and_then(Value::as_object) else {
        return if line.contains_key("msg") { Ok(Line::Other) } else { Err(Bad::Form(FORM)) };
    };
    let tls = request.get("tls").is_some_and(Value::is_object);
    let mut headers = Vec::new();
    for (name, values) in request.get("headers").and_then(Value::as_object).into_iter().flatten() {
        for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
            headers.push((name.clone(), value.to_owned()));
        }
    }
    Ok(Line::Request(Recorded {
        method: text(request, "method").ok_or(Bad::Form(FORM))?,
        scheme: Some(if tls { Scheme::Https } else { Scheme::Http }),
        host: text(request, "host"),
        target: text(request, "uri").ok_or(Bad::Form(FORM))?,
        headers,
        ..Recorded::default()
    }))
}

/// Traefik's. Fields of the request stand in `request_NAME` where they are kept.
pub(super) fn traefik(line: &str) -> Result<Line, Bad> {
    const FORM: &str = "a line of Traefik's access log with `RequestMethod` and `RequestPath`";
    let line = object(line)?;
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let (Some(method), Some(path)) = (text("RequestMethod"), text("RequestPath")) else {
        // the process log in the same stream
        return if line.contains_key("message") { Ok(Line::Other) } else { Err(Bad::Form(FORM)) };
    };
    let secure = line.contains_key("TLSVersion").then_some(Scheme::Https);
    let headers = line
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("request_")?.to_owned(), value.as_str()?.to_owned())));
    // `RequestAddr` has the port that the client said
    let host = text("RequestAddr").or_else(|| text("RequestHost")).filter(|host| !matches!(*host, "" | "-"));
    Ok(Line::Request(Recorded {
        method: method.to_owned(),
        scheme: text("RequestScheme").and_then(Scheme::named).or(secure),
        host: host.map(str::to_owned),
        target: path.to_owned(),
        headers: headers.collect(),
        ..Recorded::default()
    }))
}

fn is_nothing(value: &Value) -> bool {
    matches!(value.as_str(), Some("" | "-"))
}

/// Others'.
pub(super) fn any(line: &str) -> Result<Line, Bad> {
    const FORM: &str = "a JSON object with the method and the target of a request";
    let line = object(line)?;
    let within = WITHIN.iter().find_map(|name| line.get(*name).and_then(Value::as_object));
    let text = |names: &[&str]| {
        let of = |object: &Object| names.iter().find_map(|name| object.get(*name)?.as_str().map(str::to_owned));
        within.and_then(of).or_else(|| of(&line)).filter(|text| !matches!(text.as_str(), "" | "-"))
    };
    let (mut method, mut target) = (text(&METHOD), text(&TARGET));
    if let Some(request) = text(&REQUEST) {
        // `GET /x HTTP/1.1`; a blank in the target stands where it was sent
        if let Some((first, rest)) = request.split_once(' ') {
            method = method.or_else(|| Some(first.to_owned()));
            let path = rest
                .rsplit_once(' ')
                .filter(|(_, version)| version.starts_with("HTTP/"))
                .map_or(rest, |(path, _)| path);
            target = target.or_else(|| Some(path.to_owned()));
        }
    }
    let (Some(method), Some(mut target)) = (method, target) else {
        // a connection without a request has the names, and nothing in them
        let named = |names: &[&str]| names.iter().any(|name| line.get(*name).is_some_and(is_nothing));
        return if named(&METHOD) || named(&REQUEST) { Ok(Line::Other) } else { Err(Bad::Form(FORM)) };
    };
    if let Some(query) = text(&QUERY).filter(|_| !target.contains('?')) {
        target = format!("{target}?{}", query.trim_start_matches('?'));
    }
    let header = within.and_then(|w| w.get("headers")).and_then(Value::as_object);
    let host = text(&HOST).or_else(|| header?.get("host")?.as_str().map(str::to_owned));
    let scheme = text(&SCHEME).and_then(|scheme| Scheme::named(&scheme));
    Ok(Line::Request(Recorded { method, scheme, host, target, ..Recorded::default() }))
}
