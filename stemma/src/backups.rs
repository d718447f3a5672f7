//! What of a data directory goes into a backup, and who makes backups for a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use serde_json::{Value, json};
use stemma_api::{Backups, JobError, Tell};
use stemma_backup::{
    BackedUp, BackupError, Kind, Options, Reading, Sources, Target, TenantSource, TenantTold,
};
use stemma_domain::value::TenantName;

use crate::cli::Common;
use crate::clock::{SystemSources, now_ns};
use crate::command::token;
use crate::config::{Settings, data_dir};
use crate::targets::{target, targets};
use crate::tenant_files::{self, UNFINISHED};
use crate::wiring::{Places, content_options};

/// How a backup is made now.
pub(crate) fn options(settings: &Settings, reading: Reading) -> Options {
    Options {
        made_at: SystemSources::now().to_string(),
        made_by: format!("stemma {}", env!("CARGO_PKG_VERSION")),
        reading,
        content: content_options(settings),
    }
}

/// All of a data directory.
pub(crate) fn everything(common: &Common, settings: &Settings) -> anyhow::Result<Sources> {
    let dir = data_dir(common, Some(settings)).join("tenants");
    let names = tenant_files::names(&dir).with_context(|| format!("read {}", dir.display()))?;
    let tenants = names.iter().map(|name| one(common, settings, name));
    Ok(Sources {
        of: Kind::Server,
        access: Some(token::place(common, settings)),
        tenants: tenants.collect::<anyhow::Result<_>>()?,
    })
}

/// One tenant.
pub(crate) fn tenant(
    common: &Common,
    settings: &Settings,
    name: &TenantName,
) -> anyhow::Result<Sources> {
    Ok(Sources {
        of: Kind::Tenant,
        access: None,
        tenants: vec![one(common, settings, name)?],
    })
}

fn one(common: &Common, settings: &Settings, name: &TenantName) -> anyhow::Result<TenantSource> {
    let of_tenant = Common {
        tenant: name.as_str().to_owned(),
        ..common.clone()
    };
    let places = Places::of(&of_tenant, settings)?;
    // The tenant that a server is started for is opened in any case, and bears no mark.
    let is_first = name.as_str() == common.tenant;
    let unfinished = places.tenant.join(UNFINISHED);
    Ok(TenantSource {
        name: name.clone(),
        is_unfinished: is_first || unfinished.is_file(),
        unfinished,
        signing_key: places.tenant.join(crate::keys::NAME),
        dir: places.tenant,
        log: places.log,
        content: places.content,
    })
}

/// What a backup holds, as JSON.
pub(crate) fn told(made: &BackedUp) -> Value {
    json!({
        "tenants": made.tenants.iter().map(tenant_told).collect::<Vec<_>>(),
        "copied_bytes": made.copied_bytes,
        "copied_files": made.copied_files,
        "bytes": made.bytes,
    })
}

/// What a backup holds of a tenant, as JSON.
pub(crate) fn tenant_told(tenant: &TenantTold) -> Value {
    json!({
        "name": tenant.name,
        "events": tenant.events,
        "position": tenant.events.checked_sub(1),
        "head": tenant.head,
        "root": tenant.root,
    })
}

/// Makes backups for a server, into the targets that its configuration names.
pub(crate) struct ServerBackups {
    common: Common,
    settings: Settings,
    targets: BTreeMap<String, Box<dyn Target>>,
    n_whole: AtomicU64,
    n_failed: AtomicU64,
    last_s: AtomicU64,
}

/// What came of backups that a server was asked for.
pub(crate) struct Made {
    pub(crate) n_targets: u64,
    pub(crate) n_whole: u64,
    pub(crate) n_failed: u64,
    /// When the last one was made, in seconds since 1970; 0 before.
    pub(crate) last_s: u64,
}

impl ServerBackups {
    /// For the server of these settings.
    pub(crate) fn of(common: &Common, settings: &Settings) -> anyhow::Result<Arc<Self>> {
        let named = targets(settings.text("backup.targets").unwrap_or_default())?;
        let opened =
            |(name, place): (String, String)| Ok((name, target(&place, common, settings)?));
        let targets = named.into_iter().map(opened);
        let targets = targets.collect::<anyhow::Result<_>>()?;
        Ok(Arc::new(Self {
            common: common.clone(),
            settings: settings.clone(),
            targets,
            n_whole: AtomicU64::new(0),
            n_failed: AtomicU64::new(0),
            last_s: AtomicU64::new(0),
        }))
    }

    /// What came of them.
    pub(crate) fn made(&self) -> Made {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Made {
            n_targets: self.targets.len() as u64,
            n_whole: of(&self.n_whole),
            n_failed: of(&self.n_failed),
            last_s: of(&self.last_s),
        }
    }
}

impl Backups for ServerBackups {
    fn targets(&self) -> Vec<String> {
        self.targets.keys().cloned().collect()
    }

    fn back_up(
        &self,
        name: &str,
        reads_all: bool,
        tell: Tell<'_>,
    ) -> Result<Option<Value>, JobError> {
        let failed = |message: String, transient: bool| JobError {
            code: "BACKUP_FAILED".to_owned(),
            message,
            stage: Some("backup".to_owned()),
            transient,
        };
        let target = self.targets.get(name);
        let target = target.ok_or_else(|| failed(format!("there is no target {name}"), false))?;
        let sources = everything(&self.common, &self.settings);
        let sources = sources.map_err(|error| failed(format!("{error:#}"), true))?;
        let reading = if reads_all {
            Reading::All
        } else {
            Reading::New
        };
        let options = options(&self.settings, reading);
        match stemma_backup::back_up(&sources, target.as_ref(), &options, tell) {
            Ok(made) => {
                self.n_whole.fetch_add(1, Ordering::Relaxed);
                let now = now_ns() / 1_000_000_000;
                self.last_s.store(now, Ordering::Relaxed);
                Ok(Some(told(&made)))
            }
            Err(BackupError::Stopped) => Ok(None),
            Err(error) => {
                self.n_failed.fetch_add(1, Ordering::Relaxed);
                let is_damage = error.is_damage();
                let is_occupied = matches!(error, BackupError::Occupied { .. });
                tracing::error!(target = name, "no backup was made: {error}");
                Err(failed(
                    format!("{:#}", anyhow::Error::new(error)),
                    !(is_damage || is_occupied),
                ))
            }
        }
    }
}
