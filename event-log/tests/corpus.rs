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

#[test]
fn a_log_whose_files_were_changed_as_in_the_corpus_shows_nothing_that_was_not_written() {
    replay("files", stemma_event_log::fuzzing::files);
}
