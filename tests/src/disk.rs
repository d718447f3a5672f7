//! A disk so small that a test can fill it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A file system in memory that only those see who entered it; it goes with its last process.
#[derive(Debug)]
pub struct SmallDisk {
    place: TempDir,
    /// Holds the file system while the server is down; ends when its standard input does.
    holder: Child,
    /// How to become root where we are not.
    as_root: Vec<String>,
}

impl SmallDisk {
    /// A disk of so many KiB.
    ///
    /// # Panics
    /// When the system lets nobody make one: it needs root, or user namespaces.
    pub fn of(kib: u32) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let us = std::fs::metadata("/proc/self").expect("a process");
        let is_root = std::os::unix::fs::MetadataExt::uid(&us) == 0;
        let root: &[&str] = if is_root {
            &[]
        } else {
            &["--user", "--map-root-user"]
        };
        let script = r#"mount -t tmpfs -o size="$1k" none "$2" && echo mounted && exec cat"#;
        let mut holder = Command::new("unshare")
            .args(root)
            .args(["--mount", "sh", "-c", script, "sh", &kib.to_string()])
            .arg(place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there");
        let mut told = std::io::BufReader::new(holder.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut told, &mut line).expect("stdout can be read");
        assert_eq!(line, "mounted\n", "no file system could be made");
        let enter_user: &[&str] = if is_root {
            &[]
        } else {
            &["--user", "--preserve-credentials"]
        };
        Self {
            place,
            holder,
            as_root: enter_user.iter().map(ToString::to_string).collect(),
        }
    }

    /// Where the data are, for who is inside.
    pub fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// The command that starts another one inside.
    pub fn entrance(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        let enter = ["nsenter", "--target", &pid, "--mount"];
        let enter = enter.iter().map(ToString::to_string);
        enter.chain(self.as_root.iter().cloned()).collect()
    }

    /// A file on the disk, for who is outside.
    pub fn outside(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        let within = self.place.path().strip_prefix("/").expect("absolute");
        Path::new(&root).join(within).join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
