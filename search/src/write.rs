//! How changes become rows: all of a batch in one commit, with the checkpoint.
//!
//! What a batch does to a resource is worked out first, over what is stored of it; then each
//! resource that changed is written whole. So changes of one batch build on each other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::Arc;

use tantivy::collector::DocSetCollector;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, MergeCandidate, MergePolicy};
use tantivy::query::TermQuery;
use tantivy::schema::IndexRecordOption;
use tantivy::{Index, IndexWriter, SegmentMeta, TantivyDocument, TantivyError};

use stemma_domain::id::ResourceId;

use crate::change::{Change, Facets, NOTE_BYTES_MAX};
use crate::checkpoint::Checkpoint;
use crate::engine::guarded;
use crate::error::SearchError;
use crate::fields::PassageKind;
use crate::index::{SearchIndex, Writing};
use crate::known::Known;
use crate::options::Options;
use crate::owned::OwnedDirectory;
use crate::put::Left;
use crate::queued::{Queued, Room};
use crate::row::Stored;

/// Segments of fewer passages are merged with each other whatever their sizes.
const SMALL_SEGMENT_PASSAGES: u32 = 1_000;
/// Passages beyond which a segment is not merged with others any more: a merge, which takes as long
/// as the passages were many, is not paid again and again by what is long there.
const MERGED_PASSAGES_MAX: usize = 200_000;
/// Share of deleted passages from which on a segment is written anew.
const DELETED_SHARE_MAX: f32 = 0.3;

/// Which segments are merged, and which are written anew.
#[derive(Debug)]
struct Merging {
    of_engine: LogMergePolicy,
    passages_max: usize,
}

impl Merging {
    /// Segments of more passages are not merged with others.
    fn beyond(passages_max: usize) -> Self {
        let mut of_engine = LogMergePolicy::default();
        of_engine.set_min_layer_size(SMALL_SEGMENT_PASSAGES);
        of_engine.set_max_docs_before_merge(passages_max);
        of_engine.set_del_docs_ratio_before_merge(DELETED_SHARE_MAX);
        Self {
            of_engine,
            passages_max,
        }
    }

    /// The engine's policy looks at the deletions of those alone that it merges with others.
    fn is_written_anew(&self, segment: &SegmentMeta) -> bool {
        #[allow(clippy::cast_precision_loss, reason = "a share, not a count")]
        let share = segment.num_deleted_docs() as f32 / segment.max_doc().max(1) as f32;
        segment.num_docs() as usize > self.passages_max && share > DELETED_SHARE_MAX
    }
}

impl MergePolicy for Merging {
    fn compute_merge_candidates(&self, segments: &[SegmentMeta]) -> Vec<MergeCandidate> {
        let mut candidates = self.of_engine.compute_merge_candidates(segments);
        let long = segments
            .iter()
            .filter(|segment| self.is_written_anew(segment));
        candidates.extend(long.map(|segment| MergeCandidate(vec![segment.id()])));
        candidates
    }
}

/// What a batch leaves of each resource that it changes.
type Touched = BTreeMap<ResourceId, Left>;

/// Opens the writer of an index over an [`OwnedDirectory`], which has one. Files that no list names
/// are gone for good, and the commit that is there is brought to the medium if that can be done.
///
/// # Errors
/// The engine's; and the system's as its own, which tells nothing of what is there.
pub(crate) fn open_writer<E: From<TantivyError> + From<io::Error>>(
    index: &Index,
    directory: &OwnedDirectory,
    options: &Options,
) -> Result<IndexWriter<Queued>, E> {
    let options = IndexWriterOptions::builder()
        .memory_budget_per_thread(options.writer_bytes)
        .num_worker_threads(1)
        .num_merge_threads(1)
        .build();
    let writer = index.writer_with_options(options)?;
    writer.set_merge_policy(Box::new(Merging::beyond(MERGED_PASSAGES_MAX)));
    // What a commit left that did not come about bears the names that the next one writes under.
    directory.sync_names()?;
    writer.garbage_collect_files().wait()?;
    // The engine gives its first change the number of the commit that is there. A merge as of that
    // commit took it for a part of it: a removal was brought to the medium before its batch was, or
    // was never done in segments that had others as of that commit.
    writer.run([])?;
    directory.settle()?;
    Ok(writer)
}

impl SearchIndex {
    /// Applies changes in their order and moves the checkpoint, in one commit. When this returns,
    /// queries see all of it.
    ///
    /// A commit costs some milliseconds however small it is: callers gather changes. The batch is in
    /// memory meanwhile; of the resources that it describes anew one at a time; passages that are
    /// [read](crate::Passages::Read) are not, and of those that the engine has not taken in yet
    /// 8 MiB are.
    ///
    /// # Errors
    /// [`SearchError::ChunkId`], [`SearchError::Note`], [`SearchError::InvalidVector`] and
    /// [`SearchError::Passages`] and [`SearchError::Discarded`] wrote nothing. After any other, either all was committed or
    /// nothing: [`settled`](Self::settled) tells.
    pub fn apply(&self, changes: Vec<Change>, checkpoint: Checkpoint) -> Result<(), SearchError> {
        let mut writing = self.writing();
        if writing.is_discarded {
            return Err(SearchError::Discarded);
        }
        guarded(|| self.ensure_writer(&mut writing))?;
        let touched = touched(changes)?;
        let committed = guarded(|| self.write(&mut writing, touched, checkpoint));
        if committed.is_err() {
            writing.writer = None;
            return committed;
        }
        if writing.synced_at.elapsed() >= self.shared.options.sync_every
            && let Err(error) = writing.sync()
        {
            // It is committed all the same, and an open finds what of it is lost.
            tracing::warn!(%error, "the search index is not brought to the medium");
        }
        Ok(())
    }

    /// The checkpoint, looked up on disk if a change failed since: it may have been committed.
    ///
    /// # Errors
    /// [`SearchError::Discarded`]; any other is to be tried again, or the index is damaged.
    pub fn settled(&self) -> Result<Checkpoint, SearchError> {
        let mut writing = self.writing();
        if writing.is_discarded {
            return Err(SearchError::Discarded);
        }
        guarded(|| self.ensure_writer(&mut writing))?;
        Ok(self.checkpoint())
    }

    /// After a failure nobody knows what was committed: it is looked up before going on.
    pub(crate) fn ensure_writer(&self, writing: &mut Writing) -> Result<(), SearchError> {
        if writing.directory.has_failed() {
            writing.writer = None;
        }
        if writing.writer.is_none() {
            let shared = &self.shared;
            let directory = writing.directory.take_again()?;
            let index = Index::open(directory.clone())?;
            shared.fields.register(&index);
            let writer = open_writer::<SearchError>(&index, &directory, &shared.options)?;
            // First of all: it knows which files were lost just now.
            writing.directory = directory;
            self.refresh()?;
            writing.writer = Some(writer);
        }
        Ok(())
    }

    /// What is committed of a resource, by place.
    fn stored(&self, resource: ResourceId) -> Result<Vec<Stored>, SearchError> {
        let fields = &self.shared.fields;
        let searcher = &self.commit().searcher;
        let term = fields.resource_term(*resource.as_bytes());
        let query = TermQuery::new(term, IndexRecordOption::Basic);
        let mut addresses: Vec<_> = searcher
            .search(&query, &DocSetCollector)?
            .into_iter()
            .collect();
        // Rows are compressed in blocks: in order, each block is read once.
        addresses.sort_unstable();
        let mut stored = Vec::with_capacity(addresses.len());
        for address in addresses {
            let document: TantivyDocument = searcher.doc(address)?;
            stored.push(fields.stored(&document)?);
        }
        stored.sort_by_key(|stored| stored.row.index);
        Ok(stored)
    }

    fn write(
        &self,
        writing: &mut Writing,
        touched: Touched,
        checkpoint: Checkpoint,
    ) -> Result<(), SearchError> {
        let fields = &self.shared.fields;
        let searcher = &self.commit().searcher;
        let writer = writing.writer.as_mut().expect("made before changes are");
        let room = Arc::<Room>::default();
        let known = Known::of(fields, searcher)?;
        for (resource, left) in touched {
            if let Some(term) = known.term(resource)? {
                writer.delete_term(term);
            }
            // One resource after the other: of many, all that is stored does not fit memory.
            let stored = || self.stored(resource);
            let mut kind = PassageKind::First;
            left.each(stored, &mut |stored| {
                let document = fields.document(&stored, kind)?;
                writer.add_document(room.let_in(document, bytes_laid_out(&stored)))?;
                kind = PassageKind::Further;
                Ok(())
            })?;
        }
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&checkpoint.to_payload());
        commit.commit()?;
        self.refresh()
    }
}

/// What a batch of changes leaves of each resource.
fn touched(changes: Vec<Change>) -> Result<Touched, SearchError> {
    let mut touched = Touched::new();
    for change in changes {
        match change {
            Change::Put {
                resource,
                facets,
                passages,
            } => {
                must_be_short(&facets)?;
                touched.insert(resource, Left::put(resource, &facets, passages)?);
            }
            Change::Describe { resource, facets } => {
                must_be_short(&facets)?;
                match touched.entry(resource) {
                    Entry::Occupied(mut there) => there.get_mut().describe(facets),
                    Entry::Vacant(place) => {
                        place.insert(Left::Described(facets));
                    }
                }
            }
            Change::Remove { resource } => {
                touched.insert(resource, Left::Rows(Vec::new()));
            }
        }
    }
    Ok(touched)
}

/// About as many bytes as a passage takes on its way to the engine: its text stands in two fields
/// and in the row, and what holds them grows by doubling.
fn bytes_laid_out(stored: &Stored) -> usize {
    let vectors = stored.vectors.iter();
    let vectors: usize = vectors.map(|vector| 2 * vector.values.len()).sum();
    2 * (3 * stored.row.text.len() + vectors) + size_of::<Stored>()
}

fn must_be_short(facets: &Facets) -> Result<(), SearchError> {
    let bytes = facets.note.len();
    if bytes > NOTE_BYTES_MAX {
        let bytes_max = NOTE_BYTES_MAX;
        return Err(SearchError::Note { bytes, bytes_max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use stemma_domain::value::ResourceName;
    use tantivy::merge_policy::NoMergePolicy;

    use super::*;
    use crate::change::Passages;

    fn id(number: u128) -> ResourceId {
        ResourceId::new(uuid::Uuid::from_u128(number))
    }

    fn put(number: u128, text: &str) -> Change {
        let facets = Facets {
            name: ResourceName::new("name").unwrap(),
            collection: None,
            entity_types: BTreeSet::new(),
            archived: false,
            note: Vec::new(),
        };
        Change::Put {
            resource: id(number),
            facets,
            passages: Passages::Text(text.to_owned()),
        }
    }

    fn open(dir: &Path) -> SearchIndex {
        let opened = SearchIndex::open(dir, &Options::default());
        opened.unwrap().index
    }

    fn apply(index: &SearchIndex, end: u64, changes: Vec<Change>) {
        let checkpoint = Checkpoint { end, last: None };
        index.apply(changes, checkpoint).unwrap();
    }

    /// A long segment kept what was deleted of it until nearly all was.
    #[test]
    fn a_segment_that_is_too_long_to_be_merged_is_written_anew_for_what_is_deleted_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let index = open(&dir.path().join("search"));
        let writing = index.writing();
        let writer = writing.writer.as_ref().unwrap();
        writer.set_merge_policy(Box::new(Merging::beyond(2)));
        drop(writing);
        apply(
            &index,
            1,
            (1..6).map(|number| put(number, "text")).collect(),
        );
        let removed = [1, 2].map(|number| Change::Remove {
            resource: id(number),
        });
        apply(&index, 2, removed.into());
        let writer = index.writing().writer.take().unwrap();
        writer.wait_merging_threads().unwrap();
        index.settled().unwrap();
        let commit = index.commit();
        let segments = commit.searcher.segment_readers().iter();
        let counts = segments.map(|segment| (segment.max_doc(), segment.num_deleted_docs()));
        assert_eq!(counts.collect::<Vec<_>>(), [(3, 0)]);
    }

    /// A resource that was rewritten was there twice.
    #[test]
    fn the_first_removal_behind_an_open_is_done_in_segments_that_are_merged_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("search");
        let index = open(&place);
        let writing = index.writing();
        let writer = writing.writer.as_ref().unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        drop(writing);
        apply(&index, 1, vec![put(1, "one"), put(2, "two")]);
        let second = (3..7).map(|number| put(number, "more"));
        let removed = Change::Remove { resource: id(1) };
        apply(&index, 2, second.chain([removed]).collect());
        drop(index);

        // The first segment has a removal as of the commit, and the one before it in a merge none.
        let index = open(&place);
        apply(&index, 3, vec![put(2, "two again")]);
        let writer = index.writing().writer.take().unwrap();
        writer.wait_merging_threads().unwrap();
        index.settled().unwrap();

        let stats = index.stats().unwrap();
        assert_eq!((stats.resources, stats.passages), (5, 5));
        let other = open(&dir.path().join("other"));
        let all = (3..7).map(|number| put(number, "more"));
        apply(&other, 3, all.chain([put(2, "two again")]).collect());
        assert_eq!(index.digest().unwrap(), other.digest().unwrap());
    }
}
