//! What one query may make and keep: how deep and how large a value is, and that all that is kept of
//! rows, groups, keys and searches counts.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use stemma_cypher::{Answer, Error, Limits, MemoryGraph, Patience, Query, Value};

const DEEP: &str = "the depth of lists and maps within each other";
const MEMORY: &str = "what the query keeps in memory";

fn ask_with(
    graph: &MemoryGraph,
    text: &str,
    limits: &Limits,
    parameters: &BTreeMap<Arc<str>, Value>,
) -> Result<Answer, Error> {
    let patience = Patience::of(limits, Arc::default());
    Query::parse(text, limits)?.run(graph, parameters, limits, &patience)
}

fn ask(text: &str, limits: &Limits) -> Result<Answer, Error> {
    let mut graph = MemoryGraph::default();
    graph.add_node("a", &["A"], &[]);
    graph.add_node("b", &["A"], &[]);
    graph.add_relationship("a", "R", "b");
    ask_with(&graph, text, limits, &BTreeMap::new())
}

/// What a query was stopped for.
fn stopped(answer: Result<Answer, Error>, text: &str) -> &'static str {
    match answer {
        Err(Error::Limit { what, .. }) => what,
        other => panic!("{text}: {:?}", other.map(|answer| answer.rows.len())),
    }
}

/// So many megabytes of memory, and time that no test takes.
fn megabytes(number: usize) -> Limits {
    Limits {
        bytes: number << 20,
        time: std::time::Duration::from_mins(2),
        ..Limits::default()
    }
}

/// So many lists within each other.
fn nested(depth: usize) -> Value {
    let mut value = Value::Null;
    for _ in 0..depth {
        value = Value::list(vec![value]);
    }
    value
}

/// On a thread with a stack of its own, as queries are run by the server.
fn with_stack(run: fn()) {
    let thread = std::thread::Builder::new().stack_size(16 << 20);
    thread.spawn(run).unwrap().join().unwrap();
}

/// Such a value was compared, written and dropped by what calls itself for each list in it, until
/// the stack was at its end and the whole process with it.
#[test]
fn a_value_that_is_too_deep_is_refused_wherever_it_would_be_made() {
    with_stack(refuse_what_is_too_deep);
}

fn refuse_what_is_too_deep() {
    // As deep as may be, and what would be one deeper.
    let deep = BTreeMap::from([(Arc::from("deep"), nested(1000))]);
    let mut graph = MemoryGraph::default();
    graph.add_node("a", &["A"], &[]);
    graph.add_node("b", &["A"], &[]);
    graph.add_relationship("a", "R", "b");
    let limits = Limits::default();
    let ask = |text: &str| ask_with(&graph, text, &limits, &deep);
    for text in [
        "RETURN [$deep] AS x",
        "RETURN {a: $deep} AS x",
        "MATCH (n {id: 'a'}) RETURN n {.id, a: $deep} AS x",
        "RETURN [x IN [1] | $deep] AS x",
        "MATCH (n {id: 'a'}) RETURN [(n)-->(m) | $deep] AS x",
        "RETURN [] + $deep + {a: $deep} AS x",
        "WITH $deep AS x RETURN collect(x) AS x",
        "RETURN reduce(l = $deep, i IN [1] | [l]) AS x",
    ] {
        assert_eq!(stopped(ask(text), text), DEEP, "{text}");
    }
    let equal = ask("RETURN $deep = $deep, size($deep)").unwrap();
    assert_eq!(equal.rows.len(), 1);
    let deeper = BTreeMap::from([(Arc::from("deep"), nested(1001))]);
    let text = "RETURN 1";
    let answer = ask_with(&graph, text, &limits, &deeper);
    assert_eq!(stopped(answer, text), DEEP);
}

#[test]
fn a_value_that_grows_deep_step_by_step_is_refused() {
    with_stack(|| {
        let (open, close) = ("[".repeat(90), "]".repeat(90));
        let text =
            format!("WITH reduce(l = [], i IN range(1, 2600) | {open}l{close}) AS x RETURN x = x");
        assert_eq!(stopped(ask(&text, &Limits::default()), &text), DEEP);
    });
}

/// A value that holds itself twice, and that again, is small where it is kept and without an end
/// for whoever walks through it.
#[test]
fn a_value_that_is_too_large_when_it_is_written_out_is_refused() {
    let doubled = "WITH [x, x] AS x ".repeat(45);
    let mapped = "WITH {a: x, b: x} AS x ".repeat(45);
    for (text, end) in [
        (&doubled, "RETURN x"),
        (&doubled, "RETURN x = x"),
        (&doubled, "RETURN DISTINCT x ORDER BY x"),
        (&mapped, "RETURN x"),
    ] {
        let text = format!("WITH [1] AS x {text}{end}");
        assert_eq!(stopped(ask(&text, &Limits::default()), &text), MEMORY);
    }
}

#[test]
fn what_rows_are_sorted_and_grouped_by_counts_as_what_is_kept() {
    for text in [
        "UNWIND range(1, 2000) AS x WITH x ORDER BY [y IN range(1, 1000) | x + y] \
         RETURN count(*)",
        "UNWIND range(1, 2000) AS x WITH [y IN range(1, 1000) | x + y] AS k, count(*) AS n \
         RETURN sum(n)",
        "UNWIND range(1, 2000) AS x WITH x, max([y IN range(1, 1000) | x + y]) AS m \
         RETURN count(m)",
        "UNWIND range(1, 2000) AS x WITH x, min([y IN range(1, 1000) | x + y]) AS m \
         RETURN count(m)",
    ] {
        assert_eq!(stopped(ask(text, &megabytes(8)), text), MEMORY, "{text}");
    }
}

#[test]
fn what_is_dropped_no_longer_counts() {
    for text in [
        // Of a sort that is cut, of the greatest so far, of groups that are told of.
        "UNWIND range(1, 6000) AS x WITH x ORDER BY [y IN range(1, 100) | x + y] LIMIT 1 RETURN x",
        "UNWIND range(1, 500) AS x RETURN size(max([y IN range(1, 1000) | x + y]))",
        "UNWIND range(1, 20) AS round WITH round \
         RETURN sum(size([y IN range(1, 40000) | y + round]))",
        "UNWIND range(1, 500) AS a UNWIND range(1, 500) AS x WITH collect(x) AS xs \
         UNWIND xs AS x WITH DISTINCT x RETURN count(x)",
        // Of groups, and of what was sorted, behind the last one that was wanted.
        "UNWIND range(1, 40) AS x \
         WITH x % 20 AS x, max([y IN range(1, 10000) | x + y]) AS m LIMIT 1 \
         WITH collect(m) AS m RETURN size([x IN range(1, 100000) | x]) \
         UNION UNWIND range(1, 12) AS x WITH [y IN range(1, 10000) | x + y] AS m \
         ORDER BY m LIMIT 1 WITH collect(m) AS m RETURN size([x IN range(1, 100000) | x])",
        // Of rows that were seen, behind the last group that was wanted.
        "UNWIND range(1, 100000) AS x WITH DISTINCT collect(x) AS m LIMIT 1 \
         WITH size(m) AS s WITH collect(s) AS s RETURN size([x IN range(1, 150000) | x])",
    ] {
        let answer = ask(text, &megabytes(8));
        assert_eq!(answer.map(|answer| answer.rows.len()), Ok(1), "{text}");
    }
}

/// Nothing of it was counted: in a query of such calls the clock was looked at once for hundreds of
/// them.
#[test]
fn work_on_a_long_text_or_list_counts_before_it_begins() {
    // The first look at the clock ends the query, and a short one has none.
    let limits = Limits {
        time: std::time::Duration::ZERO,
        ..Limits::default()
    };
    let given = |length: i64| {
        let text = "x".repeat(usize::try_from(length).unwrap());
        let list = (0..length).map(Value::Integer).collect();
        BTreeMap::from([
            (Arc::from("t"), Value::text(&text)),
            (Arc::from("l"), Value::list(list)),
        ])
    };
    let (short, long) = (given(10), given(1 << 20));
    for value in [
        "$t STARTS WITH 'y'",
        "'y' ENDS WITH $t",
        "$t CONTAINS 'y'",
        "$l[1..]",
        "$l[..2]",
        "toUpper($t)",
        "toLower($t)",
        "trim($t)",
        "left($t, 1)",
        "right($t, 1)",
        "substring($t, 1)",
        "reverse($t)",
        "size($t)",
        "toFloat($t)",
        "tail($l)",
        "reverse($l)",
    ] {
        let text = format!("RETURN {value}");
        let ask = |given| ask_with(&MemoryGraph::default(), &text, &limits, given);
        assert_eq!(stopped(ask(&long), &text), "the query's time", "{text}");
        assert!(ask(&short).is_ok(), "{text}");
    }
}

/// So many parentheses within each other, with operators in rows behind each.
fn chained(depth: usize, chains: &str) -> String {
    let closed = format!("{chains})").repeat(depth);
    format!("RETURN {}1{closed} AS x", "(".repeat(depth))
}

/// Each row of operators and each parenthesis was within its own limit, and they came to tens of
/// thousands within each other: the stack was at its end, and the whole process with it.
#[test]
fn operators_in_rows_within_each_other_are_refused_before_they_are_too_deep() {
    with_stack(|| {
        let chains = ["^1", "*1", "+1"].map(|link| link.repeat(99)).concat();
        let suffixes = ".a".repeat(90) + &"[0]".repeat(9);
        for chains in [&chains, &" OR true".repeat(90), &" IS NULL".repeat(60)] {
            let text = chained(80, chains);
            let what = stopped(ask(&text, &Limits::default()), &text);
            assert_eq!(what, "the depth of an expression", "{text:.40}");
        }
        let text = chained(6, &suffixes);
        let what = stopped(ask(&text, &Limits::default()), &text);
        assert_eq!(what, "the depth of an expression", "{text:.40}");
    });
}

#[test]
fn what_is_as_deep_as_may_be_runs_and_what_stands_side_by_side_is_not_deep() {
    with_stack(|| {
        let deep = ask(&chained(12, &"+1".repeat(40)), &Limits::default()).unwrap();
        assert!(matches!(deep.rows[0][0], Value::Integer(481)));
        let listed = vec!["1 + 2 * 3"; 1000].join(", ");
        let joined = vec!["true AND 1 + 1 = 2 AND 2 * 3 - 4 = 2"; 100].join(" OR ");
        for text in [
            format!("RETURN [{listed}] AS x"),
            format!("RETURN {joined} AS x"),
        ] {
            let answer = ask(&text, &Limits::default());
            assert_eq!(answer.map(|answer| answer.rows.len()), Ok(1), "{text:.40}");
        }
    });
}

#[test]
fn all_that_is_on_its_way_at_the_same_time_counts_together() {
    // Four of them are more than there may be.
    let large = "range(1, 100000)";
    let with = format!("WITH {large} AS a ").repeat(4);
    let unwound = (0..4).map(|n| format!("UNWIND {large} AS x{n} "));
    let unwound = unwound.collect::<Vec<_>>().concat();
    for text in [
        format!("RETURN size([{large}, {large}, {large}, {large}])"),
        format!("RETURN size(keys({{a: {large}, b: {large}, c: {large}, d: {large}}}))"),
        format!("RETURN size(coalesce({large}, {large}, {large}, {large}))"),
        format!("RETURN {large} = ({large} = ({large} = {large}))"),
        format!("WITH {large} AS a, {large} AS b, {large} AS c, {large} AS d RETURN size(a)"),
        format!("{with} RETURN size(a)"),
        format!("{unwound} RETURN 1 LIMIT 1"),
        // What rows are sorted by; an error behind it came first, when all was there.
        format!(
            "WITH size({large}) AS s RETURN 1 AS x \
             ORDER BY {large}, {large}, {large}, {large}, 1 / (s - 100000)"
        ),
        // What nodes are looked up by, and what is known of them by conditions.
        format!("MATCH (n:Nothing {{a: {large}, b: {large}, c: {large}, d: {large}}}) RETURN 1"),
        format!(
            "MATCH (n:A) WHERE n.a = {large} AND n.b = {large} AND n.c = {large} \
             AND n.d = {large} RETURN 1"
        ),
        format!(
            "RETURN [1][CASE size({large}) WHEN 10 THEN 0 ELSE {large} END..\
             size([{large}, {large}, {large}])]"
        ),
        format!("RETURN size(CASE {large} WHEN 0 THEN 1 ELSE [{large}, {large}, {large}] END)"),
    ] {
        assert_eq!(stopped(ask(&text, &megabytes(8)), &text), MEMORY, "{text}");
        let fewer = text.replacen(large, "range(1, 10)", 2);
        assert!(ask(&fewer, &megabytes(8)).is_ok(), "{fewer}");
    }
}

/// Three layers of sixty nodes, each with a relationship to all of the next.
#[test]
fn every_step_that_a_search_for_shortest_paths_remembers_counts() {
    let mut graph = MemoryGraph::default();
    for id in ["start", "end"] {
        graph.add_node(id, &["N"], &[]);
    }
    for layer in 0..3 {
        for place in 0..60 {
            graph.add_node(&format!("{layer} {place}"), &["N"], &[]);
            let before = |place: usize| match layer {
                0 => "start".to_owned(),
                _ => format!("{} {place}", layer - 1),
            };
            for from in 0..60 {
                graph.add_relationship(&before(from), "R", &format!("{layer} {place}"));
            }
        }
    }
    for place in 0..60 {
        graph.add_relationship(&format!("2 {place}"), "R", "end");
    }
    let text = "MATCH p = shortestPath((a {id: 'start'})-[*]->(b {id: 'end'})) RETURN length(p)";
    let ask = |limits: &Limits| ask_with(&graph, text, limits, &BTreeMap::new());
    assert_eq!(ask(&megabytes(8)).unwrap().rows.len(), 1);
    assert_eq!(stopped(ask(&megabytes(1)), text), MEMORY);
}

/// A chain of 21 nodes: what is 15 relationships away is found. What is farther was told to be not
/// there at all.
#[test]
fn a_shortest_path_that_would_be_too_long_stops_the_query() {
    let mut graph = MemoryGraph::default();
    for number in 0..=20 {
        graph.add_node(&format!("n{number}"), &["N"], &[]);
    }
    graph.add_node("alone", &["N"], &[]);
    for number in 0..20 {
        graph.add_relationship(&format!("n{number}"), "R", &format!("n{}", number + 1));
    }
    let ask = |length: &str, end: &str| {
        let text = format!(
            "MATCH p = shortestPath((a {{id: 'n0'}})-[{length}]-(b {{id: '{end}'}})) \
             RETURN length(p)"
        );
        ask_with(&graph, &text, &Limits::default(), &BTreeMap::new())
    };
    let rows = |length: &str, end: &str| ask(length, end).unwrap().rows.len();
    assert_eq!(rows("*", "n15"), 1);
    for length in ["*", "*..16", "*..30"] {
        let what = stopped(ask(length, "n16"), length);
        assert_eq!(what, "the length of a path", "{length}");
    }
    // The pattern itself wants no longer one, or there is nowhere to go on to.
    assert_eq!((rows("*..15", "n16"), rows("*..3", "n20")), (0, 0));
    let text = "MATCH p = shortestPath((a {id: 'n15'})-[*]->(b {id: 'alone'})) RETURN p";
    let answer = ask_with(&graph, text, &Limits::default(), &BTreeMap::new());
    assert_eq!(answer.unwrap().rows.len(), 0);
}
