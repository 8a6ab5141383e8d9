//! Conversions, tag by tag.

use super::*;
