//! The bounded queue before the writer thread, which tasks and threads alike may wait at.
//!
//! Invariant: what was pushed is taken, in order, even after the queue was closed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// A queue of at most `max` tasks.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    max: usize,
    filled: Condvar,
    room: Condvar,
    room_for_tasks: Notify,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// The queue takes no more.
#[derive(Debug)]
pub(crate) struct Closed;

enum Refused<T> {
    Full(T),
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
            }),
            max,
            filled: Condvar::new(),
            room: Condvar::new(),
            room_for_tasks: Notify::new(),
        }
    }

    /// Adds at the end, waiting for room without blocking the thread.
    pub(crate) async fn push(&self, mut one: T) -> Result<(), Closed> {
        loop {
            // Made before the look, so that room that comes between them is not missed.
            let room = self.room_for_tasks.notified();
            match self.try_push(one) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed) => return Err(Closed),
                Err(Refused::Full(back)) => one = back,
            }
            room.await;
        }
    }

    /// Adds at the end, blocking the thread until there is room.
    pub(crate) fn push_blocking(&self, one: T) -> Result<(), Closed> {
        let mut state = self.state();
        while !state.closed && state.waiting.len() >= self.max {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Closed);
        }
        state.waiting.push_back(one);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes what waits, at least one and then up to `weight_max`; `None` once it is closed and
    /// empty.
    pub(crate) fn take(&self, weight: impl Fn(&T) -> u64, weight_max: u64) -> Option<Vec<T>> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::new();
        let mut total = 0;
        while let Some(one) = state.waiting.front() {
            total += weight(one);
            if !taken.is_empty() && total > weight_max {
                break;
            }
            taken.extend(state.waiting.pop_front());
        }
        drop(state);
        self.wake();
        Some(taken)
    }

    /// Takes no more from now on.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
        self.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Gives up: takes no more and drops what waits.
    pub(crate) fn abandon(&self) {
        let dropped = std::mem::take(&mut self.state().waiting);
        self.close();
        drop(dropped);
    }

    fn try_push(&self, one: T) -> Result<(), Refused<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= self.max {
            return Err(Refused::Full(one));
        }
        state.waiting.push_back(one);
        self.filled.notify_one();
        Ok(())
    }

    fn wake(&self) {
        self.room.notify_all();
        self.room_for_tasks.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the writer answers: to a task or to a thread that blocks.
pub(crate) enum Reply<T> {
    Task(oneshot::Sender<T>),
    Thread(std::sync::mpsc::Sender<T>),
}

impl<T> Reply<T> {
    /// Answers; nobody may be waiting any more, which is their affair.
    pub(crate) fn send(self, answer: T) {
        match self {
            Self::Task(sender) => drop(sender.send(answer)),
            Self::Thread(sender) => drop(sender.send(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_queue_lets_waiters_in_as_room_comes_and_keeps_everything() {
        let queue = Arc::new(Queue::new(2));
        let pushers: Vec<_> = (0..4)
            .map(|pusher| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .unwrap();
                    for n in 0..50 {
                        if pusher % 2 == 0 {
                            runtime.block_on(queue.push(pusher * 100 + n)).unwrap();
                        } else {
                            queue.push_blocking(pusher * 100 + n).unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut seen = Vec::new();
        while seen.len() < 200 {
            let taken = queue.take(|_| 1, 2).unwrap();
            assert!(taken.len() <= 2);
            seen.extend(taken);
        }
        for pusher in pushers {
            pusher.join().unwrap();
        }
        queue.close();
        assert!(queue.take(|_| 1, 2).is_none());
        for pusher in 0..4 {
            let of_one: Vec<_> = seen
                .iter()
                .filter(|n| *n / 100 == pusher)
                .copied()
                .collect();
            assert_eq!(
                of_one,
                (0..50).map(|n| pusher * 100 + n).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_closed_queue_gives_what_it_had_and_takes_no_more() {
        let queue = Queue::new(2);
        queue.push_blocking(1).unwrap();
        queue.close();
        assert!(queue.push_blocking(2).is_err());
        assert_eq!(queue.take(|_| 1, 9), Some(vec![1]));
        assert_eq!(queue.take(|_| 1, 9), None);
    }

    #[test]
    fn a_group_holds_one_however_heavy_and_no_more_than_fit() {
        let queue = Queue::new(9);
        for weight in [50_u64, 3, 3, 9] {
            queue.push_blocking(weight).unwrap();
        }
        let groups: Vec<_> = (0..3)
            .map(|_| queue.take(|weight| *weight, 10).unwrap())
            .collect();
        assert_eq!(groups, [vec![50], vec![3, 3], vec![9]]);
    }
}
