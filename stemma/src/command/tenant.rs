//! `stemma tenant`: tenants made, listed and deleted, in the data or through a server.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use stemma_access::Registry;
use stemma_api::TenantError;
use stemma_domain::value::TenantName;

use super::{answer, backup, token};
use crate::api_client::Server;
use crate::cli::{Common, TenantCommand, TenantNamed};
use crate::config::{Settings, data_dir};
use crate::exit::{Exit, Usage};
use crate::tenant_files;
use crate::wiring::{Places, must_be_whole};

/// Tenants that a server is asked for at a time.
const PAGE_TENANTS: usize = 500;

pub(crate) fn run(
    common: &Common,
    settings: &Settings,
    command: &TenantCommand,
) -> anyhow::Result<Exit> {
    match command {
        TenantCommand::Export(_) | TenantCommand::Import(_) if common.server.is_some() => {
            let why = "a tenant is exported from a directory and imported into one, also beside its server; leave --server out";
            return Err(Usage(why.to_owned()).into());
        }
        TenantCommand::Export(asked) => return backup::export(common, settings, asked),
        TenantCommand::Import(asked) => return backup::import(common, settings, asked),
        _ => {}
    }
    let server = Server::named(common)?;
    let data = data_dir(common, Some(settings));
    if server.is_none() {
        must_be_whole(&data)?;
    }
    let dir = data.join("tenants");
    let (name, what) = match command {
        TenantCommand::List => {
            let names = match &server {
                Some(server) => of_server(server)?,
                None if dir.is_dir() => {
                    let names = tenant_files::names(&dir).context("read the tenants")?;
                    names.iter().map(|name| json!({ "name": name })).collect()
                }
                None => Vec::new(),
            };
            for tenant in names {
                let name = tenant["name"].as_str().unwrap_or_default();
                answer(&if common.json {
                    tenant.to_string()
                } else {
                    name.to_owned()
                })?;
            }
            return Ok(Exit::Done);
        }
        TenantCommand::Create(named) => {
            let name = checked(named)?;
            match &server {
                Some(server) => {
                    let body = json!({ "name": name }).to_string();
                    server.post("/api/admin/tenants", body.as_bytes(), None)?;
                }
                None => tenant_files::create(&dir, &name)?,
            }
            (name, "created")
        }
        TenantCommand::Export(_) | TenantCommand::Import(_) => return Ok(Exit::Done),
        TenantCommand::Delete(named) => {
            let name = checked(named)?;
            let is_gone = match &server {
                Some(server) => server.delete(&format!("/api/admin/tenants/{name}"))?,
                None => {
                    delete(common, settings, &name)?;
                    true
                }
            };
            // Where requests work on it, the server deletes it once they have ended.
            (name, if is_gone { "deleted" } else { "leaving" })
        }
    };
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

fn of_server(server: &Server) -> anyhow::Result<Vec<Value>> {
    let first = format!("/api/admin/tenants?limit={PAGE_TENANTS}");
    let (mut all, mut path) = (Vec::new(), first.clone());
    loop {
        let mut page = server.get(&path)?;
        if let Some(items) = page["items"].as_array_mut() {
            all.append(items);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("{first}&cursor={cursor}"),
            None => return Ok(all),
        }
    }
}

/// Deletes a tenant where no server runs.
fn delete(common: &Common, settings: &Settings, name: &TenantName) -> anyhow::Result<()> {
    let dir = data_dir(common, Some(settings)).join("tenants");
    if !dir.join(name.as_str()).is_dir() {
        bail!("{}", TenantError::NotFound);
    }
    // Fails while a server uses the data: that one is to do it.
    let held = token::open(common, settings)?;
    let registry = &held.registry;
    let tenant = Common {
        tenant: name.as_str().to_owned(),
        ..common.clone()
    };
    delete_unserved(registry, &Places::of(&tenant, settings)?, name)?;
    registry.close();
    Ok(())
}

/// Takes back the tokens of a tenant that no server uses, and deletes it.
pub(super) fn delete_unserved(
    registry: &Registry,
    places: &Places,
    name: &TenantName,
) -> anyhow::Result<()> {
    let _lock = places.lock()?;
    registry.revoke_all(name, token::BY)?;
    let dir = places.tenant.parent().context("find the tenants")?;
    let gone = tenant_files::delete(dir, name)?;
    tenant_files::remove(&gone);
    Ok(())
}
