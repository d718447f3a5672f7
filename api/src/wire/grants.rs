//! Grants on the wire: who may read and write a resource.

use serde::Serialize;
use serde_json::Value;
use stemma_domain::resource::{Access, AccessError, Visibility};
use stemma_domain::value::PrincipalName;
use utoipa::ToSchema;

use crate::json::{Fields, checked};

/// Who may read and write a resource, beside its owner and admins.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AccessBody {
    /// `tenant`, `shared` or `private`.
    #[schema(example = "shared")]
    pub(crate) visibility: String,
    /// Who reads it, where it is shared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) readers: Vec<String>,
    /// Who reads and writes it, where it is shared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) writers: Vec<String>,
}

impl From<&Access> for AccessBody {
    fn from(access: &Access) -> Self {
        let names = |names: &[PrincipalName]| names.iter().map(ToString::to_string).collect();
        Self {
            visibility: access.visibility().name().to_owned(),
            readers: names(access.readers()),
            writers: names(access.writers()),
        }
    }
}

/// Takes `access`, open to the tenant without it. Null is refused: who sends it may mean that
/// nobody is granted anything, and would have opened the resource to all.
pub(crate) fn access(fields: &mut Fields) -> Access {
    if fields.is_null("access") {
        let why = "null is no grant: leave the field out for what is open to the tenant";
        fields.raw("access");
        fields.problem("access", "INVALID_VALUE", why);
    }
    let Some(mut nested) = fields.nested("access") else {
        return Access::default();
    };
    let access = grants(&mut nested);
    fields.take_problems(nested);
    access.unwrap_or_default()
}

/// Takes the fields of grants; none where something is noted as wrong.
pub(crate) fn grants(fields: &mut Fields) -> Option<Access> {
    let visibility = fields.required("visibility", checked(str::parse::<Visibility>));
    let (readers, writers) = (names(fields, "readers"), names(fields, "writers"));
    let visibility = visibility?;
    let is_named = |names: &[PrincipalName]| !names.is_empty();
    let at = if is_named(&readers) {
        "readers"
    } else {
        "writers"
    };
    match Access::new(visibility, readers, writers) {
        Ok(access) => Some(access),
        Err(error) => {
            let code = match error {
                AccessError::TooMany => "TOO_LARGE",
                _ => "INVALID_VALUE",
            };
            fields.problem(at, code, error.to_string());
            None
        }
    }
}

/// Takes a list of principals; each that is none is noted at its own place.
fn names(fields: &mut Fields, field: &str) -> Vec<PrincipalName> {
    let listed = fields.optional(field, |value| match value {
        Value::Array(names) => Ok(names),
        _ => Err("expected an array of texts"),
    });
    let mut names = Vec::new();
    for (index, name) in listed.unwrap_or_default().into_iter().enumerate() {
        match checked(PrincipalName::new)(name) {
            Ok(name) => names.push(name),
            Err(why) => fields.problem(&format!("{field}/{index}"), "INVALID_VALUE", why),
        }
    }
    names
}
