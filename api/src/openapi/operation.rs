//! The routes for operating a server: jobs, administration, health, metrics, documents.

use super::routes::{Answer, Body, Route, route, with};

const OPERATION: &str = "Operation";

pub(super) const ROUTES: &[Route] = &[
    with(
        route("get", "/api/jobs", "Jobs", "List jobs, newest first"),
        &[
            "status",
            "type",
            "limit",
            "cursor",
            "min_position",
            "timeout_ms",
        ],
        Body::None,
        &[(200, Answer::Page("JobBody"))],
        &[400, 422, 503],
    ),
    with(
        route("get", "/api/jobs/{id}", "Jobs", "Read a job"),
        &[],
        Body::None,
        &[(200, Answer::Schema("JobBody"))],
        &[400, 404, 422],
    ),
    with(
        route("get", "/api/jobs/{id}/status", "Jobs", "Read a job"),
        &[],
        Body::None,
        &[(200, Answer::Schema("JobBody"))],
        &[400, 404, 422],
    ),
    with(
        route(
            "get",
            "/api/jobs/{id}/events/stream",
            "Jobs",
            "Follow a job (Server-Sent Events)",
        ),
        &[],
        Body::None,
        &[(200, Answer::Stream)],
        &[400, 404, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/jobs/{id}/cancel",
            "Jobs",
            "Tell a job to stop",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[400, 404, 409, 415, 422],
    ),
    with(
        route(
            "post",
            "/api/admin/rebuild/views",
            OPERATION,
            "Make the views anew beside the live ones, compare, swap",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[400, 409, 415, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/rebuild/graph",
            OPERATION,
            "Make the graph anew beside the live one, compare, swap",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[400, 409, 415, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/retry/graph",
            OPERATION,
            "Try the event again at which the graph stopped",
        ),
        &[],
        Body::None,
        &[(202, Answer::Any)],
        &[400, 415, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/verify",
            OPERATION,
            "Hold all that is stored against itself",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[400, 404, 409, 415, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/collect",
            OPERATION,
            "Remove content that nothing names",
        ),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[400, 415, 422, 503],
    ),
    with(
        route(
            "post",
            "/api/admin/retry/views",
            OPERATION,
            "Try the event again at which the views stopped",
        ),
        &[],
        Body::None,
        &[(202, Answer::Any)],
        &[400, 415, 422],
    ),
    with(
        route(
            "post",
            "/api/admin/reopen/log",
            OPERATION,
            "Take writes again after a failed write or sync",
        ),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[400, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/health",
            OPERATION,
            "How each part is; 503 when one that matters is not ok",
        ),
        &[],
        Body::None,
        &[
            (200, Answer::Schema("HealthBody")),
            (503, Answer::Schema("HealthBody")),
        ],
        &[400, 422],
    ),
    with(
        route("get", "/api/health/live", OPERATION, "The process answers"),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[],
    ),
    with(
        route(
            "get",
            "/api/health/ready",
            OPERATION,
            "Requests are to be sent here",
        ),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[503],
    ),
    with(
        route("get", "/metrics", OPERATION, "Figures for Prometheus"),
        &[],
        Body::None,
        &[(200, Answer::Text("application/openmetrics-text"))],
        &[500],
    ),
    with(
        route("get", "/api/openapi.json", OPERATION, "This document"),
        &[],
        Body::None,
        &[(200, Answer::Any)],
        &[],
    ),
    with(
        route("get", "/docs", OPERATION, "This document, for people"),
        &[],
        Body::None,
        &[(200, Answer::Text("text/html"))],
        &[],
    ),
];
