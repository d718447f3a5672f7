//! Every input that fuzzing found worth keeping is read and run again, and nothing panics (A7).

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_queries_is_run_without_a_panic() {
    replay("queries", stemma_cypher::fuzzing::queries);
}
