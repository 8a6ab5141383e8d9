//! The check of a gRPC server by the gRPC Health Checking Protocol
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>): `grpc.health.v1.Health/Check` for the
//! server as a whole, as Traefik asks.

use super::http::{authority, http2};
use super::{ProbeError, http as plain};
use crate::table::GrpcCheck;
use crate::upstream::resolve::Addresses;
use crate::upstream::{Endpoint, Settings, connect};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use std::rc::Rc;

/// Of an answer's body no more is read.
const MAX_BODY: usize = 4 * 1_024;
/// An empty `HealthCheckRequest`: not compressed, of length 0.
const REQUEST: &[u8] = &[0; 5];

/// Runs it; the caller keeps the time.
pub(super) async fn check(
    check: &GrpcCheck,
    endpoint: &Endpoint,
    addresses: &Rc<Addresses>,
    settings: &Settings,
) -> Result<(), ProbeError> {
    let offered: &[&[u8]] = if endpoint.tls { &[b"h2"] } else { &[] };
    let stream = connect::connect(endpoint, addresses, settings, None, offered).await?.stream;
    let (mut sender, _connection) = http2(stream).await?;
    let own = authority(endpoint);
    let host = check.hostname.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(&own);
    let scheme = if endpoint.tls { "https" } else { "http" };
    let mut request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header(header::USER_AGENT, plain::AGENT)
        .header(header::TE, "trailers")
        .body(Full::new(Bytes::from_static(REQUEST)))?;
    for (name, value) in check.headers.iter().filter(|(name, _)| *name != header::HOST) {
        request.headers_mut().insert(name, value.clone());
    }
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut answer = sender.send_request(request).await?;
    if answer.status() != 200 {
        return Err(ProbeError::Status(answer.status().as_u16()));
    }
    if let Some(status) = answer.headers().get("grpc-status") {
        // There is no message then.
        return Err(failed(status).err().unwrap_or(ProbeError::NotGrpc));
    }
    let mut message = Vec::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = answer.body_mut().frame().await {
        match frame?.into_data() {
            Ok(data) if message.len() + data.len() > MAX_BODY => return Err(ProbeError::NotGrpc),
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    failed(trailers.get("grpc-status").ok_or(ProbeError::NotGrpc)?)?;
    match status(&message).ok_or(ProbeError::NotGrpc)? {
        1 => Ok(()),
        2 => Err(ProbeError::NotServing("NOT_SERVING")),
        3 => Err(ProbeError::NotServing("SERVICE_UNKNOWN")),
        _ => Err(ProbeError::NotServing("UNKNOWN")),
    }
}

/// What `grpc-status` says.
fn failed(status: &HeaderValue) -> Result<(), ProbeError> {
    match status.as_bytes() {
        b"0" => Ok(()),
        b"12" => Err(ProbeError::Unimplemented),
        other => Err(ProbeError::Grpc(other.escape_ascii().take(16).map(char::from).collect())),
    }
}

/// The status in a `HealthCheckResponse`, which stands behind the prefix of a message that is not compressed.
fn status(message: &[u8]) -> Option<u64> {
    let (prefix, mut fields) = message.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix.get(1..5)?.try_into().ok()?) as usize;
    if prefix[0] != 0 || length != fields.len() {
        return None;
    }
    let mut status = 0;
    while !fields.is_empty() {
        let tag = varint(&mut fields)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut fields)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => fields = fields.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut fields)?).ok()?;
                fields = fields.get(length..)?;
            }
            5 => fields = fields.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages() {
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 2]), Some(2));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        // unknown fields of each kind are passed over
        let fields = [0x12, 2, b'h', b'i', 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x28, 0xac, 2, 8, 1];
        let mut message = vec![0, 0, 0, 0, fields.len() as u8];
        message.extend(fields);
        assert_eq!(status(&message), Some(1));
        for bad in [&[][..], &[0; 4], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 3, 8, 1], &[0, 0, 0, 0, 2, 8, 0x80]] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = status(&bytes);
        }
    }
}
