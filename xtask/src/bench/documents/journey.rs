//! One document on its way: uploaded, and watched until it is completed, with the memory of who
//! works on it.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::Bench;
use crate::bench::load::Connection;
use crate::bench::server::{Server, status_of};
use crate::run::{command, run};

/// How often it is looked how far a document is.
const LOOK: Duration = Duration::from_millis(25);
/// How long one may take.
const PATIENCE: Duration = Duration::from_mins(6);

/// A file to be uploaded.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) media_type: &'static str,
    pub(super) bytes: Vec<u8>,
    /// A word that stands at its end and nowhere else.
    pub(super) last_word: &'static str,
}

/// When a document was how far, from the beginning of its upload on.
pub(super) struct Journey {
    pub(super) accepted: Duration,
    pub(super) parsed: Duration,
    pub(super) found_by_text: Duration,
    pub(super) found_by_vector: Duration,
    pub(super) completed: Duration,
    /// What each stage took who did it, in milliseconds.
    pub(super) stages_ms: BTreeMap<String, u64>,
    pub(super) chunks: u64,
    /// The most that a process had resident which one of those that were watched had started.
    pub(super) parser_kib: u64,
}

/// Uploads a file and watches it until its job is completed.
///
/// # Errors
/// It failed, or took too long.
pub(super) fn take(
    connection: &mut Connection,
    file: &File,
    watched: &[u32],
) -> anyhow::Result<Journey> {
    let started = Instant::now();
    let accepted = connection.upload(file.name, file.media_type, &file.bytes)?;
    let accepted_after = started.elapsed();
    let accepted: Value = serde_json::from_str(&accepted)?;
    let text = |name: &str| accepted[name].as_str().map(str::to_owned).context("an id");
    let (id, job) = (text("document_id")?, text("job_id")?);
    let (mut parsed, mut found_by_text, mut found_by_vector) = (None, None, None);
    let mut parser_kib = 0;
    let completed = loop {
        anyhow::ensure!(started.elapsed() < PATIENCE, "{} takes too long", file.name);
        parser_kib = parser_kib.max(peak_of_children(watched));
        let document = get(connection, &format!("/api/documents/{id}"))?;
        if document["steps"]["parse"]["status"] == "completed" {
            parsed.get_or_insert_with(|| started.elapsed());
        }
        let is_cut = document["steps"]["chunk"]["status"] == "completed";
        if is_cut && found_by_text.is_none() {
            let path = format!("/api/search?mode=text&q={}", file.last_word);
            if finds(connection, &path, &id)? {
                found_by_text = Some(started.elapsed());
            }
        }
        let has_vectors = document["steps"]["embed"]["status"] == "completed";
        if has_vectors && found_by_vector.is_none() {
            let path = "/api/search?mode=vector&limit=100&q=moons+of+Jupiter";
            if finds(connection, path, &id)? {
                found_by_vector = Some(started.elapsed());
            }
        }
        let job = get(connection, &format!("/api/jobs/{job}"))?;
        match job["status"].as_str() {
            Some("completed") if found_by_text.is_some() && found_by_vector.is_some() => {
                break started.elapsed();
            }
            Some("queued" | "processing" | "completed") => std::thread::sleep(LOOK),
            _ => anyhow::bail!("{}: {job}", file.name),
        }
    };
    let document = get(connection, &format!("/api/documents/{id}"))?;
    Ok(Journey {
        accepted: accepted_after,
        parsed: parsed.context("it was parsed")?,
        found_by_text: found_by_text.context("it was found")?,
        found_by_vector: found_by_vector.context("it was found")?,
        completed,
        stages_ms: stages(connection, &id)?,
        chunks: document["chunk_count"].as_u64().context("its chunks")?,
        parser_kib,
    })
}

fn get(connection: &mut Connection, path: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&connection.get(path)?)?)
}

fn finds(connection: &mut Connection, path: &str, id: &str) -> anyhow::Result<bool> {
    let page = get(connection, path)?;
    let items = page["items"].as_array();
    Ok(items.is_some_and(|items| items.iter().any(|item| item["resource_id"] == id)))
}

/// What each stage took who did it, as the events say.
fn stages(connection: &mut Connection, id: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let path = "/api/events?after=start&limit=500&type=document.stage_completed";
    let page = get(connection, path)?;
    let events = page["items"].as_array().context("events")?;
    let of_it = events.iter().map(|event| &event["data"]);
    let of_it = of_it.filter(|data| data["document_id"] == id);
    let stage = |data: &Value| {
        let stage = data["stage"].as_str()?.to_owned();
        Some((stage, data["took_ms"].as_u64()?))
    };
    Ok(of_it.filter_map(stage).collect())
}

/// The most that a process has had resident that one of these has started and that still runs.
fn peak_of_children(parents: &[u32]) -> u64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| parents.contains(&(status_of(*id, "PPid:") as u32));
    ids.filter(is_child)
        .map(|id| status_of(id, "VmHWM:"))
        .max()
        .unwrap_or(0)
}

/// A worker outside the server, ended by its process id when it is dropped.
pub(super) struct Worker(Child);

impl Worker {
    /// Starts one that works on one document at a time.
    pub(super) fn start(bench: &Bench, server: &Server) -> anyhow::Result<Self> {
        let child = Command::new(&bench.binaries.stemma)
            .args(["worker", "--slots", "1", "--name", "bench", "--server"])
            .arg(format!("http://{}", server.host))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.map(Self).context("start a worker")
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to stop, and waits.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        run(command("kill", &["-TERM", &self.0.id().to_string()]))?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
