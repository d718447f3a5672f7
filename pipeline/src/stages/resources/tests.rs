//! What a model writes, over a log in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use stemma_content_store::{DamageKind, ReadError};
use stemma_domain::id::JobId;
use stemma_domain::value::JobKind;
use stemma_inference::{Completion, FinishReason, InferenceError};
use stemma_jobs::{Handler, NewJob, Workers};
use uuid::Uuid;

use super::*;
use crate::stages::queued::queue;

/// How long an attempt is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Writes the same each time, and counts how often.
struct Writer(AtomicU64);

impl Completer for Writer {
    fn model(&self) -> &'static str {
        "quill-1"
    }

    fn complete(
        &self,
        _prompt: &Prompt,
        _on_delta: &mut dyn FnMut(&str),
        _stop: &Stop,
    ) -> Result<Completion, InferenceError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Completion {
            text: "Öl on water.".to_owned(),
            finish_reason: FinishReason::Stop,
            usage: None,
        })
    }
}

/// Breaks its first attempt off behind what it wrote, before that is noted of the job.
struct BrokenOff {
    writer: Writer,
    results: Mutex<mpsc::Sender<Result<Metadata, String>>>,
}

impl Handler for BrokenOff {
    fn kinds(&self) -> Vec<JobKind> {
        vec![JobKind::new(GENERATE).unwrap()]
    }

    fn run(&self, work: &Work) -> Result<Outcome, Failed> {
        let result = generate(work, &self.writer);
        let told = result.as_ref().map_err(|error| format!("{error:?}"));
        let told = told.cloned();
        self.results.lock().unwrap().send(told).unwrap();
        let error = JobError {
            code: "BROKEN_OFF".to_owned(),
            message: String::new(),
            stage: None,
            transient: true,
        };
        Err((error, Some(Duration::ZERO)))
    }
}

/// A server that was killed between the two had the model write it again, could not create what
/// was there, and gave the job up.
#[test]
fn what_a_model_wrote_before_its_job_was_broken_off_is_not_written_again() {
    let queue = queue();
    let (sender, results) = mpsc::channel();
    let handler = Arc::new(BrokenOff {
        writer: Writer(AtomicU64::new(0)),
        results: Mutex::new(sender),
    });
    let id = ResourceId::new(Uuid::from_u128(7 << 64));
    let payload = json!({ "resource_id": id, "prompt": "Tell of it.", "name": "n",
        // What is no text to us is written all the same.
        "media_type": "image/svg+xml" });
    let new = NewJob {
        id: JobId::new(Uuid::from_u128(77)),
        kind: JobKind::new(GENERATE).unwrap(),
        payload: payload.as_object().unwrap().clone(),
        priority: 0,
        max_retries: Some(1),
        document_id: None,
        trace_id: "t".into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    runtime.block_on(queue.submit(new, "ada", None)).unwrap();
    let doing: Arc<dyn Handler> = handler.clone();
    let mut workers = Workers::start(&queue, &doing).unwrap();
    let first = results.recv_timeout(PATIENCE).unwrap().unwrap();
    let second = results.recv_timeout(PATIENCE).unwrap().unwrap();
    workers.stop();
    assert_eq!(second, first);
    assert_eq!(first["characters"], 12);
    assert_eq!(handler.writer.0.load(Ordering::Relaxed), 1);
}

/// Too many open files made of a text that was sound one that is damaged, and the job ended.
#[test]
fn a_text_that_cannot_be_read_for_now_is_read_again_and_one_that_is_damaged_is_not() {
    let passing = ReadError::Io {
        file: "packs/1".to_owned(),
        source: Arc::new(std::io::Error::from_raw_os_error(24)),
    };
    let damaged = ReadError::Damaged {
        digest: Digest::of(b"text"),
        file: "packs/1".to_owned(),
        offset: 7,
        kind: DamageKind::Payload,
    };
    for (error, expected) in [
        (passing, ("STORAGE_UNAVAILABLE", true)),
        (damaged, ("CONTENT_DAMAGED", false)),
    ] {
        let StageError::Failed {
            code, transient, ..
        } = of_text(TextError::Read(error))
        else {
            panic!("it failed");
        };
        assert_eq!((code.as_str(), transient), expected);
    }
}
