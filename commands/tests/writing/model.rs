//! Random requests, held against a resource as plain data.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What may be asked of the resource in a random run.
#[derive(Debug, Clone)]
enum Step {
    Rename(u8),
    AddType(u8),
    RemoveType(u8),
    Archive(bool),
    Metadata(u8, Option<u8>),
    Annotate(u8),
    RemoveAnnotation(u8),
    Revise(u8),
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        (0..4_u8).prop_map(Step::Rename),
        (0..3_u8).prop_map(Step::AddType),
        (0..3_u8).prop_map(Step::RemoveType),
        any::<bool>().prop_map(Step::Archive),
        (0..3_u8, proptest::option::of(0..3_u8))
            .prop_map(|(key, value)| Step::Metadata(key, value)),
        (0..4_u8).prop_map(Step::Annotate),
        (0..4_u8).prop_map(Step::RemoveAnnotation),
        (0..3_u8).prop_map(Step::Revise),
    ];
    proptest::collection::vec(proptest::collection::vec(step, 1..4), 1..25)
}

/// The resource as plain data, and how many events it has had.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Model {
    pub(crate) name: String,
    types: BTreeSet<String>,
    archived: bool,
    metadata: BTreeMap<String, u8>,
    annotations: BTreeSet<u128>,
    text: String,
    events: u64,
}

impl Model {
    /// Does a step; false when it is refused.
    fn step(&mut self, step: &Step) -> bool {
        let before = self.clone();
        match step {
            Step::Rename(n) => self.name = format!("name {n}"),
            Step::AddType(n) => _ = self.types.insert(format!("T{n}")),
            Step::RemoveType(n) => _ = self.types.remove(&format!("T{n}")),
            Step::Archive(archived) => self.archived = *archived,
            Step::Metadata(key, Some(value)) => _ = self.metadata.insert(format!("k{key}"), *value),
            Step::Metadata(key, None) => _ = self.metadata.remove(&format!("k{key}")),
            Step::Annotate(n) if !self.annotations.insert(u128::from(*n)) => return false,
            Step::RemoveAnnotation(n) if !self.annotations.remove(&u128::from(*n)) => return false,
            Step::Annotate(_) | Step::RemoveAnnotation(_) => {}
            Step::Revise(n) => self.text = format!("text {n}"),
        }
        // What changes nothing is no event.
        self.events += u64::from(*self != before);
        true
    }
}

async fn command(commands: &Commands, step: &Step) -> Command {
    let patch = |patch| Command::Patch(patch);
    match step {
        Step::Rename(n) => rename(&format!("name {n}")),
        Step::AddType(n) => Command::AddEntityType(EntityType::new(&format!("T{n}")).unwrap()),
        Step::RemoveType(n) => {
            Command::RemoveEntityType(EntityType::new(&format!("T{n}")).unwrap())
        }
        Step::Archive(archived) => patch(ResourcePatch {
            archived: Some(*archived),
            ..ResourcePatch::default()
        }),
        Step::Metadata(key, value) => patch(ResourcePatch {
            metadata: Some(json!({ format!("k{key}"): value })),
            ..ResourcePatch::default()
        }),
        Step::Annotate(n) => annotate(u128::from(*n), "x"),
        Step::RemoveAnnotation(n) => Command::RemoveAnnotation {
            annotation_id: AnnotationId::new(Uuid::from_u128(u128::from(*n))),
        },
        Step::Revise(n) => {
            let text = format!("text {n}");
            let stored = commands.content().put(text.into()).await.unwrap();
            Command::Revise {
                digest: ContentDigest::from_bytes(*stored.digest.as_bytes()),
                byte_size: stored.len,
                media_type: None,
            }
        }
    }
}

fn text_of(commands: &Commands, digest: ContentDigest) -> String {
    let digest = stemma_content_store::Digest::from_bytes(*digest.as_bytes());
    let bytes = commands
        .content()
        .read_all(&digest, 1 << 20)
        .unwrap()
        .unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The resource as the log has it at a revision, in the model's terms.
pub(crate) fn stored(commands: &Commands, revision: u64) -> Model {
    let past = commands.resource_at(ID, AsOf::Revision(revision)).unwrap();
    let PastState::Found(resource) = past else {
        panic!("revision {revision} is not there")
    };
    let described = &resource.descriptor;
    let number = |value: &serde_json::Value| u8::try_from(value.as_u64().unwrap()).unwrap();
    let metadata = described
        .metadata
        .iter()
        .map(|(key, value)| (key.clone(), number(value)));
    assert_eq!(
        described.annotation_count,
        resource.annotations.len() as u64
    );
    Model {
        name: described.name.as_str().to_owned(),
        types: described
            .entity_types
            .iter()
            .map(|t| t.as_str().to_owned())
            .collect(),
        archived: described.archived,
        metadata: metadata.collect(),
        annotations: resource
            .annotations
            .keys()
            .map(|id| id.uuid().as_u128())
            .collect(),
        text: text_of(commands, described.digest),
        events: described.revision + 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Each request is done whole or refused whole, every revision of the past can be read, and all
    /// of it is there again after a restart.
    #[test]
    fn random_requests_do_to_the_resource_what_they_do_to_the_model(
        others in prop_oneof![Just(0_u8), Just(80)],
        requests in steps(),
    ) {
        let log = MemoryStorage::new();
        let first = commands(&log);
        block_on(async {
            let made = create(&first, "text 0").await;
            first.execute(request(vec![made])).await.unwrap();
            let mut model = Model { name: "first".into(), text: "text 0".into(), events: 1, ..Model::default() };
            let mut past = BTreeMap::from([(0, model.clone())]);
            // So many that their places are not kept until somebody asks.
            let mut many = request((1000..1000 + u128::from(others)).map(|id| annotate(id, "x")).collect());
            many.operations.iter_mut().for_each(|operation| operation.is_id_new = true);
            if others > 0 {
                first.execute(many).await.unwrap();
                model.annotations.extend(1000..1000 + u128::from(others));
                model.events += u64::from(others);
                past.insert(model.events - 1, model.clone());
            }
            for steps in &requests {
                let mut changes = Vec::new();
                for step in steps {
                    changes.push(command(&first, step).await);
                }
                let mut next = model.clone();
                let is_taken = steps.iter().all(|step| next.step(step));
                let written = first.execute(request(changes)).await;
                assert_eq!(written.is_ok(), is_taken, "{steps:?}: {written:?}");
                if is_taken {
                    model = next;
                    past.insert(model.events - 1, model.clone());
                }
            }
            for (revision, model) in &past {
                assert_eq!(&stored(&first, *revision), model);
            }
            first.appender().close().unwrap();
            let again = Log::open(Arc::new(log), LogOptions::default()).unwrap();
            assert_eq!(again.reader.end().get(), model.events);
        });
    }
}
