//! `accessLog` in Traefik's forms.

use super::*;
use rust_lb::config::{AccessLog, FieldMode, Filters};

fn whole() -> AccessLog {
    AccessLog {
        format: AccessFormat::GenericClf,
        file: Some("/var/log/a.log".into()),
        buffering: 100,
        internals: true,
        filters: Filters {
            statuses: vec![(200, 200), (300, 302)],
            retried: true,
            min_duration: Duration::from_millis(10),
        },
        fields_kept: false,
        fields: BTreeMap::from([("clientusername".to_owned(), false), ("requestpath".to_owned(), true)]),
        headers: FieldMode::Keep,
        header_names: BTreeMap::from([
            ("authorization".to_owned(), FieldMode::Drop),
            ("user-agent".to_owned(), FieldMode::Redact),
        ]),
        query: false,
        sample: 10,
        time_zone: Some("Europe/Berlin".to_owned()),
    }
}

fn lower(mut log: AccessLog) -> AccessLog {
    log.fields = log.fields.into_iter().map(|(name, keep)| (name.to_ascii_lowercase(), keep)).collect();
    log
}

#[test]
fn every_option_is_read_from_files_and_flags() {
    let file = "entryPoints: {web: {address: ':80'}}\n\
        accessLog:\n  filePath: /var/log/a.log\n  format: genericCLF\n  bufferingSize: 100\n  addInternals: true\n  \
        filters:\n    statusCodes: ['200', '300-302']\n    retryAttempts: true\n    minDuration: 10ms\n  \
        fields:\n    defaultMode: drop\n    names: {ClientUsername: drop, RequestPath: keep}\n    \
        headers:\n      defaultMode: keep\n      names: {User-Agent: redact, Authorization: drop}\n    \
        queryParameters: {defaultMode: drop}\nrustLb:\n  accessLog: {sample: 10}\n";
    let from_file = yaml(file).env("TZ", "Europe/Berlin");
    assert_eq!(from_file.warnings(), [""; 0]);
    assert_eq!(lower(from_file.settled().access_log.unwrap()), whole());
    let from_flags = given().env("TZ", "Europe/Berlin").flags(&[
        "--accesslog.filepath=/var/log/a.log",
        "--accesslog.format=genericCLF",
        "--accesslog.bufferingsize=100",
        "--accesslog.addinternals",
        "--accesslog.filters.statuscodes=200,300-302",
        "--accesslog.filters.retryattempts",
        "--accesslog.filters.minduration=10ms",
        "--accesslog.fields.defaultmode=drop",
        "--accesslog.fields.names.ClientUsername=drop",
        "--accesslog.fields.names.RequestPath=keep",
        "--accesslog.fields.headers.defaultmode=keep",
        "--accesslog.fields.headers.names.User-Agent=redact",
        "--accesslog.fields.headers.names.Authorization=drop",
        "--accesslog.fields.queryparameters.defaultmode=drop",
        "--rustLb.accessLog.sample=10",
    ]);
    assert_eq!(lower(from_flags.settled().access_log.unwrap()), whole());
}

#[test]
fn what_is_not_said_is_traefiks_default() {
    let log = yaml("accessLog: {}\n").settled().access_log.unwrap();
    let want = AccessLog {
        format: AccessFormat::Common,
        file: None,
        buffering: 0,
        internals: false,
        filters: Filters { statuses: Vec::new(), retried: false, min_duration: Duration::ZERO },
        fields_kept: true,
        fields: BTreeMap::new(),
        headers: FieldMode::Drop,
        header_names: BTreeMap::new(),
        query: true,
        sample: 1,
        time_zone: None,
    };
    assert_eq!(log, want);
    // In the HinD set-up the routes to Nomad are the proxy's own, and their requests are wanted.
    assert!(given().settled().access_log.unwrap().internals);
}

#[test]
fn what_cannot_be_is_refused_or_told() {
    for (flag, part) in [
        ("--accessLog.filters.statusCodes=200,5xx", "`5xx`"),
        ("--accessLog.fields.headers.defaultMode=hide", "`keep`, `drop`, `redact`"),
        ("--accessLog.fields.queryParameters.defaultMode=redact", "`keep`, `drop`"),
        ("--rustLb.accessLog.sample=0", "from 1 to"),
        ("--rustLb.errors.reveal=everybody", "`everybody`"),
    ] {
        let refused = given().flags(&[flag]).refused();
        assert!(refused.len() == 1 && refused[0].contains(part), "{refused:?}");
    }
    let told = given().flags(&["--accessLog.fields.names.RequestPath=redact"]).warnings();
    assert!(told.len() == 1 && told[0].contains("`redact` drops it"), "{told:?}");
}
