//! Reading strangers' files in a process of its own.
//!
//! The process is the program itself, called with a hidden command whose body is [`main`]. It
//! limits its own memory, processor time, files and core dumps before it reads a byte; the parent
//! limits the time on the wall and what it takes of the answer. Whatever a file does to its
//! reader, the parent gets an answer or an error. The protocol is described in
//! `docs/format/parser-protocol.md`.

mod confined;
mod outcome;
mod protocol;

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

pub use confined::main;
use protocol::{Answer, Header, Unsent, Work};

use crate::parse::Parsed;
use crate::validate::{Declared, Validated};
use crate::{Clock, DocumentError, Limits};

/// How often the parent looks whether it is to stop: 20 milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a process that has closed its output may take to end: 5 seconds.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What is kept of what the process says on its standard error, in bytes.
const STDERR_BYTES_MAX: u64 = 8 << 10;

/// How to start the parser's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParserProcess {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, which make it call [`main`].
    pub arguments: Vec<String>,
}

impl ParserProcess {
    /// Validates a document in a process of its own.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn validate(
        &self,
        content: impl Read + Send,
        declared: &Declared<'_>,
        limits: &Limits,
        cancelled: &AtomicBool,
    ) -> Result<Validated, DocumentError> {
        let answer = self.ask(Work::Validate, content, declared, limits, cancelled)?;
        Ok(answer.validated)
    }

    /// Validates and parses a document in a process of its own.
    ///
    /// Blocks until the answer is there, `cancelled` is seen set (within 20 ms), or
    /// `parser_timeout_ms` have passed. `content` is read to its end piece by piece and never held
    /// whole; a `read` of it that blocks is waited for, so it should be a file or memory. The
    /// process has ended and is reaped when this returns, whatever it returns.
    ///
    /// # Errors
    /// What the process found wrong with the document; else how the process itself ended.
    pub fn run(
        &self,
        content: impl Read + Send,
        declared: &Declared<'_>,
        limits: &Limits,
        cancelled: &AtomicBool,
    ) -> Result<(Validated, Parsed), DocumentError> {
        let answer = self.ask(Work::Parse, content, declared, limits, cancelled)?;
        let crashed = |reason: &str| DocumentError::ParserCrashed {
            reason: reason.to_owned(),
        };
        let parsed = answer.parsed.ok_or_else(|| crashed("it did not parse"))?;
        if !parsed.check() {
            return Err(crashed("its spans lie outside of its text"));
        }
        Ok((answer.validated, parsed))
    }

    fn ask(
        &self,
        work: Work,
        content: impl Read + Send,
        declared: &Declared<'_>,
        limits: &Limits,
        cancelled: &AtomicBool,
    ) -> Result<Answer, DocumentError> {
        let header = Header::new(work, declared, limits);
        self.ask_over(&Builder::new, &header, content, limits, cancelled)
    }

    /// Asks over threads that are made so, one for each pipe.
    fn ask_over(
        &self,
        thread: &dyn Fn() -> Builder,
        header: &Header,
        content: impl Read + Send,
        limits: &Limits,
        cancelled: &AtomicBool,
    ) -> Result<Answer, DocumentError> {
        let mut running = self.start()?;
        let pipes = running.pipes();
        let deadline = Instant::now() + Duration::from_millis(limits.parser_timeout_ms);
        std::thread::scope(|scope| {
            // Whichever way this is left, the process ends, and the threads with it.
            let mut running = running;
            let (answers, answered) = channel();
            let sender = started(scope, thread(), move || header.send(content, pipes.stdin))?;
            let errors = started(scope, thread(), move || last_words(pipes.stderr))?;
            let answering = move || read_answer(pipes.stdout, &answers, limits);
            started(scope, thread(), answering)?;
            let answer = wait(&answered, deadline, cancelled);
            let status = match &answer {
                Some(Err(protocol::Unread::BrokenOff)) => running.end_within(END_TIMEOUT),
                _ => None,
            };
            running.stop();
            let sent = sender.join().unwrap_or(Err(Unsent::Pipe));
            let errors = errors.join().unwrap_or_default();
            if let Err(Unsent::Content(reason)) = sent {
                return Err(DocumentError::ContentUnreadable { reason });
            }
            match answer {
                Some(Ok(answer)) => answer,
                Some(Err(unread)) => Err(outcome::of(&unread, status, &errors, limits)),
                None if cancelled.load(Ordering::Relaxed) => Err(DocumentError::Cancelled),
                None => Err(DocumentError::ParserTimeout {
                    clock: Clock::Wall,
                    limit_ms: limits.parser_timeout_ms,
                }),
            }
        })
    }

    fn start(&self) -> Result<Running, DocumentError> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(ALLOCATOR_SETTINGS)
            .current_dir("/")
            // Ctrl-C in a terminal is meant for the parent, which ends it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = command.spawn();
        started
            .map(Running)
            .map_err(|error| DocumentError::ParserUnavailable {
                reason: format!("{} does not start: {error}", self.program.display()),
            })
    }
}

/// Starts a thread; a system that has no room for one has no parser either, for now.
fn started<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    thread: Builder,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, DocumentError> {
    let started = thread.spawn_scoped(scope, work);
    started.map_err(|error| DocumentError::ParserUnavailable {
        reason: format!("no thread can be started: {error}"),
    })
}

/// Address space is limited, so the allocator must not reserve a gigabyte of it in advance: with
/// that, the process would have none left.
const ALLOCATOR_SETTINGS: [(&str, &str); 2] = [
    ("MIMALLOC_ARENA_RESERVE", "16384"),
    ("MIMALLOC_ARENA_EAGER_COMMIT", "0"),
];

/// A process that is killed and reaped when it is dropped.
struct Running(Child);

struct Pipes {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Running {
    fn pipes(&mut self) -> Pipes {
        const PIPED: &str = "all three were asked for, and are taken once";
        Pipes {
            stdin: self.0.stdin.take().expect(PIPED),
            stdout: self.0.stdout.take().expect(PIPED),
            stderr: self.0.stderr.take().expect(PIPED),
        }
    }

    /// Waits for a process that has nothing more to say.
    fn end_within(&mut self, timeout: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::park_timeout(LOOK_INTERVAL / 10);
                }
                _ => return None,
            }
        }
    }

    /// Kills and reaps the process; what has ended is only reaped.
    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

type Received = Result<Result<Answer, DocumentError>, protocol::Unread>;

/// The answer, or nothing when the time is up or the caller has had enough.
fn wait(
    answered: &Receiver<Received>,
    deadline: Instant,
    cancelled: &AtomicBool,
) -> Option<Received> {
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return None;
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        match answered.recv_timeout(left.min(LOOK_INTERVAL)) {
            Ok(read) => return Some(read),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Some(Err(protocol::Unread::BrokenOff)),
        }
    }
}

fn read_answer(stdout: ChildStdout, answers: &Sender<Received>, limits: &Limits) {
    // Nobody listens any more when the time was up.
    let _ = answers.send(protocol::receive(stdout, limits));
}

/// The beginning of what the process said on its standard error; the rest is read and dropped.
fn last_words(mut stderr: ChildStderr) -> String {
    let mut kept = Vec::new();
    let _ = stderr
        .by_ref()
        .take(STDERR_BYTES_MAX)
        .read_to_end(&mut kept);
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How long each of the processes would go on.
    const GOES_ON: Duration = Duration::from_mins(5);

    /// A system without room for another thread ended the document for good, as a mistake of ours.
    #[test]
    fn where_a_thread_cannot_be_had_there_is_no_parser_for_now_and_its_process_ends() {
        let began = Instant::now();
        let parser = ParserProcess {
            program: PathBuf::from("/bin/sleep"),
            arguments: vec![GOES_ON.as_secs().to_string()],
        };
        let (limits, cancelled) = (Limits::default(), AtomicBool::new(false));
        let declared = Declared {
            file_name: "a.txt",
            media_type: None,
        };
        let header = Header::new(Work::Parse, &declared, &limits);
        // More than the pipe takes: whoever sends it waits for the process.
        let content = vec![b'x'; 1 << 20];
        for n_started in 0..3 {
            let made = Cell::new(0);
            let thread = || {
                let thread = Builder::new();
                if made.replace(made.get() + 1) == n_started {
                    // No address space has room for such a stack.
                    return thread.stack_size(usize::MAX / 4);
                }
                thread
            };
            let asked = parser.ask_over(&thread, &header, content.as_slice(), &limits, &cancelled);
            let error = asked.err();
            assert!(
                matches!(error, Some(DocumentError::ParserUnavailable { .. })),
                "{error:?}"
            );
            assert!(error.is_some_and(|error| error.transient()));
            assert_eq!(made.get(), n_started + 1);
        }
        assert!(began.elapsed() < GOES_ON, "a process was waited for");
    }
}
