//! The recorded corpus of migrations (tests/migrate/fabio_migration.json): each row's `urlprefix-` tags are converted, and
//! the new tags must do to the row's requests what Fabio did, wherever a faithful form exists.

use super::options;
use super::prove::table_of;
use super::set::{EntryPoint, Outcome, Place, Service, Set, Settings, Tag};
use super::{apply, convert, prove};
use crate::explain::{Door, End, Question};
use serde_json::Value;

/// Rows of which the recorded Traefik tags are naive on purpose: the faithful form exists.
const NAIVE: [&str; 5] = ["m1-pool-naive", "m1-longdef", "m1-https-notls", "m1-deny", "m2-inst-differ"];
/// Rows that a tool may refuse.
const REFUSABLE: [&str; 7] =
    ["m1-pool-differ", "m1-portpath", "m1-auth", "m1-tlsb", "m3-openproxy", "m3-pgrpc", "m3-ptcp"];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn rows_do_what_fabio_did() {
    let corpus: Value = serde_json::from_str(include_str!("../../tests/migrate/fabio_migration.json")).unwrap();
    let settings = Settings {
        entry_points: vec![
            EntryPoint { name: "web".into(), port: 80, tls: false },
            EntryPoint { name: "websecure".into(), port: 443, tls: true },
        ],
        ..Settings::default()
    };
    let (mut agreed, mut refused) = (0, 0);
    for row in corpus["rows"].as_array().unwrap() {
        let id = text(row, "row");
        let recorded = row["services"].as_array().unwrap();
        let service = |one: &Value| {
            let tags = one["urlprefix"].as_array().unwrap().iter().map(|tag| {
                let text = tag.as_str().unwrap().replace("{port:tcp}", "5432");
                Tag { text: text.into(), holes: Vec::new(), place: Place::default() }
            });
            Service { name: text(one, "name").into(), count: 1, tags: tags.collect(), ..Service::default() }
        };
        let set = Set { services: recorded.iter().map(service).collect() };
        let conversions = convert(&set, &settings);
        let is_refused = |o: &Outcome| matches!(o, Outcome::Refused(_));
        if conversions.iter().any(|c| c.outcomes.iter().any(is_refused)) {
            assert!(REFUSABLE.contains(&id), "{id} is refused: {conversions:?}");
            refused += 1;
            continue;
        }
        let after = apply(&set, &conversions, false);
        let proof = prove(&set, &after, &settings);
        assert!(proof.holds(), "{id}: {:#?}", proof.differences.first());
        let table = table_of(&after, &settings);
        for exchange in row["exchanges"].as_array().unwrap() {
            let request = &exchange["request"];
            let as_fabio = exchange["same"] == true || NAIVE.contains(&id);
            let health = recorded.iter().any(|s| s.get("health").is_some());
            if text(request, "kind") != "http" || text(request, "listener") == "sni" || health || !as_fabio {
                continue;
            }
            let tls = text(request, "listener") == "sec";
            let mut headers = vec![("Host".to_owned(), text(request, "host").to_owned())];
            for one in request["headers"].as_array().into_iter().flatten() {
                headers.push((one[0].as_str().unwrap().to_owned(), one[1].as_str().unwrap().to_owned()));
            }
            let question = Question {
                method: text(request, "method").to_owned(),
                target: text(request, "target").to_owned(),
                headers,
                remote: "127.0.0.1".to_owned(),
                scheme: if tls { "https" } else { "http" }.to_owned(),
                ..Question::default()
            };
            let legacy = options::legacy(&settings);
            let name = if tls { legacy.websecure } else { legacy.web };
            let brief = Door::new(name, if tls { 443 } else { 80 }, tls).brief(&table, &question);
            let fabio = &exchange["fabio"];
            let place = format!("{id}: {question:?} {fabio} {brief:?}");
            let backends = |address: &str| {
                let at: usize = address.rsplit('.').next().and_then(|n| n.split(':').next()?.parse().ok()).unwrap();
                text(&recorded[at], "backend").to_owned()
            };
            match &brief.end {
                End::Served { uri, host } => {
                    let servers = &brief.router.as_ref().unwrap().service.servers;
                    let total: u64 = servers.iter().map(|s| u64::from(s.weight)).sum();
                    if let Some(repeat) = request["repeat"].as_u64() {
                        for server in servers {
                            let share = repeat * u64::from(server.weight) / total;
                            assert_eq!(fabio[backends(&server.authority)].as_u64(), Some(share), "{place}");
                        }
                        assert_eq!(fabio.as_object().unwrap().len(), servers.len(), "{place}");
                    } else {
                        assert!(matches!(fabio["status"].as_u64(), Some(200 | 101)), "{place}");
                        assert_eq!(uri, text(fabio, "target"), "{place}");
                        assert!(servers.iter().any(|s| backends(&s.authority) == text(fabio, "be")), "{place}");
                        assert!(host.as_deref().is_none_or(|host| host == text(fabio, "host")), "{place}");
                    }
                }
                End::Redirect { status, location } => {
                    assert_eq!(fabio["status"].as_u64(), Some(u64::from(*status)), "{place}");
                    assert_eq!(location, text(fabio, "location"), "{place}");
                }
                End::NoRoute => assert_eq!(fabio["status"].as_u64(), Some(404), "{place}"),
                End::Denied(status) | End::Bad(status) | End::Made(status) => {
                    assert_eq!(fabio["status"].as_u64(), Some(u64::from(*status)), "{place}");
                }
            }
            agreed += 1;
        }
    }
    assert!(agreed > 30 && refused < 8, "{agreed} requests, {refused} rows refused");
}
