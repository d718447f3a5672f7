//! The parser's process: it answers, and whatever becomes of it becomes an error of its own.
#![allow(clippy::unwrap_used, reason = "tests stop at what should not be")]

mod written;

use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stemma_pipeline::child::ParserProcess;
use stemma_pipeline::validate::{Declared, Format};
use stemma_pipeline::{Clock, DocumentError, Limits};
use written::{docx, paragraph, pdf};

/// The example that is the parser's process and nothing else; cargo builds it with the tests.
fn parser() -> ParserProcess {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(|deps| deps.parent()).unwrap();
    let program = target.join("examples/parse_document");
    assert!(
        program.exists(),
        "`cargo build --example parse_document` makes it"
    );
    ParserProcess {
        program,
        arguments: Vec::new(),
    }
}

fn shell(script: &str) -> ParserProcess {
    ParserProcess {
        program: PathBuf::from("/bin/sh"),
        arguments: vec!["-c".to_owned(), script.to_owned()],
    }
}

fn named(file_name: &str) -> Declared<'_> {
    Declared {
        file_name,
        media_type: None,
    }
}

fn run(
    process: &ParserProcess,
    content: &[u8],
    name: &str,
    limits: &Limits,
) -> Result<String, DocumentError> {
    let cancelled = AtomicBool::new(false);
    let result = process.run(content, &named(name), limits, &cancelled);
    result.map(|(_, parsed)| parsed.text)
}

#[test]
fn documents_come_back_as_they_were_read() {
    let limits = Limits::default();
    let file = pdf(&["Page one.", "Page two."], "");
    let cancelled = AtomicBool::new(false);
    let read = parser().run(file.as_slice(), &named("a.pdf"), &limits, &cancelled);
    let (validated, parsed) = read.unwrap();
    assert_eq!(
        (validated.format, validated.page_count),
        (Format::Pdf, Some(2))
    );
    assert_eq!(parsed.text, "Page one.\n\nPage two.");
    let text = "Grüße 世界. ".repeat(100_000);
    assert_eq!(
        run(&parser(), text.as_bytes(), "a.txt", &limits).unwrap(),
        text
    );
    let file = docx(&paragraph("", "Word."));
    assert_eq!(
        run(&parser(), &file, "a.docx", &limits).unwrap(),
        "Word.\n\nA note."
    );
    let validated = parser().validate(file.as_slice(), &named("a.docx"), &limits, &cancelled);
    assert_eq!(validated.unwrap().format, Format::Docx);
}

#[test]
fn what_is_wrong_with_a_document_comes_back_too() {
    let limits = Limits {
        bytes_max: 100_000,
        ..Limits::default()
    };
    let too_large = vec![b'a'; 3_000_000];
    let error = run(&parser(), &too_large, "a.txt", &limits).unwrap_err();
    assert_eq!(error, DocumentError::TooLarge { bytes_max: 100_000 });
    let error = run(&parser(), b"", "a.txt", &limits).unwrap_err();
    assert_eq!(error, DocumentError::Empty);
    let error = run(&parser(), b"words", "a.pdf", &limits).unwrap_err();
    assert_eq!(error.code(), "TYPE_MISMATCH");
}

#[test]
fn a_parser_that_wants_too_much_memory_says_so() {
    let limits = Limits {
        parser_memory_bytes_max: 256 << 20,
        ..Limits::default()
    };
    // Of every sign that may open an emphasis a reader of Markdown makes a note.
    let markdown = "*a _b ".repeat(3_000_000);
    let error = run(&parser(), markdown.as_bytes(), "a.md", &limits).unwrap_err();
    let expected = DocumentError::ParserMemory {
        bytes_max: 256 << 20,
    };
    assert_eq!(error, expected);
    let small = run(&parser(), b"*a _b", "a.md", &limits);
    assert_eq!(small.unwrap(), "*a _b");
}

#[test]
fn a_process_that_never_ends_runs_out_of_time() {
    let limits = Limits {
        parser_timeout_ms: 300,
        ..Limits::default()
    };
    let error = run(&shell("while :; do :; done"), b"x", "a.txt", &limits).unwrap_err();
    let expected = DocumentError::ParserTimeout {
        clock: Clock::Wall,
        limit_ms: 300,
    };
    assert_eq!(error, expected);
    assert!(error.transient());
}

#[test]
fn a_process_that_uses_up_its_processor_time_is_told_from_a_slow_one() {
    let error = run(&shell("kill -s XCPU $$"), b"x", "a.txt", &Limits::default()).unwrap_err();
    assert!(
        matches!(
            error,
            DocumentError::ParserTimeout {
                clock: Clock::Processor,
                ..
            }
        ),
        "{error}"
    );
    assert!(!error.transient());
}

#[test]
fn every_way_to_die_has_its_error() {
    let limits = Limits::default();
    let of =
        |script: &str| run(&shell(script), &vec![b'x'; 500_000], "a.txt", &limits).unwrap_err();
    let cases = [
        ("kill -s KILL $$", "PARSER_KILLED"),
        ("kill -s TERM $$", "PARSER_KILLED"),
        ("kill -s INT $$", "PARSER_KILLED"),
        ("kill -s HUP $$", "PARSER_KILLED"),
        ("kill -s ABRT $$", "PARSER_CRASHED"),
        ("kill -s SEGV $$", "PARSER_CRASHED"),
        (
            "echo 'memory allocation of 7 bytes failed' >&2; kill -s ABRT $$",
            "PARSER_MEMORY",
        ),
        (
            "echo 'thread has overflowed its stack' >&2; kill -s ABRT $$",
            "PARSER_CRASHED",
        ),
        (
            "cat >/dev/null; echo this is no answer at all",
            "PARSER_CRASHED",
        ),
        ("printf 'STA1\\377\\377\\377\\377'", "PARSER_CRASHED"),
        ("printf 'STA1\\100\\0\\0\\0{'", "PARSER_UNAVAILABLE"),
        ("exit 2", "PARSER_UNAVAILABLE"),
        ("while :; do echo noise >&2; done", "PARSER_TIMEOUT"),
    ];
    for (script, code) in cases {
        let error = if code == "PARSER_TIMEOUT" {
            let limits = Limits {
                parser_timeout_ms: 200,
                ..Limits::default()
            };
            run(&shell(script), b"x", "a.txt", &limits).unwrap_err()
        } else {
            of(script)
        };
        assert_eq!(error.code(), code, "{script}: {error}");
    }
    let missing = ParserProcess {
        program: PathBuf::from("/nowhere/parser"),
        arguments: Vec::new(),
    };
    let error = run(&missing, b"x", "a.txt", &limits).unwrap_err();
    assert_eq!(error.code(), "PARSER_UNAVAILABLE");
    assert!(error.transient());
}

#[test]
fn a_process_is_stopped_when_the_caller_has_had_enough() {
    let cancelled = AtomicBool::new(false);
    let started = Instant::now();
    let result = std::thread::scope(|scope| {
        let process = shell("cat >/dev/null; exec tail -f /dev/null");
        let running = scope.spawn({
            let cancelled = &cancelled;
            move || process.run(&b"x"[..], &named("a.txt"), &Limits::default(), cancelled)
        });
        cancelled.store(true, Ordering::Relaxed);
        running.join().unwrap()
    });
    assert_eq!(result.unwrap_err(), DocumentError::Cancelled);
    assert!(started.elapsed() < Duration::from_mins(1));
}

#[test]
fn content_that_cannot_be_read_is_told_from_a_broken_file() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let cancelled = AtomicBool::new(false);
    let content = Cursor::new(b"some ").chain(Failing);
    let result = parser().run(content, &named("a.txt"), &Limits::default(), &cancelled);
    let error = result.unwrap_err();
    assert_eq!(error.code(), "CONTENT_UNREADABLE");
    assert!(error.transient());
}

/// The reader of PDFs walks such a tree by itself before ours does, and calls itself for each
/// element; its stack ends with its process.
#[test]
fn a_structure_tree_nested_a_hundred_thousand_deep_costs_no_more_than_its_document() {
    let mut objects: Vec<String> = vec![
        "<< /Type /Catalog /Pages 2 0 R /StructTreeRoot 6 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R >>".to_owned(),
        "<< >>".to_owned(),
        "<< /Length 0 >>\nstream\n\nendstream".to_owned(),
    ];
    objects.extend((0..100_000).map(|index| format!("<< /S /Sect /K {} 0 R >>", index + 7)));
    let file = written::pdf_of(&objects, "");
    let error = run(&parser(), &file, "a.pdf", &Limits::default()).unwrap_err();
    assert!(
        matches!(error.code(), "PARSER_CRASHED" | "NO_TEXT" | "BROKEN"),
        "{error}"
    );
    let file = pdf(&["Still here."], "");
    let text = run(&parser(), &file, "a.pdf", &Limits::default());
    assert_eq!(text.unwrap(), "Still here.");
}
