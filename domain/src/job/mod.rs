//! The job: deferred work, what its events make of it, and what may happen to it next.

mod decide;
mod state;

pub use decide::{
    JobCommand, JobRefusal, LOST_RETRIES_MAX, PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX, WORKER_LOST,
    decide,
};
pub use state::{Attempt, Claim, HISTORY_MAX, Job, JobEvolveError, JobStatus, Retries};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Envelope, JobError, JobQueued, Metadata};
    use crate::id::JobId;
    use crate::time::Timestamp;
    use crate::value::{JobKind, WorkerName};

    struct Run {
        job: Option<Job>,
        now: i64,
    }

    impl Run {
        fn queued(max_retries: u32) -> Self {
            let mut run = Self { job: None, now: 0 };
            let queued = JobQueued {
                document_id: None,
                id: JobId::new(uuid::Uuid::from_u128(1)),
                max_retries,
                payload: Metadata::new(),
                priority: 0,
                trace_id: "trace".into(),
                kind: JobKind::new("test").unwrap(),
            };
            run.ask(JobCommand::Queue(queued)).unwrap();
            run
        }

        fn ask(&mut self, command: JobCommand) -> Result<(), JobRefusal> {
            for event in decide(self.job.as_ref(), command)? {
                self.now += 1;
                let envelope = Envelope {
                    position: 0,
                    revision: self.job.as_ref().map_or(0, |job| job.revision + 1),
                    recorded_at: Timestamp::from_micros(self.now),
                    actor: "someone",
                };
                match &mut self.job {
                    None => self.job = Some(Job::start(&envelope, &event).unwrap()),
                    Some(job) => job.evolve(&envelope, &event).unwrap(),
                }
            }
            Ok(())
        }

        fn job(&self) -> &Job {
            self.job.as_ref().unwrap()
        }

        fn claim(&mut self) -> Result<u64, JobRefusal> {
            self.ask(JobCommand::Claim {
                worker: WorkerName::new("w").unwrap(),
                lease_ms: 1000,
                now: Timestamp::from_micros(i64::MAX),
            })?;
            Ok(self.job().claim.as_ref().unwrap().token)
        }

        fn fail(&mut self, token: u64, transient: bool) -> Result<(), JobRefusal> {
            self.fail_with("X", token, transient)
        }

        fn fail_with(&mut self, code: &str, token: u64, transient: bool) -> Result<(), JobRefusal> {
            let error = JobError {
                code: code.into(),
                message: "x".into(),
                stage: None,
                transient,
            };
            let retry_at = Timestamp::from_micros(self.now + 10);
            self.ask(JobCommand::Fail {
                token,
                error,
                retry_at,
            })
        }
    }

    fn complete(token: u64) -> JobCommand {
        JobCommand::Complete {
            token,
            result: Metadata::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_failure_that_may_mend_is_tried_again_up_to_the_limit_and_then_is_a_dead_letter() {
        let mut run = Run::queued(2);
        for retry in 1..=2 {
            let token = run.claim().unwrap();
            run.fail(token, true).unwrap();
            assert_eq!(
                (run.job().status, run.job().retry_count),
                (JobStatus::Retrying, retry)
            );
        }
        let token = run.claim().unwrap();
        run.fail(token, true).unwrap();
        assert_eq!(
            (run.job().status, run.job().attempts),
            (JobStatus::Failed, 3)
        );
        assert_eq!(run.job().history.len(), 3);
        run.ask(JobCommand::Retry).unwrap();
        assert_eq!(
            (run.job().status, run.job().retry_count),
            (JobStatus::Queued, 0)
        );
        assert_eq!(run.job().history.len(), 3);
    }

    /// Three workers that were killed left a job no retries: its first failure after that, which
    /// another try would have mended, ended it.
    #[test]
    fn lost_workers_use_up_no_retries_of_failures_and_failures_none_of_lost_workers() {
        let mut run = Run::queued(2);
        let attempt = |run: &mut Run, code: &str| {
            let token = run.claim().unwrap();
            // What is given back untried stands in the history as well.
            let reason = "the worker stops".to_owned();
            run.ask(JobCommand::Release { token, reason }).unwrap();
            let token = run.claim().unwrap();
            run.fail_with(code, token, true).unwrap();
            let Retries { failed, lost } = run.job().retries();
            (run.job().status, failed, lost)
        };
        for (code, failed, lost) in [
            (WORKER_LOST, 0, 1),
            (WORKER_LOST, 0, 2),
            (WORKER_LOST, 0, 3),
            ("X", 1, 3),
            (WORKER_LOST, 1, 4),
            ("X", 2, 4),
        ] {
            let told = attempt(&mut run, code);
            assert_eq!(told, (JobStatus::Retrying, failed, lost));
        }
        assert_eq!(attempt(&mut run, "X").0, JobStatus::Failed);
        // A person gives it all of them back.
        run.ask(JobCommand::Retry).unwrap();
        assert_eq!(run.job().retries(), Retries { failed: 0, lost: 0 });
        assert_eq!(attempt(&mut run, "X"), (JobStatus::Retrying, 1, 0));
    }

    /// A job that brings each of its workers down ends, whatever else befalls it meanwhile.
    #[test]
    fn lost_workers_are_held_against_a_limit_of_their_own_also_where_tries_are_forgotten() {
        let lose = |run: &mut Run| {
            let token = run.claim().unwrap();
            run.fail_with(WORKER_LOST, token, true).unwrap();
            run.job().status
        };
        let mut run = Run::queued(1);
        let token = run.claim().unwrap();
        run.fail(token, true).unwrap();
        for _ in 0..LOST_RETRIES_MAX {
            assert_eq!(lose(&mut run), JobStatus::Retrying);
        }
        assert_eq!(lose(&mut run), JobStatus::Failed);
        assert_eq!(lose(&mut Run::queued(0)), JobStatus::Failed);
        let mut run = Run::queued(1);
        for _ in 0..LOST_RETRIES_MAX {
            assert_eq!(lose(&mut run), JobStatus::Retrying);
            for _ in 0..HISTORY_MAX {
                let token = run.claim().unwrap();
                let reason = String::new();
                run.ask(JobCommand::Release { token, reason }).unwrap();
            }
        }
        assert_eq!(lose(&mut run), JobStatus::Failed);
    }

    #[test]
    fn a_failure_for_good_is_not_tried_again() {
        let mut run = Run::queued(3);
        let token = run.claim().unwrap();
        run.fail(token, false).unwrap();
        assert_eq!(run.job().status, JobStatus::Failed);
    }

    #[test]
    fn a_job_that_waits_for_its_next_try_is_not_to_be_had_before_its_time() {
        let mut run = Run::queued(3);
        let token = run.claim().unwrap();
        run.fail(token, true).unwrap();
        let retry_at = run.job().retry_at.unwrap();
        let claim = |now| JobCommand::Claim {
            worker: WorkerName::new("w").unwrap(),
            lease_ms: 1000,
            now,
        };
        let early = Timestamp::from_micros(retry_at.micros() - 1);
        assert_eq!(
            run.ask(claim(early)),
            Err(JobRefusal::NotClaimable("retrying"))
        );
        run.ask(claim(retry_at)).unwrap();
    }

    #[test]
    fn late_results_of_a_lost_lease_are_refused_and_what_was_given_back_does_not_count() {
        let mut run = Run::queued(0);
        let first = run.claim().unwrap();
        let reason = "the worker stops".to_owned();
        run.ask(JobCommand::Release {
            token: first,
            reason,
        })
        .unwrap();
        assert_eq!(run.job().attempts, 0);
        let second = run.claim().unwrap();
        assert_eq!(run.ask(complete(first)), Err(JobRefusal::LeaseLost));
        assert_eq!(
            run.ask(JobCommand::Hold { token: first }),
            Err(JobRefusal::LeaseLost)
        );
        run.ask(JobCommand::Hold { token: second }).unwrap();
        run.ask(complete(second)).unwrap();
        assert_eq!(run.job().status, JobStatus::Completed);
        assert_eq!(run.ask(complete(second)), Err(JobRefusal::LeaseLost));
    }

    #[test]
    fn a_cancel_ends_what_waits_and_asks_what_runs() {
        let mut run = Run::queued(3);
        run.ask(JobCommand::Cancel).unwrap();
        assert_eq!(run.job().status, JobStatus::Cancelled);
        assert_eq!(
            run.ask(JobCommand::Cancel),
            Err(JobRefusal::Ended("cancelled"))
        );
        run.ask(JobCommand::Retry).unwrap();
        let token = run.claim().unwrap();
        run.ask(JobCommand::Cancel).unwrap();
        assert!(run.job().cancel_requested && run.job().status == JobStatus::Processing);
        run.fail(token, true).unwrap();
        assert_eq!(run.job().status, JobStatus::Cancelled);
    }

    proptest! {
        /// Whatever comes in whatever order: what is decided fits the state (requirement B4).
        #[test]
        fn every_decision_fits_the_state_and_a_token_holds_only_while_its_claim_stands(
            steps in proptest::collection::vec((0..9u8, 0..12u64), 0..40)
        ) {
            let mut run = Run::queued(1);
            for (step, token) in steps {
                let held = run.job().claim.as_ref().map(|claim| claim.token);
                let told = match step {
                    0 | 1 => run.claim().map(|_| ()),
                    2 => run.ask(complete(token)),
                    3 => run.fail(token, true),
                    4 => run.fail(token, false),
                    5 => run.ask(JobCommand::Release { token, reason: String::new() }),
                    6 => run.ask(JobCommand::Cancel),
                    7 => run.ask(JobCommand::ConfirmCancel { token }),
                    _ => run.ask(JobCommand::Retry),
                };
                if [2, 3, 4, 5, 7].contains(&step) {
                    prop_assert_eq!(told.is_ok(), held == Some(token));
                }
                let job = run.job();
                prop_assert_eq!(job.claim.is_some(), job.status == JobStatus::Processing);
                prop_assert_eq!(job.completed_at.is_some(), job.status.is_ended());
            }
        }
    }
}
