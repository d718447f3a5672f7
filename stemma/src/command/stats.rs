//! `stemma stats`: how much there is, and how much room it takes.

use serde_json::{Value, json};
use stemma_content_store::ContentStore;
use stemma_event_log::{Position, ReadError, ReadLimit, Reader};

use super::answer;
use crate::cli::Common;
use crate::config::Settings;
use crate::exit::Exit;
use crate::wiring::{Places, content_options, directory_bytes, open_whole_reader, told};

const STEP: ReadLimit = ReadLimit {
    records: 4096,
    bytes: 8 << 20,
};

pub(crate) fn run(common: &Common, settings: &Settings) -> anyhow::Result<Exit> {
    let places = Places::of(common, settings)?;
    let (reader, damage) = open_whole_reader(&places, settings)?;
    let (resources, unread) = count_resources(&reader);
    let (size, root) = reader.root();
    let disk = reader.disk()?;
    let content = ContentStore::open_read_only(&places.content, content_options(settings)).ok();
    let content = content.map(|(store, _)| store.stats()).unwrap_or_default();
    let bytes = json!({
        "log": directory_bytes(&places.log),
        "content": directory_bytes(&places.content),
        "views": directory_bytes(&places.views),
        "graph": directory_bytes(&places.graph),
        "search": directory_bytes(&places.search),
    });
    let head = reader.head();
    let stats = json!({
        "events": size,
        "head": head.map(|head| json!({ "position": head.position.get(), "digest": head.digest.to_string() })),
        "root": root.to_string(),
        "log_id": reader.log_id().to_string(),
        "resources": resources,
        "blobs": content.blobs,
        "blob_bytes": content.bytes,
        "bytes": bytes,
        "files": { "segments": disk.segments, "packs": content.pack_files, "large": content.large_files },
        "engine": settings.text("views.engine"),
    });
    if common.json {
        answer(&stats.to_string())?;
    } else {
        print(&stats)?;
    }
    match (damage, unread) {
        (Some(damage), _) => Err(told(damage)),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Ok(Exit::Done),
    }
}

/// How many resources the log holds, up to a record that cannot be read.
fn count_resources(reader: &Reader) -> (u64, Option<ReadError>) {
    let (mut next, mut resources) = (0, 0_u64);
    loop {
        let records = match reader.read(Position::new(next), STEP) {
            Ok(records) => records,
            Err(error) => return (resources, Some(error)),
        };
        let Some(last) = records.last() else {
            return (resources, None);
        };
        next = last.position().get() + 1;
        let creates = ["resource.created", "resource.cloned"];
        resources += records
            .iter()
            .filter(|record| creates.contains(&record.event_type()))
            .count() as u64;
    }
}

fn print(stats: &Value) -> anyhow::Result<()> {
    let text = |pointer: &str| match stats.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mut lines = vec![format!("events     {}", text("/events"))];
    if !stats["head"].is_null() {
        let (position, digest) = (text("/head/position"), text("/head/digest"));
        lines.push(format!("head       {position} {digest}"));
    }
    lines.extend([
        format!("root       {}", text("/root")),
        format!("resources  {}", text("/resources")),
        format!(
            "blobs      {} ({} bytes)",
            text("/blobs"),
            text("/blob_bytes")
        ),
        format!(
            "log        {} bytes in {} segments",
            text("/bytes/log"),
            text("/files/segments")
        ),
        format!(
            "content    {} bytes in {} packs and {} files",
            text("/bytes/content"),
            text("/files/packs"),
            text("/files/large")
        ),
        format!(
            "views      {} bytes, {}",
            text("/bytes/views"),
            text("/engine")
        ),
        format!("graph      {} bytes", text("/bytes/graph")),
        format!("search     {} bytes", text("/bytes/search")),
    ]);
    answer(&lines.join("\n"))
}
