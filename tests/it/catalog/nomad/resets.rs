//! What Nomad's watcher makes of a catalog that went back: wiped, restored, without rights.

use super::*;

#[tokio::test]
async fn after_a_wipe_everything_is_held_until_it_reappears_or_is_forgotten() {
    let mut server = Server::start(Nomad::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    server.change(|nomad| {
        nomad.services.clear();
        nomad.index = 1;
    });
    server.restart().await;
    let wiped = until(&mut handle.snapshots, |s| s.status.held.len() == 2).await;
    assert_eq!(
        (names(&wiped).as_str(), &*wiped.status.held),
        ("api web", &["default/api".to_owned(), "default/web".to_owned()][..])
    );
    server.change(|nomad| nomad.register("default", "web", 2000));
    let again = until(&mut handle.snapshots, |s| ports(s, "web") == [2000]).await;
    assert_eq!((names(&again).as_str(), &*again.status.held), ("api web", &["default/api".to_owned()][..]));
    handle.forget.now();
    let forgotten = until(&mut handle.snapshots, |s| names(s) == "web").await;
    assert!(forgotten.status.held.is_empty());
}

#[tokio::test]
async fn a_hold_that_is_over_ends_only_after_reads_that_say_so() {
    let mut server = Server::start(Nomad::new(&["web", "api"])).await;
    let config = NomadProvider {
        allocation_checks: false,
        common: common(&server.address, Token::None),
        namespaces: vec!["*".into()],
        region: String::new(),
    };
    let (mut spawn, _guard) = spawn(timing());
    spawn.reset_hold = Duration::ZERO;
    let mut handle = nomad::spawn(&config, spawn).unwrap();
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    server.change(|nomad| {
        nomad.services.clear();
        nomad.index = 1;
        nomad.service = Some(|_| Reply::Status(500, "rpc error: EOF"));
    });
    server.restart().await;
    until(&mut handle.snapshots, |s| s.status.last_error.contains("rpc error") || names(s) != "api web").await;
    assert_eq!(names(&handle.snapshots.borrow()), "api web", "nobody has read that they are gone");
    server.change(|nomad| {
        nomad.services.insert(("default".into(), "web".into()), vec![2000]);
        nomad.index += 1;
        nomad.service = None;
    });
    let back = until(&mut handle.snapshots, |s| ports(s, "web") == [2000] || !names(s).contains("web")).await;
    assert!(names(&back).contains("web"));
    until(&mut handle.snapshots, |s| names(s) == "web" && s.status.held.is_empty()).await;
}

#[tokio::test]
async fn a_wipe_whose_index_has_passed_the_lists_but_not_the_events_is_noticed() {
    let mut server = Server::start(Nomad::new(&["web"])).await;
    // The list is not told of what the stream tells.
    let list: Answer = |asked| match asked.index() {
        Some(10..) => Reply::Wait,
        _ => Reply::Json(10, json!([{"Namespace": "default", "Services": [{"ServiceName": "web", "Tags": [TAG]}]}])),
    };
    server.change(|nomad| nomad.list = Some(list));
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("web")).await;
    server.change(|nomad| {
        nomad.index = 500;
        nomad.register("default", "web", 2000);
    });
    until(&mut handle.snapshots, |s| ports(s, "web") == [1000, 2000]).await;
    server.stop();
    server.change(|nomad| {
        nomad.services = [(("default".into(), "web".into()), vec![3000])].into();
        (nomad.index, nomad.list) = (20, None);
    });
    server.restart().await;
    until(&mut handle.snapshots, |s| ports(s, "web") == [3000]).await;
    server.change(|nomad| nomad.register("default", "web", 3001));
    until(&mut handle.snapshots, |s| ports(s, "web") == [3000, 3001]).await;
}

#[tokio::test]
async fn an_index_that_goes_back_in_a_blocked_answer_is_a_reset() {
    let server = Server::start(Nomad::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("api web")).await;
    server.change(|nomad| {
        nomad.index = 3;
        nomad.services.retain(|(_, name), _| name == "web");
        nomad.list = Some(|_| {
            Reply::Json(3, json!([{"Namespace": "default", "Services": [{"ServiceName": "web", "Tags": [TAG]}]}]))
        });
    });
    let held = until(&mut handle.snapshots, |s| s.status.held == ["default/api"]).await;
    assert_eq!(names(&held), "api web");
}

#[tokio::test]
async fn a_low_index_before_a_failure_hides_no_wipe() {
    let mut server = Server::start(Nomad::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    let (low, cut): (Answer, Answer) = (
        |_| {
            Reply::Json(
                1,
                json!([{"Namespace": "default", "Services": [{"ServiceName": "api", "Tags": [TAG]}, {"ServiceName": "web", "Tags": [TAG]}]}]),
            )
        },
        |_| Reply::Raw(Vec::new()),
    );
    server.change(|nomad| (nomad.list, nomad.service) = (Some(low), Some(cut)));
    let asked = server.log().len();
    server.restart().await;
    server.asked_since(asked, |path| path.starts_with("/v1/service/")).await;
    // It knows an index of 1 only when it is wiped, and is above that when it is asked again.
    server.stop();
    server.change(|nomad| {
        nomad.services.retain(|(_, name), _| name == "web");
        (nomad.index, nomad.list, nomad.service) = (5, None, None);
    });
    server.restart().await;
    let held = until(&mut handle.snapshots, |s| names(s) != "api web" || !s.status.held.is_empty()).await;
    assert_eq!((names(&held).as_str(), &*held.status.held), ("api web", &["default/api".to_owned()][..]));
}

#[tokio::test]
async fn reads_after_a_reset_take_nothing_away() {
    let mut server = Server::start(Nomad::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    // A list with a low index names both; who is asked for them then was wiped in between.
    let list: Answer = |asked| match asked.index() {
        Some(_) => Reply::Wait,
        None => Reply::Json(
            1,
            json!([{"Namespace": "default", "Services": [{"ServiceName": "api", "Tags": [TAG]}, {"ServiceName": "web", "Tags": [TAG]}]}]),
        ),
    };
    let empty: Answer = |_| Reply::Json(1, json!([]));
    server.change(|nomad| (nomad.list, nomad.service) = (Some(list), Some(empty)));
    server.restart().await;
    let held = until(&mut handle.snapshots, |s| names(s) != "api web" || s.status.held.len() == 2).await;
    assert_eq!(names(&held), "api web");
}

#[tokio::test]
async fn an_empty_list_without_rights_is_no_empty_catalog() {
    let server = Server::start(Nomad::new(&["web"])).await;
    let refuse: Answer = |_| Reply::Json(0, json!([]));
    server.change(|nomad| nomad.list = Some(refuse));
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    let lacking =
        until(&mut handle.snapshots, |s| !s.status.missing_rights.is_empty() && !s.status.last_error.is_empty()).await;
    assert_eq!((names(&lacking).as_str(), lacking.status.state), ("-", SourceState::Retrying));
    assert_eq!(lacking.status.missing_rights, ["namespace \"*\" needs `read-job`"]);
    assert_eq!(lacking.status.last_error, "the token may read no namespace");
    server.change(|nomad| nomad.list = None);
    let full = until(&mut handle.snapshots, is("web")).await;
    assert!(full.status.missing_rights.is_empty());
    server.change(|nomad| {
        nomad.index += 1;
        nomad.list = Some(refuse);
    });
    let lost = until(&mut handle.snapshots, |s| !s.status.missing_rights.is_empty()).await;
    assert_eq!(names(&lost), "web");
}

#[tokio::test]
async fn rights_that_come_back_behind_an_empty_list_make_no_empty_catalog() {
    let mut server = Server::start(Nomad::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    // Refused when the list was read, and no longer when it is asked whose token it is.
    let (list, token, gone): (Answer, Answer, Answer) = (
        |_| Reply::Json(0, json!([])),
        |_| Reply::Json(0, json!({"AccessorID": "a", "Type": "management"})),
        |_| Reply::Json(20, json!([])),
    );
    server.change(|nomad| (nomad.list, nomad.kind, nomad.service) = (Some(list), Some(token), Some(gone)));
    let asked = server.log().len();
    server.restart().await;
    server.asked_since(asked, |path| path.starts_with("/v1/acl/token/self")).await;
    let told = until(&mut handle.snapshots, |s| s.status.last_error.contains("index 0") || names(s) != "api web").await;
    assert_eq!(names(&told), "api web");
    server.change(|nomad| (nomad.list, nomad.service) = (None, None));
    assert!(until(&mut handle.snapshots, is("api web")).await.status.held.is_empty());
}
