//! What a stage was made from, as whoever did it elsewhere names it: by tags.
//!
//! Invariant: what is read under one tag is the same bytes each time, so an output whose tags stand
//! is of what the document has now.

use super::decide::DocumentRefusal;
use super::stage::Stage;
use super::state::Document;
use crate::id::{ContentDigest, IdError};

/// What stages put out for others to be made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The text.
    Text,
    /// What stands where in it.
    Structure,
    /// Its pieces, with their texts.
    Chunks,
}

impl Input {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::Structure, Self::Chunks];

    /// The input as it is written, and its name among its stage's outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Structure => "structure",
            Self::Chunks => "chunks",
        }
    }

    /// The stage that puts it out.
    pub fn stage(self) -> Stage {
        match self {
            Self::Text | Self::Structure => Stage::Parse,
            Self::Chunks => Stage::Chunk,
        }
    }

    /// Whether a stage may be made from it. `index` is made from nothing that is handed out: the
    /// server does it.
    pub fn is_read_by(self, stage: Stage) -> bool {
        self.stage() < stage && stage != Stage::Index
    }
}

/// What an output was made from; empty where its maker does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MadeFrom {
    /// In the order of [`Input::ALL`].
    tags: [Option<ContentDigest>; Input::ALL.len()],
}

impl MadeFrom {
    /// Notes what was read last of an input; none where that cannot be told.
    pub fn note(&mut self, input: Input, tag: Option<ContentDigest>) {
        self.tags[input as usize] = tag;
    }

    /// What was read last of an input.
    pub fn tag(&self, input: Input) -> Option<ContentDigest> {
        self.tags[input as usize]
    }

    /// All that is named.
    pub fn named(&self) -> impl Iterator<Item = (Input, ContentDigest)> {
        let named = |input: Input| Some((input, self.tag(input)?));
        Input::ALL.into_iter().filter_map(named)
    }

    /// Whether all that is named is what the document has now.
    ///
    /// # Errors
    /// [`DocumentRefusal::InputChanged`] names the stage whose output is another.
    pub fn check(&self, document: &Document, stage: Stage) -> Result<(), DocumentRefusal> {
        let is_another = |(input, tag): &(Input, ContentDigest)| document.tag(*input) != Some(*tag);
        match self.named().find(is_another) {
            None => Ok(()),
            Some((input, _)) => Err(DocumentRefusal::InputChanged {
                stage,
                changed: input.stage(),
            }),
        }
    }
}

impl Document {
    /// The tag of what is read of it, another as soon as a byte of that is; none while its stage is
    /// not done. Chunks are read with their texts: the same places in another text are others.
    pub fn tag(&self, input: Input) -> Option<ContentDigest> {
        let digest = |input: Input| Some(self.output(input.stage(), input.name())?.digest);
        let own = digest(input)?;
        if input != Input::Chunks {
            return Some(own);
        }
        let mut hasher = blake3::Hasher::new_derive_key("stemma 2026-11 chunks with their texts");
        hasher.update(own.as_bytes());
        hasher.update(digest(Input::Text)?.as_bytes());
        Some(ContentDigest::from_bytes(*hasher.finalize().as_bytes()))
    }
}

/// Reads a tag: as it stands in an `ETag`, where a proxy may have made it weak, or without quotes.
///
/// # Errors
/// [`IdError`] when it is none.
pub fn read_tag(text: &str) -> Result<ContentDigest, IdError> {
    let quoted = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"');
    match quoted.map(|quoted| quoted.strip_suffix('"')) {
        None => text.parse(),
        Some(tag) => tag.ok_or(IdError::NotDigest)?.parse(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::document::{Chunking, StageState, Steps};
    use crate::event::{DocumentUploaded, Envelope, Event, StageOutput};
    use crate::id::{JobId, ResourceId};
    use crate::time::Timestamp;
    use crate::value::FileName;

    fn digest(byte: u8) -> ContentDigest {
        ContentDigest::from_bytes([byte; 32])
    }

    fn uploaded() -> Document {
        let envelope = Envelope {
            position: 0,
            revision: 0,
            recorded_at: Timestamp::from_micros(0),
            actor: "ada",
        };
        let uploaded = DocumentUploaded {
            byte_size: 3,
            chunking: Chunking::default(),
            collection: None,
            declared_media_type: None,
            digest: digest(7),
            file_name: FileName::new("a.txt").unwrap(),
            id: ResourceId::new(Uuid::from_u128(1)),
            steps: Steps::Auto,
        };
        Document::start(&envelope, &Event::DocumentUploaded(uploaded)).unwrap()
    }

    /// Has a stage done that put this out.
    fn put_out(document: &mut Document, outputs: &[(Input, u8)]) {
        let output = |(input, byte): &(Input, u8)| {
            let output = StageOutput {
                byte_size: 1,
                digest: digest(*byte),
            };
            (input.name().to_owned(), output)
        };
        let state = StageState {
            input: digest(0),
            version: 1,
            outputs: outputs.iter().map(output).collect::<BTreeMap<_, _>>(),
            figures: serde_json::Map::new(),
            warnings: Vec::new(),
            job_id: JobId::new(Uuid::from_u128(1)),
            took_ms: 1,
            completed_at: Timestamp::from_micros(1),
        };
        document.stages.insert(outputs[0].0.stage(), state);
    }

    #[test]
    fn an_output_that_names_what_no_longer_stands_is_refused_and_one_that_names_nothing_is_not() {
        let mut document = uploaded();
        put_out(&mut document, &[(Input::Text, 1), (Input::Structure, 2)]);
        put_out(&mut document, &[(Input::Chunks, 3)]);
        let read = Input::ALL.map(|input| {
            let mut made_from = MadeFrom::default();
            made_from.note(input, document.tag(input));
            made_from
        });
        let stands = |document: &Document| read.map(|read| read.check(document, Stage::Embed));
        let changed = |changed| {
            let stage = Stage::Embed;
            Err(DocumentRefusal::InputChanged { stage, changed })
        };
        let (parsed, cut) = (changed(Stage::Parse), changed(Stage::Chunk));
        assert_eq!(stands(&document), [Ok(()); 3]);
        let as_before = document.clone();
        put_out(&mut document, &[(Input::Chunks, 4)]);
        assert_eq!(stands(&document), [Ok(()), Ok(()), cut]);
        // The same places in another text.
        let mut document = as_before;
        put_out(&mut document, &[(Input::Text, 5), (Input::Structure, 2)]);
        assert_eq!(stands(&document), [parsed, Ok(()), cut]);
        document.stages.clear();
        assert_eq!(stands(&document), [parsed, parsed, cut]);
        assert_eq!(MadeFrom::default().check(&document, Stage::Embed), Ok(()));
    }

    #[test]
    fn stages_are_made_from_what_those_before_them_put_out_and_index_from_nothing() {
        let read_by = |stage| Input::ALL.map(|input| input.is_read_by(stage));
        assert_eq!(read_by(Stage::Validate), [false; 3]);
        assert_eq!(read_by(Stage::Parse), [false; 3]);
        assert_eq!(read_by(Stage::Chunk), [true, true, false]);
        assert_eq!(read_by(Stage::Embed), [true; 3]);
        assert_eq!(read_by(Stage::Detect), [true; 3]);
        assert_eq!(read_by(Stage::Index), [false; 3]);
    }

    #[test]
    fn a_tag_is_read_as_it_stands_in_a_header_or_without_its_quotes() {
        let tag = digest(0xab);
        for text in [
            tag.to_string(),
            format!("\"{tag}\""),
            format!("W/\"{tag}\""),
        ] {
            assert_eq!(read_tag(&text), Ok(tag), "{text}");
        }
        for text in [
            String::new(),
            "\"".to_owned(),
            format!("\"{tag}"),
            format!("{tag}\""),
            format!("W/{tag}"),
            format!("\"{tag}-gzip\""),
            "\"r3\"".to_owned(),
        ] {
            assert_eq!(read_tag(&text), Err(IdError::NotDigest), "{text}");
        }
    }
}
