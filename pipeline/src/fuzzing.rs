//! What a fuzzer, and the test that replays its corpus, may ask of the readers of documents.
//!
//! Each function panics when a reader does, or when what it read is not what it promises.

use stemma_domain::id::ContentDigest;

use crate::Limits;
use crate::chunk::{Chunk, Chunking, Strategy, chunk};
use crate::parse::{Parsed, validate_and_parse};
use crate::validate::{Declared, Format};

/// The names that a file may be sent under, which the first byte picks.
const NAMES: [&str; 6] = ["a", "a.pdf", "a.docx", "a.html", "a.md", "a.txt"];

/// Documents: the first byte says under which name they are sent and how they are cut, the second
/// how large chunks are.
pub fn documents(data: &[u8]) {
    let [how, size, bytes @ ..] = data else {
        return;
    };
    let declared = Declared {
        file_name: NAMES[usize::from(*how) % NAMES.len()],
        media_type: None,
    };
    let limits = Limits {
        bytes_max: 1 << 20,
        pages_max: 50,
        text_bytes_max: 4 << 20,
        archive_bytes_max: 4 << 20,
        ..Limits::default()
    };
    let Ok((validated, parsed)) = validate_and_parse(bytes.to_vec(), &declared, &limits) else {
        return;
    };
    assert!(parsed.check(), "spans are inside the text and ordered");
    let is_exact = matches!(validated.format, Format::Markdown | Format::PlainText)
        && validated.encoding.as_deref() == Some("UTF-8")
        && !validated.byte_order_mark
        && parsed.warnings.is_empty();
    if is_exact {
        assert_eq!(parsed.text.as_bytes(), bytes, "the text is the file");
    }
    let strategies = [Strategy::Sentence, Strategy::Markdown, Strategy::Size];
    let strategy = strategies[usize::from(*how) / NAMES.len() % strategies.len()];
    let size = u32::from(*size).max(1);
    let settings = Chunking::new(strategy, Some(size), None).expect("they are in range");
    chunks(&parsed, &settings);
}

/// Cuts what was parsed and checks what is promised of chunks.
pub fn chunks(parsed: &Parsed, settings: &Chunking) -> Vec<Chunk> {
    let digest = ContentDigest::from_bytes([7; 32]);
    let cut = |parsed: &Parsed| chunk(&digest, &parsed.text, &parsed.structure, settings);
    let Ok(chunks) = cut(parsed) else {
        return Vec::new();
    };
    assert_eq!(
        cut(parsed).as_ref(),
        Ok(&chunks),
        "cutting is deterministic"
    );
    let text = parsed.text.as_str();
    let mut covered = 0;
    let mut counted = (0_usize, 0_u64);
    let mut before: Option<&Chunk> = None;
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.index as usize, index);
        let at = |byte: u64| usize::try_from(byte).expect("it is inside a text in memory");
        let (from, to) = (at(chunk.byte_start), at(chunk.byte_end));
        let own = &text[from..to];
        assert_eq!(own.chars().count() as u64, chunk.end - chunk.start);
        assert!(chunk.start < chunk.end && chunk.end - chunk.start <= u64::from(settings.size()));
        let skipped = text[counted.0..from].chars().count() as u64;
        counted = (from, counted.1 + skipped);
        assert_eq!(counted.1, chunk.start, "both units name one place");
        if from > covered {
            let gap = &text[covered..from];
            assert!(gap.trim().is_empty(), "{gap:?} is in no chunk");
        }
        if let Some(before) = before {
            assert!(chunk.start > before.start && chunk.end > before.end);
            let overlap = before.end.saturating_sub(chunk.start);
            assert!(overlap <= u64::from(settings.overlap()));
            assert_ne!(before.id, chunk.id);
        }
        covered = to;
        before = Some(chunk);
    }
    assert!(text[covered..].trim().is_empty(), "the end is in no chunk");
    chunks
}
