//! Objects of a PDF, followed from one to another within a limit.
//!
//! Invariant: however its objects point at each other, no more than [`OBJECTS_MAX`] are looked at.

use std::collections::{HashMap, HashSet};

use pdf_oxide::PdfDocument;
use pdf_oxide::object::Object;

/// Objects that are looked at for the structure of one document: some 25 for each heading of a
/// book of a thousand pages, and for each cell of its tables.
pub(super) const OBJECTS_MAX: u32 = 1_000_000;

/// References that lead from one to the next before there is an object.
const REFERENCES_MAX: u32 = 8;

/// The objects of a document.
pub(super) struct Objects<'a> {
    document: &'a PdfDocument,
    left: u32,
}

impl<'a> Objects<'a> {
    pub(super) fn new(document: &'a PdfDocument) -> Self {
        Self {
            document,
            left: OBJECTS_MAX,
        }
    }

    /// Whether so many were looked at that no more are.
    pub(super) fn are_spent(&self) -> bool {
        self.left == 0
    }

    /// What an object stands for, references followed.
    pub(super) fn resolve(&mut self, mut object: Object) -> Option<Object> {
        for _ in 0..REFERENCES_MAX {
            let Object::Reference(reference) = object else {
                return Some(object);
            };
            self.left = self.left.checked_sub(1)?;
            object = self.document.load_object(reference).ok()?;
        }
        None
    }

    /// An entry of a dictionary, references followed.
    pub(super) fn entry(&mut self, dictionary: &Object, key: &str) -> Option<Object> {
        self.resolve(dictionary.as_dict()?.get(key)?.clone())
    }

    /// The same, taken out of the dictionary.
    pub(super) fn take(&mut self, dictionary: &mut Object, key: &str) -> Option<Object> {
        let (Object::Dictionary(entries) | Object::Stream { dict: entries, .. }) = dictionary
        else {
            return None;
        };
        self.resolve(entries.remove(key)?)
    }

    /// The document's catalog.
    pub(super) fn catalog(&mut self) -> Option<Object> {
        self.document.catalog().ok()
    }

    /// The pages by the numbers of their objects, each with its place from 0; `pages_max` of them.
    pub(super) fn pages(&mut self, pages_max: u32) -> HashMap<u32, u32> {
        let mut pages = HashMap::new();
        let mut seen = HashSet::new();
        let root = self
            .catalog()
            .and_then(|catalog| catalog.as_dict()?.get("Pages").cloned());
        let mut open: Vec<Object> = root.into_iter().collect();
        let mut index = 0;
        while let Some(node) = open.pop() {
            if index == pages_max || self.are_spent() {
                break;
            }
            let number = node.as_reference().map(|reference| reference.id);
            if number.is_some_and(|number| !seen.insert(number)) {
                continue;
            }
            let Some(mut node) = self.resolve(node) else {
                continue;
            };
            let kind = node.as_dict().and_then(|entries| entries.get("Type"));
            if kind.and_then(Object::as_name) == Some("Page") {
                if let Some(number) = number {
                    pages.insert(number, index);
                }
                index += 1;
            } else if let Some(Object::Array(kids)) = self.take(&mut node, "Kids") {
                open.extend(kids.into_iter().rev());
            }
        }
        pages
    }
}

/// A text string of PDF: UTF-16 or UTF-8 with a mark, else its own encoding, which is Latin-1
/// but for a few signs.
pub(super) fn text_string(bytes: &[u8]) -> String {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding.decode(bytes).0.into_owned();
    }
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A number, whole or not.
pub(super) fn number(object: &Object) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "places on a page are small")]
    let whole = |number: i64| number as f64;
    object.as_real().or_else(|| object.as_integer().map(whole))
}
