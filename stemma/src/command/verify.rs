//! `stemma verify`: every stored byte held against what it must be.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use stemma_commands::Commands;
use stemma_content_store::{ContentStore, Digest, OpenError as ContentOpenError};
use stemma_domain::event;
use stemma_event_log::{
    Check, OpenError, Position, ReadError, ReadLimit, Reader, Record, VerifyReport,
};
use stemma_projections::{RebuildError, verify_model};
use stemma_views::graph::Graph;
use stemma_views::{Model, Views};

use super::{against, answer, though_unread, verify_all};
use crate::cli::{Common, Verify};
use crate::config::Settings;
use crate::exit::{Exit, is_interruption};
use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;
use crate::wiring::{
    Places, content_options, graph_options, log_options, open_reader, open_whole_reader,
    views_options,
};

/// What a verification found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The tenant that was looked at.
    tenant: Option<String>,
    events: u64,
    head: Option<String>,
    root: Option<String>,
    damage: Vec<Value>,
    pub(crate) notes: Vec<String>,
}

impl Findings {
    pub(super) fn of(places: &Places) -> Self {
        Self {
            tenant: Some(places.tenant_name()),
            ..Self::default()
        }
    }

    /// Takes what was found of a log.
    pub(super) fn take(&mut self, part: &str, report: &VerifyReport) {
        self.events = report.records;
        self.head = report.head.as_ref().map(|head| head.digest.to_string());
        self.root = report.root.as_ref().map(ToString::to_string);
        for damage in &report.damages {
            let position = damage.position.map(Position::get);
            let place = (damage.file.as_str(), damage.offset, position);
            self.damaged(part, damage.kind.as_str(), place, &damage.detail);
        }
        if let Some(tail) = &report.torn_tail {
            self.notes.push(format!(
                "{} ends in {} bytes that nobody was told of",
                tail.file, tail.bytes
            ));
        }
        if let Some(ended) = &report.ended {
            self.notes
                .push(format!("{part} was not read to its end: {ended}"));
        }
        for file in &report.cut_files {
            self.notes.push(format!(
                "{part}/{} keeps bytes that were cut after a crash",
                file.name
            ));
        }
    }

    pub(crate) fn is_intact(&self) -> bool {
        self.damage.is_empty()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "verdict": if self.is_intact() { "intact" } else { "damaged" },
            "tenant": self.tenant,
            "events": self.events,
            "head": self.head,
            "root": self.root,
            "damage": self.damage,
            "notes": self.notes,
        })
    }

    pub(crate) fn damaged(
        &mut self,
        part: &str,
        kind: &str,
        place: (&str, u64, Option<u64>),
        detail: &str,
    ) {
        let (file, offset, position) = place;
        let file = match file {
            "" => part.to_owned(),
            file => format!("{part}/{file}"),
        };
        self.damage.push(json!({
            "part": part, "kind": kind, "file": file, "offset": offset,
            "position": position, "detail": detail,
        }));
    }

    /// Damage of one blob: named by its digest too, since a blob that is gone has no file.
    fn blob_damaged(
        &mut self,
        kind: &str,
        digest: Digest,
        place: (&str, u64, Option<u64>),
        detail: &str,
    ) {
        self.damaged("content", kind, place, detail);
        if let Some(damage) = self.damage.last_mut() {
            damage["digest"] = json!(digest.to_string());
        }
    }

    /// Blobs that events name and nobody has, in the order of the log.
    fn blobs_missing(&mut self, missing: impl IntoIterator<Item = ([u8; 32], u64)>, detail: &str) {
        let mut missing: Vec<_> = missing.into_iter().collect();
        missing.sort_unstable_by_key(|(digest, position)| (*position, *digest));
        for (digest, position) in missing {
            let digest = Digest::from_bytes(digest);
            let detail = format!("{digest} is named by an event, and {detail}");
            self.blob_damaged("missing", digest, ("", 0, Some(position)), &detail);
        }
    }
}

/// Told how far it is: done, total, and with what; says whether to go on.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(u64, u64, &str) -> ControlFlow<()>;

pub(crate) fn run(common: &Common, settings: &Settings, verify: &Verify) -> anyhow::Result<Exit> {
    let places = Places::of(common, settings)?;
    if verify.all_tenants {
        return verify_all::run(common, settings, verify);
    }
    if let Some(position) = verify.position {
        places.must_exist()?;
        return one(common, settings, &places, position);
    }
    if !places.tenant.is_dir() {
        return Err(places.no_data());
    }
    let found = verify_all::one(&places, settings, verify)?;
    let mut findings = found.ok_or_else(|| places.no_data())?;
    findings.notes.extend(verify_all::left_out(&places));
    though_unread(if common.json {
        answer(&findings.to_json().to_string())
    } else {
        print(&findings)
    })?;
    Ok(findings.exit())
}

/// All of a tenant, as far as it is asked for.
pub(super) fn tenant(
    places: &Places,
    settings: &Settings,
    verify: &Verify,
) -> anyhow::Result<Findings> {
    let mut progress = Progress::new("verifying", 0);
    let mut tell = |done: u64, total: u64, _: &str| {
        progress.set(done, total);
        interrupt::flow()
    };
    let (mut findings, named) = log(places, settings, &mut tell)?;
    if let Some(path) = &verify.against {
        against::check(&mut findings, places, settings, path, verify.key.as_deref())?;
    }
    if !verify.quick {
        // Views are held against the log, whatever has become of the content.
        let log_is_intact = findings.is_intact();
        let verified = content(&mut findings, places, settings, &named, &mut tell);
        findings.not_verified("content was", verified)?;
        if log_is_intact {
            let verified = models(&mut findings, places, settings, &mut tell);
            findings.not_verified("views and graph were", verified)?;
        } else {
            let note = "views and graph were left out, since the log that they are held against is damaged";
            findings.notes.push(note.to_owned());
        }
    }
    progress.finish();
    Ok(findings)
}

/// The verdict first, what it rests on behind it.
pub(super) fn print(findings: &Findings) -> anyhow::Result<()> {
    let verdict = if findings.is_intact() {
        "intact"
    } else {
        "damaged"
    };
    let root = findings.root.as_deref().unwrap_or("none");
    let of = match &findings.tenant {
        Some(tenant) => format!("tenant {tenant}"),
        None => "tokens".to_owned(),
    };
    answer(&format!(
        "{verdict}: {of}, {} events, root {root}",
        findings.events
    ))?;
    for damage in &findings.damage {
        let position = damage["position"]
            .as_u64()
            .map(|p| format!(", position {p}"))
            .unwrap_or_default();
        let (file, offset) = (
            damage["file"].as_str().unwrap_or_default(),
            &damage["offset"],
        );
        let told = |name: &str| damage[name].as_str().unwrap_or_default();
        let (kind, digest, detail) = (told("kind"), told("digest"), told("detail"));
        // Most details name the blob already.
        let digest = if detail.contains(digest) {
            String::new()
        } else {
            format!(", {digest}")
        };
        answer(&format!(
            "damaged: {file} at {offset}{position}{digest} ({kind}): {detail}"
        ))?;
    }
    for note in &findings.notes {
        answer(&format!("note: {note}"))?;
    }
    Ok(())
}

/// Log and content, for a server that verifies itself. A log that is damaged takes no more writes; one
/// that could not be looked at goes on as it was.
pub(crate) fn online(
    places: &Places,
    settings: &Settings,
    commands: &Commands,
    tell: Tell<'_>,
) -> anyhow::Result<Value> {
    let (mut findings, named) = log(places, settings, tell)?;
    // What cannot be decoded is a record as it was written: its place in the chain is sound. What is
    // derived is made anew.
    let is_derived = |damage: &Value| {
        let file = damage["file"].as_str().unwrap_or_default();
        damage["kind"] == "index" || file.starts_with("log/index/")
    };
    let broken = |damage: &&Value| damage["kind"] != "payload" && !is_derived(damage);
    if let Some(damage) = findings.damage.iter().find(broken) {
        let detail = damage["detail"].as_str().unwrap_or_default();
        let file = damage["file"].as_str().unwrap_or_default();
        let told = format!("{file} at {}: {detail}", damage["offset"]);
        commands.appender().stop_for_damage(told);
    }
    let verified = check_content(&mut findings, commands.content(), &named, tell);
    findings.not_verified("content was", verified)?;
    findings
        .notes
        .push("views and graph are compared with the log by a rebuild".to_owned());
    Ok(findings.to_json())
}

/// Content that events name, and where each was named first.
type Named = HashMap<[u8; 32], u64>;

fn log(places: &Places, settings: &Settings, tell: Tell<'_>) -> anyhow::Result<(Findings, Named)> {
    let mut findings = Findings::of(places);
    let mut named = Named::new();
    let mut unread = Vec::new();
    let mut on_record = |record: &Record| match event::decode(
        record.event_type(),
        record.schema_version(),
        record.data(),
    ) {
        Ok(event) => {
            for digest in event.content() {
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
    findings.take("log", &report);
    for (position, problem) in unread {
        findings.damaged("log", "payload", ("", 0, Some(position)), &problem);
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
    if !places.content.is_dir() {
        let named = named.iter().map(|(digest, at)| (*digest, *at));
        findings.blobs_missing(named, "the directory is not there");
        return Ok(());
    }
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
        let kind = damage.kind.as_str();
        let place = (&*damage.file, damage.offset, position);
        if let Some(digest) = damage.digest {
            missing.remove(digest.as_bytes());
            findings.blob_damaged(kind, digest, place, &damage.detail);
        } else {
            findings.damaged("content", kind, place, &damage.detail);
        }
    }
    if let Some(ended) = report.ended {
        findings
            .notes
            .push(format!("content was not read to its end: {ended}"));
        return Ok(());
    }
    // What a writer beside us moved while this read on is looked up once more.
    match store.refresh() {
        Err(error) if error.is_short() => return Err(error.into()),
        _ => {}
    }
    let mut gone = Named::new();
    for (digest, position) in missing {
        match store.contains(&Digest::from_bytes(digest)) {
            Ok(true) => {}
            // It may well be there.
            Err(error) if error.is_short() => return Err(error.into()),
            _ => _ = gone.insert(digest, position),
        }
    }
    findings.blobs_missing(gone, "it is not there");
    for file in &report.cut_files {
        findings
            .notes
            .push(format!("content/{file} had a torn tail that was cut"));
    }
    Ok(())
}

/// The views and the graph, each held against the log.
fn models(
    findings: &mut Findings,
    places: &Places,
    settings: &Settings,
    tell: Tell<'_>,
) -> anyhow::Result<()> {
    let _lock = match places.share_lock()? {
        Ok(lock) => lock,
        Err(holder) => {
            let note = format!(
                "views and graph are in use by process {holder} and were left out; a rebuild compares them"
            );
            findings.notes.push(note);
            return Ok(());
        }
    };
    let reader = open_reader(places, settings)?;
    let (views, graph) = (views_options(settings), graph_options(settings));
    model::<Views>(findings, &reader, &places.views, &views, tell)?;
    model::<Graph>(findings, &reader, &places.graph, &graph, tell)
}

fn model<M: Model>(
    findings: &mut Findings,
    reader: &Reader,
    dir: &Path,
    options: &stemma_views::Options,
    tell: Tell<'_>,
) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("make a directory to fold the log in")?;
    let mut on_progress = |p: stemma_projections::RebuildProgress| tell(p.applied, p.end, M::NAME);
    let folded = scratch.path().join(M::NAME);
    let found = verify_model::<M>(reader, dir, &folded, options, &mut on_progress);
    let found = found.map_err(|error| match error {
        RebuildError::Cancelled => anyhow::Error::new(Interrupted),
        error => anyhow::Error::new(error).context(format!(
            "verify the {} in {}; TMPDIR names another place for it",
            M::NAME,
            scratch.path().display()
        )),
    })?;
    for damage in found {
        findings.damaged(
            M::NAME,
            damage.kind,
            (&damage.file, 0, None),
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
    let (reader, damage) = open_whole_reader(places, settings)?;
    let end = reader.end().get();
    let mut findings = Findings::of(places);
    if position >= end {
        let Some(OpenError::Damaged {
            file, offset, kind, ..
        }) = &damage
        else {
            bail!("there is no position {position}: the log has {end} events");
        };
        let detail = format!("{kind}; whether there is a position {position} cannot be told");
        let place = (file.as_str(), *offset, Some(position));
        findings.damaged("log", kind.as_str(), place, &detail);
        return told_of_one(common, &findings, position);
    }
    let store = ContentStore::open_read_only(&places.content, content_options(settings));
    let store = match store {
        Err(error) if error.is_short() => return Err(error.into()),
        opened => opened.map(|(store, _)| store),
    };
    let read = |position| {
        let limit = ReadLimit {
            records: 1,
            bytes: usize::MAX,
        };
        reader
            .read_checked(Position::new(position), limit, Check::Digest)
            .map(|mut records| records.pop())
    };
    match read(position) {
        Ok(Some(record)) => {
            findings.head = Some(record.digest().to_string());
            if let Some(before) = position.checked_sub(1) {
                match read(before) {
                    Ok(Some(before)) if before.digest() == record.previous() => {}
                    Ok(_) => {
                        let detail = "it does not name the record before it";
                        findings.damaged("log", "chain", ("", 0, Some(position)), detail);
                    }
                    Err(error) => findings.unreadable(&error)?,
                }
            }
            findings.content_of(&record, store.as_ref())?;
        }
        Ok(None) => bail!("there is no position {position}"),
        Err(error) => findings.unreadable(&error)?,
    }
    findings.events = 1;
    told_of_one(common, &findings, position)
}

fn told_of_one(common: &Common, findings: &Findings, position: u64) -> anyhow::Result<Exit> {
    though_unread(if common.json {
        answer(&findings.to_json().to_string())
    } else if let Some(digest) = findings.head.as_ref().filter(|_| findings.is_intact()) {
        answer(&format!("intact: position {position}, {digest}"))
    } else {
        print(findings)
    })?;
    Ok(findings.exit())
}

impl Findings {
    fn exit(&self) -> Exit {
        if self.is_intact() {
            Exit::Done
        } else {
            Exit::Damaged
        }
    }

    /// A part that could not be verified: a failure, unless there is damage to tell of first.
    fn not_verified(&mut self, what: &str, verified: anyhow::Result<()>) -> anyhow::Result<()> {
        match verified {
            Err(error) if !self.is_intact() && !is_interruption(&error) => {
                self.notes.push(format!("{what} not verified: {error:#}"));
                Ok(())
            }
            verified => verified,
        }
    }

    /// Takes a record that cannot be read as damage; what the system refused is none.
    fn unreadable(&mut self, error: &ReadError) -> anyhow::Result<()> {
        let ReadError::Damaged {
            file,
            offset,
            position,
            kind,
        } = error
        else {
            bail!(error.clone());
        };
        let place = (file.as_str(), *offset, Some(position.get()));
        self.damaged("log", kind.as_str(), place, &error.to_string());
        Ok(())
    }

    /// Reads the content that a record names; fails where the system is short of what it needs for
    /// that.
    fn content_of(
        &mut self,
        record: &Record,
        store: Result<&ContentStore, &ContentOpenError>,
    ) -> anyhow::Result<()> {
        let position = record.position().get();
        let event = event::decode(record.event_type(), record.schema_version(), record.data());
        let named = match event {
            Ok(event) => event.content(),
            Err(error) => {
                let place = ("", 0, Some(position));
                self.damaged("log", "payload", place, &error.to_string());
                return Ok(());
            }
        };
        for named in named {
            let digest = Digest::from_bytes(*named.as_bytes());
            let damage = match store.map(|store| store.check(&digest)) {
                Ok(Ok(true)) => continue,
                Ok(Ok(false)) => ("missing", format!("{digest} is named and is not there")),
                Ok(Err(error)) if error.is_short() => return Err(error.into()),
                Ok(Err(error)) => ("damaged", error.to_string()),
                Err(error) => ("missing", format!("{digest}: {error}")),
            };
            self.blob_damaged(damage.0, digest, ("", 0, Some(position)), &damage.1);
        }
        Ok(())
    }
}
