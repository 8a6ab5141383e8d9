//! Whatever comes is answered.

use super::*;
use proptest::prelude::*;

fn keyish() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("entryPoints".to_owned()),
        Just("providers".to_owned()),
        Just("consul".to_owned()),
        Just("nomad".to_owned()),
        Just("endpoint".to_owned()),
        Just("address".to_owned()),
        Just("forwardedHeaders".to_owned()),
        Just("trustedIPs".to_owned()),
        Just("rustLb".to_owned()),
        Just("[0]".to_owned()),
        "[a-zé.\\[\\]0-9]{0,6}",
    ]
}

proptest! {
    #[test]
    fn any_text_as_a_file_is_answered(text in "\\PC{0,200}", toml in any::<bool>()) {
        let given = given().file(if toml { "t.toml" } else { "t.yaml" }, text);
        let _ = given.load();
        check_of(&given, true, false);
    }

    #[test]
    fn any_bytes_as_a_file_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200), toml in any::<bool>()) {
        let _ = given().file(if toml { "t.toml" } else { "t.yaml" }, bytes).load();
    }

    #[test]
    fn any_groups_as_a_file_are_answered(lines in proptest::collection::vec((0usize..6, keyish(), "\\PC{0,10}"), 0..12)) {
        let text: String = lines.iter().map(|(depth, key, value)| format!("{}{key}: {value}\n", "  ".repeat(*depth))).collect();
        let given = given().file("t.yaml", text);
        let _ = given.load();
        check_of(&given, false, true);
    }

    #[test]
    fn any_flags_and_variables_are_answered(
        flags in proptest::collection::vec((proptest::collection::vec(keyish(), 0..5), "\\PC{0,12}", any::<bool>()), 0..5),
        env in proptest::collection::btree_map("(TRAEFIK|RUST_LB|NOMAD|CONSUL)_(ADDR|TOKEN|[A-Z0-9_é]{0,20})|FQDN|TRUSTED_PROXIES", "\\PC{0,12}", 0..5),
    ) {
        let mut input = Input { env, ..Input::default() };
        for (path, value, joined) in flags {
            match joined {
                true => input.args.push(format!("--{}={value}", path.join("."))),
                false => input.args.extend([format!("--{}", path.join(".")), value]),
            }
        }
        // A path to a file of this machine is nothing to try at random.
        input.env.retain(|name: &String, _| !name.contains("CONFIG"));
        input.args.retain(|arg| !arg.starts_with("-c"));
        let _ = config::load(&input);
    }
}

#[test]
fn the_process_is_asked_only_here() {
    let input = Input::of_process(vec!["--log.level=warn".into()]);
    assert_eq!(input.default_paths.len(), config::DEFAULT_PATHS.len());
    let same: BTreeMap<_, _> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    assert_eq!(input.env, same);
}
