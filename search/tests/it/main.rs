//! The index as its callers use it.
#![allow(clippy::unwrap_used)]

mod damage;
mod fixture;
mod model;
mod power;
mod vectors;
mod words;
