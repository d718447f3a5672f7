//! The resource: what its events make of it, and what may happen to it next.

mod access;
mod decide;
mod evolve;

pub use access::{Access, AccessError, PRINCIPALS_MAX, Visibility};
pub use decide::{
    CloneResource, Command, ENTITY_TYPES_MAX, FollowedFile, IriNames, METADATA_BYTES_MAX, Naming,
    Refusal, ResourcePatch, decide, merge_patch,
};
pub use evolve::{AnnotationState, Descriptor, EvolveError, Resource};
