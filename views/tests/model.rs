//! Random lives of resources: the views say what the plain fold of the events says, on every
//! engine, however the records are cut into batches, and applied again they change nothing.
#![allow(missing_docs, clippy::unwrap_used)]

mod recorded;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use recorded::{ACTOR, Recorded};
use serde_json::json;
use stemma_domain::event::{
    AnnotationBodyChanged, EntityTypeRegistered, Envelope, Event, Metadata, Reference, Relation,
    ResourceCreated,
};
use stemma_domain::id::{AnnotationId, ContentDigest, ResourceId};
use stemma_domain::resource::{
    AnnotationState, Command, Descriptor, IriNames, Resource, ResourcePatch, decide,
};
use stemma_domain::time::Timestamp;
use stemma_domain::value::{CollectionName, EntityType, MediaType, ResourceName};
use stemma_event_log::Record;
use stemma_views::{
    Archived, Cursor, Engine, EntityTypeRow, Options, Page, ReferenceRelation, ReferencedBy,
    ResourceQuery, Sort, StateDigest, Views, ViewsStats,
};
use uuid::Uuid;

const CASES: u32 = 24;
const RESOURCES: u8 = 6;
const NAMES: [&str; 5] = ["Kepler", "kepler", "Ulugh Beg", "Äther", "äther II"];
const TYPES: [&str; 4] = ["Person", "Place", "Instrument", "Person of note"];
const COLLECTIONS: [&str; 2] = ["articles", "articles/old"];

#[derive(Debug, Clone)]
enum Step {
    Create {
        who: u8,
        name: u8,
        types: Vec<u8>,
        collection: Option<u8>,
        from: Option<u8>,
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

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..RESOURCES;
    let tag = || 0..4_u8;
    let annotation = || 0..4_u8;
    let types = proptest::collection::vec(tag(), 0..3);
    let collection = || proptest::option::of(0..2_u8);
    prop_oneof![
        4 => (who(), 0..5_u8, types, collection(), proptest::option::of(who())).prop_map(
            |(who, name, types, collection, from)| Step::Create { who, name, types, collection, from }
        ),
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

fn resource_id(who: u8) -> ResourceId {
    ResourceId::new(Uuid::from_u128(u128::from(who) + 1))
}

fn annotation_id(annotation: u8) -> AnnotationId {
    AnnotationId::new(Uuid::from_u128(1000 + u128::from(annotation)))
}

fn entity_type(number: u8) -> EntityType {
    EntityType::new(TYPES[usize::from(number)]).unwrap()
}

fn collection_name(number: u8) -> CollectionName {
    CollectionName::new(COLLECTIONS[usize::from(number)]).unwrap()
}

fn name(number: u8) -> ResourceName {
    ResourceName::new(NAMES[usize::from(number)]).unwrap()
}

fn content(number: u8) -> ContentDigest {
    ContentDigest::from_bytes([number; 32])
}

fn iri(who: u8) -> String {
    format!("/api/resources/{}", resource_id(who))
}

/// What the views should say, folded the plain way.
#[derive(Default)]
struct Model {
    resources: BTreeMap<ResourceId, Resource>,
    registered: BTreeMap<EntityType, Option<String>>,
    contents: BTreeSet<ContentDigest>,
}

impl Model {
    /// The events that a step leads to, and their stream.
    #[expect(clippy::too_many_lines, reason = "one arm a step")]
    fn events(&self, step: &Step) -> (String, Vec<Event>) {
        let (who, command) = match step.clone() {
            Step::Create {
                who,
                name: called,
                types,
                collection,
                from,
            } => {
                let created = ResourceCreated {
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
                let annotation_id = annotation_id(annotation);
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
                    annotation_id: annotation_id(annotation),
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
        let events = decide(state, command, IriNames { bases: &[] }, None).unwrap_or_default();
        (id.stream_name(), events)
    }

    fn changed_body(&self, who: u8, annotation: u8, names: u8) -> Vec<Event> {
        let annotation_id = annotation_id(annotation);
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

    fn fold(&mut self, event: &Event, envelope: &Envelope<'_>, stream: &str) {
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

    fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.resources.values().map(|resource| &resource.descriptor)
    }

    fn types(&self) -> Vec<EntityTypeRow> {
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

    fn referenced_by(&self, id: ResourceId, archived: Archived) -> Vec<ReferencedBy> {
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

    fn listed(&self, query: &ResourceQuery) -> Vec<Descriptor> {
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

    fn stats(&self, views: &Views, engine: Engine) -> ViewsStats {
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

fn patch(change: impl FnOnce(&mut ResourcePatch)) -> Command {
    let mut patch = ResourcePatch::default();
    change(&mut patch);
    Command::Patch(patch)
}

fn takes(archived: Archived, descriptor: &Descriptor) -> bool {
    match archived {
        Archived::No => !descriptor.archived,
        Archived::Yes => descriptor.archived,
        Archived::Any => true,
    }
}

/// Runs the steps: the records, and what they come to.
fn live(steps: &[Step]) -> (Vec<Record>, Model) {
    let (mut recorded, mut model) = (Recorded::new(), Model::default());
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
fn all<T>(mut page: impl FnMut(Option<Cursor>) -> Page<T>) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let found = page(after);
        items.extend(found.items);
        let Some(next) = found.next else { return items };
        // Through its text, as a client sends it.
        after = Some(next.to_string().parse().unwrap());
    }
}

fn queries(middle: Option<Timestamp>) -> Vec<ResourceQuery> {
    let mut queries = Vec::new();
    for entity_types in [
        vec![],
        vec![entity_type(0)],
        vec![entity_type(1), entity_type(0)],
    ] {
        for collection in [None, Some(collection_name(0))] {
            for archived in [Archived::No, Archived::Yes, Archived::Any] {
                for sort in [Sort::CreatedAscending, Sort::CreatedDescending, Sort::Name] {
                    for name_contains in [None, Some("ÄTHER".to_owned())] {
                        for created_after in [None, middle] {
                            queries.push(ResourceQuery {
                                entity_types: entity_types.clone(),
                                name_contains: name_contains.clone(),
                                narrowed_by: None,
                                archived,
                                collection: collection.clone(),
                                created_after,
                                sort,
                                limit: 2,
                                after: None,
                            });
                        }
                    }
                }
            }
        }
    }
    queries
}

fn check(views: &Views, model: &Model, engine: Engine) {
    for id in (0..RESOURCES).map(resource_id) {
        let resource = model.resources.get(&id);
        let found = views.resource(id).unwrap();
        assert_eq!(found.as_deref(), resource.map(|r| &r.descriptor));
        let mut expected: Vec<AnnotationState> = resource
            .map(|r| {
                r.annotations
                    .values()
                    .map(|state| AnnotationState::clone(state))
                    .collect()
            })
            .unwrap_or_default();
        expected.sort_by_key(|state| state.added_position);
        let listed = all(|after| views.annotations(id, 2, after.as_ref()).unwrap());
        assert_eq!(listed, expected);
        for annotation in (0..4).map(annotation_id) {
            let expected = expected.iter().find(|state| state.id == annotation);
            assert_eq!(views.annotation(id, annotation).unwrap().as_ref(), expected);
        }
        for archived in [Archived::No, Archived::Yes, Archived::Any] {
            let found = all(|after| {
                views
                    .referenced_by(id, archived, 2, after.as_ref())
                    .unwrap()
            });
            assert_eq!(
                found,
                model.referenced_by(id, archived),
                "{id} {archived:?}"
            );
        }
    }
    let middle = model
        .descriptors()
        .map(|d| d.created_at)
        .nth(model.resources.len() / 2);
    for mut query in queries(middle) {
        let found = all(|after| {
            query.after = after;
            views.resources(&query).unwrap()
        });
        let found: Vec<Descriptor> = found.iter().map(|d| Descriptor::clone(d)).collect();
        assert_eq!(found, model.listed(&query), "{query:?}");
    }
    assert_eq!(
        all(|after| views.entity_types(2, after.as_ref()).unwrap()),
        model.types()
    );
    for number in 0..8 {
        let digest = content(number);
        assert_eq!(
            views.names_content(&digest).unwrap(),
            model.contents.contains(&digest)
        );
    }
    let stats = ViewsStats {
        disk_bytes: 0,
        ..views.stats().unwrap()
    };
    assert_eq!(stats, model.stats(views, engine));
}

/// Folds the records in batches of these sizes, over and over, and gives the digest.
fn folded(engine: Engine, records: &[Record], cuts: &[usize], model: &Model) -> StateDigest {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        engine,
        cache_bytes: 8 << 20,
        ..Options::default()
    };
    let views = Views::open(dir.path(), &options).unwrap().views;
    let mut cuts = cuts.iter().cycle();
    let mut left = records;
    while !left.is_empty() {
        let (batch, rest) = left.split_at(left.len().min(*cuts.next().unwrap()));
        views.apply(batch).unwrap();
        left = rest;
    }
    check(&views, model, engine);
    let digest = views.state_digest().unwrap();
    // Once more, and the last again: nothing changes.
    assert_eq!(views.apply(records).unwrap(), records.len() as u64);
    views
        .apply(&records[records.len().saturating_sub(1)..])
        .unwrap();
    assert_eq!(views.state_digest().unwrap(), digest);
    views.flush().unwrap();
    drop(views);
    let again = Views::open(dir.path(), &options).unwrap().views;
    assert_eq!(again.end(), records.len() as u64);
    assert_eq!(
        again.last_applied().unwrap(),
        records.last().map(Record::digest)
    );
    check(&again, model, engine);
    assert_eq!(again.state_digest().unwrap(), digest);
    digest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn the_views_say_what_the_events_say_on_every_engine_and_in_any_batches(
        steps in proptest::collection::vec(step(), 1..60),
        cuts in proptest::collection::vec(1_usize..8, 1..6),
    ) {
        let (records, model) = live(&steps);
        let at_once = folded(Engine::Sled, &records, &[records.len().max(1)], &model);
        let cut = folded(Engine::Sled, &records, &cuts, &model);
        let on_fjall = folded(Engine::Fjall, &records, &cuts, &model);
        prop_assert_eq!(at_once, cut);
        prop_assert_eq!(at_once, on_fjall);
    }
}
