//! What the write path takes from outside: the time and new identities.

use stemma_domain::time::Timestamp;
use uuid::Uuid;

/// Tells the time that is proposed with a batch; the log never lets it go back.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// Makes identities that nobody has had before.
pub trait Ids: Send + Sync {
    /// A new UUID, version 7 where it is made for real.
    fn new_id(&self) -> Uuid;
}
