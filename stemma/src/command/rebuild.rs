//! `stemma rebuild`: derived state made anew while no server runs.

use std::path::Path;

use anyhow::Context;
use serde_json::json;
use stemma_content_store::ContentStore;
use stemma_event_log::{Log, Reader};
use stemma_projections::{
    Neo4jServer, Neo4jSettings, RebuildOutcome, SearchSettings, Settings as ProjectionSettings,
    rebuild_neo4j, rebuild_offline, rebuild_search,
};

use stemma_views::graph::Graph;
use stemma_views::{Model, Views};

use super::answer;
use crate::cli::{Common, Rebuild, Rebuilt};
use crate::config::Settings;
use crate::exit::{Exit, Usage};
use crate::interrupt;
use crate::progress::Progress;
use crate::wiring::{
    Places, content_options, graph_options, log_options, neo4j, search_options, told, views_options,
};

pub(crate) fn run(common: &Common, settings: &Settings, asked: &Rebuild) -> anyhow::Result<Exit> {
    let places = Places::of(common, settings)?;
    places.must_exist()?;
    let _lock = places.lock()?;
    let (reader, _) = Log::open_read_only(places.storage(), log_options(settings)).map_err(told)?;
    let on = |dir: &Path, views| ProjectionSettings {
        reader: reader.clone(),
        dir: dir.to_path_buf(),
        views,
    };
    if matches!(asked.what, Rebuilt::Views | Rebuilt::All) {
        rebuild::<Views>(common, &on(&places.views, views_options(settings)))?;
    }
    let has_graph = settings.text("graph.mode") != Some("none");
    if asked.what == Rebuilt::Graph && !has_graph {
        let why = "graph.mode is none: there is no graph to rebuild";
        return Err(Usage(why.to_owned()).into());
    }
    if matches!(asked.what, Rebuilt::Graph | Rebuilt::All) && has_graph {
        match neo4j(settings)? {
            Some(server) => rebuild_in(common, server, &reader)?,
            None => rebuild::<Graph>(common, &on(&places.graph, graph_options(settings)))?,
        }
    }
    let has_search = settings.text("search.mode") != Some("none");
    if asked.what == Rebuilt::Search && !has_search {
        let why = "search.mode is none: there is no index to rebuild";
        return Err(Usage(why.to_owned()).into());
    }
    if matches!(asked.what, Rebuilt::Search | Rebuilt::All) && has_search {
        let opened = ContentStore::open_read_only(&places.content, content_options(settings));
        let (content, _) = opened.context("open the content store")?;
        let on = SearchSettings {
            reader: reader.clone(),
            content,
            dir: places.search.clone(),
            options: search_options(settings),
        };
        let mut progress = Progress::new("rebuilding search", reader.end().get());
        let outcome = rebuild_search(&on, &mut |told| {
            progress.set(told.applied, told.end);
            interrupt::flow()
        })?;
        progress.finish();
        tell(common, "search", &outcome)?;
    }
    Ok(Exit::Done)
}

fn rebuild_in(common: &Common, server: Neo4jServer, reader: &Reader) -> anyhow::Result<()> {
    let mut progress = Progress::new("rebuilding graph in Neo4j", reader.end().get());
    let there = Neo4jSettings {
        reader: reader.clone(),
        tenant: common.tenant.clone(),
        server,
    };
    let outcome = rebuild_neo4j(&there, &mut |told| {
        progress.set(told.applied, told.end);
        interrupt::flow()
    })?;
    progress.finish();
    tell(common, Graph::NAME, &outcome)
}

fn rebuild<M: Model>(common: &Common, on: &ProjectionSettings) -> anyhow::Result<()> {
    let doing = format!("rebuilding {}", M::NAME);
    let mut progress = Progress::new(&doing, on.reader.end().get());
    let outcome = rebuild_offline::<M>(on, &mut |told| {
        progress.set(told.applied, told.end);
        interrupt::flow()
    })?;
    progress.finish();
    tell(common, M::NAME, &outcome)
}

fn tell(common: &Common, model: &str, outcome: &RebuildOutcome) -> anyhow::Result<()> {
    if common.json {
        let outcome = json!({
            "model": model,
            "position": outcome.position,
            "digest_live": outcome.digest_live.map(|digest| digest.to_string()),
            "digest_rebuilt": outcome.digest_rebuilt.to_string(),
            "equal": outcome.equal,
            "swapped": outcome.swapped,
        });
        return answer(&outcome.to_string());
    }
    let compared = match (outcome.digest_live, outcome.equal) {
        (Some(_), true) => "as before",
        (Some(_), false) => "unlike before",
        (None, true) => "there was none before",
        (None, false) => "what was before cannot be read",
    };
    let end = outcome.position.map_or(0, |position| position + 1);
    answer(&format!(
        "{model} rebuilt from {end} events: {} ({compared})",
        outcome.digest_rebuilt
    ))
}
