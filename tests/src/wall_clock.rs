//! A wall clock that a test moves under a running server, by the distribution's libfaketime.
//!
//! Invariant: only the wall clock is another; the monotonic one stays the machine's.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Client, ServerBuilder};

/// Where the distribution keeps libraries, each architecture's in a directory of its own.
const LIBRARIES: &str = "/usr/lib";
/// The library, as far as programs with threads need it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const DAY_S: i64 = 86_400;

/// A wall clock for servers under test; it begins with the machine's.
#[derive(Debug)]
pub struct WallClock {
    place: TempDir,
}

impl WallClock {
    /// A clock that shows what the machine's does.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn new() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let clock = Self { place };
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.place.path().join("offset")
    }

    /// Has the clock jump to so many days from the machine's.
    ///
    /// # Panics
    /// When the file that says so cannot be written.
    pub fn set(&self, days: i64) {
        // Always the same number of bytes in one write, so that nobody reads half of it.
        let mut file = OpenOptions::new();
        let file = file.write(true).create(true).truncate(false);
        let mut file = file.open(self.file()).expect("a file");
        let offset = format!("{:+010}\n", days * DAY_S);
        file.write_all(offset.as_bytes()).expect("a file");
    }

    /// Has the clock jump to so many days from the machine's, and waits until the server shows it.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn jump_to(&self, days: i64, client: &Client) {
        self.set(days);
        // The header is made anew twice a second.
        while !client
            .get("/api/health/live")
            .await
            .header("date")
            .starts_with(&date(days))
        {
            tokio::task::yield_now().await;
        }
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The machine's date so many days from now, as HTTP writes it.
fn date(days: i64) -> String {
    let day = format!("{days} days");
    let told = Command::new("date")
        .args(["-u", "-d", &day, "+%a, %d %b %Y"])
        .env("LC_ALL", "C")
        .output()
        .expect("date is there");
    let told = String::from_utf8(told.stdout).expect("ASCII");
    told.trim().to_owned()
}

fn library() -> PathBuf {
    let entries = std::fs::read_dir(LIBRARIES).expect("a directory of libraries");
    let places = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut found = places
        .chain([PathBuf::from(LIBRARIES)])
        .map(|place| place.join(LIBRARY))
        .filter(|library| Path::is_file(library));
    found
        .next()
        .unwrap_or_else(|| panic!("{LIBRARY} is missing: cargo xtask install"))
}

impl ServerBuilder {
    /// Shows the server another wall clock.
    ///
    /// # Panics
    /// When libfaketime is missing.
    #[must_use]
    pub fn by(self, clock: &WallClock) -> Self {
        self.env("LD_PRELOAD", &library().to_string_lossy())
            .env("FAKETIME_TIMESTAMP_FILE", &clock.file().to_string_lossy())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}
