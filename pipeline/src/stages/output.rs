//! What a stage puts out, and its form as JSON for workers outside.
//!
//! `docs/workers.md` documents the form. Invariant: what came from outside is checked against the
//! document before anything of it is recorded.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stemma_domain::document::{Chunk, EntityMention, Stage, VectorsHeader};

use crate::parse::Parsed;
use crate::validate::Validated;

/// Most bytes of the name of a model or a detector.
const NAME_BYTES_MAX: usize = 256;

/// What a stage put out.
#[derive(Debug)]
pub enum StageOutput {
    /// What the file is.
    Validated(Validated),
    /// Its text and structure.
    Parsed(Box<Parsed>),
    /// Its pieces.
    Chunks(Vec<Chunk>),
    /// A vector for each piece, in a file, as `docs/format/documents.md` draws it.
    Vectors {
        /// Who made them, and how many there are.
        header: VectorsHeader,
        /// The header and the numbers, from the file's start on.
        file: File,
    },
    /// What it speaks of.
    Entities {
        /// Who looked.
        detector: String,
        /// Its version.
        version: u32,
        /// What was found, in the order of the text.
        entities: Vec<EntityMention>,
        /// What a model named that does not stand in the text.
        dropped: u64,
    },
    /// Nothing: what is done is searchable.
    Indexed,
}

/// An output that is not what its stage puts out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output of {stage}: {problem}")]
pub struct OutputError {
    /// The stage.
    pub stage: Stage,
    /// What is wrong with it.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireChunk {
    start: u64,
    end: u64,
    #[serde(default)]
    headings: Vec<String>,
    #[serde(default)]
    page: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireChunks {
    chunks: Vec<WireChunk>,
}

/// The places of a chunk, as they are handed in.
#[derive(Serialize)]
struct ChunkPlace<'a> {
    start: u64,
    end: u64,
    headings: &'a [String],
    page: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireVectors {
    model: String,
    dimension: u32,
    #[serde(default)]
    vectors: Option<Vec<Vec<f32>>>,
    #[serde(default)]
    vectors_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEntities {
    detector: String,
    #[serde(default = "first_version")]
    version: u32,
    entities: Vec<EntityMention>,
    #[serde(default)]
    dropped: u64,
}

fn first_version() -> u32 {
    1
}

impl StageOutput {
    /// The stage that puts this out.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Validated(_) => Stage::Validate,
            Self::Parsed(_) => Stage::Parse,
            Self::Chunks(_) => Stage::Chunk,
            Self::Vectors { .. } => Stage::Embed,
            Self::Entities { .. } => Stage::Detect,
            Self::Indexed => Stage::Index,
        }
    }

    /// Writes the form in which a worker outside hands it in, JSON, piece by piece.
    ///
    /// # Errors
    /// When it cannot be written, or the file of vectors not be read.
    pub fn write_json(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Validated(validated) => serde_json::to_writer(out, validated)?,
            Self::Parsed(parsed) => serde_json::to_writer(out, parsed)?,
            Self::Chunks(chunks) => {
                out.write_all(b"{\"chunks\":[")?;
                for (index, chunk) in chunks.iter().enumerate() {
                    if index > 0 {
                        out.write_all(b",")?;
                    }
                    let place = ChunkPlace {
                        start: chunk.start,
                        end: chunk.end,
                        headings: &chunk.headings,
                        page: chunk.page,
                    };
                    serde_json::to_writer(&mut *out, &place)?;
                }
                out.write_all(b"]}")?;
            }
            Self::Vectors { header, file } => {
                let (model, dimension) = (json!(header.model), header.dimension);
                write!(
                    out,
                    "{{\"model\":{model},\"dimension\":{dimension},\"vectors_base64\":\""
                )?;
                file.seek(SeekFrom::Start(header.encode().len() as u64))?;
                let mut encoder = EncoderWriter::new(&mut *out, &STANDARD);
                io::copy(file, &mut encoder)?;
                encoder.finish()?;
                drop(encoder);
                out.write_all(b"\"}")?;
            }
            Self::Entities {
                detector,
                version,
                entities,
                dropped,
            } => {
                let output = json!({
                    "detector": detector, "version": version, "entities": entities, "dropped": dropped,
                });
                serde_json::to_writer(out, &output)?;
            }
            Self::Indexed => out.write_all(b"{}")?,
        }
        Ok(())
    }

    /// Reads what a worker outside hands in; `text` is the document's, for chunks.
    ///
    /// # Errors
    /// [`OutputError`] says what is wrong.
    pub fn of_json(stage: Stage, mut value: Value, text: &str) -> Result<Self, OutputError> {
        let wrong = |problem: String| OutputError { stage, problem };
        let told = |error: serde_json::Error| wrong(error.to_string());
        Ok(match stage {
            Stage::Validate => {
                let validated = Validated::deserialize(&value).map_err(told)?;
                nothing_more(&value, &json!(validated)).map_err(wrong)?;
                Self::Validated(validated)
            }
            Stage::Parse => {
                // The text is taken, not copied: it may be most of the memory that there is.
                let text = value.get_mut("text").map(|text| match text {
                    Value::String(text) => std::mem::take(text),
                    _ => String::new(),
                });
                let mut parsed = Parsed::deserialize(&value).map_err(told)?;
                parsed.text = text.unwrap_or_default();
                let mut known = json!(parsed.structure);
                known["text"] = Value::Null;
                known["warnings"] = json!(parsed.warnings);
                nothing_more(&value, &known).map_err(wrong)?;
                if !parsed.check() {
                    return Err(wrong("its spans lie outside of its text".to_owned()));
                }
                Self::Parsed(Box::new(parsed))
            }
            Stage::Chunk => {
                let wire: WireChunks = serde_json::from_value(value).map_err(told)?;
                Self::Chunks(placed(wire.chunks, text).map_err(wrong)?)
            }
            Stage::Embed => vectors(serde_json::from_value(value).map_err(told)?).map_err(wrong)?,
            Stage::Detect => {
                let wire = WireEntities::deserialize(&value).map_err(told)?;
                nothing_more(&value["entities"], &json!(wire.entities)).map_err(wrong)?;
                check_name("detector", &wire.detector).map_err(wrong)?;
                Self::Entities {
                    detector: wire.detector,
                    version: wire.version,
                    entities: wire.entities,
                    dropped: wire.dropped,
                }
            }
            Stage::Index if value.as_object().is_some_and(Map::is_empty) => Self::Indexed,
            Stage::Index => return Err(wrong("expected an empty object".to_owned())),
        })
    }
}

/// Refuses fields that were sent and that what was read of them does not have.
fn nothing_more(sent: &Value, read: &Value) -> Result<(), String> {
    match (sent, read) {
        (Value::Object(sent), Value::Object(read)) => {
            for (name, value) in sent {
                let read = read.get(name);
                let read = read.ok_or_else(|| format!("unknown field `{name}`"))?;
                nothing_more(value, read)?;
            }
            Ok(())
        }
        (Value::Array(sent), Value::Array(read)) => {
            let mut pairs = sent.iter().zip(read);
            pairs.try_for_each(|(sent, read)| nothing_more(sent, read))
        }
        _ => Ok(()),
    }
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

/// Chunks with their places in bytes; their ids are given when they are recorded.
fn placed(wire: Vec<WireChunk>, text: &str) -> Result<Vec<Chunk>, String> {
    let mut chunks = Vec::with_capacity(wire.len());
    // Starts never go back, so one walk finds them all.
    let mut walk = text.char_indices().map(|(byte, _)| byte);
    let (mut at, mut byte) = (0_u64, 0_usize);
    let mut last_start = 0;
    for (index, chunk) in wire.into_iter().enumerate() {
        if chunk.start < last_start || chunk.end <= chunk.start {
            return Err(format!(
                "chunk {index} is empty, or begins before the one before it"
            ));
        }
        last_start = chunk.start;
        while at <= chunk.start {
            byte = walk
                .next()
                .ok_or_else(|| format!("chunk {index} begins behind the text"))?;
            at += 1;
        }
        let len = chunk.end - chunk.start;
        let len = usize::try_from(len).map_err(|_| format!("chunk {index} is too long"))?;
        let rest = &text[byte..];
        let mut ends = rest
            .char_indices()
            .map(|(byte, _)| byte)
            .chain([rest.len()]);
        let end = ends
            .nth(len)
            .ok_or_else(|| format!("chunk {index} ends behind the text"))?;
        chunks.push(Chunk {
            id: String::new(),
            index: u32::try_from(index).map_err(|_| "too many chunks".to_owned())?,
            start: chunk.start,
            end: chunk.end,
            byte_start: byte as u64,
            byte_end: (byte + end) as u64,
            headings: chunk.headings,
            page: chunk.page,
        });
    }
    Ok(chunks)
}

fn vectors(wire: WireVectors) -> Result<StageOutput, String> {
    check_name("model", &wire.model)?;
    let bytes = match (wire.vectors, wire.vectors_base64) {
        (Some(vectors), None) => {
            let mut bytes = Vec::new();
            for (index, vector) in vectors.iter().enumerate() {
                if vector.len() as u64 != u64::from(wire.dimension) {
                    return Err(format!("vector {index} has {} numbers", vector.len()));
                }
                bytes.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
            }
            bytes
        }
        (None, Some(text)) => STANDARD.decode(text).map_err(|error| error.to_string())?,
        _ => return Err("expected either `vectors` or `vectors_base64`".to_owned()),
    };
    let size = u64::from(wire.dimension) * 4;
    if size == 0 || !(bytes.len() as u64).is_multiple_of(size) {
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
    let mut file = tempfile::tempfile().map_err(|error| error.to_string())?;
    let written = file.write_all(&header.encode());
    let written = written.and_then(|()| file.write_all(&bytes));
    written.map_err(|error| error.to_string())?;
    Ok(StageOutput::Vectors { header, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_from_outside_are_placed_in_the_text_and_refused_outside_of_it() {
        let text = "Zīj of Ulugh";
        let wire = |spans: &[(u64, u64)]| {
            let chunk = |(start, end): &(u64, u64)| json!({ "start": start, "end": end });
            json!({ "chunks": spans.iter().map(chunk).collect::<Vec<_>>() })
        };
        let read = |spans: &[(u64, u64)]| StageOutput::of_json(Stage::Chunk, wire(spans), text);
        let Ok(StageOutput::Chunks(chunks)) = read(&[(0, 3), (2, 6), (7, 12)]) else {
            panic!("they lie in the text");
        };
        let texts: Vec<&str> = chunks
            .iter()
            .map(|c| {
                let place = |byte: u64| usize::try_from(byte).unwrap();
                &text[place(c.byte_start)..place(c.byte_end)]
            })
            .collect();
        assert_eq!(texts, ["Zīj", "j of", "Ulugh"]);
        for bad in [
            &[(0, 13)][..],
            &[(12, 13)],
            &[(3, 3)],
            &[(4, 6), (3, 5)],
            &[(0, u64::MAX)],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn vectors_from_outside_are_of_one_length_and_finite() {
        let read = |value| StageOutput::of_json(Stage::Embed, value, "");
        let good = json!({ "model": "m", "dimension": 2, "vectors": [[1.0, 2.0], [3.0, 4.0]] });
        let Ok(mut output) = read(good) else {
            panic!("they are vectors");
        };
        let mut again = Vec::new();
        output.write_json(&mut again).unwrap();
        let again = serde_json::from_slice(&again).unwrap();
        assert!(read(again).is_ok());
        for bad in [
            json!({ "model": "m", "dimension": 2, "vectors": [[1.0]] }),
            json!({ "model": "m", "dimension": 0, "vectors": [] }),
            json!({ "model": "m", "dimension": 1, "vectors_base64": "AADAfw==" }),
            json!({ "model": "m", "dimension": 1 }),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
