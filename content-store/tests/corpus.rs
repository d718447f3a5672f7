//! Every input that fuzzing found worth keeping is read again, and nothing panics (row E2).

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_content_is_read_without_a_panic() {
    replay("content", stemma_content_store::fuzzing::content);
}
