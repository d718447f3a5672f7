//! The key that signs a log's checkpoints: made at the first start, then kept.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use stemma_event_log::{LogId, NoteSigner};

use crate::clock::random_seed;

/// Name of the key's file in the tenant's directory.
pub(crate) const NAME: &str = "signing-key";
/// What the names of all logs begin with.
const ORIGIN: &str = "stemma/";
/// A key is a line; more is not read.
const BYTES_MAX: u64 = 4096;

/// What the log's notes are signed as.
pub(crate) fn origin(log_id: LogId) -> String {
    format!("{ORIGIN}{log_id}")
}

/// Reads the key of a tenant.
///
/// # Errors
/// Why there is none, for people.
pub(crate) fn load(tenant: &Path, log_id: LogId) -> Result<NoteSigner, String> {
    let path = tenant.join(NAME);
    let told = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let mut text = String::new();
    let file = File::open(&path).map_err(|error| told(&error))?;
    file.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| told(&error))?;
    let signer = NoteSigner::parse(&text).map_err(|error| told(&error))?;
    if signer.verifier().name() != origin(log_id) {
        return Err(told(&"the key is of another log"));
    }
    Ok(signer)
}

/// The id of a tenant's log, as its key says; none where there is no key.
///
/// # Errors
/// The key is there and cannot be read: of `InvalidData` where it is none of ours.
pub(crate) fn log_of(tenant: &Path) -> io::Result<Option<String>> {
    let file = match File::open(tenant.join(NAME)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    let wrong = |why: String| io::Error::new(ErrorKind::InvalidData, why);
    let signer = NoteSigner::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let log = signer.verifier().name().strip_prefix(ORIGIN);
    let log = log.ok_or_else(|| wrong("the key is of no log".to_owned()))?;
    Ok(Some(log.to_owned()))
}

/// Reads the key of a tenant, or makes it when there is none.
///
/// # Errors
/// As [`load`]; a key that is there is never replaced.
pub(crate) fn load_or_make(tenant: &Path, log_id: LogId) -> Result<NoteSigner, String> {
    let path = tenant.join(NAME);
    let told = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    let mut file = match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return load(tenant, log_id),
        made => made.map_err(|error| told(&error))?,
    };
    let seed = random_seed().map_err(|error| told(&error))?;
    let signer = NoteSigner::new(&origin(log_id), &seed).map_err(|error| told(&error))?;
    let written = writeln!(file, "{}", signer.secret())
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(tenant)?.sync_all());
    if let Err(error) = written {
        // Half a key would be in the way of the next start.
        let _ = std::fs::remove_file(&path);
        return Err(told(&error));
    }
    tracing::info!(key = %signer.verifier(), "made the key that signs checkpoints");
    Ok(signer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LOG: [u8; 16] = [7; 16];

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_never_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let log_id = LogId::from_bytes(LOG);
        assert!(load(dir.path(), log_id).is_err());
        let made = load_or_make(dir.path(), log_id).expect("it is made");
        let path = dir.path().join(NAME);
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = load_or_make(dir.path(), log_id).expect("it is there");
        assert_eq!(again.verifier(), made.verifier());
        assert!(load(dir.path(), LogId::from_bytes([8; 16])).is_err());
        std::fs::write(&path, "PRIVATE+KEY+broken").expect("the file is ours");
        assert!(load_or_make(dir.path(), log_id).is_err());
        let kept = std::fs::read_to_string(&path).expect("it is there");
        assert_eq!(kept, "PRIVATE+KEY+broken");
    }
    #[test]
    fn only_a_key_that_is_not_there_names_no_log() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(log_of(dir.path()).expect("no key"), None);
        let log_id = LogId::from_bytes(LOG);
        load_or_make(dir.path(), log_id).expect("it is made");
        let log = log_of(dir.path()).expect("a key");
        assert_eq!(log, Some(log_id.to_string()));
        let path = dir.path().join(NAME);
        std::fs::write(&path, "PRIVATE+KEY+broken").expect("the file is ours");
        let broken = log_of(dir.path()).expect_err("no key of ours");
        assert_eq!(broken.kind(), ErrorKind::InvalidData);
        std::fs::remove_file(&path).expect("the file is ours");
        std::fs::create_dir(&path).expect("there is room");
        let unread = log_of(dir.path()).expect_err("no file");
        assert_ne!(unread.kind(), ErrorKind::InvalidData);
    }
}
