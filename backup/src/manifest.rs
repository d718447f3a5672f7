//! The manifest: what a backup consists of.
//!
//! Invariant: a manifest that was read is one that we wrote. Its digest fits, and every name in it
//! is built as the format says, so that none leads out of the target.

use serde::{Deserialize, Serialize};
use stemma_content_store::Digest;
use stemma_domain::value::TenantName;

use crate::names::{archive_stem, is_log_id, key_name, part_name, segment_digits};

/// Name of the manifest in a target.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Version of the format.
const FORMAT: u32 = 1;
/// Most bytes of a manifest: some 300,000 files.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 128 << 20;
/// Most bytes of a signing key's file.
pub(crate) const KEY_BYTES_MAX: u64 = 4096;

/// What a target holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    digest: String,
    /// What it says.
    pub body: Body,
}

/// What a backup is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A data directory: all tenants, and the tokens.
    Server,
    /// One tenant.
    Tenant,
}

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// What it is a backup of.
    pub of: Kind,
    /// When it was made, in RFC 3339.
    pub made_at: String,
    /// The program that made it, with its version.
    pub made_by: String,
    /// The log of the server's tokens; none when it has none, or it is a tenant's export.
    pub access: Option<LogCopy>,
    /// The tenants, by name.
    pub tenants: Vec<TenantCopy>,
}

/// A tenant as of a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantCopy {
    /// Its name.
    pub name: String,
    /// Whether it had jobs to go on with.
    pub is_unfinished: bool,
    /// Its log; none while it had no event.
    pub log: Option<LogCopy>,
    /// All content that the log's events name.
    pub archives: Vec<Archive>,
    /// The key that signs its checkpoints.
    pub signing_key: Option<FileCopy>,
}

/// A log up to a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCopy {
    /// Which log, as 32 hexadecimal digits.
    pub id: String,
    /// Records in it.
    pub end: u64,
    /// Digest of the last of them.
    pub head: String,
    /// Merkle root over all of them.
    pub root: String,
    /// Its segments in order.
    pub segments: Vec<SegmentCopy>,
}

/// The first bytes of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentCopy {
    /// The name of its file in the log.
    pub name: String,
    /// How many bytes there are.
    pub bytes: u64,
    /// Length of the file, zeros behind those bytes; none when it is sealed and ends with them.
    pub planned_bytes: Option<u64>,
    /// Digest of those bytes.
    pub digest: String,
    /// The files that they are in, one behind the other.
    pub parts: Vec<FileCopy>,
}

/// Content that one backup added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub data: FileCopy,
    /// Which they are.
    pub index: FileCopy,
}

/// A file of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileCopy {
    /// Its name in the target.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub digest: String,
}

/// A manifest that cannot be gone by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is no JSON of this form.
    #[error("{MANIFEST} cannot be read")]
    Json(#[source] serde_json::Error),
    /// It is of a format that this program does not know.
    #[error(
        "{MANIFEST} has format {format}; this program knows format {FORMAT}; the release that wrote it, or a later one, reads it"
    )]
    Format {
        /// The format.
        format: u32,
    },
    /// It is not what was written.
    #[error("{MANIFEST} does not fit its digest")]
    Changed,
    /// A field is not built as the format says.
    #[error("{MANIFEST} names {field} {text:?}")]
    Field {
        /// What it should be.
        field: &'static str,
        /// What stands there.
        text: String,
    },
}

impl ManifestError {
    /// Whether what was written is not there any more as it was; another format is whole.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Format { .. })
    }
}

/// Read before all else, so that another format is told from a broken file.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Manifest {
    /// A manifest that says this.
    pub(crate) fn new(body: Body) -> Self {
        Self {
            format: FORMAT,
            digest: digest_of(&body),
            body,
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is of another format, not what was written, or leads astray.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if versioned.format != FORMAT {
            let format = versioned.format;
            return Err(ManifestError::Format { format });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        manifest.body.check()?;
        if digest_of(&manifest.body) != manifest.digest {
            return Err(ManifestError::Changed);
        }
        Ok(manifest)
    }

    /// The bytes that are read back.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers become JSON")
    }

    /// A tenant of this name.
    pub fn tenant(&self, name: &str) -> Option<&TenantCopy> {
        self.body.tenants.iter().find(|tenant| tenant.name == name)
    }
}

/// Whether a file that is called so is of another program: JSON of fields, and none of them says of
/// which format it is. What cannot be read may be a manifest that was damaged.
pub(crate) fn is_of_others(bytes: &[u8]) -> bool {
    let read = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes);
    read.is_ok_and(|fields| !fields.contains_key("format"))
}

fn digest_of(body: &Body) -> String {
    let bytes = serde_json::to_vec(body).expect("texts and numbers become JSON");
    Digest::of(&bytes).to_string()
}

impl Body {
    /// Every file that it names.
    pub(crate) fn files(&self) -> Vec<&FileCopy> {
        let mut files: Vec<&FileCopy> = self.access.iter().flat_map(LogCopy::files).collect();
        files.extend(self.tenants.iter().flat_map(TenantCopy::files));
        files
    }

    fn check(&self) -> Result<(), ManifestError> {
        if let Some(log) = &self.access {
            log.check(&format!("access/{}", log.id))?;
        }
        for tenant in &self.tenants {
            tenant.check()?;
        }
        let mut names: Vec<&str> = self.tenants.iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(wrong("a tenant twice,", pair[0])),
            None => Ok(()),
        }
    }
}

impl TenantCopy {
    /// Where its files are in a target, for a log of this id.
    pub(crate) fn dir(name: &str, log_id: &str) -> String {
        format!("tenants/{name}/{log_id}")
    }

    /// Every file that it names.
    pub(crate) fn files(&self) -> Vec<&FileCopy> {
        let mut files: Vec<&FileCopy> = self.log.iter().flat_map(LogCopy::files).collect();
        files.extend(self.archives.iter().flat_map(|one| [&one.data, &one.index]));
        files.extend(&self.signing_key);
        files
    }

    fn check(&self) -> Result<(), ManifestError> {
        let name = &self.name;
        TenantName::new(name).map_err(|_| wrong("the tenant", name))?;
        let Some(log) = &self.log else {
            return match self.files().first() {
                Some(file) => Err(wrong("a file of no log,", &file.name)),
                None => Ok(()),
            };
        };
        let dir = Self::dir(name, &log.id);
        log.check(&dir)?;
        for (index, archive) in self.archives.iter().enumerate() {
            let stem = archive_stem(&dir, index as u64 + 1);
            archive.data.check(&format!("{stem}.blobs"))?;
            archive.index.check(&format!("{stem}.index"))?;
        }
        if let Some(key) = &self.signing_key {
            let digest: Digest = read_digest(&key.digest)?;
            key.check(&key_name(&dir, &digest))?;
            if key.bytes > KEY_BYTES_MAX {
                return Err(wrong("a signing key that is none,", &key.name));
            }
        }
        Ok(())
    }
}

impl LogCopy {
    /// Every file that it names.
    pub(crate) fn files(&self) -> Vec<&FileCopy> {
        let segments = self.segments.iter();
        segments.flat_map(|segment| &segment.parts).collect()
    }

    fn check(&self, dir: &str) -> Result<(), ManifestError> {
        if !is_log_id(&self.id) {
            return Err(wrong("the log", &self.id));
        }
        if self.segments.is_empty() {
            return Err(wrong("no segment of the log", &self.id));
        }
        self.segments.iter().try_for_each(|one| one.check(dir))
    }
}

impl SegmentCopy {
    fn check(&self, dir: &str) -> Result<(), ManifestError> {
        let Some(first) = segment_digits(&self.name) else {
            return Err(wrong("the segment", &self.name));
        };
        read_digest(&self.digest)?;
        let mut offset = 0_u64;
        for part in &self.parts {
            part.check(&part_name(dir, first, offset))?;
            offset = offset.saturating_add(part.bytes);
        }
        let is_short = self.planned_bytes.is_some_and(|planned| planned < offset);
        if offset != self.bytes || is_short {
            return Err(wrong(
                "other lengths of parts than of the segment",
                &self.name,
            ));
        }
        Ok(())
    }
}

impl FileCopy {
    /// Whether it has the name that it must have, and a digest.
    fn check(&self, name: &str) -> Result<(), ManifestError> {
        if self.name != name {
            return Err(wrong("the file", &self.name));
        }
        read_digest(&self.digest).map(drop)
    }
}

fn wrong(field: &'static str, text: &str) -> ManifestError {
    let text = text.to_owned();
    ManifestError::Field { field, text }
}

fn read_digest(text: &str) -> Result<Digest, ManifestError> {
    text.parse().map_err(|_| wrong("the digest", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";
    const FIRST: &str = "00000000000000000000";

    fn file(name: &str, bytes: u64) -> FileCopy {
        FileCopy {
            name: name.to_owned(),
            bytes,
            digest: Digest::of(name.as_bytes()).to_string(),
        }
    }

    fn log(dir: &str) -> LogCopy {
        let parts = vec![
            file(&part_name(dir, FIRST, 0), 4200),
            file(&part_name(dir, FIRST, 4200), 96),
        ];
        LogCopy {
            id: ID.to_owned(),
            end: 3,
            head: Digest::of(b"head").to_string(),
            root: format!("sha256:{}", Digest::of(b"root").to_hex()),
            segments: vec![SegmentCopy {
                name: format!("{FIRST}.segment"),
                bytes: 4296,
                planned_bytes: Some(1 << 20),
                digest: Digest::of(b"all").to_string(),
                parts,
            }],
        }
    }

    fn body() -> Body {
        let dir = TenantCopy::dir("default", ID);
        let stem = archive_stem(&dir, 1);
        let key = Digest::of(b"key");
        Body {
            of: Kind::Server,
            made_at: "2026-11-28T09:00:00Z".to_owned(),
            made_by: "stemma 0.1.0".to_owned(),
            access: Some(log(&format!("access/{ID}"))),
            tenants: vec![TenantCopy {
                name: "default".to_owned(),
                is_unfinished: true,
                log: Some(log(&dir)),
                archives: vec![Archive {
                    blobs: 2,
                    data: file(&format!("{stem}.blobs"), 12),
                    index: file(&format!("{stem}.index"), 96),
                }],
                signing_key: Some(FileCopy {
                    name: key_name(&dir, &key),
                    bytes: 90,
                    digest: key.to_string(),
                }),
            }],
        }
    }

    fn refused(change: impl FnOnce(&mut Body)) -> String {
        let mut body = body();
        change(&mut body);
        let bytes = Manifest::new(body).to_bytes();
        Manifest::parse(&bytes)
            .expect_err("it is refused")
            .to_string()
    }

    #[test]
    fn a_manifest_is_read_back_as_it_was_written() {
        let manifest = Manifest::new(body());
        let read = Manifest::parse(&manifest.to_bytes()).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.body.files().len(), 7);
    }

    #[test]
    fn another_format_is_told_from_a_broken_file() {
        let text = String::from_utf8(Manifest::new(body()).to_bytes()).unwrap();
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        let error = Manifest::parse(newer.as_bytes());
        assert!(matches!(error, Err(ManifestError::Format { format: 2 })));
        // A later format may have fields that this program does not know.
        let error = Manifest::parse(br#"{"format": 9, "parts": []}"#);
        assert!(matches!(error, Err(ManifestError::Format { format: 9 })));
        for broken in [
            "",
            "{",
            "null",
            "[]",
            &text[..text.len() - 1],
            r#"{"format": "1"}"#,
        ] {
            let error = Manifest::parse(broken.as_bytes());
            assert!(matches!(error, Err(ManifestError::Json(_))), "{broken}");
        }
        let unknown = text.replacen("\"made_at\"", "\"extra\":1,\"made_at\"", 1);
        let error = Manifest::parse(unknown.as_bytes());
        assert!(matches!(error, Err(ManifestError::Json(_))));
    }

    #[test]
    fn a_manifest_that_was_changed_is_refused() {
        let text = String::from_utf8(Manifest::new(body()).to_bytes()).unwrap();
        let changed = text.replacen("\"end\":3", "\"end\":2", 1);
        let error = Manifest::parse(changed.as_bytes());
        assert!(matches!(error, Err(ManifestError::Changed)));
    }

    #[test]
    fn a_name_that_leads_astray_is_refused_though_its_digest_fits() {
        for name in ["../../etc/passwd", "/etc/passwd", "", "manifest.json"] {
            let told = refused(|body| body.tenants[0].archives[0].data.name = name.to_owned());
            assert!(told.contains(name), "{told}");
            refused(|body| body.access.as_mut().unwrap().segments[0].parts[1].name = name.into());
            refused(|body| body.tenants[0].signing_key.as_mut().unwrap().name = name.into());
        }
        for name in ["..", "a/b", "", "\u{e4}", "x/../y"] {
            refused(|body| body.tenants[0].name = name.to_owned());
        }
        for name in ["../x.segment", "0.segment", "next.segment", "head"] {
            refused(|body| body.access.as_mut().unwrap().segments[0].name = name.to_owned());
        }
        for id in ["..", "", "00112233445566778899AABBCCDDEEFF"] {
            refused(|body| body.access.as_mut().unwrap().id = id.to_owned());
        }
    }

    #[test]
    fn parts_that_do_not_make_up_their_segment_are_refused() {
        refused(|body| body.access.as_mut().unwrap().segments[0].bytes = 4295);
        refused(|body| body.access.as_mut().unwrap().segments[0].planned_bytes = Some(4000));
        refused(|body| drop(body.access.as_mut().unwrap().segments[0].parts.remove(0)));
        refused(|body| body.tenants[0].log = None);
        refused(|body| body.tenants.push(body.tenants[0].clone()));
        refused(|body| body.access.as_mut().unwrap().segments.clear());
    }
}
