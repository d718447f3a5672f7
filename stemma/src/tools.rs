//! What documents are processed with, as the settings say: the parser's process, models.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use stemma_inference::{
    Completer, DetectionOptions, Detector, Embedder, Endpoint, EndpointOptions, HttpCompleter,
    HttpDetector, HttpEmbedder, RulesDetector, Secret, StaticEmbedder,
};
use stemma_pipeline::Limits;
use stemma_pipeline::child::ParserProcess;
use stemma_pipeline::service::ParsingService;
use stemma_pipeline::stages::Tools;

use crate::config::Settings;
use crate::exit::Usage;

/// The command that is the parser's process; hidden from `help`.
pub(crate) const PARSE_DOCUMENT: &str = "parse-document";

/// The tools that the settings name.
///
/// # Errors
/// Settings that do not go together; a file that cannot be read.
pub(crate) fn tools(settings: &Settings) -> anyhow::Result<Tools> {
    let program = own_program().context("find our own program, to parse with")?;
    Ok(Tools {
        parser: ParserProcess {
            program,
            arguments: vec![PARSE_DOCUMENT.to_owned()],
        },
        service: parsing_service(settings)?,
        limits: limits(settings),
        embedder: embedder(settings)?,
        detector: detector(settings)?,
        completer: completer(settings)?,
        entities_max: settings.count("detect.entities_max"),
    })
}

/// The program that this process runs, also where another took its place on the disk since.
fn own_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Ok(running.to_owned());
    }
    std::env::current_exe()
}

/// What a document may ask for.
pub(crate) fn limits(settings: &Settings) -> Limits {
    Limits {
        bytes_max: settings.number("documents.bytes_max"),
        pages_max: u32::try_from(settings.number("documents.pages_max")).unwrap_or(u32::MAX),
        parser_memory_bytes_max: settings.number("documents.parser_memory_bytes_max"),
        parser_timeout_ms: settings.number("documents.parser_timeout_ms"),
        ..Limits::default()
    }
}

/// What makes vectors.
///
/// # Errors
/// As [`tools`].
pub(crate) fn embedder(settings: &Settings) -> anyhow::Result<Arc<dyn Embedder>> {
    let Some((endpoint, model)) = endpoint(settings, "embed")? else {
        return Ok(Arc::new(StaticEmbedder::open()?));
    };
    let dimension = u32::try_from(settings.number("embed.dimension")).unwrap_or(0);
    if dimension == 0 {
        let why = "embed.url is set, so embed.dimension must be: the numbers of a vector that embed.model gives, such as 1536";
        return Err(Usage(why.to_owned()).into());
    }
    Ok(Arc::new(HttpEmbedder::new(endpoint, &model, dimension)?))
}

fn detector(settings: &Settings) -> anyhow::Result<Arc<dyn Detector>> {
    let Some((endpoint, model)) = endpoint(settings, "detect")? else {
        return Ok(Arc::new(RulesDetector::new()));
    };
    let options = DetectionOptions::default();
    Ok(Arc::new(HttpDetector::new(endpoint, &model, &options)))
}

/// What writes texts, where that is configured.
fn completer(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Completer>>> {
    let Some((endpoint, model)) = endpoint(settings, "complete")? else {
        return Ok(None);
    };
    Ok(Some(Arc::new(HttpCompleter::new(endpoint, &model))))
}

/// What parses documents in place of a process of our own, where that is configured.
fn parsing_service(settings: &Settings) -> anyhow::Result<Option<ParsingService>> {
    let key = "documents.parser_url";
    let Some(url) = settings.text(key).filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    let is_http = |scheme| {
        url.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    };
    if !is_http("http://") && !is_http("https://") {
        let why = format!("{key} is {url}, expected a URL that begins with http:// or https://");
        return Err(Usage(why).into());
    }
    Ok(Some(ParsingService {
        token: secret(settings, "documents.parser_token")?,
        ..ParsingService::new(url.to_owned())
    }))
}

/// A secret that is set itself, or stands in the first line of a file that is named beside it.
pub(crate) fn secret(settings: &Settings, key: &str) -> anyhow::Result<Option<Secret>> {
    let file_key = format!("{key}_file");
    let text = |key: &str| settings.text(key).filter(|text| !text.is_empty());
    let Some(file) = text(&file_key) else {
        return Ok(text(key).map(Secret::new));
    };
    let held = std::fs::read_to_string(file)
        .map_err(|error| Usage(format!("{file_key}: read {file}: {error}")))?;
    Ok(held.lines().next().map(Secret::new))
}

/// A server of models, and which of them is meant; none where no URL is set.
fn endpoint(settings: &Settings, section: &str) -> anyhow::Result<Option<(Endpoint, String)>> {
    let text = |name: &str| settings.text(&format!("{section}.{name}"));
    let Some(url) = text("url").filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    let Some(model) = text("model").filter(|model| !model.is_empty()) else {
        let why = format!("{section}.url is set, so {section}.model must be");
        return Err(Usage(why).into());
    };
    let key = secret(settings, &format!("{section}.api_key"))?;
    let options = EndpointOptions {
        api_key: key,
        ..EndpointOptions::at(url)
    };
    let endpoint = Endpoint::new(options)
        .map_err(|error| Usage(format!("{section}.url is {url}: {error}")))?;
    Ok(Some((endpoint, model.to_owned())))
}
