//! Nomad's event stream, on the bare socket: HTTP/1.1 200 with neither length nor chunks, `{}` at
//! once and at every heartbeat, a line per raft entry, until somebody closes.
//!
//! Whoever has no rights, or asks for an unknown region, gets the same head and then not one byte;
//! rights that end while the stream is open make it fall silent. `namespace=*` means the namespaces
//! that exist when the stream opens.

use super::control::{State, lock};
use super::exchange::{Query, Request};
use super::nomad::NomadApi;
use super::store::nomad::{EventType, Events, Registration, StreamItem};
use hyper::http::Version;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

/// What a stream was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    from: u64,
    /// Topic and key; empty means everything.
    topics: Vec<(String, String)>,
}

impl Wanted {
    /// Reads `index` and `topic`; the error is the text of a 400.
    pub(crate) fn parse(query: &Query) -> Result<Self, String> {
        let index = query.get("index").filter(|text| !text.is_empty()).unwrap_or("0");
        let from = index
            .parse::<i64>()
            .map_err(|_| format!("Unable to parse index: strconv.Atoi: parsing {index:?}: invalid syntax"))?;
        let topic = |text: &str| match text.split(':').collect::<Vec<_>>()[..] {
            [topic] => Ok((topic.to_owned(), "*".to_owned())),
            [topic, key] => Ok((topic.to_owned(), key.to_owned())),
            _ => Err(format!(
                "Invalid topic query: error parsing topics: Invalid key value pair for topic, topic: {text}"
            )),
        };
        let topics = query.all("topic").map(topic).collect::<Result<_, _>>()?;
        Ok(Self { from: u64::try_from(from).unwrap_or(0), topics })
    }

    /// Whether it names topics; without any it needs a management token.
    pub(crate) fn names_topics(&self) -> bool {
        !self.topics.is_empty()
    }

    fn takes(&self, row: &Registration) -> bool {
        let topic = |topic: &str| topic == "Service" || topic == "*";
        let key = |key: &str| key == "*" || [&row.id, &row.job_id, &row.service_name].iter().any(|k| *k == key);
        self.topics.is_empty() || self.topics.iter().any(|(t, k)| topic(t) && key(k))
    }
}

/// Runs a stream until either side ends it.
pub(crate) async fn run(mut stream: TcpStream, api: Arc<NomadApi>, request: Request, wanted: Wanted) {
    let state = api.state.clone();
    let _open = state.counted(|stats| &mut stats.streams);
    let head = match request.version {
        Version::HTTP_10 => "HTTP/1.0 200 OK\r\n",
        _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n",
    };
    let head =
        format!("{head}Cache-Control: no-cache\r\nContent-Type: application/json\r\nVary: Accept-Encoding\r\n\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = stream.split();
    let gone = async {
        let mut rest = [0; 512];
        while matches!(reader.read(&mut rest).await, Ok(1..)) {}
    };
    let sent = async {
        if api.may_stream(&request, &wanted) {
            send(&mut writer, &api, &state, &request, &wanted).await;
            let _ = writer.shutdown().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = sent => {}
    }
}

async fn send(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    api: &NomadApi,
    state: &Arc<State>,
    request: &Request,
    wanted: &Wanted,
) {
    let (namespaces, mut items) = {
        let mut store = lock(&api.store);
        let all: BTreeSet<_> = store.namespaces().value.into_iter().map(|(name, _)| name).collect();
        let namespaces = match request.query.get("namespace") {
            Some("*") => all,
            Some(name) if !name.is_empty() => BTreeSet::from([name.to_owned()]),
            _ => BTreeSet::from(["default".to_owned()]),
        };
        (namespaces, store.subscribe(wanted.from))
    };
    let mut heartbeat = tokio::time::interval_at(Instant::now() + api.heartbeat, api.heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = Some("{}".to_owned()); // the sign that the stream is allowed and placed
    loop {
        let line = match next.take() {
            Some(line) => line,
            None => tokio::select! {
                _ = heartbeat.tick() => "{}".to_owned(),
                item = items.recv() => match item {
                    None => return,
                    Some(StreamItem::Raw(line)) => line,
                    Some(StreamItem::Entry(entry)) => {
                        let here = |row: &Registration| namespaces.contains(&row.namespace) && wanted.takes(row);
                        let Some(line) = line(&entry, here) else { continue };
                        line
                    }
                },
            },
        };
        state.late().await;
        state.thawed().await;
        if !api.may_stream(request, wanted) {
            // The server notices that the rights are gone, and says nothing of it.
            std::future::pending::<()>().await;
        }
        if writer.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The line of an entry, if any of its events is wanted.
fn line(entry: &Events, wanted: impl Fn(&Registration) -> bool) -> Option<String> {
    let events: Vec<Value> = entry
        .services
        .iter()
        .filter(|(_, row)| wanted(row))
        .map(|(kind, row)| event(entry.index, *kind, row))
        .collect();
    (!events.is_empty()).then(|| json!({"Index": entry.index, "Events": events}).to_string())
}

fn event(index: u64, kind: EventType, row: &Registration) -> Value {
    json!({
        "Topic": "Service", "Type": kind.as_str(), "Key": row.id, "Namespace": row.namespace,
        "FilterKeys": [row.job_id, row.service_name], "Index": index, "Payload": {"Service": row},
    })
}

/// The heartbeat of a Nomad agent.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);
