//! `stemma tenant`: tenants made, listed and deleted, in the data or through a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;
use stemma_access::Registry;
use stemma_api::TenantError;
use stemma_domain::value::TenantName;
use stemma_projections::Neo4jServer;

use super::{answer, backup, token};
use crate::api_client::Server;
use crate::cli::{Common, TenantCommand, TenantNamed};
use crate::config::{Settings, data_dir};
use crate::exit::{Exit, Usage};
use crate::wiring::{Places, must_be_whole, neo4j};
use crate::{gone, interrupt, tenant_files};

pub(crate) fn run(
    common: &Common,
    settings: &Settings,
    command: &TenantCommand,
) -> anyhow::Result<Exit> {
    if let TenantCommand::Export(_) | TenantCommand::Import(_) = command
        && common.server.is_some()
    {
        let why = "a tenant is exported from a directory and imported into one, also beside its server; leave --server out";
        return Err(Usage(why.to_owned()).into());
    }
    match command {
        TenantCommand::Export(asked) => backup::export(common, settings, asked),
        TenantCommand::Import(asked) => backup::import(common, settings, asked),
        TenantCommand::List => list(common, &Through::of(common, settings)?),
        TenantCommand::Create(named) => {
            let name = checked(named)?;
            match Through::of(common, settings)? {
                Through::Server(server) => {
                    let body = json!({ "name": name }).to_string();
                    server.post("/api/admin/tenants", body.as_bytes(), None)?;
                }
                Through::Data(dir) => tenant_files::create(&dir, &name)?,
            }
            told(common, &name, "created")
        }
        TenantCommand::Delete(named) => {
            let name = checked(named)?;
            let is_gone = match Through::of(common, settings)? {
                Through::Server(server) => server.delete(&format!("/api/admin/tenants/{name}"))?,
                Through::Data(dir) => {
                    delete(common, settings, &dir, &name)?;
                    true
                }
            };
            // Where requests work on it, the server deletes it once they have ended.
            told(common, &name, if is_gone { "deleted" } else { "leaving" })
        }
    }
}

/// What a command works through: a server, or the directory of all tenants.
enum Through {
    Server(Server),
    Data(PathBuf),
}

impl Through {
    fn of(common: &Common, settings: &Settings) -> anyhow::Result<Self> {
        if let Some(server) = Server::named(common)? {
            return Ok(Self::Server(server));
        }
        let data = data_dir(common, Some(settings));
        must_be_whole(&data)?;
        Ok(Self::Data(data.join("tenants")))
    }
}

fn list(common: &Common, through: &Through) -> anyhow::Result<Exit> {
    let tenants = match through {
        Through::Server(server) => server.all("/api/admin/tenants")?,
        Through::Data(dir) if dir.is_dir() => {
            let names = tenant_files::names(dir).context("read the tenants")?;
            names.iter().map(|name| json!({ "name": name })).collect()
        }
        Through::Data(_) => Vec::new(),
    };
    for tenant in tenants {
        if common.json {
            answer(&tenant.to_string())?;
        } else {
            answer(tenant["name"].as_str().unwrap_or_default())?;
        }
    }
    Ok(Exit::Done)
}

fn told(common: &Common, name: &TenantName, what: &str) -> anyhow::Result<Exit> {
    if common.json {
        answer(&json!({ "name": name, what: true }).to_string())?;
    } else {
        answer(&format!("{name}: {what}"))?;
    }
    Ok(Exit::Done)
}

fn checked(named: &TenantNamed) -> anyhow::Result<TenantName> {
    let name = TenantName::new(&named.name);
    Ok(name.map_err(|error| Usage(format!("{:?} is no tenant's name: {error}", named.name)))?)
}

/// Deletes a tenant where no server runs.
fn delete(
    common: &Common,
    settings: &Settings,
    dir: &Path,
    name: &TenantName,
) -> anyhow::Result<()> {
    if !dir.join(name.as_str()).is_dir() {
        bail!("{}", TenantError::NotFound);
    }
    // Before anything is deleted: whoever cannot be told where the graph is can mend that first.
    let server = neo4j(settings)?;
    // Fails while a server uses the data: that one is to do it.
    let held = token::open(common, settings)?;
    let registry = &held.registry;
    let tenant = Common {
        tenant: name.as_str().to_owned(),
        ..common.clone()
    };
    let goes_on = || interrupt::flow().is_continue();
    let places = Places::of(&tenant, settings);
    let deleted = places
        .and_then(|places| delete_unserved(registry, &places, name, server.as_ref(), &goes_on));
    registry.close();
    if !deleted? {
        tracing::warn!(
            "the tenant is gone; what is left of it is removed by the next start of a server"
        );
    }
    Ok(())
}

/// Takes back the tokens of a tenant that no server uses, and deletes it: its files, and its graph
/// while `goes_on` says yes. Says whether nothing is left of any tenant that is gone.
pub(super) fn delete_unserved(
    registry: &Registry,
    places: &Places,
    name: &TenantName,
    server: Option<&Neo4jServer>,
    goes_on: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<bool> {
    let _lock = places.lock()?;
    registry.revoke_all(name, token::BY)?;
    let dir = places.tenant.parent().context("find the tenants")?;
    tenant_files::delete(dir, name)?;
    Ok(gone::remove_all(dir, server, goes_on))
}
