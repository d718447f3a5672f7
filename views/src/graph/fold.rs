//! Applying records to the graph.
//!
//! Nodes that a batch touches are read once and written once; the edges follow from the nodes, so
//! those that come and go are the difference of what a node had and has. Invariant: the rows after
//! a batch depend on the records alone, however they were cut into batches.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use stemma_domain::event::{AnnotationAdded, Event, Reference, Relation, ResourceCreated};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::time::Timestamp;
use stemma_domain::value::EntityType;
use stemma_event_log::Record;
use uuid::Uuid;

use super::key;
use super::node::{EdgeType, NodeId};
use super::row::{
    AnnotationNode, Counts, HubNode, NodeRow, ResourceNode, encode_counts, read_counts,
};
use crate::apply::{Reason, key_changes};
use crate::checkpointed::Fold;
use crate::key::{BY_TYPE, index_start, sortable};
use crate::row::{relation_byte, unreadable};
use crate::store::{Change, Store, StoreError};

/// A node as it was before the batch, and as it is after the records so far.
struct Touched<T> {
    before: Option<T>,
    now: Option<T>,
}

impl<T> Touched<T> {
    fn step(&self) -> i64 {
        i64::from(self.now.is_some()) - i64::from(self.before.is_some())
    }
}

/// An edge: from where, how, and where to.
type Link = (NodeId, EdgeType, NodeId);

pub(super) struct Overlay<'a> {
    store: &'a dyn Store,
    resources: HashMap<ResourceId, Touched<ResourceNode>>,
    annotations: HashMap<AnnotationId, Touched<AnnotationNode>>,
    /// Entity types that were described, each as the latest description says.
    described: BTreeMap<String, Option<String>>,
}

impl Fold for Overlay<'_> {
    type Outcome = ();

    fn apply(&mut self, record: &Record, event: Event) -> Result<(), Reason> {
        if let Event::EntityTypeRegistered(registered) = event {
            let name = registered.name.as_str().to_owned();
            self.described.insert(name, registered.description);
            return Ok(());
        }
        if matches!(event, Event::RequestAnswered(_)) {
            return Ok(());
        }
        let id = ResourceId::from_stream_name(record.stream()).ok_or_else(|| {
            Reason::from(format!("stream {} is not a resource's", record.stream()))
        })?;
        match event {
            Event::ResourceCreated(created) | Event::ResourceCloned(created) => {
                self.create(id, record, created)
            }
            Event::AnnotationAdded(added) => self.annotate(id, record, &added),
            Event::AnnotationBodyChanged(changed) => {
                let annotation = self.annotation_of(id, changed.annotation_id)?;
                let now = annotation
                    .now
                    .as_mut()
                    .ok_or("the annotation is not there")?;
                now.references = references(&changed.references);
                Ok(())
            }
            Event::AnnotationRemoved(removed) => {
                let annotation = self.annotation_of(id, removed.annotation_id)?;
                annotation.now.take().ok_or("the annotation is not there")?;
                Ok(())
            }
            event => change(self.existing(id)?, event),
        }
    }

    fn finish(self) -> Result<(Vec<Change>, ()), StoreError> {
        let mut batch = Batch::new(self.store)?;
        for (id, touched) in &self.resources {
            batch.resource(*id, touched);
        }
        for (id, touched) in &self.annotations {
            batch.annotation(*id, touched);
        }
        Ok((batch.finish(&self.described)?, ()))
    }
}

impl<'a> Overlay<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            resources: HashMap::new(),
            annotations: HashMap::new(),
            described: BTreeMap::new(),
        }
    }

    fn create(
        &mut self,
        id: ResourceId,
        record: &Record,
        created: ResourceCreated,
    ) -> Result<(), Reason> {
        let touched = self.resource(id)?;
        if touched.now.is_some() {
            return Err("the resource is there already".into());
        }
        let mut entity_types: Vec<_> = created.entity_types.iter().map(name_of).collect();
        entity_types.sort_unstable();
        entity_types.dedup();
        touched.now = Some(ResourceNode {
            name: created.name.as_str().to_owned(),
            media_type: created.media_type.as_str().to_owned(),
            byte_size: created.byte_size,
            language: created.language.map(|tag| tag.as_str().to_owned()),
            archived: false,
            collection: created.collection.map(|name| name.as_str().to_owned()),
            entity_types,
            derived_from: created.derived_from.map(|id| *id.as_bytes()),
            created_at: record.recorded_at_us(),
            created_by: record.actor().to_owned(),
        });
        Ok(())
    }

    fn annotate(
        &mut self,
        id: ResourceId,
        record: &Record,
        added: &AnnotationAdded,
    ) -> Result<(), Reason> {
        self.existing(id)?;
        let touched = self.annotation(added.annotation_id)?;
        if touched.now.is_some() {
            return Err("the annotation is there already".into());
        }
        touched.now = Some(AnnotationNode {
            resource: *id.as_bytes(),
            references: references(&added.references),
            motivations: motivations(added.annotation.as_str())?,
            created_at: record.recorded_at_us(),
            created_by: record.actor().to_owned(),
        });
        Ok(())
    }

    fn existing(&mut self, id: ResourceId) -> Result<&mut ResourceNode, Reason> {
        let touched = self.resource(id)?;
        touched
            .now
            .as_mut()
            .ok_or_else(|| "the resource is not there".into())
    }

    /// An annotation that must be of this resource.
    fn annotation_of(
        &mut self,
        id: ResourceId,
        annotation: AnnotationId,
    ) -> Result<&mut Touched<AnnotationNode>, Reason> {
        let touched = self.annotation(annotation)?;
        if touched
            .now
            .as_ref()
            .is_some_and(|now| now.resource != *id.as_bytes())
        {
            return Err("the annotation is another resource's".into());
        }
        Ok(touched)
    }

    fn resource(&mut self, id: ResourceId) -> Result<&mut Touched<ResourceNode>, StoreError> {
        touch(self.store, &mut self.resources, id, NodeId::Resource)
    }

    fn annotation(&mut self, id: AnnotationId) -> Result<&mut Touched<AnnotationNode>, StoreError> {
        touch(self.store, &mut self.annotations, id, NodeId::Annotation)
    }
}

fn touch<'m, I: Copy + Eq + std::hash::Hash, T: NodeRow + Clone>(
    store: &dyn Store,
    touched: &'m mut HashMap<I, Touched<T>>,
    id: I,
    name: impl FnOnce(I) -> NodeId,
) -> Result<&'m mut Touched<T>, StoreError> {
    Ok(match touched.entry(id) {
        Entry::Occupied(touched) => touched.into_mut(),
        Entry::Vacant(vacant) => {
            let before = T::read(store, &name(id))?;
            let now = before.clone();
            vacant.insert(Touched { before, now })
        }
    })
}

/// What an event changes of a resource that is there.
fn change(node: &mut ResourceNode, event: Event) -> Result<(), Reason> {
    match event {
        Event::ResourceRevised(revised) => {
            revised.media_type.as_str().clone_into(&mut node.media_type);
            node.byte_size = revised.byte_size;
        }
        Event::ResourceRenamed(renamed) => renamed.name.as_str().clone_into(&mut node.name),
        Event::ResourceLanguageChanged(changed) => {
            node.language = changed.language.map(|tag| tag.as_str().to_owned());
        }
        Event::ResourceCollectionChanged(changed) => {
            node.collection = changed.collection.map(|name| name.as_str().to_owned());
        }
        Event::ResourceArchived(_) => node.archived = true,
        Event::ResourceUnarchived(_) => node.archived = false,
        Event::EntityTypeAdded(added) => {
            let name = name_of(&added.entity_type);
            if let Err(place) = node.entity_types.binary_search(&name) {
                node.entity_types.insert(place, name);
            }
        }
        Event::EntityTypeRemoved(removed) => {
            let name = name_of(&removed.entity_type);
            node.entity_types.retain(|kept| *kept != name);
        }
        // Metadata is not in the graph.
        Event::ResourceMetadataChanged(_) => {}
        other => return Err(format!("{} is not about a resource", other.type_name()).into()),
    }
    Ok(())
}

fn name_of(entity_type: &EntityType) -> String {
    entity_type.as_str().to_owned()
}

fn references(references: &[Reference]) -> Vec<(u8, [u8; 16])> {
    let parts = |r: &Reference| (relation_byte(r.relation), *r.resource_id.as_bytes());
    references.iter().map(parts).collect()
}

/// The motivations of an annotation, in its order.
fn motivations(annotation: &str) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Motivation {
        One(String),
        Many(Vec<String>),
    }
    #[derive(Deserialize)]
    struct Motivated {
        motivation: Option<Motivation>,
    }
    let motivated: Motivated = serde_json::from_str(annotation)?;
    Ok(match motivated.motivation {
        None => Vec::new(),
        Some(Motivation::One(motivation)) => vec![motivation],
        Some(Motivation::Many(motivations)) => motivations,
    })
}

fn resource_id(bytes: [u8; 16]) -> NodeId {
    NodeId::Resource(ResourceId::new(Uuid::from_bytes(bytes)))
}

fn links_of_resource(id: ResourceId, node: &ResourceNode) -> BTreeSet<Link> {
    let this = NodeId::Resource(id);
    let person = NodeId::Person(node.created_by.clone());
    let mut links = BTreeSet::from([(person, EdgeType::Created, this.clone())]);
    for name in &node.entity_types {
        let entity_type = NodeId::EntityType(name.clone());
        links.insert((this.clone(), EdgeType::HasType, entity_type));
    }
    if let Some(name) = &node.collection {
        let collection = NodeId::Collection(name.clone());
        links.insert((this.clone(), EdgeType::InCollection, collection));
    }
    if let Some(source) = node.derived_from {
        links.insert((this, EdgeType::DerivedFrom, resource_id(source)));
    }
    links
}

fn links_of_annotation(id: AnnotationId, node: &AnnotationNode) -> BTreeSet<Link> {
    let this = NodeId::Annotation(id);
    let person = NodeId::Person(node.created_by.clone());
    let annotated = resource_id(node.resource);
    let mut links = BTreeSet::from([
        (person, EdgeType::Created, this.clone()),
        (this.clone(), EdgeType::Annotates, annotated.clone()),
    ]);
    for (relation, resource) in &node.references {
        let edge = if *relation == relation_byte(Relation::Body) {
            EdgeType::RefersTo
        } else {
            EdgeType::Targets
        };
        let named = resource_id(*resource);
        // That an annotation targets the resource it was made in is what ANNOTATES says.
        if edge == EdgeType::RefersTo || named != annotated {
            links.insert((this.clone(), edge, named));
        }
    }
    links
}

/// The rows of a batch, as they come together.
struct Batch<'a> {
    store: &'a dyn Store,
    changes: Vec<Change>,
    counts: Counts,
    /// Steps of the counts.
    nodes: [i64; 5],
    edges: [i64; 7],
    /// By how much the edges of collections, entity types and people change.
    hubs: BTreeMap<NodeId, i64>,
}

impl<'a> Batch<'a> {
    fn new(store: &'a dyn Store) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            changes: Vec::new(),
            counts: read_counts(store)?,
            nodes: [0; 5],
            edges: [0; 7],
            hubs: BTreeMap::new(),
        })
    }

    fn resource(&mut self, id: ResourceId, touched: &Touched<ResourceNode>) {
        let links = |node: &Option<ResourceNode>| {
            node.as_ref()
                .map(|node| links_of_resource(id, node))
                .unwrap_or_default()
        };
        self.links(&links(&touched.before), &links(&touched.now));
        let keys = |node: &Option<ResourceNode>| {
            node.as_ref()
                .map(|node| type_keys(id, node))
                .unwrap_or_default()
        };
        let (old, new) = (keys(&touched.before), keys(&touched.now));
        key_changes(&old, &new, &mut self.changes);
        self.node(&NodeId::Resource(id), touched);
    }

    fn annotation(&mut self, id: AnnotationId, touched: &Touched<AnnotationNode>) {
        let links = |node: &Option<AnnotationNode>| {
            node.as_ref()
                .map(|node| links_of_annotation(id, node))
                .unwrap_or_default()
        };
        self.links(&links(&touched.before), &links(&touched.now));
        self.node(&NodeId::Annotation(id), touched);
    }

    fn node<T: NodeRow + PartialEq>(&mut self, id: &NodeId, touched: &Touched<T>) {
        self.nodes[id.label() as usize] += touched.step();
        if touched.before != touched.now {
            let row = touched.now.as_ref().map(NodeRow::encode);
            self.changes.push((key::node(id), row));
        }
    }

    fn links(&mut self, old: &BTreeSet<Link>, new: &BTreeSet<Link>) {
        for link in old.difference(new) {
            self.link(link, -1);
        }
        for link in new.difference(old) {
            self.link(link, 1);
        }
    }

    fn link(&mut self, (from, edge, to): &Link, step: i64) {
        let value = (step > 0).then(Vec::new);
        for key in key::edge(from, *edge, to) {
            self.changes.push((key, value.clone()));
        }
        self.edges[usize::from(edge.number())] += step;
        for end in [from, to] {
            if !matches!(end, NodeId::Resource(_) | NodeId::Annotation(_)) {
                *self.hubs.entry(end.clone()).or_default() += step;
            }
        }
    }

    fn finish(
        mut self,
        described: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Change>, StoreError> {
        let mut hubs = std::mem::take(&mut self.hubs);
        for name in described.keys() {
            hubs.entry(NodeId::EntityType(name.clone())).or_default();
        }
        for (id, step) in hubs {
            let description = match &id {
                NodeId::EntityType(name) => described.get(name),
                _ => None,
            };
            self.hub(&id, step, description)?;
        }
        if self.nodes != [0; 5] || self.edges != [0; 7] {
            let below = || unreadable(key::COUNTS, &"below zero");
            for (count, step) in self.counts.nodes.iter_mut().zip(self.nodes) {
                *count = count.checked_add_signed(step).ok_or_else(below)?;
            }
            for (count, step) in self.counts.edges.iter_mut().zip(self.edges) {
                *count = count.checked_add_signed(step).ok_or_else(below)?;
            }
            let row = encode_counts(&self.counts);
            self.changes.push((key::COUNTS.to_vec(), Some(row)));
        }
        Ok(self.changes)
    }

    /// A hub with so many more edges, or fewer, and perhaps a new description.
    fn hub(
        &mut self,
        id: &NodeId,
        step: i64,
        description: Option<&Option<String>>,
    ) -> Result<(), StoreError> {
        let key = key::node(id);
        let before = HubNode::read(self.store, id)?.unwrap_or_default();
        let mut now = before.clone();
        let edges = now.edges.checked_add_signed(step);
        now.edges = edges.ok_or_else(|| unreadable(&key, &"fewer edges than none"))?;
        if let Some(description) = description {
            now.description.clone_from(description);
            now.is_registered = true;
        }
        if now != before {
            self.nodes[id.label() as usize] +=
                i64::from(now.is_there()) - i64::from(before.is_there());
            let row = now.is_there().then(|| now.encode());
            self.changes.push((key, row));
        }
        Ok(())
    }
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
