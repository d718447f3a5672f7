//! What a fuzzer, and the test that replays its corpus, may ask of what reads and runs queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::graph::MemoryGraph;
use crate::limits::Limits;
use crate::patience::Patience;
use crate::run::Query;
use crate::value::Value;

/// Reads a query and runs it over a small graph within small limits. Panics when reading or running
/// does, or when an answer has a row that does not fit its columns.
pub fn queries(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let limits = Limits {
        time: Duration::from_millis(100),
        bytes: 1 << 20,
        rows: 100,
        ..Limits::default()
    };
    let Ok(query) = Query::parse(&text, &limits) else {
        return;
    };
    let parameters = BTreeMap::from([(Arc::from("p"), Value::text("a"))]);
    let patience = Patience::of(&limits, Arc::default());
    if let Ok(answer) = query.run(&graph(), &parameters, &limits, &patience) {
        let width = answer.columns.len();
        assert!(answer.rows.iter().all(|row| row.len() == width), "{text}");
        assert!(answer.rows.len() <= limits.rows, "{text}");
    }
}

fn graph() -> MemoryGraph {
    let mut graph = MemoryGraph::default();
    for (id, label) in [("a", "A"), ("b", "A"), ("c", "B"), ("d", "B")] {
        graph.add_node(
            id,
            &[label],
            &[("name", Value::text(id)), ("n", Value::Integer(1))],
        );
    }
    for (from, kind, to) in [
        ("a", "R", "b"),
        ("b", "R", "c"),
        ("c", "S", "a"),
        ("d", "S", "d"),
    ] {
        graph.add_relationship(from, kind, to);
    }
    graph
}
