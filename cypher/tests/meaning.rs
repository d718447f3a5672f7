//! What queries mean where it was once mistaken: conditions that look at the graph, aggregates
//! within other forms, what is sorted by, numbers.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use stemma_cypher::{Error, Limits, MemoryGraph, Patience, Query, Value};

/// Two collections, of two resources and of one.
fn graph() -> MemoryGraph {
    let mut graph = MemoryGraph::default();
    for name in ["one", "two"] {
        graph.add_node(name, &["Collection"], &[("name", Value::text(name))]);
    }
    for (id, collection) in [("a", "one"), ("b", "one"), ("c", "two")] {
        graph.add_node(id, &["Resource"], &[("name", Value::text(id))]);
        graph.add_relationship(id, "IN_COLLECTION", collection);
    }
    graph
}

fn ask(text: &str) -> Result<Vec<Vec<Value>>, Error> {
    let limits = Limits::default();
    let patience = Patience::of(&limits, Arc::default());
    let query = Query::parse(text, &limits)?;
    let answer = query.run(&graph(), &BTreeMap::new(), &limits, &patience);
    answer.map(|answer| answer.rows)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => format!("{float:?}"),
        Value::String(text) => text.to_string(),
        Value::List(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        Value::Map(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|(key, value)| format!("{key}: {}", shown(value)));
            entries.collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}

/// Holds the rows of a query against what is expected.
fn hold(text: &str, expected: &[&str]) {
    let rows = ask(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let rows = rows.iter().map(|row| {
        let values: Vec<String> = row.iter().map(shown).collect();
        values.join(" | ")
    });
    assert_eq!(rows.collect::<Vec<_>>(), expected, "{text}");
}

/// The value of such a condition was found before the rows were, once and for all of them: the
/// pattern in it then named by itself what the row was to name.
#[test]
fn a_condition_that_looks_at_the_graph_is_asked_of_each_row() {
    for value in [
        "head([(c)<-[:IN_COLLECTION]-(r) | c.id])",
        "head([x IN [(c)<-[:IN_COLLECTION]-(r) | c.id] | x])",
        "CASE WHEN EXISTS { (c)<-[:IN_COLLECTION]-(r) } THEN c.id END",
        "{a: [(c)<-[:IN_COLLECTION]-(r) | c.id]}.a[0]",
        "reduce(s = '', x IN [(c)<-[:IN_COLLECTION]-(r:Resource {name: 'c'}) | c.id] | s + x) \
         + CASE COUNT { (c)<-[:IN_COLLECTION]-(r) } WHEN 2 THEN c.id ELSE '' END",
    ] {
        let text =
            format!("MATCH (c:Collection) WHERE c.id = {value} RETURN c.name ORDER BY c.name");
        hold(&text, &["one", "two"]);
    }
}

/// Such queries were taken, and gave one row that speaks of whatever came first.
#[test]
fn what_stands_beside_an_aggregate_within_another_form_is_grouped_by_or_refused() {
    let matched = "MATCH (n:Collection)<-[:IN_COLLECTION]-(r)";
    for (returned, name) in [
        ("{name: n.name, k: count(r)} AS m", "n"),
        ("n {.name, k: count(r)} AS m", "n"),
        ("n, n {r, k: count(*)} AS m", "r"),
        ("[x IN collect(r.name) | n.name + x] AS m", "n"),
        ("[x IN collect(r.name) WHERE n.name > x] AS m", "n"),
        ("any(x IN collect(r.name) WHERE x = n.name) AS m", "n"),
        (
            "reduce(s = '', x IN collect(r.name) | s + n.name) AS m",
            "n",
        ),
        ("reduce(s = n.name, x IN collect(r.name) | s) AS m", "n"),
        ("count(r) + COUNT { (n)<--(x) } AS m", "n"),
        ("count(r) > 0 AND EXISTS { (x {name: n.name}) } AS m", "n"),
        (
            "count(r) + size([(x)-->(y) WHERE y.name = n.name | 1]) AS m",
            "n",
        ),
        ("count(r) + size([(x)-->(y) | n.name]) AS m", "n"),
        // What has the name within a form is not what rows are grouped by.
        (
            "coalesce(r, n) AS k, count(*) + size([r IN [1] | coalesce(r, n)]) AS m",
            "n",
        ),
    ] {
        let text = format!("{matched} RETURN {returned}");
        let refused = ask(&text).unwrap_err().to_string();
        let told = format!("{name} beside an aggregate is no column");
        assert!(refused.starts_with(&told), "{text}: {refused}");
    }
    for (returned, expected) in [
        (
            "n, n {.name, k: count(r)} AS m ORDER BY n.name",
            ["k: 2, name: one", "k: 1, name: two"],
        ),
        (
            "n, n.name + count(r) + size([(n)<--(x) | x]) AS m ORDER BY n.name",
            ["one22", "two11"],
        ),
        (
            "n, reduce(s = n.name, x IN collect(r.name) | s + x) AS m ORDER BY n.name",
            ["oneab", "twoc"],
        ),
        (
            "n, [n IN collect(r.name) | n] AS m ORDER BY m",
            ["a b", "c"],
        ),
    ] {
        hold(&format!("{matched} WITH {returned} RETURN m"), &expected);
    }
}

/// Beside a star rows are grouped by all variables, and yet such queries were refused.
#[test]
fn beside_a_star_an_aggregate_may_stand_with_any_variable() {
    let matched = "MATCH (n:Collection)<-[:IN_COLLECTION]-(r)";
    for (returned, expected) in [
        (
            "*, n {.name, k: count(r)} AS m",
            ["k: 1, name: one", "k: 1, name: one", "k: 1, name: two"],
        ),
        (
            "*, reduce(s = n.name, x IN collect(r.id) | s + x) AS m",
            ["onea", "oneb", "twoc"],
        ),
    ] {
        let text = format!("{matched} WITH {returned} RETURN m ORDER BY m");
        hold(&text, &expected);
        let returned = ask(&format!("{matched} RETURN {returned}"));
        let columns = returned.unwrap().iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(columns, [3, 3, 3]);
    }
}

#[test]
fn rows_are_sorted_by_the_column_that_is_named_and_no_other() {
    let pairs = "UNWIND [[1, 9], [2, 8]] AS p WITH p[0] AS a, p[1] AS b";
    for (returned, expected) in [
        ("a AS b, b AS c ORDER BY a", ["1 | 9", "2 | 8"]),
        ("a AS b, b AS c ORDER BY b", ["1 | 9", "2 | 8"]),
        ("a AS b, b AS c ORDER BY c", ["2 | 8", "1 | 9"]),
        // A column hides what had its name before.
        ("a AS b, b AS a ORDER BY a", ["2 | 8", "1 | 9"]),
        ("a AS b, b AS a ORDER BY a + 0", ["2 | 8", "1 | 9"]),
        ("a AS b, b AS a ORDER BY b", ["1 | 9", "2 | 8"]),
        ("b AS x, a AS b ORDER BY -b", ["8 | 2", "9 | 1"]),
        ("DISTINCT a AS b, b AS a ORDER BY a", ["2 | 8", "1 | 9"]),
        ("a AS b, count(b) AS a ORDER BY b DESC", ["2 | 1", "1 | 1"]),
    ] {
        hold(&format!("{pairs} RETURN {returned}"), &expected);
    }
    hold(
        "UNWIND [3, 1, 2] AS x RETURN x % 3 AS y, x * 2 ORDER BY x * 2, x % 3",
        &["1 | 2", "2 | 4", "0 | 6"],
    );
}

#[test]
fn numbers_are_rounded_divided_and_read_as_they_should() {
    hold(
        "RETURN round(0.49999999999999994), round(9007199254740991.0), round(-0.5), round(-1.5), \
         round(2.5), round(-2.4)",
        &["0.0 | 9007199254740991.0 | 0.0 | -1.0 | 3.0 | -2.0"],
    );
    hold(
        "RETURN -9223372036854775808 % -1, 7 % -2, -7 % 2",
        &["0 | 1 | -1"],
    );
    assert!(ask("RETURN -9223372036854775808 / -1").is_err());
    assert!(ask("RETURN 1 % 0").is_err());
    hold(
        "RETURN toInteger('1e3'), toInteger(' -2.9E0 '), toInteger('1e'), toInteger('inf'), \
         toInteger('Infinity'), toInteger('NaN')",
        &["1000 | -2 | null | null | null | null"],
    );
    hold(
        "RETURN toFloat('inf'), toFloat('infinity'), toFloat('nan'), toFloat('Infinity'), \
         toFloat('-Infinity'), toFloat('NaN'), toFloat('1e3'), toFloat('-1.5')",
        &["null | null | null | inf | -inf | NaN | 1000.0 | -1.5"],
    );
}
