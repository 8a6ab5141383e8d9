//! A name server over UDP and TCP that takes dynamic updates, with a TSIG of its own. Not kinder than
//! bind: it refuses what is not signed, signed wrongly, with an unknown key or at another time, and zones
//! and names that are not its own.

use aws_lc_rs::hmac;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

/// How it behaves over UDP.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Udp {
    #[default]
    Whole,
    CutOff,
    Silent,
}

#[derive(Default)]
pub struct State {
    pub zones: Vec<Name>,
    pub records: Vec<(Name, RData)>,
    /// Name, algorithm, secret.
    pub key: Option<(String, &'static str, Vec<u8>)>,
    pub udp: Udp,
    /// Answers updates without a signature, as somebody else would.
    pub forges: bool,
    /// Its clock runs ahead by so many seconds.
    pub ahead: u64,
    /// What it was asked, `TXT name`.
    pub asked: Vec<String>,
    /// What came over TCP.
    pub over_tcp: usize,
}

pub struct Server {
    pub address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
    stop: Arc<AtomicBool>,
}

pub fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name").to_lowercase();
    name.set_fqdn(true);
    name
}

impl Server {
    /// On one port of the kernel's at each of these loopback addresses.
    pub fn at<const N: usize>(last: [u8; N]) -> [Self; N] {
        for _ in 0..200 {
            let probe = UdpSocket::bind("127.0.0.1:0").expect("a port");
            let port = probe.local_addr().expect("bound").port();
            drop(probe);
            let bound: Vec<_> = last
                .iter()
                .filter_map(|byte| {
                    let at = (Ipv4Addr::new(127, 0, 0, *byte), port);
                    Some((UdpSocket::bind(at).ok()?, TcpListener::bind(at).ok()?))
                })
                .collect();
            if let Ok(bound) = <[_; N]>::try_from(bound) {
                return bound.map(|(udp, tcp)| Self::start(udp, tcp));
            }
        }
        panic!("no port is free at all addresses");
    }

    pub fn one() -> Self {
        let [server] = Self::at([1]);
        server
    }

    fn start(udp: UdpSocket, tcp: TcpListener) -> Self {
        let address = udp.local_addr().expect("bound");
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (state, stopped) = (shared.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65535];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let how = state.0.lock().expect("the state").udp;
                if how == Udp::Silent {
                    continue;
                }
                let mut answer = answer(&buffer[..length], &state);
                if how == Udp::CutOff {
                    answer[2] |= 0x02;
                    answer[6..12].fill(0);
                    answer.truncate(12 + buffer[12..length].iter().position(|b| *b == 0).expect("a name") + 5);
                }
                udp.send_to(&answer, from).expect("sent");
            }
        });
        let (state, stopped) = (shared.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                drop(stream.and_then(|mut stream| {
                    let mut length = [0; 2];
                    stream.read_exact(&mut length)?;
                    let mut request = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut request)?;
                    state.0.lock().expect("the state").over_tcp += 1;
                    let answer = answer(&request, &state);
                    stream.write_all(&u16::try_from(answer.len()).expect("short").to_be_bytes())?;
                    stream.write_all(&answer)
                }));
            }
        });
        Self { address, shared, stop }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("the state")
    }

    /// A zone with these name servers.
    pub fn zone(&self, zone: &str, servers: &[(&str, IpAddr)]) {
        let mut state = self.state();
        let apex = name(zone);
        let soa = SOA::new(name("ns.test"), name("admin.test"), 1, 60, 60, 60, 60);
        state.records.push((apex.clone(), RData::SOA(soa)));
        for (server, address) in servers {
            state.records.push((apex.clone(), RData::NS(NS(name(server)))));
            let IpAddr::V4(address) = address else { panic!("IPv4") };
            state.records.push((name(server), RData::A(A(*address))));
        }
        state.zones.push(apex);
    }

    pub fn cname(&self, from: &str, to: &str) {
        let mut state = self.state();
        state.records.retain(|(owner, _)| *owner != name(from));
        state.records.push((name(from), RData::CNAME(CNAME(name(to)))));
    }

    pub fn txt(&self, at: &str, value: &str) {
        self.state().records.push((name(at), RData::TXT(TXT::new(vec![value.into()]))));
    }

    /// Values of TXT records at a name, sorted.
    pub fn texts(&self, at: &str) -> Vec<String> {
        let mut texts: Vec<String> = self
            .state()
            .records
            .iter()
            .filter_map(|(owner, data)| match data {
                RData::TXT(txt) if *owner == name(at) => Some(String::from_utf8(txt.txt_data.concat()).expect("text")),
                _ => None,
            })
            .collect();
        texts.sort();
        texts
    }

    /// Waits until it was asked this.
    pub fn wait_until_asked(&self, what: &str) {
        let mut state = self.state();
        while !state.asked.iter().any(|asked| asked == what) {
            state = self.shared.1.wait(state).expect("the state");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        drop(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"stop", self.address)));
    }
}

fn answer(bytes: &[u8], shared: &(Mutex<State>, Condvar)) -> Vec<u8> {
    let request = Message::from_vec(bytes).expect("a message");
    let mut state = shared.0.lock().expect("the state");
    let mut answer = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    answer.queries = request.queries.clone();
    let query = request.queries.first().expect("a question");
    if request.metadata.op_code == OpCode::Update {
        return update(bytes, &request, answer, &mut state);
    }
    state.asked.push(format!("{} {}", query.query_type(), query.name().to_lowercase()));
    shared.1.notify_all();
    let asked = query.name().to_lowercase();
    let here: Vec<_> = state.records.iter().filter(|(owner, _)| *owner == asked).collect();
    let soa = |zone: &Name| state.records.iter().find(|(o, d)| o == zone && d.record_type() == RecordType::SOA);
    let zone = state.zones.iter().filter(|zone| zone.zone_of(&asked)).max_by_key(|zone| zone.num_labels());
    for (owner, data) in &here {
        if data.record_type() == query.query_type() || data.record_type() == RecordType::CNAME {
            answer.add_answer(Record::from_rdata(owner.clone(), 60, data.clone()));
        }
    }
    answer.metadata.response_code = match (zone, here.is_empty()) {
        (None, true) => ResponseCode::Refused,
        (Some(_), true) => ResponseCode::NXDomain,
        _ => ResponseCode::NoError,
    };
    if let (true, Some((owner, data))) = (answer.answers.is_empty(), zone.and_then(soa)) {
        answer.add_authority(Record::from_rdata(owner.clone(), 60, data.clone()));
    }
    answer.to_vec().expect("an answer")
}

/// RFC 2136 and RFC 8945, section 5.
fn update(bytes: &[u8], request: &Message, mut answer: Message, state: &mut State) -> Vec<u8> {
    let Some((key, algorithm, secret)) = state.key.clone() else {
        answer.metadata.response_code = ResponseCode::Refused;
        return answer.to_vec().expect("an answer");
    };
    let Some(at) = bytes.windows(4).rposition(|four| four == [0, 250, 0, 255]).filter(|_| bytes[11] > 0) else {
        answer.metadata.response_code = ResponseCode::Refused;
        return answer.to_vec().expect("an answer");
    };
    let (own_name, own_algorithm) = (wire(&key), wire(algorithm));
    let start = at.checked_sub(own_name.len()).filter(|start| bytes[*start..at].eq_ignore_ascii_case(&own_name));
    let data = &bytes[at + 10..];
    let known = start.filter(|_| data.starts_with(&own_algorithm));
    let Some(start) = known else {
        return refused(answer, &[&[3, b'b', b'a', b'd', 0][..], &wire(algorithm)], 17);
    };
    let data = &data[own_algorithm.len()..];
    let time = data[..6].iter().fold(0u64, |time, byte| time << 8 | u64::from(*byte));
    let length = usize::from(u16::from_be_bytes([data[8], data[9]]));
    let mac = &data[10..10 + length];
    let variables = |time: u64, error: u16, other: &[u8]| {
        let mut out = [&own_name[..], &[0, 255, 0, 0, 0, 0], &own_algorithm].concat();
        out.extend_from_slice(&time.to_be_bytes()[2..]);
        out.extend_from_slice(&300u16.to_be_bytes());
        out.extend_from_slice(&error.to_be_bytes());
        out.extend_from_slice(&u16::try_from(other.len()).expect("short").to_be_bytes());
        out.extend_from_slice(other);
        out
    };
    let hmac_key = hmac::Key::new(
        match algorithm {
            "hmac-sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            "hmac-sha224" => hmac::HMAC_SHA224,
            "hmac-sha256" => hmac::HMAC_SHA256,
            "hmac-sha384" => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA512,
        },
        &secret,
    );
    let mut covered = bytes[..start].to_vec();
    covered[11] -= 1;
    covered.extend_from_slice(&variables(time, 0, &[]));
    if hmac::verify(&hmac_key, &covered, mac).is_err() {
        return refused(answer, &[&own_name, &own_algorithm], 16);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + state.ahead;
    let (mut error, mut other) = (0, Vec::new());
    if now.abs_diff(time) > 300 {
        (error, other) = (18, now.to_be_bytes()[2..].to_vec());
        answer.metadata.response_code = ResponseCode::NotAuth;
    } else {
        answer.metadata.response_code = apply(request, state);
    }
    let mut out = answer.to_vec().expect("an answer");
    if state.forges {
        return out;
    }
    let signed_at = if error == 18 { time } else { now };
    let mut covered = u16::try_from(mac.len()).expect("short").to_be_bytes().to_vec();
    covered.extend_from_slice(mac);
    covered.extend_from_slice(&out);
    covered.extend_from_slice(&variables(signed_at, error, &other));
    let mac = hmac::sign(&hmac_key, &covered);
    append(&mut out, &own_name, &own_algorithm, signed_at, mac.as_ref(), error, &other);
    out
}

fn refused(mut answer: Message, names: &[&[u8]], error: u16) -> Vec<u8> {
    answer.metadata.response_code = ResponseCode::NotAuth;
    let mut out = answer.to_vec().expect("an answer");
    append(&mut out, names[0], names[1], 0, &[], error, &[]);
    out
}

fn append(out: &mut Vec<u8>, key: &[u8], algorithm: &[u8], time: u64, mac: &[u8], error: u16, other: &[u8]) {
    let mut data = algorithm.to_vec();
    data.extend_from_slice(&time.to_be_bytes()[2..]);
    data.extend_from_slice(&300u16.to_be_bytes());
    data.extend_from_slice(&u16::try_from(mac.len()).expect("short").to_be_bytes());
    data.extend_from_slice(mac);
    data.extend_from_slice(&[out[0], out[1]]);
    data.extend_from_slice(&error.to_be_bytes());
    data.extend_from_slice(&u16::try_from(other.len()).expect("short").to_be_bytes());
    data.extend_from_slice(other);
    out.extend_from_slice(key);
    out.extend_from_slice(&[0, 250, 0, 255, 0, 0, 0, 0]);
    out.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
    out.extend_from_slice(&data);
    out[11] += 1;
}

/// RFC 2136, section 3.4.
fn apply(request: &Message, state: &mut State) -> ResponseCode {
    let zone = request.queries[0].name().to_lowercase();
    if !state.zones.contains(&zone) {
        return ResponseCode::NotAuth;
    }
    for record in &request.authorities {
        let owner = record.name.to_lowercase();
        if !zone.zone_of(&owner) {
            return ResponseCode::NotZone;
        }
        match record.dns_class {
            DNSClass::IN => {
                let new = (owner, record.data.clone());
                if !state.records.contains(&new) {
                    state.records.push(new);
                }
            }
            DNSClass::NONE => state.records.retain(|(o, d)| *o != owner || *d != record.data),
            DNSClass::ANY => state.records.retain(|(o, d)| *o != owner || d.record_type() != record.record_type()),
            _ => return ResponseCode::FormErr,
        }
    }
    ResponseCode::NoError
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.trim_end_matches('.').split('.');
    let mut out: Vec<u8> =
        labels.flat_map(|l| std::iter::once(u8::try_from(l.len()).expect("short")).chain(l.bytes())).collect();
    out.push(0);
    out
}
