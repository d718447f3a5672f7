//! What a stage puts out, and its form as JSON for workers outside.
//!
//! `docs/workers.md` documents the form; `wire.rs` reads it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use serde::Serialize;
use serde_json::json;
use stemma_domain::document::{Chunk, EntityMention, Stage, VectorsHeader};

use crate::parse::Parsed;
use crate::validate::Validated;

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

/// The places of a chunk, as they are handed in.
#[derive(Serialize)]
struct ChunkPlace<'a> {
    start: u64,
    end: u64,
    headings: &'a [String],
    page: Option<u32>,
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
}
