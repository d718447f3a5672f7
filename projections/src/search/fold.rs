//! Folding records into an index: what each changes, gathered until it is committed.
//!
//! The state is the index itself: facets and what a text is taken from stand there beside the text.
//! Invariant: `visible_end` records are either in the index or change nothing in it; what the
//! index holds is the fold of as many records as its checkpoint says.

use std::time::Instant;

use stemma_content_store::ContentStore;
use stemma_domain::document::Stage;
use stemma_domain::event::{
    self, DocumentStageCompleted, DocumentUploaded, Event, ResourceCreated, ResourceRevised,
};
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_event_log::Record;
use stemma_search::{Checkpoint, Facets, MODELS_PER_PASSAGE_MAX, SearchError, SearchIndex};
use stemma_views::{ApplyError, Reason};

use super::content::{self, DocumentSource};
use super::origin::{Origin, Revised};
use super::pending::{Described, Pending, Text};

/// Bytes of text and vectors after which a batch is committed; what one event adds comes on top.
const BATCH_BYTES: usize = 64 << 20;
/// Those of them that are in memory until then, after which a batch is committed: texts of contents.
/// Those of documents are read while they are written.
const HELD_BYTES: usize = 16 << 20;
/// About as many bytes as a passage of a text has.
const PASSAGE_BYTES: usize = 1 << 10;
/// Resources after which a batch is committed.
const BATCH_RESOURCES: usize = 8192;

/// Why a record was not folded, or a batch not committed.
#[derive(Debug)]
pub(super) enum FoldError {
    /// The record cannot be applied; all before it are folded.
    Apply(ApplyError),
    /// The index failed. What was gathered is gone: [`Fold::settle`] before going on.
    Index(SearchError),
}

/// An index, and what of the log is gathered for it.
pub(super) struct Fold {
    index: SearchIndex,
    content: ContentStore,
    /// Of all that was folded.
    folded: Checkpoint,
    /// As it is in the index.
    committed: Checkpoint,
    pending: Pending,
    /// Position of the first record that changes something, and when it was folded.
    first: Option<(u64, Instant)>,
}

impl Fold {
    /// Goes on where an index is.
    pub(super) fn of(index: SearchIndex, content: ContentStore) -> Self {
        let committed = index.checkpoint();
        Self {
            index,
            content,
            folded: committed,
            committed,
            pending: Pending::default(),
            first: None,
        }
    }

    /// The index.
    pub(super) fn index(&self) -> &SearchIndex {
        &self.index
    }

    /// How many records are folded.
    pub(super) fn end(&self) -> u64 {
        self.folded.end
    }

    /// How many records are in the index or known to change nothing in it.
    pub(super) fn visible_end(&self) -> u64 {
        self.first.map_or(self.folded.end, |(position, _)| position)
    }

    /// Since when there are changes that are not committed.
    pub(super) fn changed_since(&self) -> Option<Instant> {
        self.first.map(|(_, since)| since)
    }

    /// Records that are folded since the last commit.
    pub(super) fn uncommitted(&self) -> u64 {
        self.folded.end - self.committed.end
    }

    /// Whether the batch is to take no more.
    pub(super) fn is_full(&self) -> bool {
        self.pending.bytes() >= BATCH_BYTES
            || self.pending.held_bytes() >= HELD_BYTES
            || self.pending.resources() >= BATCH_RESOURCES
    }

    /// Bytes of text and vectors that a commit would write.
    pub(super) fn gathered_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// Forgets what was gathered, and goes on from where the index is.
    pub(super) fn settle(&mut self) -> Result<(), SearchError> {
        self.forget();
        self.committed = self.index.settled()?;
        self.folded = self.committed;
        Ok(())
    }

    fn forget(&mut self) {
        self.pending = Pending::default();
        self.first = None;
        self.folded = self.committed;
    }

    /// Commits what was gathered, with the checkpoint; gives how many records that were.
    pub(super) fn commit(&mut self) -> Result<u64, FoldError> {
        let count = self.uncommitted();
        if count == 0 {
            return Ok(0);
        }
        let changes = std::mem::take(&mut self.pending).into_changes();
        self.first = None;
        if let Err(error) = self.index.apply(changes, self.folded) {
            self.forget();
            return Err(FoldError::Index(error));
        }
        self.committed = self.folded;
        Ok(count)
    }

    /// Folds the next record.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), FoldError> {
        let position = record.position().get();
        assert_eq!(position, self.folded.end, "positions are dense");
        let was_unchanged = self.pending.is_empty();
        if let Err(reason) = self.apply(record) {
            return Err(match reason.downcast::<SearchError>() {
                Ok(error) => {
                    self.forget();
                    FoldError::Index(*error)
                }
                Err(reason) => FoldError::Apply(ApplyError {
                    position,
                    event_type: record.event_type().to_owned(),
                    reason,
                }),
            });
        }
        if was_unchanged && !self.pending.is_empty() {
            self.first = Some((position, Instant::now()));
        }
        self.folded = Checkpoint {
            end: position + 1,
            last: Some(*record.digest().as_bytes()),
        };
        Ok(())
    }

    fn apply(&mut self, record: &Record) -> Result<(), Reason> {
        if changes_nothing(record.event_type()) {
            return Ok(());
        }
        let event = event::decode(record.event_type(), record.schema_version(), record.data())?;
        match &event {
            Event::ResourceCreated(created) | Event::ResourceCloned(created) => {
                self.create(created)
            }
            Event::ResourceRevised(revised) => self.revise(resource_of(record)?, revised),
            Event::DocumentUploaded(uploaded) => self.upload(uploaded),
            Event::DocumentStageCompleted(completed) => self.complete(completed),
            Event::ResourceRenamed(renamed) => self.describe(record, |facets| {
                facets.name.clone_from(&renamed.name);
            }),
            Event::ResourceCollectionChanged(changed) => self.describe(record, |facets| {
                facets.collection.clone_from(&changed.collection);
            }),
            Event::ResourceArchived(_) => self.describe(record, |facets| facets.archived = true),
            Event::ResourceUnarchived(_) => self.describe(record, |facets| facets.archived = false),
            Event::EntityTypeAdded(added) => self.describe(record, |facets| {
                facets.entity_types.insert(added.entity_type.clone());
            }),
            Event::EntityTypeRemoved(removed) => self.describe(record, |facets| {
                facets.entity_types.remove(&removed.entity_type);
            }),
            // Neither found nor shown.
            _ => Ok(()),
        }
    }

    fn create(&mut self, created: &ResourceCreated) -> Result<(), Reason> {
        let text = content::text(&self.content, created.digest, &created.media_type)?;
        let facets = Facets {
            name: created.name.clone(),
            collection: created.collection.clone(),
            entity_types: created.entity_types.iter().cloned().collect(),
            archived: false,
            note: Vec::new(),
        };
        let described = Described {
            facets,
            origin: Origin::Content,
        };
        self.pending.put(created.id, described, Text::Whole(text));
        Ok(())
    }

    /// Its text comes by stages; also of a document that is begun anew, unless the resource has
    /// other content meanwhile.
    fn upload(&mut self, uploaded: &DocumentUploaded) -> Result<(), Reason> {
        let mut described = self.described(uploaded.id)?;
        let is_of_file = described.origin.begin(uploaded.digest);
        if !is_of_file {
            return self.describe_as(uploaded.id, described);
        }
        let nothing = Text::Whole(String::new());
        self.pending.put(uploaded.id, described, nothing);
        Ok(())
    }

    /// Its text is that of its content now. A document that has its file, again or still, has what
    /// its stages are done on.
    fn revise(&mut self, resource: ResourceId, revised: &ResourceRevised) -> Result<(), Reason> {
        let mut described = self.described(resource)?;
        let text = match described.origin.revise(revised.digest) {
            Revised::AsBefore => return Ok(()),
            Revised::File => {
                let stages = described.origin.stages(&self.content);
                stages.map_or_else(|| Text::Whole(String::new()), of_stages)
            }
            Revised::Other => {
                let text = content::text(&self.content, revised.digest, &revised.media_type)?;
                Text::Whole(text)
            }
        };
        self.pending.put(resource, described, text);
        Ok(())
    }

    fn describe(
        &mut self,
        record: &Record,
        change: impl FnOnce(&mut Facets),
    ) -> Result<(), Reason> {
        let resource = resource_of(record)?;
        let before = self.described(resource)?;
        let mut described = before.clone();
        change(&mut described.facets);
        if described == before {
            return Ok(());
        }
        self.describe_as(resource, described)
    }

    /// Describes a resource; the passages of a document are read where they came from.
    fn describe_as(&mut self, resource: ResourceId, described: Described) -> Result<(), Reason> {
        let source = described.origin.stages(&self.content);
        let index = &self.index;
        self.pending.describe(resource, described, || {
            if let Some(source) = source {
                return Ok(of_stages(source));
            }
            let passages = index.passages_at_most(resource)?;
            let passages = usize::try_from(passages).unwrap_or(usize::MAX);
            Ok(Text::AsIs(passages.saturating_mul(PASSAGE_BYTES)))
        })
    }

    /// A stage of a document whose resource has other content now is noted alone, for when it has
    /// its file again.
    fn complete(&mut self, completed: &DocumentStageCompleted) -> Result<(), Reason> {
        if !matches!(completed.stage, Stage::Parse | Stage::Chunk | Stage::Embed) {
            return Ok(());
        }
        let resource = completed.document_id;
        let mut described = self.described(resource)?;
        let Origin::Document {
            text,
            chunks,
            vectors,
            has_file,
            ..
        } = &mut described.origin
        else {
            return Ok(());
        };
        let has_file = *has_file;
        match completed.stage {
            Stage::Parse => {
                let parsed = Some(output(completed, "text")?);
                if *text != parsed {
                    (*text, *chunks) = (parsed, None);
                    vectors.clear();
                    self.describe_as(resource, described)?;
                }
                return Ok(());
            }
            Stage::Chunk => {
                let cut = Some(output(completed, "chunks")?);
                // Cut as before, it keeps the vectors that it has.
                if *chunks == cut {
                    return Ok(());
                }
                *chunks = cut;
                vectors.clear();
            }
            _ => {
                chunks.ok_or_else(|| too_early(completed.stage))?;
                let made = output(completed, "vectors")?;
                if !give(&self.content, vectors, made)? {
                    return Ok(());
                }
            }
        }
        let of = text.zip(*chunks);
        let of = of.ok_or_else(|| too_early(completed.stage))?;
        let source = DocumentSource::new(&self.content, of, vectors);
        // In either case: what is noted was read to its end once.
        let bytes = source.read_through()?;
        if !has_file {
            return self.describe_as(resource, described);
        }
        let stages = Text::Stages(source, bytes);
        self.pending.put(resource, described, stages);
        Ok(())
    }

    /// A resource as the records so far leave it.
    fn described(&self, resource: ResourceId) -> Result<Described, Reason> {
        if let Some(described) = self.pending.described(resource) {
            return Ok(described.clone());
        }
        let mut facets = self
            .index
            .facets(resource)?
            .ok_or_else(|| format!("resource {resource} was not created before"))?;
        let note = std::mem::take(&mut facets.note);
        let origin = Origin::of_note(&note);
        let origin = origin.ok_or_else(|| format!("what is noted of {resource} cannot be read"))?;
        Ok(Described { facets, origin })
    }
}

/// The text of stages whose contents were read to their ends before.
fn of_stages(source: DocumentSource) -> Text {
    let bytes = source.bytes();
    Text::Stages(source, bytes)
}

/// Has a document have vectors, in the place of those of the same model; says whether that changes
/// anything.
fn give(
    store: &ContentStore,
    vectors: &mut Vec<ContentDigest>,
    made: ContentDigest,
) -> Result<bool, Reason> {
    let Some(model) = content::model(store, made)? else {
        return Ok(false);
    };
    let before = vectors.clone();
    vectors.clear();
    for kept in &before {
        if content::model(store, *kept)?.as_ref() != Some(&model) {
            vectors.push(*kept);
        }
    }
    vectors.push(made);
    let beyond = vectors.len().saturating_sub(MODELS_PER_PASSAGE_MAX);
    vectors.drain(..beyond);
    Ok(*vectors != before)
}

/// Whether events of a type change nothing of what is found or shown, so that their payloads, of
/// which most of a log may be made, need not be read. Types that nobody knows are not among them.
fn changes_nothing(event_type: &str) -> bool {
    matches!(
        event_type,
        "annotation.added"
            | "annotation.body_changed"
            | "annotation.removed"
            | "resource.access_changed"
            | "resource.language_changed"
            | "resource.metadata_changed"
            | "request.answered"
    )
}

fn resource_of(record: &Record) -> Result<ResourceId, Reason> {
    let resource = ResourceId::from_stream_name(record.stream());
    resource.ok_or_else(|| format!("stream {} is not a resource's", record.stream()).into())
}

fn output(completed: &DocumentStageCompleted, name: &str) -> Result<ContentDigest, Reason> {
    let output = completed.outputs.get(name);
    let output = output.ok_or_else(|| format!("the stage put out no {name}"))?;
    Ok(output.digest)
}

fn too_early(stage: Stage) -> Reason {
    format!("the stage {stage} is done before those that it rests on").into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stemma_domain::event::{REQUESTS_STREAM, RequestAnswered, ResourceArchived};
    use stemma_domain::value::{MediaType, ResourceName};
    use stemma_event_log::{
        Batch, EventType, Log, MemoryStorage, Metadata, NewEvent, Position, ReadLimit, StreamId,
    };
    use stemma_search::Query;

    use super::*;

    fn new_event(stream: &str, event: &Event) -> NewEvent {
        let event = event.encode();
        NewEvent {
            stream: StreamId::new(stream).unwrap(),
            event_type: EventType::new(event.event_type).unwrap(),
            schema_version: event.schema_version,
            data: event.data.into(),
        }
    }

    /// A fold over an empty index, and a log of a resource, of what changes nothing, and of what
    /// changes the resource.
    fn folding(dir: &std::path::Path) -> (Fold, Vec<Record>) {
        let resource = ResourceId::new(uuid::Uuid::from_u128(1));
        let created = Event::ResourceCreated(ResourceCreated {
            access: stemma_domain::resource::Access::default(),
            byte_size: 0,
            collection: None,
            derived_from: None,
            digest: ContentDigest::from_bytes([0; 32]),
            entity_types: Vec::new(),
            id: resource,
            language: None,
            media_type: MediaType::new("image/png").unwrap(),
            metadata: event::Metadata::new(),
            name: ResourceName::new("map").unwrap(),
        });
        let answered = Event::RequestAnswered(RequestAnswered::default());
        let archived = Event::ResourceArchived(ResourceArchived {});
        let log = Log::open(
            Arc::new(MemoryStorage::new()),
            stemma_event_log::Options::default(),
        );
        let log = log.unwrap();
        let batch = Batch {
            events: vec![
                new_event(REQUESTS_STREAM, &answered),
                new_event(&resource.stream_name(), &created),
                new_event(REQUESTS_STREAM, &answered),
                new_event(&resource.stream_name(), &archived),
            ],
            expected: Vec::new(),
            idempotency: None,
            metadata: Metadata::default(),
            proposed_at_us: 0,
            order: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(log.appender.append(batch)).unwrap();
        let limit = ReadLimit {
            records: 10,
            bytes: 1 << 20,
        };
        let records = log.reader.read(Position::new(0), limit).unwrap();
        let options = stemma_content_store::Options::default();
        let (content, _) = ContentStore::open(&dir.join("content"), options).unwrap();
        let options = stemma_search::Options::default();
        let index = SearchIndex::open(&dir.join("search"), &options)
            .unwrap()
            .index;
        (Fold::of(index, content), records)
    }

    #[test]
    fn what_changes_nothing_is_visible_without_a_commit_and_what_follows_a_change_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut fold, records) = folding(dir.path());
        let mut ends = Vec::new();
        for record in &records {
            fold.take(record).unwrap();
            ends.push((fold.visible_end(), fold.index().checkpoint().end));
        }
        assert_eq!(ends, [(1, 0), (1, 0), (1, 0), (1, 0)]);
        assert_eq!(fold.commit().unwrap(), 4);
        assert_eq!((fold.visible_end(), fold.index().checkpoint().end), (4, 4));
    }

    #[test]
    fn what_was_gathered_and_is_forgotten_is_folded_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut fold, records) = folding(dir.path());
        fold.take(&records[0]).unwrap();
        fold.take(&records[1]).unwrap();
        fold.commit().unwrap();
        fold.take(&records[2]).unwrap();
        fold.take(&records[3]).unwrap();
        fold.settle().unwrap();
        assert_eq!((fold.end(), fold.visible_end()), (2, 2));
        let hits = fold.index().search(&Query::words("map")).unwrap().hits;
        assert_eq!(hits.len(), 1);
        fold.take(&records[2]).unwrap();
        fold.take(&records[3]).unwrap();
        fold.commit().unwrap();
        let hits = fold.index().search(&Query::words("map")).unwrap().hits;
        assert_eq!(hits.len(), 0);
    }
}
