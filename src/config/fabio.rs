//! What Fabio has as flags of its own: the schemes of `auth=`, given as an htpasswd file or as in
//! Fabio's `proxy.auth` (`name=team;type=basic;file=/etc/htpasswd;realm=Team;refresh=30s`,
//! <https://fabiolb.net/ref/proxy.auth/>).

use super::merge::Merged;
use super::*;
use crate::diagnostic::Diagnostic;

/// The schemes by name.
pub(super) fn fabio_auth(merged: &Merged, diagnostics: &mut Vec<Diagnostic>) -> BTreeMap<String, FabioAuth> {
    let mut schemes = BTreeMap::new();
    for name in merged.said_below(&["rustLb", "fabio", "auth"]) {
        let view = merged.at(&["rustLb", "fabio", "auth", &name]);
        match scheme(&name, &view.text("file"), &view.text("realm")) {
            Ok(scheme) => drop(schemes.insert(name, scheme)),
            Err(message) => {
                let message = format!("`rustLb.fabio.auth.{name}`: {message}");
                diagnostics.push(Diagnostic::error("bad_value", message).with_origin(view.origin("file")));
            }
        }
    }
    schemes
}

/// Reads one: a path, or options separated by `;`. `refresh` needs no effect, since files are looked
/// at every second.
fn scheme(name: &str, text: &str, realm: &str) -> Result<FabioAuth, String> {
    let mut scheme = FabioAuth { file: PathBuf::new(), realm: realm.to_owned() };
    let said = |key: &str| text.split(';').any(|part| part.trim().split_once('=').is_some_and(|(k, _)| k == key));
    if said("type") || said("file") || said("name") {
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim_matches('"');
            match key {
                "file" => scheme.file = value.into(),
                "realm" if realm.is_empty() => scheme.realm = value.to_owned(),
                "realm" | "refresh" => {}
                "type" if value == "basic" => {}
                "type" => return Err(format!("expected the type `basic`, got `{value}`")),
                "name" if value == name => {}
                "name" => return Err(format!("it says `name={value}`")),
                _ => return Err(format!("expected `file`, `realm`, `type`, `name` or `refresh`, got `{key}`")),
            }
        }
    } else {
        scheme.file = text.into();
    }
    if scheme.file.as_os_str().is_empty() {
        return Err("expected an htpasswd file, got nothing".to_owned());
    }
    if scheme.realm.is_empty() {
        name.clone_into(&mut scheme.realm);
    }
    Ok(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_or_fabios_text() {
        let read = |text, realm| scheme("team", text, realm).map(|s| (s.file.display().to_string(), s.realm));
        let is = |file: &str, realm: &str| Ok((file.to_owned(), realm.to_owned()));
        assert_eq!(read("/etc/users", ""), is("/etc/users", "team"));
        assert_eq!(read("/etc/users", "Team only"), is("/etc/users", "Team only"));
        assert_eq!(read("name=team;type=basic;file=/u;realm=\"R\";refresh=5s", ""), is("/u", "R"));
        assert_eq!(read("type=basic; file=/u", ""), is("/u", "team"));
        for bad in ["", "type=digest;file=/u", "type=basic", "name=other;file=/u", "file=/u;reaml=x"] {
            assert!(read(bad, "").is_err(), "{bad}");
        }
    }
}
