//! The projection follows the log, wakes those who wait, and stops where it must.
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

mod written;

use std::ops::ControlFlow;
use std::time::Duration;

use stemma_projections::Projection;
use stemma_projections::{Phase, RebuildError, StartError, WaitError, rebuild_offline};
use stemma_views::{Engine, ResourceQuery, Views};
use written::{Written, id, until};

#[test]
fn what_was_written_before_and_after_the_start_is_applied_and_waited_for() {
    for engine in Engine::ALL {
        let written = Written::new();
        let writer = written.writer();
        writer.create(1);
        let projection = written.start(engine);
        assert_eq!(written.wait(&projection, 2), Ok(2));
        std::thread::scope(|scope| {
            scope.spawn(|| (2..=20).for_each(|number| writer.create(number)));
            assert!(written.wait(&projection, 40).is_ok());
        });
        let views = projection.views();
        assert!(views.resource(id(20)).unwrap().is_some());
        assert_eq!(
            views.state_digest().unwrap(),
            written.folded(engine).state_digest().unwrap()
        );
        let metrics = projection.metrics();
        assert_eq!(metrics.events, 40);
        assert_eq!(metrics.apply_us.iter().sum::<u64>(), metrics.batches);
        until("the projection to be live", || {
            projection.status().phase == Phase::Live
        });
        assert_eq!(projection.status().lag_positions, 0);
        projection.stop();
    }
}

#[test]
fn a_wait_for_what_is_not_written_ends_in_time() {
    let written = Written::new();
    let projection = written.start(Engine::Sled);
    let wait = projection.wait_for(1, Duration::from_millis(1));
    assert_eq!(
        written.runtime.block_on(wait),
        Err(WaitError::NotYet { end: 0 })
    );
    projection.stop();
    assert_eq!(written.wait(&projection, 1), Err(WaitError::Stopped));
}

#[test]
fn a_restart_goes_on_from_the_checkpoint() {
    for engine in Engine::ALL {
        let written = Written::new();
        let writer = written.writer();
        (1..=5).for_each(|number| writer.create(number));
        let projection = written.start(engine);
        written.wait(&projection, 10).unwrap();
        projection.stop();
        drop(projection);
        writer.create(6);
        let projection = written.start(engine);
        written.wait(&projection, 12).unwrap();
        assert_eq!(projection.metrics().events, 2);
        let digest = projection.views().state_digest().unwrap();
        assert_eq!(digest, written.folded(engine).state_digest().unwrap());
        projection.stop();
    }
}

#[test]
fn an_event_that_cannot_be_applied_quarantines_and_reads_go_on() {
    let written = Written::new();
    let writer = written.writer();
    writer.create(1);
    writer.append_unknown();
    writer.create(2);
    let projection = written.start(Engine::Sled);
    assert_eq!(
        written.wait(&projection, 5),
        Err(WaitError::Quarantined { position: 2 })
    );
    let status = projection.status();
    let Phase::Quarantined {
        position,
        event_type,
        reason,
    } = status.phase
    else {
        panic!("{:?}", status.phase)
    };
    assert_eq!((position, event_type.as_str()), (2, "resource.exploded"));
    assert!(reason.contains("unknown event type"), "{reason}");
    assert_eq!((status.end, status.lag_positions), (2, 3));
    assert!(projection.views().resource(id(1)).unwrap().is_some());
    assert_eq!(written.wait(&projection, 2), Ok(2));
    let batches = projection.metrics().batches;
    projection.retry();
    until("the retry", || projection.metrics().batches > batches);
    assert_eq!(projection.end(), 2);
    projection.stop();
    assert_eq!(projection.status().phase, Phase::Stopped);
}

#[test]
fn a_second_projection_over_the_same_views_is_refused() {
    let written = Written::new();
    let projection = written.start(Engine::Sled);
    let second = Projection::<Views>::start(written.settings(Engine::Sled));
    assert!(matches!(second, Err(StartError::InUse)));
    projection.stop();
}

#[test]
fn views_that_hold_what_the_log_does_not_are_kept_and_nothing_starts() {
    let written = Written::new();
    (1..=3).for_each(|number| written.writer().create(number));
    let projection = written.start(Engine::Sled);
    written.wait(&projection, 6).unwrap();
    projection.stop();
    drop(projection);
    // As many records, but others.
    let written = written.with_new_log();
    (4..=6).for_each(|number| written.writer().create(number));
    let settings = written.settings(Engine::Sled);
    let started = Projection::<Views>::start(settings.clone()).err();
    let Some(StartError::NotOfLog(told)) = started else {
        panic!("{started:?}");
    };
    assert_eq!((told.applied, told.end), (6, 6));
    let rebuilt = rebuild_offline::<Views>(&settings, &mut |_| ControlFlow::Continue(()));
    assert!(
        matches!(rebuilt, Err(RebuildError::NotOfLog(_))),
        "{rebuilt:?}"
    );
    assert_eq!(written.generations(), ["gen-000001"]);
    // Whoever wants this log takes away what belies it.
    std::fs::remove_dir_all(written.dir()).unwrap();
    let projection = written.start(Engine::Sled);
    written.wait(&projection, 6).unwrap();
    assert!(projection.views().resource(id(4)).unwrap().is_some());
    projection.stop();
}

#[test]
fn a_generation_that_a_killed_rebuild_left_is_removed_at_start() {
    let written = Written::new();
    written.writer().create(1);
    let projection = written.start(Engine::Sled);
    written.wait(&projection, 2).unwrap();
    projection.stop();
    drop(projection);
    std::fs::create_dir_all(written.dir().join("gen-000002/sled")).unwrap();
    std::fs::write(written.dir().join("CURRENT.tmp"), "gen-0").unwrap();
    let projection = written.start(Engine::Sled);
    assert_eq!(written.generations(), ["gen-000001"]);
    let query = ResourceQuery {
        limit: 10,
        ..ResourceQuery::default()
    };
    assert_eq!(projection.views().resources(&query).unwrap().items.len(), 1);
    projection.stop();
}
