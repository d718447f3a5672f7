//! Pages of lists on the wire.

use serde::Serialize;
use stemma_views::Cursor;
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The items, in the list's order.
    pub(crate) items: Vec<T>,
    /// What `cursor` is to be for the next page; null at the end.
    pub(crate) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` of some items; `cursor` says where the page behind one of them begins.
    pub(crate) fn first_of<U>(
        items: impl Iterator<Item = U>,
        limit: usize,
        cursor: impl FnOnce(&U) -> String,
        render: impl FnMut(U) -> T,
    ) -> Self {
        let mut found: Vec<U> = items.take(limit.saturating_add(1)).collect();
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| has_more).map(cursor);
        Self {
            items: found.into_iter().map(render).collect(),
            next_cursor,
        }
    }

    /// A page of a view's, its items rendered.
    pub(crate) fn of<U>(page: stemma_views::Page<U>, render: impl FnMut(U) -> T) -> Self {
        Self {
            items: page.items.into_iter().map(render).collect(),
            next_cursor: page.next.as_ref().map(Cursor::to_string),
        }
    }
}
