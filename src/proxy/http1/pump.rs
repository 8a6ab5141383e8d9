//! One direction of an exchange: a head, if there is one, and a body from one HTTP/1.1 connection to another.
//!
//! What always holds: nothing more is read before everything read has been written, so that the slower
//! side sets the pace; what is read of a body never goes beyond its end, but for chunked ones, where what stands
//! behind it is kept as `surplus`. A body is sent on framed by what was understood of it.

use crate::http::Tap;
use crate::http::h1::{self, Chunked, Fault, Framing, What};
use crate::proxy::buffers::{Buffers, poll_fill};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes of a trailer section.
const TRAILERS: usize = 16 * 1_024;
/// Up to this much is copied together and written in one piece: cheaper than a list of parts.
const TOGETHER: usize = 4 * 1_024;

/// How much of a body is read at once that is framed anew.
const FRAMED: u64 = 48 * 1_024;

/// What is left of a body to be read.
#[derive(Debug)]
enum Left {
    Nothing,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// How the body is framed for the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// As it is: its length was announced, or the end of the connection is its end.
    Plain,
    /// In chunks.
    Chunked,
}

/// Why a body broke off.
#[derive(Debug)]
pub(super) enum Broken {
    /// The sender went away, or the connection to it failed.
    Source,
    /// The sender's framing makes no sense.
    Framing(Fault),
    /// The receiver went away, or the connection to it failed.
    Sink,
}

/// What a pump that goes no further waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// The sender.
    Source,
    /// The receiver.
    Sink,
}

/// A head and a body on their way.
#[derive(Debug)]
pub(super) struct Pump<'a> {
    left: Left,
    sent: Sent,
    lead: Vec<u8>,
    lead_at: usize,
    first: &'a [u8],
    body: Vec<u8>,
    body_at: usize,
    /// Bytes of the body so far, without framing.
    pub(super) bytes: u64,
    /// What stood behind the body's end.
    pub(super) surplus: Vec<u8>,
    /// What it waits for, when it waits.
    pub(super) waits: Waits,
    /// More was read than what came with the head.
    pub(super) has_read: bool,
    /// Something was written.
    pub(super) has_written: bool,
    /// Something has moved since this was last set to false.
    pub(super) moved: bool,
    /// What copies the body, where it has mirrors.
    tap: Option<Box<Tap>>,
}

impl<'a> Pump<'a> {
    /// A pump that sends `lead` (a head) and then a body of which `read` came with its head already.
    ///
    /// # Errors
    /// The body's framing makes no sense.
    pub(super) fn new(lead: Vec<u8>, framing: Framing, sent: Sent, read: &'a [u8]) -> Result<Self, Fault> {
        Self::tapped(lead, framing, sent, read, None)
    }

    /// The same, with copies of the body.
    ///
    /// # Errors
    /// The body's framing makes no sense.
    pub(super) fn tapped(
        lead: Vec<u8>,
        framing: Framing,
        sent: Sent,
        read: &'a [u8],
        tap: Option<Box<Tap>>,
    ) -> Result<Self, Fault> {
        let left = match framing {
            Framing::None | Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::new(TRAILERS)),
            Framing::UntilClose => Left::UntilClose,
        };
        let mut pump = Self {
            left,
            sent,
            lead,
            lead_at: 0,
            first: &[],
            body: Vec::new(),
            body_at: 0,
            bytes: 0,
            surplus: Vec::new(),
            waits: Waits::Source,
            has_read: false,
            has_written: false,
            moved: true,
            tap,
        };
        let plain = pump.plain(read.len());
        let (mine, behind) = read.split_at(plain);
        pump.bytes += plain as u64;
        pump.copy(mine);
        if pump.lead.len() + plain <= TOGETHER {
            pump.lead.extend_from_slice(mine);
        } else {
            pump.first = mine;
        }
        if matches!(pump.left, Left::Nothing) || behind.is_empty() {
            pump.surplus.extend_from_slice(behind);
        } else {
            pump.framed(behind)?;
        }
        pump.copied();
        Ok(pump)
    }

    /// Whether the sender's part is over.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// What copies the body, for another try.
    pub(super) fn untap(&mut self) -> Option<Box<Tap>> {
        self.tap.take()
    }

    fn copy(&mut self, data: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.push(data);
        }
    }

    /// Tells the copies of the body's end, if it is there.
    fn copied(&mut self) {
        if self.is_read()
            && let Some(tap) = &self.tap
        {
            tap.end();
        }
    }

    fn is_written(&self) -> bool {
        self.lead_at == self.lead.len() && self.first.is_empty() && self.body_at == self.body.len()
    }

    /// How many of so many bytes read go on as they are; counts them off.
    fn plain(&mut self, read: usize) -> usize {
        match (&mut self.left, self.sent) {
            (Left::Length(left), Sent::Plain) => {
                let mine = usize::try_from(*left).map_or(read, |left| left.min(read));
                *left -= mine as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                mine
            }
            (Left::UntilClose, Sent::Plain) => read,
            _ => 0,
        }
    }

    /// Takes in what cannot go on as it is, but is taken out of its chunks, put into chunks, or both.
    fn framed(&mut self, mut read: &[u8]) -> Result<(), Fault> {
        let Self { left, sent, lead, bytes, surplus, tap, .. } = self;
        let mut put = |data: &[u8]| {
            *bytes += data.len() as u64;
            if let Some(tap) = tap {
                tap.push(data);
            }
            if *sent == Sent::Chunked {
                lead.extend_from_slice(h1::chunk_head(data.len(), &mut [0; 18]));
                lead.extend_from_slice(data);
                lead.extend_from_slice(b"\r\n");
            } else {
                lead.extend_from_slice(data);
            }
        };
        let end: &[u8] = match left {
            Left::Chunked(decoder) => loop {
                let piece = decoder.next(read)?;
                let (mine, behind) = read.split_at(piece.consumed.min(read.len()));
                match piece.what {
                    What::Data(data) => put(mine.get(data).unwrap_or_default()),
                    What::More => return Ok(()),
                    What::End => {
                        surplus.extend_from_slice(behind);
                        break decoder.trailers();
                    }
                }
                read = behind;
            },
            Left::Length(length) => {
                let (mine, behind) = read.split_at(usize::try_from(*length).unwrap_or(usize::MAX).min(read.len()));
                put(mine);
                *length -= mine.len() as u64;
                if *length > 0 {
                    return Ok(());
                }
                surplus.extend_from_slice(behind);
                &[]
            }
            Left::UntilClose => {
                put(read);
                return Ok(());
            }
            Left::Nothing => return Ok(()),
        };
        if *sent == Sent::Chunked {
            lead.extend_from_slice(b"0\r\n");
            lead.extend_from_slice(end);
            lead.extend_from_slice(b"\r\n");
        }
        self.left = Left::Nothing;
        Ok(())
    }

    /// Moves what can be moved. Ready when all of it is written, or it broke.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        buffers: &Buffers,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            self.waits = Waits::Sink;
            ready!(self.poll_write(cx, to)).map_err(|_| Broken::Sink)?;
            if self.is_read() {
                self.put_back(buffers);
                return Poll::Ready(Ok(()));
            }
            self.waits = Waits::Source;
            if let Some(tap) = &mut self.tap {
                ready!(tap.poll_turn(cx));
            }
            let most = match (&self.left, self.sent) {
                (Left::Length(left), Sent::Plain) => *left,
                (Left::UntilClose, Sent::Plain) => u64::MAX,
                // With what frames it it fits a buffer again.
                _ => FRAMED,
            };
            let mut buffer = match &self.left {
                _ if self.body.capacity() > 0 => std::mem::take(&mut self.body),
                Left::Length(left) => buffers.take_for(*left),
                _ => buffers.take(),
            };
            buffer.clear();
            self.body_at = 0;
            match poll_fill(from, cx, &mut buffer, most) {
                Poll::Pending => {
                    buffers.give(buffer);
                    self.put_back(buffers);
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
                Poll::Ready(Ok(0)) => {
                    buffers.give(buffer);
                    if !matches!(self.left, Left::UntilClose) {
                        return Poll::Ready(Err(Broken::Source));
                    }
                    self.left = Left::Nothing;
                    if self.sent == Sent::Chunked {
                        self.lead.extend_from_slice(b"0\r\n\r\n");
                    }
                }
                Poll::Ready(Ok(read)) => {
                    self.moved = true;
                    self.has_read = true;
                    let plain = self.plain(read);
                    if plain > 0 {
                        self.bytes += plain as u64;
                        self.copy(buffer.get(..plain).unwrap_or_default());
                        self.body = buffer;
                    } else {
                        let taken = self.framed(&buffer);
                        buffers.give(buffer);
                        taken.map_err(Broken::Framing)?;
                    }
                    self.copied();
                }
            }
        }
    }

    /// Writes what waits to be written, but for what is read later. Ready when nothing waits.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let lead = self.lead.get(self.lead_at..).unwrap_or_default();
            let body = self.body.get(self.body_at..).unwrap_or_default();
            let written = match (lead, self.first, body) {
                (one, [], []) | ([], one, []) | ([], [], one) => ready!(Pin::new(&mut *to).poll_write(cx, one))?,
                (one, two, three) => {
                    let parts = [IoSlice::new(one), IoSlice::new(two), IoSlice::new(three)];
                    ready!(Pin::new(&mut *to).poll_write_vectored(cx, &parts))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved = true;
            self.has_written = true;
            let of_lead = written.min(lead.len());
            let of_first = (written - of_lead).min(self.first.len());
            self.lead_at += of_lead;
            self.first = self.first.get(of_first..).unwrap_or_default();
            self.body_at += written - of_lead - of_first;
        }
        self.lead.clear();
        self.lead_at = 0;
        // What TLS keeps back.
        Pin::new(to).poll_flush(cx)
    }

    /// Gives the memory back that is not in use.
    pub(super) fn put_back(&mut self, buffers: &Buffers) {
        if self.lead_at == self.lead.len() {
            buffers.give(std::mem::take(&mut self.lead));
            self.lead_at = 0;
        }
        if self.body_at == self.body.len() {
            buffers.give(std::mem::take(&mut self.body));
            self.body_at = 0;
        }
    }
}
