//! Spans as OTLP has them, in its JSON encoding.

use serde_json::{Value, json};

use crate::context::hex;
use crate::span::Ended;

/// `STATUS_CODE_ERROR`.
const FAILED: u8 = 2;

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::String(text) => json!({ "stringValue": text }),
        Value::Bool(is_so) => json!({ "boolValue": is_so }),
        // 64-bit numbers are texts in this encoding.
        Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": key, "value": value })
}

fn span(ended: &Ended) -> Value {
    let took = u64::try_from(ended.took.as_nanos()).unwrap_or(u64::MAX);
    let attributes = ended.attributes.iter();
    let attributes = attributes.map(|(key, value)| attribute(key, value));
    let mut span = json!({
        "traceId": hex(&ended.context.trace),
        "spanId": hex(&ended.context.span),
        "name": ended.name,
        "kind": ended.kind as u8,
        "startTimeUnixNano": ended.began_ns.to_string(),
        "endTimeUnixNano": ended.began_ns.saturating_add(took).to_string(),
        "attributes": attributes.collect::<Vec<_>>(),
        "status": {},
    });
    if let Some(parent) = &ended.parent {
        span["parentSpanId"] = hex(parent).into();
    }
    if let Some(why) = &ended.error {
        span["status"] = json!({ "code": FAILED, "message": why });
    }
    span
}

/// The body of a request that hands spans over.
pub(crate) fn body(spans: &[Ended], resource: &[(String, String)]) -> Vec<u8> {
    let of_resource = |(key, value): &(String, String)| attribute(key, &value.as_str().into());
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": resource.iter().map(of_resource).collect::<Vec<_>>() },
        "scopeSpans": [{
            "scope": { "name": "stemma", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]});
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::context::SpanContext;
    use crate::span::SpanKind;

    #[test]
    fn a_span_is_written_as_the_protocol_says() {
        let ended = Ended {
            context: SpanContext {
                trace: [0xab; 16],
                span: [1; 8],
            },
            parent: Some([2; 8]),
            name: "GET /api/health".into(),
            kind: SpanKind::Server,
            began_ns: 1_700_000_000_000_000_000,
            took: Duration::from_micros(5),
            attributes: vec![("http.response.status_code", 503.into())],
            error: Some("DOWN".to_owned()),
        };
        let resource = [("service.name".to_owned(), "stemma".to_owned())];
        let body: Value = serde_json::from_slice(&body(&[ended], &resource)).unwrap();
        let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "ab".repeat(16));
        assert_eq!(span["parentSpanId"], "0202020202020202");
        assert_eq!(span["kind"], 2);
        assert_eq!(span["endTimeUnixNano"], "1700000000000005000");
        assert_eq!(span["attributes"][0]["value"]["intValue"], "503");
        assert_eq!(span["status"], json!({ "code": 2, "message": "DOWN" }));
    }
}
