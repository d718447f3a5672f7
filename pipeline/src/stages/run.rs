//! Doing a stage: from what lies on the desk to what is handed in.
//!
//! Memory is bounded by the text, of which there is one copy, and the places of its chunks: the
//! file is streamed into the parser, chunks are read as they are embedded, vectors go to a file
//! batch by batch.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use stemma_domain::document::{Chunk, Chunking, EntityMention, Stage, Strategy, VectorsHeader};
use stemma_domain::id::ContentDigest;
use stemma_inference::{Completer, Detector, EMBED_BATCH_MAX, Embedder, Stop};
use stemma_telemetry::Span;

use crate::child::ParserProcess;
use crate::chunk::chunk;
use crate::limits::Limits;
use crate::parse::Structure;
use crate::service::ParsingService;
use crate::stages::desk::{Desk, StageError, Task};
use crate::stages::output::StageOutput;
use crate::stages::resources::Mentions;
use crate::validate::Declared;

/// Code points of a passage that a detector is given.
const PASSAGE_SIZE: u32 = 4000;

/// What stages are done with.
#[derive(Clone)]
pub struct Tools {
    /// Opens strangers' files.
    pub parser: ParserProcess,
    /// Parses in place of that process what the process let in, where one is configured.
    pub service: Option<ParsingService>,
    /// What a document may ask for.
    pub limits: Limits,
    /// Turns chunks into vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Finds what a text speaks of.
    pub detector: Arc<dyn Detector>,
    /// Writes texts, where a model for it is configured.
    pub completer: Option<Arc<dyn Completer>>,
    /// Most entities of one document that are kept, 5,000 by default.
    pub entities_max: usize,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools")
            .field("parser", &self.parser)
            .field(
                "service",
                &self.service.as_ref().map(|service| &service.url),
            )
            .field("embedder", self.embedder.model())
            .field("detector", &self.detector.name())
            .finish_non_exhaustive()
    }
}

/// How often stages are done in one attempt at most: a document that is cut anew all the time is
/// to be tried again later.
const ROUNDS_MAX: usize = 24;

/// Does every stage of a document that is not done, in order, also those that are to be done again
/// because somebody had the document cut anew meanwhile.
///
/// # Errors
/// The stage that failed, and why; those before it are recorded.
pub fn process(desk: &dyn Desk, tools: &Tools) -> Result<(), (Stage, StageError)> {
    process_again(desk, tools, None)
}

/// The same, with one stage done anew first though it is done.
///
/// # Errors
/// As [`process`].
pub fn process_again(
    desk: &dyn Desk,
    tools: &Tools,
    again: Option<Stage>,
) -> Result<(), (Stage, StageError)> {
    let (mut again, mut last) = (again, again.unwrap_or(Stage::Validate));
    for _ in 0..ROUNDS_MAX {
        let task = desk.task().map_err(|error| (last, error))?;
        let asked = again.take().filter(|stage| task.done.contains(stage));
        let next = || Stage::ALL.into_iter().find(|s| !task.done.contains(s));
        let Some(stage) = asked.or_else(next) else {
            return Ok(());
        };
        last = stage;
        match run_for(desk, tools, stage, &task) {
            Err(error) if error.is_input_changed() => again = asked,
            done => done.map_err(|error| (stage, error))?,
        }
    }
    Err((last, changed_all_the_time()))
}

/// Does one stage of a document; also anew, when what it is made from is changed meanwhile.
///
/// # Errors
/// Why it failed; nothing is recorded then.
pub fn run(desk: &dyn Desk, tools: &Tools, stage: Stage) -> Result<(), StageError> {
    for _ in 0..ROUNDS_MAX {
        let task = desk.task()?;
        match run_for(desk, tools, stage, &task) {
            Err(error) if error.is_input_changed() => {}
            done => return done,
        }
    }
    Err(changed_all_the_time())
}

fn changed_all_the_time() -> StageError {
    StageError::input_changed("the document is changed all the time")
}

fn run_for(desk: &dyn Desk, tools: &Tools, stage: Stage, task: &Task) -> Result<(), StageError> {
    let span = Span::part(format!("stage {}", stage.name())).map(Span::enter);
    let done = within_span(desk, tools, stage, task);
    if let (Some(mut span), Err(error)) = (span, &done) {
        span.fail(&error.to_string());
    }
    done
}

fn within_span(
    desk: &dyn Desk,
    tools: &Tools,
    stage: Stage,
    task: &Task,
) -> Result<(), StageError> {
    if desk.stop().load(Ordering::Acquire) {
        return Err(StageError::Stopped);
    }
    desk.progress(begins_at(stage), doing(stage));
    let began = Instant::now();
    let output = match stage {
        Stage::Validate => validated(desk, tools, task)?,
        Stage::Parse => parsed(desk, tools, task)?,
        Stage::Chunk => chunks(desk, task)?,
        Stage::Embed => vectors(desk, tools, task)?,
        Stage::Detect => entities(desk, tools, task)?,
        Stage::Index => StageOutput::Indexed,
    };
    desk.submit(stage, output, began.elapsed())
}

/// How far a document is when a stage begins, in percent of what most documents take.
fn begins_at(stage: Stage) -> u8 {
    match stage {
        Stage::Validate => 1,
        Stage::Parse => 5,
        Stage::Chunk => 30,
        Stage::Embed => 40,
        Stage::Detect => 70,
        Stage::Index => 90,
    }
}

fn doing(stage: Stage) -> &'static str {
    match stage {
        Stage::Validate => "validating",
        Stage::Parse => "parsing",
        Stage::Chunk => "cutting into chunks",
        Stage::Embed => "embedding",
        Stage::Detect => "detecting entities",
        Stage::Index => "indexing",
    }
}

/// Tells how far a stage is, `done` of `total`.
fn step(desk: &dyn Desk, stage: Stage, done: usize, total: usize) {
    let next = Stage::ALL.into_iter().find(|other| *other > stage);
    let (from, to) = (begins_at(stage), next.map_or(99, begins_at));
    let part = (usize::from(to - from) * done) / total.max(1);
    let percent = from + u8::try_from(part).unwrap_or(to - from).min(to - from);
    desk.progress(percent, &format!("{}: {done} of {total}", doing(stage)));
}

fn declared(task: &Task) -> Declared<'_> {
    Declared {
        file_name: &task.file_name,
        media_type: task.declared_media_type.as_deref(),
    }
}

fn validated(desk: &dyn Desk, tools: &Tools, task: &Task) -> Result<StageOutput, StageError> {
    let content = desk.content()?;
    let validated = tools
        .parser
        .validate(content, &declared(task), &tools.limits, desk.stop())?;
    Ok(StageOutput::Validated(validated))
}

fn parsed(desk: &dyn Desk, tools: &Tools, task: &Task) -> Result<StageOutput, StageError> {
    let (limits, stop) = (&tools.limits, desk.stop());
    let parsed = match (&tools.service, &task.media_type) {
        (Some(service), Some(media_type)) => {
            let open = || desk.content().map_err(std::io::Error::other);
            service.parse(open, &declared(task), media_type, limits, stop)?
        }
        // What was not validated is parsed by the process, which validates it.
        _ => {
            let content = desk.content()?;
            tools.parser.run(content, &declared(task), limits, stop)?.1
        }
    };
    Ok(StageOutput::Parsed(Box::new(parsed)))
}

fn chunks(desk: &dyn Desk, task: &Task) -> Result<StageOutput, StageError> {
    let (text, structure) = (desk.text()?, desk.structure()?);
    let chunks = chunk(&task.digest, &text, &structure, &task.chunking);
    let chunks = chunks.map_err(|error| StageError::permanent("TOO_MANY_CHUNKS", error))?;
    Ok(StageOutput::Chunks(chunks))
}

fn text_of<'a>(chunk: &Chunk, text: &'a str) -> Result<&'a str, StageError> {
    let place = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX);
    let text = text.get(place(chunk.byte_start)..place(chunk.byte_end));
    text.ok_or_else(|| StageError::permanent("BROKEN", "a chunk lies outside of the text"))
}

fn vectors(desk: &dyn Desk, tools: &Tools, task: &Task) -> Result<StageOutput, StageError> {
    let spooled = |error: std::io::Error| StageError::transient("STORAGE_UNAVAILABLE", error);
    let changed = || StageError::input_changed("the document was cut anew meanwhile");
    let mut texts = desk.chunk_texts()?;
    let count = usize::try_from(task.chunk_count.ok_or_else(changed)?).unwrap_or(usize::MAX);
    let stop = Stop::by(desk.stop());
    let model = tools.embedder.model();
    let header = VectorsHeader {
        model: model.name.clone(),
        dimension: model.dimension,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    };
    let mut file = BufWriter::new(tempfile::tempfile().map_err(spooled)?);
    file.write_all(&header.encode()).map_err(spooled)?;
    let mut done = 0;
    loop {
        let batch = texts.by_ref().take(EMBED_BATCH_MAX);
        let batch = batch.collect::<Result<Vec<String>, _>>()?;
        if batch.is_empty() {
            break;
        }
        step(desk, Stage::Embed, done, count);
        done += batch.len();
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        for vector in tools.embedder.embed(&batch, &stop)? {
            for number in vector {
                file.write_all(&number.to_le_bytes()).map_err(spooled)?;
            }
        }
    }
    if done != count {
        return Err(changed());
    }
    let file = file.into_inner().map_err(|error| spooled(error.into()))?;
    Ok(StageOutput::Vectors { header, file })
}

fn entities(desk: &dyn Desk, tools: &Tools, task: &Task) -> Result<StageOutput, StageError> {
    let text = desk.text()?;
    let stop = Stop::by(desk.stop());
    let told = |done, total| step(desk, Stage::Detect, done, total);
    let (entities, dropped) = mentions(tools, &task.digest, &text, &stop, &told)?;
    Ok(StageOutput::Entities {
        detector: tools.detector.name().to_owned(),
        version: tools.detector.version(),
        entities,
        dropped,
    })
}

/// What a detector finds in a text, passage by passage; `told` hears how far it is.
pub(crate) fn mentions(
    tools: &Tools,
    digest: &ContentDigest,
    text: &str,
    stop: &Stop,
    told: &dyn Fn(usize, usize),
) -> Result<Mentions, StageError> {
    let settings = Chunking::new(Strategy::Sentence, Some(PASSAGE_SIZE), Some(0));
    let settings = settings.expect("a size within the limits, and no overlap");
    let passages = chunk(digest, text, &Structure::default(), &settings);
    let passages = passages.map_err(|error| StageError::permanent("TOO_MANY_CHUNKS", error))?;
    let (mut entities, mut dropped) = (Vec::new(), 0);
    for (index, passage) in passages.iter().enumerate() {
        told(index, passages.len());
        let detected = tools.detector.detect(text_of(passage, text)?, stop)?;
        dropped += u64::from(detected.dropped);
        let found = detected.entities.into_iter().map(|entity| EntityMention {
            text: entity.text,
            entity_type: entity.entity_type,
            start: passage.start + entity.start,
            end: passage.start + entity.end,
        });
        entities.extend(found);
        if entities.len() >= tools.entities_max {
            entities.truncate(tools.entities_max);
            break;
        }
    }
    Ok((entities, dropped))
}

#[cfg(test)]
mod tests;
