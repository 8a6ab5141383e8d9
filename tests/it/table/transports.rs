//! Transports in the table: who changes with one, and what stays of one that goes or turns bad.

use super::*;

#[test]
fn a_transport_changes_the_services_that_name_it_and_nothing_else() {
    let with = |version: Option<&str>| {
        let mut declarations = nomad(vec![("a", router("Host(`a`)"))]);
        let http = &mut declarations.get_mut(&Provider::Nomad).unwrap().http;
        let mut named = backend(&["https://10.0.0.2:443"]);
        named.load_balancer.as_mut().unwrap().servers_transport = "t@file".into();
        http.services.insert("named".into(), Arc::new(named));
        let b = declare::Router { service: "named".into(), ..router("Host(`b`)") };
        http.routers.insert("b".into(), Arc::new(b));
        let mut file = Dynamic::default();
        if let Some(version) = version {
            file.http.servers_transports.insert("t".into(), transport(version));
        }
        declarations.insert(Provider::File, file);
        declarations
    };
    let first = fresh(&with(Some("VersionTLS12")));
    let second = build(&with(Some("VersionTLS13")), &first.accepted, &build_options());
    let changes = diff(&first.table, &second.table);
    assert_eq!(changes.services.into_iter().collect::<Vec<_>>(), [("named@nomad".into(), Change::Changed)]);
    assert_eq!(changes.routers.into_iter().collect::<Vec<_>>(), [("b@nomad".into(), Change::Changed)]);
    // gone: what was accepted stays, and a start without it does not serve
    let third = build(&with(None), &second.accepted, &build_options());
    assert_eq!(codes(&third.diagnostics), ["unknown_servers_transport"]);
    assert!(diff(&second.table, &third.table).is_empty());
    let again = fresh(&third.table.declarations());
    assert_eq!(again.table.services, third.table.services);
    assert_eq!(found(&fresh(&with(None)).table, "web", false, "b", "/"), None);
    // bad: the same
    let bad = build(&with(Some("1")), &second.accepted, &build_options());
    assert_eq!(codes(&bad.diagnostics), ["bad_servers_transport"]);
    assert!(diff(&second.table, &bad.table).is_empty());
    let refused = fresh(&with(Some("1")));
    assert_eq!(codes(&refused.diagnostics), ["bad_servers_transport", "refused_servers_transport"]);
    assert_eq!(found(&refused.table, "web", false, "b", "/"), None);
}
