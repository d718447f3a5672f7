//! Targets of backups: what names them, and what opens a store of objects.
//!
//! Invariant: a target is never within the data, and its keys are never told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use stemma_backup::{DirectoryTarget, S3Options, S3Target, Target, UrlStyle};
use stemma_commands::Ids;

use crate::cli::Common;
use crate::clock::SystemIds;
use crate::config::{Settings, data_dir};
use crate::exit::Usage;
use crate::tools::secret;

/// What a store of objects is named with.
const S3: &str = "s3://";

/// The target that a text names: a directory, or `s3://BUCKET/PREFIX`.
pub(crate) fn target(
    text: &str,
    common: &Common,
    settings: &Settings,
) -> anyhow::Result<Box<dyn Target>> {
    if let Some(place) = text.strip_prefix(S3) {
        return Ok(Box::new(s3(text, place, settings)?));
    }
    if text.is_empty() || text.contains("://") {
        let why = format!("{text:?} is no target: expected a directory or s3://BUCKET/PREFIX");
        return Err(Usage(why).into());
    }
    let dir = data_dir(common, Some(settings));
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.canonicalize().unwrap_or(path)
    };
    if absolute(Path::new(text)).starts_with(absolute(&dir)) {
        let why = format!("{text} is within the data in {}", dir.display());
        return Err(Usage(why).into());
    }
    Ok(Box::new(DirectoryTarget::new(text)))
}

fn s3(text: &str, place: &str, settings: &Settings) -> anyhow::Result<S3Target> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let set = |key: &str| settings.text(key).map(str::to_owned);
    let region = set("backup.s3_region").unwrap_or_default();
    let endpoint = set("backup.s3_endpoint");
    let options = S3Options {
        endpoint: endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
        region,
        bucket: bucket.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        url_style: match settings.text("backup.s3_urls") {
            Some("host") => UrlStyle::Host,
            _ => UrlStyle::Path,
        },
        access_key: key(settings, "backup.s3_access_key", "AWS_ACCESS_KEY_ID")?,
        secret_key: key(settings, "backup.s3_secret_key", "AWS_SECRET_ACCESS_KEY")?,
        session_token: Some(key(
            settings,
            "backup.s3_session_token",
            "AWS_SESSION_TOKEN",
        )?)
        .filter(|token| !token.is_empty()),
        holder: format!("{} ({})", std::process::id(), SystemIds.new_id()),
        lease: Duration::from_millis(settings.number("backup.s3_lock_ms")),
    };
    let opened = S3Target::new(&options);
    Ok(opened.map_err(|error| Usage(format!("{text} is no target: {error}")))?)
}

/// A key that is set, or stands in a file that is set, or in the variable that other programs for such
/// stores read too; empty when there is none.
fn key(settings: &Settings, name: &str, variable: &str) -> anyhow::Result<String> {
    let set = secret(settings, name)?;
    let set = set.map(|secret| secret.expose().to_owned());
    Ok(set
        .or_else(|| std::env::var(variable).ok())
        .unwrap_or_default())
}

/// The targets that `backup.targets` names.
pub(crate) fn targets(text: &str) -> Result<BTreeMap<String, String>, Usage> {
    let mut targets = BTreeMap::new();
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let named = one
            .split_once('=')
            .map(|(name, place)| (name.trim(), place.trim()));
        let named = named.filter(|(name, place)| {
            let is_name = (1..=64).contains(&name.len()) && name.bytes().all(plain);
            is_name && (place.starts_with('/') || place.starts_with(S3))
        });
        let Some((name, place)) = named else {
            let expected =
                "NAME=TARGET, divided by commas, each a directory from / on or s3://BUCKET/PREFIX";
            return Err(Usage(format!(
                "backup.targets has {one:?}, expected {expected}"
            )));
        };
        if targets.insert(name.to_owned(), place.to_owned()).is_some() {
            return Err(Usage(format!("backup.targets names {name} twice")));
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_with_directories_or_buckets() {
        assert!(targets("").unwrap().is_empty());
        let two = targets("nightly=/mnt/a b, off-site = s3://bucket/b ,").unwrap();
        let places: Vec<_> = two
            .iter()
            .map(|(name, place)| (name.as_str(), place.as_str()))
            .collect();
        assert_eq!(
            places,
            [("nightly", "/mnt/a b"), ("off-site", "s3://bucket/b")]
        );
        for bad in [
            "/mnt",
            "a=",
            "=b",
            "a=relative",
            "a b=/c",
            "a=/b,a=/c",
            "a=gs://b",
        ] {
            assert!(targets(bad).is_err(), "{bad}");
        }
    }
}
