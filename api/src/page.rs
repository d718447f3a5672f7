//! Pages of lists on the wire.

use serde::Serialize;
use stemma_domain::json_text::write_json_string;
use stemma_views::Cursor;
use utoipa::ToSchema;

/// Bytes of a page beside its items.
const PAGE_BYTES_EXPECTED: usize = 128;

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

    /// A page of a view's, its items rendered and its cursor told.
    pub(crate) fn of<U>(
        page: stemma_views::Page<U>,
        render: impl FnMut(U) -> T,
        told: impl FnOnce(&Cursor) -> String,
    ) -> Self {
        Self {
            items: page.items.into_iter().map(render).collect(),
            next_cursor: page.next.as_ref().map(told),
        }
    }
}

/// The JSON of a page of items that are JSON already.
pub(crate) fn of_texts(items: &[String], next_cursor: Option<&str>) -> String {
    let bytes: usize = items.iter().map(|item| item.len() + 1).sum();
    let mut text = String::with_capacity(bytes + PAGE_BYTES_EXPECTED);
    text.push_str("{\"items\":[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(item);
    }
    text.push_str("],\"next_cursor\":");
    match next_cursor {
        Some(cursor) => write_json_string(cursor, &mut text),
        None => text.push_str("null"),
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_page_of_texts_is_the_page_of_their_values() {
        let items = [json!({ "a": 1 }), json!("b")];
        let texts: Vec<String> = items.iter().map(Value::to_string).collect();
        for (n_items, next_cursor) in [(2, Some("c\"")), (1, None), (0, None)] {
            let page = Page {
                items: items[..n_items].to_vec(),
                next_cursor: next_cursor.map(str::to_owned),
            };
            let expected = serde_json::to_string(&page).unwrap();
            assert_eq!(of_texts(&texts[..n_items], next_cursor), expected);
        }
    }
}
