//! Who is told of what: streams of everything of each step of the log's head, streams of a resource
//! of that resource's events and of no others.
//!
//! One task follows the log and passes on. Told by the log itself, every open stream would be woken
//! by every write, and a write would wait behind all of them. Invariant: whoever subscribed before
//! it looked at the log's end is told of all that stands behind that end, or that it missed some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stemma_domain::id::ResourceId;
use tokio::sync::{broadcast, watch};

use super::frame::Frame;
use crate::state::AppState;

/// Events of a resource that its streams may be behind before they read them from the log.
const BEHIND_MAX: usize = 16;

/// Passes on.
#[derive(Debug)]
pub(crate) struct Hub {
    subscribers: Mutex<Subscribers>,
}

#[derive(Debug)]
struct Subscribers {
    /// None once nothing is passed on any more.
    head: Option<watch::Sender<u64>>,
    resources: HashMap<ResourceId, broadcast::Sender<Arc<Frame>>>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        let subscribers = Subscribers {
            head: Some(watch::Sender::new(0)),
            resources: HashMap::new(),
        };
        Self {
            subscribers: Mutex::new(subscribers),
        }
    }

    /// Told of each step of the log's head; none once nothing is passed on any more.
    pub(crate) fn follow_all(&self) -> Option<watch::Receiver<u64>> {
        self.guard().head.as_ref().map(watch::Sender::subscribe)
    }

    /// Given the events of one resource; none once nothing is passed on any more.
    pub(crate) fn follow_one(&self, id: ResourceId) -> Option<broadcast::Receiver<Arc<Frame>>> {
        let mut subscribers = self.guard();
        subscribers.head.as_ref()?;
        let of_resource = subscribers.resources.entry(id);
        let sender = of_resource.or_insert_with(|| broadcast::Sender::new(BEHIND_MAX));
        Some(sender.subscribe())
    }

    /// A stream of this resource has gone.
    pub(crate) fn leave(&self, id: ResourceId) {
        let mut subscribers = self.guard();
        let sender = subscribers.resources.get(&id);
        if sender.is_some_and(|sender| sender.receiver_count() == 0) {
            subscribers.resources.remove(&id);
        }
    }

    /// Passes on from a position; gives the one to go on from.
    fn pass_on(&self, state: &AppState, mut next: u64) -> u64 {
        loop {
            // Before it is seen whether anyone listens: who comes later looks at an end behind it.
            let end = state.reader().end().get();
            let (of_all, of_resources) = self.listened_to();
            if next >= end || !(of_all || of_resources) {
                return end;
            }
            if of_resources {
                // What cannot be read here is met again by whoever is told that it missed some.
                match state.frames().read(next) {
                    Ok(frames) => next = self.give(&frames).unwrap_or(end),
                    Err(_) => {
                        self.guard().resources.clear();
                        next = end;
                    }
                }
            } else {
                next = end;
            }
            if let Some(head) = &self.guard().head {
                head.send_replace(next);
            }
        }
    }

    /// Gives each event to the streams of its resource; where the events end.
    fn give(&self, frames: &[Arc<Frame>]) -> Option<u64> {
        let subscribers = self.guard();
        for frame in frames {
            let Some(id) = ResourceId::from_stream_name(frame.record.stream()) else {
                continue;
            };
            let Some(sender) = subscribers.resources.get(&id) else {
                continue;
            };
            // The last of its streams may be about to leave.
            let _ = sender.send(Arc::clone(frame));
        }
        frames.last().map(|frame| frame.position() + 1)
    }

    /// Whether anyone listens to everything, and to a resource.
    fn listened_to(&self) -> (bool, bool) {
        let subscribers = self.guard();
        let of_all = subscribers.head.as_ref();
        (
            of_all.is_some_and(|head| head.receiver_count() > 0),
            !subscribers.resources.is_empty(),
        )
    }

    fn close(&self) {
        let mut subscribers = self.guard();
        subscribers.head = None;
        subscribers.resources.clear();
    }

    fn guard(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the log until the server stops, and passes on what comes.
pub async fn pass_on(state: AppState) {
    let mut follow = state.reader().follow();
    let mut shutdown = state.shutdown().follow();
    let mut next = state.reader().end().get();
    while !*shutdown.borrow_and_update() {
        follow.borrow_and_update();
        next = state.hub().pass_on(&state, next);
        tokio::select! {
            changed = follow.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            _ = shutdown.changed() => {}
        }
    }
    state.hub().close();
}
