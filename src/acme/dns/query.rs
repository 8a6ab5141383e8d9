//! Questions to one name server: over UDP, over TCP where the answer is too long or none comes.
//!
//! What always holds: ids and ports are random; a datagram that is not the answer to our question is
//! passed over, not believed; every exchange ends within its limit.

use super::DnsError;
use super::error::one_line;
use super::name::Fqdn;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::RecordType;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// What we take over UDP, in bytes: what fits every path (dnsflagday.net/2020).
const PAYLOAD: u16 = 1232;
/// Datagrams that are not ours before we give up listening.
const STRAY: usize = 64;

/// A name server as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// Reads `host`, `host:port`, `address`, `address:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str, port: u16) -> Result<Self, String> {
        let fault = || format!("`{}` is no name server (host or host:port)", one_line(text, 100));
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Self { host: ip.to_string(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, number)) => (host, number.parse().ok().filter(|n| *n > 0).ok_or_else(fault)?),
            None => (text, port),
        };
        let host = Fqdn::parse(host).map_err(|_| fault())?;
        Ok(Self { host: host.as_str().to_owned(), port })
    }

    /// Its address; a name is looked up by the system.
    ///
    /// # Errors
    /// [`DnsError::Unanswered`].
    pub(super) async fn address(&self, limit: Duration) -> Result<SocketAddr, DnsError> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, self.port));
        }
        let fault = |reason: String| DnsError::Unanswered { server: self.to_string(), reason };
        let look_up = tokio::net::lookup_host((self.host.as_str(), self.port));
        match tokio::time::timeout(limit, look_up).await {
            Err(_) => Err(fault(format!("its address was not found within {limit:?}"))),
            Ok(Err(error)) => Err(fault(format!("its address was not found: {error}"))),
            Ok(Ok(mut found)) => found.next().ok_or_else(|| fault("it has no address".into())),
        }
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What bytes that came are.
pub(super) enum Judged<T> {
    /// The answer.
    Answer(T),
    /// Something else, and what is wrong with it.
    Stray(String),
}

/// Asks `server` for records of `name`.
///
/// # Errors
/// What happened, for people.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Fqdn,
    kind: RecordType,
    recursive: bool,
    limit: Duration,
) -> Result<Message, String> {
    let wire = name.to_wire().map_err(|e| e.to_string())?;
    let mut request = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    request.metadata.recursion_desired = recursive;
    request.add_query(Query::query(wire.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    request.set_edns(edns);
    let bytes = request.to_vec().map_err(|e| format!("the question cannot be encoded: {e}"))?;
    let id = request.metadata.id;
    exchange(server, &bytes, limit, |answer| {
        let message = match Message::from_vec(answer) {
            Ok(message) => message,
            Err(_) => return Judged::Stray("the answer is malformed".into()),
        };
        let head = &message.metadata;
        if head.id != id || head.message_type != MessageType::Response || head.op_code != OpCode::Query {
            return Judged::Stray("the answer is to another question".into());
        }
        let same = match message.queries.as_slice() {
            [query] => query.name() == &wire && query.query_type() == kind,
            // Some servers repeat no question when they fail.
            [] => u16::from(head.response_code) != 0,
            _ => false,
        };
        if same { Judged::Answer(message) } else { Judged::Stray("the answer is to another question".into()) }
    })
    .await
}

/// Sends a message and waits for what `judge` takes for the answer: over UDP, twice, for half of
/// `limit`; then, or when the answer was cut off, over TCP.
///
/// # Errors
/// What happened, for people.
pub(super) async fn exchange<T>(
    server: SocketAddr,
    request: &[u8],
    limit: Duration,
    judge: impl Fn(&[u8]) -> Judged<T>,
) -> Result<T, String> {
    let start = Instant::now();
    let over_udp = udp(server, request, start, limit, &judge).await;
    let why = match over_udp {
        Ok(Some(answer)) => return Ok(answer),
        Ok(None) => "cut off over UDP".to_owned(),
        Err(why) => format!("over UDP {why}"),
    };
    match timeout_at(start + limit, tcp(server, request, &judge)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(fault)) => Err(format!("{why}, over TCP {fault}")),
        Err(_) => Err(format!("{why}, over TCP no answer within {:?}", limit / 2)),
    }
}

/// `None`: the answer was cut off.
async fn udp<T>(
    server: SocketAddr,
    request: &[u8],
    start: Instant,
    limit: Duration,
    judge: &impl Fn(&[u8]) -> Judged<T>,
) -> Result<Option<T>, String> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(|e| format!("no socket: {e}"))?;
    // Only datagrams of this server arrive, and its refusals to listen are told.
    socket.connect(server).await.map_err(|e| e.to_string())?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut why = None;
    for end in [start + limit / 4, start + limit / 2] {
        socket.send(request).await.map_err(|e| e.to_string())?;
        for _ in 0..STRAY {
            let length = match timeout_at(end, socket.recv(&mut buffer)).await {
                Err(_) => break,
                Ok(received) => received.map_err(|e| e.to_string())?,
            };
            let Some(answer) = buffer.get(..length) else { continue };
            // Cut off, and to our id: the whole comes over TCP.
            if answer.get(..2) == request.get(..2) && answer.get(2).is_some_and(|flags| flags & 0x82 == 0x82) {
                return Ok(None);
            }
            match judge(answer) {
                Judged::Answer(answer) => return Ok(Some(answer)),
                Judged::Stray(reason) => why = Some(reason),
            }
        }
    }
    Err(why.unwrap_or_else(|| format!("no answer within {:?}", limit / 2)))
}

async fn tcp<T>(server: SocketAddr, request: &[u8], judge: &impl Fn(&[u8]) -> Judged<T>) -> Result<T, String> {
    let length = u16::try_from(request.len()).map_err(|_| "the question is too long".to_owned())?;
    let mut stream = TcpStream::connect(server).await.map_err(|e| e.to_string())?;
    // RFC 1035, section 4.2.2: two bytes of length in front; in one write (RFC 7766, section 8).
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(request);
    stream.write_all(&framed).await.map_err(|e| e.to_string())?;
    let length = stream.read_u16().await.map_err(|e| e.to_string())?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(|e| e.to_string())?;
    match judge(&answer) {
        Judged::Answer(answer) => Ok(answer),
        Judged::Stray(reason) => Err(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn name_servers_in_every_form() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
            ("ns1.example.test", "ns1.example.test:53"),
            ("ns1.example.test:54", "ns1.example.test:54"),
        ] {
            assert_eq!(Server::parse(text, 53).map(|s| s.to_string()).as_deref(), Ok(shown));
        }
        for bad in ["", ":53", "ns 1", "ns1:", "ns1:x", "ns1:0", "ns1:70000", "a\nb"] {
            assert!(Server::parse(bad, 53).is_err(), "{bad:?}");
        }
    }
}
