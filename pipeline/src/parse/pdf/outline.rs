//! The outline of a PDF: its bookmarks, by the pages that they lead to.
//!
//! A bookmark is a heading only where its words stand on a line of that page; who finds them there
//! is [`headings`](super::headings).

use std::collections::{HashMap, HashSet};

use pdf_oxide::object::Object;

use super::objects::{Objects, number, text_string};

/// Bookmarks that are read of one document.
pub(super) const BOOKMARKS_MAX: usize = 50_000;
/// Bookmarks inside one another that are told apart; deeper ones are left out.
const DEPTH_MAX: u8 = 32;
/// Names of destinations that are kept, and how deep their tree may be.
const NAMES_MAX: usize = 200_000;
const NAME_TREE_DEPTH_MAX: u8 = 32;
/// Code points of a bookmark's title.
const TITLE_MAX: usize = 500;

/// A bookmark.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bookmark {
    /// From 1.
    pub(super) level: u8,
    pub(super) title: String,
    /// How high on the page it leads, in points from its bottom, if it says so.
    pub(super) top: Option<f64>,
}

/// Bookmarks by the pages that they lead to, from 0, in the order of the outline.
pub(super) type Bookmarks = HashMap<u32, Vec<Bookmark>>;

/// Reads the outline, if there is one.
pub(super) fn bookmarks(objects: &mut Objects<'_>, pages: &HashMap<u32, u32>) -> Bookmarks {
    let mut found = Bookmarks::new();
    let Some(catalog) = objects.catalog() else {
        return found;
    };
    let first = objects
        .entry(&catalog, "Outlines")
        .and_then(|outlines| outlines.as_dict()?.get("First").cloned());
    let mut open: Vec<(Object, u8)> = first.into_iter().map(|first| (first, 1)).collect();
    let mut places = Places {
        pages,
        catalog,
        names: None,
    };
    let mut seen = HashSet::new();
    let mut count = 0;
    while let Some((item, level)) = open.pop() {
        let number = item.as_reference().map(|reference| reference.id);
        if number.is_none_or(|number| !seen.insert(number)) || count == BOOKMARKS_MAX {
            continue;
        }
        count += 1;
        let Some(item) = objects.resolve(item) else {
            continue;
        };
        let entry = |key: &str| item.as_dict()?.get(key).cloned();
        open.extend(entry("Next").map(|next| (next, level)));
        if level < DEPTH_MAX {
            open.extend(entry("First").map(|child| (child, level + 1)));
        }
        let title = match objects.entry(&item, "Title") {
            Some(Object::String(bytes)) => text_string(&bytes),
            _ => continue,
        };
        if let Some((page, top)) = places.of(objects, &item) {
            found.entry(page).or_default().push(Bookmark {
                level,
                title: title.chars().take(TITLE_MAX).collect(),
                top,
            });
        }
    }
    found
}

/// Where bookmarks lead.
struct Places<'a> {
    pages: &'a HashMap<u32, u32>,
    catalog: Object,
    /// Destinations that have names; read when the first bookmark asks for one.
    names: Option<HashMap<Vec<u8>, Object>>,
}

impl Places<'_> {
    /// The page that a bookmark leads to, and how high.
    fn of(&mut self, objects: &mut Objects<'_>, item: &Object) -> Option<(u32, Option<f64>)> {
        let destination = match objects.entry(item, "Dest") {
            Some(destination) => destination,
            None => {
                let action = objects.entry(item, "A")?;
                objects.entry(&action, "D")?
            }
        };
        let named = match &destination {
            Object::String(name) => Some(name.clone()),
            Object::Name(name) => Some(name.clone().into_bytes()),
            _ => None,
        };
        let destination = match named {
            Some(name) => {
                let catalog = &self.catalog;
                let names = self.names.get_or_insert_with(|| names(objects, catalog));
                names.get(&name)?.clone()
            }
            None => destination,
        };
        let destination = objects.resolve(destination)?;
        let destination = match &destination {
            Object::Dictionary(_) => objects.entry(&destination, "D")?,
            _ => destination,
        };
        let parts = destination.as_array()?;
        let page = *self.pages.get(&parts.first()?.as_reference()?.id)?;
        let top = match parts.get(1).and_then(Object::as_name) {
            Some("XYZ") => parts.get(3),
            Some("FitH" | "FitBH") => parts.get(2),
            _ => None,
        };
        Some((page, top.and_then(number)))
    }
}

/// The destinations that have names: of a dictionary, and of a tree.
fn names(objects: &mut Objects<'_>, catalog: &Object) -> HashMap<Vec<u8>, Object> {
    let mut names = HashMap::new();
    if let Some(Object::Dictionary(entries)) = objects.entry(catalog, "Dests") {
        let entries = entries.into_iter().take(NAMES_MAX);
        names.extend(entries.map(|(name, place)| (name.into_bytes(), place)));
    }
    let tree = objects
        .entry(catalog, "Names")
        .and_then(|names| names.as_dict()?.get("Dests").cloned());
    let mut open: Vec<(Object, u8)> = tree.into_iter().map(|tree| (tree, 0)).collect();
    let mut seen = HashSet::new();
    while let Some((node, depth)) = open.pop() {
        let number = node.as_reference().map(|reference| reference.id);
        if number.is_some_and(|number| !seen.insert(number)) || names.len() >= NAMES_MAX {
            continue;
        }
        let Some(mut node) = objects.resolve(node) else {
            continue;
        };
        if let Some(Object::Array(pairs)) = objects.take(&mut node, "Names") {
            let mut pairs = pairs.into_iter().take(2 * (NAMES_MAX - names.len()));
            while let (Some(name), Some(place)) = (pairs.next(), pairs.next()) {
                if let Object::String(name) = name {
                    names.insert(name, place);
                }
            }
        }
        if depth < NAME_TREE_DEPTH_MAX
            && let Some(Object::Array(kids)) = objects.take(&mut node, "Kids")
        {
            open.extend(kids.into_iter().map(|kid| (kid, depth + 1)));
        }
    }
    names
}
