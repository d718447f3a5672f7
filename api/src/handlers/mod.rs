//! The handlers, one module for each kind of thing: parse, command, wait for the views, render.

pub(crate) mod annotations;
pub(crate) mod batch;
pub(crate) mod content;
pub(crate) mod entity_types;
pub(crate) mod resources;
