//! PostgreSQL asks for TLS before it begins a handshake
//! (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>). Where routers want TLS the
//! proxy says yes in the server's place, so that it learns the name that the client asks for.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// `SSLRequest`: its length, and the number that stands for it.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const YES: u8 = b'S';

/// Whether the request may still come.
pub(super) fn may_become(read: &[u8]) -> bool {
    read.len() < REQUEST.len() && REQUEST.starts_with(read)
}

/// Takes the request off; false if it is none.
pub(super) fn take(read: &mut Vec<u8>) -> bool {
    let is = read.starts_with(&REQUEST);
    if is {
        read.drain(..REQUEST.len());
    }
    is
}

/// Says yes to a client.
pub(super) async fn agree(client: &mut (impl AsyncWrite + Unpin)) -> bool {
    client.write_all(&[YES]).await.is_ok()
}

/// Asks a server, on behalf of a client that was told yes.
pub(super) async fn ask(server: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    server.write_all(&REQUEST).await.is_ok() && server.read_u8().await.is_ok_and(|said| said == YES)
}
