//! Looks at the answers to challenges, over sockets, as an authority does.

use super::Look;
use crate::support::{self, PATIENCE};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What an authority says of an answer that is not right: type and words.
type Verdict = Result<(), (&'static str, String)>;

/// The acmeIdentifier extension (RFC 8737, 6.1).
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// Looks at one challenge.
pub async fn validate(look: &Look, kind: &str, name: &str, token: &str, authorization: &str) -> Verdict {
    let looked = tokio::time::timeout(PATIENCE, async {
        match kind {
            "http-01" => http(look.http, name, token, authorization).await,
            "tls-alpn-01" => tls_alpn(look.tls, name, authorization).await,
            _ => dns(look, name, authorization),
        }
    });
    looked.await.unwrap_or_else(|_| Err(("connection", "timeout during validation".to_owned())))
}

async fn connect(addr: Option<SocketAddr>) -> Result<TcpStream, (&'static str, String)> {
    let addr = addr.ok_or(("connection", "no route to host".to_owned()))?;
    TcpStream::connect(addr).await.map_err(|error| ("connection", error.to_string()))
}

async fn http(addr: Option<SocketAddr>, name: &str, token: &str, authorization: &str) -> Verdict {
    let mut stream = connect(addr).await?;
    let path = format!("/.well-known/acme-challenge/{token}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    stream.write_all(request.as_bytes()).await.map_err(|error| ("connection", error.to_string()))?;
    stream.read_to_end(&mut answer).await.map_err(|error| ("connection", error.to_string()))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(("connection", "no answer".to_owned()))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        let status = head.lines().next().unwrap_or_default();
        return Err(("unauthorized", format!("invalid response from {name}: {status}")));
    }
    match body.trim_end() == authorization {
        true => Ok(()),
        false => Err(("unauthorized", "the key authorization file does not match".to_owned())),
    }
}

async fn tls_alpn(addr: Option<SocketAddr>, name: &str, authorization: &str) -> Verdict {
    let stream = connect(addr).await?;
    // an authority looks at the challenge's certificate itself
    let config = support::tls::blind_to_keys(&[b"acme-tls/1"]);
    let server = ServerName::try_from(name.to_owned()).expect("a name");
    let tls = tokio_rustls::TlsConnector::from(config).connect(server, stream).await;
    let tls = tls.map_err(|error| ("tls", error.to_string()))?;
    let (_, connection) = tls.get_ref();
    let refused = |words: &str| ("unauthorized", words.to_owned());
    if connection.alpn_protocol() != Some(b"acme-tls/1") {
        return Err(refused("acme-tls/1 was not negotiated"));
    }
    let certificate = connection.peer_certificates().and_then(|all| all.first());
    let certificate = certificate.ok_or_else(|| refused("no certificate"))?;
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| refused("does not parse"))?;
    certificate.verify_signature(None).map_err(|_| refused("not self-signed"))?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.ok_or_else(|| refused("no alternative name"))?;
    if !matches!(&*names.value.general_names, [GeneralName::DNSName(one)] if *one == name) {
        return Err(refused("the certificate has to have this one name"));
    }
    let expected = digest::digest(&digest::SHA256, authorization.as_bytes());
    let extension = certificate.extensions().iter().find(|extension| extension.oid.to_id_string() == ACME_IDENTIFIER);
    let extension = extension.filter(|extension| extension.critical);
    let extension = extension.ok_or_else(|| refused("no critical acmeIdentifier"))?;
    // An OCTET STRING of 32 bytes.
    match extension.value.split_at_checked(2) {
        Some(([4, 32], value)) if value == expected.as_ref() => Ok(()),
        _ => Err(refused("the acmeIdentifier is of another key authorization")),
    }
}

fn dns(look: &Look, name: &str, authorization: &str) -> Verdict {
    let records = (look.txt)(&format!("_acme-challenge.{name}"));
    let value = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, authorization.as_bytes()));
    match records.contains(&value) {
        true => Ok(()),
        false if records.is_empty() => Err(("dns", format!("NXDOMAIN looking up TXT for _acme-challenge.{name}"))),
        false => Err(("unauthorized", "incorrect TXT record".to_owned())),
    }
}
