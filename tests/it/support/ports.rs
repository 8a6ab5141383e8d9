//! Ports for programs that have to be told one. They lie below those that the kernel gives by itself
//! (`net.ipv4.ip_local_port_range`), so that no test that asks the kernel for one takes it before the program is up.

use std::net::{TcpListener, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The first one, and how many there are.
const FIRST: u16 = 18_000;
const MANY: u16 = 14_000;

/// A port of 127.0.0.1 that nobody has, TCP or UDP; this process gives each once.
pub fn free() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Other processes run tests, too.
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random_range(0..MANY)));
    (0..MANY)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % MANY)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
