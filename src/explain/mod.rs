//! Why: where a request goes, and what became of a catalog's service, as values that the command line
//! prints and the admin API gives. It works on a [`Scene`], which a running instance makes of what it
//! serves by and `rust-lb explain --services` of a file.
//!
//! What always holds: the answer is found by the proxy's own functions (entry chain, index, middlewares,
//! balancer) without a socket, so that it cannot say anything else than what happens; nothing that runs is
//! changed by asking; no secret is shown.

mod ask;
mod brief;
mod choose;
mod mask;
mod question;
mod remarks;
mod report;
mod scene;
mod service;
mod steps;
mod witness;

pub use brief::{Brief, End};
pub use mask::masked;
pub use question::{MAX_BODY, MAX_HEADERS, MAX_URL, Question, peer};
pub use remarks::notes;
pub use report::{
    Answer, Backend, Candidate, Catalog, Concerned, Fail, Named, Report, Seen, ServerNow, Step, Upstream,
};
pub use scene::{Admission, Door, Refused, Scene, Servers, State, refused};
pub use service::{Fate, InstanceNow, RouterNow, ServiceReport, Standing, TagNow};
pub(crate) use witness::plain;
