//! (in the making)
mod apply;
pub mod constraints;
mod names;
pub mod options;
mod reference;
pub mod template;
