//! `stemma import`: files become resources, known again by their paths.
//!
//! Invariant: a file is known by its path below the PATH it was found under, and by that PATH, within
//! its collection; run again, only what is new or changed is written, so an import that broke off
//! goes on. Two trees may hold files of the same path: they are two resources. A tree that was moved
//! is known again, when it is gone from where it was.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use stemma_domain::value::CollectionName;

use super::answer;
use crate::api_client::Server;
use crate::cli::{Common, Import};
use crate::config::{Settings, data_dir};
use crate::exit::{Exit, Usage};
use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;
use crate::wiring::Places;

mod local;
mod remote;

/// Bytes of a path that stand for themselves; all others, and those that are no UTF-8, are encoded
/// where the path as a whole is not UTF-8.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b' ');
/// Bytes at the start of a file that tell text from other data.
const SNIFF_BYTES: usize = 8192;

/// A file to be brought in.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// The PATH of the command line, or the directory that holds it, without links in it.
    pub(crate) source_root: String,
    /// Its path below the PATH of the command line.
    pub(crate) source_path: String,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// A resource that an import made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) digest: String,
    /// Where its file was found.
    pub(crate) source_root: Option<String>,
}

/// What earlier imports into a collection made.
#[derive(Debug, Default)]
pub(crate) struct KnownFiles {
    by_path: HashMap<String, Vec<Known>>,
}

impl KnownFiles {
    pub(crate) fn add(&mut self, source_path: &str, known: Known) {
        let of_path = self.by_path.entry(source_path.to_owned()).or_default();
        of_path.push(known);
    }

    /// The resource of a file: the one that was made of it, else the only one that was made of a
    /// file of this path in a tree that is no longer where it was.
    pub(crate) fn find(&self, file: &Found) -> Option<&Known> {
        let of_path = self.by_path.get(&file.source_path)?;
        let is_own = |known: &&Known| known.source_root.as_ref() == Some(&file.source_root);
        if let Some(own) = of_path.iter().find(is_own) {
            return Some(own);
        }
        let has_moved = |known: &&Known| {
            let root = known.source_root.as_deref();
            root.is_none_or(|root| !Path::new(root).is_dir())
        };
        let mut moved = of_path.iter().filter(has_moved);
        moved.next().filter(|_| moved.next().is_none())
    }

    /// How many of the resources made of files below these directories have no file any more.
    fn gone(&self, roots: &HashSet<String>, files: &[Found]) -> u64 {
        let found: Vec<(&Found, &Known)> = files
            .iter()
            .filter_map(|file| Some((file, self.find(file)?)))
            .collect();
        let present: HashSet<&str> = found.iter().map(|(_, known)| known.id.as_str()).collect();
        // A tree that was moved counts by where it was.
        let roots: HashSet<Option<&String>> = roots
            .iter()
            .map(Some)
            .chain(
                found
                    .iter()
                    .filter(|(file, known)| known.source_root.as_ref() != Some(&file.source_root))
                    .map(|(_, known)| known.source_root.as_ref()),
            )
            .collect();
        let of_roots = self.by_path.values().flatten();
        of_roots
            .filter(|known| roots.contains(&known.source_root.as_ref()))
            .filter(|known| !present.contains(known.id.as_str()))
            .count() as u64
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created { is_duplicate: bool },
    Revised { is_duplicate: bool },
    Unchanged,
}

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

/// What an import did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: u64,
    created: u64,
    revised: u64,
    unchanged: u64,
    duplicates: u64,
    pub(crate) links: u64,
    pub(crate) unreadable: Vec<Unreadable>,
    gone: u64,
    bytes: u64,
}

impl Report {
    fn count(&mut self, outcome: Outcome, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
        match outcome {
            Outcome::Created { is_duplicate } => {
                self.created += 1;
                self.duplicates += u64::from(is_duplicate);
            }
            Outcome::Revised { is_duplicate } => {
                self.revised += 1;
                self.duplicates += u64::from(is_duplicate);
            }
            Outcome::Unchanged => self.unchanged += 1,
        }
    }

    fn unreadable(&mut self, path: &Path, error: &dyn std::fmt::Display) {
        self.unreadable.push(Unreadable {
            path: path.to_path_buf(),
            why: error.to_string(),
        });
    }
}

/// What was asked to be brought in.
pub(crate) struct Plan {
    pub(crate) files: Vec<Found>,
    pub(crate) collection: Option<String>,
}

/// Where files are brought to.
pub(crate) trait Destination {
    /// What earlier imports into this collection made.
    fn known(&mut self, collection: Option<&str>) -> anyhow::Result<KnownFiles>;
    /// Brings files in; tells of each.
    fn bring(
        &mut self,
        plan: &Plan,
        known: &KnownFiles,
        each: &mut dyn FnMut(&Found, anyhow::Result<Outcome>),
    ) -> anyhow::Result<()>;
    /// How many events it wrote. Others may have written meanwhile.
    fn events(&self) -> u64;
    /// Ends in order.
    fn close(self: Box<Self>) -> anyhow::Result<()>;
}

pub(crate) fn run(common: &Common, settings: &Settings, import: &Import) -> anyhow::Result<Exit> {
    let started = Instant::now();
    if let Some(name) = &import.collection {
        // Before anything is made for files that could not be put there.
        let named = CollectionName::new(name);
        named.map_err(|error| Usage(format!("--collection is {name:?}: {error}")))?;
    }
    let server = Server::of_token(common)?;
    if server.is_none() {
        must_not_hold(&data_dir(common, Some(settings)), &import.paths)?;
    }
    let mut report = Report::default();
    let (mut files, mut roots) = (Vec::new(), HashSet::new());
    for path in &import.paths {
        if let Some(root) = walk_root(path, &mut files, &mut report)?
            && !roots.insert(root)
        {
            return Err(Usage(format!("{} is named twice", path.display())).into());
        }
    }
    let places = Places::of(common, settings)?;
    let mut destination: Box<dyn Destination> = match server {
        Some(server) => Box::new(remote::Remote::new(server)),
        None => Box::new(local::Local::open(&places, settings)?),
    };
    let known = destination.known(import.collection.as_deref())?;
    report.gone = known.gone(&roots, &files);
    let total = files.iter().map(|file| file.bytes).sum();
    let plan = Plan {
        files,
        collection: import.collection.clone(),
    };
    let mut progress = Progress::new("importing (bytes)", total);
    let mut done = 0;
    let brought = destination.bring(&plan, &known, &mut |file, outcome| {
        match outcome {
            Ok(outcome) => report.count(outcome, file.bytes),
            Err(error) => report.unreadable(&file.path, &format!("{error:#}")),
        }
        done += file.bytes;
        progress.set(done, total);
    });
    progress.finish();
    // Interrupted or broken off, what was brought in stays, and the log is closed in order.
    let events = destination.events();
    let closed = destination.close();
    brought?;
    closed?;
    tell(common, &report, events, started.elapsed().as_secs_f64())?;
    Ok(if report.unreadable.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Fails when a PATH holds the data directory or stands in it: the store would take in itself.
fn must_not_hold(data: &Path, paths: &[PathBuf]) -> Result<(), Usage> {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let Ok(data) = whole(data) else { return Ok(()) };
    for path in paths {
        let is_own =
            whole(path).is_ok_and(|path| path.starts_with(&data) || data.starts_with(path));
        if is_own {
            let (path, data) = (path.display(), data.display());
            let why = "the store would take in itself; name what stands beside it, or keep the data elsewhere with --data";
            return Err(Usage(format!(
                "{path} and the data directory {data} hold one another: {why}"
            )));
        }
    }
    Ok(())
}

/// A count with its noun, of which one has no s.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

#[allow(clippy::print_stderr)]
fn tell(common: &Common, report: &Report, events: u64, seconds: f64) -> anyhow::Result<()> {
    for unreadable in &report.unreadable {
        eprintln!(
            "not read: {}: {}",
            unreadable.path.display(),
            unreadable.why
        );
    }
    if common.json {
        return answer(&to_json(report, events, seconds).to_string());
    }
    answer(&format!(
        "{}, {} in {seconds:.1} s: {} created, {} revised, {} unchanged; {} there already byte for byte",
        counted(report.files, "file"),
        counted(report.bytes, "byte"),
        report.created,
        report.revised,
        report.unchanged,
        report.duplicates
    ))?;
    answer(&format!(
        "{}; {} not followed, {} not read, {} known before and gone now; peak memory {} MiB",
        counted(events, "event"),
        counted(report.links, "link"),
        report.unreadable.len(),
        report.gone,
        peak_kib() / 1024
    ))
}

fn to_json(report: &Report, events: u64, seconds: f64) -> Value {
    json!({
        "files": report.files, "created": report.created, "revised": report.revised,
        "unchanged": report.unchanged, "duplicates": report.duplicates, "links": report.links,
        "unreadable": report.unreadable.len(), "gone": report.gone, "bytes": report.bytes,
        "events": events, "seconds": seconds, "peak_memory_kib": peak_kib(),
    })
}

/// The most memory that this process has had resident.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Finds the files of a PATH; gives it, when it is a directory, as it will be known again.
pub(crate) fn walk_root(
    path: &Path,
    files: &mut Vec<Found>,
    report: &mut Report,
) -> anyhow::Result<Option<String>> {
    let failed = || format!("read {}", path.display());
    let metadata = std::fs::metadata(path).with_context(failed)?;
    let whole = std::fs::canonicalize(path).with_context(failed)?;
    if metadata.is_dir() {
        walk(&whole, &whole, files, report)?;
        return Ok(Some(readable(whole.as_os_str())));
    }
    if !metadata.is_file() {
        bail!("{} is neither a file nor a directory", path.display());
    }
    let base = whole.parent().unwrap_or(&whole);
    files.push(found(&whole, base, metadata.len()));
    Ok(None)
}

/// All files below a directory, in the order of their names.
fn walk(
    dir: &Path,
    root: &Path,
    files: &mut Vec<Found>,
    report: &mut Report,
) -> Result<(), Interrupted> {
    interrupt::check()?;
    let listed = match std::fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) => {
            report.unreadable(dir, &error);
            return Ok(());
        }
    };
    let mut entries = Vec::new();
    for entry in listed {
        match entry {
            Ok(entry) => entries.push(entry.path()),
            Err(error) => report.unreadable(dir, &error),
        }
    }
    entries.sort();
    for path in entries {
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => report.links += 1,
            Ok(metadata) if metadata.is_dir() => walk(&path, root, files, report)?,
            Ok(metadata) if metadata.is_file() => files.push(found(&path, root, metadata.len())),
            Ok(_) => report.unreadable(&path, &"neither a file nor a directory"),
            Err(error) => report.unreadable(&path, &error),
        }
    }
    Ok(())
}

/// A path as text; percent-encoded where it is none.
fn readable(path: &OsStr) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => percent_encode(path.as_bytes(), ENCODED).to_string(),
    }
}

fn found(path: &Path, root: &Path, bytes: u64) -> Found {
    let below = path.strip_prefix(root).unwrap_or(path);
    let name = readable(path.file_name().unwrap_or(path.as_os_str()));
    Found {
        path: path.to_path_buf(),
        source_root: readable(root.as_os_str()),
        source_path: readable(below.as_os_str()),
        name,
        bytes,
    }
}

/// The media type of a file: by its name, else by what it begins with.
pub(crate) fn media_type(path: &Path) -> anyhow::Result<String> {
    if let Some(known) = mime_guess::from_path(path).first_raw() {
        return Ok(known.to_owned());
    }
    let mut start = Vec::with_capacity(SNIFF_BYTES);
    File::open(path)?
        .take(SNIFF_BYTES as u64)
        .read_to_end(&mut start)?;
    let is_text = !start.contains(&0)
        && match std::str::from_utf8(&start) {
            Ok(_) => true,
            // A character may be cut by the end of what was read.
            Err(error) => error.error_len().is_none() && start.len() == SNIFF_BYTES,
        };
    Ok(if is_text {
        "text/plain"
    } else {
        "application/octet-stream"
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order_and_links_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        std::fs::write(dir.path().join("b/two.txt"), "two").unwrap();
        std::fs::write(dir.path().join("a.md"), "one").unwrap();
        let strange = OsStr::from_bytes(b"caf\xe9.txt");
        std::fs::write(dir.path().join(strange), "three").unwrap();
        std::os::unix::fs::symlink("a.md", dir.path().join("link")).unwrap();
        let (mut files, mut report) = (Vec::new(), Report::default());
        walk_root(dir.path(), &mut files, &mut report).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.source_path.as_str()).collect();
        assert_eq!(paths, ["a.md", "b/two.txt", "caf%E9.txt"]);
        assert_eq!((report.links, report.unreadable.len()), (1, 0));
    }

    #[test]
    fn a_file_is_known_by_its_tree_and_a_moved_tree_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().join("here");
        std::fs::create_dir(&here).unwrap();
        let here = here.display().to_string();
        let file = |root: &str| Found {
            path: PathBuf::from("copyright"),
            source_root: root.to_owned(),
            source_path: "copyright".to_owned(),
            name: "copyright".to_owned(),
            bytes: 0,
        };
        let made = |id: &str, root: Option<&str>| Known {
            id: id.to_owned(),
            digest: String::new(),
            source_root: root.map(str::to_owned),
        };
        let mut known = KnownFiles::default();
        known.add("copyright", made("1", Some(&here)));
        let id = |known: &KnownFiles, root: &str| known.find(&file(root)).map(|k| k.id.clone());
        assert_eq!(id(&known, &here).as_deref(), Some("1"));
        assert_eq!(
            id(&known, "/another"),
            None,
            "the other tree is still there"
        );
        known.add("copyright", made("2", Some("/moved/away")));
        assert_eq!(id(&known, "/another").as_deref(), Some("2"));
        assert_eq!(id(&known, &here).as_deref(), Some("1"));
        known.add("copyright", made("3", Some("/moved/too")));
        assert_eq!(id(&known, "/another"), None, "nobody can tell which");
    }

    #[test]
    fn a_media_type_comes_from_the_name_else_from_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let typed = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            media_type(&path).unwrap()
        };
        assert_eq!(typed("a.html", b""), "text/html");
        assert_eq!(typed("README", "Größe".as_bytes()), "text/plain");
        assert_eq!(typed("data", b"\x00\x01"), "application/octet-stream");
    }
}
