//! `stemma verify --all-tenants`: every tenant of the data, one behind another, and the tokens.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use stemma_event_log::{FileStorage, Storage};

use super::answer;
use super::verify::{Findings, print, tenant};
use crate::cli::{Common, Verify};
use crate::config::{Settings, data_dir};
use crate::exit::Exit;
use crate::interrupt;
use crate::tenant_files::names;
use crate::wiring::{Places, log_options};

/// Holds all tenants, and the log of tokens, against what they must be.
pub(super) fn run(common: &Common, settings: &Settings, verify: &Verify) -> anyhow::Result<Exit> {
    let data = data_dir(common, Some(settings));
    let dir = data.join("tenants");
    let all = names(&dir).with_context(|| format!("list the tenants in {}", dir.display()))?;
    let mut found = Vec::new();
    for name in all {
        let of_tenant = Common {
            tenant: name.to_string(),
            ..common.clone()
        };
        let places = Places::of(&of_tenant, settings)?;
        // Made and not opened yet: there is nothing of it.
        if places.log.is_dir() {
            found.push(tenant(&places, settings, verify)?);
        }
    }
    let tokens = tokens(&data.join("access"), settings)?;
    let is_intact = found.iter().chain(&tokens).all(Findings::is_intact);
    if common.json {
        let told = json!({
            "verdict": if is_intact { "intact" } else { "damaged" },
            "tenants": found.iter().map(Findings::to_json).collect::<Vec<_>>(),
            "tokens": tokens.as_ref().map(Findings::to_json),
        });
        answer(&told.to_string())?;
    } else {
        for findings in found.iter().chain(&tokens) {
            print(findings)?;
        }
    }
    Ok(if is_intact { Exit::Done } else { Exit::Damaged })
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
