//! `stemma prove` and `stemma check`: that an event is in the log, for someone who trusts only a key.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stemma_event_log::{
    Checkpoint, EventDigest, FileStorage, NoteVerifier, ProofError, ProofFile, ProofFileError,
    ProofTree, Reader, Storage,
};

use super::{answer, though_unread};
use crate::api_client::Server;
use crate::cli::{Check, Common, Prove};
use crate::config::Settings;
use crate::exit::{Exit, Usage};
use crate::keys;
use crate::wiring::{Places, open_reader};

/// Longest file of a proof, a key or a checkpoint, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A tree over a log that another process may be writing to, in a directory of its own.
pub(crate) struct Borrowed {
    pub(crate) tree: ProofTree,
    _dir: tempfile::TempDir,
}

impl Borrowed {
    pub(crate) fn over(reader: &Reader) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("make a directory for the tree")?;
        let storage = FileStorage::new(dir.path());
        storage
            .create_dirs()
            .context("make a directory for the tree")?;
        let tree = ProofTree::new(reader.clone(), Arc::new(storage));
        Ok(Self { tree, _dir: dir })
    }
}

pub(crate) fn prove(common: &Common, settings: &Settings, prove: &Prove) -> anyhow::Result<Exit> {
    let proof = match Server::of_token(common)? {
        Some(server) => through(&server, prove)?,
        None => local(&Places::of(common, settings)?, settings, prove)?,
    };
    let text = proof.to_string();
    if common.json {
        answer(&json!({ "position": proof.position, "digest": proof.digest.to_string(), "proof": text }).to_string())?;
    } else {
        answer(text.trim_end())?;
    }
    Ok(Exit::Done)
}

fn local(places: &Places, settings: &Settings, prove: &Prove) -> anyhow::Result<ProofFile> {
    let reader = open_reader(places, settings)?;
    let signer = keys::load(&places.tenant, reader.log_id()).map_err(|problem| {
        anyhow::anyhow!("{problem}; `stemma serve` makes the key that signs checkpoints")
    })?;
    let size = prove.size.unwrap_or_else(|| reader.end().get());
    let tree = Borrowed::over(&reader)?;
    let shown = tree
        .tree
        .inclusion(prove.position, size)
        .map_err(|error| match error {
            ProofError::OutOfRange { .. } => anyhow::Error::new(Usage(error.to_string())),
            other => other.into(),
        })?;
    let origin = signer.verifier().name().to_owned();
    let root = shown.root;
    Ok(ProofFile {
        digest: shown.digest,
        position: shown.position,
        path: shown.path,
        checkpoint: signer.sign(&Checkpoint { origin, size, root }),
    })
}

fn through(server: &Server, prove: &Prove) -> anyhow::Result<ProofFile> {
    let position = prove.position;
    let size = prove.size.map(|size| format!("&size={size}"));
    let size = size.unwrap_or_default();
    let shown = server.get(&format!(
        "/api/log/proof/inclusion?position={position}{size}"
    ))?;
    let checkpoint = server.text(&format!("/api/log/checkpoint?size={}", shown["size"]))?;
    let unread = || "the server's proof cannot be read; is it a Stemma server of this version?";
    let digest: EventDigest = shown["digest"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .with_context(unread)?;
    let hash = |value: &Value| STANDARD.decode(value.as_str()?).ok()?.try_into().ok();
    let path = shown["path"].as_array().with_context(unread)?;
    let path: Option<Vec<_>> = path.iter().map(hash).collect();
    Ok(ProofFile {
        digest,
        position,
        path: path.with_context(unread)?,
        checkpoint,
    })
}

pub(crate) fn check(common: &Common, check: &Check) -> anyhow::Result<Exit> {
    let key = key_in(&check.key)?;
    let text = read(&check.proof)?;
    let checked = ProofFile::parse(&text).and_then(|proof| Ok((proof.check(&key)?, proof)));
    let (checkpoint, proof) = match checked {
        Ok(holds) => holds,
        Err(error @ ProofFileError::Malformed { .. }) => {
            bail!("{}: {error}", check.proof.display())
        }
        Err(error) => {
            let why = format!("{:#}", anyhow::Error::new(error));
            though_unread(if common.json {
                answer(&json!({ "verdict": "invalid", "detail": why }).to_string())
            } else {
                answer(&format!("invalid: {why}"))
            })?;
            return Ok(Exit::Damaged);
        }
    };
    let (position, size) = (proof.position, checkpoint.size);
    if common.json {
        let told = json!({
            "verdict": "valid", "origin": checkpoint.origin, "position": position,
            "digest": proof.digest.to_string(), "size": size, "root": checkpoint.root.to_string(),
        });
        answer(&told.to_string())?;
    } else {
        let (digest, origin) = (proof.digest, checkpoint.origin);
        answer(&format!(
            "valid: {digest} is at position {position} of the {size} events that {origin} signed for"
        ))?;
    }
    Ok(Exit::Done)
}

/// The key in a file.
pub(crate) fn key_in(path: &Path) -> anyhow::Result<NoteVerifier> {
    let told = || format!("{}, expected what GET /api/log/key gives", path.display());
    NoteVerifier::parse(&read(path)?).with_context(told)
}

/// A file that is text and not too long.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    let told = || format!("read {}", path.display());
    let bytes = std::fs::metadata(path).with_context(told)?.len();
    if bytes > FILE_BYTES_MAX {
        bail!(
            "{} has {bytes} bytes, at most {FILE_BYTES_MAX} are read",
            path.display()
        );
    }
    std::fs::read_to_string(path).with_context(told)
}
