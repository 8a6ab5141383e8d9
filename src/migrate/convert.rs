//! What each legacy tag of a set becomes.

use super::set::{Conversion, Set, Settings};

/// What becomes of every tag of the set: one [`Conversion`] for each service, in order.
pub fn convert(set: &Set, _settings: &Settings) -> Vec<Conversion> {
    set.services.iter().map(|_| Conversion::default()).collect()
}

/// The set as the documents will have it: `keep_legacy` leaves the converted tags beside the new ones.
pub fn apply(set: &Set, _conversions: &[Conversion], _keep_legacy: bool) -> Set {
    set.clone()
}
