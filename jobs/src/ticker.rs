//! The thread that looks at the time: leases that ran out, retries that come due.
//!
//! A worker that was not heard of within its lease has lost the job: that is written, as a failure
//! that another try may mend, and the next worker takes it on. What the lost one still sends is
//! refused by its fencing token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stemma_domain::event::JobError;
use stemma_domain::id::JobId;
use stemma_domain::job::{JobCommand, WORKER_LOST};

use crate::error::JobsError;
use crate::queue::Queue;

/// How long the thread rests at most before it looks whether it is to stop.
const LOOK_AROUND: Duration = Duration::from_millis(200);
/// How long a lost lease that could not be noted is left alone.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Looks at the time until it is told to stop.
pub(crate) fn run(queue: &Queue, stop: &Arc<AtomicBool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads of its own needs nothing");
    let mut woken = queue.woken();
    while !stop.load(Ordering::Acquire) {
        woken.borrow_and_update();
        let now = Instant::now();
        if queue.shared.board().let_come_due(now) {
            queue.shared.wake();
        }
        queue.stop_unwanted();
        runtime.block_on(queue.give_back_left());
        let lost = queue.shared.board().run_out(now);
        for (id, token) in lost {
            if let Err(error) = runtime.block_on(lose(queue, id, token)) {
                tracing::warn!(job = %id, %error, "a lost lease could not be noted; trying again");
                let mut board = queue.shared.board();
                board.let_run_out(id, Instant::now() + TRY_AGAIN);
            }
        }
        let next = queue.shared.board().next_change();
        let rest = next.map_or(LOOK_AROUND, |at| {
            at.saturating_duration_since(Instant::now())
                .min(LOOK_AROUND)
        });
        runtime.block_on(async {
            let changed = tokio::time::timeout(rest, woken.changed());
            // Either way it is time to look again.
            let _ = changed.await;
        });
    }
}

async fn lose(queue: &Queue, id: JobId, token: u64) -> Result<(), JobsError> {
    let Some(job) = queue.commands().job(id)? else {
        return Ok(());
    };
    let Some(claim) = job.claim.as_ref().filter(|claim| claim.token == token) else {
        queue.shared.board().refresh(&job, queue.shared.now());
        return Ok(());
    };
    let error = JobError {
        code: WORKER_LOST.to_owned(),
        message: format!(
            "worker {} was not heard of within its lease of {} ms",
            claim.worker, claim.lease_ms
        ),
        stage: None,
        transient: true,
    };
    queue.shared.totals.lose_lease();
    tracing::warn!(job = %id, worker = %claim.worker, "a worker was lost; its job goes to another");
    let command = JobCommand::Fail {
        token,
        error,
        // It is not the job's fault: the next one takes it on at once.
        retry_at: queue.commands().now(),
    };
    let told = queue.command(id, command, "stemma", &job.trace_id).await;
    match told {
        Ok(_) | Err(JobsError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
