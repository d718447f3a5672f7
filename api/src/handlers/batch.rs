//! Several writes at once, all or none.

use actix_web::http::StatusCode;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;
use stemma_commands::{Change, Operation, Precondition, Target};
use stemma_content_store::Pin;
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::Command;
use stemma_domain::value::{EntityType, MediaType};
use uuid::Uuid;

use super::annotations::validated;
use crate::body;
use crate::conditional::no_precondition;
use crate::context::Context;
use crate::error::{ApiError, Code, FieldProblem};
use crate::idempotency;
use crate::json::{Fields, checked, natural, text};
use crate::query::Query;
use crate::state::AppState;
use crate::tenants::Served;
use crate::wire::batch::{BatchBody, BatchResultBody, NewResource, content, patch};
use crate::write::{Write, answer, execute};

/// An operation whose content, where it has some, is not stored yet.
pub(crate) struct Parsed {
    id: ResourceId,
    expected_revision: Option<u64>,
    change: ParsedChange,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a thousand of them at the most, and each for a moment"
)]
enum ParsedChange {
    Create(Box<NewResource>, Vec<u8>),
    Revise(Vec<u8>, Option<MediaType>),
    Other(Command),
}

impl ParsedChange {
    /// The content that is to be stored for it.
    fn content(&self) -> Option<&Vec<u8>> {
        match self {
            Self::Create(_, bytes) | Self::Revise(bytes, _) => Some(bytes),
            Self::Other(_) => None,
        }
    }
}

/// `POST /api/batch`
pub(crate) async fn execute_batch(
    request: HttpRequest,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let why = "a batch has no one revision; give expected_revision with its operations";
    no_precondition(&request, why)?;
    let bytes_max = state.options().batch_bytes_max;
    let (value, bytes) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let operations_max = state.options().batch_operations_max;
    let operations = fields.required("operations", |value| match value {
        Value::Array(operations) if (1..=operations_max).contains(&operations.len()) => {
            Ok(operations)
        }
        _ => Err(format!(
            "expected an array of 1 to {operations_max} operations"
        )),
    });
    fields.finish()?;
    let key = idempotency::of(&request, &context, &[&bytes])?;
    let parsed = parse_all(operations.unwrap_or_default(), &|| {
        state.commands().new_id()
    })?;
    let (operations, pins) = store_all(parsed, &state).await?;
    let write = Write {
        operations,
        idempotency: key,
        pins,
    };
    let place = |index: usize| format!("/operations/{index}");
    let written = execute(&state, &context, write, &place).await?;
    let result = |result: &stemma_commands::OperationResult| {
        let descriptor = result.descriptor.as_ref();
        let descriptor = descriptor.ok_or_else(|| ApiError::of(Code::Internal))?;
        Ok(BatchResultBody {
            resource_id: descriptor.id.uuid(),
            revision: descriptor.revision,
            annotation_id: result.annotation_id().map(|id| id.uuid()),
        })
    };
    let results = written
        .results
        .iter()
        .map(result)
        .collect::<Result<_, ApiError>>()?;
    let position = written.position.or_else(|| written.end.checked_sub(1));
    Ok(answer(StatusCode::OK, &written).json(BatchBody { position, results }))
}

/// Makes an identity that nothing has yet.
type NewId<'a> = dyn Fn() -> Uuid + 'a;

/// Reads every operation, and tells what is wrong with any of them.
pub(crate) fn parse_all(operations: Vec<Value>, new_id: &NewId) -> Result<Vec<Parsed>, ApiError> {
    let mut parsed = Vec::with_capacity(operations.len());
    let mut problems: Vec<FieldProblem> = Vec::new();
    let mut codes = Vec::new();
    for (index, operation) in operations.into_iter().enumerate() {
        match parse(operation, new_id) {
            Ok(operation) => parsed.push(operation),
            Err(error) => {
                codes.push(error.code());
                problems.extend(error.places().iter().map(|place| below(index, place)));
            }
        }
    }
    let Some(code) = codes.first() else {
        return Ok(parsed);
    };
    let is_one = codes.iter().all(|other| other == code);
    let code = if is_one { *code } else { Code::InvalidFields };
    Err(ApiError::fields(code, problems))
}

/// A place within the operation of this index as one within the body.
fn below(index: usize, place: &FieldProblem) -> FieldProblem {
    let pointer = place.pointer.as_ref();
    FieldProblem {
        pointer: pointer.map(|pointer| format!("/operations/{index}{pointer}")),
        ..place.clone()
    }
}

/// Reads one; what is wrong is told by its place within the operation.
fn parse(operation: Value, new_id: &NewId) -> Result<Parsed, ApiError> {
    let mut fields = Fields::of(operation, "")?;
    let op = fields.required("op", text).unwrap_or_default();
    let expected_revision = fields.optional("expected_revision", natural);
    if op == "create_resource" {
        return parse_create(fields, expected_revision, new_id);
    }
    let id: Option<ResourceId> = fields.required("resource_id", checked(str::parse));
    let change = match op.as_str() {
        "revise_content" => {
            let bytes = content(&mut fields).unwrap_or_default();
            let media_type = fields.optional("media_type", checked(MediaType::new));
            Some(ParsedChange::Revise(bytes, media_type))
        }
        "patch_resource" => parse_patch(&mut fields),
        "add_annotation" => parse_annotation(&mut fields, id, new_id)?,
        "remove_annotation" => {
            let id: Option<AnnotationId> = fields.required("annotation_id", checked(str::parse));
            id.map(|annotation_id| ParsedChange::Other(Command::RemoveAnnotation { annotation_id }))
        }
        "add_entity_type" | "remove_entity_type" => {
            let command = if op == "add_entity_type" {
                Command::AddEntityType
            } else {
                Command::RemoveEntityType
            };
            let entity_type = fields.required("entity_type", checked(EntityType::new));
            entity_type.map(|entity_type| ParsedChange::Other(command(entity_type)))
        }
        _ if fields.is_noted("op") => None,
        _ => {
            fields.problem("op", "INVALID_VALUE", "no such operation");
            return Err(ApiError::fields(
                Code::InvalidFields,
                fields.into_only_problems(),
            ));
        }
    };
    fields.finish()?;
    match (id, change) {
        (Some(id), Some(change)) => Ok(Parsed {
            id,
            expected_revision,
            change,
        }),
        _ => Err(ApiError::of(Code::Internal)),
    }
}

fn parse_create(
    mut fields: Fields,
    expected_revision: Option<u64>,
    new_id: &NewId,
) -> Result<Parsed, ApiError> {
    if fields.has("id") && fields.has("resource_id") {
        fields.problem("id", "INVALID_VALUE", "give id or resource_id, not both");
    }
    let id_field = if fields.has("resource_id") {
        "resource_id"
    } else {
        "id"
    };
    let new = NewResource::read(&mut fields, id_field);
    let bytes = content(&mut fields).unwrap_or_default();
    for (name, is_missing) in [
        ("name", new.name.is_none()),
        ("media_type", new.media_type.is_none()),
    ] {
        if is_missing && !fields.is_noted(name) {
            fields.problem(name, "MISSING_FIELD", "this field must be given");
        }
    }
    fields.finish()?;
    let id = new.id.unwrap_or_else(|| ResourceId::new(new_id()));
    Ok(Parsed {
        id,
        expected_revision,
        change: ParsedChange::Create(Box::new(new), bytes),
    })
}

fn parse_patch(fields: &mut Fields) -> Option<ParsedChange> {
    let value = fields.required("patch", Ok::<_, String>)?;
    let Ok(mut nested) = Fields::of(value, "/patch") else {
        fields.problem("patch", "WRONG_TYPE", "expected an object");
        return None;
    };
    let patch = patch(&mut nested);
    fields.take_problems(nested);
    Some(ParsedChange::Other(Command::Patch(patch)))
}

fn parse_annotation(
    fields: &mut Fields,
    id: Option<ResourceId>,
    new_id: &NewId,
) -> Result<Option<ParsedChange>, ApiError> {
    let value = fields.required("annotation", Ok::<_, String>);
    let (Some(id), Some(value)) = (id, value) else {
        return Ok(None);
    };
    match validated(id, value, "/annotation") {
        Ok(annotation) => {
            let annotation_id = AnnotationId::new(new_id());
            let command = Command::AddAnnotation {
                annotation_id,
                annotation,
            };
            Ok(Some(ParsedChange::Other(command)))
        }
        // Where nothing else is wrong, the code is that of the single route.
        Err(error) if fields.is_well() => Err(error),
        Err(error) => {
            fields.add_problems(error.places());
            Ok(None)
        }
    }
}

/// Stores all content, many pieces under one sync, before any event names it.
async fn store_all(
    parsed: Vec<Parsed>,
    state: &AppState,
) -> Result<(Vec<Operation>, Vec<Pin>), ApiError> {
    let contents = parsed.iter().filter_map(|parsed| parsed.change.content());
    let stored = contents.map(|bytes| state.content().put(bytes.clone().into()));
    let stored = futures_util::future::try_join_all(stored).await?;
    let mut stored = stored.into_iter();
    let mut operations = Vec::with_capacity(parsed.len());
    let mut pins = Vec::new();
    for parsed in parsed {
        let stored = parsed.change.content().and_then(|_| stored.next());
        let of_content = stored.as_ref().map(|stored| {
            (
                ContentDigest::from_bytes(*stored.digest.as_bytes()),
                stored.len,
            )
        });
        let command = match (parsed.change, of_content) {
            (ParsedChange::Create(new, _), Some((digest, byte_size))) => {
                let created = new.created(parsed.id, digest, byte_size);
                Command::Create(created.ok_or_else(|| ApiError::of(Code::Internal))?)
            }
            (ParsedChange::Revise(_, media_type), Some((digest, byte_size))) => Command::Revise {
                digest,
                byte_size,
                media_type,
            },
            (ParsedChange::Other(command), _) => command,
            _ => return Err(ApiError::of(Code::Internal)),
        };
        pins.extend(stored.map(|stored| stored.pin));
        operations.push(Operation {
            target: Target::Resource(parsed.id),
            change: Change::Resource(Box::new(command)),
            precondition: Precondition::None,
            expected_revision: parsed.expected_revision,
            // Ids of annotations are made above; clients choose none.
            is_id_new: true,
        });
    }
    Ok((operations, pins))
}
