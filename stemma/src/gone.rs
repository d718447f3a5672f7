//! What is left of tenants that are gone: their files, and their graphs in Neo4j.
//!
//! Invariant: the directory of a tenant that is gone stays, with a file that names its graph, until
//! that is removed as well, however long Neo4j is out of reach.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
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
    UnderWay {
        /// Whether more was to be removed meanwhile: who is at it may not have seen that.
        again: bool,
    },
    /// More came while somebody was at it.
    Due,
    Since(Instant),
}

/// Somebody who is at it. Ends that when it is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct AtIt<'a> {
    left: &'a Left,
    /// Whether nothing is left.
    pub(crate) is_all: bool,
}

impl Drop for AtIt<'_> {
    fn drop(&mut self) {
        self.left.end(self.is_all);
    }
}

impl Left {
    /// Whether it may be begun: nobody is at it. Where somebody is, it is due once they have ended.
    pub(crate) fn begin(&self) -> bool {
        let mut state = self.state();
        let is_free = !matches!(*state, State::UnderWay { .. });
        *state = State::UnderWay { again: !is_free };
        is_free
    }

    /// What ends it that was begun.
    pub(crate) const fn at_it(&self) -> AtIt<'_> {
        AtIt {
            left: self,
            is_all: false,
        }
    }

    /// It has ended, with or without something left.
    pub(crate) fn end(&self, is_all: bool) {
        let mut state = self.state();
        *state = if matches!(*state, State::UnderWay { again: true }) {
            State::Due
        } else if is_all {
            State::Nothing
        } else {
            State::Since(Instant::now())
        };
    }

    /// Whether something is left, and it is time to try again.
    pub(crate) fn is_due(&self) -> bool {
        match *self.state() {
            State::Due => true,
            State::Since(since) => since.elapsed() >= AGAIN,
            State::Nothing | State::UnderWay { .. } => false,
        }
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
/// says yes, which is asked all the time. Says whether nothing is left. What cannot be removed stays
/// for the next try.
pub(crate) fn remove_all(
    dir: &Path,
    server: Option<&Neo4jServer>,
    goes_on: &(dyn Fn() -> bool + Sync),
) -> bool {
    let places = match gone(dir) {
        Ok(places) => places,
        Err(error) => {
            tracing::error!(%error, "the tenants that are gone are not known");
            return false;
        }
    };
    let mut is_all = true;
    for place in places {
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
    goes_on: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<bool> {
    let noted = place.join(GRAPH);
    let graph = match read(&noted).context("read which graph is to be removed")? {
        Note::Read(graph) => Some(graph),
        Note::Missing if server.is_none() => None,
        Note::Missing => noted_by_key(place, &noted)?,
        Note::Broken => {
            let graph = noted_by_key(place, &noted)?;
            if graph.is_none() {
                let path = place.display();
                tracing::error!(%path, "which graph a tenant had that is gone cannot be read: it stays in Neo4j");
            }
            graph
        }
    };
    let Some(graph) = graph else {
        std::fs::remove_dir_all(place)?;
        return Ok(true);
    };
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
    let is_in_use = || is_in_use(place, &graph);
    if is_in_use().context("read whose graph it is now")? {
        std::fs::remove_dir_all(place)?;
        return Ok(true);
    }
    let goes_on = || goes_on() && matches!(is_in_use(), Ok(false));
    let is_removed = remove_neo4j(server, &graph.tenant, &graph.log, &goes_on)?;
    if is_removed {
        std::fs::remove_dir_all(place)?;
    }
    Ok(is_removed)
}

/// Whether a tenant that was brought back meanwhile has the same log, and so the same graph.
///
/// # Errors
/// Also while that cannot be told.
fn is_in_use(place: &Path, graph: &Graph) -> io::Result<bool> {
    let tenant = place.with_file_name(&graph.tenant);
    match keys::log_of(&tenant)? {
        Some(log) => Ok(log == graph.log),
        // Its key is made when it is opened.
        None if tenant.join("log").try_exists()? => Err(io::Error::other(
            "the tenant that has its name now has a log and no key yet",
        )),
        None => Ok(false),
    }
}

/// What the file says that names a graph.
enum Note {
    Missing,
    Broken,
    Read(Graph),
}

fn read(noted: &Path) -> io::Result<Note> {
    match std::fs::read(noted) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_or(Note::Broken, Note::Read)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Note::Missing),
        Err(error) => Err(error),
    }
}

/// Notes the graph of a tenant that is gone, as its key says; none where it had no log.
fn noted_by_key(place: &Path, noted: &Path) -> anyhow::Result<Option<Graph>> {
    let Some(tenant) = of_gone(place) else {
        return Ok(None);
    };
    let log = match keys::log_of(place) {
        // No later try reads it.
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let path = place.display();
            tracing::error!(%path, %error, "which graph a tenant had that is gone is not known: it stays in Neo4j");
            None
        }
        read => read.context("read the key of a tenant that is gone")?,
    };
    let graph = log.map(|log| Graph {
        tenant: tenant.to_string(),
        log,
    });
    if let Some(graph) = &graph {
        note(place, noted, graph).context("note which graph is to be removed")?;
    }
    Ok(graph)
}

/// Notes durably which graph is to be removed, before anything is that says so.
fn note(place: &Path, noted: &Path, graph: &Graph) -> io::Result<()> {
    // Of a name that nobody else writes to.
    let mut draft = tempfile::NamedTempFile::new_in(place)?;
    draft.write_all(&serde_json::to_vec(graph)?)?;
    draft.as_file().sync_all()?;
    draft.persist(noted).map_err(|error| error.error)?;
    sync_dir(place)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use stemma_event_log::LogId;

    use super::*;

    const LOG: [u8; 16] = [7; 16];

    /// A Neo4j that is never asked here.
    fn server() -> Neo4jServer {
        Neo4jServer {
            uri: "bolt://127.0.0.1:1".to_owned(),
            user: "neo4j".to_owned(),
            password: String::new(),
            database: None,
            ca_file: None,
        }
    }

    /// A directory with what is left of north, and its place.
    fn left_of_north() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(".deleted-north-0");
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("text"), "what people wrote").unwrap();
        (dir, place)
    }

    fn make_key(tenant: &Path, log: [u8; 16]) {
        std::fs::create_dir_all(tenant).unwrap();
        keys::load_or_make(tenant, LogId::from_bytes(log)).unwrap();
    }

    fn is_all_removed(dir: &Path) -> bool {
        remove_all(dir, Some(&server()), &|| false)
    }

    /// The files of the second stayed until the next start.
    #[test]
    fn a_tenant_that_is_deleted_while_another_is_removed_is_due_once_that_has_ended() {
        let left = Left::default();
        assert!(left.begin());
        assert!(!left.begin());
        assert!(!left.is_due());
        left.end(true);
        assert!(left.is_due());
        assert!(left.begin());
        left.end(true);
        assert!(!left.is_due());
    }

    #[test]
    fn whoever_was_at_it_and_panicked_leaves_it_to_others() {
        let left = Left::default();
        assert!(left.begin());
        let panicked = std::panic::catch_unwind(|| {
            let _at_it = left.at_it();
            panic!("a mistake");
        });
        assert!(panicked.is_err());
        assert!(left.begin());
    }

    /// It lost its live graph to the deletion of before.
    #[test]
    fn a_tenant_that_was_brought_back_keeps_its_graph() {
        let (dir, place) = left_of_north();
        make_key(&place, LOG);
        let north = dir.path().join("north");
        make_key(&north, [8; 16]);
        assert!(!is_all_removed(dir.path()), "another log is not in use");
        assert!(place.join(GRAPH).is_file());
        std::fs::remove_dir_all(&north).unwrap();
        std::fs::create_dir_all(north.join("log")).unwrap();
        assert!(!is_all_removed(dir.path()), "its log is not known yet");
        assert!(place.join(GRAPH).is_file());
        make_key(&north, LOG);
        assert!(is_all_removed(dir.path()));
        assert!(!place.exists());
        assert!(north.join(keys::NAME).is_file());
    }

    /// After a crash the empty file was in the way for ever.
    #[test]
    fn a_note_that_cannot_be_read_is_made_again_from_the_key_or_given_up() {
        let (dir, place) = left_of_north();
        make_key(&place, LOG);
        std::fs::write(place.join(GRAPH), "").unwrap();
        assert!(!is_all_removed(dir.path()));
        assert!(!place.join(keys::NAME).exists());
        let Note::Read(graph) = read(&place.join(GRAPH)).unwrap() else {
            panic!("it was not made again");
        };
        assert_eq!(graph.log, LogId::from_bytes(LOG).to_string());
        std::fs::write(place.join(GRAPH), "").unwrap();
        assert!(is_all_removed(dir.path()));
        assert!(!place.exists());
    }

    /// It was taken for none, and the graph stayed for ever.
    #[test]
    fn a_key_that_cannot_be_read_now_is_tried_again_before_a_file_is_removed() {
        let (dir, place) = left_of_north();
        std::fs::create_dir(place.join(keys::NAME)).unwrap();
        assert!(!is_all_removed(dir.path()));
        assert!(place.join("text").is_file());
        std::fs::remove_dir(place.join(keys::NAME)).unwrap();
        std::fs::write(place.join(keys::NAME), "no key").unwrap();
        assert!(is_all_removed(dir.path()), "no later try reads it");
    }
}
