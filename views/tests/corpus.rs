//! Every input that fuzzing found worth keeping is read again, and nothing panics (row A3).

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_rows_is_read_without_a_panic() {
    replay("rows", stemma_views::fuzzing::rows);
}
