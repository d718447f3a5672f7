//! What each route needs.

use stemma_domain::access::Need;

/// What a request needs, by its method and the pattern of its route.
pub(crate) fn need_of(method: &str, pattern: &str) -> Need {
    let is_read = matches!(method, "GET" | "HEAD");
    match pattern {
        "/" | "/docs" | "/docs/page.js" | "/docs/page.css" | "/api/openapi.json"
        | "/api/health/live" | "/api/health/ready" => Need::Nothing,
        "/api/health" | "/metrics" => Need::Observe,
        "/api/errors" => Need::Administer,
        "/api/session" if method == "DELETE" => Need::Nothing,
        "/api/session" | "/api/tickets" => Need::Token,
        "/api/admin/tokens" | "/api/admin/tokens/{id}" => Need::Grant,
        "/api/admin/backup" | "/api/admin/reopen/tokens" => Need::Operate,
        pattern if pattern.starts_with("/api/admin/tenants") => Need::Operate,
        pattern if pattern.starts_with("/api/admin/") => Need::Administer,
        pattern if pattern.starts_with("/api/workers/") => Need::Work,
        "/api/resources/{id}/content"
        | "/api/jobs/{id}"
        | "/api/jobs/{id}/status"
        | "/api/jobs/{id}/events/stream"
        | "/api/documents/{id}"
        | "/api/documents/{id}/text"
        | "/api/documents/{id}/structure"
        | "/api/documents/{id}/chunks"
            if is_read =>
        {
            Need::ReadForWork
        }
        // A query changes nothing, whatever it is sent by.
        "/api/graph/query" => Need::Read,
        _ if is_read => Need::Read,
        _ => Need::Write,
    }
}

/// Whether a route may be asked with a ticket: the streams that a browser opens by itself.
pub(crate) fn takes_tickets(method: &str, pattern: Option<&str>) -> bool {
    method == "GET" && pattern.is_some_and(|pattern| pattern.ends_with("/stream"))
}
