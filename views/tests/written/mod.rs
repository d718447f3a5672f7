//! Random histories of a few resources, and what they come to when they are folded the plain way.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;
use stemma_domain::access::Sight;
use stemma_domain::event::{
    AnnotationBodyChanged, EntityTypeRegistered, Envelope, Event, Metadata, Reference, Relation,
    ResourceCreated,
};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{
    Access, Command, Descriptor, IriNames, Resource, ResourcePatch, Visibility, decide,
};
use stemma_domain::time::Timestamp;
use stemma_domain::value::{CollectionName, EntityType, MediaType, PrincipalName, ResourceName};
use stemma_event_log::Record;
use stemma_views::{
    Archived, Cursor, Engine, EntityTypeRow, Page, ReferenceRelation, ReferencedBy, ResourceQuery,
    Sort, Views, ViewsStats,
};
use uuid::Uuid;

use crate::recorded::{ACTOR, Recorded};
pub(crate) const RESOURCES: u8 = 6;
const ACCESSES: u8 = 8;
pub(crate) const NAMES: [&str; 5] = ["Kepler", "kepler", "Ulugh Beg", "Äther", "äther II"];
pub(crate) const TYPES: [&str; 4] = ["Person", "Place", "Instrument", "Person of note"];
pub(crate) const COLLECTIONS: [&str; 2] = ["articles", "articles/old"];

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Create {
        who: u8,
        name: u8,
        types: Vec<u8>,
        collection: Option<u8>,
        from: Option<u8>,
        access: u8,
    },
    Grant {
        who: u8,
        access: u8,
    },
    Rename {
        who: u8,
        name: u8,
    },
    Archive {
        who: u8,
        archived: bool,
    },
    Collect {
        who: u8,
        collection: Option<u8>,
    },
    Describe {
        who: u8,
        value: u8,
    },
    Revise {
        who: u8,
        content: u8,
    },
    Tag {
        who: u8,
        entity_type: u8,
    },
    Untag {
        who: u8,
        entity_type: u8,
    },
    Annotate {
        who: u8,
        annotation: u8,
        names: u8,
    },
    ChangeBody {
        who: u8,
        annotation: u8,
        names: u8,
    },
    RemoveAnnotation {
        who: u8,
        annotation: u8,
    },
    Register {
        entity_type: u8,
        is_described: bool,
    },
    Tick,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let who = || 0..RESOURCES;
    let tag = || 0..4_u8;
    let annotation = || 0..4_u8;
    let types = proptest::collection::vec(tag(), 0..3);
    let collection = || proptest::option::of(0..2_u8);
    let access = || 0..ACCESSES;
    prop_oneof![
        4 => (who(), 0..5_u8, types, collection(), proptest::option::of(who()), access()).prop_map(
            |(who, name, types, collection, from, access)| {
                Step::Create { who, name, types, collection, from, access }
            }
        ),
        2 => (who(), access()).prop_map(|(who, access)| Step::Grant { who, access }),
        1 => (who(), 0..5_u8).prop_map(|(who, name)| Step::Rename { who, name }),
        2 => (who(), any::<bool>()).prop_map(|(who, archived)| Step::Archive { who, archived }),
        1 => (who(), collection()).prop_map(|(who, collection)| Step::Collect { who, collection }),
        1 => (who(), any::<u8>()).prop_map(|(who, value)| Step::Describe { who, value }),
        1 => (who(), 0..4_u8).prop_map(|(who, content)| Step::Revise { who, content }),
        2 => (who(), tag()).prop_map(|(who, entity_type)| Step::Tag { who, entity_type }),
        2 => (who(), tag()).prop_map(|(who, entity_type)| Step::Untag { who, entity_type }),
        3 => (who(), annotation(), who())
            .prop_map(|(who, annotation, names)| Step::Annotate { who, annotation, names }),
        2 => (who(), annotation(), who())
            .prop_map(|(who, annotation, names)| Step::ChangeBody { who, annotation, names }),
        2 => (who(), annotation())
            .prop_map(|(who, annotation)| Step::RemoveAnnotation { who, annotation }),
        1 => (tag(), any::<bool>()).prop_map(
            |(entity_type, is_described)| Step::Register { entity_type, is_described }
        ),
        2 => Just(Step::Tick),
    ]
}

pub(crate) fn resource_id(who: u8) -> ResourceId {
    ResourceId::new(Uuid::from_u128(u128::from(who) + 1))
}

pub(crate) fn annotation_id(who: u8, annotation: u8) -> AnnotationId {
    AnnotationId::new(Uuid::from_u128(
        1000 + 10 * u128::from(who) + u128::from(annotation),
    ))
}

pub(crate) fn entity_type(number: u8) -> EntityType {
    EntityType::new(TYPES[usize::from(number)]).unwrap()
}

pub(crate) fn collection_name(number: u8) -> CollectionName {
    CollectionName::new(COLLECTIONS[usize::from(number)]).unwrap()
}

pub(crate) fn name(number: u8) -> ResourceName {
    ResourceName::new(NAMES[usize::from(number)]).unwrap()
}

pub(crate) fn content(number: u8) -> ContentDigest {
    ContentDigest::from_bytes([number; 32])
}

/// Grants, of which most are none.
pub(crate) fn grants(number: u8) -> Access {
    let named = |name| vec![PrincipalName::new(name).unwrap()];
    let (visibility, readers, writers) = match number {
        0 => (Visibility::Private, vec![], vec![]),
        1 => (Visibility::Shared, named("rita"), vec![]),
        2 => (Visibility::Shared, named("nina"), named("rita")),
        3 => (Visibility::Shared, vec![], named("nina")),
        _ => (Visibility::Tenant, vec![], vec![]),
    };
    Access::new(visibility, readers, writers).unwrap()
}

pub(crate) fn iri(who: u8) -> String {
    format!("/api/resources/{}", resource_id(who))
}

/// What the views should say, folded the plain way.
#[derive(Default)]
pub(crate) struct Plain {
    pub(crate) resources: BTreeMap<ResourceId, Resource>,
    pub(crate) registered: BTreeMap<EntityType, Option<String>>,
    pub(crate) contents: BTreeSet<ContentDigest>,
}

impl Plain {
    /// The events that a step leads to, and their stream.
    #[expect(clippy::too_many_lines, reason = "one arm a step")]
    pub(crate) fn events(&self, step: &Step) -> (String, Vec<Event>) {
        let (who, command) = match step.clone() {
            Step::Create {
                who,
                name: called,
                types,
                collection,
                from,
                access,
            } => {
                let created = ResourceCreated {
                    access: grants(access),
                    byte_size: 7,
                    collection: collection.map(collection_name),
                    derived_from: from.map(resource_id),
                    digest: content(who),
                    entity_types: types.into_iter().map(entity_type).collect(),
                    id: resource_id(who),
                    language: None,
                    media_type: MediaType::new("text/plain").unwrap(),
                    metadata: Metadata::new(),
                    name: name(called),
                };
                (who, Command::Create(created))
            }
            Step::Grant { who, access } => (who, Command::ChangeAccess(grants(access))),
            Step::Rename { who, name: called } => {
                (who, patch(|patch| patch.name = Some(name(called))))
            }
            Step::Archive { who, archived } => {
                (who, patch(|patch| patch.archived = Some(archived)))
            }
            Step::Collect { who, collection } => (
                who,
                patch(|patch| patch.collection = Some(collection.map(collection_name))),
            ),
            Step::Describe { who, value } => (
                who,
                patch(|patch| patch.metadata = Some(json!({ "value": { "is": value } }))),
            ),
            Step::Revise {
                who,
                content: number,
            } => {
                let digest = content(number);
                (
                    who,
                    Command::Revise {
                        digest,
                        byte_size: 9,
                        media_type: None,
                    },
                )
            }
            Step::Tag {
                who,
                entity_type: tag,
            } => (who, Command::AddEntityType(entity_type(tag))),
            Step::Untag {
                who,
                entity_type: tag,
            } => (who, Command::RemoveEntityType(entity_type(tag))),
            Step::Annotate {
                who,
                annotation,
                names,
            } => {
                let annotation_id = annotation_id(who, annotation);
                let annotation = json!({ "body": [iri(names), iri(names)], "target": iri(who) });
                (
                    who,
                    Command::AddAnnotation {
                        annotation_id,
                        annotation,
                    },
                )
            }
            Step::RemoveAnnotation { who, annotation } => (
                who,
                Command::RemoveAnnotation {
                    annotation_id: annotation_id(who, annotation),
                },
            ),
            Step::ChangeBody {
                who,
                annotation,
                names,
            } => {
                return (
                    resource_id(who).stream_name(),
                    self.changed_body(who, annotation, names),
                );
            }
            Step::Register {
                entity_type: tag,
                is_described,
            } => {
                let event = Event::EntityTypeRegistered(EntityTypeRegistered {
                    description: is_described.then(|| "what it means".to_owned()),
                    name: entity_type(tag),
                });
                return (stemma_domain::entity_type::STREAM.to_owned(), vec![event]);
            }
            Step::Tick => return (String::new(), vec![]),
        };
        let id = resource_id(who);
        let state = self.resources.get(&id);
        // What is refused writes nothing.
        let events = decide(state, &command, IriNames { bases: &[] }, None).unwrap_or_default();
        (id.stream_name(), events)
    }

    pub(crate) fn changed_body(&self, who: u8, annotation: u8, names: u8) -> Vec<Event> {
        let annotation_id = annotation_id(who, annotation);
        let is_there = self
            .resources
            .get(&resource_id(who))
            .is_some_and(|resource| resource.annotations.contains_key(&annotation_id));
        let reference = |relation, who| Reference {
            relation,
            resource_id: resource_id(who),
        };
        let changed = Event::AnnotationBodyChanged(AnnotationBodyChanged {
            annotation_id,
            body: Some(json!(iri(names))),
            operations: json!([]),
            references: vec![
                reference(Relation::Body, names),
                reference(Relation::Target, who),
            ],
        });
        if is_there { vec![changed] } else { vec![] }
    }

    pub(crate) fn fold(&mut self, event: &Event, envelope: &Envelope<'_>, stream: &str) {
        self.contents.extend(event.content());
        if let Event::EntityTypeRegistered(registered) = event {
            self.registered
                .insert(registered.name.clone(), registered.description.clone());
            return;
        }
        let id = ResourceId::from_stream_name(stream).unwrap();
        match self.resources.get_mut(&id) {
            Some(resource) => resource.evolve(envelope, event).unwrap(),
            None => {
                self.resources
                    .insert(id, Resource::start(envelope, event).unwrap());
            }
        }
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.resources.values().map(|resource| &resource.descriptor)
    }

    pub(crate) fn types(&self) -> Vec<EntityTypeRow> {
        let used = self.descriptors().flat_map(|d| d.entity_types.iter());
        let all: BTreeSet<_> = used.chain(self.registered.keys()).cloned().collect();
        let count = |name: &EntityType| {
            let of_it = |d: &&Descriptor| !d.archived && d.entity_types.contains(name);
            self.descriptors().filter(of_it).count() as u64
        };
        let row = |name: EntityType| EntityTypeRow {
            description: self.registered.get(&name).cloned().flatten(),
            registered: self.registered.contains_key(&name),
            count: count(&name),
            name,
        };
        all.into_iter().map(row).collect()
    }

    /// What there would be if what somebody may not read had never been.
    pub(crate) fn seen_by(&self, sight: &Sight) -> Self {
        let resources = self.resources.iter();
        let seen = resources.filter(|(_, resource)| resource.descriptor.is_read_by(sight));
        Self {
            resources: seen.map(|(id, resource)| (*id, resource.clone())).collect(),
            registered: self.registered.clone(),
            contents: self.contents.clone(),
        }
    }

    pub(crate) fn referenced_by(&self, id: ResourceId, archived: Archived) -> Vec<ReferencedBy> {
        let mut found = Vec::new();
        for resource in self.resources.values() {
            let source = &resource.descriptor;
            let mut namings = BTreeSet::new();
            for annotation in resource.annotations.values().filter(|_| source.id != id) {
                for reference in annotation.references.iter().filter(|r| r.resource_id == id) {
                    let byte = if reference.relation == Relation::Body {
                        b'b'
                    } else {
                        b't'
                    };
                    namings.insert((byte, Some(annotation.id)));
                }
            }
            if source.derived_from == Some(id) {
                namings.insert((b'd', None));
            }
            if takes(archived, source) {
                found.extend(
                    namings
                        .into_iter()
                        .map(|(byte, annotation_id)| ReferencedBy {
                            resource_id: source.id,
                            name: source.name.clone(),
                            annotation_id,
                            relation: match byte {
                                b'b' => ReferenceRelation::Body,
                                b't' => ReferenceRelation::Target,
                                _ => ReferenceRelation::DerivedFrom,
                            },
                        }),
                );
            }
        }
        found
    }

    pub(crate) fn listed(&self, query: &ResourceQuery) -> Vec<Descriptor> {
        let wanted = |d: &&Descriptor| {
            takes(query.archived, d)
                && query
                    .entity_types
                    .iter()
                    .all(|wanted| d.entity_types.contains(wanted))
                && query
                    .collection
                    .as_ref()
                    .is_none_or(|c| d.collection.as_ref() == Some(c))
                && query.created_after.is_none_or(|after| d.created_at > after)
                && query.name_contains.as_ref().is_none_or(|text| {
                    d.name
                        .as_str()
                        .to_lowercase()
                        .contains(&text.to_lowercase())
                })
        };
        let mut found: Vec<_> = self.descriptors().filter(wanted).cloned().collect();
        found.sort_by_key(|d| (d.created_at, d.id));
        match query.sort {
            Sort::CreatedAscending => {}
            Sort::CreatedDescending => found.reverse(),
            Sort::Name => found.sort_by_key(|d| (d.name.as_str().to_lowercase(), d.id)),
        }
        found
    }

    pub(crate) fn stats(&self, views: &Views, engine: Engine) -> ViewsStats {
        let count = |n: usize| n as u64;
        ViewsStats {
            end: views.end(),
            resources: count(self.resources.len()),
            archived: count(self.descriptors().filter(|d| d.archived).count()),
            annotations: self
                .resources
                .values()
                .map(|r| count(r.annotations.len()))
                .sum(),
            entity_types: count(self.types().len()),
            disk_bytes: 0,
            engine,
        }
    }
}

pub(crate) fn patch(change: impl FnOnce(&mut ResourcePatch)) -> Command {
    let mut patch = ResourcePatch::default();
    change(&mut patch);
    Command::Patch(patch)
}

pub(crate) fn takes(archived: Archived, descriptor: &Descriptor) -> bool {
    match archived {
        Archived::No => !descriptor.archived,
        Archived::Yes => descriptor.archived,
        Archived::Any => true,
    }
}

/// Runs the steps: the records, and what they come to.
pub(crate) fn live(steps: &[Step]) -> (Vec<Record>, Plain) {
    let (mut recorded, mut model) = (Recorded::new(), Plain::default());
    for step in steps {
        if matches!(step, Step::Tick) {
            recorded.tick();
        }
        let (stream, events) = model.events(step);
        if events.is_empty() {
            continue;
        }
        let committed = recorded.append(&stream, &events);
        for (index, event) in events.iter().enumerate() {
            let envelope = Envelope {
                position: committed.first.get() + index as u64,
                revision: committed.revisions[index].get(),
                recorded_at: Timestamp::from_micros(committed.recorded_at_us),
                actor: ACTOR,
            };
            model.fold(event, &envelope, &stream);
        }
    }
    (recorded.records(), model)
}

/// All items of a list, page by page.
pub(crate) fn all<T>(mut page: impl FnMut(Option<Cursor>) -> Page<T>) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let found = page(after);
        items.extend(found.items);
        let Some(next) = found.next else { return items };
        // Through its text, as a client sends it.
        after = Some(next.to_string().parse().unwrap());
    }
}
