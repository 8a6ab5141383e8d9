//! Rendezvous (highest random weight) hashing: a client keeps its server while that server is
//! there, and a server that comes or goes moves only the clients that it gains or loses.
//!
//! What always holds: the hash is fixed, so that every worker, every process and every machine
//! chooses the same server for a client. In [`pick`] weights play no part (as in Caddy's `ip_hash`), in [`pick_weighted`]
//! each candidate gets its share of the clients (as in Traefik's `hrw`; the hash is our own).

use std::net::IpAddr;

/// Fingerprint of a candidate's name (FNV-1a, 64 bits); worked out once.
pub fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Fingerprint of a client; an IPv4 address and its IPv6-mapped form are the same client.
pub fn client(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits())),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            mix((bits >> 64) as u64).wrapping_add(mix(bits as u64))
        }
    }
}

/// The usable candidate that scores highest for the client.
pub fn pick(client: u64, fingerprints: impl Iterator<Item = u64>, usable: impl Fn(usize) -> bool) -> Option<usize> {
    fingerprints
        .enumerate()
        .filter(|(at, _)| usable(*at))
        .max_by_key(|(at, fingerprint)| (mix(client ^ fingerprint), std::cmp::Reverse(*at)))
        .map(|(at, _)| at)
}

/// Fingerprint of any key.
pub fn key(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The usable candidate that scores highest for the key, by weight: each gets its share of the keys, and one whose
/// weight changes moves only those that it gains or loses. A weight of 0 gets none.
pub fn pick_weighted(
    key: u64,
    candidates: impl Iterator<Item = (u64, u32)>,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let score = |fingerprint: u64, weight: u32| {
        // In (0, 1), so that its logarithm is below 0 and finite.
        let drawn = ((mix(key ^ fingerprint) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        f64::from(weight) / -drawn.ln()
    };
    candidates
        .enumerate()
        .filter(|(at, (_, weight))| *weight > 0 && usable(*at))
        .map(|(at, (fingerprint, weight))| (at, score(fingerprint, weight)))
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
        .map(|(at, _)| at)
}

/// The finaliser of SplitMix64: each bit of the input moves about half of the output's.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn names(count: usize) -> Vec<u64> {
        (0..count).map(|n| fingerprint(&format!("http://10.0.0.{n}:8080"))).collect()
    }

    fn choose(ip: u32, servers: &[u64]) -> usize {
        pick(client(Ipv4Addr::from(ip).into()), servers.iter().copied(), |_| true).expect("there are servers")
    }

    #[test]
    fn mapped_addresses_are_the_same_client() {
        let v4: IpAddr = "192.0.2.1".parse().expect("an address");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(client(v4), client(mapped));
        assert_ne!(client(v4), client("192.0.2.2".parse().expect("an address")));
    }

    #[test]
    fn clients_spread_over_all_servers() {
        let servers = names(5);
        let mut counts = [0u32; 5];
        for ip in 0..10_000 {
            counts[choose(0x0a00_0000 + ip, &servers)] += 1;
        }
        assert!(counts.iter().all(|count| (1_700..2_300).contains(count)), "{counts:?}");
    }

    #[test]
    fn nothing_usable_gives_nothing() {
        assert_eq!(pick(1, names(3).into_iter(), |_| false), None);
        assert_eq!(pick(1, std::iter::empty(), |_| true), None);
    }

    #[test]
    fn weights_are_shares_of_the_clients() {
        let servers: Vec<(u64, u32)> = names(3).into_iter().zip([6, 3, 0]).collect();
        let mut counts = [0u32; 3];
        for ip in 0..9_000 {
            let client = client(Ipv4Addr::from(0x0a00_0000 + ip).into());
            counts[pick_weighted(client, servers.iter().copied(), |_| true).expect("there are servers")] += 1;
        }
        assert!((5_700..6_300).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
        assert_eq!(pick_weighted(1, servers.iter().copied(), |at| at == 2), None);
    }

    proptest! {
        #[test]
        fn a_weight_that_grows_takes_clients_from_others_only(ip in any::<u32>(), weight in 1u32..50, more in 1u32..50) {
            let client = client(Ipv4Addr::from(ip).into());
            let with = |weight| {
                let servers = names(4).into_iter().enumerate().map(|(at, name)| (name, if at == 1 { weight } else { 10 }));
                pick_weighted(client, servers, |_| true).expect("there are servers")
            };
            let (before, after) = (with(weight), with(weight + more));
            prop_assert!(after == before || after == 1, "{before} -> {after}");
        }

        #[test]
        fn a_server_that_goes_moves_only_its_own_clients(count in 2usize..9, gone in 0usize..9, ip in any::<u32>()) {
            let gone = gone % count;
            let servers = names(count);
            let before = choose(ip, &servers);
            let after = pick(client(Ipv4Addr::from(ip).into()), servers.iter().copied(), |at| at != gone)
                .expect("others are there");
            if before == gone {
                prop_assert_ne!(after, gone);
            } else {
                prop_assert_eq!(after, before);
            }
        }
    }
}
