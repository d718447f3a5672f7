//! Events on the wire: one line of JSON, the same bytes wherever an event is read.
//!
//! The payload is put in as it is stored, but for grants that are not for whoever reads it; the
//! envelope around it is written here, its keys in a fixed order.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde_json::{Map, Value};
use stemma_domain::id::ResourceId;
use stemma_domain::json_text::write_json;
use stemma_domain::time::Timestamp;
use stemma_event_log::{EventDigest, Record};
use stemma_views::{Seen, StoreError};

/// Whether the grants of a resource are told with the event that made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grants {
    /// To its owner, and to whoever sees everything.
    Told,
    /// To nobody else: the payload is the stored one without `access`.
    LeftOut,
}

impl Grants {
    /// What somebody is told of the grants in an event.
    pub(crate) fn for_whom(record: &Record, seen: &Seen) -> Result<Self, StoreError> {
        Ok(if seen.shows_grants(record)? {
            Self::Told
        } else {
            Self::LeftOut
        })
    }
}

/// Renders an event.
pub(crate) fn render(record: &Record, grants: Grants) -> String {
    let mut out = String::with_capacity(record.data().len() + 640);
    render_into(&mut out, record, grants);
    out
}

/// Renders an event behind what is there.
pub(crate) fn render_into(out: &mut String, record: &Record, grants: Grants) {
    let put = write!(
        out,
        r#"{{"position":{},"revision":{},"stream":{},"type":"{}","schema_version":{},"id":"{}","previous":"#,
        record.position(),
        record.revision(),
        Quoted(record.stream()),
        record.event_type(),
        record.schema_version(),
        record.digest(),
    );
    put.expect("writing to a string does not fail");
    let previous = record.previous();
    let is_first = previous.as_bytes() == &[0; 32];
    digest_or_null(out, (!is_first).then_some(previous));
    out.push_str(r#","previous_in_stream":"#);
    digest_or_null(out, record.previous_in_stream());
    let put = write!(
        out,
        r#","recorded_at":"{}","actor":{},"trace_id":{}"#,
        Timestamp::from_micros(record.recorded_at_us()),
        Quoted(record.actor()),
        Quoted(&record.trace_id()),
    );
    put.expect("writing to a string does not fail");
    if let Some(causation) = record.causation() {
        out.push_str(r#","causation":"#);
        digest_or_null(out, Some(causation));
    }
    if let Some(correlation) = record.correlation() {
        let put = write!(out, r#","correlation":{}"#, Quoted(correlation));
        put.expect("writing to a string does not fail");
    }
    out.push_str(r#","data":"#);
    out.push_str(&data(record, grants));
    out.push('}');
}

/// The payload, which is JSON without line breaks; what is not text is given as a JSON text.
fn data(record: &Record, grants: Grants) -> Cow<'_, str> {
    if grants == Grants::LeftOut {
        return without_grants(record.data()).into();
    }
    match std::str::from_utf8(record.data()) {
        Ok(text) => text.into(),
        Err(_) => Quoted(&String::from_utf8_lossy(record.data()))
            .to_string()
            .into(),
    }
}

/// A payload without what it tells of grants.
fn without_grants(data: &[u8]) -> String {
    let read: Result<Map<String, Value>, _> = serde_json::from_slice(data);
    let mut fields = read.unwrap_or_default();
    fields.remove("access");
    let mut text = String::with_capacity(data.len());
    write_json(&Value::Object(fields), &mut text);
    text
}

fn digest_or_null(out: &mut String, digest: Option<EventDigest>) {
    match digest {
        Some(digest) => write!(out, "\"{digest}\"").expect("writing to a string does not fail"),
        None => out.push_str("null"),
    }
}

/// A text as JSON.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if self.0.bytes().all(is_plain) {
            return write!(f, "\"{}\"", self.0);
        }
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// Renders an event as a CloudEvent 1.0 in structured JSON.
pub(crate) fn render_cloud_event(record: &Record, base: &str, grants: Grants) -> String {
    let source = match ResourceId::from_stream_name(record.stream()) {
        Some(id) => format!("{base}/api/resources/{id}"),
        None => format!("{base}/api/events"),
    };
    format!(
        r#"{{"specversion":"1.0","id":"{}","source":{},"type":"{}","subject":{},"time":"{}","datacontenttype":"application/json","position":"{}","revision":"{}","actor":{},"traceid":{},"data":{}}}"#,
        record.digest(),
        Quoted(&source),
        record.event_type(),
        Quoted(record.stream()),
        Timestamp::from_micros(record.recorded_at_us()),
        record.position(),
        record.revision(),
        Quoted(record.actor()),
        Quoted(&record.trace_id()),
        data(record, grants),
    )
}
