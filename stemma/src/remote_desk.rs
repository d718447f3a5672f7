//! A document on the desk of a worker outside the server: read and handed in over HTTP.
//!
//! Invariants: a server that is away is asked again until it answers, for as long as the attempt
//! stands, but a disk of ours that fails ends the attempt; what was handed in twice, because the
//! first answer was lost, is recorded once. What is handed in names what it was made from, all of
//! which was read since its stage was begun.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Map, Value, json};
use stemma_domain::document::{Chunking, Input, MadeFrom, Stage, read_tag};
use stemma_domain::id::ResourceId;
use stemma_pipeline::parse::Structure;
use stemma_pipeline::stages::{ChunkTexts, Desk, Done, StageError, StageOutput, Summary, Task};
use tempfile::NamedTempFile;

use crate::api_client::{Refused, Server, Unwell};
use crate::interrupt;
use crate::lease::{Lease, is_lost};

/// First wait before a server that is away is asked again; doubled for each further one.
const WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait before it is asked again.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often one who waits looks whether the attempt is to stop.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// Most bytes of a text that is read.
const TEXT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a document's content that are fetched at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Chunks that are asked for at a time.
const PAGE_CHUNKS: usize = 500;
/// How long the server may take to note what came of a job.
const SAY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one who is to end still tries to say it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Waits that become longer.
#[derive(Debug)]
pub(crate) struct Patience {
    next: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { next: WAIT_MIN }
    }
}

impl Patience {
    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(WAIT_MAX);
        wait
    }
}

/// A job as it was claimed.
#[derive(Debug, Clone)]
pub(crate) struct DocumentJob {
    pub(crate) document_id: ResourceId,
    /// The one step that it is to do; none for all.
    pub(crate) step: Option<Stage>,
    /// The step that is done anew, though it is done, before all that are not.
    pub(crate) again: Option<Stage>,
    /// How the text is to be cut, where the job says so.
    pub(crate) chunking: Option<Chunking>,
}

/// A document that a server has.
pub(crate) struct RemoteDesk<'a> {
    server: &'a Server,
    lease: &'a Lease,
    job: &'a DocumentJob,
    /// Most bytes of a file that are fetched; one more tells that it is too large.
    bytes_max: u64,
    content: OnceCell<NamedTempFile>,
    /// The room of a text that was handed in, for the next that is fetched: what is freed stays
    /// resident for a while, and there are to be no two texts at a time.
    room: Cell<String>,
    /// What was read since the stage was begun.
    read: Cell<MadeFrom>,
}

/// A file of this worker's own that cannot be written or read: no server mends that, however often
/// it is asked.
#[derive(Debug, thiserror::Error)]
#[error("the worker's file for what it fetches or hands in: {0}")]
struct OwnFile(io::Error);

/// What to do after a call that failed.
enum After {
    /// Ask again, not before so long.
    AskAgain(Option<Duration>),
    GiveUp(StageError),
}

fn after(error: &anyhow::Error) -> After {
    if is_lost(error) {
        return After::GiveUp(StageError::LeaseLost);
    }
    if let Some(own) = error.downcast_ref::<OwnFile>() {
        return After::GiveUp(StageError::transient("STORAGE_UNAVAILABLE", own));
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return match (refused.status, refused.code.as_str()) {
            (408 | 429, _) => After::AskAgain(refused.retry_after),
            // It is read again, not sent again.
            (_, "INPUT_CHANGED") => After::GiveUp(StageError::input_changed(&refused.detail)),
            _ => After::GiveUp(StageError::permanent(&refused.code, &refused.detail)),
        };
    }
    let Some(unwell) = error.downcast_ref::<Unwell>() else {
        return After::AskAgain(None);
    };
    match (unwell.code.as_str(), unwell.status) {
        ("SEARCH_UNAVAILABLE", _) => {
            After::GiveUp(StageError::transient("NOT_INDEXED", &unwell.detail))
        }
        ("CONTENT_DAMAGED", _) => {
            After::GiveUp(StageError::permanent(&unwell.code, &unwell.detail))
        }
        (_, 500) => After::GiveUp(StageError::transient(&unwell.code, &unwell.detail)),
        _ => After::AskAgain(unwell.retry_after),
    }
}

impl<'a> RemoteDesk<'a> {
    pub(crate) fn new(
        server: &'a Server,
        lease: &'a Lease,
        job: &'a DocumentJob,
        bytes_max: u64,
    ) -> Self {
        Self {
            server,
            lease,
            job,
            bytes_max,
            content: OnceCell::new(),
            room: Cell::default(),
            read: Cell::default(),
        }
    }

    /// Notes the tag that something was read with.
    fn note(&self, input: Input, tag: Option<&str>) {
        let mut read = self.read.get();
        read.note(input, tag.and_then(|tag| read_tag(tag).ok()));
        self.read.set(read);
    }

    /// Calls until there is an answer, or the attempt is to stop.
    fn patient<T>(&self, call: impl Fn() -> anyhow::Result<T>) -> Result<T, StageError> {
        let stop = || self.stop().load(Ordering::Acquire);
        until(&call, &stop).map_err(|error| {
            if matches!(error, StageError::LeaseLost) {
                self.lease.lose();
            }
            error
        })
    }

    fn path(&self, part: &str) -> String {
        format!("/api/documents/{}{part}", self.job.document_id)
    }

    fn document(&self) -> Result<Value, StageError> {
        self.patient(|| self.server.get(&self.path("")))
    }

    fn fetched(&self) -> anyhow::Result<NamedTempFile> {
        // The file as it came in: of the resource's content there may be newer ones.
        let path = format!("/api/resources/{}/content?revision=0", self.job.document_id);
        let mut file = NamedTempFile::new().map_err(OwnFile)?;
        let content = self.server.open(&path)?;
        let content = content.take(self.bytes_max.saturating_add(1));
        keep(content, &mut file)?;
        Ok(file)
    }

    /// What the job's result tells of the document.
    pub(crate) fn summary(&self) -> Result<Summary, StageError> {
        let document = self.document()?;
        let stages = Stage::ALL.into_iter().filter_map(|stage| {
            let step = &document["steps"][stage.name()];
            let is_done = step["status"] == "completed";
            let warnings = serde_json::from_value(step["warnings"].clone());
            let done = Done {
                figures: step["figures"].as_object().cloned().unwrap_or_default(),
                warnings: warnings.unwrap_or_default(),
            };
            is_done.then_some((stage, done))
        });
        Ok(Summary {
            document_id: self.job.document_id,
            collection: document["collection"].as_str().map(str::to_owned),
            stages: stages.collect(),
        })
    }
}

/// Copies what the server sends, and tells its errors from those of the file.
fn keep(mut content: impl Read, file: &mut impl Write) -> anyhow::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match content.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("fetch the document's content"),
        };
        file.write_all(&piece[..read]).map_err(OwnFile)?;
    }
}

/// Why a call failed that sent a file: the file's own trouble is not told from that of the way, so
/// it is read once more.
fn of_sending(error: anyhow::Error, mut body: &File) -> anyhow::Error {
    if error.is::<Refused>() || error.is::<Unwell>() {
        return error;
    }
    let sought = body.seek(SeekFrom::Start(0));
    match sought.and_then(|_| io::copy(&mut body, &mut io::sink())) {
        Ok(_) => error,
        Err(unread) => OwnFile(unread).into(),
    }
}

/// Says what came of a job; one who is to end does so too, for a while.
///
/// # Errors
/// When the server refuses it, or is away for too long to wait for it.
pub(crate) fn say(
    server: &Server,
    lease: &Lease,
    call: &str,
    mut body: Value,
) -> Result<(), StageError> {
    let attempt = lease.attempt();
    body["fencing_token"] = json!(attempt.token);
    let path = format!("/api/workers/jobs/{}/{call}", attempt.job_id);
    let body = body.to_string();
    let began = Instant::now();
    let stop = || {
        let is_late = interrupt::flow().is_break() && began.elapsed() > LAST_WORDS;
        lease.is_lost() || is_late
    };
    let say = || {
        let within = if interrupt::flow().is_break() {
            LAST_WORDS
        } else {
            SAY_TIMEOUT
        };
        server.post(&path, body.as_bytes(), Some(within))
    };
    until(&say, &stop).map(drop)
}

/// Calls until there is an answer or it is to stop.
fn until<T>(
    call: &dyn Fn() -> anyhow::Result<T>,
    stop: &dyn Fn() -> bool,
) -> Result<T, StageError> {
    let mut patience = Patience::default();
    loop {
        let error = match call() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let least = match after(&error) {
            After::GiveUp(error) => return Err(error),
            After::AskAgain(least) => least,
        };
        let wait = patience.next().max(least.unwrap_or_default());
        tracing::warn!("{error:#}; asking again in {} ms", wait.as_millis());
        let began = Instant::now();
        while began.elapsed() < wait {
            if stop() {
                return Err(StageError::Stopped);
            }
            let left = wait.saturating_sub(began.elapsed());
            std::thread::sleep(left.min(LOOK_AROUND));
        }
        if stop() {
            return Err(StageError::Stopped);
        }
    }
}

/// An answer that is not what a server of this kind gives.
fn unclear(what: &str) -> StageError {
    StageError::transient(
        "UNCLEAR_ANSWER",
        format!("the server's answer has no {what}"),
    )
}

/// What is handed in, in a file: it may be larger than what is to be in memory.
fn submission(
    token: u64,
    output: &mut StageOutput,
    took: Duration,
    made_from: &MadeFrom,
) -> io::Result<File> {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let named = made_from.named();
    let named: Map<String, Value> = named
        .map(|(input, tag)| (input.name().to_owned(), json!(tag)))
        .collect();
    // A server of before knows no such field.
    let named = if named.is_empty() {
        String::new()
    } else {
        format!("\"made_from\":{},", Value::Object(named))
    };
    let mut body = BufWriter::new(tempfile::tempfile()?);
    write!(
        body,
        "{{\"fencing_token\":{token},\"took_ms\":{took_ms},{named}\"output\":"
    )?;
    output.write_json(&mut body)?;
    body.write_all(b"}")?;
    body.into_inner().map_err(io::Error::from)
}

/// The texts of chunks, a page of them in memory at a time.
struct PagedTexts<'a> {
    desk: &'a RemoteDesk<'a>,
    page: std::vec::IntoIter<String>,
    /// Where the next page is; none behind the last, and after an error.
    next: Option<String>,
    /// Whether there was a page.
    is_begun: bool,
}

impl PagedTexts<'_> {
    /// Fetches the next page, if there is one.
    fn turn(&mut self) -> Result<(), StageError> {
        let Some(path) = self.next.take() else {
            return Ok(());
        };
        let page = self.desk.patient(|| self.desk.server.get_tagged(&path));
        let (mut page, tag) = page.map_err(cut_anew)?;
        let before = self.desk.read.get().tag(Input::Chunks);
        self.desk.note(Input::Chunks, tag.as_deref());
        let now = self.desk.read.get().tag(Input::Chunks);
        if self.is_begun && before != now {
            return Err(StageError::input_changed("the chunks have another text"));
        }
        self.is_begun = true;
        let items = page["items"]
            .as_array_mut()
            .ok_or_else(|| unclear("chunks"))?;
        let text = |item: &mut Value| match item["text"].take() {
            Value::String(text) => Ok(text),
            _ => Err(unclear("text of a chunk")),
        };
        let texts = items
            .iter_mut()
            .map(text)
            .collect::<Result<Vec<String>, _>>()?;
        self.page = texts.into_iter();
        let first = self.desk.path(&format!("/chunks?limit={PAGE_CHUNKS}"));
        let cursor = page["next_cursor"].as_str();
        self.next = cursor.map(|cursor| format!("{first}&cursor={cursor}"));
        Ok(())
    }
}

/// A place among chunks that are no longer there: the document was cut anew.
fn cut_anew(error: StageError) -> StageError {
    match error {
        StageError::Failed { code, message, .. } if code == "INVALID_CURSOR" => {
            StageError::input_changed(message)
        }
        error => error,
    }
}

impl Iterator for PagedTexts<'_> {
    type Item = Result<String, StageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(text) = self.page.next() {
                return Some(Ok(text));
            }
            self.next.as_ref()?;
            if let Err(error) = self.turn() {
                return Some(Err(error));
            }
        }
    }
}

impl Desk for RemoteDesk<'_> {
    fn task(&self) -> Result<Task, StageError> {
        self.read.take();
        let document = self.document()?;
        let text = |name: &str| document[name].as_str().map(str::to_owned);
        let digest = text("digest").and_then(|digest| digest.parse().ok());
        let chunking = || serde_json::from_value(document["chunking"].clone()).ok();
        let figure = |stage: Stage, name| &document["steps"][stage.name()]["figures"][name];
        let is_done = |stage: &Stage| document["steps"][stage.name()]["status"] == "completed";
        Ok(Task {
            document_id: self.job.document_id,
            digest: digest.ok_or_else(|| unclear("digest"))?,
            media_type: figure(Stage::Validate, "media_type")
                .as_str()
                .map(str::to_owned),
            chunk_count: figure(Stage::Chunk, "chunk_count").as_u64(),
            file_name: text("file_name").ok_or_else(|| unclear("file_name"))?,
            declared_media_type: text("declared_media_type"),
            chunking: self
                .job
                .chunking
                .or_else(chunking)
                .ok_or_else(|| unclear("chunking"))?,
            done: Stage::ALL.into_iter().filter(is_done).collect(),
        })
    }

    fn content(&self) -> Result<Box<dyn Read + Send + '_>, StageError> {
        let file = match self.content.get() {
            Some(file) => file,
            None => {
                let fetched = self.patient(|| self.fetched())?;
                self.content.get_or_init(|| fetched)
            }
        };
        let file = file.reopen().map_err(OwnFile);
        let file = file.map_err(|error| StageError::transient("STORAGE_UNAVAILABLE", error))?;
        Ok(Box::new(file))
    }

    fn text(&self) -> Result<String, StageError> {
        self.patient(|| {
            let (body, tag) = self.server.open_tagged(&self.path("/text"))?;
            self.note(Input::Text, tag.as_deref());
            let length = body.content_length().unwrap_or(0).min(TEXT_BYTES_MAX);
            let mut text = self.room.take();
            text.clear();
            // All of its room at once: growing would hold it twice.
            text.reserve_exact(usize::try_from(length).unwrap_or(0));
            body.into_reader()
                .take(TEXT_BYTES_MAX)
                .read_to_string(&mut text)?;
            Ok(text)
        })
    }

    fn structure(&self) -> Result<Structure, StageError> {
        let read = self.patient(|| self.server.get_tagged(&self.path("/structure")));
        let (structure, tag) = read?;
        self.note(Input::Structure, tag.as_deref());
        serde_json::from_value(structure).map_err(|error| StageError::permanent("BROKEN", error))
    }

    fn chunk_texts(&self) -> Result<ChunkTexts<'_>, StageError> {
        let mut texts = PagedTexts {
            desk: self,
            page: Vec::new().into_iter(),
            next: Some(self.path(&format!("/chunks?limit={PAGE_CHUNKS}"))),
            is_begun: false,
        };
        texts.turn()?;
        Ok(Box::new(texts))
    }

    fn submit(
        &self,
        stage: Stage,
        mut output: StageOutput,
        took: Duration,
    ) -> Result<(), StageError> {
        let attempt = self.lease.attempt();
        let body = submission(attempt.token, &mut output, took, &self.read.get()).map_err(OwnFile);
        let body = body.map_err(|error| StageError::transient("STORAGE_UNAVAILABLE", error))?;
        if let StageOutput::Parsed(parsed) = output {
            self.room.set(parsed.text);
        }
        let path = format!("/api/workers/jobs/{}/stages/{stage}", attempt.job_id);
        let send = || {
            let sent = self.server.post_file(&path, &body);
            sent.map_err(|error| of_sending(error, &body))
        };
        self.patient(send).map(drop)
    }

    fn progress(&self, percent: u8, message: &str) {
        self.lease.tell(percent, message);
    }

    fn stop(&self) -> &Arc<AtomicBool> {
        self.lease.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_says_whether_to_ask_again() {
        let refused = |status, code: &str| {
            anyhow::Error::from(Refused {
                status,
                code: code.to_owned(),
                detail: "why".to_owned(),
                retry_after: Some(Duration::from_secs(7)),
            })
        };
        let unwell = |status, code: &str| {
            anyhow::Error::from(Unwell {
                status,
                code: code.to_owned(),
                detail: "why".to_owned(),
                retry_after: Some(Duration::from_secs(2)),
            })
        };
        let given_up = |error: anyhow::Error| match after(&error) {
            After::GiveUp(error) => Some(error),
            After::AskAgain(_) => None,
        };
        assert_eq!(
            given_up(refused(409, "LEASE_LOST")),
            Some(StageError::LeaseLost)
        );
        assert_eq!(
            given_up(refused(422, "INVALID_OUTPUT")),
            Some(StageError::permanent("INVALID_OUTPUT", "why"))
        );
        let changed = given_up(refused(409, "INPUT_CHANGED"));
        assert!(changed.is_some_and(|error| error.is_input_changed()));
        assert_eq!(
            given_up(unwell(500, "INTERNAL")),
            Some(StageError::transient("INTERNAL", "why"))
        );
        let After::AskAgain(least) = after(&unwell(503, "TOO_MANY_OUTPUTS")) else {
            panic!("it is asked again");
        };
        assert_eq!(least, Some(Duration::from_secs(2)));
        assert_eq!(given_up(unwell(503, "NOT_YET")), None);
        assert_eq!(
            given_up(unwell(503, "SEARCH_UNAVAILABLE")),
            Some(StageError::transient("NOT_INDEXED", "why"))
        );
        assert_eq!(given_up(anyhow::anyhow!("connection refused")), None);
        let full = given_up(OwnFile(io::ErrorKind::StorageFull.into()).into());
        let Some(StageError::Failed {
            code, transient, ..
        }) = full
        else {
            panic!("the worker's disk is no better for being asked again");
        };
        assert_eq!((code.as_str(), transient), ("STORAGE_UNAVAILABLE", true));
        let After::AskAgain(least) = after(&refused(429, "QUEUE_FULL")) else {
            panic!("it is asked again");
        };
        assert_eq!(least, Some(Duration::from_secs(7)));
    }

    /// Breaks off, as a connection does.
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }

    /// A worker whose disk was full asked the server again and again, and kept the job by its
    /// heartbeats.
    #[test]
    fn a_disk_of_ours_that_fails_is_told_from_a_server_that_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("body");
        std::fs::write(&path, "{}").unwrap();
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let own = keep(&b"content"[..], &mut full).unwrap_err();
        assert!(own.is::<OwnFile>(), "{own:#}");
        let away = keep((&b"con"[..]).chain(Broken), &mut Vec::new()).unwrap_err();
        assert!(!away.is::<OwnFile>(), "{away:#}");
        let away = || anyhow::anyhow!("connection reset");
        let readable = File::open(&path).unwrap();
        assert!(!of_sending(away(), &readable).is::<OwnFile>());
        let unreadable = File::options().append(true).open(&path).unwrap();
        assert!(of_sending(away(), &unreadable).is::<OwnFile>());
    }

    #[test]
    fn waits_become_longer_up_to_a_limit() {
        let mut patience = Patience::default();
        let waits: Vec<Duration> = (0..9).map(|_| patience.next()).collect();
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!((waits[0], waits[8]), (WAIT_MIN, WAIT_MAX));
    }
}
