//! The index as its callers hold it: one writer, any number of readers.
//!
//! Invariant: what a query reads and the checkpoint that it names are of one commit.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use tantivy::{Index, IndexReader, IndexWriter, Searcher};

use crate::checkpoint::Checkpoint;
use crate::engine::guarded;
use crate::error::{OpenError, SearchError};
use crate::fields::Fields;
use crate::find::find;
use crate::matrix::Matrices;
use crate::open::{self, Opened};
use crate::options::Options;
use crate::owned::OwnedDirectory;
use crate::query::{Page, Query, Sees};
use crate::queued::Queued;
use crate::scan::Scan;

/// The index of text and vectors in one directory. Clones share it.
///
/// The directory must not be renamed while the index is open. To rebuild, an index is filled in
/// another directory, and the caller asks that one from then on and [discards](Self::discard)
/// the first.
#[derive(Clone)]
pub struct SearchIndex {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("SearchIndex");
        shown.field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// What clones share.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) fields: Fields,
    /// For reading; each writer has its own.
    pub(crate) index: Index,
    pub(crate) reader: IndexReader,
    pub(crate) matrices: Matrices,
    pub(crate) commit: RwLock<Arc<Commit>>,
    pub(crate) writing: Mutex<Writing>,
}

/// What one commit holds, as readers see it.
pub(crate) struct Commit {
    pub(crate) searcher: Searcher,
    pub(crate) checkpoint: Checkpoint,
}

/// The one writer. It is thrown away after a failure, with all that was not committed, and made
/// anew by the next change.
pub(crate) struct Writing {
    pub(crate) writer: Option<IndexWriter<Queued>>,
    /// The directory that the last writer has or had.
    pub(crate) directory: OwnedDirectory,
    /// When a commit was last brought to the medium.
    pub(crate) synced_at: Instant,
    pub(crate) is_discarded: bool,
}

impl Writing {
    /// Brings the newest commit to the medium.
    pub(crate) fn sync(&mut self) -> Result<(), SearchError> {
        self.synced_at = Instant::now();
        Ok(self.directory.sync()?)
    }
}

impl SearchIndex {
    /// Opens the index in `dir`, or makes an empty one.
    ///
    /// Every file's checksum is verified. Where the newest commit is not whole, the index is as of
    /// the last one that was [synced](Self::sync). What cannot be used, or is of another format, is
    /// moved aside or removed, and the index is empty. The result says which.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was moved, except where an empty index could not be made. Where the
    /// newest commit is not whole, the list of the last one that was synced may have taken the place
    /// of its list: the next open goes on with that one.
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
        options.checked()?;
        open::open(dir, options)
    }

    /// How far the log is folded in.
    pub fn checkpoint(&self) -> Checkpoint {
        self.commit().checkpoint
    }

    /// Answers a query from the newest commit.
    ///
    /// Takes time in proportion to the passages that match.
    ///
    /// # Errors
    /// [`SearchError::EmptyQuery`], [`SearchError::QueryTooLong`], [`SearchError::TooManyTerms`],
    /// [`SearchError::Limit`], [`SearchError::Cursor`], [`SearchError::NoVector`],
    /// [`SearchError::InvalidVector`] and [`SearchError::TooManyVectors`] are the query's;
    /// the others the index's.
    pub fn search(&self, query: &Query) -> Result<Page, SearchError> {
        self.search_for(query, None)
    }

    /// The same, of the resources alone that are seen, where not all are: as if the others had no
    /// passages, but for how rare words are taken to be, and for the limit of vectors.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_for(&self, query: &Query, sees: Option<Sees<'_>>) -> Result<Page, SearchError> {
        let commit = self.commit();
        let scan = Scan {
            searcher: &commit.searcher,
            fields: &self.shared.fields,
            matrices: &self.shared.matrices,
            candidates_max: self.shared.options.vectors_scanned_max,
            sees,
        };
        guarded(|| find(&scan, query, commit.checkpoint))
    }

    /// Brings the newest commit to the medium: the machine may stop, and it is there. A commit is
    /// there after the process was killed, and without this it is soon on the medium as well; it is
    /// brought there with a change at least every [`sync_every`](Options::sync_every).
    ///
    /// # Errors
    /// [`SearchError::Discarded`]; any other, and the commit that was brought there before is there.
    /// Where the system could not write what it had, none is brought there until the files that
    /// were lost are merged.
    pub fn sync(&self) -> Result<(), SearchError> {
        let mut writing = self.writing();
        if writing.is_discarded {
            return Err(SearchError::Discarded);
        }
        guarded(|| self.ensure_writer(&mut writing))?;
        writing.sync()
    }

    /// Removes what was written of files that could not be written to their ends, as by a merge on a
    /// disk that became full; at once where there is none. Whoever commits does so as well.
    ///
    /// # Errors
    /// [`SearchError::Index`]; it is removed with the next commit then.
    pub fn remove_left_over(&self) -> Result<(), SearchError> {
        let writing = self.writing();
        match &writing.writer {
            Some(writer) if writing.directory.takes_left_over() => guarded(|| {
                writer.garbage_collect_files().wait()?;
                Ok(())
            }),
            _ => Ok(()),
        }
    }

    /// Removes the index from disk. Clones answer from what they have open, until they are
    /// dropped; changes are refused.
    ///
    /// # Errors
    /// [`SearchError::Index`] if files are left over.
    pub fn discard(&self) -> Result<(), SearchError> {
        let mut writing = self.writing();
        writing.is_discarded = true;
        if let Some(writer) = writing.writer.take() {
            // A merge would write into the directory that is being removed.
            if let Err(error) = guarded(|| Ok(writer.wait_merging_threads()?)) {
                tracing::warn!(%error, "a discarded index did not end its merges");
            }
        }
        Ok(std::fs::remove_dir_all(&self.shared.dir)?)
    }

    pub(crate) fn commit(&self) -> Arc<Commit> {
        let commit = self.shared.commit.read();
        Arc::clone(&commit.unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn writing(&self) -> std::sync::MutexGuard<'_, Writing> {
        let writing = self.shared.writing.lock();
        writing.unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the newest commit the one that is read.
    pub(crate) fn refresh(&self) -> Result<(), SearchError> {
        let shared = &self.shared;
        shared.reader.reload()?;
        let commit = Arc::new(read_commit(&shared.index, &shared.reader)?);
        let segments = commit.searcher.segment_readers().iter();
        let segments: HashSet<_> = segments.map(tantivy::SegmentReader::segment_id).collect();
        let mut newest = shared
            .commit
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *newest = commit;
        drop(newest);
        shared.matrices.retain(&segments);
        Ok(())
    }
}

/// The commit that a reader shows.
///
/// # Errors
/// [`SearchError::Damaged`] if its checkpoint cannot be read.
pub(crate) fn read_commit(index: &Index, reader: &IndexReader) -> Result<Commit, SearchError> {
    let payload = index.load_metas()?.payload;
    let checkpoint = Checkpoint::from_payload(payload.as_deref());
    let checkpoint = checkpoint.map_err(|error| SearchError::Damaged {
        message: error.to_string(),
    })?;
    Ok(Commit {
        searcher: reader.searcher(),
        checkpoint,
    })
}
