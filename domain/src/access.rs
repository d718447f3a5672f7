//! Who may do what: roles, what a request needs, and who sees everything.
//!
//! Invariant: the policy is here and nowhere else; the routes say what they need, tokens say which
//! role they have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value::PrincipalName;

/// What the holder of a token is to a tenant, or to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads all data of a tenant.
    Reader,
    /// Reads and writes.
    Writer,
    /// Takes jobs on, and reads what is needed for them.
    Worker,
    /// Does everything in a tenant, and gives out its tokens.
    Admin,
    /// Runs the server: tenants, tokens, backups, health. Reads no tenant's data.
    Operator,
}

/// What a request needs the role of its token for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Nothing: it is open to everybody, without a token too.
    Nothing,
    /// A token of whatever role.
    Token,
    /// To read data.
    Read,
    /// To read what workers need of a document as well.
    ReadForWork,
    /// To write data.
    Write,
    /// To take jobs on.
    Work,
    /// To look after a tenant: rebuild, verify, collect.
    Administer,
    /// To see how the server is.
    Observe,
    /// To give out tokens and take them back.
    Grant,
    /// To look after the server: tenants, backups.
    Operate,
}

/// What somebody may see of a tenant: made at the door of who asks, and handed to every read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sight {
    /// All of it.
    Everything,
    /// All that jobs can be about, and not to whom it is granted.
    Work,
    /// What is open to the tenant, and what this principal owns or is named to read.
    Of(PrincipalName),
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Reader,
        Self::Writer,
        Self::Worker,
        Self::Admin,
        Self::Operator,
    ];

    /// The role as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Worker => "worker",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    /// Whether it is a role in a tenant, and not one of the server.
    pub fn is_of_a_tenant(self) -> bool {
        self != Self::Operator
    }

    /// What its holder sees. A worker cannot know beforehand what the next job is about; the routes
    /// that one may ask are few.
    pub fn sight(self, holder: &PrincipalName) -> Sight {
        match self {
            Self::Admin => Sight::Everything,
            Self::Worker => Sight::Work,
            Self::Reader | Self::Writer | Self::Operator => Sight::Of(holder.clone()),
        }
    }

    /// Whether it suffices.
    pub fn may(self, need: Need) -> bool {
        match need {
            Need::Nothing | Need::Token => true,
            Need::Read => matches!(self, Self::Reader | Self::Writer | Self::Admin),
            Need::ReadForWork => self.is_of_a_tenant(),
            Need::Write => matches!(self, Self::Writer | Self::Admin),
            Need::Work => matches!(self, Self::Worker | Self::Admin),
            Need::Administer => self == Self::Admin,
            Need::Observe | Need::Grant => matches!(self, Self::Admin | Self::Operator),
            Need::Operate => self == Self::Operator,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_no_data_and_a_reader_writes_none() {
        let may = |role: Role| {
            [
                Need::Read,
                Need::ReadForWork,
                Need::Write,
                Need::Work,
                Need::Administer,
                Need::Observe,
                Need::Grant,
                Need::Operate,
            ]
            .map(|need| u8::from(role.may(need)))
        };
        assert_eq!(may(Role::Reader), [1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(may(Role::Writer), [1, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(may(Role::Worker), [0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(may(Role::Admin), [1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(may(Role::Operator), [0, 0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn a_role_is_read_as_it_is_written() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err(()));
    }
}
