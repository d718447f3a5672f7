//! A file whose lock says that a directory is in use, and whose text says by which process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

/// How long the lock is waited for: a process that was killed while it began another one has it until
/// that one has closed the file.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked meanwhile: the system has a lock be waited for without an end, or not at
/// all.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// Takes the lock until the file is dropped, or tells which process has it.
///
/// # Errors
/// When the file cannot be opened, locked or written.
pub(crate) fn try_lock(path: &Path) -> anyhow::Result<Result<File, String>> {
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let mut file = open.with_context(|| format!("open {}", path.display()))?;
    let until = Instant::now() + LOCK_WAIT;
    let taken = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_LOOK);
            }
            taken => break taken,
        }
    };
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            return Ok(Err(holder.trim().to_owned()));
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}
