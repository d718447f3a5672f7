//! What a fuzzer, and the test that replays its corpus, may ask of what reads requests.
//!
//! Each function panics when a reader does, or when what it says of a request cannot be.

use std::sync::LazyLock;

use stemma_domain::annotation::body_operations_from_json;
use stemma_domain::id::ResourceId;

use crate::conditional::parse_tags;
use crate::cursors::Cursors;
use crate::handlers::annotations::validated;
use crate::handlers::batch::parse_all;
use crate::json::{self, Fields};
use crate::options::Options;
use crate::query::Query;
use crate::range::{Wanted, wanted};
use crate::sse::Filter;
use crate::wire::batch::{NewResource, content, patch};

/// Most levels of a body.
const DEPTH_MAX: usize = 32;

/// Bodies, batches, queries, what streams filter by, ranges and entity tags: the first byte says
/// which.
pub fn requests(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    match kind % 8 {
        0 => body(bytes, |fields| {
            NewResource::read(fields, "id");
            content(fields);
        }),
        1 => body(bytes, |fields| {
            patch(fields);
        }),
        2 => annotation(bytes),
        3 => query(&text),
        4 => range(bytes, &text),
        5 => batch(bytes),
        6 => filter(&text),
        _ => {
            let _ = parse_tags(&text);
        }
    }
}

fn body(bytes: &[u8], read: impl Fn(&mut Fields)) {
    let Ok(value) = json::parse(bytes, DEPTH_MAX) else {
        return;
    };
    let plain: serde_json::Value = serde_json::from_slice(bytes).expect("what we take is JSON");
    assert_eq!(value, plain);
    if let Ok(mut fields) = Fields::of(value, "") {
        read(&mut fields);
        let _ = fields.finish();
    }
}

fn annotation(bytes: &[u8]) {
    let Ok(value) = json::parse(bytes, DEPTH_MAX) else {
        return;
    };
    let _ = body_operations_from_json(&value);
    let id = ResourceId::new(uuid::Uuid::from_u128(7));
    if let Ok(once) = validated(id, value, "") {
        let twice = validated(id, once.clone(), "");
        assert_eq!(twice.ok(), Some(once), "what is valid stays as it is");
    }
}

static CURSORS: LazyLock<Cursors> = LazyLock::new(|| Cursors::new(None));

fn query(text: &str) {
    let Ok(mut query) = Query::parse(text) else {
        return;
    };
    let options = Options::default();
    let page = query.page(&options, &CURSORS);
    assert!((1..=options.page_limit_max).contains(&page.limit));
    query.min_position(&options);
    query.number("position");
    query.many("type");
    query.one("q");
    let _ = query.finish();
}

fn batch(bytes: &[u8]) {
    let Ok(serde_json::Value::Array(operations)) = json::parse(bytes, DEPTH_MAX) else {
        return;
    };
    let count = operations.len();
    if let Ok(parsed) = parse_all(operations, &|| uuid::Uuid::from_u128(7)) {
        assert_eq!(parsed.len(), count);
    }
}

fn filter(text: &str) {
    let Ok(mut query) = Query::parse(text) else {
        return;
    };
    let filter = Filter::read(&mut query);
    if query.finish().is_ok() && text.is_empty() {
        assert!(filter.takes_all());
    }
}

fn range(bytes: &[u8], text: &str) {
    let length = u64::from(*bytes.first().unwrap_or(&0));
    let Wanted::Ranges(ranges) = wanted(text.get(1..).unwrap_or_default(), length, 16) else {
        return;
    };
    for (first, count) in ranges {
        assert!(count > 0 && first + count <= length);
    }
}
