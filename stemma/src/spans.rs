//! Whether spans are exported, and where to.

use stemma_telemetry::{Exporter, Options, OptionsError, seed};

use crate::clock::{now_ns, random_seed};
use crate::config::Settings;
use crate::exit::Usage;
use crate::tools::secret;

/// Begins to export the spans of this process, where that is configured; ends when it is dropped.
pub(crate) fn export(settings: &Settings) -> anyhow::Result<Option<Exporter>> {
    let random = random_seed().unwrap_or_default();
    let random = random.first_chunk().expect("a seed is longer");
    seed(u64::from_le_bytes(*random));
    let Some(endpoint) = settings.text("otlp.endpoint") else {
        return Ok(None);
    };
    let headers = secret(settings, "otlp.headers")?;
    let headers = headers.map_or(Ok(Vec::new()), |headers| read_headers(headers.expose()))?;
    let resource = [
        (
            "service.name",
            settings.text("otlp.service").unwrap_or("stemma"),
        ),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("process.pid", &std::process::id().to_string()),
    ];
    let options = Options {
        endpoint: endpoint.to_owned(),
        headers,
        queue_max: settings.count("otlp.queue_max"),
        resource: resource
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        now_ns,
    };
    match Exporter::start(options) {
        Ok(exporter) => Ok(Some(exporter)),
        Err(error @ (OptionsError::Endpoint | OptionsError::Header { .. })) => {
            Err(Usage(format!("otlp: {error}")).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Headers as `NAME=VALUE`, divided by commas. What is wrong with them is told without them.
fn read_headers(text: &str) -> Result<Vec<(String, String)>, Usage> {
    let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    let read = all.map(|one| {
        let (name, value) = one.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    });
    let read: Option<Vec<_>> = read.collect();
    read.ok_or_else(|| Usage("otlp.headers: expected NAME=VALUE, divided by commas".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_names_with_values() {
        assert!(read_headers("").unwrap().is_empty());
        let two = read_headers("api-key=a=b, x = y,").unwrap();
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(two, [owned("api-key", "a=b"), owned("x", "y")]);
        let told = read_headers("a secret").unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }
}
