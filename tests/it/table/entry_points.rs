//! What entry points have for all routers on them: middlewares, TLS options.

use super::*;

#[test]
fn an_entry_points_middlewares_come_first_and_follow_their_changes() {
    let add = |prefix: &str| middleware(MiddlewareKind::AddPrefix { prefix: prefix.into() });
    let both = declare::Router { middlewares: vec!["own".into()], ..router("Host(`a`)") };
    let mut declarations = nomad(vec![("r", both)]);
    let http = &mut declarations.get_mut(&Provider::Nomad).unwrap().http;
    http.middlewares.insert("own".into(), add("/own"));
    let mut options = build_options();
    options.entry_points[1].middlewares = vec!["first@file".into()];
    let ids = |built: &Built, entry_point: &str| -> Vec<String> {
        let chain = built.table.routers["r@nomad"].chain(entry_point);
        chain.iter().map(|m| serde_json::to_string(&m.kind).unwrap()).collect()
    };

    // nobody has it: the router is not served, and it is said why
    let built = build(&declarations, &Accepted::default(), &options);
    assert!(built.table.routers.is_empty());
    assert_eq!(codes(&built.diagnostics), ["unknown_middleware"]);
    let told = built.diagnostics[0].to_string();
    assert!(told.contains("its entry point `websecure` has the middleware `first@file`"), "{told}");

    let mut file = Dynamic::default();
    file.http.middlewares.insert("first".into(), add("/one"));
    declarations.insert(Provider::File, file.clone());
    let built = build(&declarations, &built.accepted, &options);
    assert_eq!(codes(&built.diagnostics), [] as [&str; 0]);
    assert_eq!(ids(&built, "web"), [r#"{"addPrefix":{"prefix":"/own"}}"#]);
    assert_eq!(ids(&built, "websecure"), [r#"{"addPrefix":{"prefix":"/one"}}"#, r#"{"addPrefix":{"prefix":"/own"}}"#]);

    file.http.middlewares.insert("first".into(), add("/two"));
    declarations.insert(Provider::File, file);
    let built = build(&declarations, &built.accepted, &options);
    assert_eq!(ids(&built, "websecure")[0], r#"{"addPrefix":{"prefix":"/two"}}"#);

    // gone again: the last good form stays, with the middleware
    declarations.remove(&Provider::File);
    let built = build(&declarations, &built.accepted, &options);
    assert_eq!(codes(&built.diagnostics), ["unknown_middleware"]);
    assert_eq!(ids(&built, "websecure").len(), 2);
}

#[test]
fn tls_options_hold_for_hosts_and_fall_back_where_routers_disagree() {
    let with = |rule: &str, options: &str| declare::Router {
        tls: Some(RouterTls { options: options.into(), ..RouterTls::default() }),
        ..router(rule)
    };
    let mut declarations = nomad(vec![
        ("mtls", with("Host(`A.test`) || Host(`b.test`)", "mtls@file")),
        ("plain", with("Host(`c.test`)", "")),
        ("unknown", with("Host(`d.test`)", "none@file")),
        ("nohost", with("PathPrefix(`/x`)", "mtls@file")),
    ]);
    let mut file = Dynamic::default();
    file.tls.options.insert("mtls".into(), Arc::default());
    declarations.insert(Provider::File, file.clone());
    let built = fresh(&declarations);
    let options = |built: &Built, host: &str| built.table.tls_options("web", Some(host)).to_owned();
    for (host, expected) in
        [("a.test", "mtls@file"), ("B.TEST.", "mtls@file"), ("c.test", "default"), ("d.test", "default")]
    {
        assert_eq!(options(&built, host), expected, "{host}");
    }
    assert_eq!(built.table.tls_options("web", None), "default");
    let of = |built: &Built, id: &str| built.table.tls_options_of("web", &built.table.routers[id]).to_owned();
    assert_eq!((of(&built, "mtls@nomad"), of(&built, "plain@nomad")), ("mtls@file".into(), "default".into()));
    assert_eq!(of(&built, "nohost@nomad"), "default");
    let mut found = codes(&built.diagnostics);
    found.sort_unstable();
    assert_eq!(found, ["tls_options", "unknown_tls_options"]);

    // another router with the host and other options
    let mut disagreeing = declarations.clone();
    let http = &mut disagreeing.get_mut(&Provider::Nomad).unwrap().http;
    http.routers.insert("other".into(), Arc::new(with("Host(`b.test`) && Path(`/y`)", "")));
    let conflict = build(&disagreeing, &built.accepted, &build_options());
    assert_eq!((options(&conflict, "a.test"), of(&conflict, "mtls@nomad")), ("default".into(), "default".into()));
    let told = conflict.diagnostics.iter().filter(|d| d.message.contains("for the host `b.test`")).count();
    assert_eq!(told, 2);
    let again = build(&declarations, &conflict.accepted, &build_options());
    assert_eq!(again.table, built.table);
    assert_eq!(again.diagnostics.len(), built.diagnostics.len());

    // gone: routers keep their last good form, and it is told
    declarations.remove(&Provider::File);
    let gone = build(&declarations, &again.accepted, &build_options());
    assert_eq!(options(&gone, "a.test"), "mtls@file");
    assert!(codes(&gone.diagnostics).contains(&"unknown_tls_options"));

    // those of an entry point are for routers without a `tls` section
    let mut of_entry_point = build_options();
    of_entry_point.entry_points[1].tls_options = "mtls@file".into();
    let mut declarations = nomad(vec![("r", router("Host(`a.test`)"))]);
    declarations.insert(Provider::File, file);
    let built = build(&declarations, &Accepted::default(), &of_entry_point);
    assert_eq!(built.table.tls_options("websecure", Some("a.test")), "mtls@file");
    assert_eq!(built.table.tls_options("web", Some("a.test")), "default");
}
