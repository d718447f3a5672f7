//! Old payload shapes read as new ones.
//!
//! A payload is stored once and never rewritten. When a shape changes, its schema version is
//! raised and one pure function from the old shape to the next is added to [`UPCASTERS`]; reading
//! walks from the stored version to the current one. Golden payloads of every version stay in
//! `domain/tests/golden/` for good.

use serde_json::Value;

/// One step from a payload shape to the next.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    /// The event type it belongs to.
    pub event_type: &'static str,
    /// The schema version that it reads; it gives the next one.
    pub from: u16,
    /// The step.
    pub step: fn(Value) -> Value,
}

/// All steps, every type at version 1 today.
pub(super) const UPCASTERS: &[Upcaster] = &[];

/// The schema version that a type is written with.
pub(super) fn current_version(upcasters: &[Upcaster], event_type: &str) -> u16 {
    let steps = upcasters.iter().filter(|u| u.event_type == event_type);
    steps.map(|u| u.from + 1).max().unwrap_or(1)
}

/// Why a stored payload cannot be brought to today's shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpcastError {
    /// Written by a newer Stemma.
    #[error("schema version {stored} of {event_type} is newer than {current}, which is known here")]
    Newer {
        /// The type.
        event_type: String,
        /// The version stored.
        stored: u16,
        /// The newest version known.
        current: u16,
    },
    /// No step leads on from this version.
    #[error("no upcaster from schema version {stored} of {event_type}")]
    Missing {
        /// The type.
        event_type: String,
        /// The version that nothing reads.
        stored: u16,
    },
}

/// Brings a payload from the version it was stored with to the current one.
pub(super) fn upcast(
    upcasters: &[Upcaster],
    event_type: &str,
    stored: u16,
    payload: Value,
) -> Result<Value, UpcastError> {
    let current = current_version(upcasters, event_type);
    if stored > current {
        return Err(UpcastError::Newer {
            event_type: event_type.into(),
            stored,
            current,
        });
    }
    (stored..current).try_fold(payload, |payload, version| {
        let step = upcasters
            .iter()
            .find(|u| u.event_type == event_type && u.from == version);
        let Upcaster { step, .. } = step.ok_or_else(|| UpcastError::Missing {
            event_type: event_type.into(),
            stored: version,
        })?;
        Ok(step(payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STEPS: &[Upcaster] = &[
        Upcaster {
            event_type: "t",
            from: 1,
            step: |v| json!({ "b": v["a"] }),
        },
        Upcaster {
            event_type: "t",
            from: 2,
            step: |v| json!({ "c": [v["b"]] }),
        },
    ];

    #[test]
    fn a_payload_walks_every_step_from_its_version_to_the_current_one() {
        assert_eq!(
            upcast(STEPS, "t", 1, json!({ "a": 1 })),
            Ok(json!({ "c": [1] }))
        );
        assert_eq!(
            upcast(STEPS, "t", 2, json!({ "b": 1 })),
            Ok(json!({ "c": [1] }))
        );
        assert_eq!(
            upcast(STEPS, "t", 3, json!({ "c": [1] })),
            Ok(json!({ "c": [1] }))
        );
        assert_eq!(upcast(STEPS, "other", 1, json!({})), Ok(json!({})));
    }

    #[test]
    fn a_payload_of_a_newer_or_unreadable_version_is_an_error_that_says_so() {
        assert!(matches!(
            upcast(STEPS, "t", 4, json!({})),
            Err(UpcastError::Newer { current: 3, .. })
        ));
        assert!(matches!(
            upcast(STEPS, "t", 0, json!({})),
            Err(UpcastError::Missing { stored: 0, .. })
        ));
    }
}
