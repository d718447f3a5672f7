//! The shapes that go over the wire. Domain types are never serialized directly: what clients rely
//! on changes only here.

pub(crate) mod annotation;
pub(crate) mod batch;
pub(crate) mod document;
pub(crate) mod event;
pub(crate) mod grants;
pub(crate) mod job;
pub(crate) mod resource;
