//! The issuer outside whose tokens count, as the settings name it, and where its keys are had.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stemma_access::{
    Authority, AuthoritySettings, Fetching, KEY_SET_BYTES_MAX, KeySource, Registry, SignedBy,
};
use stemma_domain::value::TenantName;
use ureq::Agent;
use ureq::http::Uri;

use crate::clock::SystemSources;
use crate::config::Settings;
use crate::exit::Usage;

/// How long a fetch of keys may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Has the tokens of the issuer count that the settings name, if they name one. Fetches its keys
/// until what is given back is dropped.
pub(crate) fn trust(
    registry: &Registry,
    settings: &Settings,
    tenant: &TenantName,
) -> anyhow::Result<Option<Fetching>> {
    let Some(issuer) = settings.text("jwt.issuer") else {
        return Ok(None);
    };
    let needed = |key: &str| {
        let why = || Usage(format!("{key} must be set with jwt.issuer"));
        settings.text(key).map(str::to_owned).ok_or_else(why)
    };
    let seconds = |key: &str| Duration::from_secs(settings.number(key));
    let known = AuthoritySettings {
        issuer: issuer.to_owned(),
        audience: needed("jwt.audience")?,
        algorithms: algorithms(&needed("jwt.algorithms")?)?,
        skew: seconds("jwt.skew_s"),
        tenant_claim: settings.text("jwt.tenant_claim").map(str::to_owned),
        tenant: tenant.clone(),
        role_claim: needed("jwt.role_claim")?,
        principal_claim: needed("jwt.principal_claim")?,
        refetch_min: seconds("jwt.refetch_min_s"),
        refresh: seconds("jwt.refresh_s"),
    };
    let source = source(&needed("jwt.jwks")?)?;
    let (authority, fetching) = Authority::follow(known, source, Arc::new(SystemSources))?;
    if let Some(problem) = authority.problem() {
        tracing::error!("the keys of jwt.issuer cannot be had (jwt.jwks): {problem}");
    }
    registry.trust(authority);
    Ok(Some(fetching))
}

fn algorithms(text: &str) -> Result<Vec<SignedBy>, Usage> {
    let names = text.split(',').map(str::trim);
    let read = names.map(|name| match name {
        "RS256" => Ok(SignedBy::Rs256),
        "ES256" => Ok(SignedBy::Es256),
        "EdDSA" => Ok(SignedBy::EdDsa),
        other => Err(Usage(format!(
            "jwt.algorithms names {other:?}, expected some of RS256, ES256, EdDSA"
        ))),
    });
    read.collect()
}

fn source(place: &str) -> Result<Box<dyn KeySource>, Usage> {
    let Some((scheme, _)) = place.split_once("://") else {
        return Ok(Box::new(KeyFile(place.into())));
    };
    let url: Option<Uri> = place.parse().ok();
    let host = url.as_ref().and_then(Uri::host).unwrap_or_default();
    let is_here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    let is_plain = url.as_ref().and_then(Uri::authority);
    let is_plain = is_plain.is_some_and(|authority| !authority.as_str().contains('@'));
    if host.is_empty() || !is_plain || !(scheme == "https" || scheme == "http" && is_here) {
        let why =
            "expected a file, an https URL, or an http URL of this machine, without a password";
        return Err(Usage(format!("jwt.jwks cannot be used: {why}")));
    }
    let config = Agent::config_builder()
        .max_redirects(0)
        .timeout_global(Some(FETCH_TIMEOUT))
        .build();
    Ok(Box::new(KeyUrl {
        agent: config.into(),
        url: place.to_owned(),
    }))
}

/// Keys in a file.
struct KeyFile(PathBuf);

impl KeySource for KeyFile {
    fn fetch(&self) -> Result<Vec<u8>, String> {
        let size = std::fs::metadata(&self.0).map(|file| file.len());
        let size = size.map_err(|error| format!("read {}: {error}", self.0.display()))?;
        if size > KEY_SET_BYTES_MAX as u64 {
            return Err(format!("{} is too large", self.0.display()));
        }
        std::fs::read(&self.0).map_err(|error| format!("read {}: {error}", self.0.display()))
    }
}

/// Keys at a URL.
struct KeyUrl {
    agent: Agent,
    url: String,
}

impl KeySource for KeyUrl {
    fn fetch(&self) -> Result<Vec<u8>, String> {
        let failed = |error: ureq::Error| format!("fetch {}: {error}", self.url);
        let mut answer = self.agent.get(&self.url).call().map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("{} answered {}", self.url, answer.status()));
        }
        let body = answer.body_mut().with_config();
        let body = body.limit(KEY_SET_BYTES_MAX as u64 + 1);
        body.read_to_vec().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_a_file_from_this_machine_or_over_tls() {
        for good in [
            "/etc/keys.json",
            "keys.json",
            "https://id.example/jwks",
            "http://127.0.0.1:80/jwks",
            "http://localhost/jwks",
        ] {
            assert!(source(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example/jwks",
            "http://127.0.0.1.id.example/jwks",
            "https://user:pass@id.example/jwks",
            "ftp://id.example/jwks",
            "https://",
        ] {
            assert!(source(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_algorithm_is_allowed_that_a_secret_of_both_sides_or_nothing_signs() {
        assert_eq!(
            algorithms("RS256, EdDSA").map(|read| read.len()).ok(),
            Some(2)
        );
        for bad in ["", "none", "HS256", "RS256,HS256", "rs256"] {
            assert!(algorithms(bad).is_err(), "{bad}");
        }
    }
}
