//! What goes wrong with a model, and whether trying again can help.
//!
//! Invariant: no message holds a key, nor more than [`EXCERPT_CHARS_MAX`] characters of what a
//! server or a model said.

use std::time::Duration;

use crate::secret::masked;

/// Most characters of an answer that an error repeats.
pub const EXCERPT_CHARS_MAX: usize = 200;

/// Longest pause that a server may ask for; a longer one is cut to it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// Why a model gave nothing. In every case the call changed nothing and may be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferenceError {
    /// No connection, or it broke before the answer was whole.
    #[error("the model cannot be reached while {doing}")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// What the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A limit of time passed.
    #[error("the model took too long: {waited_for}")]
    Timeout {
        /// What was waited for.
        waited_for: &'static str,
    },
    /// The server is there and asks to be left alone for a while: 429 or 503.
    #[error("the model is busy (status {status})")]
    Busy {
        /// The status it answered.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The server failed: another 5xx.
    #[error("the model's server failed (status {status}): {excerpt}")]
    Failed {
        /// The status it answered.
        status: u16,
        /// The beginning of what it said.
        excerpt: String,
    },
    /// The server will not do it, however often it is asked: a 4xx, or a redirect, which is not
    /// followed.
    #[error("the model refused (status {status}): {excerpt}")]
    Refused {
        /// The status it answered.
        status: u16,
        /// The beginning of what it said.
        excerpt: String,
    },
    /// The answer is not what the protocol says.
    #[error("the model's answer cannot be used: {what}")]
    Garbage {
        /// What is wrong with it.
        what: String,
    },
    /// Vectors of another length than the model was set up with.
    #[error("the model gave {actual} dimensions, expected {expected}")]
    Dimension {
        /// What was set up.
        expected: u32,
        /// What came.
        actual: u64,
    },
    /// What was asked is larger than the model takes; nothing was sent.
    #[error("{bytes} bytes exceed the limit of {bytes_max}")]
    TooLarge {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// There is no such model here.
    #[error("there is no model {name}")]
    Missing {
        /// Which one was asked for.
        name: String,
    },
    /// The model's files are there and not what they should be.
    #[error("model {name} is damaged: {what}")]
    Damaged {
        /// Which model.
        name: String,
        /// What is wrong.
        what: String,
    },
}

impl InferenceError {
    /// The same without a key, wherever a server repeats it.
    #[must_use]
    pub(crate) fn without(mut self, key: &str) -> Self {
        let (Self::Failed { excerpt: text, .. }
        | Self::Refused { excerpt: text, .. }
        | Self::Garbage { what: text }) = &mut self
        else {
            return self;
        };
        if !key.is_empty() {
            *text = text.replace(key, "…");
        }
        self
    }

    /// A name for this kind that stays the same over versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "MODEL_UNREACHABLE",
            Self::Timeout { .. } => "MODEL_TIMEOUT",
            Self::Busy { .. } => "MODEL_BUSY",
            Self::Failed { .. } => "MODEL_FAILED",
            Self::Refused { .. } => "MODEL_REFUSED",
            Self::Garbage { .. } => "MODEL_GARBAGE",
            Self::Dimension { .. } => "MODEL_DIMENSION",
            Self::TooLarge { .. } => "MODEL_INPUT_TOO_LARGE",
            Self::Cancelled => "MODEL_CANCELLED",
            Self::Missing { .. } => "MODEL_MISSING",
            Self::Damaged { .. } => "MODEL_DAMAGED",
        }
    }

    /// Whether the same call may succeed later without anybody changing a setting.
    ///
    /// An answer that cannot be used counts as such: language models do not say the same thing
    /// twice, and a server that starts up behind a proxy answers with pages meant for people.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Busy { .. }
            | Self::Failed { .. }
            | Self::Garbage { .. } => true,
            Self::Refused { .. }
            | Self::Dimension { .. }
            | Self::TooLarge { .. }
            | Self::Cancelled
            | Self::Missing { .. }
            | Self::Damaged { .. } => false,
        }
    }

    /// How long the server asked to be left alone, at most [`RETRY_AFTER_MAX`].
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn garbage(what: impl Into<String>) -> Self {
        Self::Garbage { what: what.into() }
    }
}

/// The beginning of a text, without control characters and what looks like a secret, for a
/// message.
pub(crate) fn excerpt(text: &str) -> String {
    let text = masked(text);
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(EXCERPT_CHARS_MAX)
        .collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_our_key_does_not_have_it_shown() {
        let refused = InferenceError::Refused {
            status: 401,
            excerpt: "no such key: moonlight".to_owned(),
        };
        let shown = refused.without("moonlight").to_string();
        assert_eq!(
            shown,
            "the model refused (status 401): no such key: \u{2026}"
        );
        assert_eq!(
            excerpt("Bearer s3cr3t77 is wrong"),
            "Bearer \u{2026} is wrong"
        );
    }

    #[test]
    fn an_excerpt_is_bounded_and_has_no_control_characters() {
        let long = excerpt(&"é\n".repeat(EXCERPT_CHARS_MAX));
        assert_eq!(long.chars().count(), EXCERPT_CHARS_MAX + 1);
        assert!(!long.chars().any(char::is_control));
        assert_eq!(excerpt("short"), "short");
    }

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        let busy = InferenceError::Busy {
            status: 429,
            retry_after: Some(Duration::from_secs(7)),
        };
        assert!(busy.is_transient() && busy.code() == "MODEL_BUSY");
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(7)));
        let refused = InferenceError::Refused {
            status: 401,
            excerpt: String::new(),
        };
        assert!(!refused.is_transient() && refused.retry_after().is_none());
        assert!(!InferenceError::Cancelled.is_transient());
    }
}
