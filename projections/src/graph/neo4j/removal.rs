//! Removing what Neo4j holds of a log that is gone.

use super::client::{Client, Neo4jError, Neo4jServer};
use super::generation::{Owner, SHORT, all};

/// Removes all generations of a tenant's log, some of each at a time, while `goes_on` says yes; says
/// whether nothing is left. What was broken off is gone on with by the next call. Nobody may follow
/// that log into Neo4j meanwhile.
///
/// # Errors
/// Why Neo4j did not do it.
pub fn remove_neo4j(
    server: &Neo4jServer,
    tenant: &str,
    log: &str,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<bool, Neo4jError> {
    let client = Client::new(server, 1)?;
    let owner = Owner::named(tenant, log);
    while let Some(generation) = all(&owner, &client, SHORT)?.first() {
        while !generation.remove_some(&client)? {
            if !goes_on() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
