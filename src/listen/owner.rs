//! Who listens on a port, by what Linux tells under /proc. A help for people: where nothing can be
//! seen (another user's process, another container), nothing is said.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// Its program's name.
    pub program: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (pid {})", self.program, self.pid)
    }
}

/// The process that listens on `address`, or on an address that includes it.
pub fn of(address: SocketAddr) -> Option<Owner> {
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, address).collect::<Vec<_>>())
        .collect();
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path(), &inodes).then(|| Owner { pid, program: program(&entry.path()) })
    })
}

/// Inodes of the sockets in a table of /proc/net that listen on `address` or keep it from being bound.
fn listening(table: &str, address: SocketAddr) -> impl Iterator<Item = u64> {
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (ip, port) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
        let ip = parse_ip(ip)?;
        let clash = ip == address.ip().to_canonical() || ip.is_unspecified() || address.ip().is_unspecified();
        (state == "0A" && same_port && clash).then_some(inode)
    })
}

/// An address as the kernel prints it: 32-bit words in the machine's order, in hexadecimal.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok();
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes()))),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?.to_ne_bytes());
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

fn holds(process: &Path, inodes: &[u64]) -> bool {
    let Ok(entries) = fs::read_dir(process.join("fd")) else { return false };
    entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| {
        link.to_str()
            .and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
            .is_some_and(|inode| inodes.contains(&inode))
    })
}

fn program(process: &Path) -> String {
    fs::read_to_string(process.join("comm")).map(|name| name.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1 0 100 0 0 10 0
   2: 0100007F:0050 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 43 1 0 100 0 0 10 0
   3: garbage
";
    const TABLE6: &str = "  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 44 1
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 45 1
";

    fn found(table: &str, address: &str) -> Vec<u64> {
        listening(table, address.parse().expect("an address")).collect()
    }

    #[test]
    fn finds_listeners_that_are_in_the_way() {
        assert_eq!(found(TABLE, "127.0.0.1:8080"), [41]);
        assert_eq!(found(TABLE, "127.0.0.2:8080"), [0u64; 0]);
        assert_eq!(found(TABLE, "0.0.0.0:8080"), [41]);
        assert_eq!(found(TABLE, "127.0.0.1:80"), [42]);
        assert_eq!(found(TABLE6, "[::]:443"), [44]);
        assert_eq!(found(TABLE6, "127.0.0.1:8081"), [45]);
    }
}
