//! Who is told of what: streams of everything of each step of the log's head, streams of a resource
//! of that resource's events and of no others.
//!
//! One task follows the log and passes on, as long as anybody listens. Told by the log itself, every
//! open stream would be woken by every write, and a write would wait behind all of them. Invariant:
//! whoever subscribed before it looked at the log's end is told of all that stands behind that end,
//! or that it missed some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stemma_domain::id::ResourceId;
use stemma_event_log::Reader;
use tokio::sync::{Notify, broadcast, watch};

use super::frame::Frame;
use crate::state::AppState;

/// Events of a resource that its streams may be behind before they read them from the log.
const BEHIND_MAX: usize = 16;

/// Passes on.
#[derive(Debug)]
pub(crate) struct Hub {
    subscribers: Mutex<Subscribers>,
    /// Told where somebody listens and nobody did.
    begun: Notify,
}

#[derive(Debug)]
struct Subscribers {
    /// None once nothing is passed on any more.
    head: Option<watch::Sender<u64>>,
    resources: HashMap<ResourceId, broadcast::Sender<Arc<Frame>>>,
    /// Where what is passed on goes on; none while nobody listens and the log is not followed.
    next: Option<u64>,
}

impl Subscribers {
    /// Whether anyone listens to everything, and to a resource.
    fn listened_to(&self) -> (bool, bool) {
        let of_all = self.head.as_ref();
        let of_all = of_all.is_some_and(|head| head.receiver_count() > 0);
        (of_all, !self.resources.is_empty())
    }
}

impl Hub {
    pub(crate) fn new() -> Self {
        let subscribers = Subscribers {
            head: Some(watch::Sender::new(0)),
            resources: HashMap::new(),
            next: None,
        };
        Self {
            subscribers: Mutex::new(subscribers),
            begun: Notify::new(),
        }
    }

    /// Told of each step of the log's head; none once nothing is passed on any more.
    pub(crate) fn follow_all(&self, log: &Reader) -> Option<watch::Receiver<u64>> {
        let mut subscribers = self.guard();
        let head = subscribers.head.as_ref().map(watch::Sender::subscribe);
        self.begin(&mut subscribers, log);
        head
    }

    /// Given the events of one resource; none once nothing is passed on any more.
    pub(crate) fn follow_one(
        &self,
        log: &Reader,
        id: ResourceId,
    ) -> Option<broadcast::Receiver<Arc<Frame>>> {
        let mut subscribers = self.guard();
        subscribers.head.as_ref()?;
        let of_resource = subscribers.resources.entry(id);
        let sender = of_resource.or_insert_with(|| broadcast::Sender::new(BEHIND_MAX));
        let events = sender.subscribe();
        self.begin(&mut subscribers, log);
        Some(events)
    }

    /// From here on, for what stood in the log before whoever just came reads by itself.
    fn begin(&self, subscribers: &mut Subscribers, log: &Reader) {
        if subscribers.next.is_none() {
            subscribers.next = Some(log.end().get());
            self.begun.notify_one();
        }
    }

    /// A stream of this resource has gone.
    pub(crate) fn leave(&self, id: ResourceId) {
        let mut subscribers = self.guard();
        let sender = subscribers.resources.get(&id);
        if sender.is_some_and(|sender| sender.receiver_count() == 0) {
            subscribers.resources.remove(&id);
        }
    }

    /// Passes on what there is; whether anyone listens for more.
    fn pass_on(&self, state: &AppState) -> bool {
        loop {
            // Before it is seen who listens: who comes later looks at an end behind it.
            let end = state.reader().end().get();
            let Some((next, of_resources)) = self.place() else {
                return false;
            };
            if next >= end {
                return true;
            }
            let mut passed_on = end;
            if of_resources {
                // What cannot be read here is met again by whoever is told that it missed some.
                match state.frames().read(next) {
                    Ok(frames) => passed_on = self.give(&frames).unwrap_or(end),
                    Err(_) => self.guard().resources.clear(),
                }
            }
            let mut subscribers = self.guard();
            subscribers.next = Some(passed_on);
            if let Some(head) = &subscribers.head {
                head.send_replace(passed_on);
            }
        }
    }

    /// Where to go on, and whether to look at each event; none where nobody listens.
    fn place(&self) -> Option<(u64, bool)> {
        let mut subscribers = self.guard();
        let (of_all, of_resources) = subscribers.listened_to();
        if !(of_all || of_resources) {
            subscribers.next = None;
        }
        Some((subscribers.next?, of_resources))
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
    while !*shutdown.borrow_and_update() {
        follow.borrow_and_update();
        let is_listened_to = state.hub().pass_on(&state);
        tokio::select! {
            changed = follow.changed(), if is_listened_to => {
                if changed.is_err() {
                    break;
                }
            }
            () = state.hub().begun.notified(), if !is_listened_to => {}
            _ = shutdown.changed() => {}
        }
    }
    state.hub().close();
}
