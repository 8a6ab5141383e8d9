//! From legacy tags (`urlprefix-`, HinD's `https://host`) to `traefik.*` tags, with a proof.
//!
//! ```text
//! documents (job files, service definitions, catalogs) -> Set of services and tags
//!   -> convert: what each legacy tag becomes, over the whole set -> edit: the documents with the new tags
//!   -> prove: the table of the old tags against the table of the new ones, on witness requests
//! ```
//!
//! What always holds: no IO and no async here, texts come in and go out; a tag that has no faithful form stays as it is
//! and is told of with its place, the reason and what to do by hand; nothing is converted by half: of one route
//! (host and path) either every tag of every service is, or none.

mod apply;
mod convert;
#[cfg(test)]
mod corpus_tests;
pub mod edit;
mod holes;
mod options;
mod overlap;
mod prove;
mod redirect;
mod remarks;
mod set;
mod weights;
mod write;

pub use apply::apply;
pub use convert::convert;
pub use prove::{Answered, Difference, Gap, Proof, prove};
pub use set::{Conversion, EntryPoint, Outcome, Piece, Place, Service, Set, Settings, Tag, pieces};
