//! (in the making)
pub mod rule;
