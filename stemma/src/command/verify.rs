//! `stemma verify`: every stored byte held against what it must be.

use std::collections::HashMap;

use serde_json::{Value, json};
use stemma_content_store::{ContentStore, Digest};
use stemma_domain::event;
use stemma_event_log::{Check, Position, ReadLimit, Record};
use stemma_projections::verify_views;

use super::answer;
use crate::cli::{Common, Verify};
use crate::config::Settings;
use crate::exit::{Damaged, Exit};
use crate::progress::Progress;
use crate::wiring::{Places, content_options, log_options, open_reader, views_options};

/// What a verification found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    events: u64,
    head: Option<String>,
    root: Option<String>,
    damage: Vec<Value>,
    notes: Vec<String>,
}

impl Findings {
    pub(crate) fn is_intact(&self) -> bool {
        self.damage.is_empty()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "verdict": if self.is_intact() { "intact" } else { "damaged" },
            "events": self.events,
            "head": self.head,
            "root": self.root,
            "damage": self.damage,
            "notes": self.notes,
        })
    }

    fn damaged(&mut self, part: &str, kind: &str, place: (&str, u64, Option<u64>), detail: &str) {
        let (file, offset, position) = place;
        self.damage.push(json!({
            "part": part, "kind": kind, "file": format!("{part}/{file}"), "offset": offset,
            "position": position, "detail": detail,
        }));
    }
}

/// Told how far it is: done, total, and with what.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(u64, u64, &str);

pub(crate) fn run(common: &Common, settings: &Settings, verify: &Verify) -> anyhow::Result<Exit> {
    let places = Places::of(common, settings)?;
    places.must_exist()?;
    if let Some(position) = verify.position {
        return one(common, settings, &places, position);
    }
    let mut progress = Progress::new("verifying", 0);
    let mut tell = |done: u64, total: u64, _: &str| progress.set(done, total);
    let mut findings = log(&places, settings, &mut tell)?;
    if !verify.quick {
        let named = std::mem::take(&mut findings.1);
        content(&mut findings.0, &places, settings, &named, &mut tell)?;
        views(&mut findings.0, &places, settings, &mut tell)?;
    }
    progress.finish();
    let findings = findings.0;
    if common.json {
        answer(&findings.to_json().to_string())?;
    } else {
        print(&findings)?;
    }
    Ok(if findings.is_intact() {
        Exit::Done
    } else {
        Exit::Damaged
    })
}

fn print(findings: &Findings) -> anyhow::Result<()> {
    for damage in &findings.damage {
        let position = damage["position"]
            .as_u64()
            .map(|p| format!(", position {p}"))
            .unwrap_or_default();
        let (file, offset) = (
            damage["file"].as_str().unwrap_or_default(),
            &damage["offset"],
        );
        let detail = damage["detail"].as_str().unwrap_or_default();
        answer(&format!("damaged: {file} at {offset}{position}: {detail}"))?;
    }
    for note in &findings.notes {
        answer(&format!("note: {note}"))?;
    }
    let verdict = if findings.is_intact() {
        "intact"
    } else {
        "damaged"
    };
    let root = findings.root.as_deref().unwrap_or("none");
    answer(&format!(
        "{verdict}: {} events, root {root}",
        findings.events
    ))
}

/// Log and content, for a server that verifies itself.
pub(crate) fn online(
    places: &Places,
    settings: &Settings,
    store: &ContentStore,
    tell: Tell<'_>,
) -> anyhow::Result<Value> {
    let (mut findings, named) = log(places, settings, tell)?;
    check_content(&mut findings, store, &named, tell)?;
    findings
        .notes
        .push("views are compared with the log by a rebuild".to_owned());
    Ok(findings.to_json())
}

/// Content that events name, and where each was named first.
type Named = HashMap<[u8; 32], u64>;

fn log(places: &Places, settings: &Settings, tell: Tell<'_>) -> anyhow::Result<(Findings, Named)> {
    let mut findings = Findings::default();
    let mut named = Named::new();
    let mut unread = Vec::new();
    let mut on_record = |record: &Record| match event::decode(
        record.event_type(),
        record.schema_version(),
        record.data(),
    ) {
        Ok(event) => {
            if let Some(digest) = event.content() {
                named
                    .entry(*digest.as_bytes())
                    .or_insert(record.position().get());
            }
        }
        Err(error) => unread.push((record.position().get(), error.to_string())),
    };
    let mut on_progress = |p: stemma_event_log::Progress| tell(p.bytes_done, p.bytes_total, "log");
    let storage = places.storage();
    let report = stemma_event_log::verify(
        &storage,
        &log_options(settings),
        &mut on_progress,
        &mut on_record,
    )?;
    findings.events = report.records;
    findings.head = report.head.map(|head| head.digest.to_string());
    findings.root = report.root.map(|root| root.to_string());
    for damage in &report.damages {
        let position = damage.position.map(Position::get);
        let kind = damage.kind.to_string();
        findings.damaged(
            "log",
            &kind,
            (&damage.file, damage.offset, position),
            &damage.detail,
        );
    }
    for (position, problem) in unread {
        findings.damaged("log", "payload", ("", 0, Some(position)), &problem);
    }
    if let Some(tail) = &report.torn_tail {
        findings.notes.push(format!(
            "{} ends in {} bytes that nobody was told of",
            tail.file, tail.bytes
        ));
    }
    for file in &report.cut_files {
        findings.notes.push(format!(
            "log/{} keeps bytes that were cut after a crash",
            file.name
        ));
    }
    Ok((findings, named))
}

fn content(
    findings: &mut Findings,
    places: &Places,
    settings: &Settings,
    named: &Named,
    tell: Tell<'_>,
) -> anyhow::Result<()> {
    let (store, _) = ContentStore::open_read_only(&places.content, content_options(settings))?;
    check_content(findings, &store, named, tell)
}

fn check_content(
    findings: &mut Findings,
    store: &ContentStore,
    named: &Named,
    tell: Tell<'_>,
) -> anyhow::Result<()> {
    let mut missing = named.clone();
    let mut on_progress =
        |p: stemma_content_store::VerifyProgress| tell(p.done_bytes, p.total_bytes, "content");
    let report = store.verify(&mut on_progress, &mut |digest, _| {
        missing.remove(digest.as_bytes());
    })?;
    for damage in &report.damage {
        let position = damage
            .digest
            .and_then(|digest| named.get(digest.as_bytes()).copied());
        let kind = damage.kind.to_string();
        findings.damaged(
            "content",
            &kind,
            (&damage.file, damage.offset, position),
            &damage.detail,
        );
        if let Some(digest) = damage.digest {
            missing.remove(digest.as_bytes());
        }
    }
    // What a writer beside us moved while this read on is looked up once more.
    store.refresh().ok();
    for (digest, position) in missing {
        let digest = Digest::from_bytes(digest);
        if !store.contains(&digest).unwrap_or(false) {
            let detail = format!("{digest} is named by an event and is not there");
            findings.damaged("content", "missing", ("", 0, Some(position)), &detail);
        }
    }
    for file in &report.cut_files {
        findings
            .notes
            .push(format!("content/{file} had a torn tail that was cut"));
    }
    Ok(())
}

fn views(
    findings: &mut Findings,
    places: &Places,
    settings: &Settings,
    tell: Tell<'_>,
) -> anyhow::Result<()> {
    let _lock = match places.try_lock()? {
        Ok(lock) => lock,
        Err(holder) => {
            let note = format!(
                "views are in use by process {holder} and were left out; its rebuild compares them"
            );
            findings.notes.push(note);
            return Ok(());
        }
    };
    if !findings.is_intact() {
        findings
            .notes
            .push("views were left out, since what they are held against is damaged".to_owned());
        return Ok(());
    }
    let reader = open_reader(places, settings)?;
    let scratch = tempfile::tempdir_in(&places.tenant)?;
    let mut on_progress = |p: stemma_projections::RebuildProgress| tell(p.applied, p.end, "views");
    let options = views_options(settings);
    let found = verify_views(
        &reader,
        &places.views,
        &scratch.path().join("views"),
        &options,
        &mut on_progress,
    )?;
    for damage in found {
        findings.damaged(
            "views",
            damage.kind,
            ("CURRENT", 0, None),
            &format!("{} {}", damage.key, damage.detail),
        );
    }
    Ok(())
}

/// One record: its checksum and digest, its links, its content.
fn one(
    common: &Common,
    settings: &Settings,
    places: &Places,
    position: u64,
) -> anyhow::Result<Exit> {
    let reader = open_reader(places, settings)?;
    let limit = ReadLimit {
        records: 1,
        bytes: usize::MAX,
    };
    let read = reader.read_checked(Position::new(position), limit, Check::Digest);
    let record = read.map_err(|error| Damaged(error.to_string()))?.pop();
    let record =
        record.ok_or_else(|| Damaged(format!("the log ends before position {position}")))?;
    if position > 0 {
        let before = reader.read_checked(Position::new(position - 1), limit, Check::Digest);
        let before = before.map_err(|error| Damaged(error.to_string()))?.pop();
        if before.map(|before| before.digest()) != Some(record.previous()) {
            return Err(Damaged(format!(
                "position {position} does not name the record before it"
            ))
            .into());
        }
    }
    let told =
        json!({ "verdict": "intact", "position": position, "digest": record.digest().to_string() });
    answer(&if common.json {
        told.to_string()
    } else {
        format!("intact: position {position}, {}", record.digest())
    })?;
    Ok(Exit::Done)
}
