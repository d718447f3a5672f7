//! What the codes mean that jobs and the steps of documents fail with.
//!
//! They stand in a job's `error` and a document's `failures`, not in answers to requests. A test
//! holds the table against the sources that give them.

/// A code, and what it means and what to do.
pub(super) const JOB_ERRORS: [(&str, &str); 41] = [
    (
        "BOMB",
        "The archive inflates to far more than it is. It is not read.",
    ),
    (
        "BROKEN",
        "The file is not what its format asks for, or broke off; the message says where.",
    ),
    ("CANCELLED", "It was stopped before it was done."),
    (
        "COMPLETER_MISSING",
        "No model is configured that writes: set `complete.url` and `complete.model`.",
    ),
    (
        "CONTENT_DAMAGED",
        "The stored bytes are not what was written. Run `stemma verify`.",
    ),
    (
        "CONTENT_UNREADABLE",
        "The file could not be read from the store. It is tried again.",
    ),
    ("DOCUMENT_NOT_FOUND", "There is no such document."),
    ("EMPTY", "The file has no bytes, or white space only."),
    (
        "ENCRYPTED",
        "The PDF is locked by a password. Take that off and send it again.",
    ),
    (
        "INPUT_CHANGED",
        "The document was cut anew while the step was done. It is done again.",
    ),
    (
        "INTERNAL",
        "A mistake of ours; the log of the server tells more under the trace id.",
    ),
    (
        "INVALID_OUTPUT",
        "What a worker handed in does not fit the document.",
    ),
    ("INVALID_PAYLOAD", "The job does not say what it is to do."),
    (
        "MODEL_BUSY",
        "The model's server takes no more for now. It is tried again when that says.",
    ),
    ("MODEL_CANCELLED", "The question to the model was stopped."),
    (
        "MODEL_DAMAGED",
        "The model that is built in cannot be read; the binary is not what was built.",
    ),
    (
        "MODEL_DIMENSION",
        "The model's vectors have another length than `embed.dimension` says.",
    ),
    (
        "MODEL_FAILED",
        "The model's server failed. It is tried again.",
    ),
    (
        "MODEL_GARBAGE",
        "The model's server answered what is no answer of this interface.",
    ),
    (
        "MODEL_INPUT_TOO_LARGE",
        "The text is longer than the model takes: cut it into smaller chunks.",
    ),
    (
        "MODEL_MISSING",
        "The model's server does not know the model that is configured.",
    ),
    (
        "MODEL_REFUSED",
        "The model's server refused; a key that is missing or wrong is the usual reason.",
    ),
    (
        "MODEL_TIMEOUT",
        "The model's server did not answer in time. It is tried again.",
    ),
    (
        "MODEL_UNREACHABLE",
        "The model's server cannot be reached. It is tried again.",
    ),
    (
        "NOT_INDEXED",
        "The search index stands still and does not take the document in. It is tried again.",
    ),
    (
        "NO_TEXT",
        "There is no text in it, as in a PDF of scanned pages; a parsing service may read those.",
    ),
    (
        "PARSER_CRASHED",
        "The parser ended by itself, or a parsing service's answer is not as described.",
    ),
    (
        "PARSER_KILLED",
        "The parser's process was killed from outside. It is tried again.",
    ),
    (
        "PARSER_MEMORY",
        "The file takes more memory than `documents.parser_memory_bytes_max`.",
    ),
    (
        "PARSER_TIMEOUT",
        "Reading the file takes longer than `documents.parser_timeout_ms`.",
    ),
    (
        "PARSER_UNAVAILABLE",
        "No parser can be had: its process does not start, or the parsing service fails. It is tried again.",
    ),
    (
        "SERVICE_REFUSED",
        "The parsing service says that it cannot read the file.",
    ),
    (
        "STAGE_MISSING",
        "A step that this one rests on is not done.",
    ),
    (
        "STORAGE_UNAVAILABLE",
        "The system failed to read or write. It is tried again.",
    ),
    (
        "TEXT_TOO_LARGE",
        "The text that the file holds is longer than is taken (256 MiB).",
    ),
    (
        "TOO_LARGE",
        "The file is larger than `documents.bytes_max`.",
    ),
    (
        "TOO_MANY_CHUNKS",
        "There would be more than 500,000 chunks: cut it into larger ones.",
    ),
    (
        "TOO_MANY_PAGES",
        "The file has more pages than `documents.pages_max`.",
    ),
    (
        "TYPE_MISMATCH",
        "The file is not what its name or its media type says.",
    ),
    (
        "UNSUPPORTED_TYPE",
        "Files of this kind are not read: PDF, DOCX, HTML, Markdown and plain text are.",
    ),
    (
        "WORKER_LOST",
        "The worker was not heard of until its lease ran out. The job goes to another.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_the_sources_give_has_its_line() {
        let sources = [
            include_str!("../../../pipeline/src/error.rs"),
            include_str!("../../../inference/src/error.rs"),
        ];
        let given = sources
            .iter()
            .flat_map(|source| source.split("=> \"").skip(1));
        let given = given.filter_map(|rest| rest.split('"').next());
        let is_code = |text: &&str| text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let codes: Vec<&str> = given.filter(is_code).collect();
        assert!(codes.len() > 25, "{codes:?}");
        let is_told = |code: &str| JOB_ERRORS.iter().any(|(told, _)| *told == code);
        for code in codes {
            assert!(is_told(code), "{code} is not told of");
        }
    }
}
