//! `stemma token`: tokens given out, listed and taken back, in the data or through a server.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use stemma_access::{AccessError, By, Issuer, NewToken, Registry, Token, TokenId};
use stemma_domain::access::Role;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};
use stemma_event_log::OpenError;

use super::answer;
use crate::api_client::Server;
use crate::cli::{Common, TokenCommand, TokenCreate, TokenRevoke};
use crate::clock::SystemSources;
use crate::config::{Settings, data_dir};
use crate::exit::{Damaged, Exit, Usage};
use crate::lock_file::try_lock;
use crate::wiring::{make_durably, must_be_whole};

/// Who changes tokens from the command line, without a server.
pub(crate) const BY: By<'static> = By {
    issuer: Issuer::Data,
    actor: "stemma",
    trace_id: "",
};

/// The directory of the tokens.
pub(crate) fn place(common: &Common, settings: &Settings) -> std::path::PathBuf {
    data_dir(common, Some(settings)).join("access")
}

/// The tokens of the data, in the hands of the one who may change them.
pub(crate) struct Held {
    pub(crate) registry: Registry,
    /// Keeps everybody else out, also while there is no token yet.
    _lock: File,
}

/// Opens the tokens of the data, as the one who may change them: the server, or a command while
/// there is none.
pub(crate) fn open(common: &Common, settings: &Settings) -> anyhow::Result<Held> {
    let data = data_dir(common, Some(settings));
    must_be_whole(&data)?;
    let lock = lock(&data)?;
    let registry = open_registry(common, settings)?;
    Ok(Held {
        registry,
        _lock: lock,
    })
}

/// Takes the right to serve a data directory or to change its tokens, until the file is dropped.
fn lock(data: &Path) -> anyhow::Result<File> {
    make_durably(data).with_context(|| format!("make {}", data.display()))?;
    match try_lock(&data.join("lock"))? {
        Ok(file) => Ok(file),
        Err(holder) => bail!(
            "{} is in use by process {holder}; stop it, or work through it with --server",
            data.display()
        ),
    }
}

fn open_registry(common: &Common, settings: &Settings) -> anyhow::Result<Registry> {
    let dir = place(common, settings);
    Registry::open(&dir, Arc::new(SystemSources)).map_err(|error| match error {
        AccessError::Open(OpenError::Locked { pid }) => {
            let holder = pid.map_or_else(String::new, |pid| format!(" by process {pid}"));
            anyhow!(
                "{} is in use{holder}; stop it, or work through it with --server",
                dir.display()
            )
        }
        AccessError::Open(error @ OpenError::Damaged { .. }) => {
            let why = format!(
                "{}: {error}; nothing was changed. Bring the directory back from a copy; without it nobody's token is known",
                dir.display()
            );
            Damaged(why).into()
        }
        AccessError::Unfit { .. } => Damaged(format!("{}: {error}", dir.display())).into(),
        error => error.into(),
    })
}

pub(crate) fn run(
    common: &Common,
    settings: &Settings,
    command: &TokenCommand,
) -> anyhow::Result<Exit> {
    let server = Server::named(common)?;
    match (command, &server) {
        (TokenCommand::Create(asked), _) => create(common, settings, server.as_ref(), asked),
        (TokenCommand::List, Some(server)) => list(common, &server.all("/api/admin/tokens")?),
        (TokenCommand::List, None) => {
            let held = open(common, settings)?;
            let tokens = held.registry.tokens();
            held.registry.close();
            list(
                common,
                &tokens.iter().map(|token| told(token)).collect::<Vec<_>>(),
            )
        }
        (TokenCommand::Revoke(asked), _) => revoke(common, settings, server.as_ref(), asked),
    }
}

fn create(
    common: &Common,
    settings: &Settings,
    server: Option<&Server>,
    asked: &TokenCreate,
) -> anyhow::Result<Exit> {
    let new = wanted(common, asked)?;
    let made = match server {
        Some(server) => {
            let body = json!({
                "principal": new.principal, "role": new.role, "tenant": new.tenant,
                "expires_at": new.expires_at,
            });
            let made = server.post("/api/admin/tokens", body.to_string().as_bytes(), None)?;
            made.context("the server told no token")?
        }
        None => {
            let held = open(common, settings)?;
            let (token, secret) = held.registry.issue(new, BY)?;
            held.registry.close();
            warn_if_missing(common, settings, &token);
            let mut made = told(&token);
            made["token"] = secret.expose().into();
            made
        }
    };
    if common.json {
        answer(&made.to_string())?;
    } else {
        answer(made["token"].as_str().unwrap_or_default())?;
        tracing::info!(
            id = made["id"].as_str(),
            "this is the only time that it is told; send it as `Authorization: Bearer`, or keep it in STEMMA_TOKEN"
        );
    }
    Ok(Exit::Done)
}

/// Says so where a token is of a tenant that is not there. It may be meant: a tenant is made by its
/// first start, and a name may be misspelt.
fn warn_if_missing(common: &Common, settings: &Settings, token: &Token) {
    let Some(tenant) = &token.tenant else { return };
    let place = data_dir(common, Some(settings)).join("tenants");
    if !place.join(tenant.as_str()).is_dir() {
        tracing::warn!(
            "there is no tenant {tenant} in {}: the token opens nothing until there is one, which `stemma serve --tenant {tenant}` or `stemma tenant create {tenant}` makes",
            place.display()
        );
    }
}

/// What is to be given out.
fn wanted(common: &Common, asked: &TokenCreate) -> anyhow::Result<NewToken> {
    let wrong = |option: &str, text: &str, expected: &str| {
        Usage(format!("{option} is {text:?}, expected {expected}"))
    };
    let principal = PrincipalName::new(&asked.name)
        .map_err(|error| wrong("--name", &asked.name, error.expected))?;
    let tenant = TenantName::new(&common.tenant)
        .map_err(|error| wrong("--tenant", &common.tenant, error.expected))?;
    let names = Role::ALL.map(Role::name).join(", ");
    let role: Role = asked
        .role
        .parse()
        .map_err(|()| wrong("--role", &asked.role, &format!("one of {names}")))?;
    let expires = asked.expires.as_deref().map(|text| {
        let expected =
            "a time such as 2027-01-31T12:00:00Z, or how long from now, such as 12h or 30d";
        expiry(text, SystemSources::now()).ok_or_else(|| wrong("--expires", text, expected))
    });
    Ok(NewToken {
        principal,
        role,
        tenant: role.is_of_a_tenant().then_some(tenant),
        expires_at: expires.transpose()?,
    })
}

/// When a token ends that is to end then, or after so long.
fn expiry(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let is_plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = is_plain.then(|| number.parse())?.ok()?;
    let micros = number.checked_mul(seconds)?.checked_mul(1_000_000)?;
    Some(Timestamp::from_micros(now.micros().checked_add(micros)?))
}

/// A token as the server tells it.
fn told(token: &Token) -> Value {
    json!({
        "id": token.id, "principal": token.principal, "role": token.role, "tenant": token.tenant,
        "issued_at": token.issued_at, "issued_by": token.issued_by,
        "expires_at": token.expires_at, "revoked_at": token.revoked_at,
    })
}

fn list(common: &Common, tokens: &[Value]) -> anyhow::Result<Exit> {
    if common.json {
        for token in tokens {
            answer(&token.to_string())?;
        }
        return Ok(Exit::Done);
    }
    let row = |[id, principal, role, tenant, until]: [&str; 5]| {
        let row = format!("{id:<36}  {principal:<24}  {role:<8}  {tenant:<16}  {until}");
        answer(row.trim_end())
    };
    row(["ID", "PRINCIPAL", "ROLE", "TENANT", "UNTIL"])?;
    for token in tokens {
        let text = |name: &str| token[name].as_str().unwrap_or("-");
        let until = match token["revoked_at"].as_str() {
            Some(at) => format!("revoked {at}"),
            None => text("expires_at").to_owned(),
        };
        row([
            text("id"),
            text("principal"),
            text("role"),
            text("tenant"),
            &until,
        ])?;
    }
    Ok(Exit::Done)
}

fn revoke(
    common: &Common,
    settings: &Settings,
    server: Option<&Server>,
    asked: &TokenRevoke,
) -> anyhow::Result<Exit> {
    let id = asked.id.parse::<TokenId>().map_err(|_| {
        let why = format!(
            "{:?} is not the id of a token; `stemma token list` lists those there are",
            asked.id
        );
        Usage(why)
    })?;
    match server {
        Some(server) => _ = server.delete(&format!("/api/admin/tokens/{id}"))?,
        None => {
            let held = open(common, settings)?;
            let revoked = held.registry.revoke(id, BY);
            held.registry.close();
            revoked?;
        }
    }
    if common.json {
        answer(&json!({ "id": id, "revoked": true }).to_string())?;
    } else {
        answer(&format!("{id}: revoked"))?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_at_a_time_or_after_so_long() {
        let now = Timestamp::from_micros(0);
        let at = |text: &str| expiry(text, now).map(Timestamp::micros);
        assert_eq!(at("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(at("90m"), Some(5_400_000_000));
        assert_eq!(at("30d"), Some(2_592_000_000_000));
        for bad in ["", "d", "-1d", "1w", "30", "99999999999999999d", "1\u{e4}"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
