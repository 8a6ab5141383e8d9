//! A set with its new tags in their places, as documents will have them.

use super::set::{Conversion, Outcome, Piece, Service, Set, Tag, pieces};

/// The set as the documents will have it: `keep_legacy` leaves the converted tags beside the new ones.
pub fn apply(set: &Set, conversions: &[Conversion], keep_legacy: bool) -> Set {
    let service = |service: &Service, conversion: Option<&Conversion>| {
        let Some(conversion) = conversion else { return service.clone() };
        let mut tags = Vec::with_capacity(service.tags.len());
        let mut besides = Some(&conversion.besides);
        for (at, tag) in service.tags.iter().enumerate() {
            let Some(Outcome::Converted(new)) = conversion.outcomes.get(at) else {
                tags.push(tag.clone());
                continue;
            };
            if keep_legacy {
                tags.push(tag.clone());
            }
            let besides = besides.take().into_iter().flatten();
            tags.extend(besides.chain(new).map(|text| with_holes_of(tag, text)));
        }
        Service { tags, ..service.clone() }
    };
    let all = set.services.iter().enumerate().map(|(at, one)| service(one, conversions.get(at)));
    Set { services: all.collect() }
}

/// A new tag as a document has it.
pub(super) fn with_holes_of(old: &Tag, text: &str) -> Tag {
    let mut said = String::with_capacity(text.len());
    let mut holes = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => said.push_str(text),
            Piece::Hole(number) => {
                said.push(Tag::HOLE);
                holes.push(old.holes.get(number).cloned().unwrap_or_default());
            }
        }
    }
    Tag { text: said.into(), holes, place: old.place.clone() }
}
