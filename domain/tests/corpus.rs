//! Every input that fuzzing found worth keeping is read again, and nothing panics (row A1).

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_events_is_read_without_a_panic() {
    replay("events", stemma_domain::fuzzing::events);
}

#[test]
fn the_corpus_of_annotations_is_read_without_a_panic() {
    replay("annotations", stemma_domain::fuzzing::annotations);
}
