//! What each route needs.

use stemma_domain::access::Need;

/// What a request needs, by its method and the pattern of its route; none for what is no route.
pub(crate) fn need_of(method: &str, pattern: Option<&str>) -> Need {
    let is_read = matches!(method, "GET" | "HEAD");
    match pattern {
        // Whoever has no token is not told which routes there are.
        None => Need::Token,
        Some(
            "/" | "/docs" | "/docs/page.js" | "/docs/page.css" | "/api/openapi.json"
            | "/api/health/live" | "/api/health/ready",
        ) => Need::Nothing,
        Some("/api/health" | "/metrics") => Need::Observe,
        Some("/api/session" | "/api/tickets") => Need::Token,
        Some("/api/admin/tokens" | "/api/admin/tokens/{id}") => Need::Grant,
        Some("/api/admin/backup") => Need::Operate,
        Some(pattern) if pattern.starts_with("/api/admin/tenants") => Need::Operate,
        Some(pattern) if pattern.starts_with("/api/admin/") => Need::Administer,
        Some(pattern) if pattern.starts_with("/api/workers/") => Need::Work,
        Some(
            "/api/resources/{id}/content"
            | "/api/documents/{id}"
            | "/api/documents/{id}/text"
            | "/api/documents/{id}/structure"
            | "/api/documents/{id}/chunks",
        ) if is_read => Need::ReadForWork,
        // A query changes nothing, whatever it is sent by.
        Some("/api/graph/query") => Need::Read,
        Some(_) if is_read => Need::Read,
        Some(_) => Need::Write,
    }
}

/// Whether a route may be asked with a ticket: the streams that a browser opens by itself.
pub(crate) fn takes_tickets(method: &str, pattern: Option<&str>) -> bool {
    method == "GET" && pattern.is_some_and(|pattern| pattern.ends_with("/stream"))
}
