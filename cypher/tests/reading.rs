//! Queries and their answers over a small graph, in the manner of the reading scenarios of the
//! openCypher TCK (A7): matching, projecting, grouping, sorting, expressions, refusals and limits.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::too_many_lines, reason = "tables")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stemma_cypher::{Answer, Error, Limits, MemoryGraph, Patience, Query, Value};

/// Four people, two cities, a cycle of who knows whom.
fn graph() -> MemoryGraph {
    let mut graph = MemoryGraph::default();
    for (id, name, age) in [
        ("a", "Ada", 36),
        ("b", "Bob", 20),
        ("c", "Cid", 36),
        ("d", "Dan", 5),
    ] {
        let properties = [("name", Value::text(name)), ("age", Value::Integer(age))];
        graph.add_node(id, &["Person"], &properties);
    }
    graph.add_node("x", &["City"], &[("name", Value::text("Xi"))]);
    graph.add_node("y", &["City", "Capital"], &[("name", Value::text("Yu"))]);
    for (from, kind, to) in [
        ("a", "KNOWS", "b"),
        ("b", "KNOWS", "c"),
        ("c", "KNOWS", "a"),
        ("a", "LIVES_IN", "x"),
        ("b", "LIVES_IN", "y"),
        ("c", "LIVES_IN", "y"),
        ("d", "LIKES", "d"),
    ] {
        graph.add_relationship(from, kind, to);
    }
    graph
}

fn ask(text: &str, limits: &Limits) -> Result<Answer, Error> {
    let parameters = BTreeMap::from([
        (Arc::from("name"), Value::text("Bob")),
        (
            Arc::from("ids"),
            Value::list(vec![Value::text("a"), Value::text("c")]),
        ),
    ]);
    let patience = Patience::of(limits, Arc::default());
    Query::parse(text, limits)?.run(&graph(), &parameters, limits, &patience)
}

/// A value as the tables below write it.
fn shown(value: &Value) -> String {
    let joined = |values: Vec<String>| values.join(", ");
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => format!("{float:?}"),
        Value::String(text) => format!("'{text}'"),
        Value::List(values) => format!("[{}]", joined(values.iter().map(shown).collect())),
        Value::Map(entries) => {
            let entry = |(key, value): (&Arc<str>, &Value)| format!("{key}: {}", shown(value));
            format!("{{{}}}", joined(entries.iter().map(entry).collect()))
        }
        Value::Node(id) => format!("({id})"),
        Value::Relationship(edge) => format!("[{} {} {}]", edge.from, edge.kind, edge.to),
        Value::Path(path) => {
            let mut text = format!("<({})", path.nodes[0]);
            for (edge, node) in path.relationships.iter().zip(&path.nodes[1..]) {
                text += &format!("-{}-({node})", edge.kind);
            }
            text + ">"
        }
    }
}

/// Holds the rows of each query against what is expected, row by row.
fn hold(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let answer =
            ask(text, &Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let rows: Vec<String> = answer
            .rows
            .iter()
            .map(|row| row.iter().map(shown).collect::<Vec<_>>().join(" | "))
            .collect();
        assert_eq!(rows, *expected, "{text}");
    }
}

#[test]
fn nodes_and_relationships_are_matched() {
    hold(&[
        ("MATCH (n) RETURN count(*)", &["6"]),
        ("MATCH (n:City) RETURN n ORDER BY n.name", &["(x)", "(y)"]),
        ("MATCH (n:City:Capital) RETURN n.name", &["'Yu'"]),
        ("MATCH (n {name: 'Ada'}) RETURN n.age", &["36"]),
        (
            "MATCH (n:Person {name: $name, age: 20}) RETURN id(n)",
            &["'b'"],
        ),
        ("MATCH (n {id: 'c'}) RETURN n.name", &["'Cid'"]),
        ("MATCH (n) WHERE n.id = 'c' RETURN n.name", &["'Cid'"]),
        (
            "MATCH (n) WHERE n.id IN $ids RETURN n.name ORDER BY n.name",
            &["'Ada'", "'Cid'"],
        ),
        (
            "MATCH (a)-[r:KNOWS]->(b) RETURN a.name, type(r), b.name ORDER BY a.name",
            &[
                "'Ada' | 'KNOWS' | 'Bob'",
                "'Bob' | 'KNOWS' | 'Cid'",
                "'Cid' | 'KNOWS' | 'Ada'",
            ],
        ),
        (
            "MATCH (a {name: 'Ada'})<-[:KNOWS]-(b) RETURN b.name",
            &["'Cid'"],
        ),
        (
            "MATCH (a {name: 'Ada'})--(b) RETURN b.name ORDER BY b.name",
            &["'Bob'", "'Cid'", "'Xi'"],
        ),
        (
            "MATCH (a {name: 'Ada'})-[:KNOWS|LIVES_IN]->(b) RETURN b.name ORDER BY b.name",
            &["'Bob'", "'Xi'"],
        ),
        // One that leads back to its own node is met once.
        ("MATCH (d)-[r:LIKES]-(e) RETURN d, e", &["(d) | (d)"]),
        // No relationship is used twice within one MATCH, and may be in two.
        (
            "MATCH (a {id: 'a'})-[:KNOWS]-(b)-[:KNOWS]-(c) RETURN b, c ORDER BY b, c",
            &["(b) | (c)", "(c) | (b)"],
        ),
        (
            "MATCH (a {id: 'a'})-[:KNOWS]->(b) MATCH (b)-[:KNOWS]-(c) RETURN c ORDER BY c",
            &["(a)", "(c)"],
        ),
        (
            "MATCH (a:Person)-[:LIVES_IN]->(t)<-[:LIVES_IN]-(b) WHERE a.name < b.name RETURN a, t, b",
            &["(b) | (y) | (c)"],
        ),
        ("MATCH (a:Person), (t:Capital) RETURN count(*)", &["4"]),
        (
            "MATCH (a {id: 'a'}), (a)-[:LIVES_IN]->(t) RETURN t",
            &["(x)"],
        ),
        ("MATCH (n:Nothing) RETURN n", &[]),
        (
            "MATCH (n:Nothing) RETURN count(n), sum(n.x), avg(n.x), max(n.x), collect(n)",
            &["0 | 0 | null | null | []"],
        ),
    ]);
}

#[test]
fn paths_of_variable_length_and_shortest_paths_are_found() {
    hold(&[
        ("MATCH (a {id: 'a'})-[:KNOWS*2]->(b) RETURN b", &["(c)"]),
        (
            "MATCH (a {id: 'a'})-[:KNOWS*]->(b) RETURN b ORDER BY b",
            &["(a)", "(b)", "(c)"],
        ),
        (
            "MATCH (a {id: 'a'})-[:KNOWS*0..1]->(b) RETURN b ORDER BY b",
            &["(a)", "(b)"],
        ),
        (
            "MATCH p = (a {id: 'a'})-[:KNOWS*..2]->(b) RETURN p ORDER BY length(p)",
            &["<(a)-KNOWS-(b)>", "<(a)-KNOWS-(b)-KNOWS-(c)>"],
        ),
        (
            "MATCH p = (b {id: 'b'})<-[r:KNOWS*1..2]-(a) RETURN size(r), [n IN nodes(p) | n.id]",
            &["1 | ['b', 'a']", "2 | ['b', 'a', 'c']"],
        ),
        (
            "MATCH p = (t:Capital)<-[:LIVES_IN]-(x)-[:KNOWS]->(y) RETURN p, relationships(p)[1] \
          ORDER BY x",
            &[
                "<(y)-LIVES_IN-(b)-KNOWS-(c)> | [b KNOWS c]",
                "<(y)-LIVES_IN-(c)-KNOWS-(a)> | [c KNOWS a]",
            ],
        ),
        (
            "MATCH p = shortestPath((a {id: 'a'})-[*]-(t {id: 'y'})) RETURN length(p)",
            &["2"],
        ),
        (
            "MATCH p = allShortestPaths((a {id: 'a'})-[*..4]-(t {id: 'y'})) RETURN p",
            &[
                "<(a)-KNOWS-(b)-LIVES_IN-(y)>",
                "<(a)-KNOWS-(c)-LIVES_IN-(y)>",
            ],
        ),
        (
            "MATCH (a {id: 'a'}), (d {id: 'd'}) MATCH p = shortestPath((a)-[*]-(d)) RETURN p",
            &[],
        ),
        // The nodes of the path are found first, wherever they stand.
        (
            "MATCH (t {id: 'y'}), p = shortestPath((a)-[*]-(t)), (a {id: 'a'}) RETURN length(p)",
            &["2"],
        ),
        (
            "MATCH p = shortestPath((a)-[*]-(t)), (a {id: 'a'}), (t {id: 'a'}) \
          WHERE a <> t RETURN length(p)",
            &[],
        ),
        (
            "MATCH (a {id: 'a'}), (d {id: 'd'}) OPTIONAL MATCH p = shortestPath((a)-[*]-(d)) RETURN p",
            &["null"],
        ),
    ]);
}

#[test]
fn rows_are_projected_grouped_sorted_and_cut() {
    hold(&[
        (
            "MATCH (n:Person) RETURN n.age AS age, count(*) AS n ORDER BY 0 - count(*) + n.age * 0, age",
            &["36 | 2", "5 | 1", "20 | 1"],
        ),
        (
            "MATCH (n:Person) RETURN DISTINCT n.age ORDER BY n.age",
            &["5", "20", "36"],
        ),
        (
            "MATCH (n:Person) RETURN n.name ORDER BY n.age DESC, n.name SKIP 1 LIMIT 2",
            &["'Cid'", "'Bob'"],
        ),
        (
            "MATCH ()-[r]->() RETURN type(r) AS t, count(*) AS n ORDER BY t",
            &["'KNOWS' | 3", "'LIKES' | 1", "'LIVES_IN' | 3"],
        ),
        (
            "MATCH (n:Person) WITH n.age AS age, collect(n.name) AS names WHERE size(names) > 1 \
          RETURN age, names",
            &["36 | ['Ada', 'Cid']"],
        ),
        (
            "MATCH (n:Person) WITH n ORDER BY n.name LIMIT 2 RETURN count(n), min(n.name), max(n.name)",
            &["2 | 'Ada' | 'Bob'"],
        ),
        (
            "MATCH (n:Person) RETURN sum(n.age), avg(n.age), count(DISTINCT n.age)",
            &["97 | 24.25 | 3"],
        ),
        (
            "MATCH (n:Person) RETURN n.age AS age, n.age + count(*) AS c ORDER BY age LIMIT 1",
            &["5 | 6"],
        ),
        ("UNWIND [1, null, 2] AS x RETURN x", &["1", "null", "2"]),
        ("UNWIND [] AS x RETURN x", &[]),
        (
            "UNWIND [3, 1, 2] AS x WITH x ORDER BY x RETURN collect(x)",
            &["[1, 2, 3]"],
        ),
        (
            "UNWIND range(1, 5) AS x RETURN x ORDER BY x DESC LIMIT 2",
            &["5", "4"],
        ),
        (
            "MATCH (a {id: 'd'}) OPTIONAL MATCH (a)-[:LIVES_IN]->(t) RETURN a.name, t, t.name",
            &["'Dan' | null | null"],
        ),
        (
            "MATCH (a:Person) OPTIONAL MATCH (a)-[:LIVES_IN]->(t:Capital) RETURN a.name, t.name \
          ORDER BY a.name",
            &[
                "'Ada' | null",
                "'Bob' | 'Yu'",
                "'Cid' | 'Yu'",
                "'Dan' | null",
            ],
        ),
        (
            "MATCH (n:City) WITH *, 1 AS one RETURN * ORDER BY n.name LIMIT 1",
            &["(x) | 1"],
        ),
        (
            "RETURN 1 AS x UNION RETURN 1 AS x UNION RETURN 2 AS x",
            &["1", "2"],
        ),
        ("RETURN 1 AS x UNION ALL RETURN 1 AS x", &["1", "1"]),
        ("RETURN 1 LIMIT 0", &[]),
        (
            "MATCH (n) WITH n LIMIT 3 WITH count(n) AS c RETURN c * 2",
            &["6"],
        ),
    ]);
    let answer = ask(
        "MATCH (n:Person) RETURN n.name, n.age AS age LIMIT 1",
        &Limits::default(),
    );
    let columns = answer.unwrap().columns;
    assert_eq!(columns, [Arc::from("n.name"), Arc::from("age")]);
}

#[test]
fn expressions_come_to_what_the_reference_says() {
    hold(&[
        (
            "RETURN 1 + 2 * 3 ^ 2, 7 / 2, 7.0 / 2, -7 % 3, 2 ^ 3",
            &["19.0 | 3 | 3.5 | -1 | 8.0"],
        ),
        (
            "RETURN 'a' + 'b', 'a' + 1, [1] + 2, [1] + [2], null + 1",
            &["'ab' | 'a1' | [1, 2] | [1, 2] | null"],
        ),
        (
            "RETURN 1 < 2 <= 2, 1 = 1.0, 'a' < 'b', 1 < 'a', null = null, 1 <> 2",
            &["true | true | true | null | null | true"],
        ),
        (
            "RETURN true AND null, false AND null, true OR null, false OR null, NOT null, true XOR true",
            &["null | false | true | null | null | false"],
        ),
        (
            "RETURN 2 IN [1, 2], 3 IN [1, null], null IN [1], 1 IN []",
            &["true | null | null | false"],
        ),
        (
            "RETURN 'abc' STARTS WITH 'ab', 'abc' ENDS WITH 'c', 'abc' CONTAINS 'x', 'abc' =~ 'A.*', \
          'abc' =~ '(?i)A.*'",
            &["true | true | false | false | true"],
        ),
        ("RETURN null IS NULL, 1 IS NOT NULL", &["true | true"]),
        (
            "RETURN [1, 2, 3][0], [1, 2, 3][-1], [1, 2, 3][5], [1, 2, 3][1..], [1, 2, 3][..-1]",
            &["1 | 3 | null | [2, 3] | [1, 2]"],
        ),
        (
            "WITH {a: 1, b: {c: 'x'}} AS m RETURN m.a, m.b.c, m['a'], m.z, keys(m)",
            &["1 | 'x' | 1 | null | ['a', 'b']"],
        ),
        (
            "RETURN CASE 2 WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'many' END, \
          CASE WHEN false THEN 1 END",
            &["'two' | null"],
        ),
        (
            "RETURN [x IN range(1, 5) WHERE x % 2 = 1 | x * x], [x IN [1, 2]], [1 IN [1], 2]",
            &["[1, 9, 25] | [1, 2] | [true, 2]"],
        ),
        (
            "RETURN all(x IN [1, 2] WHERE x > 0), any(x IN [1, 2] WHERE x > 1), \
          none(x IN [] WHERE x), single(x IN [1, 2] WHERE x = 1), any(x IN [null] WHERE x > 1)",
            &["true | true | true | true | null"],
        ),
        (
            "RETURN reduce(total = 0, x IN [1, 2, 3] | total + x)",
            &["6"],
        ),
        (
            "MATCH (n {id: 'a'}) RETURN n {.name, older: n.age + 1}, n:Person, n:City, labels(n)",
            &["{name: 'Ada', older: 37} | true | false | ['Person']"],
        ),
        (
            "MATCH (n:Person) WHERE (n)-[:LIVES_IN]->(:Capital) RETURN n.name ORDER BY n.name",
            &["'Bob'", "'Cid'"],
        ),
        (
            "MATCH (n:Person) WHERE NOT exists((n)-[:LIVES_IN]->()) RETURN n.name",
            &["'Dan'"],
        ),
        (
            "MATCH (n:Person) WHERE EXISTS { (n)-[:KNOWS]->(m) WHERE m.age > 30 } RETURN n.name \
          ORDER BY n.name",
            &["'Bob'", "'Cid'"],
        ),
        (
            "MATCH (n:City) RETURN n.name, COUNT { (n)<-[:LIVES_IN]-() } AS c ORDER BY c",
            &["'Xi' | 1", "'Yu' | 2"],
        ),
        (
            "MATCH (n {id: 'a'}) RETURN [(n)-[:KNOWS|LIVES_IN]->(m) WHERE m.name <> 'Bob' | m.name]",
            &["['Xi']"],
        ),
        (
            "RETURN size('äö'), toUpper('ä'), trim(' x '), split('a,b', ','), substring('abcd', 1, 2), \
          left('abc', 2), right('abc', 2), replace('aXa', 'X', '-'), reverse('abc')",
            &["2 | 'Ä' | 'x' | ['a', 'b'] | 'bc' | 'ab' | 'bc' | 'a-a' | 'cba'"],
        ),
        (
            "RETURN toInteger('12'), toInteger('x'), toInteger(2.9), toFloat('1.5'), toString(1.0), \
          toBoolean('TRUE'), coalesce(null, 2), abs(-3), round(2.5), sign(-2), ceil(1.2)",
            &["12 | null | 2 | 1.5 | '1.0' | true | 2 | 3 | 3.0 | -1 | 2.0"],
        ),
        (
            "RETURN head([1, 2]), last([1, 2]), tail([1, 2]), range(3, 1, -1), size([]), head([])",
            &["1 | 2 | [2] | [3, 2, 1] | 0 | null"],
        ),
        (
            "MATCH ()-[r:LIKES]->() RETURN startNode(r), endNode(r), properties(r), r.since",
            &["(d) | (d) | {} | null"],
        ),
        (
            "RETURN -0x8000000000000000 = -9223372036854775808, -9223372036854775808 AS least, 0xff, 'it\\'s'",
            &["true | -9223372036854775808 | 255 | 'it's'"],
        ),
    ]);
}

#[test]
fn what_would_write_call_or_load_is_refused_wherever_it_stands() {
    for (text, clause) in [
        ("CREATE (n)", "CREATE"),
        ("MATCH (n) SET n.x = 1", "SET"),
        ("MATCH (n) DETACH DELETE n", "DETACH"),
        ("MATCH (n) REMOVE n.x RETURN n", "REMOVE"),
        ("MERGE (n {id: 'a'}) RETURN n", "MERGE"),
        ("MATCH (n) CALL { CREATE (m) } RETURN n", "CALL"),
        ("CALL db.labels()", "CALL"),
        ("LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l", "LOAD"),
        ("EXPLAIN MATCH (n) RETURN n", "EXPLAIN"),
        ("PROFILE MATCH (n) RETURN n", "PROFILE"),
        ("USE other MATCH (n) RETURN n", "USE"),
        ("SHOW DATABASES", "SHOW"),
        ("DROP DATABASE neo4j", "DROP"),
        (
            "MATCH (n) WITH n FOREACH (x IN [1] | SET n.x = x) RETURN n",
            "FOREACH",
        ),
        ("/* harmless */ mErGe (n) RETURN n", "MERGE"),
        ("MATCH (n) RETURN n UNION CREATE (m) RETURN m", "CREATE"),
    ] {
        let refused = ask(text, &Limits::default()).unwrap_err();
        assert_eq!(
            refused,
            Error::WriteRefused {
                clause: clause.to_owned()
            },
            "{text}"
        );
    }
}

#[test]
fn what_is_not_supported_and_what_is_wrong_is_named() {
    for (text, told) in [
        (
            "RETURN date('2020-01-01')",
            "the function date is not supported",
        ),
        (
            "RETURN apoc.text.join(['a'], ',')",
            "the function apoc.text.join is not supported",
        ),
        (
            "MATCH (n:A|B) RETURN n",
            "an expression of labels is not supported",
        ),
        (
            "MATCH (a)-[r {x: 1}]->(b) RETURN r",
            "a property of a relationship in a pattern is not supported",
        ),
        (
            "MATCH (n WHERE n.x = 1) RETURN n",
            "WHERE inside a pattern is not supported",
        ),
        (
            "MATCH (n) RETURN m",
            "there is no variable m (line 1, column 18)",
        ),
        (
            "MATCH (n)",
            "expected MATCH, OPTIONAL MATCH, UNWIND, WITH or RETURN, found the end (line 1, column 10)",
        ),
        (
            "MATCH (n RETURN n",
            "expected \")\", found \"RETURN\" (line 1, column 10)",
        ),
        (
            "RETURN 1 +",
            "expected an expression, found the end (line 1, column 11)",
        ),
        (
            "MATCH (n) WHERE count(n) > 1 RETURN n",
            "an aggregate stands in WITH or RETURN, and in no other (line 1, column 1)",
        ),
        (
            "MATCH (n) WITH n.name RETURN 1",
            "expected AS and a name for what WITH passes on, found \"RETURN\" (line 1, column 23)",
        ),
        (
            "RETURN 1 AS a UNION RETURN 2 AS b",
            "all parts of a UNION must return columns of the same names (line 1, column 1)",
        ),
        (
            "MATCH (n) RETURN n.age + count(*)",
            "n beside an aggregate is no column that rows are grouped by (line 1, column 1)",
        ),
        ("RETURN 1 / 0", "division by zero"),
        ("RETURN 9223372036854775807 + 1", "integer overflow"),
        ("RETURN 1 AND true", "an integer is neither true nor false"),
        ("RETURN $missing", "there is no parameter $missing"),
        ("RETURN 'a' =~ '('", "regular expression: regex parse error"),
        (
            "MATCH (n) RETURN n LIMIT -1",
            "LIMIT takes a whole number from 0",
        ),
        (
            "MATCH (a {id: 'a'}), (b {id: a.name}) RETURN b",
            "a property in a pattern that speaks of another part of the same MATCH (WHERE may) is not supported",
        ),
    ] {
        let error = ask(text, &Limits::default()).unwrap_err().to_string();
        assert!(error.starts_with(told), "{text}: {error}");
    }
}

#[test]
fn a_query_that_takes_too_much_is_stopped_within_its_limits() {
    let limits = Limits {
        time: Duration::from_millis(200),
        bytes: 8 << 20,
        rows: 100,
        ..Limits::default()
    };
    for (text, what) in [
        // A Cartesian product, and one inside a single expression.
        (
            "MATCH (a), (b), (c), (d), (e), (f), (g), (h), (i), (j) RETURN count(*)",
            "the query's time",
        ),
        (
            "RETURN size([a IN range(1, 9999) WHERE any(b IN range(1, 9999) WHERE \
          any(c IN range(1, 9999) WHERE a + b + c < 0))])",
            "the query's time",
        ),
        (
            "UNWIND range(1, 100000000) AS x UNWIND range(1, 100) AS y RETURN count(*)",
            "what the query keeps in memory",
        ),
        (
            "RETURN range(1, 100000000)",
            "what the query keeps in memory",
        ),
        (
            "RETURN reduce(s = 'a', x IN range(1, 60) | s + s)",
            "what the query keeps in memory",
        ),
        (
            "UNWIND range(1, 90000) AS x UNWIND range(1, 90) AS y RETURN collect(x * y)",
            "what the query keeps in memory",
        ),
        (
            "UNWIND range(1, 90000) AS x UNWIND range(1, 90) AS y WITH DISTINCT x, y RETURN count(*)",
            "what the query keeps in memory",
        ),
    ] {
        let started = Instant::now();
        let time = if what == "the query's time" {
            limits.time
        } else {
            Duration::from_secs(30)
        };
        let limits = Limits {
            time,
            ..limits.clone()
        };
        let Error::Limit { what: exceeded, .. } = ask(text, &limits).unwrap_err() else {
            panic!("{text}");
        };
        assert_eq!(exceeded, what, "{text}");
        // Not a measure of speed: it ends at all, when it would take days.
        assert!(started.elapsed() < Duration::from_mins(1), "{text}");
    }
    let many = ask("UNWIND range(1, 1000) AS x RETURN x", &limits).unwrap();
    assert_eq!((many.rows.len(), many.is_truncated), (100, true));
    let just = ask("UNWIND range(1, 100) AS x RETURN x", &limits).unwrap();
    assert_eq!((just.rows.len(), just.is_truncated), (100, false));
    let deep = format!("RETURN {}1{}", "(".repeat(5000), ")".repeat(5000));
    let nested = format!(
        "RETURN {}1{}",
        "[(a {k: ".repeat(60),
        "})-->(b)]".repeat(60)
    );
    let chained = format!("RETURN 1{}", " + 1".repeat(5000));
    let clauses = format!("{} RETURN 1", "WITH 1 AS a ".repeat(5000));
    let beside: Vec<String> = (0..200).map(|n| format!("(a{n})")).collect();
    let beside = format!("MATCH {} RETURN 1", beside.join(", "));
    for text in [&deep, &chained, &clauses, &beside] {
        assert!(
            matches!(ask(text, &limits), Err(Error::Limit { .. })),
            "{text:.40}"
        );
    }
    assert!(ask(&nested, &limits).is_err());
    let long = format!("RETURN '{}'", "x".repeat(1 << 17));
    assert!(matches!(
        ask(&long, &limits),
        Err(Error::Limit {
            what: "the query's text",
            ..
        })
    ));
}

#[test]
fn a_query_that_nobody_waits_for_ends() {
    let limits = Limits::default();
    let query = Query::parse(
        "MATCH (a), (b), (c), (d), (e), (f), (g), (h) RETURN count(*)",
        &limits,
    );
    let patience = Patience::of(&limits, Arc::new(AtomicBool::new(true)));
    let ended = query
        .unwrap()
        .run(&graph(), &BTreeMap::new(), &limits, &patience);
    assert_eq!(ended.unwrap_err(), Error::Cancelled);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, ..Default::default() })]

    /// Whatever stands in a query, it is answered or refused, and nothing panics.
    #[test]
    fn words_in_any_order_are_answered_or_refused(words in proptest::collection::vec(0..WORDS.len(), 0..24)) {
        let text: Vec<&str> = words.iter().map(|index| WORDS[*index]).collect();
        let limits = Limits { time: Duration::from_secs(5), ..Limits::default() };
        let _ = ask(&text.join(" "), &limits);
    }
}

const WORDS: &[&str] = &[
    "MATCH",
    "OPTIONAL",
    "WHERE",
    "WITH",
    "RETURN",
    "UNWIND",
    "AS",
    "ORDER BY",
    "SKIP",
    "LIMIT",
    "UNION",
    "DISTINCT",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "IN",
    "IS NULL",
    "NOT",
    "AND",
    "EXISTS",
    "COUNT",
    "count(*)",
    "collect",
    "any",
    "reduce",
    "(n)",
    "(n:Person)",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "-",
    "->",
    "<-",
    "-[r]->",
    "-[*1..2]-",
    "|",
    ",",
    ".",
    "..",
    ":",
    "=",
    "<",
    "+",
    "*",
    "n",
    "m",
    "r",
    "n.name",
    "1",
    "-1",
    "2.5",
    "'a'",
    "null",
    "true",
    "$name",
    "$ids",
    "shortestPath",
    "head",
    "size",
    "x IN [1, 2]",
    "(n)-->(m)",
    "// c\n",
];
