//! What the holder and a worker process say to each other: packets over a pair of Unix sockets, sockets with them
//! (`SCM_RIGHTS`, unix(7)).
//!
//! What always holds: a packet is taken whole or not at all, what is unknown is passed over (the other side may be of
//! another version), and nothing here waits unless it says so. Only these two processes have the pair.

use super::deaths::Deaths;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::borrow::Cow;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Sockets that one packet carries; the kernel's limit is 253 (`SCM_MAX_FD`).
const SOCKETS: usize = 64;
/// Longest packet in bytes; a longer text is cut.
const LENGTH: usize = 4_096;

/// Why a worker is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody served before.
    First,
    /// The one before died.
    Replace,
    /// Another one serves, and goes on until this one can.
    Upgrade,
}

/// What is said.
#[derive(Debug)]
pub enum Word {
    /// Sockets of this key ([`crate::listen::Endpoint::key`]), both ways; the worker also names keys without new ones, so
    /// that they are kept.
    Sockets(String, Vec<OwnedFd>),
    /// To the worker: these were all; start. Always the last before it may do anything.
    Go(Why),
    /// To the holder: the configuration holds, the sockets are bound; what ends it from here on is a crash.
    Started,
    /// To the holder: it accepts connections and knows where requests go.
    Ready,
    /// To the worker: another one serves. End what is under way; leave the queues to it.
    Retire,
    /// To the holder: it writes no more to what both would write to, and answers no questions.
    Retired,
    /// To the worker: no other is left that writes.
    Alone,
    /// To the worker: end, as SIGTERM asks.
    Terminate,
    /// To the worker: end at once.
    Hurry,
    /// To the worker: SIGHUP.
    Reload,
    /// To the worker: SIGUSR1.
    ReopenLogs,
    /// To the worker: these died before it.
    Deaths(Deaths),
    /// To the worker: put this into the log; as an error or not.
    Log(bool, String),
    /// Not known here.
    Unknown,
}

impl Word {
    fn encode(&self) -> (u8, Cow<'_, str>) {
        let (kind, text) = match self {
            Self::Deaths(deaths) => return (b'D', deaths.encode().into()),
            Self::Sockets(key, _) => (b'S', key.as_str()),
            Self::Go(Why::First) => (b'G', "first"),
            Self::Go(Why::Replace) => (b'G', "replace"),
            Self::Go(Why::Upgrade) => (b'G', "upgrade"),
            Self::Started => (b'B', ""),
            Self::Ready => (b'R', ""),
            Self::Retire => (b'r', ""),
            Self::Retired => (b'E', ""),
            Self::Alone => (b'A', ""),
            Self::Terminate => (b'T', ""),
            Self::Hurry => (b'N', ""),
            Self::Reload => (b'H', ""),
            Self::ReopenLogs => (b'L', ""),
            Self::Log(true, text) => (b'!', text.as_str()),
            Self::Log(false, text) => (b'.', text.as_str()),
            Self::Unknown => (b'?', ""),
        };
        (kind, text.into())
    }

    fn decode(packet: &[u8], sockets: Vec<OwnedFd>) -> Self {
        let Some((kind, text)) = packet.split_first() else { return Self::Unknown };
        let text = String::from_utf8_lossy(text).into_owned();
        match (kind, text.as_str()) {
            (b'S', _) => Self::Sockets(text, sockets),
            (b'G', "first") => Self::Go(Why::First),
            (b'G', "upgrade") => Self::Go(Why::Upgrade),
            (b'G', _) => Self::Go(Why::Replace),
            (b'B', _) => Self::Started,
            (b'R', _) => Self::Ready,
            (b'r', _) => Self::Retire,
            (b'E', _) => Self::Retired,
            (b'A', _) => Self::Alone,
            (b'T', _) => Self::Terminate,
            (b'N', _) => Self::Hurry,
            (b'H', _) => Self::Reload,
            (b'L', _) => Self::ReopenLogs,
            (b'D', _) => Self::Deaths(Deaths::decode(&text)),
            (b'!', _) => Self::Log(true, text),
            (b'.', _) => Self::Log(false, text),
            _ => Self::Unknown,
        }
    }
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends: the holder's, and what becomes the worker's standard input.
    ///
    /// # Errors
    /// No sockets to be had.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The worker's end.
    ///
    /// # Errors
    /// It is no such socket.
    pub fn of(fd: OwnedFd) -> io::Result<Self> {
        match rustix::net::sockopt::socket_type(&fd)? {
            SocketType::SEQPACKET => Ok(Self(fd)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Says a word without waiting; sockets are passed as copies.
    ///
    /// # Errors
    /// The other end is gone, or takes nothing.
    pub fn say(&self, word: &Word) -> io::Result<()> {
        let (kind, text) = word.encode();
        let mut text = text.as_bytes();
        text = text.get(..LENGTH - 1).unwrap_or(text);
        let none = Vec::new();
        let sockets = if let Word::Sockets(_, sockets) = word { sockets } else { &none };
        let mut rest = sockets.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(SOCKETS));
            self.send(&[IoSlice::new(&[kind]), IoSlice::new(text)], now)?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn send(&self, packet: &[IoSlice<'_>], sockets: &[OwnedFd]) -> io::Result<()> {
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, packet, &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next word that has come; `None` at the end of the other side.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come.
    pub fn hear(&self) -> io::Result<Option<Word>> {
        self.receive(RecvFlags::DONTWAIT)
    }

    /// Waits for the next word; `None` at the end of the other side.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self) -> io::Result<Option<Word>> {
        self.receive(RecvFlags::empty())
    }

    fn receive(&self, flags: RecvFlags) -> io::Result<Option<Word>> {
        let mut packet = [0; LENGTH];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received =
            rustix::io::retry_on_intr(|| recvmsg(&self.0, &mut [IoSliceMut::new(&mut packet)], &mut control, flags));
        let received = match received {
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => received?,
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds);
            }
        }
        // No packet is empty.
        match packet.get(..received.bytes) {
            Some(packet) if !packet.is_empty() => Ok(Some(Word::decode(packet, sockets))),
            _ => Ok(None),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn ends() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().expect("sockets");
        (ours, Channel::of(theirs).expect("of that kind"))
    }

    #[test]
    fn sockets_arrive_however_many_they_are() {
        let (ours, theirs) = ends();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let copies = (0..150).map(|_| listener.try_clone().expect("a copy").into()).collect();
        ours.say(&Word::Sockets("tcp :80".into(), copies)).expect("said");
        ours.say(&Word::Go(Why::Upgrade)).expect("said");
        let mut came = 0;
        loop {
            match theirs.wait().expect("heard") {
                Some(Word::Sockets(key, sockets)) => {
                    assert_eq!(key, "tcp :80");
                    came += sockets.len();
                    let listener = TcpListener::from(sockets.into_iter().next().expect("one"));
                    assert_eq!(listener.local_addr().expect("bound"), address);
                }
                Some(Word::Go(why)) => break assert_eq!(why, Why::Upgrade),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, 150);
    }

    #[test]
    fn what_is_unknown_or_too_long_does_no_harm_and_the_end_is_heard() {
        let (ours, theirs) = ends();
        assert_eq!(theirs.hear().expect_err("nothing came").kind(), io::ErrorKind::WouldBlock);
        ours.say(&Word::Unknown).expect("said");
        ours.say(&Word::Log(true, "x".repeat(LENGTH * 2))).expect("said");
        assert!(matches!(theirs.hear().expect("heard"), Some(Word::Unknown)));
        assert!(matches!(theirs.hear().expect("heard"), Some(Word::Log(true, text)) if text.len() == LENGTH - 1));
        drop(ours);
        assert!(theirs.hear().expect("heard").is_none());
        assert!(theirs.say(&Word::Ready).is_err());
    }

    #[test]
    fn only_such_a_socket_is_taken() {
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(Channel::of(other.into()).is_err());
        let file = std::fs::File::open("/dev/null").expect("there");
        assert!(Channel::of(file.into()).is_err());
    }
}
