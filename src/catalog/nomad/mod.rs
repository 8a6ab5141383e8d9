//! Nomad.
