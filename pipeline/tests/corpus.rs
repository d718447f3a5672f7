//! Every input that fuzzing found worth keeping is read again, and nothing panics (row A1).

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_documents_is_read_without_a_panic() {
    replay("documents", stemma_pipeline::fuzzing::documents);
}
