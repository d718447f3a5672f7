//! Events on the wire: one line of JSON, the same bytes wherever an event is read.
//!
//! The payload is put in as it is stored; only the envelope around it is written here, its keys in
//! a fixed order.

use std::fmt::Write;

use stemma_domain::id::ResourceId;
use stemma_domain::time::Timestamp;
use stemma_event_log::{EventDigest, Record};

/// Renders an event.
pub(crate) fn render(record: &Record) -> String {
    let mut out = String::with_capacity(record.data().len() + 640);
    let previous = record.previous();
    let is_first = previous.as_bytes() == &[0; 32];
    let put = write!(
        out,
        r#"{{"position":{},"revision":{},"stream":{},"type":"{}","schema_version":{},"id":"{}","previous":{},"previous_in_stream":{},"recorded_at":"{}","actor":{},"trace_id":{}"#,
        record.position(),
        record.revision(),
        quoted(record.stream()),
        record.event_type(),
        record.schema_version(),
        record.digest(),
        digest_or_null((!is_first).then_some(previous)),
        digest_or_null(record.previous_in_stream()),
        Timestamp::from_micros(record.recorded_at_us()),
        quoted(record.actor()),
        quoted(&record.trace_id()),
    );
    put.expect("writing to a string does not fail");
    if let Some(causation) = record.causation() {
        out.push_str(&format!(r#","causation":"{causation}""#));
    }
    if let Some(correlation) = record.correlation() {
        out.push_str(r#","correlation":"#);
        out.push_str(&quoted(correlation));
    }
    out.push_str(r#","data":"#);
    out.push_str(&data(record));
    out.push('}');
    out
}

/// The payload, which is JSON without line breaks; what is not text is given as a JSON text.
fn data(record: &Record) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(record.data()) {
        Ok(text) => text.into(),
        Err(_) => quoted(&String::from_utf8_lossy(record.data())).into(),
    }
}

fn digest_or_null(digest: Option<EventDigest>) -> String {
    digest.map_or_else(|| "null".to_owned(), |digest| format!("\"{digest}\""))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// Renders an event as a CloudEvent 1.0 in structured JSON.
pub(crate) fn render_cloud_event(record: &Record, base: &str) -> String {
    let source = match ResourceId::from_stream_name(record.stream()) {
        Some(id) => format!("{base}/api/resources/{id}"),
        None => format!("{base}/api/events"),
    };
    format!(
        r#"{{"specversion":"1.0","id":"{}","source":{},"type":"{}","subject":{},"time":"{}","datacontenttype":"application/json","position":"{}","revision":"{}","actor":{},"traceid":{},"data":{}}}"#,
        record.digest(),
        quoted(&source),
        record.event_type(),
        quoted(record.stream()),
        Timestamp::from_micros(record.recorded_at_us()),
        record.position(),
        record.revision(),
        quoted(record.actor()),
        quoted(&record.trace_id()),
        data(record),
    )
}
