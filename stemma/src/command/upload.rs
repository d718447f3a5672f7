//! `stemma upload`: files become documents of a server, and are followed until they are processed.
//!
//! Invariant: what a file is told to have become is what the server said of it; a file is sent from
//! the disk piece by piece, and the same bytes sent again are the same document.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::answer;
use super::import::{Found, Report, counted, walk_root};
use super::jobs::why;
use crate::api_client::{Refused, Server};
use crate::cli::{Common, Upload};
use crate::exit::Exit;
use crate::interrupt::{self, Interrupted};
use crate::progress::FilesProgress;

pub(super) mod later;
mod sending;

use later::Later;
use sending::Form;

/// Files that are sent at a time.
const UPLOADS_AT_ONCE: usize = 4;
/// Jobs that are looked at in one go, the oldest first.
const JOBS_LOOKED_AT: usize = 32;
/// How often jobs are looked at while none of them ends.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How often a server that went away is asked again, and how much longer is waited each time.
const RECONNECTS_MAX: u32 = 12;
const RECONNECT_WAIT: Duration = Duration::from_millis(100);

/// What became of a file.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_field_names, reason = "as it is told in JSON")]
struct Document {
    path: String,
    bytes: u64,
    document_id: Option<String>,
    job_id: Option<String>,
    is_deduplicated: bool,
    /// That of its job; `not_uploaded` where there is none.
    status: String,
    error: Option<Value>,
}

impl Document {
    fn is_ended(&self) -> bool {
        matches!(
            self.status.as_str(),
            "completed" | "failed" | "cancelled" | "not_uploaded"
        )
    }

    fn is_failed(&self) -> bool {
        self.is_ended() && self.status != "completed"
    }

    /// A file that the server did not take, or that cannot be read.
    fn fail(&mut self, code: &str, message: &str) {
        "not_uploaded".clone_into(&mut self.status);
        let error = json!({
            "code": code, "stage": "upload", "message": message, "transient": false,
        });
        self.error = Some(error);
    }

    fn to_json(&self) -> Value {
        let mut told = json!({
            "path": self.path, "document_id": self.document_id, "job_id": self.job_id,
            "status": self.status,
        });
        if let Some(error) = &self.error {
            told["error"] = error.clone();
        }
        told
    }
}

/// An upload that is going on.
struct Run<'a> {
    server: &'a Server,
    form: Form,
    files: &'a [Found],
    /// The file whose turn it is.
    next: AtomicUsize,
    /// Threads that still send.
    sending: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    documents: Vec<Document>,
    /// Those whose jobs have not ended, the oldest first.
    followed: VecDeque<usize>,
    view: FilesProgress,
    /// Why all of it ends.
    broken: Option<anyhow::Error>,
}

pub(crate) fn run(common: &Common, upload: &Upload) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let form = Form::of(upload)?;
    let server = Server::needed(common)?;
    let (mut files, mut walked) = (Vec::new(), Report::default());
    for path in &upload.paths {
        walk_root(path, &mut files, &mut walked)?;
    }
    let documents = files.iter().map(|file| Document {
        path: file.path.display().to_string(),
        bytes: file.bytes,
        ..Document::default()
    });
    let run = Run {
        server: &server,
        form,
        files: &files,
        next: AtomicUsize::new(0),
        sending: AtomicUsize::new(UPLOADS_AT_ONCE),
        state: Mutex::new(State {
            documents: documents.collect(),
            followed: VecDeque::new(),
            view: FilesProgress::new(files.len() as u64),
            broken: None,
        }),
    };
    std::thread::scope(|scope| {
        for index in 0..UPLOADS_AT_ONCE {
            let named = std::thread::Builder::new().name(format!("upload-{index}"));
            let sender = named.spawn_scoped(scope, || {
                run.send_all();
                run.sending.fetch_sub(1, Ordering::AcqRel);
            });
            if let Err(error) = sender {
                run.sending.fetch_sub(1, Ordering::AcqRel);
                run.broken(anyhow::Error::from(error).context("start a thread that uploads"));
            }
        }
        run.follow_all(!upload.no_wait);
    });
    let state = run.state.into_inner();
    let state = state.unwrap_or_else(PoisonError::into_inner);
    state.view.finish();
    end(common, state.documents, state.broken, &walked, started)
}

/// Tells what came of it.
#[allow(clippy::print_stderr)]
fn end(
    common: &Common,
    mut documents: Vec<Document>,
    broken: Option<anyhow::Error>,
    walked: &Report,
    started: Instant,
) -> anyhow::Result<Exit> {
    let going_on = |document: &&Document| document.job_id.is_some() && !document.is_ended();
    let going_on = documents.iter().filter(going_on).count();
    if let Some(error) = broken {
        return Err(error).context(broken_off(&documents, going_on));
    }
    if interrupt::flow().is_break() {
        eprintln!(
            "the server goes on with {}; `stemma jobs` shows them",
            counted(going_on as u64, "document")
        );
        return Err(Interrupted.into());
    }
    for unread in &walked.unreadable {
        let mut document = Document {
            path: unread.path.display().to_string(),
            ..Document::default()
        };
        document.fail("UNREADABLE", &unread.why);
        documents.push(document);
    }
    for document in documents.iter().filter(|document| document.is_failed()) {
        let why = document.error.as_ref().map(why).unwrap_or_default();
        eprintln!("{}: {}: {why}", document.status, document.path);
    }
    let told = told(&documents, started.elapsed().as_secs_f64());
    if common.json {
        answer(&told.to_string())?;
    } else {
        let number = |name: &str| told[name].as_u64().unwrap_or(0);
        answer(&format!(
            "{}, {} in {:.1} s: {} uploaded, {} there already; {} completed, {} failed",
            counted(number("files"), "file"),
            counted(number("bytes"), "byte"),
            started.elapsed().as_secs_f64(),
            number("uploaded"),
            number("deduplicated"),
            number("completed"),
            number("failed"),
        ))?;
        if walked.links > 0 {
            answer(&format!("{} not followed", counted(walked.links, "link")))?;
        }
        if going_on > 0 {
            let going_on = counted(going_on as u64, "document");
            answer(&format!(
                "the server goes on with {going_on}; `stemma jobs` shows them"
            ))?;
        }
    }
    Ok(if documents.iter().any(Document::is_failed) {
        Exit::Failed
    } else {
        Exit::Done
    })
}

/// What became of the files where all of it ends early.
fn broken_off(documents: &[Document], going_on: usize) -> String {
    let files = counted(documents.len() as u64, "file");
    let sent = documents.iter().filter(|d| d.document_id.is_some());
    match sent.count() {
        0 => format!("the server has none of {files}"),
        sent => format!(
            "the server has {sent} of {files} and goes on with {going_on}; run it again, and what is there is not sent twice"
        ),
    }
}

fn told(documents: &[Document], seconds: f64) -> Value {
    let count = |is: &dyn Fn(&Document) -> bool| documents.iter().filter(|d| is(d)).count();
    let sent = documents.iter().filter(|d| d.document_id.is_some());
    json!({
        "files": documents.len(),
        "uploaded": count(&|d| d.document_id.is_some() && !d.is_deduplicated),
        "deduplicated": count(&|d| d.is_deduplicated),
        "completed": count(&|d| d.status == "completed"),
        "failed": count(&Document::is_failed),
        "bytes": sent.map(|d| d.bytes).sum::<u64>(),
        "seconds": seconds,
        "documents": documents.iter().map(Document::to_json).collect::<Vec<_>>(),
    })
}

impl Run<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why all of it ends.
    fn broken(&self, error: anyhow::Error) {
        self.state().broken.get_or_insert(error);
    }

    fn is_ending(&self) -> bool {
        interrupt::flow().is_break() || self.state().broken.is_some()
    }

    /// Looks at jobs until all files are sent and, when it is to wait, all jobs have ended.
    fn follow_all(&self, waits: bool) {
        let (mut away, mut later) = (0, Later::default());
        loop {
            let has_sent = self.sending.load(Ordering::Acquire) == 0;
            let window: Vec<usize> = {
                let mut state = self.state();
                state.show();
                let many = state.followed.len().min(JOBS_LOOKED_AT);
                state.followed.drain(..many).collect()
            };
            if self.is_ending() || (has_sent && (window.is_empty() || !waits)) {
                return;
            }
            if !waits {
                self.put_back(window);
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            match self.look_at(&window) {
                Ok(ended) => {
                    (away, later) = (0, Later::default());
                    if ended == 0 {
                        interrupt::rest(LOOK_EVERY);
                    }
                }
                Err(error) => {
                    if let Some(wait) = later.wait(&error) {
                        interrupt::rest(wait);
                        continue;
                    }
                    away += 1;
                    if away > RECONNECTS_MAX {
                        self.broken(error);
                        return;
                    }
                    interrupt::rest(RECONNECT_WAIT * away);
                }
            }
        }
    }

    fn put_back(&self, window: Vec<usize>) {
        let followed = &mut self.state().followed;
        window
            .into_iter()
            .rev()
            .for_each(|index| followed.push_front(index));
    }

    /// Looks at some jobs; gives how many have ended. Those that have not are followed further.
    fn look_at(&self, window: &[usize]) -> anyhow::Result<usize> {
        let (mut same, mut later, mut ended) = (Vec::new(), Vec::new(), 0);
        let mut away = None;
        for &index in window {
            if away.is_some() || interrupt::flow().is_break() {
                same.push(index);
                continue;
            }
            let id = self.state().documents[index].job_id.clone();
            let job = self
                .server
                .get(&format!("/api/jobs/{}", id.unwrap_or_default()));
            match job {
                Ok(job) if self.note(index, &job) => ended += 1,
                // Others are looked at while it waits.
                Ok(job) if job["status"] == "retrying" => later.push(index),
                Ok(_) => same.push(index),
                Err(error) => match error.downcast_ref::<Refused>() {
                    // That too many ask says nothing of the file, which is there.
                    Some(refused) if !matches!(refused.status, 408 | 429) => {
                        self.state().documents[index].fail(&refused.code, &refused.detail);
                        ended += 1;
                    }
                    _ => {
                        same.push(index);
                        away = Some(error);
                    }
                },
            }
        }
        self.put_back(same);
        self.state().followed.extend(later);
        away.map_or(Ok(ended), Err)
    }

    /// Notes how far a job is; gives whether it has ended.
    fn note(&self, index: usize, job: &Value) -> bool {
        let file = self.files[index].source_path.as_str();
        let mut state = self.state();
        let State {
            documents, view, ..
        } = &mut *state;
        let document = &mut documents[index];
        job["status"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut document.status);
        if !document.is_ended() {
            if document.status == "processing" {
                let doing = job["message"].as_str().unwrap_or_default();
                view.at(file, job["progress"].as_u64().unwrap_or(0), doing);
            }
            return false;
        }
        view.left(file);
        document.error = match document.status.as_str() {
            "failed" => Some(job["error"].clone()),
            "cancelled" => Some(json!({ "code": "CANCELLED", "message": "the job was cancelled" })),
            _ => None,
        };
        true
    }
}

impl State {
    fn show(&mut self) {
        let count =
            |is: &dyn Fn(&Document) -> bool| self.documents.iter().filter(|d| is(d)).count();
        let ended = count(&Document::is_ended) as u64;
        let sent = count(&|d| d.document_id.is_some());
        let failed = count(&Document::is_failed);
        let total = self.documents.len() as u64;
        self.view
            .set(ended, total, &format!("{sent} uploaded, {failed} failed"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_off_tells_how_much_was_uploaded() {
        let mut documents = vec![Document::default(), Document::default()];
        assert_eq!(broken_off(&documents, 0), "the server has none of 2 files");
        documents[1].document_id = Some("one".to_owned());
        let told = broken_off(&documents, 1);
        assert!(
            told.starts_with("the server has 1 of 2 files and goes on with 1;"),
            "{told}"
        );
    }
}
