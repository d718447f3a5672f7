//! `stemma stats`: how much there is, and how much room it takes.

use serde_json::json;
use stemma_content_store::ContentStore;
use stemma_event_log::{Position, ReadLimit};

use super::answer;
use crate::cli::Common;
use crate::config::Settings;
use crate::exit::Exit;
use crate::wiring::{Places, content_options, directory_bytes, open_reader};

const STEP: ReadLimit = ReadLimit {
    records: 4096,
    bytes: 8 << 20,
};

pub(crate) fn run(common: &Common, settings: &Settings) -> anyhow::Result<Exit> {
    let places = Places::of(common, settings)?;
    let reader = open_reader(&places, settings)?;
    let (mut next, mut resources) = (0, 0_u64);
    loop {
        let records = reader.read(Position::new(next), STEP)?;
        let Some(last) = records.last() else { break };
        next = last.position().get() + 1;
        let creates = ["resource.created", "resource.cloned"];
        resources += records
            .iter()
            .filter(|record| creates.contains(&record.event_type()))
            .count() as u64;
    }
    let (size, root) = reader.root();
    let disk = reader.disk()?;
    let content = ContentStore::open_read_only(&places.content, content_options(settings)).ok();
    let content = content.map(|(store, _)| store.stats()).unwrap_or_default();
    let (log_bytes, content_bytes, views_bytes) = (
        directory_bytes(&places.log),
        directory_bytes(&places.content),
        directory_bytes(&places.views),
    );
    let head = reader.head();
    let stats = json!({
        "events": size,
        "head": head.map(|head| json!({ "position": head.position.get(), "digest": head.digest.to_string() })),
        "root": root.to_string(),
        "log_id": reader.log_id().to_string(),
        "resources": resources,
        "blobs": content.blobs,
        "blob_bytes": content.bytes,
        "bytes": { "log": log_bytes, "content": content_bytes, "views": views_bytes },
        "files": { "segments": disk.segments, "packs": content.pack_files, "large": content.large_files },
        "engine": settings.text("views.engine"),
    });
    if common.json {
        answer(&stats.to_string())?;
        return Ok(Exit::Done);
    }
    answer(&format!("events     {size}"))?;
    if let Some(head) = head {
        answer(&format!("head       {} {}", head.position, head.digest))?;
    }
    answer(&format!("root       {root}"))?;
    answer(&format!("resources  {resources}"))?;
    answer(&format!(
        "blobs      {} ({} bytes)",
        content.blobs, content.bytes
    ))?;
    answer(&format!(
        "log        {log_bytes} bytes in {} segments",
        disk.segments
    ))?;
    answer(&format!(
        "content    {content_bytes} bytes in {} packs and {} files",
        content.pack_files, content.large_files
    ))?;
    answer(&format!(
        "views      {views_bytes} bytes, {}",
        settings.text("views.engine").unwrap_or_default()
    ))?;
    Ok(Exit::Done)
}
