//! Reading openCypher over any graph.
//!
//! A query is parsed, checked and run over what implements [`Graph`]. What would write, call a
//! procedure or load a file is refused before anything runs, and so is what this subset does not
//! have, each by the name of the clause or function. `docs/graph.md` lists what is supported; the
//! language is that of the openCypher 9 reference. Invariant: a running query looks at its limits
//! after every bounded piece of work, so none outlives its time or memory by much.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod aggregate;
mod ast;
mod check;
mod clause_parser;
mod compare;
mod error;
mod eval;
mod form_parser;
mod functions;
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod lexer;
mod limits;
mod matching;
mod parser;
mod patience;
mod pattern_parser;
mod regular;
mod run;
mod shortest;
mod sorting;
mod value;

pub use error::Error;
pub use graph::{Direction, Graph, MemoryGraph, Relationship};
pub use limits::Limits;
pub use patience::Patience;
pub use run::{Answer, Query};
pub use value::{List, Map, PathValue, Value};
