//! Importing into the local directory, many files in one batch of the log.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;
use stemma_commands::{Change, Operation, Precondition, Request, Target};
use stemma_content_store::{Digest, Stored};
use stemma_domain::event::ResourceCreated;
use stemma_domain::id::{ContentDigest, ResourceId};
use stemma_domain::resource::Command;
use stemma_domain::value::{CollectionName, MediaType, ResourceName};
use stemma_views::{Archived, ResourceQuery};

use super::{Destination, Found, Known, KnownFiles, Outcome, Plan, media_type};
use crate::config::Settings;
use crate::interrupt;
use crate::wiring::{Places, Tenant};

/// Files of one batch of the log.
const BATCH_FILES: usize = 256;
/// Files up to this many bytes are read in one piece.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a larger one that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Resources read at a time while looking for what is known.
const PAGE: usize = 500;
const ACTOR: &str = "import";
/// How long the views may take to hold what is there.
const VIEWS_TIMEOUT: Duration = Duration::from_hours(1);

/// The local directory.
pub(super) struct Local {
    tenant: Tenant,
    runtime: tokio::runtime::Runtime,
    events: u64,
}

impl Local {
    pub(super) fn open(places: &Places, settings: &Settings) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tenant = Tenant::open(places, settings)?;
        Ok(Self {
            tenant,
            runtime,
            events: 0,
        })
    }

    fn store(&self, file: &Found) -> anyhow::Result<Stored> {
        let content = self.tenant.commands.content();
        if file.bytes <= WHOLE_BYTES_MAX {
            let bytes = std::fs::read(&file.path)?;
            return Ok(self.runtime.block_on(content.put(bytes.into()))?);
        }
        let mut ingest = content.begin()?;
        let mut source = File::open(&file.path)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = source.read(&mut chunk)?;
            if read == 0 {
                return Ok(ingest.finish()?);
            }
            ingest.write(&chunk[..read])?;
        }
    }

    /// Stores a batch's small files together, so that they share their syncs.
    fn store_all(&self, files: &[(&Found, Option<&Known>)]) -> Vec<anyhow::Result<Stored>> {
        let small = files.iter().map(|(file, _)| async {
            if file.bytes > WHOLE_BYTES_MAX {
                return None;
            }
            let bytes = match std::fs::read(&file.path) {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error.into())),
            };
            let put = self.tenant.commands.content().put(bytes.into()).await;
            Some(put.map_err(anyhow::Error::from))
        });
        let stored = self.runtime.block_on(futures_util::future::join_all(small));
        let one = |(stored, (file, _)): (Option<_>, &(&Found, _))| {
            stored.unwrap_or_else(|| self.store(file))
        };
        stored.into_iter().zip(files).map(one).collect()
    }

    /// Writes one batch: the files that are new or changed.
    fn write(
        &mut self,
        plan: &Plan,
        batch: &[(&Found, Option<&Known>)],
        each: Each<'_>,
    ) -> anyhow::Result<()> {
        let stored = self.store_all(batch);
        let (mut operations, mut pins, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for ((file, known), stored) in batch.iter().zip(stored) {
            let planned = stored.and_then(|stored| {
                self.operation(plan, file, *known, &stored)
                    .map(|o| (o, stored))
            });
            match planned {
                Err(error) => outcomes.push((*file, Err(error))),
                Ok((operation, stored)) => {
                    let is_duplicate = !stored.new;
                    outcomes.push((
                        *file,
                        Ok(match known {
                            Some(_) => Outcome::Revised { is_duplicate },
                            None => Outcome::Created { is_duplicate },
                        }),
                    ));
                    operations.push(operation);
                    pins.push(stored.pin);
                }
            }
        }
        if !operations.is_empty() {
            let request = Request {
                sight: stemma_domain::access::Sight::Everything,
                operations,
                actor: ACTOR.to_owned(),
                trace_id: self.tenant.commands.new_id().simple().to_string(),
                idempotency: None,
                bases: [].into(),
                pins,
            };
            let written = self
                .runtime
                .block_on(self.tenant.commands.execute(request))
                .context("write to the log")?;
            let results = written.results.iter();
            self.events += results
                .map(|result| result.events.len() as u64)
                .sum::<u64>();
        }
        outcomes
            .into_iter()
            .for_each(|(file, outcome)| each(file, outcome));
        Ok(())
    }

    fn operation(
        &self,
        plan: &Plan,
        file: &Found,
        known: Option<&Known>,
        stored: &Stored,
    ) -> anyhow::Result<Operation> {
        let digest = ContentDigest::from_bytes(*stored.digest.as_bytes());
        let byte_size = stored.len;
        let (id, command) = if let Some(known) = known {
            (
                known.id.parse()?,
                Command::Revise {
                    digest,
                    byte_size,
                    media_type: None,
                },
            )
        } else {
            let id = ResourceId::new(self.tenant.commands.new_id());
            let mut metadata = serde_json::Map::new();
            for (key, value) in [
                ("source_path", &file.source_path),
                ("source_root", &file.source_root),
            ] {
                metadata.insert(key.to_owned(), Value::String(value.clone()));
            }
            let collection = plan
                .collection
                .as_deref()
                .map(CollectionName::new)
                .transpose();
            let created = ResourceCreated {
                access: stemma_domain::resource::Access::default(),
                byte_size,
                collection: collection.context("--collection")?,
                derived_from: None,
                digest,
                entity_types: Vec::new(),
                id,
                language: None,
                media_type: MediaType::new(&media_type(&file.path)?)?,
                metadata,
                name: ResourceName::new(&file.name).context("its name")?,
            };
            (id, Command::Create(created))
        };
        let change = Change::Resource(Box::new(command));
        let target = Target::Resource(id);
        Ok(Operation {
            target,
            change,
            precondition: Precondition::None,
            expected_revision: None,
            is_id_new: false,
        })
    }
}

type Each<'a> = &'a mut dyn FnMut(&Found, anyhow::Result<Outcome>);

impl Destination for Local {
    fn known(&mut self, collection: Option<&str>) -> anyhow::Result<KnownFiles> {
        let end = self.tenant.commands.reader().end().get();
        let waited = self
            .runtime
            .block_on(self.tenant.projection.wait_for(end, VIEWS_TIMEOUT));
        waited.context("bring the views up to date")?;
        let views = self.tenant.projection.views();
        let collection = collection
            .map(CollectionName::new)
            .transpose()
            .context("--collection")?;
        let (archived, wanted) = (Archived::Any, collection.clone());
        let mut query = ResourceQuery {
            archived,
            collection,
            limit: PAGE,
            ..ResourceQuery::default()
        };
        let mut known = KnownFiles::default();
        loop {
            let page = views.resources(&query)?;
            for descriptor in page
                .items
                .iter()
                .filter(|descriptor| descriptor.collection == wanted)
            {
                let text = |key| descriptor.metadata.get(key).and_then(Value::as_str);
                if let Some(path) = text("source_path") {
                    let made = Known {
                        id: descriptor.id.to_string(),
                        digest: descriptor.digest.to_string(),
                        source_root: text("source_root").map(str::to_owned),
                    };
                    known.add(path, made);
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(known);
            }
        }
    }

    fn bring(&mut self, plan: &Plan, known: &KnownFiles, each: Each<'_>) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(BATCH_FILES);
        for file in &plan.files {
            interrupt::check()?;
            let before = known.find(file);
            if let Some(before) = before {
                match digest_of(file) {
                    Ok(digest) if digest == before.digest => {
                        each(file, Ok(Outcome::Unchanged));
                        continue;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        each(file, Err(error));
                        continue;
                    }
                }
            }
            batch.push((file, before));
            if batch.len() == BATCH_FILES {
                self.write(plan, &batch, each)?;
                batch.clear();
            }
        }
        self.write(plan, &batch, each)
    }

    fn events(&self) -> u64 {
        self.events
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.tenant.close()
    }
}

/// The digest of a file's bytes.
pub(super) fn digest_of(file: &Found) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let copied = std::io::copy(&mut File::open(&file.path)?, &mut hasher)?;
    if copied != file.bytes {
        return Err(anyhow!("it changes while it is read"));
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()).to_string())
}
