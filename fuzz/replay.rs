//! Replays a target's corpus; included by the test of the crate that the target is about.

/// Runs every input of the corpus, and every prefix of the shorter ones, through a target.
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is in the repository") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        run(&bytes);
        if bytes.len() <= 256 {
            (0..bytes.len()).for_each(|length| run(&bytes[..length]));
        }
        inputs += 1;
    }
    assert!(inputs > 5, "the corpus of {target} is empty");
}
