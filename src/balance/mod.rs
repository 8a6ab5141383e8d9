//! Choosing a server among candidates. Pure: positions in, a position out; what a candidate is and
//! whether it is usable is the caller's.

pub mod least;
mod random;
pub mod rendezvous;
pub mod wrr;

pub use random::Random;
