//! Many requests at once, in an order that a seed reproduces.
//!
//! The writer thread is held at its first write until every request has gone as far as it can
//! without it: then the first stands in a group of its own and all others in the next.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::join_all;

use crate::disk::Disk;
use crate::weather::Class;

/// One request under way.
pub(crate) type Running<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

enum Slot<'a, T> {
    Running(Running<'a, T>),
    Done(T),
}

impl<T> Slot<'_, T> {
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if let Self::Running(future) = self
            && let Poll::Ready(value) = future.as_mut().poll(context)
        {
            *self = Self::Done(value);
        }
        matches!(self, Self::Done(_))
    }

    async fn finish(self) -> T {
        match self {
            Self::Running(future) => future.await,
            Self::Done(value) => value,
        }
    }
}

/// Runs all of them to their ends; with `class`, its writes are held back at first.
pub(crate) async fn run<T>(
    disk: &Disk,
    class: Option<Class>,
    requests: Vec<Running<'_, T>>,
) -> Vec<T> {
    let mut slots: Vec<Slot<'_, T>> = requests.into_iter().map(Slot::Running).collect();
    if let (Some(class), Some((first, others))) = (class, slots.split_first_mut()) {
        let waits = disk.hold(class);
        let mut arrived = Box::pin(waits.notified());
        poll_fn(|context| {
            let is_done = first.poll(context);
            if is_done || arrived.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        poll_fn(|context| {
            others.iter_mut().for_each(|slot| _ = slot.poll(context));
            Poll::Ready(())
        })
        .await;
        disk.release();
    }
    join_all(slots.into_iter().map(Slot::finish)).await
}
