//! How far the log is folded in, kept in the commit that holds the rows.

use serde::{Deserialize, Serialize};

/// The form of rows, fields and words. Raised when any of them changes, and when indexes of before
/// may hold what they should not: an index of another form is made anew.
pub(crate) const FORMAT_VERSION: u32 = 5;

/// How far the log is folded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Number of events folded in, which is the position of the next one.
    pub end: u64,
    /// Digest of the last of them, by which another log is told apart.
    pub last: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    format: u32,
    end: u64,
    last: Option<String>,
    check: u32,
}

/// Why a commit's payload is not ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("rows of format {format}, not {FORMAT_VERSION}")]
    Format { format: u32 },
    #[error("the checkpoint cannot be read")]
    Unreadable,
}

impl Checkpoint {
    /// The payload of a commit.
    pub(crate) fn to_payload(self) -> String {
        let last = self
            .last
            .map(|digest| blake3::Hash::from_bytes(digest).to_hex().to_string());
        let payload = Payload {
            format: FORMAT_VERSION,
            end: self.end,
            check: check(self.end, last.as_deref()),
            last,
        };
        serde_json::to_string(&payload).expect("numbers and texts are JSON")
    }

    /// The checkpoint of a commit; an index that was never committed to is at the beginning.
    pub(crate) fn from_payload(payload: Option<&str>) -> Result<Self, PayloadError> {
        let Some(payload) = payload else {
            return Ok(Self::default());
        };
        let payload: Payload =
            serde_json::from_str(payload).map_err(|_| PayloadError::Unreadable)?;
        if payload.format != FORMAT_VERSION {
            let format = payload.format;
            return Err(PayloadError::Format { format });
        }
        if check(payload.end, payload.last.as_deref()) != payload.check {
            return Err(PayloadError::Unreadable);
        }
        let last = payload.last.map(blake3::Hash::from_hex).transpose();
        let last = last.map_err(|_| PayloadError::Unreadable)?;
        Ok(Self {
            end: payload.end,
            last: last.map(|hash| *hash.as_bytes()),
        })
    }
}

/// The engine's own file of commits has no checksum.
fn check(end: u64, last: Option<&str>) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&end.to_le_bytes());
    hasher.update(last.unwrap_or_default().as_bytes());
    let bytes = hasher.finalize();
    let (first, _) = bytes.as_bytes().split_first_chunk().expect("32 bytes");
    u32::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        for checkpoint in [
            Checkpoint::default(),
            Checkpoint {
                end: u64::MAX,
                last: Some([7; 32]),
            },
        ] {
            let payload = checkpoint.to_payload();
            assert_eq!(Checkpoint::from_payload(Some(&payload)), Ok(checkpoint));
        }
    }

    #[test]
    fn a_changed_digit_and_another_format_are_noticed() {
        let checkpoint = Checkpoint {
            end: 41,
            last: None,
        };
        let changed = checkpoint.to_payload().replace("41", "42");
        assert_eq!(
            Checkpoint::from_payload(Some(&changed)),
            Err(PayloadError::Unreadable)
        );
        let other = checkpoint
            .to_payload()
            .replace("\"format\":5", "\"format\":9");
        assert_eq!(
            Checkpoint::from_payload(Some(&other)),
            Err(PayloadError::Format { format: 9 })
        );
    }
}
