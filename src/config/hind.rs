//! HinD's environment variables: what they do to HinD's Caddy they do to rust-lb.

use super::value::{nets, shown};
use super::*;
use crate::diagnostic::{Diagnostic, Origin};

/// What Caddy calls `private_ranges`.
const PRIVATE_RANGES: [&str; 6] =
    ["192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "::1/128"];

/// Reads the variables. Where HinD's own entry points are in use, unset trusted proxies are the
/// private ranges, as there.
pub(super) fn hind(
    env: &BTreeMap<String, String>,
    default_entry_points: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Hind {
    let get = |name: &str| env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    let origin = |name: &str| Origin { file: Some(format!("${name}").into()), ..Origin::default() };
    let mut told = Vec::new();
    let mut refuse = |name: &str, message: String| {
        told.push(Diagnostic::error("bad_value", message).with_origin(origin(name)));
    };
    let mut networks = |name: &str, default: &str| {
        let text = get(name).unwrap_or(default);
        let words = text.split([' ', ',', '\t']).filter(|word| !word.is_empty());
        let words = words.flat_map(|word| match word {
            "private_ranges" => PRIVATE_RANGES.to_vec(),
            word => vec![word],
        });
        nets(words).unwrap_or_else(|message| {
            refuse(name, message);
            Vec::new()
        })
    };
    let trusted_proxies = networks("TRUSTED_PROXIES", if default_entry_points { "private_ranges" } else { "" });
    let allowed_remote_ips_control_plane = networks("ALLOWED_REMOTE_IPS_CONTROL_PLANE", "");
    let allowed_remote_ips_services = networks("ALLOWED_REMOTE_IPS_SERVICES", "");
    let mut hosts = |name: &str| {
        let mut out = Vec::new();
        for host in get(name).unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty()) {
            match host_name(host) {
                Some(host) => out.push(host),
                None => refuse(name, format!("expected host names separated by commas, got `{}`", shown(host))),
            }
        }
        out
    };
    let (fqdn, nomad_addr_extra) = (hosts("FQDN"), hosts("NOMAD_ADDR_EXTRA"));
    if fqdn.is_empty() && nomad_addr_extra.is_empty() && !allowed_remote_ips_control_plane.is_empty() {
        let name = "ALLOWED_REMOTE_IPS_CONTROL_PLANE";
        let message = format!("`{name}` does nothing: neither `FQDN` nor `NOMAD_ADDR_EXTRA` names a control plane");
        told.push(Diagnostic::warning("no_control_plane", message).with_origin(origin(name)));
    }
    diagnostics.append(&mut told);
    Hind { fqdn, nomad_addr_extra, trusted_proxies, allowed_remote_ips_control_plane, allowed_remote_ips_services }
}

/// A host name in lower case, without what people put around it by mistake: schemes (HinD's installer
/// does so on macOS), the usual ports, slashes at the end.
fn host_name(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let mut text = text.as_str();
    while let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        text = rest;
    }
    let text = text.trim_end_matches('/');
    let text = text.strip_suffix(":443").or_else(|| text.strip_suffix(":80")).unwrap_or(text);
    let text = text.trim_end_matches('.');
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (!text.is_empty() && text.bytes().all(good)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)], defaults: bool) -> (Hind, Vec<String>) {
        let env = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut diagnostics = Vec::new();
        let hind = hind(&env, defaults, &mut diagnostics);
        (hind, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_lists_as_hind_writes_them() {
        let (hind, told) = read(
            &[
                ("FQDN", "A.example,http://b, https://HTTP://d.example:443/"),
                ("NOMAD_ADDR_EXTRA", "c"),
                ("TRUSTED_PROXIES", "private_ranges 192.0.2.0/24"),
                ("ALLOWED_REMOTE_IPS_SERVICES", "192.0.2.1 255.255.255.255"),
            ],
            false,
        );
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(
            (hind.fqdn.join(" "), hind.nomad_addr_extra.join(" ")),
            ("a.example b d.example".into(), "c".into())
        );
        assert_eq!((hind.trusted_proxies.len(), hind.allowed_remote_ips_services.len()), (7, 2));
        assert!(hind.allowed_remote_ips_control_plane.is_empty());
    }

    #[test]
    fn trusted_proxies_are_private_only_in_hinds_set_up() {
        assert_eq!(read(&[], true).0.trusted_proxies.len(), 6);
        assert!(read(&[], false).0.trusted_proxies.is_empty());
    }

    #[test]
    fn bad_values_are_told_with_the_variable() {
        let (_, told) = read(&[("TRUSTED_PROXIES", "10.0.0.0/99"), ("FQDN", "a b{c}")], true);
        assert_eq!(told.len(), 2, "{told:?}");
        for (told, start) in told.iter().zip(["$TRUSTED_PROXIES: error", "$FQDN: error"]) {
            assert!(told.starts_with(start), "{told}");
        }
    }
}
