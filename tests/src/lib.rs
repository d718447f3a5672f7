//! What the end-to-end tests share: the real binary as a child process, and a client of it.
//!
//! Invariant: a server started here listens on loopback, on a free port, in a directory of its
//! own, and is ended by its own process id when its handle is dropped.

mod client;
mod collector;
mod disk;
mod key_server;
mod model_server;
mod neo4j;
mod object_store;
mod parsing_server;
mod proxy;
mod server;
mod sse;
mod uploads;
mod wall_clock;

pub use client::{Answer, Client};
pub use collector::{Collector, TracedSpan};
pub use disk::SmallDisk;
pub use key_server::{KeyServer, SigningKey};
pub use model_server::{Asked, Behaviour, DIMENSION, ModelServer, vector};
pub use neo4j::Neo4j;
pub use object_store::ObjectStore;
pub use parsing_server::{ParsingRequest, ParsingServer};
pub use proxy::Proxy;
pub use server::{Server, ServerBuilder, binary, command, run};
pub use sse::{SseEvent, SseReader};
pub use uploads::Upload;
pub use wall_clock::WallClock;
