//! What goes through the pipes between the parent and the parser's process.

use std::io::{self, BufWriter, Read, Write};

use serde::{Deserialize, Serialize};

use crate::parse::{Parsed, Structure};
use crate::validate::{Declared, Validated};
use crate::{DocumentError, Limits};

/// What a request begins with.
const REQUEST_MARK: &[u8; 4] = b"STQ1";

/// What an answer begins with.
const ANSWER_MARK: &[u8; 4] = b"STA1";

/// The longest head of a request, in bytes: names and limits.
const REQUEST_HEAD_BYTES_MAX: u64 = 64 << 10;

/// The longest head of an answer, in bytes: the places of everything but the text.
const ANSWER_HEAD_BYTES_MAX: u64 = 64 << 20;

/// Bytes of content in one frame.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// What the process is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    Validate,
    Parse,
}

/// The head of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) work: Work,
    pub(super) file_name: String,
    pub(super) media_type: Option<String>,
    pub(super) limits: Limits,
}

/// Why a request was not sent whole.
pub(super) enum Unsent {
    /// The content could not be read, for the reason given.
    Content(String),
    /// The process does not take any more; its answer tells why.
    Pipe,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) validated: Validated,
    pub(super) parsed: Option<Parsed>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unread {
    /// The pipe was closed before the answer was whole.
    BrokenOff,
    /// The text is longer than it may be.
    TooLong,
    /// What came is no answer.
    Nonsense(String),
}

/// The head of an answer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerHead {
    Error(DocumentError),
    Validated(Validated),
    Parsed {
        validated: Validated,
        structure: Structure,
        warnings: Vec<String>,
        text_bytes: u64,
    },
}

impl Header {
    pub(super) fn new(work: Work, declared: &Declared<'_>, limits: &Limits) -> Self {
        const NAME_CHARACTERS_MAX: usize = 1_024;
        let keep_end = |text: &str| {
            let skipped = text.chars().count().saturating_sub(NAME_CHARACTERS_MAX);
            text.chars().skip(skipped).collect::<String>()
        };
        let keep_start = |text: &str| text.chars().take(NAME_CHARACTERS_MAX).collect();
        Self {
            work,
            file_name: keep_end(declared.file_name),
            media_type: declared.media_type.map(keep_start),
            limits: limits.clone(),
        }
    }

    /// Sends the request: its head, the content in frames, an empty frame.
    pub(super) fn send(&self, mut content: impl Read, mut pipe: impl Write) -> Result<(), Unsent> {
        let pipe_error = |_: io::Error| Unsent::Pipe;
        let head = serde_json::to_vec(self).map_err(|error| Unsent::Content(error.to_string()))?;
        pipe.write_all(REQUEST_MARK).map_err(pipe_error)?;
        write_length(&mut pipe, head.len()).map_err(pipe_error)?;
        pipe.write_all(&head).map_err(pipe_error)?;
        let mut frame = vec![0; FRAME_BYTES_MAX];
        loop {
            let read = match content.read(&mut frame) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Unsent::Content(error.to_string())),
            };
            write_length(&mut pipe, read).map_err(pipe_error)?;
            if read == 0 {
                return pipe.flush().map_err(pipe_error);
            }
            pipe.write_all(&frame[..read]).map_err(pipe_error)?;
        }
    }

    /// Reads the head of a request.
    pub(super) fn receive(pipe: &mut impl Read) -> io::Result<Self> {
        let mut mark = [0; 4];
        pipe.read_exact(&mut mark)?;
        if mark != *REQUEST_MARK {
            return Err(io::Error::other("this is no request"));
        }
        let head = read_vec(pipe, REQUEST_HEAD_BYTES_MAX)?;
        serde_json::from_slice(&head).map_err(io::Error::other)
    }

    /// Reads the content of a request; it stops once there is more than is allowed.
    pub(super) fn receive_content(
        &self,
        pipe: &mut impl Read,
    ) -> io::Result<Result<Vec<u8>, DocumentError>> {
        let mut content = Vec::new();
        loop {
            let length = read_length(pipe)?;
            if length == 0 {
                return Ok(Ok(content));
            }
            if content.len() as u64 + length > self.limits.bytes_max {
                return Ok(Err(DocumentError::TooLarge {
                    bytes_max: self.limits.bytes_max,
                }));
            }
            let read = pipe.by_ref().take(length).read_to_end(&mut content)?;
            if read as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Sends an answer.
pub(super) fn send(answer: Result<Answer, DocumentError>, pipe: impl Write) -> io::Result<()> {
    let (head, text) = match answer {
        Err(error) => (AnswerHead::Error(error), String::new()),
        Ok(Answer {
            validated,
            parsed: None,
        }) => (AnswerHead::Validated(validated), String::new()),
        Ok(Answer {
            validated,
            parsed: Some(parsed),
        }) => (
            AnswerHead::Parsed {
                validated,
                structure: parsed.structure,
                warnings: parsed.warnings,
                text_bytes: parsed.text.len() as u64,
            },
            parsed.text,
        ),
    };
    let head = serde_json::to_vec(&head)?;
    let mut pipe = BufWriter::new(pipe);
    pipe.write_all(ANSWER_MARK)?;
    write_length(&mut pipe, head.len())?;
    pipe.write_all(&head)?;
    pipe.write_all(text.as_bytes())?;
    pipe.flush()
}

/// Reads an answer.
pub(super) fn receive(
    mut pipe: impl Read,
    limits: &Limits,
) -> Result<Result<Answer, DocumentError>, Unread> {
    let broken_off = |_: io::Error| Unread::BrokenOff;
    let nonsense = |reason: &str| Unread::Nonsense(reason.to_owned());
    let mut mark = [0; 4];
    pipe.read_exact(&mut mark).map_err(broken_off)?;
    if mark != *ANSWER_MARK {
        return Err(nonsense("it does not begin like an answer"));
    }
    let head = read_vec(&mut pipe, ANSWER_HEAD_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::Other => nonsense(&error.to_string()),
        _ => Unread::BrokenOff,
    })?;
    let head = serde_json::from_slice(&head).map_err(|error| nonsense(&error.to_string()))?;
    match head {
        AnswerHead::Error(error) => Ok(Err(error)),
        AnswerHead::Validated(validated) => Ok(Ok(Answer {
            validated,
            parsed: None,
        })),
        AnswerHead::Parsed {
            validated,
            structure,
            warnings,
            text_bytes,
        } => {
            if text_bytes > limits.text_bytes_max {
                return Err(Unread::TooLong);
            }
            // All of its room at once, which growing would take twice; only what comes is used.
            let mut text = String::new();
            let room = usize::try_from(text_bytes).unwrap_or(usize::MAX);
            text.try_reserve_exact(room).map_err(|_| Unread::TooLong)?;
            match pipe.take(text_bytes).read_to_string(&mut text) {
                Ok(read) if read as u64 == text_bytes => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(nonsense("its text is not UTF-8"));
                }
                _ => return Err(Unread::BrokenOff),
            }
            let parsed = Some(Parsed {
                text,
                structure,
                warnings,
            });
            Ok(Ok(Answer { validated, parsed }))
        }
    }
}

fn write_length(pipe: &mut impl Write, length: usize) -> io::Result<()> {
    let length = u32::try_from(length).map_err(io::Error::other)?;
    pipe.write_all(&length.to_le_bytes())
}

fn read_length(pipe: &mut impl Read) -> io::Result<u64> {
    let mut length = [0; 4];
    pipe.read_exact(&mut length)?;
    Ok(u64::from(u32::from_le_bytes(length)))
}

/// Reads bytes behind their length. What is read grows as it comes, not as it is announced.
fn read_vec(pipe: &mut impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let length = read_length(pipe)?;
    if length > bytes_max {
        return Err(io::Error::other("its head is too long"));
    }
    let mut bytes = Vec::new();
    let read = pipe.take(length).read_to_end(&mut bytes)?;
    if read as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
