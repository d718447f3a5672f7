//! What can be asked of the views, and the shapes of the answers.

use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::Descriptor;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{CollectionName, EntityType, ResourceName};

use crate::cursor::{Cursor, CursorError};
use crate::key;
use crate::store::Direction;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; none at the end.
    pub next: Option<Cursor>,
}

/// Which resources a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Archived {
    /// Those that are not archived.
    #[default]
    No,
    /// Those that are.
    Yes,
    /// All.
    Any,
}

impl Archived {
    /// Whether a resource is asked for that is archived or not.
    pub fn takes(self, archived: bool) -> bool {
        match self {
            Self::No => !archived,
            Self::Yes => archived,
            Self::Any => true,
        }
    }

    /// The flags to walk in an index.
    pub(crate) fn flags(self) -> &'static [bool] {
        match self {
            Self::No => &[false],
            Self::Yes => &[true],
            Self::Any => &[false, true],
        }
    }
}

/// The order of a list of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sort {
    /// Oldest first.
    #[default]
    CreatedAscending,
    /// Newest first.
    CreatedDescending,
    /// By name, without regard to case.
    Name,
}

/// A question for resources; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct ResourceQuery {
    /// Types that a resource must all have.
    pub entity_types: Vec<EntityType>,
    /// A text that its name must contain, without regard to case.
    pub name_contains: Option<String>,
    /// What whoever asks narrows the answer by. It is no condition here, but a cursor is good only
    /// for a query that is narrowed by the same.
    pub narrowed_by: Option<String>,
    /// Whether archived ones are wanted.
    pub archived: Archived,
    /// The collection it must be in.
    pub collection: Option<CollectionName>,
    /// It must have been created after this instant.
    pub created_after: Option<Timestamp>,
    /// The order.
    pub sort: Sort,
    /// Most items of the page.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

/// Something that names a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencedBy {
    /// The resource that the naming is in.
    pub resource_id: ResourceId,
    /// Its name.
    pub name: ResourceName,
    /// The annotation that names, where it is one.
    pub annotation_id: Option<AnnotationId>,
    /// How it names.
    pub relation: ReferenceRelation,
}

/// How one resource names another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceRelation {
    /// In an annotation's body.
    Body,
    /// In an annotation's target.
    Target,
    /// As what it was made from.
    DerivedFrom,
}

/// An entity type, and how many resources are of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTypeRow {
    /// The type.
    pub name: EntityType,
    /// What it means, where someone has said so.
    pub description: Option<String>,
    /// Whether it was registered, not only used.
    pub registered: bool,
    /// Resources of it that are not archived.
    pub count: u64,
}

impl ResourceQuery {
    /// What a cursor must belong to: everything but the limit and the cursor.
    pub(crate) fn mark(&self) -> String {
        format!(
            "resources {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.entity_types,
            self.name_contains,
            self.narrowed_by,
            self.archived,
            self.collection,
            self.created_after,
            self.sort
        )
    }

    pub(crate) fn direction(&self) -> Direction {
        match self.sort {
            Sort::CreatedAscending | Sort::Name => Direction::Forward,
            Sort::CreatedDescending => Direction::Backward,
        }
    }

    /// Whether a resource of this name can be asked for.
    pub(crate) fn takes_name(&self, name: &str) -> bool {
        self.name_contains
            .as_ref()
            .is_none_or(|wanted| name.to_lowercase().contains(&wanted.to_lowercase()))
    }

    /// Whether a resource is asked for.
    pub fn takes(&self, descriptor: &Descriptor) -> bool {
        self.archived.takes(descriptor.archived)
            && self
                .entity_types
                .iter()
                .all(|wanted| descriptor.entity_types.contains(wanted))
            && self
                .collection
                .as_ref()
                .is_none_or(|c| descriptor.collection.as_ref() == Some(c))
            && self
                .created_after
                .is_none_or(|after| descriptor.created_at > after)
            && self.takes_name(descriptor.name.as_str())
    }

    /// Behind which resource a page in the order of creation begins.
    ///
    /// # Errors
    /// [`CursorError`] of a cursor that is another query's, or names no such place.
    pub fn created_place(&self) -> Result<Option<(Timestamp, ResourceId)>, CursorError> {
        let Some(cursor) = &self.after else {
            return Ok(None);
        };
        let place = key::created_place(cursor.last(&self.mark())?);
        place.map(Some).ok_or(CursorError::Malformed)
    }

    /// The cursor of a page in the order of creation that ended with this resource.
    pub fn created_cursor(&self, created_at: Timestamp, id: ResourceId) -> Cursor {
        let last = [&key::sortable(created_at)[..], id.as_bytes()].concat();
        Cursor::new(&self.mark(), &last)
    }

    /// Where to begin in an index ordered by creation: nothing before was created after it.
    pub(crate) fn earliest(&self) -> Option<[u8; 8]> {
        match self.sort {
            Sort::Name => None,
            _ => self.created_after.map(key::sortable),
        }
    }
}
