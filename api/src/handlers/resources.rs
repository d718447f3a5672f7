//! Resources: make, list, read, change, tag, clone; and what names one.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, VARY,
};
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use stemma_commands::{
    AsOf, Change, CloneAnnotations, Commands, EntityTag, Operation, Past, Precondition, Target,
};
use stemma_content_store::Stored;
use stemma_domain::access::Sight;
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_domain::resource::{Command, Descriptor};
use stemma_domain::value::{CollectionName, EntityType, MediaType, ResourceName};
use stemma_views::{Archived, ResourceQuery, Seen, Sort};

use crate::accept;
use crate::body::{self, blocking, essence};
use crate::conditional::{is_held, must_match, no_precondition, precondition, revision_tag};
use crate::context::Context;
use crate::error::{ApiError, Code, FieldProblem};
use crate::handlers::graph;
use crate::idempotency;
use crate::json::{Fields, boolean, checked};
use crate::query::Query;
use crate::state::{AppState, Reflected, STEMMA_POSITION};
use crate::tenants::Served;
use crate::wire::batch::{NewResource, chosen_id, content, patch as read_patch};
use crate::wire::resource::{ReferencedByBody, ResourceBody, json_ld, path};
use crate::write::{Write, descriptor, execute_one, tagged};

/// Most resources that one page of `?q=` looks at.
const SEARCHED_RESOURCES_MAX: usize = 10_000;
/// Most pages of the views that one page of `?q=` goes through.
const SEARCHED_PAGES_MAX: usize = 500;
/// Of these, most that gave less than was asked for: each time the views passed over as many rows as
/// they look at for a page, which are hidden or not what is asked for.
const SPARSE_PAGES_MAX: usize = 2;
/// Bytes of text after which a page of `?q=` ends.
const SEARCHED_BYTES_MAX: u64 = 64 << 20;
/// Which part answered.
const STEMMA_SOURCE: HeaderName = HeaderName::from_static("stemma-source");
/// Why another part than usual answered, or one that lacks something.
pub(crate) const STEMMA_WARNING: HeaderName = HeaderName::from_static("stemma-warning");
const LD_JSON: &str = "application/ld+json";
const JSON: &str = "application/json";

/// Reads an id that stands in a path.
pub(crate) fn resource_id(text: &str) -> Result<ResourceId, ApiError> {
    text.parse().map_err(|error: stemma_domain::id::IdError| {
        ApiError::new(Code::InvalidId, error.to_string())
    })
}

/// An answer that tells which position it reflects.
pub(crate) fn reflecting(status: StatusCode, position: Option<u64>) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    if let Some(position) = position {
        response.insert_header((STEMMA_POSITION, HeaderValue::from(position)));
    }
    response
}

/// A resource as the views have it.
pub(crate) fn find(at: &Reflected, id: ResourceId) -> Result<Arc<Descriptor>, ApiError> {
    at.views
        .resource(id)?
        .ok_or_else(|| ApiError::of(Code::ResourceNotFound))
}

/// `POST /api/resources`
pub(crate) async fn create(
    request: HttpRequest,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let why = "what is made anew has no tag yet; an id that is taken is 409 by itself";
    no_precondition(&request, why)?;
    if essence(&request).as_deref() == Some("multipart/form-data") {
        return create_from_upload(&request, payload, &context, &state).await;
    }
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let new = NewResource::read(&mut fields, "id");
    let content = content(&mut fields);
    demand(&new, &mut fields);
    fields.finish()?;
    let key = idempotency::of(&request, &context, &[&bytes])?;
    let stored = state
        .content()
        .put(content.unwrap_or_default().into())
        .await?;
    finish_create(&context, &state, new, stored, key).await
}

/// Notes what a resource cannot do without.
fn demand(new: &NewResource, fields: &mut Fields) {
    let missing = [
        ("name", new.name.is_none()),
        ("media_type", new.media_type.is_none()),
    ];
    for (name, is_missing) in missing {
        let was_wrong = fields.is_noted(name);
        if is_missing && !was_wrong {
            fields.problem(name, "MISSING_FIELD", "this field must be given");
        }
    }
}

async fn create_from_upload(
    request: &HttpRequest,
    payload: Payload,
    context: &Context,
    state: &AppState,
) -> Result<HttpResponse, ApiError> {
    let upload = body::upload(request, payload, state).await?;
    let (metadata, bytes) = upload
        .metadata
        .unwrap_or_else(|| (serde_json::json!({}), actix_web::web::Bytes::default()));
    let mut fields = Fields::of(metadata, "/metadata")?;
    let mut new = NewResource::read(&mut fields, "id");
    if new.name.is_none() && !fields.is_noted("name") {
        new.name = upload
            .file_name
            .as_deref()
            .and_then(|name| ResourceName::new(name).ok());
    }
    if new.media_type.is_none() && !fields.is_noted("media_type") {
        let sent = upload
            .media_type
            .as_deref()
            .unwrap_or("application/octet-stream");
        new.media_type = MediaType::new(sent).ok();
    }
    demand(&new, &mut fields);
    fields.finish()?;
    let asked = [&bytes[..], upload.file.digest.as_bytes(), &upload.described];
    let key = idempotency::of(request, context, &asked)?;
    finish_create(context, state, new, upload.file, key).await
}

async fn finish_create(
    context: &Context,
    state: &AppState,
    new: NewResource,
    stored: Stored,
    key: Option<stemma_event_log::Idempotency>,
) -> Result<HttpResponse, ApiError> {
    let id = new
        .id
        .unwrap_or_else(|| ResourceId::new(state.commands().new_id()));
    let digest = ContentDigest::from_bytes(*stored.digest.as_bytes());
    let created = new.created(id, digest, stored.len);
    let created = created.ok_or_else(|| ApiError::of(Code::Internal))?;
    let write = Write::one(id, Command::Create(created), Precondition::None);
    let write = write.with_key(key).with_pin(stored.pin);
    let (written, result) = execute_one(state, context, write).await?;
    let descriptor = descriptor(&result)?;
    let mut response = tagged(StatusCode::CREATED, &written, descriptor);
    response.insert_header((LOCATION, path(descriptor.id)));
    Ok(response.json(ResourceBody::of(descriptor, &context.sight())))
}

/// `GET /api/resources`
pub(crate) async fn list(request: HttpRequest, state: Served) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let page = query.page(state.options(), state.cursors());
    let mut entity_types = query.read_many("entity_type", EntityType::new);
    entity_types.extend(query.read_many("entityType", EntityType::new));
    let asked = ResourceQuery {
        entity_types,
        name_contains: None,
        narrowed_by: query.one("q").filter(|text| !text.is_empty()),
        archived: archived(&mut query),
        collection: query.read("collection", "a collection's name", |t| {
            CollectionName::new(t).ok()
        }),
        created_after: query.read("created_after", "an RFC 3339 instant", |t| t.parse().ok()),
        sort: query
            .read("sort", "created_at, -created_at or name", sort)
            .unwrap_or_default(),
        limit: page.limit,
        after: page.after,
    };
    query.finish()?;
    let at = state.views_at(wait).await?;
    let sight = state.sight();
    let body = |found| state.page(found, |d: Arc<Descriptor>| ResourceBody::of(&d, sight));
    let why = match graph::listed(&state, &at, &asked).await {
        Some(Ok((found, position))) => {
            let mut response = reflecting(StatusCode::OK, position);
            response.insert_header((STEMMA_SOURCE, "graph"));
            return Ok(response.json(body(found)));
        }
        Some(Err(why)) => Some(format!("{why}; the views answered")),
        None => None,
    };
    let found = match asked.narrowed_by.clone() {
        None => at.views.resources(&asked)?,
        Some(text) => {
            let (views, commands) = (at.views.clone(), state.commands().clone());
            blocking(move || containing(&views, &commands, asked, &text)).await??
        }
    };
    let mut response = reflecting(StatusCode::OK, at.position());
    response.insert_header((STEMMA_SOURCE, "views"));
    graph::warn(&mut response, why.as_deref());
    Ok(response.json(body(found)))
}

/// A page of the resources whose name or text contains a text, without regard to case. It looks at
/// a bounded number of resources, rows and bytes, and then ends, with a cursor, however few it found.
fn containing(
    views: &Seen,
    commands: &Commands,
    mut asked: ResourceQuery,
    text: &str,
) -> Result<stemma_views::Page<Arc<Descriptor>>, ApiError> {
    let wanted = text.to_lowercase();
    let limit = asked.limit;
    let mut items = Vec::new();
    let (mut looked_at, mut read_bytes, mut bytes) = (0, 0, 0);
    let (mut pages, mut sparse_pages) = (0, 0);
    loop {
        asked.limit = limit - items.len();
        let page = views.resources(&asked)?;
        looked_at += page.items.len();
        pages += 1;
        sparse_pages += usize::from(page.items.len() < asked.limit);
        for descriptor in page.items {
            let is_named = descriptor.name.as_str().to_lowercase().contains(&wanted);
            let is_found = is_named || {
                read_bytes += descriptor.byte_size;
                commands.text_contains(&descriptor, &wanted)
            };
            if is_found {
                let row = views.resource_of_bytes(descriptor.id)?;
                bytes += row.map_or(0, |(_, bytes)| bytes);
                items.push(descriptor);
            }
        }
        let is_enough = items.len() == limit
            || looked_at >= SEARCHED_RESOURCES_MAX
            || pages == SEARCHED_PAGES_MAX
            || sparse_pages == SPARSE_PAGES_MAX
            || read_bytes >= SEARCHED_BYTES_MAX
            || bytes >= views.page_bytes_max();
        if is_enough || page.next.is_none() {
            let next = page.next;
            return Ok(stemma_views::Page { items, next });
        }
        asked.after = page.next;
    }
}

/// `?archived=`
pub(crate) fn archived(query: &mut Query) -> Archived {
    let read = query.read("archived", "false, true or any", |text| match text {
        "false" => Some(Archived::No),
        "true" => Some(Archived::Yes),
        "any" => Some(Archived::Any),
        _ => None,
    });
    read.unwrap_or_default()
}

fn sort(text: &str) -> Option<Sort> {
    match text {
        "created_at" => Some(Sort::CreatedAscending),
        "-created_at" => Some(Sort::CreatedDescending),
        "name" => Some(Sort::Name),
        _ => None,
    }
}

/// `?as_of_position=` and `?as_of=`, beside what else can name a moment: at most one of them.
pub(crate) fn as_of(query: &mut Query, revision: Option<AsOf>) -> Option<AsOf> {
    let position = query.number("as_of_position").map(AsOf::Position);
    let time = query
        .read("as_of", "an RFC 3339 instant", |text| text.parse().ok())
        .map(AsOf::Time);
    let mut given = [revision, position, time].into_iter().flatten();
    let as_of = given.next();
    if given.next().is_some() {
        query.problem(
            "as_of",
            "INVALID_PARAMETER",
            "only one moment of the past can be asked for",
        );
    }
    as_of
}

/// A resource at a moment of the past, as it was: whoever may read it now may read what it was.
pub(crate) async fn past(
    state: &AppState,
    at: &Reflected,
    id: ResourceId,
    as_of: AsOf,
) -> Result<Descriptor, ApiError> {
    if *at.views.sight() != Sight::Everything && !at.views.sees(id)? {
        return Err(never(state, as_of));
    }
    match state.commands().descriptor_at(id, as_of).await? {
        Past::Found(descriptor) => Ok(descriptor),
        Past::Absent => Err(ApiError::of(Code::ResourceNotFound)),
        Past::NotYet => Err(ApiError::of(Code::NotHappenedYet)),
    }
}

/// What is answered of an id that nothing ever had, and of what is hidden.
fn never(state: &AppState, as_of: AsOf) -> ApiError {
    let is_ahead = match as_of {
        AsOf::Revision(_) => false,
        AsOf::Position(position) => position >= state.reader().end().get(),
        AsOf::Time(instant) => instant > state.commands().now(),
    };
    ApiError::of(if is_ahead {
        Code::NotHappenedYet
    } else {
        Code::ResourceNotFound
    })
}

/// `GET /api/resources/{id}`
pub(crate) async fn get(
    request: HttpRequest,
    id: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let revision = query.number("as_of_revision").map(AsOf::Revision);
    let as_of = as_of(&mut query, revision);
    query.finish()?;
    let media_type = accept::choose(&request, &[JSON, LD_JSON])?;
    let at = state.views_at(wait).await?;
    let descriptor = match as_of {
        None => find(&at, id)?.as_ref().clone(),
        Some(as_of) => past(&state, &at, id, as_of).await?,
    };
    let tag = revision_tag(descriptor.revision);
    let mut response = reflecting(StatusCode::OK, at.position());
    response.insert_header((ETAG, tag));
    response.insert_header((VARY, "Accept"));
    response.insert_header((CACHE_CONTROL, "no-cache"));
    let own = EntityTag::Revision(descriptor.revision);
    must_match(&request, own)?;
    let is_held = is_held(&request, own)?;
    if as_of.is_none() && is_held {
        return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
    }
    if media_type == LD_JSON {
        response.insert_header((CONTENT_TYPE, LD_JSON));
        return Ok(response.body(json_ld(&descriptor, context.base()).to_string()));
    }
    Ok(response.json(ResourceBody::of(&descriptor, state.sight())))
}

/// `PATCH /api/resources/{id}`
pub(crate) async fn patch(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    Query::none(request.query_string())?;
    let precondition = precondition(&request)?;
    let bytes_max = state.options().json_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let command = Command::Patch(read_patch(&mut fields));
    fields.finish()?;
    let key = idempotency::of(&request, &context, &[&bytes])?;
    changed(
        &context,
        &state,
        Write::one(id, command, precondition).with_key(key),
    )
    .await
}

/// Executes a change of one resource and answers with it.
pub(crate) async fn changed(
    context: &Context,
    state: &AppState,
    write: Write,
) -> Result<HttpResponse, ApiError> {
    let (written, result) = execute_one(state, context, write).await?;
    let descriptor = descriptor(&result)?;
    let body = ResourceBody::of(descriptor, &context.sight());
    Ok(tagged(StatusCode::OK, &written, descriptor).json(body))
}

/// `PUT /api/resources/{id}/entity_types/{type}`
pub(crate) async fn add_entity_type(
    request: HttpRequest,
    place: Path<(String, String)>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    change_entity_type(&request, &place, &context, &state, Command::AddEntityType).await
}

/// `DELETE /api/resources/{id}/entity_types/{type}`
pub(crate) async fn remove_entity_type(
    request: HttpRequest,
    place: Path<(String, String)>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    change_entity_type(
        &request,
        &place,
        &context,
        &state,
        Command::RemoveEntityType,
    )
    .await
}

async fn change_entity_type(
    request: &HttpRequest,
    place: &(String, String),
    context: &Context,
    state: &AppState,
    command: fn(EntityType) -> Command,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&place.0)?;
    Query::none(request.query_string())?;
    let refused = |why: String| {
        let field = FieldProblem::parameter("type", "INVALID_PARAMETER", why);
        ApiError::fields(Code::InvalidParameters, vec![field])
    };
    // What was no UTF-8 comes with replacement characters in its place.
    if place.1.contains(char::REPLACEMENT_CHARACTER) {
        return Err(refused("expected percent-encoded UTF-8".to_owned()));
    }
    let entity_type = EntityType::new(&place.1).map_err(|error| refused(error.to_string()))?;
    let precondition = precondition(request)?;
    let key = idempotency::of(request, context, &[])?;
    changed(
        context,
        state,
        Write::one(id, command(entity_type), precondition).with_key(key),
    )
    .await
}

/// `POST /api/resources/{id}/clone`
pub(crate) async fn clone(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let source = resource_id(&id)?;
    Query::none(request.query_string())?;
    let (value, bytes) = body::optional_json(&request, payload, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let id = fields.optional("id", checked(chosen_id));
    let name = fields.optional("name", checked(ResourceName::new));
    let collection = fields.optional("collection", checked(CollectionName::new));
    let annotations = match fields.optional("with_annotations", boolean) {
        Some(true) => CloneAnnotations::Bring,
        _ => CloneAnnotations::Leave,
    };
    fields.finish()?;
    let id = id.unwrap_or_else(|| ResourceId::new(state.commands().new_id()));
    let operation = Operation {
        target: Target::Resource(id),
        change: Change::CloneFrom {
            source,
            name,
            collection,
            annotations,
        },
        precondition: precondition(&request)?,
        expected_revision: None,
        is_id_new: false,
    };
    let key = idempotency::of(&request, &context, &[&bytes])?;
    let write = Write {
        operations: vec![operation],
        idempotency: key,
        pins: Vec::new(),
    };
    let (written, result) = execute_one(&state, &context, write).await?;
    let descriptor = descriptor(&result)?;
    let mut response = tagged(StatusCode::CREATED, &written, descriptor);
    response.insert_header((LOCATION, path(descriptor.id)));
    Ok(response.json(ResourceBody::of(descriptor, &context.sight())))
}

/// `GET /api/resources/{id}/referenced_by`
pub(crate) async fn referenced_by(
    request: HttpRequest,
    id: Path<String>,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let id = resource_id(&id)?;
    let mut query = Query::parse(request.query_string())?;
    let wait = query.min_position(state.options());
    let page = query.page(state.options(), state.cursors());
    let archived = archived(&mut query);
    query.finish()?;
    let at = state.views_at(wait).await?;
    find(&at, id)?;
    let found = at
        .views
        .referenced_by(id, archived, page.limit, page.after.as_ref())?;
    let response = state.page(found, ReferencedByBody::from);
    Ok(reflecting(StatusCode::OK, at.position()).json(response))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use stemma_commands::{Clock, Dependencies, Ids, Request};
    use stemma_content_store::{
        ContentStore, MemoryStorage as ContentMemory, Options as ContentOptions,
    };
    use stemma_domain::event::ResourceCreated;
    use stemma_domain::resource::{Access, Visibility};
    use stemma_domain::time::Timestamp;
    use stemma_domain::value::PrincipalName;
    use stemma_event_log::{Log, MemoryStorage, Options as LogOptions, Position, ReadLimit};
    use stemma_views::{Model, Options as ViewsOptions, Views};
    use uuid::Uuid;

    use super::*;

    /// Rows that a page of the views looks at here.
    const ROWS: usize = 3;
    const HIDDEN: u128 = 20;

    struct Ticks(AtomicU64);

    impl Clock for Ticks {
        fn now(&self) -> Timestamp {
            let tick = self.0.fetch_add(1, Ordering::Relaxed);
            Timestamp::from_micros(i64::try_from(tick).unwrap())
        }
    }

    impl Ids for Ticks {
        fn new_id(&self) -> Uuid {
            Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
        }
    }

    fn commands() -> Commands {
        let log = Log::open(Arc::new(MemoryStorage::default()), LogOptions::default()).unwrap();
        let content = Arc::new(ContentMemory::default());
        let (content, _) = ContentStore::open_on(content, ContentOptions::default()).unwrap();
        let ticks = Arc::new(Ticks(AtomicU64::new(1)));
        let on = Dependencies {
            appender: log.appender,
            reader: log.reader,
            content,
            clock: ticks.clone(),
            ids: ticks,
        };
        Commands::new(on, stemma_commands::Options::default())
    }

    fn creation(number: u128, name: &str, visibility: Visibility) -> Operation {
        let id = ResourceId::new(Uuid::from_u128(number));
        let created = ResourceCreated {
            access: Access::new(visibility, Vec::new(), Vec::new()).unwrap(),
            byte_size: 1,
            collection: None,
            derived_from: None,
            digest: ContentDigest::from_bytes([1; 32]),
            entity_types: Vec::new(),
            id,
            language: None,
            media_type: MediaType::new("image/png").unwrap(),
            metadata: serde_json::Map::new(),
            name: ResourceName::new(name).unwrap(),
        };
        Operation::of_resource(id, Command::Create(created))
    }

    /// Whoever may read few of many resources had one request go through all of them.
    #[test]
    fn a_search_among_rows_that_are_passed_over_ends_with_a_cursor_and_goes_on_there() {
        let commands = commands();
        let hidden = (1..=HIDDEN).map(|number| creation(number, "secret", Visibility::Private));
        let open = creation(HIDDEN + 1, "a moon", Visibility::Tenant);
        let request = Request {
            operations: hidden.chain([open]).collect(),
            actor: "olga".to_owned(),
            sight: Sight::Everything,
            trace_id: "t".to_owned(),
            idempotency: None,
            bases: [].into(),
            pins: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        runtime.block_on(commands.execute(request)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = ViewsOptions {
            page_rows_max: ROWS,
            ..ViewsOptions::default()
        };
        let views = Views::open(dir.path(), &options).unwrap().model;
        let all = ReadLimit {
            records: 1000,
            bytes: usize::MAX,
        };
        let records = commands.reader().read(Position::new(0), all).unwrap();
        views.apply(&records).unwrap();
        let rita = Sight::Of(PrincipalName::new("rita").unwrap());
        let seen = views.seen_by(&rita);
        let mut asked = ResourceQuery {
            narrowed_by: Some("moon".to_owned()),
            limit: 5,
            ..ResourceQuery::default()
        };
        let (mut found, mut requests) = (Vec::new(), 0);
        loop {
            let page = containing(&seen, &commands, asked.clone(), "moon").unwrap();
            found.extend(page.items.iter().map(|d| d.name.as_str().to_owned()));
            requests += 1;
            asked.after = page.next;
            if asked.after.is_none() {
                break;
            }
        }
        assert_eq!(found, ["a moon"]);
        let rows = usize::try_from(HIDDEN).unwrap() + 1;
        assert_eq!(requests, rows.div_ceil(SPARSE_PAGES_MAX * ROWS));
    }
}
