//! The keys of all rows of the graph.
//!
//! A node in a key: one byte for its label, then sixteen bytes of a UUID or two of a length
//! (big-endian) and so many of a name. Invariant: no node in a key is the beginning of another.

use stemma_domain::id::{AnnotationId, ResourceId};
use uuid::Uuid;

use super::node::{EdgeType, Label, NodeId};
use crate::store::StoreError;

const NODE: u8 = b'n';
const OUT: u8 = b'o';
const IN: u8 = b'i';

/// How many nodes and edges there are.
pub(super) const COUNTS: &[u8] = b"s";

/// To which side of a node an edge lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It begins here.
    Out,
    /// It ends here.
    In,
}

const fn byte_of(label: Label) -> u8 {
    match label {
        Label::Annotation => b'A',
        Label::Collection => b'C',
        Label::EntityType => b'E',
        Label::Person => b'P',
        Label::Resource => b'R',
    }
}

fn push(key: &mut Vec<u8>, node: &NodeId) {
    key.push(byte_of(node.label()));
    match node {
        NodeId::Resource(id) => key.extend_from_slice(id.as_bytes()),
        NodeId::Annotation(id) => key.extend_from_slice(id.as_bytes()),
        NodeId::Collection(name) | NodeId::EntityType(name) | NodeId::Person(name) => {
            push_name(key, name);
        }
    }
}

fn push_name(key: &mut Vec<u8>, name: &str) {
    // Names are checked labels, or principals of a few hundred bytes.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(&name.as_bytes()[..usize::from(length)]);
}

fn pull(bytes: &[u8]) -> Option<(NodeId, &[u8])> {
    let (label, rest) = bytes.split_first()?;
    if matches!(label, b'R' | b'A') {
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let id = Uuid::from_bytes(*id);
        let node = if *label == b'R' {
            NodeId::Resource(ResourceId::new(id))
        } else {
            NodeId::Annotation(AnnotationId::new(id))
        };
        return Some((node, rest));
    }
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    let node = match label {
        b'C' => NodeId::Collection(name),
        b'E' => NodeId::EntityType(name),
        b'P' => NodeId::Person(name),
        _ => return None,
    };
    Some((node, rest))
}

pub(super) fn node(id: &NodeId) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    key.push(NODE);
    push(&mut key, id);
    key
}

/// Where all nodes stand, or those of a label.
pub(super) fn nodes(label: Option<Label>) -> Vec<u8> {
    let mut key = vec![NODE];
    key.extend(label.map(byte_of));
    key
}

/// The node that a row is of.
pub(super) fn node_of(key: &[u8]) -> Result<NodeId, StoreError> {
    let parsed = key.get(1..).and_then(pull);
    match parsed {
        Some((node, [])) => Ok(node),
        _ => Err(crate::row::unreadable(key, &"not a node")),
    }
}

/// Where a node's edges stand on one side, those of one type or all.
pub(super) fn edges(node: &NodeId, side: Side, edge: Option<EdgeType>) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.push(match side {
        Side::Out => OUT,
        Side::In => IN,
    });
    push(&mut key, node);
    key.extend(edge.map(EdgeType::number));
    key
}

/// Where a node's edges of one type stand that lead to nodes of one label.
pub(super) fn edges_to(node: &NodeId, side: Side, edge: EdgeType, label: Label) -> Vec<u8> {
    let mut key = edges(node, side, Some(edge));
    key.push(byte_of(label));
    key
}

/// The keys of one edge, at either end.
pub(super) fn edge(from: &NodeId, edge: EdgeType, to: &NodeId) -> [Vec<u8>; 2] {
    let mut out = edges(from, Side::Out, Some(edge));
    push(&mut out, to);
    let mut into = edges(to, Side::In, Some(edge));
    push(&mut into, from);
    [out, into]
}

/// What an edge's key says behind the node that it was looked up by: its type, and the other end.
pub(super) fn other_end(key: &[u8], node: &NodeId) -> Result<(EdgeType, NodeId), StoreError> {
    let behind = edges(node, Side::Out, None).len();
    let parsed = || {
        let (number, rest) = key.get(behind..)?.split_first()?;
        let edge = *EdgeType::ALL.get(usize::from(*number))?;
        let (other, rest) = pull(rest)?;
        rest.is_empty().then_some((edge, other))
    };
    parsed().ok_or_else(|| crate::row::unreadable(key, &"not an edge"))
}
