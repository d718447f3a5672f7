//! `stemma verify --against`: whether a log goes on from what was signed before.

use std::path::Path;

use anyhow::anyhow;

use super::prove::{Borrowed, key_in, read};
use super::verify::Findings;
use crate::config::Settings;
use crate::keys;
use crate::wiring::{Places, open_whole_reader};

/// Holds the log against a checkpoint that was kept elsewhere: a log that was cut back or rewritten
/// since is whole in itself, and only this shows it.
pub(crate) fn check(
    findings: &mut Findings,
    places: &Places,
    settings: &Settings,
    checkpoint: &Path,
    key: Option<&Path>,
) -> anyhow::Result<()> {
    let (reader, _) = open_whole_reader(places, settings)?;
    let key = match key {
        Some(path) => key_in(path)?,
        None => keys::load(&places.tenant, reader.log_id())
            .map_err(|problem| anyhow!("{problem}; name the key with --key"))?
            .verifier()
            .clone(),
    };
    let note = read(checkpoint)?;
    let signed = key
        .check(&note)
        .map_err(|error| anyhow!("{}: {error}", checkpoint.display()))?;
    let end = reader.end().get();
    let origin = keys::origin(reader.log_id());
    let size = signed.size;
    let place = ("", 0, Some(end.min(size)));
    if signed.origin != origin {
        let detail = format!(
            "the log is {origin}, the checkpoint is of {}",
            signed.origin
        );
        findings.damaged("log", "foreign", place, &detail);
    } else if size > end {
        let detail =
            format!("the log has {end} events, and {size} were signed for: it was cut back");
        findings.damaged("log", "cut_back", place, &detail);
    } else if findings.is_intact() && size > 0 {
        let root = Borrowed::over(&reader)?.tree.root_at(size)?;
        if root == signed.root {
            let note = format!("the log goes on from the checkpoint of {size} events");
            findings.notes.push(note);
        } else {
            let detail = format!("the first {size} events are not those that were signed for");
            findings.damaged("log", "rewritten", ("", 0, None), &detail);
        }
    }
    Ok(())
}
