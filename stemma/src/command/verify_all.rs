//! `stemma verify --all-tenants`: every tenant of the data, one behind another, and the tokens.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use stemma_event_log::{FileStorage, Storage};

use super::verify::{Findings, print, tenant};
use super::{answer, though_unread};
use crate::cli::{Common, Verify};
use crate::config::{Settings, data_dir};
use crate::exit::{Exit, is_interruption};
use crate::interrupt;
use crate::tenant_files::names;
use crate::wiring::{LOCK, Places, log_options};

/// What is known of a tenant whose directory is empty.
const NO_LOG: &str =
    "its directory is empty: nothing was written to it yet, or all that was is gone";

/// Holds all tenants, and the log of tokens, against what they must be.
pub(super) fn run(common: &Common, settings: &Settings, verify: &Verify) -> anyhow::Result<Exit> {
    let data = data_dir(common, Some(settings));
    let dir = data.join("tenants");
    let all = names(&dir).with_context(|| format!("list the tenants in {}", dir.display()))?;
    let mut told = Told {
        json: common.json,
        ..Told::default()
    };
    for name in all {
        let of_tenant = Common {
            tenant: name.to_string(),
            ..common.clone()
        };
        let places = Places::of(&of_tenant, settings)?;
        match one(&places, settings, verify) {
            Ok(None) => told.without_log(name.as_str())?,
            Ok(Some(findings)) => told.found(&findings)?,
            Err(error) if is_interruption(&error) => return Err(error),
            Err(error) => told.failed(name.as_str(), &error)?,
        }
    }
    let tokens = tokens(&data.join("access"), settings)?;
    told.end(tokens.as_ref())
}

/// A tenant; none whose directory is empty.
pub(super) fn one(
    places: &Places,
    settings: &Settings,
    verify: &Verify,
) -> anyhow::Result<Option<Findings>> {
    if is_empty(&places.tenant)? {
        return Ok(None);
    }
    if places.log.is_dir() {
        return tenant(places, settings, verify).map(Some);
    }
    let mut findings = Findings::of(places);
    let detail = "the tenant has files and no log: put back the directory, or restore a backup";
    findings.damaged("log", "missing", ("", 0, None), detail);
    Ok(Some(findings))
}

/// Whether nothing of a tenant is in its directory: the lock is not, nor is what desktops leave.
fn is_empty(dir: &Path) -> anyhow::Result<bool> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries {
        let name = entry
            .with_context(|| dir.display().to_string())?
            .file_name();
        if name != LOCK && !name.as_encoded_bytes().starts_with(b".") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is told of all of them: of each as soon as it was looked at, or as one text of JSON.
#[derive(Default)]
struct Told {
    json: bool,
    is_damaged: bool,
    tenants: Vec<Value>,
    /// Those that could not be looked at, each with why.
    failed: Vec<Value>,
}

impl Told {
    fn found(&mut self, findings: &Findings) -> anyhow::Result<()> {
        self.is_damaged |= !findings.is_intact();
        if !self.json {
            return though_unread(print(findings));
        }
        self.tenants.push(findings.to_json());
        Ok(())
    }

    /// One of which there is nothing: it was made and not opened yet, or all of it is gone. Neither
    /// is a verdict.
    fn without_log(&mut self, tenant: &str) -> anyhow::Result<()> {
        if !self.json {
            return though_unread(answer(&format!("no log: tenant {tenant}, {NO_LOG}")));
        }
        self.tenants.push(json!({
            "verdict": null,
            "tenant": tenant,
            "events": 0,
            "head": null,
            "root": null,
            "damage": [],
            "notes": [NO_LOG],
        }));
        Ok(())
    }

    /// One that fails says nothing of the others.
    fn failed(&mut self, tenant: &str, error: &anyhow::Error) -> anyhow::Result<()> {
        let error = format!("{error:#}");
        if !self.json {
            though_unread(answer(&format!("not verified: tenant {tenant}: {error}")))?;
        }
        self.failed
            .push(json!({ "tenant": tenant, "error": error }));
        Ok(())
    }

    fn end(mut self, tokens: Option<&Findings>) -> anyhow::Result<Exit> {
        self.is_damaged |= tokens.is_some_and(|tokens| !tokens.is_intact());
        if self.json {
            let verdict = match (self.is_damaged, self.failed.is_empty()) {
                (true, _) => "damaged",
                (false, true) => "intact",
                (false, false) => "not_verified",
            };
            let told = json!({
                "verdict": verdict,
                "tenants": self.tenants,
                "not_verified": self.failed,
                "tokens": tokens.map(Findings::to_json),
            });
            though_unread(answer(&told.to_string()))?;
        } else if let Some(tokens) = tokens {
            though_unread(print(tokens))?;
        }
        if self.is_damaged {
            return Ok(Exit::Damaged);
        }
        let failed = self.failed.len();
        ensure!(failed == 0, "{failed} of the tenants could not be verified");
        Ok(Exit::Done)
    }
}

/// The log of tokens; none where no token was ever given out.
fn tokens(dir: &Path, settings: &Settings) -> anyhow::Result<Option<Findings>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::new(dir));
    let mut on_progress = |_: stemma_event_log::Progress| interrupt::flow();
    let options = log_options(settings);
    let report = stemma_event_log::verify(&storage, &options, &mut on_progress, &mut |_| ())?;
    let mut findings = Findings::default();
    findings.take("access", &report);
    Ok(Some(findings))
}

/// What is said of the tenants that were not looked at, if there are any.
pub(super) fn left_out(places: &Places) -> Option<String> {
    let others = names(places.tenant.parent()?).ok()?.len().checked_sub(1)?;
    (others > 0).then(|| {
        let own = places.tenant_name();
        format!(
            "only the tenant {own} was looked at, of {}; --all-tenants looks at all of them",
            others + 1
        )
    })
}
