//! Who may read and write one resource, beside what their role lets them do.
//!
//! Invariant: names stand sorted and each once, and only where the resource is shared with names,
//! so that the same grants have one form.

use serde::{Deserialize, Serialize};

use crate::access::Sight;
use crate::resource::Descriptor;
use crate::value::PrincipalName;

/// Most readers that a resource is shared with by name, and most writers.
pub const PRINCIPALS_MAX: usize = 256;

/// To whom a resource is open, whatever names it is shared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// To everybody of the tenant.
    #[default]
    Tenant,
    /// To its owner, and to those who are named.
    Shared,
    /// To its owner.
    Private,
}

/// The grants of a resource. Its owner, who is who made it, and those who see everything are
/// always among those who may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Who reads it, where it is shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    readers: Vec<PrincipalName>,
    /// To whom it is open.
    visibility: Visibility,
    /// Who reads and writes it, where it is shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    writers: Vec<PrincipalName>,
}

/// Why grants cannot be as they were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// There are names, and they would mean nothing.
    #[error("readers and writers are named of what is `shared`")]
    NamesUnshared,
    /// There are too many names.
    #[error("a resource has at most {PRINCIPALS_MAX} readers and as many writers by name")]
    TooMany,
}

impl Visibility {
    /// Every visibility.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Shared, Self::Private];

    /// The visibility as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Shared => "shared",
            Self::Private => "private",
        }
    }
}

impl std::str::FromStr for Visibility {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|visibility| visibility.name() == text);
        found.ok_or("expected tenant, shared or private")
    }
}

impl Access {
    /// Grants to those who are named.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn new(
        visibility: Visibility,
        readers: Vec<PrincipalName>,
        writers: Vec<PrincipalName>,
    ) -> Result<Self, AccessError> {
        let [readers, writers] = [readers, writers].map(|mut names| {
            names.sort_unstable();
            names.dedup();
            names
        });
        let most = readers.len().max(writers.len());
        if most > 0 && visibility != Visibility::Shared {
            return Err(AccessError::NamesUnshared);
        }
        if most > PRINCIPALS_MAX {
            return Err(AccessError::TooMany);
        }
        Ok(Self {
            readers,
            visibility,
            writers,
        })
    }

    /// Grants to nobody but the owner.
    pub fn private() -> Self {
        Self {
            visibility: Visibility::Private,
            ..Self::default()
        }
    }

    /// To whom it is open.
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// Who reads it by name.
    pub fn readers(&self) -> &[PrincipalName] {
        &self.readers
    }

    /// Who reads and writes it by name.
    pub fn writers(&self) -> &[PrincipalName] {
        &self.writers
    }

    /// Whether it is open to everybody of the tenant: most resources are.
    pub fn is_open(&self) -> bool {
        self.visibility == Visibility::Tenant
    }
}

impl Descriptor {
    /// Whether somebody may know that the resource is there, and read all of it.
    pub fn is_read_by(&self, sight: &Sight) -> bool {
        let by_name = |names: &[PrincipalName]| {
            let Sight::Of(who) = sight else { return true };
            names.contains(who)
        };
        self.access.is_open()
            || self.is_owned_by(sight)
            || by_name(&self.access.readers)
            || by_name(&self.access.writers)
    }

    /// Whether somebody may change it, if their role lets them change anything.
    pub fn is_written_by(&self, sight: &Sight) -> bool {
        let is_named = match sight {
            Sight::Everything | Sight::Work => true,
            Sight::Of(who) => self.access.writers.contains(who),
        };
        self.access.is_open() || self.is_owned_by(sight) || is_named
    }

    /// Whether somebody may say who else may, and is told of it.
    pub fn is_owned_by(&self, sight: &Sight) -> bool {
        match sight {
            Sight::Everything => true,
            Sight::Work => false,
            Sight::Of(who) => self.created_by == who.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PrincipalName {
        PrincipalName::new(text).unwrap()
    }

    fn names(text: &str) -> Vec<PrincipalName> {
        text.split_whitespace().map(name).collect()
    }

    fn described(access: Access) -> Descriptor {
        use crate::event::{Envelope, Event, ResourceCreated};
        use crate::id::{ContentDigest, ResourceId};
        use crate::value::{MediaType, ResourceName};
        let created = ResourceCreated {
            access,
            byte_size: 0,
            collection: None,
            derived_from: None,
            digest: ContentDigest::from_bytes([0; 32]),
            entity_types: vec![],
            id: ResourceId::new(uuid::Uuid::from_u128(1)),
            language: None,
            media_type: MediaType::new("text/plain").unwrap(),
            metadata: serde_json::Map::new(),
            name: ResourceName::new("n").unwrap(),
        };
        let envelope = Envelope {
            position: 0,
            revision: 0,
            recorded_at: crate::time::Timestamp::from_micros(0),
            actor: "olga",
        };
        Descriptor::start(&envelope, &Event::ResourceCreated(created)).unwrap()
    }

    #[test]
    fn who_may_read_write_and_grant_follows_from_owner_visibility_and_names() {
        let shared = Access::new(Visibility::Shared, names("rita"), names("will")).unwrap();
        let private = Access::new(Visibility::Private, vec![], vec![]).unwrap();
        // Of everything, its owner, its reader, its writer, and anybody: reads, writes, owns.
        for (access, expected) in [
            (Access::default(), ["111", "111", "110", "110", "110"]),
            (shared, ["111", "111", "100", "110", "000"]),
            (private, ["111", "111", "000", "000", "000"]),
        ] {
            let described = described(access);
            let of = |who| Sight::Of(name(who));
            let all = [
                Sight::Everything,
                of("olga"),
                of("rita"),
                of("will"),
                of("nina"),
            ];
            let may = all.map(|sight| {
                let rights = [
                    described.is_read_by(&sight),
                    described.is_written_by(&sight),
                    described.is_owned_by(&sight),
                ];
                rights
                    .map(|right| if right { '1' } else { '0' })
                    .iter()
                    .collect::<String>()
            });
            assert_eq!(may, expected, "{:?}", described.access);
            assert!(described.is_read_by(&Sight::Work) && !described.is_owned_by(&Sight::Work));
        }
    }

    #[test]
    fn names_are_sorted_each_once_and_only_where_they_mean_something() {
        let access = Access::new(Visibility::Shared, names("b a b"), names("c c")).unwrap();
        assert_eq!(access.readers(), names("a b"));
        assert_eq!(access.writers(), names("c"));
        for visibility in [Visibility::Tenant, Visibility::Private] {
            let named = Access::new(visibility, names("a"), vec![]);
            assert_eq!(named, Err(AccessError::NamesUnshared));
        }
        let many: Vec<_> = (0..=PRINCIPALS_MAX)
            .map(|n| name(&format!("p{n}")))
            .collect();
        let named = Access::new(Visibility::Shared, many, vec![]);
        assert_eq!(named, Err(AccessError::TooMany));
        for visibility in Visibility::ALL {
            assert_eq!(visibility.name().parse(), Ok(visibility));
        }
    }
}
