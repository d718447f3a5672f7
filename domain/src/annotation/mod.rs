//! Web annotations as the W3C model defines them: what is valid, what they point at, where.
//!
//! Source: Web Annotation Data Model, W3C Recommendation of 23 February 2017. All functions are
//! pure and work on JSON values, since an annotation's extension properties are kept as they came.

mod anchor;
mod body;
mod complete;
mod iri;
mod offsets;
mod reference;
mod selector;
mod text;
mod validate;
mod weight;

pub use anchor::{Anchor, AnchorStatus, ORPHANED, TargetAnchor, anchors};
pub use body::{
    BodyOperation, BodyOperationError, apply as apply_body_operations, body_of,
    from_json as body_operations_from_json, to_json as body_operations_to_json,
};
#[cfg(test)]
use complete::complete;
pub use complete::{completed, retarget};
pub use iri::is_iri;
pub use offsets::{OffsetUnit, translate};
pub use reference::{IriReference, Relation, references, resource_at_end, resource_in_iri};
pub use text::TextIndex;
pub use validate::{Context, FieldError, validate, validate_body_operations};
pub use weight::SelectorWeight;
