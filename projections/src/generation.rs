//! The directories that views live in, one for each time they were made.
//!
//! `views/CURRENT` names the generation in use. A new one is made beside it and takes over by
//! replacing that file. Invariant: at any moment `CURRENT` names a whole generation or there is
//! none; whatever it does not name is a leftover and is removed at start.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const CURRENT: &str = "CURRENT";
const LOCK: &str = "lock";
const PREFIX: &str = "gen-";

/// Why the directories of the views could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct GenerationError {
    /// What was being done.
    pub doing: &'static str,
    /// With what.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Keeps other processes, and other handles in this one, from the generations while it lives.
#[derive(Debug)]
pub struct GenerationLock {
    _file: fs::File,
}

/// The generations of one set of views.
#[derive(Debug, Clone)]
pub struct Generations {
    dir: PathBuf,
}

impl Generations {
    /// The generations below a directory, which need not be there.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
        }
    }

    /// Takes the generations for oneself; none when someone else has them.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn lock(&self) -> Result<Option<GenerationLock>, GenerationError> {
        let path = self.dir.join(LOCK);
        let failed = |source| GenerationError {
            doing: "lock",
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let file = fs::File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(GenerationLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Keeps those out that [`lock`](Self::lock), without writing anything; none when someone has
    /// the generations. Where there is nothing to lock, nobody ever did.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn share(&self) -> Result<Option<Option<GenerationLock>>, GenerationError> {
        let path = self.dir.join(LOCK);
        let failed = |source| GenerationError {
            doing: "lock",
            path: path.clone(),
            source,
        };
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
            Err(source) => return Err(failed(source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Some(GenerationLock { _file: file }))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The directory of the generation in use; none when there is none.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn current(&self) -> Result<Option<PathBuf>, GenerationError> {
        let path = self.dir.join(CURRENT);
        match fs::read_to_string(&path) {
            Ok(name) => {
                let name = name.trim();
                Ok(number_of(name).map(|_| self.dir.join(name)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(GenerationError {
                doing: "read",
                path,
                source,
            }),
        }
    }

    /// Whether there is any generation, in use or not.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn any(&self) -> Result<bool, GenerationError> {
        Ok(self.dir.is_dir() && self.list()?.iter().any(|name| number_of(name).is_some()))
    }

    /// A directory for the next generation, which is not there yet.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn next(&self) -> Result<PathBuf, GenerationError> {
        let newest = self
            .list()?
            .into_iter()
            .filter_map(|name| number_of(&name))
            .max();
        Ok(self
            .dir
            .join(format!("{PREFIX}{:06}", newest.unwrap_or(0) + 1)))
    }

    /// Has a generation take over, in one step.
    ///
    /// # Errors
    /// [`GenerationError`]; the one before is in use then, as it was.
    #[allow(clippy::disallowed_methods)] // the one home of this rename, with its directory sync
    pub fn switch_to(&self, generation: &Path) -> Result<(), GenerationError> {
        let path = self.dir.join(CURRENT);
        let unfinished = self.dir.join("CURRENT.tmp");
        let failed = |source| GenerationError {
            doing: "replace",
            path: path.clone(),
            source,
        };
        let name = generation
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut file = fs::File::create(&unfinished).map_err(failed)?;
        file.write_all(name.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        fs::File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed)
    }

    /// Removes the generations that are not in use. Directories that were moved aside as unusable
    /// stay, for whoever wants to know why.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn remove_others(&self) -> Result<(), GenerationError> {
        let current = self.current()?;
        for name in self.list()? {
            let path = self.dir.join(&name);
            if number_of(&name).is_some() && current.as_ref() != Some(&path) {
                fs::remove_dir_all(&path).map_err(|source| GenerationError {
                    doing: "remove",
                    path,
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, GenerationError> {
        let failed = |source| GenerationError {
            doing: "list",
            path: self.dir.clone(),
            source,
        };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let mut names = Vec::new();
        for found in fs::read_dir(&self.dir).map_err(failed)? {
            names.push(
                found
                    .map_err(failed)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        Ok(names)
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_the_generations_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let generations = Generations::at(dir.path());
        let lock = generations.lock().unwrap();
        assert!(lock.is_some());
        assert!(generations.lock().unwrap().is_none());
        assert!(generations.share().unwrap().is_none());
        drop(lock);
        assert!(generations.lock().unwrap().is_some());
        let shared = generations.share().unwrap();
        assert!(shared.is_some());
        assert!(generations.lock().unwrap().is_none());
    }

    #[test]
    fn a_generation_takes_over_and_the_others_go() {
        let dir = tempfile::tempdir().unwrap();
        let generations = Generations::at(dir.path());
        assert_eq!(generations.current().unwrap(), None);
        let first = generations.next().unwrap();
        fs::create_dir(&first).unwrap();
        generations.switch_to(&first).unwrap();
        let second = generations.next().unwrap();
        assert_ne!(first, second);
        fs::create_dir(&second).unwrap();
        fs::create_dir(dir.path().join("gen-000001.unusable-1")).unwrap();
        assert_eq!(generations.current().unwrap(), Some(first.clone()));
        generations.switch_to(&second).unwrap();
        generations.remove_others().unwrap();
        assert!(second.exists() && !first.exists());
        assert!(dir.path().join("gen-000001.unusable-1").exists());
    }
}
