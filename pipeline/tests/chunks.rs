//! Chunks keep what they promise, whatever the text.
#![allow(clippy::unwrap_used, reason = "tests stop at what should not be")]

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use stemma_domain::id::ContentDigest;
use stemma_pipeline::chunk::{Chunk, Chunking, Strategy, chunk};
use stemma_pipeline::parse::{Heading, Parsed, Structure, parse};
use stemma_pipeline::validate::{Declared, validate};
use stemma_pipeline::{Limits, fuzzing};
use unicode_segmentation::UnicodeSegmentation;

const STRATEGIES: [Strategy; 3] = [Strategy::Sentence, Strategy::Markdown, Strategy::Size];

fn settings(strategy: Strategy, size: u32, overlap: u32) -> Chunking {
    Chunking::new(strategy, Some(size), Some(overlap)).unwrap()
}

fn plain(text: &str) -> Parsed {
    Parsed {
        text: text.to_owned(),
        ..Parsed::default()
    }
}

fn markdown(text: &str) -> Parsed {
    let declared = Declared {
        file_name: "a.md",
        media_type: None,
    };
    let limits = Limits::default();
    let validated = validate(text.as_bytes(), &declared, &limits).unwrap();
    parse(text.as_bytes().to_vec(), &validated, &limits).unwrap()
}

fn texts<'a>(parsed: &'a Parsed, chunks: &[Chunk]) -> Vec<&'a str> {
    let at = |byte: u64| usize::try_from(byte).unwrap();
    let spans = chunks.iter();
    spans
        .map(|chunk| &parsed.text[at(chunk.byte_start)..at(chunk.byte_end)])
        .collect()
}

fn cut<'a>(parsed: &'a Parsed, settings: &Chunking) -> Vec<&'a str> {
    texts(parsed, &fuzzing::chunks(parsed, settings))
}

#[test]
fn sentences_are_packed_and_overlap_by_whole_ones() {
    let parsed = plain("One is a. Two is b. Three is c. Four is d.");
    assert_eq!(
        cut(&parsed, &settings(Strategy::Sentence, 22, 10)),
        ["One is a. Two is b.", "Two is b. Three is c.", "Four is d."]
    );
}

#[test]
fn a_sentence_that_is_too_long_is_cut_between_words() {
    let parsed = plain("alpha beta gamma delta Donaudampfschifffahrt x");
    assert_eq!(
        cut(&parsed, &settings(Strategy::Sentence, 12, 0)),
        ["alpha beta", "gamma delta", "Donaudampfsc", "hifffahrt x"]
    );
}

#[test]
fn windows_overlap_to_the_code_point() {
    let parsed = plain("0123456789");
    assert_eq!(
        cut(&parsed, &settings(Strategy::Size, 4, 1)),
        ["0123", "3456", "6789"]
    );
}

#[test]
fn a_family_is_not_torn_apart_unless_it_does_not_fit() {
    let family = "👩‍👩‍👧‍👦";
    let parsed = plain(&format!("ab{family}cd"));
    assert_eq!(
        cut(&parsed, &settings(Strategy::Size, 8, 0)),
        ["ab", &format!("{family}c"), "d"]
    );
    let whole: String = cut(&parsed, &settings(Strategy::Size, 3, 0)).concat();
    assert_eq!(whole, parsed.text);
}

#[test]
fn sections_stay_together_and_know_their_headings() {
    let parsed = markdown("intro\n\n# A\n\ntext a\n\n## B\n\ntext b\n\n# C\n\ntext c\n");
    let chunks = fuzzing::chunks(&parsed, &settings(Strategy::Markdown, 22, 0));
    assert_eq!(
        texts(&parsed, &chunks),
        ["intro\n\n# A\n\ntext a", "## B\n\ntext b", "# C\n\ntext c"]
    );
    let headings: Vec<Vec<String>> = chunks.into_iter().map(|chunk| chunk.headings).collect();
    assert_eq!(
        headings,
        [
            vec![],
            vec!["A".to_owned(), "B".to_owned()],
            vec!["C".to_owned()]
        ]
    );
}

#[test]
fn code_stays_whole_when_it_fits_and_breaks_between_lines_when_not() {
    let code = "```rust\nlet a = 1. x;\n\nlet b = 2;\n```";
    let parsed = markdown(&format!(
        "# T\n\n{}\n\n{code}\n\nAfter.",
        "Words here. ".repeat(4)
    ));
    let chunks = fuzzing::chunks(&parsed, &settings(Strategy::Markdown, 45, 0));
    let texts = texts(&parsed, &chunks);
    assert!(texts.iter().any(|text| text.contains(code)), "{texts:?}");
    for piece in cut(&parsed, &settings(Strategy::Markdown, 20, 0)) {
        assert!(piece.matches("let").count() <= 1);
    }
}

#[test]
fn a_chunk_knows_the_page_that_it_begins_on() {
    let mut parsed = plain("First page. Second page.");
    let page = |number, start, end| stemma_pipeline::parse::PageSpan { number, start, end };
    parsed.structure.pages = vec![page(1, 0, 11), page(2, 12, 24)];
    let chunks = fuzzing::chunks(&parsed, &settings(Strategy::Sentence, 12, 0));
    let pages: Vec<_> = chunks.iter().map(|chunk| chunk.page).collect();
    assert_eq!(pages, [Some(1), Some(2)]);
}

#[test]
fn the_id_of_a_chunk_is_the_one_that_the_format_describes() {
    let parsed = plain("abc");
    let chunks = fuzzing::chunks(&parsed, &settings(Strategy::Size, 1_000, 100));
    let mut described = b"stemma chunk 1\n".to_vec();
    described.extend([7; 32]);
    described.push(3);
    described.extend(1_000_u32.to_le_bytes());
    described.extend(100_u32.to_le_bytes());
    described.extend(0_u64.to_le_bytes());
    described.extend(3_u64.to_le_bytes());
    let expected = blake3::hash(&described).to_hex().to_string();
    assert_eq!(chunks[0].id, expected);
    assert_eq!(
        expected,
        "0fcd2eef34ee6679826994104e5d296d3ef4a42c01d6cf06f42abf588124bcfe"
    );
}

#[test]
fn too_many_chunks_are_refused() {
    let text = "x".repeat(stemma_pipeline::chunk::CHUNKS_MAX + 1);
    let digest = ContentDigest::from_bytes([0; 32]);
    let settings = settings(Strategy::Size, 1, 0);
    assert!(chunk(&digest, &text, &Structure::default(), &settings).is_err());
}

/// Text of what is hard: clusters of many code points, right to left, marks without a base, all
/// kinds of white space and line ends, full stops everywhere.
fn nasty_text() -> impl proptest::strategy::Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("👩‍👩‍👧‍👦"),
        Just("🇩🇪🇫🇷🇮"),
        Just("e\u{301}\u{327}"),
        Just("\u{301}"),
        Just("क्षि"),
        Just("한국어"),
        Just("각"),
        Just("مرحبا"),
        Just("\u{202e}"),
        Just("\r\n"),
        Just("\r"),
        Just("\n"),
        Just("\n\n"),
        Just(" "),
        Just("\t"),
        Just("\u{a0}"),
        Just("\u{2029}"),
        Just("。"),
        Just("."),
        Just(". "),
        Just("! "),
        Just("Dr. "),
        Just("e.g. "),
        Just("1. "),
        Just("# "),
        Just("```\n"),
        Just("~~~"),
        Just("- "),
        Just("|a|b|\n"),
        Just("word"),
        Just("Wort "),
        Just("\u{600}"),
        Just("\u{200d}"),
        Just("😀"),
        Just("\u{10ffff}"),
        Just("\u{0}"),
        Just("ຂໍ້ຄວາມ"),
        Just("မြန်မာ"),
        Just("\u{1f3fd}"),
        Just("A"),
        Just("a'"),
    ];
    proptest::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

fn is_cluster_boundary(text: &str, byte: u64) -> bool {
    let byte = usize::try_from(byte).unwrap();
    byte == text.len() || text.grapheme_indices(true).any(|(at, _)| at == byte)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn chunks_cover_the_text_within_their_limits(
        text in nasty_text(),
        size in 1_u32..40,
        overlap in 0_u32..40,
        strategy in 0_usize..3,
        marks in proptest::collection::vec((1_u8..=6, 0_u64..80, 0_u64..20), 0..6),
    ) {
        let mut parsed = plain(&text);
        let count = text.chars().count() as u64;
        let mut headings: Vec<Heading> = marks
            .into_iter()
            .map(|(level, start, length)| Heading {
                level,
                start: start.min(count),
                end: (start + length).min(count),
            })
            .collect();
        headings.sort_by_key(|heading| heading.start);
        parsed.structure.headings = headings;
        let settings = settings(STRATEGIES[strategy], size, overlap % size);
        let chunks = fuzzing::chunks(&parsed, &settings);
        let longest = text.graphemes(true).map(|cluster| cluster.chars().count()).max();
        if longest.is_some_and(|longest| longest <= size as usize) {
            for chunk in &chunks {
                // White space that is left out may be part of a cluster; nothing that is seen is.
                let ends = [chunk.byte_start, chunk.byte_end];
                let torn = ends.iter().any(|end| !is_cluster_boundary(&text, *end));
                prop_assert!(!torn || trims_inside(&text, chunk), "{chunk:?} tears a cluster");
            }
        }
    }
}

/// Whether a chunk ends inside of a cluster only because white space of it was left out.
fn trims_inside(text: &str, chunk: &Chunk) -> bool {
    let at = |byte: u64| usize::try_from(byte).unwrap();
    let before = text[..at(chunk.byte_start)].ends_with(char::is_whitespace);
    let after = text[at(chunk.byte_end)..].starts_with(char::is_whitespace);
    before || after
}

#[test]
fn hostile_texts_are_cut_in_one_pass() {
    let mut table = String::new();
    for row in 0..20_000 {
        writeln!(table, "| {row} | x |").unwrap();
    }
    let texts = [
        "🇩".repeat(100_000),
        ". ".repeat(200_000),
        format!("e{}", "\u{301}".repeat(200_000)),
        "x".repeat(60_000),
        "1. 1 ".repeat(80_000),
        "\u{200d}😀".repeat(60_000),
        "က္".repeat(60_000),
        "```\n".repeat(100_000),
        "\n".repeat(60_000),
        table,
    ];
    for text in texts {
        for strategy in STRATEGIES {
            let parsed = plain(&text);
            fuzzing::chunks(&parsed, &settings(strategy, 1_000, 100));
        }
    }
}
