//! Documents that people wrote, as packages bring them: a few hundred of them, PDFs of hundreds of
//! pages among them (rows B1, B2).
//!
//! `cargo xtask install` sees to it that there are enough of each format; what else is installed is
//! read as well. `STEMMA_TEST_FILES_MAX` says how many of each format are read at most.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stemma_tests::{Client, Server, Upload};

use crate::documents::{assert_whole, slice, text_of};

/// Where packages put their documentation.
const DOCUMENTATION: [&str; 3] = [
    "/usr/share/doc",
    "/usr/share/debian-reference",
    "/usr/share/developers-reference",
];
/// Where `cargo xtask install` unpacks others.
const UNPACKED: &str = "target/documents";
/// Most bytes of one file, but of the longest PDFs: the parsers are hardly optimized here.
const FILE_BYTES_MAX: u64 = 400_000;
const PDF_BYTES_MAX: u64 = 2_000_000;
/// A PDF of this many pages is a long one; so many of them there are at least.
const LONG_PAGES: usize = 200;
const LONG_LEAST: usize = 2;
/// Of a hundred words that another reader finds in a PDF, so many are found at least.
const WORDS_LEAST: usize = 90;
/// How long one of the files may take, those before it in the queue included.
const PATIENCE: Duration = Duration::from_mins(5);

/// Files of one format, by how their names end; what is packed is unpacked for the upload.
struct Format {
    endings: &'static [&'static str],
    /// So many must be there.
    least: usize,
    /// So many are read, spread over all that there are.
    most: usize,
}

const FORMATS: [Format; 5] = [
    Format {
        endings: &[".html", ".html.gz"],
        least: 100,
        most: 110,
    },
    Format {
        endings: &[".pdf", ".pdf.gz"],
        least: 12,
        most: 30,
    },
    Format {
        endings: &[".md", ".md.gz", ".markdown"],
        least: 40,
        most: 50,
    },
    Format {
        endings: &[".txt", ".txt.gz"],
        least: 60,
        most: 70,
    },
    Format {
        endings: &[".docx"],
        least: 30,
        most: 50,
    },
];

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

impl Format {
    /// Some of the files of the format.
    fn of(&self, all: &[PathBuf]) -> Vec<PathBuf> {
        let bytes_max = match self.endings[0] {
            ".pdf" => PDF_BYTES_MAX,
            _ => FILE_BYTES_MAX,
        };
        let fits = |path: &&PathBuf| {
            let name = path.to_string_lossy();
            let is_small =
                || std::fs::metadata(path).is_ok_and(|m| (1..bytes_max).contains(&m.len()));
            self.endings.iter().any(|ending| name.ends_with(ending)) && is_small()
        };
        let fitting: Vec<&PathBuf> = all.iter().filter(fits).collect();
        let found = fitting.len();
        let least = self.least;
        assert!(
            found >= least,
            "{found} of {:?}: run cargo xtask install",
            self.endings
        );
        let most = std::env::var("STEMMA_TEST_FILES_MAX");
        let most = most.map_or(self.most, |most| most.parse().expect("a number of files"));
        let chosen = (0..most.min(found)).map(|n| fitting[n * found / most.min(found)]);
        chosen.cloned().collect()
    }
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

/// How often each word stands in a text: letters and digits, as a reader would look for them.
fn words(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let words = text.split(|letter: char| !letter.is_alphanumeric());
    for word in words.filter(|word| word.chars().count() > 3) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts
}

/// Of a hundred words of one text, how many are in another, each as often as it stands there.
fn share(of: &str, there: &str) -> usize {
    let (of, there) = (words(of), words(there));
    let total: usize = of.values().sum();
    let both = of
        .iter()
        .map(|(word, count)| *there.get(word).unwrap_or(&0).min(count));
    both.sum::<usize>() * 100 / total.max(1)
}

/// What another reader finds on the pages of a PDF.
fn read_otherwise(pdf: &[u8]) -> Vec<String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, pdf).expect("a file");
    let read = Command::new("pdftotext")
        .args(["-enc", "UTF-8"])
        .arg(file.path())
        .arg("-")
        .stderr(Stdio::null())
        .output();
    let read = read.expect("pdftotext is missing: cargo xtask install");
    assert!(read.status.success());
    let text = String::from_utf8_lossy(&read.stdout);
    // Each page ends with a form feed.
    let text = text.strip_suffix('\u{c}').unwrap_or(&text);
    text.split('\u{c}').map(str::to_owned).collect()
}

/// Holds a PDF to have its pages, each with its words; gives how many there are, and the least
/// share of words.
async fn assert_pages(client: &Client, id: &str, pdf: &[u8]) -> (usize, usize) {
    let text = client.get(&format!("/api/documents/{id}/text")).await;
    let text: Vec<char> = text.text().chars().collect();
    let structure = client.get(&format!("/api/documents/{id}/structure")).await;
    let structure = structure.expect(200);
    let pages = structure["pages"].as_array().expect("pages");
    let pages: Vec<String> = pages
        .iter()
        .map(|page| slice(&text, &page["start"], &page["end"]))
        .collect();
    let expected = read_otherwise(pdf);
    assert_eq!(pages.len(), expected.len(), "pages of {id}");
    let found = share(&expected.concat(), &pages.concat());
    for (number, (page, expected)) in pages.iter().zip(&expected).enumerate() {
        // A word or two may be a drawing's.
        if words(expected).len() > 20 {
            let found = share(expected, page);
            assert!(found >= 50, "{found}% of page {number}: {page}\n{expected}");
        }
    }
    (pages.len(), found)
}

fn chosen_files() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for place in DOCUMENTATION {
        files_below(Path::new(place), &mut all);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    files_below(&root.expect("the root").join(UNPACKED), &mut all);
    let chosen = FORMATS.iter().map(|format| format.of(&all));
    chosen.collect::<Vec<_>>().concat()
}

#[tokio::test]
#[allow(clippy::print_stderr)] // which files it used
async fn documents_that_people_wrote_are_read_whole_or_refused_with_a_reason() {
    let server = Server::start();
    let client = server.client();
    let mut jobs = Vec::new();
    for path in chosen_files() {
        let upload = upload_of(&path);
        let told = client.upload(&upload).await.expect(202);
        jobs.push((path, upload, told));
    }
    let (mut n_long, mut refused) = (0, Vec::new());
    for (path, upload, told) in &jobs {
        let ended = client
            .ended_within(text_of(&told["job_id"]), PATIENCE)
            .await;
        eprintln!("{}: {}", path.display(), ended["status"]);
        if ended["status"] == "completed" {
            let id = text_of(&told["document_id"]);
            assert_whole(&client, id).await;
            if upload.bytes.starts_with(b"%PDF") {
                let (pages, found) = assert_pages(&client, id, &upload.bytes).await;
                eprintln!("  {pages} pages, {found}% of the words");
                assert!(found >= WORDS_LEAST, "{}: {found}%", path.display());
                n_long += usize::from(pages > LONG_PAGES);
            }
        } else {
            let error = ended["error"].clone();
            let name = path.display();
            assert_eq!(error["transient"], Value::Bool(false), "{name}: {ended}");
            assert_eq!(ended["retry_count"], 0);
            refused.push((path, error));
        }
    }
    let n_completed = jobs.len() - refused.len();
    eprintln!(
        "{n_completed} of {} were read; refused: {refused:#?}",
        jobs.len()
    );
    // A few, such as an empty page, may have nothing to read.
    assert!(n_completed * 10 >= jobs.len() * 9, "{refused:#?}");
    assert!(
        n_long >= LONG_LEAST,
        "{n_long} of more than {LONG_PAGES} pages"
    );
}
