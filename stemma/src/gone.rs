//! What is left of tenants that are gone: their files, and their graphs in Neo4j.
//!
//! Invariant: the directory of a tenant that is gone stays, with a file that names its graph, until
//! that is removed as well, however long Neo4j is out of reach.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stemma_projections::{Neo4jServer, remove_neo4j};

use crate::keys;
use crate::tenant_files::{gone, of_gone, sync_dir};

/// Name of the file that says which graph is to be removed.
const GRAPH: &str = "graph-in-neo4j";

/// How long it is until what could not be removed is tried again.
const AGAIN: Duration = Duration::from_mins(1);

/// Whether something is left, and whether somebody is at it.
#[derive(Debug, Default)]
pub(crate) struct Left(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    UnderWay,
    Since(Instant),
}

impl Left {
    /// Whether it may be begun: nobody is at it.
    pub(crate) fn begin(&self) -> bool {
        let mut state = self.state();
        let is_free = !matches!(*state, State::UnderWay);
        *state = State::UnderWay;
        is_free
    }

    /// It has ended, with or without something left.
    pub(crate) fn end(&self, is_all: bool) {
        *self.state() = if is_all {
            State::Nothing
        } else {
            State::Since(Instant::now())
        };
    }

    /// Whether something is left, and it is time to try again.
    pub(crate) fn is_due(&self) -> bool {
        matches!(*self.state(), State::Since(since) if since.elapsed() >= AGAIN)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The graph of a tenant that is gone.
#[derive(Debug, Serialize, Deserialize)]
struct Graph {
    tenant: String,
    log: String,
}

/// Removes the files of all tenants that are gone, and their graphs from this Neo4j while `goes_on`
/// says yes. Says whether nothing is left. What cannot be removed stays for the next try.
pub(crate) fn remove_all(
    dir: &Path,
    server: Option<&Neo4jServer>,
    goes_on: &mut dyn FnMut() -> bool,
) -> bool {
    let mut is_all = true;
    for place in gone(dir) {
        match remove(&place, server, goes_on) {
            Ok(is_removed) => is_all &= is_removed,
            Err(error) => {
                is_all = false;
                let path = place.display();
                tracing::error!(%path, "what is left of a tenant that is gone stays for now: {error:#}");
            }
        }
    }
    is_all
}

fn remove(
    place: &Path,
    server: Option<&Neo4jServer>,
    goes_on: &mut dyn FnMut() -> bool,
) -> anyhow::Result<bool> {
    let noted = place.join(GRAPH);
    if let Some(graph) = server.and_then(|_| graph_of(place))
        && !noted.exists()
    {
        note(&noted, &graph)?;
    }
    if !noted.exists() {
        std::fs::remove_dir_all(place)?;
        return Ok(true);
    }
    // What people wrote goes at once, whoever is out of reach.
    for entry in std::fs::read_dir(place)? {
        let path = entry?.path();
        if path == noted {
            continue;
        }
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
    }
    let Some(server) = server else {
        // Its graph is where this process does not look.
        return Ok(true);
    };
    if !goes_on() {
        return Ok(false);
    }
    let graph: Graph = serde_json::from_slice(&std::fs::read(&noted)?)?;
    let is_removed = remove_neo4j(server, &graph.tenant, &graph.log, goes_on)?;
    if is_removed {
        std::fs::remove_dir_all(place)?;
    }
    Ok(is_removed)
}

/// The graph of a tenant that is gone; none where it had no log.
fn graph_of(place: &Path) -> Option<Graph> {
    let tenant = of_gone(place)?;
    let log = keys::log_of(place)?;
    Some(Graph {
        tenant: tenant.to_string(),
        log,
    })
}

/// Notes durably which graph is to be removed, before anything is that says so.
fn note(noted: &Path, graph: &Graph) -> io::Result<()> {
    let draft: PathBuf = noted.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(graph)?)?;
    file.sync_all()?;
    drop(file);
    rename(&draft, noted)?;
    noted.parent().map_or(Ok(()), sync_dir)
}

#[allow(clippy::disallowed_methods)] // the directory above is synced behind it
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}
