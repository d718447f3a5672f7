//! The names of streams and of event types, checked once and then trusted.
//!
//! Invariant: a name that exists as a value fits its one-byte length in the record.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest stream name in bytes.
pub const STREAM_BYTES_MAX: usize = 255;
/// Longest name of an event type in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 64;

/// Name of a stream: printable ASCII without spaces, the category before the first dash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

/// Name of a kind of event: lower-case letters, digits, underscores and dots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no bytes or more than allowed.
    #[error("name of {bytes} bytes, allowed are 1 to {bytes_max}")]
    Length {
        /// Bytes of the refused name.
        bytes: usize,
        /// The most that are allowed.
        bytes_max: usize,
    },
    /// A byte that must not stand in such a name.
    #[error("byte {byte:#04x} at index {index} is not allowed in a name")]
    Byte {
        /// The byte that is not allowed.
        byte: u8,
        /// Where it stands, from 0.
        index: usize,
    },
    /// A stream's name starts with a dash.
    #[error("stream has no category before its first dash")]
    NoCategory,
}

impl StreamId {
    /// Checks `name` and keeps it.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        check(name, STREAM_BYTES_MAX, u8::is_ascii_graphic)?;
        if name.starts_with('-') {
            return Err(NameError::NoCategory);
        }
        Ok(Self(name.into()))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first dash; the whole name when there is none.
    pub fn category(&self) -> &str {
        self.0
            .split_once('-')
            .map_or(&*self.0, |(category, _)| category)
    }
}

impl EventType {
    /// Checks `name` and keeps it.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        check_event_type(name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tells whether `name` may name an event type.
pub(crate) fn check_event_type(name: &str) -> Result<(), NameError> {
    check(
        name,
        EVENT_TYPE_BYTES_MAX,
        |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'),
    )
}

fn check(name: &str, bytes_max: usize, allowed: impl Fn(&u8) -> bool) -> Result<(), NameError> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(NameError::Length {
            bytes: name.len(),
            bytes_max,
        });
    }
    match name.bytes().enumerate().find(|(_, byte)| !allowed(byte)) {
        Some((index, byte)) => Err(NameError::Byte { byte, index }),
        None => Ok(()),
    }
}

impl FromStr for StreamId {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl FromStr for EventType {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl AsRef<str> for StreamId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EventType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StreamId({self})")
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EventType({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_category_is_what_stands_before_the_first_dash() {
        assert_eq!(
            StreamId::new("resource-019a-b").unwrap().category(),
            "resource"
        );
        assert_eq!(StreamId::new("settings").unwrap().category(), "settings");
    }

    #[test]
    fn names_that_could_not_be_stored_are_refused() {
        assert_eq!(StreamId::new("-x"), Err(NameError::NoCategory));
        assert_eq!(
            StreamId::new("a b"),
            Err(NameError::Byte {
                byte: b' ',
                index: 1
            })
        );
        assert!(StreamId::new("x".repeat(255)).is_ok());
        assert!(StreamId::new("x".repeat(256)).is_err());
        assert!(EventType::new("resource.created").is_ok());
        assert!(EventType::new("Resource").is_err());
        assert!(EventType::new("").is_err());
    }
}
