//! Middlewares in the whole binary: declared in a file, asked over HTTP/1.1 and HTTP/2.

mod headers;
mod limits;
mod retry;
mod rig;
