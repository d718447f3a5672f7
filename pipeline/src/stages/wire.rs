//! What a worker outside hands in, read and checked.
//!
//! `docs/workers.md` documents the form. Invariants: what came from outside is checked against the
//! document before anything of it is recorded, and is held to the limits that our own stages keep;
//! a list that is longer than its limit is refused while it is read, not after.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use stemma_domain::document::{CHUNK_SIZE_MAX, Chunk, EntityMention, Stage, VectorsHeader};
use stemma_inference::DIMENSION_MAX;

use crate::chunk::{CHUNKS_MAX, HEADING_CODE_POINTS_MAX};
use crate::limits::Limits;
use crate::parse::{Heading, PageSpan, Parsed, Structure, Table};
use crate::stages::commit::{CommitError, of_file};
use crate::stages::output::{OutputError, StageOutput};
use crate::validate::{Format, Validated};

/// Most bytes of the name of a model or a detector.
const NAME_BYTES_MAX: usize = 256;
/// Most warnings of a stage.
pub const WARNINGS_MAX: usize = 256;
/// Most bytes of a warning.
pub const WARNING_BYTES_MAX: usize = 1024;
/// Most headings of a chunk: one of each level.
const CHUNK_HEADINGS_MAX: usize = 6;
/// Most headings, pages or tables that are read, whatever [`Limits`] say.
const SPANS_MAX: usize = 1_000_000;
/// Most entities that are read.
const ENTITIES_MAX: usize = 100_000;
/// Most bytes of what is told of a mistake; the rest is the sender's own text.
const PROBLEM_BYTES_MAX: usize = 512;

/// A list of at most `N`.
struct AtMost<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for AtMost<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListOf(PhantomData))
    }
}

struct ListOf<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for ListOf<T, N> {
    type Value = AtMost<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            if items.len() == N {
                return Err(A::Error::custom(format_args!("a list has more than {N}")));
            }
            items.push(item);
        }
        Ok(AtMost(items))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireValidated {
    format: Format,
    media_type: String,
    #[serde(default)]
    encoding: Option<String>,
    byte_order_mark: bool,
    #[serde(default)]
    page_count: Option<u32>,
    warnings: AtMost<String, WARNINGS_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHeading {
    level: u8,
    start: u64,
    end: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePage {
    number: u32,
    start: u64,
    end: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTable {
    start: u64,
    end: u64,
    rows: u32,
    columns: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireParsed {
    text: String,
    #[serde(default)]
    title: Option<String>,
    headings: AtMost<WireHeading, SPANS_MAX>,
    pages: AtMost<WirePage, SPANS_MAX>,
    tables: AtMost<WireTable, SPANS_MAX>,
    warnings: AtMost<String, WARNINGS_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireChunk {
    start: u64,
    end: u64,
    #[serde(default)]
    headings: AtMost<String, CHUNK_HEADINGS_MAX>,
    #[serde(default)]
    page: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireChunks {
    chunks: AtMost<WireChunk, CHUNKS_MAX>,
}

/// One vector as a list.
type Numbers = AtMost<f32, { DIMENSION_MAX as usize }>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireVectors<'a> {
    model: String,
    dimension: u32,
    #[serde(default)]
    vectors: Option<AtMost<Numbers, CHUNKS_MAX>>,
    #[serde(borrow, default)]
    vectors_base64: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEntity {
    text: String,
    #[serde(rename = "type")]
    entity_type: String,
    start: u64,
    end: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEntities {
    detector: String,
    #[serde(default = "first_version")]
    version: u32,
    entities: AtMost<WireEntity, ENTITIES_MAX>,
    #[serde(default)]
    dropped: u64,
}

fn first_version() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIndexed {}

impl StageOutput {
    /// Reads what a worker outside hands in, JSON; `text` is the document's, for chunks.
    ///
    /// Blocks for as long as a large output takes to be read and, for vectors, to be written to a
    /// file.
    ///
    /// # Errors
    /// [`CommitError::Output`] says what is wrong with it, [`CommitError::Put`] that the file could
    /// not be written.
    pub fn of_json(
        stage: Stage,
        json: &str,
        text: &str,
        limits: &Limits,
    ) -> Result<Self, CommitError> {
        let wrong = |problem| OutputError { stage, problem };
        let read = match stage {
            Stage::Validate => read(json).and_then(|wire| validated(wire, limits)),
            Stage::Parse => read(json).and_then(|wire| parsed(wire, limits)),
            Stage::Chunk => {
                let placed = |wire: WireChunks| placed(wire.chunks.0, text);
                read(json).and_then(placed).map(Self::Chunks)
            }
            Stage::Embed => {
                let (header, numbers) = read(json).and_then(vectors).map_err(wrong)?;
                return in_file(header, &numbers, tempfile::tempfile);
            }
            Stage::Detect => read(json).and_then(entities),
            // A list is read as a struct without fields, too.
            Stage::Index if json.starts_with('{') => read(json).map(|WireIndexed {}| Self::Indexed),
            Stage::Index => Err("expected an empty object".to_owned()),
        };
        Ok(read.map_err(wrong)?)
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    // The derived readers take a list for a struct.
    if !json.starts_with('{') {
        return Err("expected an object".to_owned());
    }
    serde_json::from_str(json).map_err(|error| {
        let mut told = error.to_string();
        told.truncate(told.floor_char_boundary(PROBLEM_BYTES_MAX));
        told
    })
}

fn warnings(warnings: AtMost<String, WARNINGS_MAX>) -> Result<Vec<String>, String> {
    let is_long = |warning: &String| warning.len() > WARNING_BYTES_MAX;
    if warnings.0.iter().any(is_long) {
        return Err(format!("a warning has at most {WARNING_BYTES_MAX} bytes"));
    }
    Ok(warnings.0)
}

fn validated(wire: WireValidated, limits: &Limits) -> Result<StageOutput, String> {
    if wire
        .page_count
        .is_some_and(|pages| pages > limits.pages_max)
    {
        return Err(too_many("pages", limits.pages_max));
    }
    check_name("media_type", &wire.media_type)?;
    if let Some(encoding) = &wire.encoding {
        check_name("encoding", encoding)?;
    }
    Ok(StageOutput::Validated(Validated {
        format: wire.format,
        media_type: wire.media_type,
        encoding: wire.encoding,
        byte_order_mark: wire.byte_order_mark,
        page_count: wire.page_count,
        warnings: warnings(wire.warnings)?,
    }))
}

fn too_many(what: &str, most: u32) -> String {
    format!("a document has at most {most} {what}")
}

fn parsed(wire: WireParsed, limits: &Limits) -> Result<StageOutput, String> {
    if wire.text.len() as u64 > limits.text_bytes_max {
        let most = limits.text_bytes_max;
        return Err(format!("a text has at most {most} bytes"));
    }
    let most = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
    if wire.pages.0.len() > most(limits.pages_max) {
        return Err(too_many("pages", limits.pages_max));
    }
    if wire.headings.0.len().max(wire.tables.0.len()) > most(limits.spans_max) {
        return Err(too_many("headings, and as many tables", limits.spans_max));
    }
    let headings = wire.headings.0.into_iter().map(|heading| Heading {
        level: heading.level,
        start: heading.start,
        end: heading.end,
    });
    let pages = wire.pages.0.into_iter().map(|page| PageSpan {
        number: page.number,
        start: page.start,
        end: page.end,
    });
    let tables = wire.tables.0.into_iter().map(|table| Table {
        start: table.start,
        end: table.end,
        rows: table.rows,
        columns: table.columns,
    });
    let parsed = Parsed {
        text: wire.text,
        structure: Structure {
            title: wire.title,
            headings: headings.collect(),
            pages: pages.collect(),
            tables: tables.collect(),
        },
        warnings: warnings(wire.warnings)?,
    };
    if !parsed.check() {
        return Err("its spans lie outside of its text".to_owned());
    }
    Ok(StageOutput::Parsed(Box::new(parsed)))
}

fn entities(wire: WireEntities) -> Result<StageOutput, String> {
    check_name("detector", &wire.detector)?;
    let entities = wire.entities.0.into_iter().map(|entity| EntityMention {
        text: entity.text,
        entity_type: entity.entity_type,
        start: entity.start,
        end: entity.end,
    });
    Ok(StageOutput::Entities {
        detector: wire.detector,
        version: wire.version,
        entities: entities.collect(),
        dropped: wire.dropped,
    })
}

/// Whether something may be the name of a model: such names stand in headers of vectors, which
/// are of bounded length, and in annotations.
fn check_name(field: &str, name: &str) -> Result<(), String> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "`{field}` is not 1 to {NAME_BYTES_MAX} bytes without control characters"
    ))
}

/// Where places of a text, in code points, lie in bytes: in their order, each once, found in one
/// walk. Those behind the text's end are left out.
fn bytes_of(mut places: Vec<u64>, text: &str) -> Vec<(u64, u64)> {
    places.sort_unstable();
    places.dedup();
    let mut walk = text
        .char_indices()
        .map(|(byte, _)| byte)
        .chain([text.len()]);
    let mut found = Vec::with_capacity(places.len());
    let mut walked = 0;
    for place in places {
        let ahead = usize::try_from(place - walked).unwrap_or(usize::MAX);
        let Some(byte) = walk.nth(ahead) else {
            break;
        };
        walked = place + 1;
        found.push((place, byte as u64));
    }
    found
}

/// Chunks with their places in bytes; their ids are given when they are recorded.
fn placed(wire: Vec<WireChunk>, text: &str) -> Result<Vec<Chunk>, String> {
    let mut last_start = 0;
    for (index, chunk) in wire.iter().enumerate() {
        if chunk.start < last_start || chunk.end <= chunk.start {
            return Err(format!(
                "chunk {index} is empty, or begins before the one before it"
            ));
        }
        last_start = chunk.start;
        if chunk.end - chunk.start > u64::from(CHUNK_SIZE_MAX) {
            return Err(format!(
                "chunk {index} has more than {CHUNK_SIZE_MAX} code points"
            ));
        }
        let is_long = |heading: &String| heading.chars().nth(HEADING_CODE_POINTS_MAX).is_some();
        if chunk.headings.0.iter().any(is_long) {
            return Err(format!(
                "a heading of chunk {index} has more than {HEADING_CODE_POINTS_MAX} code points"
            ));
        }
    }
    let places = wire.iter().flat_map(|chunk| [chunk.start, chunk.end]);
    let found = bytes_of(places.collect(), text);
    let byte_at = |place: u64| {
        let at = found.binary_search_by_key(&place, |(place, _)| *place);
        at.ok().map(|at| found[at].1)
    };
    let placed = wire.into_iter().enumerate().map(|(index, chunk)| {
        let places = byte_at(chunk.start).zip(byte_at(chunk.end));
        let (byte_start, byte_end) =
            places.ok_or_else(|| format!("chunk {index} ends behind the text"))?;
        Ok(Chunk {
            id: String::new(),
            index: u32::try_from(index).map_err(|_| "too many chunks".to_owned())?,
            start: chunk.start,
            end: chunk.end,
            byte_start,
            byte_end,
            headings: chunk.headings.0,
            page: chunk.page,
        })
    });
    placed.collect()
}

/// Vectors as they are stored: their header, and their numbers.
fn vectors(wire: WireVectors<'_>) -> Result<(VectorsHeader, Vec<u8>), String> {
    check_name("model", &wire.model)?;
    if !(1..=DIMENSION_MAX).contains(&wire.dimension) {
        return Err(format!("`dimension` is not 1 to {DIMENSION_MAX}"));
    }
    let bytes = match (wire.vectors, wire.vectors_base64) {
        (Some(vectors), None) => {
            let mut bytes = Vec::new();
            for (index, AtMost(vector)) in vectors.0.into_iter().enumerate() {
                if vector.len() as u64 != u64::from(wire.dimension) {
                    return Err(format!("vector {index} has {} numbers", vector.len()));
                }
                bytes.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
            }
            bytes
        }
        (None, Some(text)) => STANDARD
            .decode(text.as_bytes())
            .map_err(|error| error.to_string())?,
        _ => return Err("expected either `vectors` or `vectors_base64`".to_owned()),
    };
    let size = u64::from(wire.dimension) * 4;
    if !(bytes.len() as u64).is_multiple_of(size) {
        return Err(format!(
            "{} bytes are no vectors of {}",
            bytes.len(),
            wire.dimension
        ));
    }
    let finite = bytes.chunks_exact(4).all(|four| {
        let four = four.try_into().expect("four bytes at a time");
        f32::from_le_bytes(four).is_finite()
    });
    if !finite {
        return Err("a number is not finite".to_owned());
    }
    let count = u32::try_from(bytes.len() as u64 / size).map_err(|_| "too many".to_owned())?;
    let header = VectorsHeader {
        model: wire.model,
        dimension: wire.dimension,
        count,
    };
    Ok((header, bytes))
}

/// Vectors in a file that is made for them.
fn in_file(
    header: VectorsHeader,
    numbers: &[u8],
    make: impl FnOnce() -> io::Result<File>,
) -> Result<StageOutput, CommitError> {
    let mut file = make().map_err(of_file)?;
    file.write_all(&header.encode()).map_err(of_file)?;
    file.write_all(numbers).map_err(of_file)?;
    Ok(StageOutput::Vectors { header, file })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stemma_content_store::PutError;

    use super::*;
    use crate::stages::desk::StageError;

    fn read(stage: Stage, value: &Value, text: &str) -> Result<StageOutput, CommitError> {
        let limits = Limits {
            pages_max: 2,
            text_bytes_max: 40,
            spans_max: 3,
            ..Limits::default()
        };
        StageOutput::of_json(stage, &value.to_string(), text, &limits)
    }

    fn chunks_of(spans: &[(u64, u64)]) -> Value {
        let chunk = |(start, end): &(u64, u64)| json!({ "start": start, "end": end });
        json!({ "chunks": spans.iter().map(chunk).collect::<Vec<_>>() })
    }

    #[test]
    fn chunks_from_outside_are_placed_in_the_text_and_refused_outside_of_it() {
        let text = "Zīj of Ulugh";
        let read = |spans: &[(u64, u64)]| read(Stage::Chunk, &chunks_of(spans), text);
        let Ok(StageOutput::Chunks(chunks)) = read(&[(0, 12), (0, 3), (2, 6), (7, 12)]) else {
            panic!("they lie in the text");
        };
        let texts: Vec<&str> = chunks
            .iter()
            .map(|c| {
                let place = |byte: u64| usize::try_from(byte).unwrap();
                &text[place(c.byte_start)..place(c.byte_end)]
            })
            .collect();
        assert_eq!(texts, [text, "Zīj", "j of", "Ulugh"]);
        for bad in [
            &[(0, 13)][..],
            &[(12, 13)],
            &[(3, 3)],
            &[(4, 6), (3, 5)],
            &[(0, u64::MAX)],
            &[(u64::MAX - 1, u64::MAX)],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    /// A stage from outside could once put out more than any of ours: chunks without number or
    /// end, each of them walked to from its start.
    #[test]
    fn what_comes_from_outside_is_held_to_the_limits_of_our_own_stages() {
        let size = u64::from(CHUNK_SIZE_MAX);
        let text = "x".repeat(usize::try_from(size).unwrap() + 1);
        assert!(read(Stage::Chunk, &chunks_of(&[(0, size)]), &text).is_ok());
        assert!(read(Stage::Chunk, &chunks_of(&[(0, size + 1)]), &text).is_err());
        let many = |count| {
            let chunks = vec![r#"{"start":0,"end":1}"#; count].join(",");
            let json = format!(r#"{{"chunks":[{chunks}]}}"#);
            StageOutput::of_json(Stage::Chunk, &json, "x", &Limits::default())
        };
        assert!(many(CHUNKS_MAX).is_ok() && many(CHUNKS_MAX + 1).is_err());
        let titled = |headings: &[String]| {
            let mut chunks = chunks_of(&[(0, 1)]);
            chunks["chunks"][0]["headings"] = json!(headings);
            read(Stage::Chunk, &chunks, "x").is_ok()
        };
        assert!(titled(&vec!["ī".repeat(HEADING_CODE_POINTS_MAX); 6]));
        assert!(!titled(&vec!["h".to_owned(); 7]));
        assert!(!titled(&["ī".repeat(HEADING_CODE_POINTS_MAX + 1)]));

        let parsed = |n_pages: u64, n_headings: u64, text: &str, warning: &str| {
            let page = |n| json!({ "number": n + 1, "start": n, "end": n });
            let heading = |n| json!({ "level": 1, "start": n, "end": n });
            let output = json!({ "text": text, "title": null, "tables": [],
                "pages": (0..n_pages).map(page).collect::<Vec<_>>(),
                "headings": (0..n_headings).map(heading).collect::<Vec<_>>(),
                "warnings": [warning] });
            read(Stage::Parse, &output, "").is_ok()
        };
        let (text, warning) = ("x".repeat(40), "w".repeat(WARNING_BYTES_MAX));
        assert!(parsed(2, 3, &text, &warning));
        assert!(!parsed(3, 3, &text, &warning));
        assert!(!parsed(2, 4, &text, &warning));
        assert!(!parsed(2, 3, &format!("{text}x"), &warning));
        assert!(!parsed(2, 3, &text, &format!("{warning}w")));

        let vectors = |dimension: u32| {
            let numbers = vec![0.5; dimension as usize];
            let output = json!({ "model": "m", "dimension": dimension, "vectors": [numbers] });
            read(Stage::Embed, &output, "").is_ok()
        };
        assert!(vectors(DIMENSION_MAX) && !vectors(DIMENSION_MAX + 1));
    }

    #[test]
    fn vectors_from_outside_are_of_one_length_and_finite() {
        let read = |value: &Value| read(Stage::Embed, value, "");
        let good = json!({ "model": "m", "dimension": 2, "vectors": [[1.0, 2.0], [3.0, 4.0]] });
        let Ok(mut output) = read(&good) else {
            panic!("they are vectors");
        };
        let mut again = Vec::new();
        output.write_json(&mut again).unwrap();
        let again = serde_json::from_slice(&again).unwrap();
        assert!(read(&again).is_ok());
        for bad in [
            json!({ "model": "m", "dimension": 2, "vectors": [[1.0]] }),
            json!({ "model": "m", "dimension": 0, "vectors": [] }),
            json!({ "model": "m", "dimension": 1, "vectors_base64": "AADAfw==" }),
            json!({ "model": "m", "dimension": 1 }),
        ] {
            assert!(matches!(read(&bad), Err(CommitError::Output(_))), "{bad}");
        }
    }

    /// A server whose directory for temporary files was full told workers outside that their
    /// outputs were wrong, and documents failed for good.
    #[test]
    fn a_file_that_cannot_be_had_or_written_says_nothing_against_what_it_was_to_hold() {
        let header = || VectorsHeader {
            model: "m".to_owned(),
            dimension: 1,
            count: 1,
        };
        let none_left = || Err(io::Error::from_raw_os_error(24));
        let unmade = in_file(header(), &[0; 4], none_left).unwrap_err();
        assert!(matches!(unmade, CommitError::Put(PutError::Io { .. })));
        let full = || File::options().write(true).open("/dev/full");
        let unwritten = in_file(header(), &[0; 4], full).unwrap_err();
        assert!(matches!(unwritten, CommitError::Put(PutError::Full { .. })));
        for error in [unmade, unwritten] {
            let StageError::Failed {
                code, transient, ..
            } = StageError::from(error)
            else {
                panic!("it failed");
            };
            assert_eq!((code.as_str(), transient), ("STORAGE_UNAVAILABLE", true));
        }
    }
}
