//! What can go wrong, one type for each family of operations.

use std::io;

use stemma_content_store as content;
use stemma_event_log as log;

use crate::manifest::ManifestError;

/// A target could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}the backup in {target}", part(.name))]
pub struct TargetError {
    /// What was being done.
    pub operation: &'static str,
    /// The file.
    pub name: String,
    /// The target, for people.
    pub target: String,
    /// What was said.
    #[source]
    pub source: io::Error,
}

/// A backup was not made. The one before it holds as it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// What is to be copied is not as it was written.
    #[error("{}{file} at {offset}{}: {detail}; the last backup is as it was", of_tenant(.tenant.as_ref()), at(*.position))]
    Damaged {
        /// The tenant; none for the tokens.
        tenant: Option<String>,
        /// The file, in the tenant's directory.
        file: String,
        /// Where in it.
        offset: u64,
        /// The position that is affected, where one can be told.
        position: Option<u64>,
        /// What does not fit.
        detail: String,
    },
    /// What the target holds is not whole, so nothing can be added to it.
    #[error("{name} of the backup in {target} {problem}; name another target")]
    TargetDamaged {
        /// The file.
        name: String,
        /// The target, for people.
        target: String,
        /// What does not fit.
        problem: String,
    },
    /// The target holds other data.
    #[error("{target} holds a backup of other data; name another target")]
    OtherData {
        /// The target, for people.
        target: String,
    },
    /// The target holds no backup, and what others put there. Nothing was written but, for a while,
    /// the lock in a bucket.
    #[error(
        "{target} holds {name}, which is of no backup; name an empty target, or one that is not there yet"
    )]
    Occupied {
        /// The target, for people.
        target: String,
        /// One of the names.
        name: String,
    },
    /// What the target would hold is more than a manifest names.
    #[error(
        "{target} would hold {files} files, more than one backup names; the last backup is as it was: name another target"
    )]
    TargetFull {
        /// The target, for people.
        target: String,
        /// So many.
        files: usize,
    },
    /// Another backup is being written.
    #[error("{target} is being written to by process {holder}")]
    Locked {
        /// The target, for people.
        target: String,
        /// Who writes.
        holder: String,
    },
    /// The manifest of the last backup cannot be gone by.
    #[error("read the backup in {target}; name another target")]
    Manifest {
        /// The target, for people.
        target: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The target could not be read or written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The log could not be read.
    #[error("read the log of {tenant}")]
    Log {
        /// The tenant, or the tokens.
        tenant: String,
        /// Why.
        #[source]
        source: log::OpenError,
    },
    /// The content could not be read.
    #[error("read the content of {tenant}")]
    Content {
        /// The tenant.
        tenant: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of the tenant's could not be read.
    #[error("read {file}")]
    Io {
        /// The file.
        file: String,
        /// What was said.
        #[source]
        source: io::Error,
    },
    /// It was told to stop.
    #[error("backup was stopped; the one before it is as it was")]
    Stopped,
}

fn part(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!("{name} of "),
    }
}

fn of_tenant(name: Option<&String>) -> String {
    match name {
        Some(name) => format!("tenants/{name}/"),
        None => String::new(),
    }
}

fn at(position: Option<u64>) -> String {
    match position {
        Some(position) => format!(", position {position}"),
        None => String::new(),
    }
}

impl BackupError {
    /// Whether something is damaged, in the source or in the target.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::TargetDamaged { .. } => true,
            Self::Manifest { source, .. } => source.is_damage(),
            Self::Log { source, .. } => matches!(source, log::OpenError::Damaged { .. }),
            _ => false,
        }
    }
}

/// Nothing was restored: what was there is as it was, and nothing is in its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is no backup.
    #[error("there is no backup in {target}")]
    Missing {
        /// The target, for people.
        target: String,
    },
    /// There is data already.
    #[error("{place} is not empty; restore into a directory that is empty or not there")]
    NotEmpty {
        /// The directory.
        place: String,
    },
    /// There is a tenant of this name already.
    #[error("there is a tenant {name}; --name gives the restored one another name")]
    Exists {
        /// The tenant.
        name: String,
    },
    /// Another one restores into the same place.
    #[error("{place} is being restored into by process {holder}")]
    Locked {
        /// The directory.
        place: String,
        /// Who restores.
        holder: String,
    },
    /// It cannot be told which tenant is meant.
    #[error("the backup holds the tenants {names}; --from says which")]
    Ambiguous {
        /// Those that it holds.
        names: String,
    },
    /// The backup has no such tenant.
    #[error("the backup holds no tenant {name}, but {names}")]
    NotInBackup {
        /// The one that was asked for.
        name: String,
        /// Those that it holds.
        names: String,
    },
    /// The manifest cannot be gone by.
    #[error("read the backup in {target}")]
    Manifest {
        /// The target, for people.
        target: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A file of the backup is not as it was written.
    #[error("{name} of the backup in {target} {problem}")]
    Damaged {
        /// The file.
        name: String,
        /// The target, for people.
        target: String,
        /// What does not fit.
        problem: String,
    },
    /// The target could not be read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The content could not be stored.
    #[error("store the content")]
    Content(#[source] content::PutError),
    /// The content store could not be made.
    #[error("make the content store")]
    ContentStore(#[source] content::OpenError),
    /// The restored log could not be read.
    #[error("read the restored log")]
    Log(#[source] log::VerifyError),
    /// A file could not be written.
    #[error("{operation} {file}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        file: String,
        /// What was said.
        #[source]
        source: io::Error,
    },
    /// It was told to stop.
    #[error("restoring was stopped; nothing was put in its place")]
    Stopped,
}

impl RestoreError {
    /// Whether the backup is damaged.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Manifest { source, .. } => source.is_damage(),
            _ => false,
        }
    }
}
