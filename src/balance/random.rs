//! Random numbers for choices: fast, for one thread, of no use for secrets.

use std::cell::Cell;

/// A xorshift generator (Marsaglia, "Xorshift RNGs", 64 bits, with a multiplication behind it).
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        // It never leaves 0.
        Self(Cell::new(seed.max(1)))
    }

    /// The next number.
    pub fn next(&self) -> u32 {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// A number below another one; 0 below 0.
    pub fn below(&self, limit: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(limit)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_spread_below_their_limit() {
        for seed in [0, 1, 42, u64::MAX] {
            let random = Random::new(seed);
            let mut counts = [0u32; 10];
            for _ in 0..10_000 {
                counts[random.below(10) as usize] += 1;
            }
            assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{seed}: {counts:?}");
            assert_eq!(random.below(0), 0);
        }
    }
}
