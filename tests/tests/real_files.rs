//! Documents that people wrote, as the distribution's packages bring them (rows B1, B2).
//!
//! `cargo xtask install` sees to it that there are some of each format; what else is installed is
//! read as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use stemma_tests::{Server, Upload};

use crate::documents::{assert_whole, text_of};

/// Where packages put their documentation.
const DOCUMENTATION: &str = "/usr/share/doc";
/// Most files of one format, and most bytes of one file: the parsers are not optimized here.
const FILES_MAX: usize = 60;
const FILE_BYTES_MAX: u64 = 500_000;
/// Least files of each format that must be there, by how their names end; what is packed is
/// unpacked for the upload.
const WANTED: [(&str, usize); 4] = [(".html", 20), (".pdf.gz", 2), (".pdf", 0), (".txt", 3)];

/// Every file below a directory that is not reached by a link, in order.
fn files_below(place: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(place) else {
        return;
    };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

/// Files of a format, spread over all that there are.
fn files_of(all: &[PathBuf], ending: &str) -> Vec<PathBuf> {
    let fits = |path: &&PathBuf| {
        let is_small =
            || std::fs::metadata(path).is_ok_and(|m| (1..FILE_BYTES_MAX).contains(&m.len()));
        path.to_string_lossy().ends_with(ending) && is_small()
    };
    let fitting: Vec<&PathBuf> = all.iter().filter(fits).collect();
    let step = fitting.len() / FILES_MAX + 1;
    fitting.into_iter().step_by(step).cloned().collect()
}

/// The file as an upload.
fn upload_of(path: &Path) -> Upload {
    let name = path.file_name().expect("a name").to_string_lossy();
    let Some(name) = name.strip_suffix(".gz") else {
        return Upload::of(&name, std::fs::read(path).expect("it is readable"));
    };
    let unpacked = Command::new("gzip").arg("-dc").arg(path).output();
    let unpacked = unpacked.expect("gzip is there");
    assert!(unpacked.status.success(), "{}", path.display());
    Upload::of(name, unpacked.stdout)
}

#[tokio::test]
#[allow(clippy::print_stderr)] // which files it used
async fn documents_that_people_wrote_are_read_whole_or_refused_with_a_reason() {
    let mut all = Vec::new();
    files_below(Path::new(DOCUMENTATION), &mut all);
    let mut chosen = Vec::new();
    for (ending, least) in WANTED {
        let files = files_of(&all, ending);
        let count = files.len();
        assert!(
            count >= least,
            "{count} of {ending}: run cargo xtask install"
        );
        chosen.extend(files);
    }
    let server = Server::start();
    let client = server.client();
    let mut jobs = Vec::new();
    for path in chosen {
        let told = client.upload(&upload_of(&path)).await.expect(202);
        jobs.push((path, told));
    }
    let (mut n_completed, mut refused) = (0, Vec::new());
    for (path, told) in &jobs {
        let job = client.ended(text_of(&told["job_id"])).await;
        eprintln!("{}: {}", path.display(), job["status"]);
        if job["status"] == "completed" {
            assert_whole(&client, text_of(&told["document_id"])).await;
            n_completed += 1;
        } else {
            let error = job["error"].clone();
            assert_eq!(
                error["transient"],
                Value::Bool(false),
                "{}: {job}",
                path.display()
            );
            assert_eq!(job["retry_count"], 0);
            refused.push((path, error));
        }
    }
    eprintln!(
        "{n_completed} of {} were read; refused: {refused:#?}",
        jobs.len()
    );
    // A few, such as an empty page, may have nothing to read.
    assert!(n_completed * 10 >= jobs.len() * 9, "{refused:#?}");
}
