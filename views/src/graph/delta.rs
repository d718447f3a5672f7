//! What records change in the graph, whatever keeps it.
//!
//! Nodes that a batch touches are read once; the edges follow from the nodes, so those that come
//! and go are the difference of what a node had and has. Invariant: what is there after a batch
//! depends on the records alone, however they were cut into batches.

use std::collections::BTreeMap;

use stemma_domain::event::{AnnotationAdded, Event, Reference, Relation, ResourceCreated, Subject};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::json_text::JsonText;
use stemma_domain::value::EntityType;
use stemma_event_log::Record;
use uuid::Uuid;

use super::around::Edge;
use super::node::{EdgeType, NodeId};
use super::row::{AnnotationNode, Counts, HubNode, ResourceNode};
use crate::apply::Reason;
use crate::row::relation_byte;
use crate::touches::Touches;

impl AnnotationNode {
    /// What an edge from an annotation to a resource says of it; none of an edge that says where
    /// the annotation was made, or is no annotation's.
    pub fn reference(edge_type: EdgeType, to: ResourceId) -> Option<(u8, [u8; 16])> {
        let relation = match edge_type {
            EdgeType::RefersTo => Relation::Body,
            EdgeType::Targets => Relation::Target,
            _ => return None,
        };
        Some((relation_byte(relation), *to.as_bytes()))
    }
}

/// Where nodes are found as they were before a batch.
pub trait Source {
    /// A resource, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn resource(&self, id: ResourceId) -> Result<Option<ResourceNode>, Reason>;

    /// An annotation, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn annotation(&self, id: AnnotationId) -> Result<Option<AnnotationNode>, Reason>;
}

/// A node as it was before a batch, and as it is after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched<T> {
    /// Before; none where it was not there.
    pub before: Option<T>,
    /// After; none where it is not there.
    pub now: Option<T>,
}

impl<T> Touched<T> {
    fn found(before: Option<T>) -> Self
    where
        T: Clone,
    {
        let now = before.clone();
        Self { before, now }
    }

    fn step(&self) -> i64 {
        i64::from(self.now.is_some()) - i64::from(self.before.is_some())
    }
}

/// Records that are folded together, as far as they came.
pub struct Folding<S> {
    source: S,
    resources: Touches<ResourceId, Touched<ResourceNode>>,
    annotations: Touches<AnnotationId, Touched<AnnotationNode>>,
    /// Entity types that were described, each as the latest description says.
    described: BTreeMap<String, Option<String>>,
}

impl<S: Source> Folding<S> {
    /// Folds one record in; one that cannot be applied leaves no trace.
    ///
    /// # Errors
    /// Why it cannot be applied.
    pub fn apply(&mut self, record: &Record, event: Event) -> Result<(), Reason> {
        if let Event::EntityTypeRegistered(registered) = event {
            let name = registered.name.as_str().to_owned();
            self.described.insert(name, registered.description);
            return Ok(());
        }
        if event.subject() != Subject::Resource {
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

    /// The edges that come and go, and the collections, entity types and people that they are of.
    pub fn edges(self) -> Edges {
        let mut edges = Edges {
            resources: Vec::new(),
            annotations: Vec::new(),
            changed: Vec::new(),
            nodes: [0; 5],
            types: [0; 7],
            hubs: BTreeMap::new(),
            described: self.described,
        };
        for (id, touched) in self.resources.into_pairs() {
            edges.node(id, touched, links_of_resource, |edges| &mut edges.resources);
        }
        for (id, touched) in self.annotations.into_pairs() {
            edges.node(id, touched, links_of_annotation, |edges| {
                &mut edges.annotations
            });
        }
        for name in edges.described.keys() {
            let id = NodeId::EntityType(name.clone());
            edges.hubs.entry(id).or_default();
        }
        edges
    }

    /// Nothing yet, over what was before.
    pub fn over(source: S) -> Self {
        Self {
            source,
            resources: Touches::new(),
            annotations: Touches::new(),
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
            motivations: motivations(&added.annotation)?,
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

    fn resource(&mut self, id: ResourceId) -> Result<&mut Touched<ResourceNode>, Reason> {
        let source = &self.source;
        self.resources
            .find(id, || source.resource(id).map(Touched::found))
    }

    fn annotation(&mut self, id: AnnotationId) -> Result<&mut Touched<AnnotationNode>, Reason> {
        let source = &self.source;
        self.annotations
            .find(id, || source.annotation(id).map(Touched::found))
    }
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
        // Metadata is not in the graph, and who may see a node is found out where it is asked.
        Event::ResourceMetadataChanged(_) | Event::ResourceAccessChanged(_) => {}
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
fn motivations(annotation: &JsonText) -> Result<Vec<String>, serde_json::Error> {
    Ok(match annotation.property("motivation")? {
        None | Some("null") => Vec::new(),
        Some(many) if many.starts_with('[') => serde_json::from_str(many)?,
        Some(one) => vec![serde_json::from_str(one)?],
    })
}

fn edge(from: NodeId, edge_type: EdgeType, to: NodeId) -> Edge {
    Edge {
        edge_type,
        from,
        to,
    }
}

fn resource_id(bytes: [u8; 16]) -> NodeId {
    NodeId::Resource(ResourceId::new(Uuid::from_bytes(bytes)))
}

/// The edges that a resource is one end of by what it is, each once, in order.
fn links_of_resource(id: ResourceId, node: &ResourceNode) -> Vec<Edge> {
    let this = NodeId::Resource(id);
    let person = NodeId::Person(node.created_by.clone());
    let mut links = vec![edge(person, EdgeType::Created, this.clone())];
    for name in &node.entity_types {
        let entity_type = NodeId::EntityType(name.clone());
        links.push(edge(this.clone(), EdgeType::HasType, entity_type));
    }
    if let Some(name) = &node.collection {
        let collection = NodeId::Collection(name.clone());
        links.push(edge(this.clone(), EdgeType::InCollection, collection));
    }
    if let Some(source) = node.derived_from {
        links.push(edge(this, EdgeType::DerivedFrom, resource_id(source)));
    }
    in_order(links)
}

/// The edges that an annotation is one end of, each once, in order: all that it ever has.
pub(super) fn links_of_annotation(id: AnnotationId, node: &AnnotationNode) -> Vec<Edge> {
    let this = NodeId::Annotation(id);
    let person = NodeId::Person(node.created_by.clone());
    let annotated = resource_id(node.resource);
    let mut links = vec![
        edge(this.clone(), EdgeType::Annotates, annotated.clone()),
        edge(person, EdgeType::Created, this.clone()),
    ];
    for (relation, resource) in &node.references {
        let edge_type = if *relation == relation_byte(Relation::Body) {
            EdgeType::RefersTo
        } else {
            EdgeType::Targets
        };
        let named = resource_id(*resource);
        // That an annotation targets the resource it was made in is what ANNOTATES says.
        if edge_type == EdgeType::RefersTo || named != annotated {
            links.push(edge(this.clone(), edge_type, named));
        }
    }
    in_order(links)
}

fn in_order(mut links: Vec<Edge>) -> Vec<Edge> {
    links.sort_unstable();
    links.dedup();
    links
}

/// A batch whose nodes and edges are known, and not yet what they change of the hubs.
pub struct Edges {
    resources: Vec<(ResourceId, Touched<ResourceNode>)>,
    annotations: Vec<(AnnotationId, Touched<AnnotationNode>)>,
    changed: Vec<(Edge, bool)>,
    /// Steps of the counts.
    nodes: [i64; 5],
    types: [i64; 7],
    /// By how much the edges of collections, entity types and people change.
    hubs: BTreeMap<NodeId, i64>,
    described: BTreeMap<String, Option<String>>,
}

/// All that a batch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Resources that were touched.
    pub resources: Vec<(ResourceId, Touched<ResourceNode>)>,
    /// Annotations that were touched.
    pub annotations: Vec<(AnnotationId, Touched<AnnotationNode>)>,
    /// Collections, entity types and people that are other ones now; none of one that is gone.
    pub hubs: Vec<(NodeId, Option<HubNode>)>,
    /// Edges, each with whether it came or went. They may lead to resources that are not there.
    pub edges: Vec<(Edge, bool)>,
    /// How many there are, where that changed.
    pub counts: Option<Counts>,
}

/// A count that would be less than nothing: what was kept is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the graph has fewer {of} than none")]
pub struct BelowZero {
    /// What is counted.
    pub of: String,
}

impl Edges {
    fn node<I: Copy + Into<NodeId>, T: PartialEq>(
        &mut self,
        id: I,
        touched: Touched<T>,
        links: impl Fn(I, &T) -> Vec<Edge>,
        place: impl FnOnce(&mut Self) -> &mut Vec<(I, Touched<T>)>,
    ) {
        if touched.before != touched.now {
            let of = |node: &Option<T>| node.as_ref().map(|node| links(id, node));
            let old = of(&touched.before).unwrap_or_default();
            let new = of(&touched.now).unwrap_or_default();
            // Both are in order.
            let is_in = |edges: &[Edge], edge: &Edge| edges.binary_search(edge).is_ok();
            let gone = old.iter().filter(|edge| !is_in(&new, edge)).cloned();
            gone.for_each(|edge| self.edge(edge, false));
            let come = new.into_iter().filter(|edge| !is_in(&old, edge));
            come.for_each(|edge| self.edge(edge, true));
            let label = id.into().label();
            self.nodes[label as usize] += touched.step();
        }
        place(self).push((id, touched));
    }

    fn edge(&mut self, edge: Edge, is_there: bool) {
        let step = if is_there { 1 } else { -1 };
        self.types[usize::from(edge.edge_type.number())] += step;
        for end in [&edge.from, &edge.to] {
            if end.name().is_none() {
                continue;
            }
            match self.hubs.get_mut(end) {
                Some(steps) => *steps += step,
                None => _ = self.hubs.insert(end.clone(), step),
            }
        }
        self.changed.push((edge, is_there));
    }

    /// The collections, entity types and people that the batch is about.
    pub fn hubs(&self) -> impl Iterator<Item = &NodeId> {
        self.hubs.keys()
    }

    /// All that the batch changes; `hub` gives each of [`hubs`](Self::hubs) as it was before.
    ///
    /// # Errors
    /// [`BelowZero`], and what `hub` fails with.
    pub fn finish<E: From<BelowZero>>(
        self,
        mut counts: Counts,
        mut hub: impl FnMut(&NodeId) -> Result<Option<HubNode>, E>,
    ) -> Result<Delta, E> {
        let mut nodes = self.nodes;
        let mut hubs = Vec::new();
        for (id, step) in self.hubs {
            let before = hub(&id)?.unwrap_or_default();
            let mut now = before.clone();
            now.edges = stepped(now.edges, step, || format!("edges of {id}"))?;
            if let NodeId::EntityType(name) = &id
                && let Some(description) = self.described.get(name)
            {
                now.description.clone_from(description);
                now.is_registered = true;
            }
            if now != before {
                nodes[id.label() as usize] +=
                    i64::from(now.is_there()) - i64::from(before.is_there());
                hubs.push((id, Some(now).filter(HubNode::is_there)));
            }
        }
        let is_counted = nodes != [0; 5] || self.types != [0; 7];
        for (count, step) in counts.nodes.iter_mut().zip(nodes) {
            *count = stepped(*count, step, || "nodes".to_owned())?;
        }
        for (count, step) in counts.edges.iter_mut().zip(self.types) {
            *count = stepped(*count, step, || "edges".to_owned())?;
        }
        Ok(Delta {
            resources: self.resources,
            annotations: self.annotations,
            hubs,
            edges: self.changed,
            counts: is_counted.then_some(counts),
        })
    }
}

fn stepped(count: u64, step: i64, of: impl FnOnce() -> String) -> Result<u64, BelowZero> {
    let stepped = count.checked_add_signed(step);
    stepped.ok_or_else(|| BelowZero { of: of() })
}
