//! The house rules that no compiler checks.
//!
//! Each rule gives sentences that say what is wrong and where; all of them are printed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::run::{command, root};

/// Longest source file that no question is asked about.
const FILE_LINES_MAX: usize = 700;

/// Words that the glossary bans from public names, each with the word to use.
const BANNED: &[(&str, &str)] = &[
    ("manager", "name what it does"),
    ("helper", "name what it does"),
    ("utils", "name what it does"),
    ("misc", "name what it does"),
    ("lsn", "position"),
    ("bookmark", "checkpoint"),
    ("materialization", "view"),
    ("poison_pill", "quarantine"),
];

/// Runs every rule.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut wrong = crate_table()?;
    for file in sources()? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file
            .strip_prefix(root())
            .unwrap_or(&file)
            .display()
            .to_string();
        wrong.extend(header(&name, &text));
        wrong.extend(length(&name, &text));
        wrong.extend(glossary(&name, &text));
    }
    wrong.extend(documents()?);
    wrong.extend(damage_kinds()?);
    if !wrong.is_empty() {
        bail!("tidy:\n  {}", wrong.join("\n  "));
    }
    eprintln!("tidy: the house rules hold");
    Ok(())
}

/// Every kind of damage has its row in docs/damage.md.
fn damage_kinds() -> anyhow::Result<Vec<String>> {
    let document = fs::read_to_string(root().join("docs/damage.md")).context("docs/damage.md")?;
    let mut wrong = Vec::new();
    for (part, file) in [
        ("log", "event-log/src/error.rs"),
        ("content", "content-store/src/damage.rs"),
    ] {
        let source = fs::read_to_string(root().join(file)).context(file)?;
        let arms = source.split("impl DamageKind").nth(1).unwrap_or_default();
        let kinds: Vec<&str> = arms
            .lines()
            .filter_map(|line| line.split_once("=> \"")?.1.split('"').next())
            .collect();
        let section = document.split(&format!("\n## {part}\n")).nth(1);
        let section = section.and_then(|text| text.split("\n## ").next());
        let section = section.unwrap_or_default();
        let is_missing = |kind: &&&str| !section.contains(&format!("\n| `{kind}` |"));
        wrong.extend(
            kinds
                .iter()
                .filter(is_missing)
                .map(|kind| format!("docs/damage.md: no row for `{kind}` of {part} ({file})")),
        );
        if kinds.len() < 10 {
            wrong.push(format!(
                "{file}: the names of the kinds are no longer found"
            ));
        }
    }
    Ok(wrong)
}

/// The table of crates in ARCHITECTURE.md against what the manifests say.
fn crate_table() -> anyhow::Result<Vec<String>> {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let allowed = allowed_dependencies(&document);
    let metadata = Metadata::read()?;
    let members: BTreeSet<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = short(&package.name);
        let Some(may_use) = allowed.get(name) else {
            wrong.push(format!(
                "{name} is missing from the crate table of ARCHITECTURE.md"
            ));
            continue;
        };
        let used = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.is_none())
            .filter(|dependency| members.contains(dependency.name.as_str()));
        for dependency in used {
            let dependency = short(&dependency.name);
            if !may_use.contains("all") && !may_use.contains(dependency) {
                wrong.push(format!(
                    "{name} uses {dependency}, which the crate table does not allow"
                ));
            }
        }
    }
    Ok(wrong)
}

/// What `cargo metadata` tells of our crates, as far as it is looked at here. The crate that reads all
/// of it asks a feature of serde_json, with which everything would be compiled a second time.
#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(serde::Deserialize)]
struct Dependency {
    name: String,
    /// None of one that is neither for tests alone nor for building.
    kind: Option<String>,
}

impl Metadata {
    fn read() -> anyhow::Result<Self> {
        let arguments = ["metadata", "--no-deps", "--format-version", "1"];
        let output = command("cargo", &arguments).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "cargo metadata:\n{told}");
        serde_json::from_slice(&output.stdout).context("read what cargo metadata says")
    }
}

fn short(package: &str) -> &str {
    package.strip_prefix("stemma-").unwrap_or(package)
}

/// Reads rows such as ``| `views/` | owns | domain, event-log | must never |``.
fn allowed_dependencies(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = document.lines().filter_map(|line| {
        let cells: Vec<&str> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let [name, _, may_use, ..] = cells.as_slice() else {
            return None;
        };
        let name = name.strip_prefix('`')?.strip_suffix("/`")?;
        let plain = |text: &str| text.split('(').next().unwrap_or_default().trim().to_owned();
        Some((name.to_owned(), may_use.split(',').map(plain).collect()))
    });
    rows.collect()
}

/// All Rust sources that git knows or would take.
fn sources() -> anyhow::Result<Vec<PathBuf>> {
    let listed = command("git", &["ls-files", "-co", "--exclude-standard", "*.rs"]).output()?;
    let files = String::from_utf8(listed.stdout)?;
    let files = files.lines().map(|line| root().join(line));
    Ok(files.filter(|file| file.is_file()).collect())
}

fn header(name: &str, text: &str) -> Option<String> {
    let starts = text
        .lines()
        .find(|line| !line.starts_with("#!"))
        .unwrap_or_default();
    (!starts.starts_with("//!")).then(|| format!("{name}: must open with a `//!` header"))
}

fn length(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > FILE_LINES_MAX).then(|| {
        format!(
            "{name}: {lines} lines; a file that answers one question has at most {FILE_LINES_MAX}"
        )
    })
}

fn glossary(name: &str, text: &str) -> Vec<String> {
    let declares = |line: &&str| {
        let line = line.trim_start();
        [
            "pub fn ",
            "pub struct ",
            "pub enum ",
            "pub trait ",
            "pub mod ",
            "pub const ",
            "pub async fn ",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| declares(line)) {
        let public = line
            .split(['(', '{', '=', ';'])
            .next()
            .unwrap_or_default()
            .to_lowercase();
        for (word, instead) in BANNED {
            if public.contains(word) {
                let line = index + 1;
                wrong.push(format!(
                    "{name}:{line}: `{word}` in a public name; {instead}"
                ));
            }
        }
    }
    wrong
}

/// Links between documents lead somewhere, and each document has one title.
fn documents() -> anyhow::Result<Vec<String>> {
    let listed = command("git", &["ls-files", "-co", "--exclude-standard", "*.md"]).output()?;
    let mut wrong = Vec::new();
    for name in String::from_utf8(listed.stdout)?.lines() {
        if name.starts_with("stemma/demo/") {
            continue;
        }
        let file = root().join(name);
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        wrong.extend(titles(name, &text));
        wrong.extend(dead_links(name, &file, &text));
    }
    Ok(wrong)
}

fn titles(name: &str, text: &str) -> Option<String> {
    let mut in_code = false;
    let mut titles = 0;
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        titles += usize::from(!in_code && line.starts_with("# "));
    }
    (titles != 1).then(|| format!("{name}: has {titles} titles (`# …`), not one"))
}

fn dead_links(name: &str, file: &Path, text: &str) -> Vec<String> {
    let folder = file.parent().unwrap_or(file);
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty() && !folder.join(target).exists())
        .map(|target| format!("{name}: links to {target}, which is not there"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_table_is_read_from_its_rows() {
        let table = "| crate | owns | may use | never |\n|---|---|---|---|\n| `a/` | x | b, c (read) | y |\n";
        let allowed = allowed_dependencies(table);
        assert_eq!(
            allowed["a"],
            BTreeSet::from(["b".to_owned(), "c".to_owned()])
        );
        assert_eq!(allowed.len(), 1);
    }

    #[test]
    fn a_banned_word_is_found_in_public_names_only() {
        assert_eq!(
            glossary(
                "f",
                "pub struct ViewManager {\n// a manager\nfn manager() {}"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_source_without_a_header_is_found() {
        assert!(header("f", "#![allow(x)]\n//! Says what.\n").is_none());
        assert!(header("f", "use x;\n").is_some());
    }
}
