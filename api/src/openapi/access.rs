//! The routes of tokens, and what the document says of who may ask what.

use serde_json::{Value, json};
use stemma_domain::access::{Need, Role};

use super::routes::{Answer, Body, Route, route, with};
use super::schemas::object;
use crate::access::{need_of, takes_tickets};

const ACCESS: &str = "Access";
const NEW_BACKUP: &str = r#"{"target":"nightly"}"#;
const NEW_TENANT: &str = r#"{"name":"observatory"}"#;
const NEW_TOKEN: &str = r#"{"principal":"ada","role":"writer","tenant":"default"}"#;

pub(super) const ROUTES: &[Route] = &[
    with(
        route(
            "post",
            "/api/admin/tokens",
            ACCESS,
            "Give out a token; it is told in this answer and never again",
        ),
        &[],
        Body::Json("NewToken", NEW_TOKEN),
        &[(201, Answer::Schema("TokenBody"))],
        &[400, 404, 413, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/admin/tokens",
            ACCESS,
            "List the tokens that were given out",
        ),
        &["limit", "cursor"],
        Body::None,
        &[(200, Answer::Page("TokenBody"))],
        &[400, 422],
    ),
    with(
        route(
            "delete",
            "/api/admin/tokens/{id}",
            ACCESS,
            "Take a token back; what it opened ends at once",
        ),
        &[],
        Body::None,
        &[(204, Answer::Empty)],
        &[400, 404, 415, 422, 503],
    ),
    with(
        route("get", "/api/admin/tenants", ACCESS, "List the tenants"),
        &["limit", "cursor"],
        Body::None,
        &[(200, Answer::Page("TenantBody"))],
        &[400, 422, 503],
    ),
    with(
        route("post", "/api/admin/tenants", ACCESS, "Make a tenant"),
        &[],
        Body::Json("NewTenant", NEW_TENANT),
        &[(201, Answer::Schema("TenantBody"))],
        &[400, 409, 413, 415, 422, 503],
    ),
    with(
        route(
            "delete",
            "/api/admin/tenants/{name}",
            ACCESS,
            "Take back the tokens of a tenant, and delete all that is of it: at once (204), or once the requests that work on it have ended (202)",
        ),
        &[],
        Body::None,
        &[(202, Answer::Empty), (204, Answer::Empty)],
        &[400, 404, 409, 415, 422, 503],
    ),
    with(
        route(
            "get",
            "/api/admin/backup",
            ACCESS,
            "Tell where backups go, and how far the last one is",
        ),
        &[],
        Body::None,
        &[(200, Answer::Schema("BackupsBody"))],
        &[400, 404, 422],
    ),
    with(
        route(
            "post",
            "/api/admin/backup",
            ACCESS,
            "Make a backup of all tenants, in a target that the configuration names",
        ),
        &[],
        Body::Json("NewBackup", NEW_BACKUP),
        &[(202, Answer::Schema("JobBody"))],
        &[400, 404, 409, 413, 415, 422, 503],
    ),
    with(
        route(
            "delete",
            "/api/admin/backup",
            ACCESS,
            "Stop the backup that is under way; the one before it is as it was",
        ),
        &[],
        Body::None,
        &[(202, Answer::Schema("JobBody"))],
        &[400, 404, 409, 415, 422],
    ),
    with(
        route(
            "post",
            "/api/session",
            ACCESS,
            "Keep the token of this request in a cookie",
        ),
        &[],
        Body::None,
        &[(204, Answer::Empty)],
        &[400, 401, 415, 422],
    ),
    with(
        route(
            "delete",
            "/api/session",
            ACCESS,
            "Have the browser forget the cookie",
        ),
        &[],
        Body::None,
        &[(204, Answer::Empty)],
        &[400, 415, 422],
    ),
    with(
        route(
            "post",
            "/api/tickets",
            ACCESS,
            "A ticket that opens a stream within a minute, as `?ticket=`",
        ),
        &[],
        Body::None,
        &[(201, Answer::Schema("TicketBody"))],
        &[400, 401, 403, 415, 422, 429],
    ),
];

pub(super) fn request_schemas() -> Vec<(&'static str, Value)> {
    let roles = Role::ALL.map(Role::name);
    let tenant = json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" });
    let new_tenant = object(&["name"], json!({ "name": tenant }));
    let new_backup = object(
        &["target"],
        json!({
            "target": { "type": "string" },
            "quick": {
                "type": ["boolean", "null"],
                "description": "Leaves content unread that the target has already",
            },
        }),
    );
    vec![
        ("NewBackup", new_backup),
        ("NewTenant", new_tenant),
        (
            "NewToken",
            object(
                &["principal", "role"],
                json!({
                    "principal": { "type": "string", "pattern": "^[A-Za-z0-9._@-]{1,64}$" },
                    "role": { "enum": roles },
                    "tenant": { "type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{1,64}$" },
                    "expires_at": { "type": ["string", "null"], "format": "date-time" },
                }),
            ),
        ),
    ]
}

/// The ways to show a token.
pub(super) fn schemes() -> Value {
    json!({
        "bearer": { "type": "http", "scheme": "bearer" },
        "cookie": { "type": "apiKey", "in": "cookie", "name": crate::access::SESSION_COOKIE },
        "ticket": { "type": "apiKey", "in": "query", "name": "ticket" },
    })
}

/// Puts into an operation who may ask for it. While a server has no tokens everybody may.
pub(super) fn secure(operation: &mut Value, method: &str, path: &str) {
    let method = method.to_ascii_uppercase();
    let need = need_of(&method, path);
    let roles: Vec<&str> = Role::ALL
        .into_iter()
        .filter(|role| role.may(need))
        .map(Role::name)
        .collect();
    if need == Need::Nothing {
        operation["security"] = json!([]);
        return;
    }
    operation["x-roles"] = json!(roles);
    let mut ways = vec![json!({ "bearer": [] }), json!({ "cookie": [] })];
    if takes_tickets(&method, Some(path)) {
        ways.push(json!({ "ticket": [] }));
    }
    operation["security"] = ways.into();
}

/// The statuses of those who are not let in, or ask too much.
pub(super) fn refusals(method: &str, path: &str) -> &'static [u16] {
    match need_of(&method.to_ascii_uppercase(), path) {
        Need::Nothing => &[429],
        _ => &[401, 403, 429, 503],
    }
}
