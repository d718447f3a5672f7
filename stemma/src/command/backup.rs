//! `stemma backup`, `stemma restore`, `stemma tenant export` and `stemma tenant import`.

use anyhow::bail;
use serde_json::json;
use stemma_backup::{Reading, Restored, Sources, TenantTold, back_up, restore_all, restore_tenant};
use stemma_domain::value::TenantName;

use super::answer;
use crate::backups::{everything, options, tenant, tenant_told, told};
use crate::cli::{Backup, Common, Restore, TenantExport, TenantImport};
use crate::config::{Settings, data_dir};
use crate::exit::{Exit, Usage};
use crate::interrupt;
use crate::progress::Progress;
use crate::targets::target;
use crate::wiring::{content_options, must_be_whole};

/// Copies all of the data.
pub(crate) fn run(common: &Common, settings: &Settings, asked: &Backup) -> anyhow::Result<Exit> {
    let dir = data_dir(common, Some(settings));
    must_be_whole(&dir)?;
    if !dir.join("tenants").is_dir() {
        bail!("there is no data in {}", dir.display());
    }
    let sources = everything(common, settings)?;
    make(
        common,
        settings,
        &sources,
        &asked.target,
        reading(asked.quick),
    )
}

/// Copies one tenant.
pub(crate) fn export(
    common: &Common,
    settings: &Settings,
    asked: &TenantExport,
) -> anyhow::Result<Exit> {
    let name = checked(&asked.name)?;
    let sources = tenant(common, settings, &name)?;
    if !sources.tenants[0].dir.is_dir() {
        bail!("there is no tenant {name}");
    }
    make(
        common,
        settings,
        &sources,
        &asked.target,
        reading(asked.quick),
    )
}

fn checked(name: &str) -> anyhow::Result<TenantName> {
    let checked = TenantName::new(name);
    Ok(checked.map_err(|error| Usage(format!("{name:?} is no tenant's name: {error}")))?)
}

fn reading(is_quick: bool) -> Reading {
    if is_quick { Reading::New } else { Reading::All }
}

fn make(
    common: &Common,
    settings: &Settings,
    sources: &Sources,
    text: &str,
    reading: Reading,
) -> anyhow::Result<Exit> {
    let target = target(text, common, settings)?;
    let mut progress = Progress::new("backing up", 0);
    let made = back_up(
        sources,
        target.as_ref(),
        &options(settings, reading),
        &mut |done, total, _| {
            progress.set(done, total);
            interrupt::flow()
        },
    );
    progress.finish();
    let made = made?;
    if common.json {
        answer(&told(&made).to_string())?;
        return Ok(Exit::Done);
    }
    tell(&made.tenants)?;
    answer(&format!(
        "copied {} bytes in {} files; the backup in {text} has {} bytes",
        made.copied_bytes, made.copied_files, made.bytes
    ))?;
    Ok(Exit::Done)
}

fn tell(tenants: &[TenantTold]) -> anyhow::Result<()> {
    for tenant in tenants {
        let root = tenant.root.as_deref().unwrap_or("none");
        answer(&format!(
            "{}: {} events, root {root}",
            tenant.name, tenant.events
        ))?;
    }
    Ok(())
}

/// Brings all data back.
pub(crate) fn restore(
    common: &Common,
    settings: &Settings,
    asked: &Restore,
) -> anyhow::Result<Exit> {
    let source = target(&asked.source, common, settings)?;
    let dir = data_dir(common, Some(settings));
    let content = content_options(settings);
    let mut progress = Progress::new("restoring", 0);
    let restored = restore_all(source.as_ref(), &dir, &content, &mut |done, total, _| {
        progress.set(done, total);
        interrupt::flow()
    });
    progress.finish();
    restored_to(common, &dir.display().to_string(), &restored?)
}

/// Brings a tenant in.
pub(crate) fn import(
    common: &Common,
    settings: &Settings,
    asked: &TenantImport,
) -> anyhow::Result<Exit> {
    let source = target(&asked.source, common, settings)?;
    let from = asked.from.as_deref().map(checked).transpose()?;
    let name = asked.name.as_deref().map(checked).transpose()?;
    let dir = data_dir(common, Some(settings));
    must_be_whole(&dir)?;
    let tenants = dir.join("tenants");
    let content = content_options(settings);
    let mut progress = Progress::new("importing", 0);
    let mut advance = |done, total, _: &str| {
        progress.set(done, total);
        interrupt::flow()
    };
    let restored = restore_tenant(
        source.as_ref(),
        &tenants,
        from.as_ref(),
        name.as_ref(),
        &content,
        &mut advance,
    );
    progress.finish();
    restored_to(common, &dir.display().to_string(), &restored?)
}

fn restored_to(common: &Common, place: &str, restored: &Restored) -> anyhow::Result<Exit> {
    if common.json {
        let told = json!({
            "tenants": restored.tenants.iter().map(tenant_told).collect::<Vec<_>>(),
            "made_at": restored.made_at,
            "bytes": restored.bytes,
        });
        answer(&told.to_string())?;
        return Ok(Exit::Done);
    }
    tell(&restored.tenants)?;
    answer(&format!(
        "restored {} bytes of the backup of {} into {place}",
        restored.bytes, restored.made_at
    ))?;
    Ok(Exit::Done)
}
