//! The body of the parser's process.

use std::any::Any;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::protocol::{self, Answer, Header, Work};
use crate::parse::validate_and_parse;
use crate::validate::{Declared, validate};
use crate::{DocumentError, Limits};

/// Stack of the thread that reads documents: 32 MiB.
const STACK_BYTES: usize = 32 << 20;

/// Files that the process may have open: its three pipes and a few of the system's.
const FILES_MAX: u64 = 16;

/// Reads one request from `stdin`, works on it within its limits, writes the answer to `stdout`.
///
/// The limits hold for the whole process and cannot be taken back, so this is all that the process
/// is for. It should end when this returns.
///
/// # Errors
/// No request, a broken one, or no one who reads the answer. Errors of the document are answers.
pub fn main(stdin: impl Read + Send, stdout: impl Write + Send) -> io::Result<()> {
    end_with_parent()?;
    // The stack is taken before memory is limited: a document is never to blame for its absence.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let serving = thread.spawn_scoped(scope, || serve(stdin, stdout))?;
        let panicked = |_| Err(io::Error::other("it panicked outside of a document"));
        serving.join().unwrap_or_else(panicked)
    })
}

fn serve(mut stdin: impl Read, stdout: impl Write) -> io::Result<()> {
    let header = Header::receive(&mut stdin)?;
    confine(&header.limits)?;
    let answer = match header.receive_content(&mut stdin)? {
        Ok(content) => guarded(&header, content),
        Err(error) => Err(error),
    };
    protocol::send(answer, stdout)
}

/// The process ends when its parent does.
fn end_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Sets the limits of this process.
fn confine(limits: &Limits) -> io::Result<()> {
    let set = |resource, maximum| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(maximum),
                maximum: Some(maximum),
            },
        )
    };
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    set(Resource::Nofile, FILES_MAX)?;
    set(Resource::As, limits.parser_memory_bytes_max)?;
    // The first limit ends the process with a signal of its own; the second would kill it.
    let seconds = limits.parser_cpu_seconds_max.max(1);
    setrlimit(
        Resource::Cpu,
        Rlimit {
            current: Some(seconds),
            maximum: Some(seconds.saturating_add(1)),
        },
    )?;
    Ok(())
}

/// Works on a document; a panic over it becomes its error.
fn guarded(header: &Header, content: Vec<u8>) -> Result<Answer, DocumentError> {
    catch_unwind(AssertUnwindSafe(|| work(header, content))).unwrap_or_else(|panic| {
        Err(DocumentError::ParserCrashed {
            reason: words_of(panic.as_ref()),
        })
    })
}

fn work(header: &Header, content: Vec<u8>) -> Result<Answer, DocumentError> {
    let declared = Declared {
        file_name: &header.file_name,
        media_type: header.media_type.as_deref(),
    };
    match header.work {
        Work::Validate => validate(&content, &declared, &header.limits).map(|validated| Answer {
            validated,
            parsed: None,
        }),
        Work::Parse => {
            let (validated, parsed) = validate_and_parse(content, &declared, &header.limits)?;
            Ok(Answer {
                validated,
                parsed: Some(parsed),
            })
        }
    }
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> String {
    const CHARACTERS_MAX: usize = 200;
    let words = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked");
    words.chars().take(CHARACTERS_MAX).collect()
}
