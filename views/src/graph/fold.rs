//! The rows that a batch of records changes.

use stemma_domain::event::Event;
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::time::Timestamp;
use stemma_event_log::Record;

use super::delta::{BelowZero, Delta, Folding, Source, Touched};
use super::edges::written;
use super::key;
use super::node::NodeId;
use super::row::{AnnotationNode, HubNode, NodeRow, ResourceNode, encode_counts, read_counts};
use crate::apply::{Reason, key_changes};
use crate::checkpointed::Fold;
use crate::key::{BY_TYPE, index_start, sortable};
use crate::row::unreadable;
use crate::store::{Change, Store, StoreError};

/// Rows as they were before the batch.
struct Rows<'a>(&'a dyn Store);

impl Source for Rows<'_> {
    fn resource(&self, id: ResourceId) -> Result<Option<ResourceNode>, Reason> {
        Ok(NodeRow::read(self.0, &NodeId::Resource(id))?)
    }

    fn annotation(&self, id: AnnotationId) -> Result<Option<AnnotationNode>, Reason> {
        Ok(NodeRow::read(self.0, &NodeId::Annotation(id))?)
    }
}

/// A batch over the rows of a store.
pub(super) struct Overlay<'a> {
    store: &'a dyn Store,
    folding: Folding<Rows<'a>>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        let folding = Folding::over(Rows(store));
        Self { store, folding }
    }
}

impl Fold for Overlay<'_> {
    type Outcome = ();

    fn apply(&mut self, record: &Record, event: Event) -> Result<(), Reason> {
        self.folding.apply(record, event)
    }

    fn finish(self) -> Result<(Vec<Change>, ()), StoreError> {
        let counts = read_counts(self.store)?;
        let hub = |id: &NodeId| HubNode::read(self.store, id);
        let delta = self.folding.edges().finish(counts, hub)?;
        Ok((changes(&delta), ()))
    }
}

impl From<BelowZero> for StoreError {
    fn from(error: BelowZero) -> Self {
        unreadable(key::COUNTS, &error)
    }
}

fn changes(delta: &Delta) -> Vec<Change> {
    let mut changes = Vec::with_capacity(3 * delta.edges.len() + 2 * delta.resources.len());
    for (edge, is_there) in &delta.edges {
        let row = is_there.then(Vec::new);
        changes.extend(written(edge).map(|key| (key, row.clone())));
    }
    for (id, touched) in &delta.resources {
        let keys = |node: &Option<ResourceNode>| {
            node.as_ref()
                .map(|node| type_keys(*id, node))
                .unwrap_or_default()
        };
        let (old, new) = (keys(&touched.before), keys(&touched.now));
        key_changes(&old, &new, &mut changes);
        changes.extend(node(&NodeId::Resource(*id), touched));
    }
    for (id, touched) in &delta.annotations {
        changes.extend(node(&NodeId::Annotation(*id), touched));
    }
    for (id, hub) in &delta.hubs {
        changes.push((key::node(id), hub.as_ref().map(NodeRow::encode)));
    }
    let counts = delta.counts.as_ref().map(encode_counts);
    changes.extend(counts.map(|row| (key::COUNTS.to_vec(), Some(row))));
    changes
}

fn node<T: NodeRow + PartialEq>(id: &NodeId, touched: &Touched<T>) -> Option<Change> {
    if touched.before == touched.now {
        return None;
    }
    let row = touched.now.as_ref().map(NodeRow::encode);
    Some((key::node(id), row))
}

/// Where a resource stands among those of its types, in the same order as in the views.
fn type_keys(id: ResourceId, node: &ResourceNode) -> Vec<Vec<u8>> {
    let key = |name: &String| {
        let mut key = index_start(BY_TYPE, Some(name), node.archived);
        key.extend_from_slice(&sortable(Timestamp::from_micros(node.created_at)));
        key.extend_from_slice(id.as_bytes());
        key
    };
    node.entity_types.iter().map(key).collect()
}
