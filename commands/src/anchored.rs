//! Holding annotations against the texts of their resources, so that others have their turn.
//!
//! Invariant: what is decided does not depend on where an annotation was held against its text, and
//! of what is refused the same is told.

use std::sync::Arc;

use serde_json::Value;
use stemma_content_store::ReadError;
use stemma_domain::annotation::{SelectorWeight, TextIndex, completed};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::{Command, Descriptor, IriNames, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CommandError;
use crate::plan::Planner;
use crate::request::{Change, Operation, Target};

/// Most steps, of about a nanosecond each, in which annotations are held against their texts before
/// others have their turn on this thread. One annotation of more is held on a thread of its own:
/// with its 1,000 text selectors and a text of 16 MiB it may take 1,000 times three looks through
/// 16 MiB, 50,000,000,000 steps, and several times that where they stand in each other. Meanwhile
/// nothing else is written to its resource, and what was written to it just before is not answered.
const INLINE_STEPS_MAX: u64 = 1 << 20;
/// Most annotations that are held on threads of their own at a time; further ones wait, so that
/// threads are left for what others read. One goes on to its end though its client leaves.
pub(crate) const APART_MAX: usize = 2;

/// The annotations of one request, as far as they were held against their texts.
#[derive(Debug)]
pub(crate) struct Anchored<'s> {
    /// Since others had their turn.
    steps: u64,
    /// A place for each of those that are held apart.
    places: &'s Arc<Semaphore>,
}

impl<'s> Anchored<'s> {
    /// None yet, those that take long within these places.
    pub(crate) fn within(places: &'s Arc<Semaphore>) -> Self {
        Self { steps: 0, places }
    }

    /// Works out an operation that annotates a resource with this text.
    pub(crate) async fn operate(
        &mut self,
        planner: &mut Planner<'_>,
        index: usize,
        operation: &Operation,
        text: &Arc<TextIndex>,
    ) -> Result<(), CommandError> {
        if let Some(added) = Added::by(operation) {
            let steps = SelectorWeight::of(added.annotation).steps(text.text().len() as u64);
            if steps > INLINE_STEPS_MAX {
                let place = Arc::clone(self.places).acquire_owned().await;
                let place = place.expect("it is never closed");
                return added
                    .operate_apart(planner, (index, operation), text, place)
                    .await;
            }
            self.steps += steps;
        }
        planner.operate(index, operation, Some(text))?;
        if self.steps > INLINE_STEPS_MAX {
            self.steps = 0;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// The resource whose text is asked for, for an operation that annotates it; none where whoever asks
/// may not write to it, which is refused without looking at its text.
pub(crate) fn annotated<'p>(
    planner: &'p Planner<'_>,
    operation: &Operation,
) -> Option<&'p Descriptor> {
    let added = Added::by(operation)?;
    let descriptor = &planner.resource(added.resource_id)?.descriptor;
    Some(descriptor).filter(|descriptor| descriptor.is_written_by(planner.sight))
}

/// An annotation that an operation adds.
struct Added<'o> {
    resource_id: ResourceId,
    annotation_id: AnnotationId,
    annotation: &'o Value,
}

impl<'o> Added<'o> {
    fn by(operation: &'o Operation) -> Option<Self> {
        let (Target::Resource(resource_id), Change::Resource(command)) =
            (operation.target, &operation.change)
        else {
            return None;
        };
        match &**command {
            Command::AddAnnotation {
                annotation_id,
                annotation,
            } => Some(Self {
                resource_id,
                annotation_id: *annotation_id,
                annotation,
            }),
            _ => None,
        }
    }

    /// Holds it against its text on a thread of its own, and works the operation out without the
    /// text then.
    async fn operate_apart(
        self,
        planner: &mut Planner<'_>,
        (index, operation): (usize, &Operation),
        text: &Arc<TextIndex>,
        place: OwnedSemaphorePermit,
    ) -> Result<(), CommandError> {
        let (id, bases) = (self.resource_id, planner.names.bases.to_vec());
        let (annotation, text) = (self.annotation.clone(), Arc::clone(text));
        let completed = apart(move || {
            let _place = place;
            let names = IriNames { bases: &bases };
            completed(&annotation, &|iri| names.resolve(iri) == Some(id), &text)
        });
        match completed.await? {
            Ok(None) => planner.operate(index, operation, None),
            Ok(Some(annotation)) => {
                let command = Command::AddAnnotation {
                    annotation_id: self.annotation_id,
                    annotation,
                };
                let completed = Operation {
                    target: operation.target,
                    change: Change::Resource(Box::new(command)),
                    precondition: operation.precondition.clone(),
                    expected_revision: operation.expected_revision,
                    is_id_new: operation.is_id_new,
                };
                planner.operate(index, &completed, None)
            }
            Err(errors) => {
                // What else is refused of it comes first.
                planner.decided(index, operation, id, None)?;
                Err(CommandError::Refused {
                    operation: index,
                    refusal: Refusal::InvalidAnnotation(errors),
                })
            }
        }
    }
}

/// Does what takes long on a thread of its own.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and whoever asked with it.
            Err(_) => Err(ReadError::Io {
                file: String::new(),
                source: Arc::new(std::io::ErrorKind::Interrupted.into()),
            }),
        },
    }
}
