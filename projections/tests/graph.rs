//! The graph follows the log beside everything else, says what is wrong with it, and is made anew
//! equal while others write (A4, A7, A9).
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

mod written;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use stemma_domain::value::EntityType;
use stemma_projections::{GraphProjection, GraphState, Projection, verify_model};
use stemma_views::graph::{Graph, GraphError, NeighborsQuery, NodeId};
use stemma_views::{Archived, Engine, ResourceQuery};
use written::{PATIENCE, Written, id, options, until, unwatched};

fn opened(written: &Written) -> GraphProjection {
    let graph = GraphProjection::embedded(written.settings(Engine::LsmTree)).unwrap();
    written.runtime.block_on(graph.opened(PATIENCE));
    graph
}

/// Whether the graph has a resource.
fn has(graph: &GraphProjection, number: u64) -> bool {
    let of = NodeId::Resource(id(number));
    let around = graph.store().unwrap().neighbors(&NeighborsQuery {
        of: of.clone(),
        depth: 1,
        relation: None,
        archived: Archived::Any,
        limit: 1,
        rows_max: 10,
    });
    match around {
        Ok(_) => true,
        Err(GraphError::NoNode(missing)) if missing == of => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_graph_follows_and_stops_where_an_event_cannot_be_applied_until_it_is_retried() {
    let written = Written::new();
    let writer = written.writer();
    writer.create(1);
    let graph = opened(&written);
    written
        .runtime
        .block_on(graph.wait_for(2, PATIENCE))
        .unwrap();
    assert!(has(&graph, 1));
    assert_eq!(graph.state().trouble(), None);
    writer.append_unknown();
    writer.create(2);
    until("the graph stops", || graph.state().trouble().is_some());
    let trouble = graph.state().trouble().unwrap();
    let told = "the graph stopped at resource.exploded, position 2: ";
    assert!(trouble.starts_with(told), "{trouble}");
    // What was applied is still answered for, and what was not is not there.
    assert!(has(&graph, 1));
    assert!(!has(&graph, 2));
    let batches = || graph.metrics().unwrap().batches;
    let before = batches();
    graph.retry();
    until("the retry", || batches() > before);
    assert_eq!(graph.end(), 2);
    graph.stop();
    let stopped = Some("the graph is stopped".to_owned());
    assert_eq!(graph.state().trouble(), stopped);
}

#[test]
fn a_graph_made_anew_while_others_write_is_equal_and_takes_over() {
    for engine in Engine::ALL {
        let written = Written::new();
        let writer = written.writer();
        (1..=300).for_each(|number| writer.create(number));
        let projection = Projection::<Graph>::start(written.settings(engine)).unwrap();
        let wait = |end| {
            written
                .runtime
                .block_on(projection.wait_for(end, PATIENCE))
                .unwrap()
        };
        wait(600);
        let is_over = AtomicBool::new(false);
        let (outcome, last) = std::thread::scope(|scope| {
            let writes = scope.spawn(|| {
                let mut number = 300;
                while !is_over.load(Ordering::Acquire) {
                    number += 1;
                    writer.create(number);
                    // Others write, and do not run away from it.
                    writer.wait(&projection, 2 * number).unwrap();
                }
                number
            });
            let outcome = projection.rebuild(unwatched());
            is_over.store(true, Ordering::Release);
            (outcome.unwrap(), writes.join().unwrap())
        });
        assert!(outcome.equal && outcome.swapped, "{engine}: {outcome:?}");
        wait(2 * last);
        let people = ResourceQuery {
            entity_types: vec![EntityType::new("Place").unwrap()],
            limit: usize::MAX,
            ..ResourceQuery::default()
        };
        let listed = projection.model().resources(&people).unwrap();
        assert_eq!(listed.items.len() as u64, last / 2);
        projection.stop();
        drop(projection);
        let scratch = written.beside("scratch");
        let mut on = |_| ControlFlow::Continue(());
        let (reader, dir) = (written.reader(), written.dir());
        let found = verify_model::<Graph>(&reader, &dir, &scratch, &options(engine), &mut on);
        assert_eq!(found.unwrap(), []);
    }
}

#[test]
fn a_graph_of_another_log_is_kept_and_said_to_be() {
    let written = Written::new();
    written.writer().create(1);
    let graph = opened(&written);
    written
        .runtime
        .block_on(graph.wait_for(2, PATIENCE))
        .unwrap();
    graph.stop();
    drop(graph);
    let written = written.with_new_log();
    written.writer().create(2);
    let graph = opened(&written);
    let GraphState::Failed { reason } = graph.state() else {
        panic!("{:?}", graph.state());
    };
    assert!(reason.contains("is another log"), "{reason}");
    assert_eq!(written.generations(), ["gen-000001"]);
}
