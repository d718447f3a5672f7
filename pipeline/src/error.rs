//! Why a document was not validated or not parsed.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::validate::Format;

/// Why a document was refused, or could not be read.
///
/// Nothing was kept of the document. The serialized form carries the stable code as `code` and
/// the fields beside it; it is how the parser's process answers.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum DocumentError {
    /// The file has more bytes than a document may have.
    #[error("the file has more than {bytes_max} bytes")]
    TooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The file has no bytes, or only white space.
    #[error("the file is empty")]
    Empty,
    /// The file is something else than it was sent as.
    #[error("sent as {declared}, but the content is {found}")]
    TypeMismatch {
        /// What the media type or the file name said.
        declared: String,
        /// What the content is.
        found: String,
    },
    /// No reader reads this type.
    #[error("documents of type {found} are not read")]
    UnsupportedType {
        /// What the content is.
        found: String,
    },
    /// The file cannot be opened without a password.
    #[error("the {format} is encrypted: {reason}")]
    Encrypted {
        /// What is encrypted.
        format: String,
        /// How that is known.
        reason: String,
    },
    /// The document has more pages than it may have.
    #[error("the document has {pages} pages, more than {pages_max}")]
    TooManyPages {
        /// Its pages, as far as they were counted.
        pages: u32,
        /// The limit.
        pages_max: u32,
    },
    /// The file inflates to more than a file of its size has a reason to.
    #[error("the archive has more than {limit} {measure}")]
    Bomb {
        /// What there was too much of.
        measure: String,
        /// The limit, in that measure.
        limit: u64,
    },
    /// The text of the document is longer than it may be.
    #[error("the text has more than {text_bytes_max} bytes")]
    TextTooLarge {
        /// The limit, in bytes of UTF-8.
        text_bytes_max: u64,
    },
    /// The file is not what its format asks for.
    #[error("the {format} is broken: {reason}")]
    Broken {
        /// What it was read as.
        format: Format,
        /// What was wrong first.
        reason: String,
    },
    /// The document was read and has no text.
    #[error("the document has no text; if its pages are scanned images, read them by OCR first")]
    NoText,
    /// The parser took too long.
    #[error("the parser did not finish within {limit_ms} ms of {clock} time")]
    ParserTimeout {
        /// Which clock ran out.
        clock: Clock,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The parser wanted more memory than it may have.
    #[error("the parser needed more than {bytes_max} bytes of memory")]
    ParserMemory {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The parser's process panicked, aborted, or answered nonsense.
    #[error("the parser crashed: {reason}")]
    ParserCrashed {
        /// What is known of it.
        reason: String,
    },
    /// Someone else killed the parser's process, as the system does when it runs out of memory.
    #[error("the parser was killed from outside")]
    ParserKilled,
    /// The parser's process, or the parsing service, could not be had.
    #[error("the parser is unavailable: {reason}")]
    ParserUnavailable {
        /// What is known of it.
        reason: String,
    },
    /// The parsing service says that it cannot read the document.
    #[error("the parsing service refused the document: {reason}")]
    ServiceRefused {
        /// What the service said, shortened.
        reason: String,
    },
    /// The content could not be read to the end.
    #[error("the content could not be read: {reason}")]
    ContentUnreadable {
        /// What the system said.
        reason: String,
    },
    /// The caller asked for an end.
    #[error("parsing was cancelled")]
    Cancelled,
}

/// What time was measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Time of the processor.
    Processor,
    /// Time on the wall.
    Wall,
}

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Processor => "processor",
            Self::Wall => "wall",
        })
    }
}

impl DocumentError {
    /// The stable code, in upper snake case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::Empty => "EMPTY",
            Self::TypeMismatch { .. } => "TYPE_MISMATCH",
            Self::UnsupportedType { .. } => "UNSUPPORTED_TYPE",
            Self::Encrypted { .. } => "ENCRYPTED",
            Self::TooManyPages { .. } => "TOO_MANY_PAGES",
            Self::Bomb { .. } => "BOMB",
            Self::TextTooLarge { .. } => "TEXT_TOO_LARGE",
            Self::Broken { .. } => "BROKEN",
            Self::NoText => "NO_TEXT",
            Self::ParserTimeout { .. } => "PARSER_TIMEOUT",
            Self::ParserMemory { .. } => "PARSER_MEMORY",
            Self::ParserCrashed { .. } => "PARSER_CRASHED",
            Self::ParserKilled => "PARSER_KILLED",
            Self::ParserUnavailable { .. } => "PARSER_UNAVAILABLE",
            Self::ServiceRefused { .. } => "SERVICE_REFUSED",
            Self::ContentUnreadable { .. } => "CONTENT_UNREADABLE",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Whether another try may end otherwise.
    ///
    /// True of what the machine was to blame for: no parser to be had, content that could not be
    /// read, a process killed from outside, a wall clock that ran out before the processor's time
    /// did, an end that was asked for. Everything else is the document's doing and stays.
    pub fn transient(&self) -> bool {
        matches!(
            self,
            Self::ParserKilled
                | Self::ParserUnavailable { .. }
                | Self::ContentUnreadable { .. }
                | Self::Cancelled
                | Self::ParserTimeout {
                    clock: Clock::Wall,
                    ..
                }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_goes_over_the_wire_under_its_own_code() {
        let errors = [
            DocumentError::Empty,
            DocumentError::TooLarge { bytes_max: 7 },
            DocumentError::TextTooLarge { text_bytes_max: 7 },
            DocumentError::NoText,
            DocumentError::ParserKilled,
            DocumentError::ParserTimeout {
                clock: Clock::Wall,
                limit_ms: 1,
            },
            DocumentError::Broken {
                format: Format::Pdf,
                reason: "no trailer".to_owned(),
            },
        ];
        for error in errors {
            let value = serde_json::to_value(&error).unwrap();
            assert_eq!(value["code"], error.code());
            let back: DocumentError = serde_json::from_value(value).unwrap();
            assert_eq!(back, error);
        }
    }
}
