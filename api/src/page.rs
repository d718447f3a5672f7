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
    /// A page of a view's, its items rendered.
    pub(crate) fn of<U>(page: stemma_views::Page<U>, render: impl FnMut(U) -> T) -> Self {
        Self {
            items: page.items.into_iter().map(render).collect(),
            next_cursor: page.next.as_ref().map(Cursor::to_string),
        }
    }
}
