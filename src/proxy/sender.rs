//! A message from HTTP/2 on its way to a connection of HTTP/1.1: its head and, frame by frame, its body.
//!
//! What always holds: a frame is asked for when the last one is written, so that the receiver sets the pace.

use crate::http::h1::{self, Framing};
use bytes::{Buf, Bytes};
use http_body::Body;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Up to this much is copied together and written in one piece.
const TOGETHER: usize = 4 * 1_024;

/// What is sent of a message.
#[derive(Debug)]
pub(super) struct Sender<B> {
    lead: Vec<u8>,
    lead_at: usize,
    data: Bytes,
    incoming: B,
    chunked: bool,
    read: bool,
    /// Bytes of the body so far.
    pub(super) bytes: u64,
    /// A frame of the body was taken.
    pub(super) has_read: bool,
    /// Something was written.
    pub(super) has_written: bool,
    /// Something has moved since this was last set to false.
    pub(super) moved: bool,
    /// It waits for more of the body, when it waits.
    pub(super) waits_for_body: bool,
}

/// Why a message was not sent to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The body broke off.
    Source,
    /// The receiver takes no more.
    Sink,
}

impl<B: Body<Data = Bytes> + Unpin> Sender<B> {
    /// A head and the body that follows it. Where the framing says that there is none, nothing is read of it: the answer
    /// to a HEAD is whole without the body that a server sends all the same.
    pub(super) fn new(mut lead: Vec<u8>, incoming: B, framing: Framing) -> Self {
        let (read, chunked) = (framing == Framing::None || incoming.is_end_stream(), framing == Framing::Chunked);
        if read && chunked {
            // Its head was written when it was not known yet that nothing comes.
            lead.extend_from_slice(b"0\r\n\r\n");
        }
        Self {
            lead,
            lead_at: 0,
            data: Bytes::new(),
            read,
            incoming,
            chunked,
            bytes: 0,
            has_read: false,
            has_written: false,
            moved: true,
            waits_for_body: false,
        }
    }

    /// The body, if nothing of it was taken.
    pub(super) fn into_body(self) -> Option<B> {
        (!self.has_read).then_some(self.incoming)
    }

    /// The memory of what is written, while nothing is to be.
    pub(super) fn spent(&mut self) -> Option<Vec<u8>> {
        (self.lead.is_empty() && self.lead.capacity() > 0).then(|| std::mem::take(&mut self.lead))
    }

    /// Sends what can be sent. Ready when all is written.
    pub(super) fn poll<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Broken>> {
        loop {
            // What is there of the body goes out together with the head.
            let more = if self.read || !self.data.is_empty() || self.lead.len() > TOGETHER {
                Poll::Ready(())
            } else {
                self.poll_read(cx)?
            };
            self.waits_for_body = false;
            ready!(self.poll_write(cx, to)).map_err(|_| Broken::Sink)?;
            if self.read && self.is_written() {
                return Poll::Ready(Ok(()));
            }
            if more.is_pending() {
                self.waits_for_body = true;
                return Poll::Pending;
            }
        }
    }

    fn is_written(&self) -> bool {
        self.lead_at == self.lead.len() && self.data.is_empty()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Broken> {
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(frame) => frame,
        };
        self.has_read = true;
        self.moved = true;
        let mut trailers = None;
        match frame {
            Some(Err(_)) => return Err(Broken::Source),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.put(data),
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    self.read = true;
                }
            },
            None => self.read = true,
        }
        self.read |= self.incoming.is_end_stream();
        if self.read && self.chunked {
            // Behind the data, which is then copied.
            self.lead.extend_from_slice(&std::mem::take(&mut self.data));
            if self.bytes > 0 {
                self.lead.extend_from_slice(b"\r\n");
            }
            self.lead.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.iter().flatten() {
                if h1::is_forbidden_trailer(name.as_str().as_bytes()) {
                    return Err(Broken::Source);
                }
                self.lead.extend_from_slice(name.as_str().as_bytes());
                self.lead.extend_from_slice(b": ");
                self.lead.extend_from_slice(value.as_bytes());
                self.lead.extend_from_slice(b"\r\n");
            }
            self.lead.extend_from_slice(b"\r\n");
        }
        Ok(Poll::Ready(()))
    }

    fn put(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if self.chunked {
            if self.bytes > 0 {
                self.lead.extend_from_slice(b"\r\n");
            }
            self.lead.extend_from_slice(h1::chunk_head(data.len(), &mut [0; 18]));
        }
        self.bytes += data.len() as u64;
        if self.lead.len() + data.len() <= TOGETHER {
            self.lead.extend_from_slice(&data);
        } else {
            self.data = data;
        }
    }

    fn poll_write<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let lead = self.lead.get(self.lead_at..).unwrap_or_default();
            let written = match (lead, &*self.data) {
                (one, []) | ([], one) => ready!(Pin::new(&mut *to).poll_write(cx, one))?,
                (one, two) => {
                    let parts = [IoSlice::new(one), IoSlice::new(two)];
                    ready!(Pin::new(&mut *to).poll_write_vectored(cx, &parts))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_written = true;
            self.moved = true;
            let of_lead = written.min(lead.len());
            self.lead_at += of_lead;
            self.data.advance(written - of_lead);
        }
        self.lead.clear();
        self.lead_at = 0;
        Pin::new(to).poll_flush(cx)
    }
}
