//! Entity types that were described for everyone.

use crate::event::{EntityTypeRegistered, Event};
use crate::value::EntityType;

/// The one stream that holds every `entity_type.registered`.
pub const STREAM: &str = "entity_types-registered";

/// Most bytes of a description.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;

/// The description is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a description has at most {DESCRIPTION_BYTES_MAX} bytes")]
pub struct DescriptionTooLong;

/// Decides to register a type; registering it again states its description anew.
///
/// # Errors
/// [`DescriptionTooLong`]; nothing is to be written then.
pub fn register(
    name: EntityType,
    description: Option<String>,
) -> Result<Event, DescriptionTooLong> {
    if description
        .as_ref()
        .is_some_and(|d| d.len() > DESCRIPTION_BYTES_MAX)
    {
        return Err(DescriptionTooLong);
    }
    Ok(Event::EntityTypeRegistered(EntityTypeRegistered {
        description,
        name,
    }))
}
