//! The sample corpus: articles on the history of astronomy, loaded through the ordinary write path.
//!
//! Invariant: what is there already is left alone, so loading twice adds nothing.

use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde_json::Value;
use stemma_commands::{Change, Operation, Precondition, Request, Target};
use stemma_content_store::Pin;
use stemma_domain::annotation;
use stemma_domain::event::ResourceCreated;
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::Command;
use stemma_domain::value::{CollectionName, EntityType, LanguageTag, MediaType, ResourceName};

use crate::wiring::Tenant;

const CORPUS: &str = include_str!("../demo/corpus.json");
const ARTICLES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/articles.rs"));
const ACTOR: &str = "demo";
/// How long the views may take to hold the corpus.
const VIEWS_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Corpus {
    entity_types: Vec<Described>,
    resources: Vec<Article>,
    annotations: Vec<Annotated>,
}

#[derive(Deserialize)]
struct Described {
    name: EntityType,
    description: String,
}

#[derive(Deserialize)]
struct Article {
    id: ResourceId,
    slug: String,
    name: ResourceName,
    media_type: MediaType,
    language: Option<LanguageTag>,
    entity_types: Vec<EntityType>,
    collection: Option<CollectionName>,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
    revisions: Vec<String>,
    derived_from: Option<ResourceId>,
}

#[derive(Deserialize)]
struct Annotated {
    resource: String,
    at_revision: usize,
    annotation: Value,
}

/// Loads what is not there yet.
pub(crate) async fn load(tenant: &Tenant) -> anyhow::Result<()> {
    let corpus: Corpus = serde_json::from_str(CORPUS).context("read the corpus")?;
    let views = tenant.projection.views();
    let mut end = 0;
    for described in corpus.entity_types {
        if views.entity_type(&described.name)?.is_none() {
            let change = Change::RegisterEntityType {
                name: described.name,
                description: Some(described.description),
            };
            end = write(tenant, vec![(Target::EntityTypes, change)], vec![]).await?;
        }
    }
    for article in &corpus.resources {
        if views.resource(article.id)?.is_none() {
            end = load_article(tenant, article, &corpus.annotations).await?;
            tracing::info!(article = article.slug, "loaded");
        }
    }
    tenant
        .projection
        .wait_for(end, VIEWS_TIMEOUT)
        .await
        .context("wait for the views")?;
    Ok(())
}

/// An article with its revisions, and the annotations made on each; all of it or nothing.
async fn load_article(
    tenant: &Tenant,
    article: &Article,
    all: &[Annotated],
) -> anyhow::Result<u64> {
    let target = Target::Resource(article.id);
    let (mut changes, mut pins) = (Vec::new(), Vec::new());
    let mut end = 0;
    for (index, file) in article.revisions.iter().enumerate() {
        let found = ARTICLES.iter().find(|(name, _)| name == file);
        let (_, text) = found.ok_or_else(|| anyhow!("the corpus has no {file}"))?;
        let stored = tenant
            .commands
            .content()
            .put(text.as_bytes().to_vec().into())
            .await?;
        let digest = ContentDigest::from_bytes(*stored.digest.as_bytes());
        let byte_size = stored.len;
        pins.push(stored.pin);
        let command = if index == 0 {
            Command::Create(ResourceCreated {
                access: stemma_domain::resource::Access::default(),
                byte_size,
                collection: article.collection.clone(),
                derived_from: article.derived_from,
                digest,
                entity_types: article.entity_types.clone(),
                id: article.id,
                language: article.language.clone(),
                media_type: article.media_type.clone(),
                metadata: article.metadata.clone(),
                name: article.name.clone(),
            })
        } else {
            Command::Revise {
                digest,
                byte_size,
                media_type: None,
            }
        };
        changes.push((target, Change::Resource(Box::new(command))));
        for annotated in all
            .iter()
            .filter(|a| a.resource == article.slug && a.at_revision == index)
        {
            let cx = annotation::Context {
                resource: article.id.uuid(),
            };
            let annotation =
                annotation::validate(annotated.annotation.clone(), &cx).map_err(|errors| {
                    anyhow!("an annotation of {} is not valid: {errors:?}", article.slug)
                })?;
            let annotation_id = AnnotationId::new(tenant.commands.new_id());
            let command = Command::AddAnnotation {
                annotation_id,
                annotation,
            };
            changes.push((target, Change::Resource(Box::new(command))));
        }
        // Annotations are anchored in the content of the revision that they were made on.
        if index + 1 == article.revisions.len() {
            end = write(
                tenant,
                std::mem::take(&mut changes),
                std::mem::take(&mut pins),
            )
            .await?;
        }
    }
    Ok(end)
}

async fn write(
    tenant: &Tenant,
    changes: Vec<(Target, Change)>,
    pins: Vec<Pin>,
) -> anyhow::Result<u64> {
    let operation = |(target, change)| Operation {
        target,
        change,
        precondition: Precondition::None,
        expected_revision: None,
        // Ids of annotations are made above.
        is_id_new: true,
    };
    let request = Request {
        sight: stemma_domain::access::Sight::Everything,
        operations: changes.into_iter().map(operation).collect(),
        actor: ACTOR.to_owned(),
        trace_id: tenant.commands.new_id().simple().to_string(),
        idempotency: None,
        bases: [].into(),
        pins,
    };
    Ok(tenant.commands.execute(request).await?.end)
}

/// Says what to try.
#[allow(clippy::print_stderr)] // what a person at a terminal reads
pub(crate) fn invite(url: &str) {
    let corpus: Result<Corpus, _> = serde_json::from_str(CORPUS);
    let id = |slug: &str| {
        let article = corpus
            .as_ref()
            .ok()?
            .resources
            .iter()
            .find(|article| article.slug == slug)?;
        Some(article.id.to_string())
    };
    let uranus = id("uranus").unwrap_or_default();
    eprintln!(
        "\nThe sample corpus is loaded. The API is described at {url}/docs\n\
         Six things to try in another terminal:\n\n  \
         curl -s '{url}/api/resources?entity_type=Person&limit=3'\n  \
         curl -s '{url}/api/resources/{uranus}/content'\n  \
         curl -s '{url}/api/resources/{uranus}/annotations?limit=5'\n  \
         curl -s '{url}/api/resources/{uranus}?as_of_revision=0'\n  \
         curl -s '{url}/api/graph/nodes/{uranus}/neighbors?depth=2&limit=5'\n  \
         curl -sN '{url}/api/events/stream?after=start&type=resource.*'\n"
    );
}
