//! The data side over real sockets: a worker in this process, raw clients before it and raw
//! servers behind it.

mod bodies;
mod connections;
mod descriptors;
mod entry_points;
mod frames;
mod hostile;
mod http2;
mod http2_servers;
mod limits;
mod rig;
mod routing;
mod slow;
mod upstreams;
mod websocket2;
