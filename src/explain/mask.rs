//! What may be secret in a definition is shown as `***`: users, passwords, tokens, keys, by the names of
//! their options.

use serde_json::Value;

/// Parts of names whose values are not shown.
const SECRET: [&str; 9] =
    ["user", "password", "secret", "token", "authorization", "apikey", "api-key", "credential", "cookie"];

/// A definition without what may be secret in it. What belongs to a plugin is hidden whole.
pub fn masked(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| {
                let value = if is_secret(&name) { hidden(&value) } else { masked(value) };
                (name, value)
            })
            .collect(),
        Value::Array(list) => list.into_iter().map(masked).collect(),
        other => other,
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // a field's name in `forwardAuth` or a switch such as `removeHeader` says nothing
    SECRET.iter().any(|word| name.contains(word)) && !name.ends_with("file") || name == "key" || name == "plugin"
}

fn hidden(value: &Value) -> Value {
    match value {
        Value::Bool(_) | Value::Null => value.clone(),
        Value::Array(list) => list.iter().map(hidden).collect(),
        _ => Value::from("***"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let shown = masked(json!({
            "basicAuth": {"users": ["a:b"], "usersFile": "/x", "removeHeader": true},
            "headers": {"customRequestHeaders": {"Authorization": "Bearer x", "X-Env": "prod"}},
            "forwardAuth": {"address": "http://a", "tls": {"key": "k", "ca": "c"}},
            "list": [{"token": "t"}], "plugin": {"x": {"y": "z"}},
        }));
        assert_eq!(
            shown,
            json!({
                "basicAuth": {"users": ["***"], "usersFile": "/x", "removeHeader": true},
                "headers": {"customRequestHeaders": {"Authorization": "***", "X-Env": "prod"}},
                "forwardAuth": {"address": "http://a", "tls": {"key": "***", "ca": "c"}},
                "list": [{"token": "***"}], "plugin": "***",
            })
        );
    }
}
