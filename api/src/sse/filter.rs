//! Which events a stream or a page is about.

use std::collections::HashMap;

use stemma_commands::{AsOf, Commands, HistoryError, Past};
use stemma_domain::event::{self, Event};
use stemma_domain::id::ResourceId;
use stemma_domain::value::EntityType;
use stemma_event_log::Record;

use crate::query::Query;

/// Resources whose types a stream remembers; beyond that it begins anew.
const REMEMBERED_MAX: usize = 10_000;

/// Conditions that an event must meet.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    types: Vec<TypePattern>,
    entity_types: Vec<EntityType>,
    actor: Option<String>,
    /// The entity types of resources right after the last of their events that was looked at.
    known: HashMap<ResourceId, Vec<EntityType>>,
}

/// A type, or all that begin alike: `resource.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TypePattern {
    Exactly(String),
    Prefix(String),
}

impl Filter {
    /// Takes `type`, `entity_type` and `actor` from a query.
    pub(crate) fn read(query: &mut Query) -> Self {
        let types = query.read_many("type", |text| {
            let is_name = |part: &str| {
                let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
                !part.is_empty() && part.bytes().all(plain)
            };
            match text.split_once('.') {
                Some((kind, "*")) if is_name(kind) => Ok(TypePattern::Prefix(format!("{kind}."))),
                Some((kind, what)) if is_name(kind) && is_name(what) => {
                    Ok(TypePattern::Exactly(text.to_owned()))
                }
                _ => Err("expected an event type such as resource.created, or resource.*"),
            }
        });
        let mut entity_types = query.read_many("entity_type", EntityType::new);
        entity_types.extend(query.read_many("entityType", EntityType::new));
        Self {
            types,
            entity_types,
            actor: query.one("actor"),
            known: HashMap::new(),
        }
    }

    /// Whether every event meets it.
    pub(crate) fn takes_all(&self) -> bool {
        self.types.is_empty() && self.entity_types.is_empty() && self.actor.is_none()
    }

    /// Whether an event meets it. Events must be shown in the order of their positions.
    pub(crate) async fn takes(
        &mut self,
        record: &Record,
        commands: &Commands,
    ) -> Result<bool, HistoryError> {
        let fits_type = self.types.is_empty()
            || self.types.iter().any(|pattern| match pattern {
                TypePattern::Exactly(name) => record.event_type() == name,
                TypePattern::Prefix(prefix) => record.event_type().starts_with(prefix.as_str()),
            });
        let fits_actor = self
            .actor
            .as_ref()
            .is_none_or(|actor| record.actor() == actor);
        // The types are followed even past events that are not wanted.
        let fits_entity = self.entity_types.is_empty() || self.had_type(record, commands).await?;
        Ok(fits_type && fits_actor && fits_entity)
    }

    /// Whether the event's resource had one of the types at the event: right after it, or right
    /// before it where the event took the type away.
    async fn had_type(
        &mut self,
        record: &Record,
        commands: &Commands,
    ) -> Result<bool, HistoryError> {
        let Some(id) = ResourceId::from_stream_name(record.stream()) else {
            return Ok(false);
        };
        let decoded = match record.event_type() {
            "resource.created"
            | "resource.cloned"
            | "entity_type.added"
            | "entity_type.removed" => {
                event::decode(record.event_type(), record.schema_version(), record.data()).ok()
            }
            _ => None,
        };
        if let Some(Event::ResourceCreated(created) | Event::ResourceCloned(created)) = &decoded {
            self.remember(id, created.entity_types.clone());
        } else if let Some(types) = self.known.get_mut(&id) {
            match &decoded {
                Some(Event::EntityTypeAdded(added)) => types.push(added.entity_type.clone()),
                Some(Event::EntityTypeRemoved(removed)) => {
                    types.retain(|t| *t != removed.entity_type);
                }
                _ => {}
            }
        } else {
            let at = AsOf::Position(record.position().get());
            let types = match commands.descriptor_at(id, at).await? {
                Past::Found(descriptor) => descriptor.entity_types,
                Past::Absent | Past::NotYet => Vec::new(),
            };
            self.remember(id, types);
        }
        let removed = match &decoded {
            Some(Event::EntityTypeRemoved(removed)) => Some(&removed.entity_type),
            _ => None,
        };
        let types = self.known.get(&id).map_or(&[][..], Vec::as_slice);
        Ok(types
            .iter()
            .chain(removed)
            .any(|t| self.entity_types.contains(t)))
    }

    fn remember(&mut self, id: ResourceId, types: Vec<EntityType>) {
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(id, types);
    }
}
