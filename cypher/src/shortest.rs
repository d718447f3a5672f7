//! The shortest paths between two nodes.
//!
//! A search from one end, step by step, until the other is met; then back along the last steps of
//! the shortest ways. Invariant: all that is remembered of it is counted while it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ast::{RelationshipPattern, Shape};
use crate::error::Error;
use crate::eval::Env;
use crate::graph::Relationship;
use crate::limits::Held;
use crate::matching::{Flow, other_end};

/// Bytes that are kept of a node that a search reached, about: itself, and its place in the queue.
const NODE_BYTES: usize = 240;
/// Bytes that are kept of a step to such a node, about: the relationship, and where it starts.
const STEP_BYTES: usize = 240;

/// The relationships of a path.
type Way = Vec<Arc<Relationship>>;
/// Of each node that was reached: how far it is, and all last steps of shortest ways to it.
type Steps = BTreeMap<Arc<str>, (u32, BTreeSet<(Arc<str>, Arc<Relationship>)>)>;

fn way_bytes(way: &Way) -> usize {
    way.len() * 16 + 24
}

/// The ways that were found, and the one that is followed back from its end.
struct Ways<'r> {
    reached: &'r Steps,
    from: &'r Arc<str>,
    shape: Shape,
    behind: Way,
    found: Vec<Way>,
}

impl Env<'_> {
    /// The shortest ways between two nodes, in the order of their relationships; one, or all. They
    /// are held from then on.
    pub(crate) fn ways(
        &self,
        edge: &RelationshipPattern,
        (from, to): (&Arc<str>, &Arc<str>),
        shape: Shape,
        held: &mut Held<'_, '_>,
    ) -> Result<Vec<Way>, Error> {
        let (least, most) = edge.length.unwrap_or((1, Some(1)));
        if least > 1 {
            return Err(Error::unsupported(
                "a shortestPath of at least two relationships",
            ));
        }
        if from == to {
            // Of a node to itself there is the empty one, where that is asked for.
            let empty = (least == 0).then(Vec::new);
            return Ok(Vec::from_iter(empty));
        }
        let reached = self.reached((from, to), edge, most, held)?;
        if !reached.contains_key(to) {
            return Ok(Vec::new());
        }
        let mut ways = Ways {
            reached: &reached,
            from,
            shape,
            behind: Vec::new(),
            found: Vec::new(),
        };
        self.unroll(&mut ways, to, held)?;
        let mut ways = ways.found;
        ways.sort();
        held.only(ways.iter().map(way_bytes).sum())?;
        Ok(ways)
    }

    /// All nodes that are as near as the end, with the last steps of the shortest ways to them. A
    /// search that may not go on because of how long any path may be, and could, fails.
    fn reached(
        &self,
        (from, to): (&Arc<str>, &Arc<str>),
        edge: &RelationshipPattern,
        most: Option<u32>,
        held: &mut Held<'_, '_>,
    ) -> Result<Steps, Error> {
        let hops = self.meter.limits.hops;
        let mut reached = Steps::from([(Arc::clone(from), (0, BTreeSet::new()))]);
        let mut waiting = VecDeque::from([(Arc::clone(from), 0)]);
        while let Some((at, distance)) = waiting.pop_front() {
            let is_far = reached.get(to).is_some_and(|(far, _)| distance >= *far);
            if is_far || most.is_some_and(|most| distance >= most) {
                break;
            }
            let whole = self.edges(&at, edge.direction, &edge.kinds, &mut |found| {
                let end = other_end(&found, &at);
                if !reached.contains_key(&end) {
                    if distance >= hops {
                        return Err(self.too_long());
                    }
                    held.more(NODE_BYTES)?;
                    waiting.push_back((Arc::clone(&end), distance + 1));
                    reached.insert(Arc::clone(&end), (distance + 1, BTreeSet::new()));
                }
                if let Some((far, steps)) = reached.get_mut(&end)
                    && *far == distance + 1
                    && steps.insert((Arc::clone(&at), found))
                {
                    held.more(STEP_BYTES)?;
                }
                Ok(Flow::Continue(()))
            })?;
            debug_assert!(whole.is_continue());
        }
        Ok(reached)
    }

    fn unroll(
        &self,
        ways: &mut Ways<'_>,
        at: &Arc<str>,
        held: &mut Held<'_, '_>,
    ) -> Result<(), Error> {
        self.meter.tick()?;
        if at == ways.from {
            let way: Way = ways.behind.iter().rev().cloned().collect();
            held.more(way_bytes(&way))?;
            ways.found.push(way);
            return Ok(());
        }
        let Some((_, steps)) = ways.reached.get(at) else {
            return Ok(());
        };
        // Of many shortest ways one is wanted that does not depend on how the graph is kept.
        let steps = steps.iter().take(if ways.shape == Shape::Shortest {
            1
        } else {
            usize::MAX
        });
        for (before, edge) in steps {
            ways.behind.push(Arc::clone(edge));
            self.unroll(ways, before, held)?;
            ways.behind.pop();
        }
        Ok(())
    }
}
