//! Views are made anew beside the live ones, compared, and swapped; or nothing changes at all.
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

mod written;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use std::ops::ControlFlow;

use stemma_projections::{Projection, RebuildError, RebuildPhase, rebuild_offline, verify_model};
use stemma_views::{Engine, ResourceQuery, Views};
use written::{Written, damage, id, options, until, unwatched, watched};

/// Resources that stand before a rebuild starts; more rows than one slice compares.
const BEFORE: u64 = 400;

fn with_resources(engine: Engine) -> (Written, Projection) {
    let written = Written::new();
    let writer = written.writer();
    (1..=BEFORE).for_each(|number| writer.create(number));
    let projection = written.start(engine);
    written.wait(&projection, 2 * BEFORE).unwrap();
    (written, projection)
}

#[test]
fn a_rebuild_while_others_write_and_read_gives_equal_views_and_swaps_them() {
    for engine in Engine::ALL {
        let (written, projection) = with_resources(engine);
        let writer = written.writer();
        let is_over = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let writes = scope.spawn(|| {
                let mut number = BEFORE;
                while !is_over.load(Ordering::Acquire) {
                    number += 1;
                    writer.create(number);
                    // As a client does, who is answered once the views show the write.
                    let end = 2 * number;
                    writer.wait(&projection, end).unwrap();
                }
                number
            });
            let reads = scope.spawn(|| {
                let mut n_reads = 0_u32;
                let query = ResourceQuery {
                    limit: 500,
                    ..ResourceQuery::default()
                };
                while !is_over.load(Ordering::Acquire) {
                    let views = projection.views();
                    let page = views.resources(&query).unwrap();
                    assert!(page.items.len() >= 400, "{} items", page.items.len());
                    assert!(views.resource(id(BEFORE)).unwrap().is_some());
                    n_reads += 1;
                }
                n_reads
            });
            let outcome = projection.rebuild(unwatched());
            is_over.store(true, Ordering::Release);
            let last = writes.join().unwrap();
            assert!(reads.join().unwrap() > 0);
            written.wait(&projection, 2 * last).unwrap();
            assert!(projection.views().resource(id(last)).unwrap().is_some());
            outcome.unwrap()
        });
        assert!(outcome.equal && outcome.swapped, "{engine}: {outcome:?}");
        assert!(outcome.position.unwrap() + 1 >= 2 * BEFORE);
        let digest = projection.views().state_digest().unwrap();
        assert_eq!(digest, written.folded(engine).state_digest().unwrap());
        until("the old views to go", || {
            written.generations() == ["gen-000002"]
        });
        projection.stop();
        drop(projection);
        let projection = written.start(engine);
        assert_eq!(projection.views().state_digest().unwrap(), digest);
        projection.stop();
    }
}

#[test]
fn a_rebuild_at_rest_tells_the_digest_of_the_state() {
    let (written, projection) = with_resources(Engine::LsmTree);
    let digest = projection.views().state_digest().unwrap();
    let outcome = projection.rebuild(unwatched()).unwrap();
    assert_eq!(
        (outcome.digest_live, outcome.digest_rebuilt),
        (Some(digest), digest)
    );
    assert_eq!(outcome.position, Some(2 * BEFORE - 1));
    assert_eq!(written.folded(Engine::Sled).state_digest().unwrap(), digest);
    projection.stop();
}

#[test]
fn a_reader_of_the_old_views_keeps_them_until_it_is_done() {
    for engine in Engine::ALL {
        let (written, projection) = with_resources(engine);
        let old = projection.views();
        projection.rebuild(unwatched()).unwrap();
        assert_eq!(written.generations(), ["gen-000001", "gen-000002"]);
        for number in 1..=BEFORE {
            assert!(old.resource(id(number)).unwrap().is_some());
        }
        drop(old);
        until("the old views to go", || {
            written.generations() == ["gen-000002"]
        });
        projection.stop();
    }
}

#[test]
fn a_cancelled_rebuild_leaves_everything_as_it_was() {
    let (written, projection) = with_resources(Engine::Sled);
    let digest = projection.views().state_digest().unwrap();
    for cancelled_in in [RebuildPhase::Filling, RebuildPhase::Comparing] {
        let mut control = unwatched();
        let cancel = control.cancel.clone();
        control.progress = Box::new(move |progress| {
            cancel.fetch_or(progress.phase == cancelled_in, Ordering::AcqRel);
        });
        let outcome = projection.rebuild(control);
        assert!(
            matches!(outcome, Err(RebuildError::Cancelled)),
            "{outcome:?}"
        );
        assert_eq!(written.generations(), ["gen-000001"]);
    }
    assert_eq!(projection.views().state_digest().unwrap(), digest);
    projection.stop();
}

#[test]
fn one_rebuild_runs_at_a_time() {
    let (_written, projection) = with_resources(Engine::Sled);
    let (started, has_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            projection.rebuild(watched(move |_| {
                let _ = started.send(());
                // Fails at once from the second time on.
                let _ = may_go_on.recv();
            }))
        });
        has_started.recv().unwrap();
        let second = projection.rebuild(unwatched());
        assert!(matches!(second, Err(RebuildError::Busy)), "{second:?}");
        drop(go_on);
        assert!(first.join().unwrap().unwrap().equal);
    });
    assert!(projection.rebuild(unwatched()).unwrap().equal);
    projection.stop();
}

#[test]
fn an_event_that_cannot_be_applied_fails_the_rebuild_and_not_the_reads() {
    let (written, projection) = with_resources(Engine::Sled);
    written.writer().append_unknown();
    let outcome = projection.rebuild(unwatched());
    let position = 2 * BEFORE;
    assert!(
        matches!(outcome, Err(RebuildError::Apply { position: at, .. }) if at == position),
        "{outcome:?}"
    );
    assert!(projection.views().resource(id(1)).unwrap().is_some());
    assert_eq!(written.generations(), ["gen-000001"]);
    projection.stop();
}

/// Stops the projection, changes one row, takes one away and puts one in.
fn with_damage() -> Written {
    let (written, projection) = with_resources(Engine::Sled);
    projection.stop();
    drop(projection);
    damage(&written.dir().join("gen-000001"), |rows| {
        let resource = [b"r".as_slice(), id(7).as_bytes()].concat();
        let mut value = rows.get(&resource).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        rows.insert(resource, value).unwrap();
        let (created, _) = rows.scan_prefix(b"c").next().unwrap().unwrap();
        rows.remove(created).unwrap();
        rows.insert(b"d-no-digest", b"").unwrap();
    });
    written
}

fn verified(written: &Written) -> Vec<(&'static str, String)> {
    let (reader, scratch) = (written.reader(), written.beside("scratch"));
    let options = options(Engine::Sled);
    let found = verify_model::<Views>(&reader, &written.dir(), &scratch, &options, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(!scratch.exists());
    found
        .into_iter()
        .map(|damage| (damage.kind, damage.key))
        .collect()
}

#[test]
fn verification_names_each_damaged_row_and_an_offline_rebuild_mends_them() {
    let written = with_damage();
    let found = verified(&written);
    let kinds: Vec<_> = found.iter().map(|(kind, key)| (*kind, &key[..2])).collect();
    assert_eq!(
        kinds,
        [("missing", "63"), ("surplus", "64"), ("differs", "72")]
    );
    assert_eq!(
        found[2].1,
        format!("72{}", id(7).to_string().replace('-', ""))
    );
    // Looking changed nothing.
    assert_eq!(verified(&written).len(), 3);
    let outcome = rebuild_offline::<Views>(&written.settings(Engine::Sled), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(!outcome.equal && outcome.swapped);
    assert_eq!(verified(&written), []);
    let outcome = rebuild_offline::<Views>(&written.settings(Engine::Sled), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(outcome.equal && outcome.swapped);
    assert_eq!(written.generations(), ["gen-000003"]);
}

/// Where a block of a table was damaged, the verification of the whole ended with a failure.
#[test]
fn rows_that_cannot_be_read_are_told_and_what_stands_behind_them_is_compared() {
    let (written, projection) = with_resources(Engine::LsmTree);
    projection.stop();
    drop(projection);
    let verify = || {
        let (reader, scratch) = (written.reader(), written.beside("scratch"));
        let options = options(Engine::LsmTree);
        verify_model::<Views>(&reader, &written.dir(), &scratch, &options, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap()
    };
    assert_eq!(verify(), []);
    let tables = written.dir().join("gen-000001/lsm-tree/tree/tables");
    let table = std::fs::read_dir(tables).unwrap().next().unwrap();
    let table = table.unwrap().path();
    let whole = std::fs::read(&table).unwrap();
    let mut n_located = 0;
    for percent in [0, 3, 10, 25, 33, 50, 60, 75, 95] {
        let mut bytes = whole.clone();
        bytes[(whole.len() - 1) * percent / 100] ^= 4;
        std::fs::write(&table, &bytes).unwrap();
        let found = verify();
        assert!(!found.is_empty(), "{percent} %");
        for damage in &found {
            assert_eq!(damage.kind, "unreadable", "{percent} %: {damage:?}");
            n_located += usize::from(!damage.key.is_empty());
        }
        // One block is one damage, however many rows stand in it, and nothing else is said.
        assert_eq!(found.len(), 1, "{percent} %: {found:?}");
    }
    assert!(n_located > 3, "{n_located}");
    let settings = written.settings(Engine::LsmTree);
    let rebuilt = rebuild_offline::<Views>(&settings, &mut |_| ControlFlow::Continue(()));
    assert!(!rebuilt.unwrap().equal);
    assert_eq!(verify(), []);
}

/// "As before" was said of what nobody had looked at.
#[test]
fn a_rebuild_says_whether_there_was_anything_to_compare_with() {
    let written = Written::new();
    written.writer().create(1);
    let rebuild = || {
        let settings = written.settings(Engine::LsmTree);
        rebuild_offline::<Views>(&settings, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let first = rebuild();
    assert_eq!((first.digest_live, first.equal), (None, true));
    let second = rebuild();
    assert_eq!(second.digest_live, Some(first.digest_rebuilt));
    assert!(second.equal);
    let generation = written.generations().pop().unwrap();
    // Nothing of the engine's is where its rows should be.
    let rows = written.dir().join(generation);
    std::fs::remove_dir_all(&rows).unwrap();
    std::fs::create_dir(&rows).unwrap();
    std::fs::write(rows.join("version"), "unreadable").unwrap();
    let third = rebuild();
    assert_eq!((third.digest_live, third.equal), (None, false));
    assert_eq!(third.digest_rebuilt, first.digest_rebuilt);
}

#[test]
fn an_online_rebuild_tells_of_damaged_rows_and_puts_good_ones_in_their_place() {
    let written = with_damage();
    let projection = written.start(Engine::Sled);
    let outcome = projection.rebuild(unwatched()).unwrap();
    assert!(!outcome.equal && outcome.swapped);
    assert_ne!(outcome.digest_live, Some(outcome.digest_rebuilt));
    let digest = written.folded(Engine::Sled).state_digest().unwrap();
    assert_eq!(outcome.digest_rebuilt, digest);
    assert_eq!(projection.views().state_digest().unwrap(), digest);
    projection.stop();
}

#[test]
fn views_that_lost_rows_and_stopped_go_on_after_a_rebuild() {
    let (written, projection) = with_resources(Engine::Sled);
    projection.stop();
    drop(projection);
    damage(&written.dir().join("gen-000001"), |rows| {
        // Without its row the next event of the resource cannot be applied.
        rows.remove([b"r".as_slice(), id(7).as_bytes()].concat())
            .unwrap();
    });
    written
        .writer()
        .append(&id(7).stream_name(), vec![written::untagged()]);
    let projection = written.start(Engine::Sled);
    let end = 2 * BEFORE + 1;
    assert!(written.wait(&projection, end).is_err());
    let outcome = projection.rebuild(unwatched()).unwrap();
    assert!(!outcome.equal && outcome.swapped);
    assert_eq!(written.wait(&projection, end), Ok(end));
    let descriptor = projection.views().resource(id(7)).unwrap().unwrap();
    assert_eq!(descriptor.revision, 2);
    projection.stop();
}

#[test]
fn nobody_verifies_or_rebuilds_under_a_running_projection() {
    let (written, projection) = with_resources(Engine::Sled);
    let (reader, scratch) = (written.reader(), written.beside("scratch"));
    let options = options(Engine::Sled);
    let refused = verify_model::<Views>(&reader, &written.dir(), &scratch, &options, &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(refused, Err(RebuildError::InUse)), "{refused:?}");
    let refused = rebuild_offline::<Views>(&written.settings(Engine::Sled), &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(refused, Err(RebuildError::InUse)), "{refused:?}");
    assert_eq!(written.generations(), ["gen-000001"]);
    projection.stop();
}
