//! Every input that fuzzing found worth keeping is read again, and nothing panics (row A12).

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_requests_is_read_without_a_panic() {
    replay("requests", stemma_api::fuzzing::requests);
}
