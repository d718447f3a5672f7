//! Every input that fuzzing found worth keeping is read again, and nothing panics (row E2).

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_log_is_read_without_a_panic() {
    replay("log", stemma_event_log::fuzzing::log);
}

#[test]
fn the_corpus_of_proofs_is_read_without_a_panic() {
    replay("proofs", stemma_event_log::fuzzing::proofs);
}
