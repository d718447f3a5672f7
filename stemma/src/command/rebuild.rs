//! `stemma rebuild`: derived state made anew while no server runs.

use serde_json::json;
use stemma_event_log::Log;
use stemma_projections::{Settings as ProjectionSettings, rebuild_offline};

use super::answer;
use stemma_views::Views;

use crate::cli::{Common, Rebuild};
use crate::config::Settings;
use crate::exit::Exit;
use crate::interrupt;
use crate::progress::Progress;
use crate::wiring::{Places, log_options, told, views_options};

pub(crate) fn run(common: &Common, settings: &Settings, _: &Rebuild) -> anyhow::Result<Exit> {
    let places = Places::of(common, settings)?;
    places.must_exist()?;
    let _lock = places.lock()?;
    let (reader, _) = Log::open_read_only(places.storage(), log_options(settings)).map_err(told)?;
    let on = ProjectionSettings {
        reader,
        dir: places.views.clone(),
        views: views_options(settings),
    };
    let mut progress = Progress::new("rebuilding views", on.reader.end().get());
    let outcome = rebuild_offline::<Views>(&on, &mut |told| {
        progress.set(told.applied, told.end);
        interrupt::flow()
    })?;
    progress.finish();
    if common.json {
        let outcome = json!({
            "position": outcome.position,
            "digest_live": outcome.digest_live.to_string(),
            "digest_rebuilt": outcome.digest_rebuilt.to_string(),
            "equal": outcome.equal,
            "swapped": outcome.swapped,
        });
        answer(&outcome.to_string())?;
    } else {
        let compared = if outcome.equal {
            "as before"
        } else {
            "unlike the views before"
        };
        let end = outcome.position.map_or(0, |position| position + 1);
        answer(&format!(
            "views rebuilt from {end} events: {} ({compared})",
            outcome.digest_rebuilt
        ))?;
    }
    Ok(Exit::Done)
}
