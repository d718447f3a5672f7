//! The built-in embedder: a fixed table of one vector for each piece of a word.

mod embedder;
mod hashed;
mod table;
mod wordpiece;

pub use embedder::{STATIC_MODEL, StaticEmbedder};
