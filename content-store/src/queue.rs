//! The bounded queue before the writer thread, which tasks and threads alike may wait at.
//!
//! It is made of a channel and a semaphore, and has no lock of its own to get wrong. Invariant: what
//! was pushed is taken, in order, even after the queue was closed.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

/// Where tasks and threads push: tasks at most `max` at a time, and each thread one at a time, since
/// it waits for the answer.
pub(crate) struct Queue<T> {
    line: mpsc::UnboundedSender<Item<T>>,
    places: Arc<Semaphore>,
}

/// Where the writer takes them. Dropped, it drops what waits.
pub(crate) struct Taker<T> {
    line: mpsc::UnboundedReceiver<Item<T>>,
    places: Arc<Semaphore>,
    /// What was one too many for the group before.
    next: Option<T>,
}

enum Item<T> {
    /// It holds a place.
    OfTask(T),
    OfThread(T),
    Close,
}

/// The queue takes no more.
#[derive(Debug)]
pub(crate) struct Closed;

impl<T> Queue<T> {
    pub(crate) fn new(max: usize) -> (Self, Taker<T>) {
        let (to, from) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(max));
        let taker = Taker {
            line: from,
            places: Arc::clone(&places),
            next: None,
        };
        (Self { line: to, places }, taker)
    }

    /// Adds at the end, waiting for room without blocking the thread.
    pub(crate) async fn push(&self, one: T) -> Result<(), Closed> {
        let place = self.places.acquire().await.map_err(|_| Closed)?;
        self.line.send(Item::OfTask(one)).map_err(|_| Closed)?;
        // Its place is free when it is taken.
        place.forget();
        Ok(())
    }

    /// Adds at the end, for a thread that then waits for the answer.
    pub(crate) fn push_blocking(&self, one: T) -> Result<(), Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        self.line.send(Item::OfThread(one)).map_err(|_| Closed)
    }

    /// Takes no more from now on.
    pub(crate) fn close(&self) {
        self.places.close();
        // The writer may be gone.
        let _ = self.line.send(Item::Close);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }
}

impl<T> Taker<T> {
    /// Takes what waits, at least one and then up to `weight_max`; `None` once the queue is closed
    /// and empty. Blocks the thread.
    pub(crate) fn take(&mut self, weight: impl Fn(&T) -> u64, weight_max: u64) -> Option<Vec<T>> {
        let first = match self.next.take() {
            Some(first) => first,
            None => loop {
                let item = self.line.blocking_recv()?;
                if let Some(one) = self.open(item) {
                    break one;
                }
            },
        };
        let mut total = weight(&first);
        let mut taken = vec![first];
        while let Ok(item) = self.line.try_recv() {
            let Some(one) = self.open(item) else {
                continue;
            };
            total += weight(&one);
            if total > weight_max {
                self.next = Some(one);
                break;
            }
            taken.push(one);
        }
        Some(taken)
    }

    fn open(&mut self, item: Item<T>) -> Option<T> {
        match item {
            Item::OfTask(one) => {
                self.places.add_permits(1);
                Some(one)
            }
            Item::OfThread(one) => Some(one),
            // Whoever has a place already may be about to push: it comes or is refused.
            Item::Close => {
                self.line.close();
                None
            }
        }
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
    use super::*;

    #[test]
    fn a_full_queue_lets_waiters_in_as_room_comes_and_keeps_everything() {
        let (queue, mut taker) = Queue::new(2);
        let queue = Arc::new(queue);
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
            let taken = taker.take(|_| 1, 2).unwrap();
            assert!(taken.len() <= 2);
            seen.extend(taken);
        }
        for pusher in pushers {
            pusher.join().unwrap();
        }
        queue.close();
        assert!(taker.take(|_| 1, 2).is_none());
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
        let (queue, mut taker) = Queue::new(2);
        queue.push_blocking(1).unwrap();
        queue.close();
        assert!(queue.push_blocking(2).is_err());
        assert_eq!(taker.take(|_| 1, 9), Some(vec![1]));
        assert_eq!(taker.take(|_| 1, 9), None);
    }

    #[test]
    fn a_group_holds_one_however_heavy_and_no_more_than_fit() {
        let (queue, mut taker) = Queue::new(9);
        for weight in [50_u64, 3, 3, 9] {
            queue.push_blocking(weight).unwrap();
        }
        let groups: Vec<_> = (0..3)
            .map(|_| taker.take(|weight| *weight, 10).unwrap())
            .collect();
        assert_eq!(groups, [vec![50], vec![3, 3], vec![9]]);
    }
}
