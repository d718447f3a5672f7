//! Making the graph in Neo4j anew, beside the one that is asked.
//!
//! A new generation is filled on the caller's thread. Close to the head it is handed to the thread
//! that follows, which keeps both at the same position, compares them slice by slice between
//! batches, and has the new one take the place of the old in one transaction. Killed at any point,
//! the live one is as it was, and what is left of the new one is removed by the next start.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use neo4rs::query;
use stemma_event_log::Reader;
use stemma_views::StateHasher;

use super::Shared;
use super::client::{Client, Neo4jError, Neo4jSettings};
use super::feed::{self, FeedError};
use super::follow::must_be_of_log;
use super::generation::{Generation, Owner, SHORT, Use, all, make};
use super::nodes::Stored;
use crate::lockstep::Live;
use crate::rebuild::{
    Place, RebuildControl, RebuildError, RebuildOutcome, RebuildPhase, RebuildProgress,
};
use crate::runner::{causes, read};

/// Records of one transaction of a generation that nobody asks yet.
const FILL_RECORDS: usize = 5000;
/// Records behind the head at which the generation is handed over.
const HAND_OVER: u64 = 2000;
/// Nodes that are compared between two batches.
const SLICE_NODES: i64 = 1000;
/// How often whoever waits for a rebuild looks whether it is cancelled.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// How long a slice may take to be read.
const SLICE: Duration = Duration::from_mins(1);

/// What a step of a rebuild came to.
pub(super) enum Step {
    /// There is more to do.
    More,
    /// The new generation is the current one.
    Swapped(RebuildOutcome),
}

/// A generation that is being made, and how far it was compared.
pub(super) struct Making {
    client: Client,
    generation: Generation,
    control: RebuildControl,
    answer: mpsc::Sender<Result<RebuildOutcome, RebuildError>>,
    live: StateHasher,
    made: StateHasher,
    /// Whether the live one cannot be read: then the new one is wanted all the more.
    live_failed: bool,
    /// The id up to which nodes were compared.
    compared_to: String,
}

impl From<Neo4jError> for RebuildError {
    fn from(error: Neo4jError) -> Self {
        Self::Elsewhere(error.to_string())
    }
}

impl From<FeedError> for RebuildError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Neo4j(error) => error.into(),
            FeedError::Elsewhere => Self::Elsewhere(
                "somebody else wrote to the generation that is being made".to_owned(),
            ),
            FeedError::Apply(error) => Self::Apply {
                position: error.position,
                reason: causes(error.reason.as_ref()),
            },
        }
    }
}

impl Making {
    /// Brings the new generation to where the live one is, or compares some of both, or ends.
    pub(super) fn step(
        &mut self,
        live: &Generation,
        pace: Live,
        reader: &Reader,
    ) -> Result<Step, RebuildError> {
        if self.control.cancel.load(Ordering::Acquire) {
            return Err(RebuildError::Cancelled);
        }
        if self.generation.end < live.end {
            let left = usize::try_from(live.end - self.generation.end).unwrap_or(usize::MAX);
            let records = read(reader, self.generation.end, left.min(FILL_RECORDS))?;
            feed::apply(&self.client, &mut self.generation, &records)?;
            return Ok(Step::More);
        }
        let is_compared = if self.generation.end == live.end {
            self.compare(live)?
        } else {
            // A live one that is stuck is passed; one that follows comes to where the new one is.
            self.live_failed |= pace == Live::Stopped;
            pace == Live::Stopped
        };
        if !is_compared {
            return Ok(Step::More);
        }
        Ok(Step::Swapped(self.take_over()?))
    }

    /// Compares the next nodes; true when all were compared.
    fn compare(&mut self, live: &Generation) -> Result<bool, RebuildError> {
        let (count, last) = slice(
            &self.client,
            &self.generation,
            &self.compared_to,
            None,
            &mut self.made,
        )?;
        // The span ends where the new nodes end; the last takes in all that the live one has.
        let to = last.filter(|_| count == SLICE_NODES);
        if !self.live_failed {
            let read = slice(
                &self.client,
                live,
                &self.compared_to,
                to.as_deref(),
                &mut self.live,
            );
            match read {
                Err(error) if error.is_passing() => return Err(error.into()),
                read => self.live_failed = read.is_err(),
            }
        }
        (self.control.progress)(RebuildProgress {
            applied: self.generation.end,
            end: live.end,
            phase: RebuildPhase::Comparing,
        });
        let is_done = to.is_none();
        self.compared_to = to.unwrap_or_default();
        Ok(is_done)
    }

    fn take_over(&self) -> Result<RebuildOutcome, RebuildError> {
        let digest_live = (!self.live_failed).then(|| self.live.finish());
        let digest_rebuilt = self.made.finish();
        let equal = digest_live == Some(digest_rebuilt);
        if !equal {
            let live = digest_live.map(tracing::field::display);
            tracing::warn!(live, %digest_rebuilt, "the rebuilt graph differs");
        }
        self.generation.replace_all(&self.client)?;
        Ok(RebuildOutcome {
            position: self.generation.end.checked_sub(1),
            digest_live,
            digest_rebuilt,
            equal,
            swapped: true,
        })
    }

    /// The label of the new generation's nodes.
    pub(super) fn label(&self) -> &str {
        &self.generation.label
    }

    /// Tells whoever asked what came of it.
    pub(super) fn answer(&self, outcome: RebuildOutcome) {
        // They may have gone.
        let _ = self.answer.send(Ok(outcome));
    }

    /// Puts the new generation to use although there is none that it can be compared with; says
    /// whether that is done.
    pub(super) fn take_over_unasked(mut self, stop: &AtomicBool) -> bool {
        let done = self.digest_alone(stop).and_then(|()| self.take_over());
        let is_done = done.is_ok();
        // Whoever asked may have gone.
        let _ = self.answer.send(done);
        is_done
    }

    fn digest_alone(&mut self, stop: &AtomicBool) -> Result<(), RebuildError> {
        self.live_failed = true;
        loop {
            must_go_on(&self.control, stop)?;
            let (client, made) = (&self.client, &self.generation);
            let (count, last) = slice(client, made, &self.compared_to, None, &mut self.made)?;
            match last {
                Some(last) if count == SLICE_NODES => self.compared_to = last,
                _ => return Ok(()),
            }
        }
    }

    /// Ends without having changed anything that is asked; what was begun is left to be removed.
    pub(super) fn give_up(self, error: RebuildError) {
        // Whoever asked may have gone.
        let _ = self.answer.send(Err(error));
    }
}

/// Fails when a rebuild is to end before it is done.
fn must_go_on(control: &RebuildControl, stop: &AtomicBool) -> Result<(), RebuildError> {
    if control.cancel.load(Ordering::Acquire) {
        return Err(RebuildError::Cancelled);
    }
    if stop.load(Ordering::Acquire) {
        return Err(RebuildError::Stopped);
    }
    Ok(())
}

/// Digests the next nodes of a generation behind an id, up to another one where it is given; gives
/// how many there were, and the last.
fn slice(
    client: &Client,
    generation: &Generation,
    after: &str,
    to: Option<&str>,
    hasher: &mut StateHasher,
) -> Result<(i64, Option<String>), Neo4jError> {
    let (label, waiting) = (&generation.label, generation.waiting());
    let (upper, limit) = match to {
        Some(_) => ("AND n.id <= $to", String::new()),
        None => ("", "LIMIT $limit".to_owned()),
    };
    // A relationship counts where few are: at a resource or an annotation.
    let text = format!(
        "MATCH (n:`{label}`) WHERE n.id > $after {upper} \
         WITH n ORDER BY n.id {limit} \
         RETURN properties(n) AS p, \
           CASE WHEN n.created_at IS NULL THEN [] ELSE \
             [(n)-[e]->(m:`{label}`) | [type(e), m.id]] \
             + [(n)<-[e:CREATED]-(m:`{label}`) | ['CREATED BY', m.id]] \
             + COLLECT {{ MATCH (w:`{waiting}` {{from: n.id}}) RETURN ['waits: ' + w.type, w.to] }} \
           END AS edges"
    );
    let asked = query(&text)
        .param("after", after)
        .param("to", to.unwrap_or_default())
        .param("limit", SLICE_NODES);
    let rows = client.rows(asked, SLICE)?;
    let (mut count, mut last) = (0, None);
    for row in &rows {
        let (id, properties) = Stored::of(row, "p")?.properties()?;
        let mut edges: Vec<(String, String)> = row.get("edges")?;
        edges.sort_unstable();
        let value = format!("{properties:?} {edges:?}");
        let id = id.to_string();
        hasher.rows(&[(id.clone().into_bytes(), value.into_bytes())]);
        last = Some(id);
        count += 1;
    }
    Ok((count, last))
}

/// Makes the graph anew beside the live one, compares, and swaps.
pub(super) fn run(
    shared: &Arc<Shared>,
    control: RebuildControl,
) -> Result<RebuildOutcome, RebuildError> {
    let _place = Place::take(&shared.rebuilding).ok_or(RebuildError::Busy)?;
    let (answer, answered) = mpsc::channel();
    let generation = {
        // Nobody removes it before it is known that it is being made.
        let _generations = shared
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        make(&shared.owner, Use::Building, &shared.client)?
    };
    let cancel = Arc::clone(&control.cancel);
    let mut making = Making {
        client: shared.client.clone(),
        generation,
        control,
        answer,
        live: StateHasher::default(),
        made: StateHasher::default(),
        live_failed: false,
        compared_to: String::new(),
    };
    let stop = &shared.progress.stop;
    if let Err(error) = fill_behind_head(&mut making, &shared.settings.reader, stop) {
        shared.has_leftovers.store(true, Ordering::Release);
        return Err(error);
    }
    let makings = shared
        .makings
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let sent = makings
        .as_ref()
        .map(|makings| makings.send(Box::new(making)));
    drop(makings);
    if !matches!(sent, Some(Ok(()))) {
        return Err(RebuildError::Stopped);
    }
    loop {
        match answered.recv_timeout(LOOK_AROUND) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => return Err(RebuildError::Stopped),
            // Whoever follows sees it too, and leaves what was begun.
            Err(RecvTimeoutError::Timeout) if cancel.load(Ordering::Acquire) => {
                return Err(RebuildError::Cancelled);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Fills until it is close to the head, or comes no closer because others write as fast.
fn fill_behind_head(
    making: &mut Making,
    reader: &Reader,
    stop: &AtomicBool,
) -> Result<(), RebuildError> {
    let behind = |end: u64| reader.end().get().saturating_sub(end);
    let mut gap = behind(making.generation.end);
    loop {
        let end = reader.end().get();
        let control = &making.control;
        let mut told = |progress| {
            (control.progress)(progress);
            must_go_on(control, stop)
        };
        fill(
            &making.client,
            &mut making.generation,
            reader,
            end,
            &mut told,
        )?;
        let gap_before = std::mem::replace(&mut gap, behind(making.generation.end));
        if gap <= HAND_OVER || gap > gap_before / 2 {
            return Ok(());
        }
    }
}

/// Makes the graph in Neo4j anew while no server follows into it; what is there is compared where
/// it is of this log and can be brought as far.
///
/// # Errors
/// [`RebuildError`]; [`Cancelled`](RebuildError::Cancelled) when `progress` broke it off. What was
/// in use is, as it was.
pub fn rebuild_neo4j(
    settings: &Neo4jSettings,
    progress: &mut dyn FnMut(RebuildProgress) -> ControlFlow<()>,
) -> Result<RebuildOutcome, RebuildError> {
    let client = Client::new(&settings.server, 1)?;
    let owner = Owner::of(&settings.tenant, &settings.reader);
    let reader = &settings.reader;
    let end = reader.end().get();
    let before = all(&owner, &client, SHORT)?;
    let mut made = make(&owner, Use::Building, &client)?;
    let mut told = |applied| match progress(applied) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(RebuildError::Cancelled),
    };
    let filled = fill(&client, &mut made, reader, end, &mut told);
    let done = filled.and_then(|()| {
        let digest_rebuilt = digest(&client, &made)?;
        let current = before.iter().rfind(|one| one.is == Use::Current);
        let digest_live = current.and_then(|current| {
            let mut current = current.clone();
            current.must_be_known().ok()?;
            must_be_of_log(&current, reader).ok()?;
            fill(&client, &mut current, reader, end, &mut |_| Ok(())).ok()?;
            digest(&client, &current).ok()
        });
        made.replace_all(&client)?;
        Ok(RebuildOutcome {
            position: made.end.checked_sub(1),
            digest_live,
            digest_rebuilt,
            equal: current.is_none() || digest_live == Some(digest_rebuilt),
            swapped: true,
        })
    });
    if let Err(error) = remove_unused(&owner, &client) {
        tracing::warn!(%error, "what is left in Neo4j is removed by the next start");
    }
    done
}

/// Removes all generations that are not in use. What is in use is looked up: the answer to a swap
/// may have been lost.
fn remove_unused(owner: &Owner, client: &Client) -> Result<(), Neo4jError> {
    for generation in all(owner, client, SHORT)? {
        while generation.is != Use::Current && !generation.remove_some(client)? {}
    }
    Ok(())
}

/// Applies all records below `end`; `told` is told how far it is before each batch, and may break
/// off.
fn fill(
    client: &Client,
    generation: &mut Generation,
    reader: &Reader,
    end: u64,
    told: &mut dyn FnMut(RebuildProgress) -> Result<(), RebuildError>,
) -> Result<(), RebuildError> {
    while generation.end < end {
        told(RebuildProgress {
            applied: generation.end,
            end,
            phase: RebuildPhase::Filling,
        })?;
        let left = usize::try_from(end - generation.end).unwrap_or(usize::MAX);
        let records = read(reader, generation.end, left.min(FILL_RECORDS))?;
        feed::apply(client, generation, &records)?;
    }
    Ok(())
}

fn digest(
    client: &Client,
    generation: &Generation,
) -> Result<stemma_views::StateDigest, Neo4jError> {
    let mut hasher = StateHasher::default();
    let mut after = String::new();
    loop {
        let (count, last) = slice(client, generation, &after, None, &mut hasher)?;
        match last {
            Some(last) if count == SLICE_NODES => after = last,
            _ => return Ok(hasher.finish()),
        }
    }
}
