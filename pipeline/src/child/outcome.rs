//! How a process ended that gave no answer.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Signal;

use super::protocol::Unread;
use crate::{Clock, DocumentError, Limits};

/// What the standard library says before it aborts for want of memory.
const NO_MEMORY: [&str; 2] = ["memory allocation of", "out of memory"];

/// How others end a process, which says nothing of the document.
const ENDED_BY_OTHERS: [Signal; 5] = [
    Signal::KILL,
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
];

/// What it says when a stack has run out.
const NO_STACK: &str = "has overflowed its stack";

/// The error for a process without an answer.
pub(super) fn of(
    unread: &Unread,
    status: Option<ExitStatus>,
    errors: &str,
    limits: &Limits,
) -> DocumentError {
    let crashed = |reason: String| DocumentError::ParserCrashed { reason };
    match unread {
        Unread::TooLong => {
            return DocumentError::TextTooLarge {
                text_bytes_max: limits.text_bytes_max,
            };
        }
        Unread::Nonsense(reason) => return crashed(format!("it answered nonsense: {reason}")),
        Unread::BrokenOff => {}
    }
    if NO_MEMORY.iter().any(|words| errors.contains(words)) {
        return DocumentError::ParserMemory {
            bytes_max: limits.parser_memory_bytes_max,
        };
    }
    let Some(status) = status else {
        return crashed("it closed its output and did not end".to_owned());
    };
    let said = last_line(errors);
    match status.signal() {
        Some(signal) if signal == Signal::XCPU.as_raw() => DocumentError::ParserTimeout {
            clock: Clock::Processor,
            limit_ms: limits.parser_cpu_seconds_max.saturating_mul(1_000),
        },
        Some(signal) if ENDED_BY_OTHERS.iter().any(|by| by.as_raw() == signal) => {
            DocumentError::ParserKilled
        }
        Some(_) if errors.contains(NO_STACK) => crashed("it ran out of stack".to_owned()),
        Some(signal) => crashed(format!("signal {signal}{said}")),
        None => DocumentError::ParserUnavailable {
            reason: format!("it ended without an answer: {status}{said}"),
        },
    }
}

/// The last line that was said, to be appended to a reason.
fn last_line(errors: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let mut lines = errors.lines().map(str::trim);
    match lines.rfind(|line| !line.is_empty()) {
        Some(line) => {
            let visible = line.chars().filter(|c| !c.is_control());
            format!("; {}", visible.take(CHARACTERS_MAX).collect::<String>())
        }
        None => String::new(),
    }
}
