//! Whether two proxies answer alike: recorded requests are sent to both, and every difference is told.
//!
//! ```text
//! read (access logs, HAR files, URLs) -> Requests -> replay over two `Proxy`s -> Verdict of each -> Tally
//! ```
//!
//! What always holds: a line that cannot be read is counted and told of and ends nothing; no redirect is followed; a
//! request that differs is asked again before it counts, so that a page that changes by itself is told apart; bodies are
//! hashed as they stream and never kept; values of `Authorization`, `Cookie` and `Set-Cookie` are never in a text that is shown.

mod client;
mod differ;
mod hide;
mod link;
pub mod read;
mod replay;
mod request;
mod tally;
mod tls;

pub use client::{Address, Answer, Ending, NoAnswer, Proxy, Trouble};
pub use differ::{Aspect, Difference, Rules};
pub use replay::{Replay, Verdict, replay};
pub use request::{Bad, Defaults, Place, Recorded, Request, Scheme};
pub use tally::{Tally, Times};
pub use tls::{Tls, TlsError, Trust};
