//! HTTP/2 with prior knowledge on plain connections (RFC 9113, 3.3): known by its preface, of which
//! no request of HTTP/1.1 is the beginning.

use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every HTTP/2 client says first (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a plain connection tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// The preface is there.
    Http2,
    /// Something else.
    Http1,
    /// Too little to tell.
    More,
}

/// Tells by the first bytes, be they few or many.
pub(super) fn speaks(first: &[u8]) -> Speaks {
    let common = first.len().min(PREFACE.len());
    match first[..common] == PREFACE[..common] {
        false => Speaks::Http1,
        true if common == PREFACE.len() => Speaks::Http2,
        true => Speaks::More,
    }
}

/// Reads until it is clear what is spoken; gives the bytes back in front of the stream. A client that
/// ends before has said nothing of HTTP/2.
pub(super) async fn find_out<T: AsyncRead + Unpin>(mut stream: T) -> io::Result<(Speaks, Prefixed<T>)> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    let speaks = loop {
        match stream.read(&mut first[length..]).await? {
            0 => break Speaks::Http1,
            read => length += read,
        }
        match speaks(&first[..length]) {
            Speaks::More => {}
            known => break known,
        }
    };
    Ok((speaks, Prefixed::new(Bytes::copy_from_slice(&first[..length]), stream)))
}

/// A stream of which some bytes were read already.
#[derive(Debug)]
pub(super) struct Prefixed<T> {
    first: Bytes,
    stream: T,
}

impl<T> Prefixed<T> {
    /// Gives `first`, then what the stream has.
    pub(super) fn new(first: Bytes, stream: T) -> Self {
        Self { first, stream }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let given = self.first.len().min(buf.remaining());
        if given == 0 {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        buf.put_slice(&self.first[..given]);
        self.first.advance(given);
        if self.first.is_empty() {
            // Lets go of the allocation.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefixed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn the_preface_is_known_from_any_number_of_bytes() {
        for (first, found) in [
            (&b""[..], Speaks::More),
            (b"P", Speaks::More),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Speaks::More),
            (PREFACE, Speaks::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Speaks::Http2),
            (b"PROPFIND", Speaks::Http1),
            (b"PRI /", Speaks::Http1),
            (b"PRI * HTTP/1.1\r\n", Speaks::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Speaks::Http1),
            (b"GET / HTTP/1.1\r\n", Speaks::Http1),
        ] {
            assert_eq!(speaks(first), found, "{:?}", String::from_utf8_lossy(first));
        }
    }

    #[test]
    fn what_was_read_comes_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (pieces, found) in [
                (vec![&b"POST / HTTP/1.1\r\n\r\n"[..]], Speaks::Http1),
                (vec![b"P", b"R", b"I * HTTP/2.0\r\n\r\n", b"SM\r\n\r\nmore"], Speaks::Http2),
                (vec![b"PRI"], Speaks::Http1),
                (vec![], Speaks::Http1),
            ] {
                // So narrow that each piece is read by itself.
                let (mut client, server) = tokio::io::duplex(24);
                let said = pieces.concat();
                let feed = async move {
                    for piece in pieces {
                        client.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                let take = async {
                    let (speaks, mut stream) = find_out(server).await.unwrap();
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await.unwrap();
                    (speaks, all)
                };
                let (_, (speaks, all)) = tokio::join!(feed, take);
                assert_eq!((speaks, all), (found, said));
            }
        });
    }
}
