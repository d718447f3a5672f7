//! Passages on their way to the engine's own thread: no more of them in memory than a limit of
//! bytes.
//!
//! The engine counts them and takes 10,000, whatever their sizes. Invariant: a passage's place is
//! free again once the engine has taken it in, or has dropped it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tantivy::TantivyDocument;
use tantivy::schema::Document;

/// Bytes of passages that wait for the engine's thread, each as it is laid out for the engine.
pub(crate) const QUEUED_BYTES_MAX: usize = 8 << 20;
/// How long a passage waits for a place; an engine that takes none in has failed, and says so to
/// the next that comes.
const PLACE_WAIT: Duration = Duration::from_secs(20);

/// What is free of the bytes.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// Bytes of the room, until it is dropped.
#[derive(Debug)]
struct Place {
    room: Arc<Room>,
    bytes: usize,
}

/// A passage on its way.
#[derive(Debug)]
pub(crate) struct Queued {
    document: TantivyDocument,
    _place: Place,
}

impl Room {
    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for a passage of so many bytes. One that is larger than the room is let
    /// in alone.
    pub(crate) fn let_in(self: &Arc<Self>, document: TantivyDocument, bytes: usize) -> Queued {
        let is_full = |taken: &mut usize| *taken > 0 && *taken + bytes > QUEUED_BYTES_MAX;
        let waited = self
            .freed
            .wait_timeout_while(self.taken(), PLACE_WAIT, is_full);
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
        drop(taken);
        let room = Arc::clone(self);
        Queued {
            document,
            _place: Place { room, bytes },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.room.taken() -= self.bytes;
        self.room.freed.notify_one();
    }
}

impl Document for Queued {
    type Value<'a> = <TantivyDocument as Document>::Value<'a>;
    type FieldsValuesIter<'a> = <TantivyDocument as Document>::FieldsValuesIter<'a>;

    fn iter_fields_and_values(&self) -> Self::FieldsValuesIter<'_> {
        self.document.iter_fields_and_values()
    }

    fn into_tantivy_document(self) -> TantivyDocument {
        self.document
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_passage_waits_until_those_before_it_leave_room_and_one_beyond_the_room_goes_alone() {
        let room = Arc::<Room>::default();
        let large = room.let_in(TantivyDocument::new(), 2 * QUEUED_BYTES_MAX);
        let is_gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| {
                let queued = room.let_in(TantivyDocument::new(), 1);
                assert!(is_gone.load(Ordering::SeqCst));
                queued
            });
            is_gone.store(true, Ordering::SeqCst);
            // As the engine does.
            drop(large.into_tantivy_document());
            let queued = next.join().unwrap();
            assert_eq!(*room.taken(), 1);
            drop(queued);
        });
        assert_eq!(*room.taken(), 0);
    }
}
