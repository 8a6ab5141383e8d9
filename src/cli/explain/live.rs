//! A running instance is asked: `/api/explain` of its admin entry point.

use super::{Asked, Failed, Told};
use crate::cli::admin;
use crate::config::Input;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::io::ErrorKind;
use std::time::Duration;

/// Longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks the instance at `url`, else where the configuration has it.
pub(super) fn ask(url: Option<&str>, config_file: Option<&str>, asked: &Asked) -> Result<Told, Failed> {
    let authority = match (url, config_file) {
        (Some(url), _) => admin::of_url(url).map_err(Failed::Usage)?,
        (None, Some(file)) => {
            admin::configured(&Input::of_process(vec![format!("--configFile={file}")])).map_err(Failed::Config)?
        }
        // what another program's file says is no reason not to ask where instances mostly are
        (None, None) => admin::configured(&Input::of_process(Vec::new())).unwrap_or_else(|_| admin::DEFAULT.to_owned()),
    };
    let body = match asked {
        Asked::Request(q) => {
            json!({"method": q.method, "url": q.target, "scheme": q.scheme, "headers": q.headers, "from": q.remote})
        }
        Asked::Service(name) => json!({"service": name}),
    };
    match asked {
        Asked::Request(_) => Ok(Told::Request(Box::new(read(&authority, &body.to_string())?))),
        Asked::Service(_) => Ok(Told::Service(read(&authority, &body.to_string())?)),
    }
}

fn read<T: DeserializeOwned>(authority: &str, body: &str) -> Result<T, Failed> {
    let failed = |what: String| Failed::Text(format!("the instance at http://{authority} {what}"));
    let (status, text) = admin::ask(authority, "/api/explain", Some(body), LIMIT).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::ConnectionRefused => {
                "; is it running there? Name it with `--admin URL`, or work offline with `--services FILE`"
            }
            _ => "",
        };
        failed(format!("cannot be asked: {error}{hint}"))
    })?;
    match status {
        200 => serde_json::from_str(&text)
            .map_err(|error| failed(format!("gave an answer that this version cannot read: {error}"))),
        404 => Err(failed("knows no `/api/explain`: it is another program, or an older version".to_owned())),
        _ => {
            let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let message = said.get("message").and_then(serde_json::Value::as_str).unwrap_or(&text).to_owned();
            Err(failed(format!("refused to answer ({status}): {message}")))
        }
    }
}
