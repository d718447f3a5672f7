//! Resources of entity types, page by page, in the same order as the views list them.
//!
//! Invariant: a cursor that the graph gave is good for the views, and the other way round: both
//! name the last key of the same order, and the same query.

use stemma_domain::id::ResourceId;
use stemma_domain::value::EntityType;

use super::node::NodeId;
use super::row::{HubNode, NodeRow, ResourceNode};
use super::{Graph, GraphError};
use crate::cursor::Cursor;
use crate::key::BY_TYPE;
use crate::query::{Page, ResourceQuery, Sort};
use crate::store::StoreError;
use crate::walk::Walk;

/// A page of resources by their ids.
pub type ListedResources = Page<ResourceId>;

impl Graph {
    /// Whether the graph can answer a query: it must name an entity type, and be in the order of
    /// creation.
    pub fn can_list(query: &ResourceQuery) -> bool {
        !query.entity_types.is_empty() && query.sort != Sort::Name
    }

    /// A page of the resources that a query asks for, which [`Graph::can_list`].
    ///
    /// Walks the members of the rarest type; ends early, with a cursor, once it has looked at
    /// [`Options::page_rows_max`](crate::Options::page_rows_max) of them.
    ///
    /// # Errors
    /// [`GraphError::Cursor`] and [`GraphError::Store`].
    pub fn resources(&self, query: &ResourceQuery) -> Result<ListedResources, GraphError> {
        let _moment = self.moment();
        let mark = query.mark();
        let after = query.after.as_ref();
        let after = after.map(|cursor| cursor.last(&mark)).transpose()?;
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let Some(rarest) = self.rarest(&query.entity_types)? else {
            return Ok(page);
        };
        let label = Some(rarest.as_str());
        // The members of one type, archived or not, are just those that its index lists.
        let is_decided = query.entity_types.len() == 1
            && query.name_contains.is_none()
            && query.collection.is_none()
            && query.created_after.is_none();
        let mut walk = Walk::new(self.store(), query, BY_TYPE, label, after);
        let mut last: Option<Vec<u8>> = None;
        let mut looked_at = 0;
        while let Some((order, id)) = walk.next()? {
            if page.items.len() == query.limit || looked_at == self.page_rows_max() {
                page.next = last.map(|key| Cursor::new(&mark, &key));
                return Ok(page);
            }
            looked_at += 1;
            last = Some(order);
            if is_decided {
                page.items.push(id);
                continue;
            }
            let node = ResourceNode::read(self.store(), &NodeId::Resource(id))?;
            if node.is_some_and(|node| node.is_taken_by(query)) {
                page.items.push(id);
            }
        }
        Ok(page)
    }

    /// The type with the fewest edges; none when one has none at all.
    fn rarest<'q>(&self, types: &'q [EntityType]) -> Result<Option<&'q EntityType>, StoreError> {
        let mut rarest: Option<(u64, &EntityType)> = None;
        for entity_type in types {
            let id = NodeId::EntityType(entity_type.as_str().to_owned());
            let edges = HubNode::read(self.store(), &id)?.map_or(0, |hub| hub.edges);
            if edges == 0 {
                return Ok(None);
            }
            if rarest.is_none_or(|(fewest, _)| edges < fewest) {
                rarest = Some((edges, entity_type));
            }
        }
        Ok(rarest.map(|(_, entity_type)| entity_type))
    }
}

impl ResourceNode {
    /// As [`ResourceQuery::takes`], of what the graph knows.
    pub fn is_taken_by(&self, query: &ResourceQuery) -> bool {
        let has_type = |wanted: &EntityType| {
            let wanted = wanted.as_str();
            let types = &self.entity_types;
            types
                .binary_search_by(|kept| kept.as_str().cmp(wanted))
                .is_ok()
        };
        query.takes_name(&self.name)
            && query.archived.takes(self.archived)
            && query.entity_types.iter().all(has_type)
            && query
                .collection
                .as_ref()
                .is_none_or(|wanted| self.collection.as_deref() == Some(wanted.as_str()))
            && query
                .created_after
                .is_none_or(|after| self.created_at > after.micros())
    }
}
