//! What the tests need beyond Rust and a C compiler, installed when it is missing.
//!
//! Only the distribution's package manager and the language registries are used.

use std::path::Path;

use anyhow::bail;

use crate::run::{command, is_there, root, run, succeeds};

/// Programs from the distribution: the program, how it is probed, its package.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("chromium", "--version", "chromium"),
    ("node", "--version", "nodejs"),
    ("npm", "--version", "npm"),
    ("curl", "--version", "curl"),
    ("go", "version", "golang-go"),
    ("python3", "--version", "python3"),
    ("javac", "--version", "default-jdk-headless"),
    ("mvn", "--version", "maven"),
    ("faketime", "--version", "faketime"),
    ("pdftotext", "-v", "poppler-utils"),
    ("valgrind", "--version", "valgrind"),
];

/// Documents that people wrote, some 20 MB of packages: a file of each package, and the package.
const DOCUMENTS: &[(&str, &str)] = &[
    ("/usr/share/doc/autoconf/autoconf.pdf.gz", "autoconf-doc"),
    ("/usr/share/doc/bash/bashref.pdf", "bash-doc"),
    ("/usr/share/doc/bzip2/manual.pdf.gz", "bzip2-doc"),
    ("/usr/share/doc/ddd/ddd.pdf.gz", "ddd-doc"),
    (
        "/usr/share/doc/debian/FAQ/debian-faq.en.pdf.gz",
        "debian-faq",
    ),
    (
        "/usr/share/doc/debian-policy/policy.pdf.gz",
        "debian-policy",
    ),
    (
        "/usr/share/debian-reference/debian-reference.en.pdf",
        "debian-reference-en",
    ),
    (
        "/usr/share/developers-reference/developers-reference.pdf",
        "developers-reference",
    ),
    ("/usr/share/doc/flex-doc/flex.pdf.gz", "flex-doc"),
    ("/usr/share/doc/git-doc/git.html", "git-doc"),
    ("/usr/share/doc/glpk-doc/glpk.pdf", "glpk-doc"),
    ("/usr/share/doc/nodejs/api/fs.md.gz", "nodejs-doc"),
];
/// What holds documents that a word processor wrote, which the distribution has none of: the tests
/// of a library that reads them.
const WORD_DOCUMENTS: (&str, &str) = ("python-docx", "1.2.0");

/// Installs what is missing.
pub(crate) fn run_all() -> anyhow::Result<()> {
    let mut missing = missing_programs();
    // Some distributions have Python without what makes environments.
    if !succeeds("python3", &["-c", "import ensurepip, venv"]) {
        missing.push("python3-venv");
    }
    let absent = DOCUMENTS
        .iter()
        .filter(|(file, _)| !Path::new(file).exists());
    missing.extend(absent.map(|(_, package)| *package));
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    // A package may have replaced a program that came from elsewhere, as that of Node's
    // documentation does with another distributor's Node.
    let replaced = missing_programs();
    if !replaced.is_empty() {
        install_packages(&replaced)?;
    }
    install_python("schemathesis")?;
    install_python("moto")?;
    install_promtool()?;
    install_word_documents()?;
    install_neo4j()?;
    if !is_there("cargo-deny", "--version") {
        run(command("cargo", &["install", "--locked", "cargo-deny"]))?;
    }
    run(command(
        "npm",
        &[
            "ci",
            "--loglevel=error",
            "--no-audit",
            "--no-fund",
            "--prefix",
            "tests/browser",
        ],
    ))
}

/// The packages of programs that are not there.
fn missing_programs() -> Vec<&'static str> {
    let missing = PACKAGES
        .iter()
        .filter(|(program, probe, _)| !is_there(program, probe));
    missing.map(|(_, _, package)| *package).collect()
}

/// Into an environment of its own below `target/`, as the versions in the repository say.
fn install_python(name: &str) -> anyhow::Result<()> {
    let place = root().join("target").join(name);
    let python = place.join("bin/python");
    let (place, python) = (place.to_string_lossy(), python.to_string_lossy());
    // Asking for the environment's own pip tells whether the package of the distribution is whole.
    if !is_there(&python, "--version") {
        run(command("python3", &["-m", "venv", &place]))?;
    }
    let wanted = format!("tests/{name}/requirements.txt");
    run(command(
        &python,
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            &wanted,
        ],
    ))
}

/// What checks alert rules, out of the distribution's package of Prometheus below `target/`: the
/// package itself would start a server.
fn install_promtool() -> anyhow::Result<()> {
    let place = root().join("target/prometheus");
    if is_there("promtool", "--version") || place.join("usr/bin/promtool").is_file() {
        return Ok(());
    }
    if !is_there("apt-get", "--version") {
        bail!("install promtool, of Prometheus, with your package manager, then run this again");
    }
    std::fs::create_dir_all(&place)?;
    let mut download = command("apt-get", &["download", "-qq", "prometheus"]);
    download.current_dir(&place);
    run(download)?;
    for entry in std::fs::read_dir(&place)? {
        let file = entry?.path();
        if file.extension().is_some_and(|end| end == "deb") {
            let (file, place) = (file.to_string_lossy(), place.to_string_lossy());
            run(command("dpkg-deb", &["-x", &file, &place]))?;
        }
    }
    Ok(())
}

/// The source of the library, for the documents in it, unpacked below `target/documents`.
fn install_word_documents() -> anyhow::Result<()> {
    let (name, version) = WORD_DOCUMENTS;
    let place = root().join("target/documents");
    let unpacked = place.join(format!("python_docx-{version}"));
    // The last file of it: what was broken off is begun again.
    if unpacked.join("tox.ini").is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(&place)?;
    let python = root().join("target/schemathesis/bin/python");
    let (python, place) = (python.to_string_lossy(), place.to_string_lossy());
    let wanted = format!("{name}=={version}");
    run(command(
        &python,
        &[
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-binary",
            name,
            "--dest",
            &place,
            &wanted,
        ],
    ))?;
    let source = format!("{}.tar.gz", unpacked.display());
    run(command("tar", &["-xzf", &source, "-C", &place]))
}

/// The parts of a Neo4j server, as its makers publish them, below `target/`.
fn install_neo4j() -> anyhow::Result<()> {
    let wanted = std::fs::read(root().join("tests/neo4j/pom.xml"))?;
    let place = root().join("target/neo4j");
    let (library, whole) = (place.join("lib"), place.join("pom.xml"));
    if std::fs::read(&whole).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    let output = format!("-DoutputDirectory={}", library.display());
    run(command(
        "mvn",
        &[
            "--quiet",
            "--batch-mode",
            "--file",
            "tests/neo4j/pom.xml",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            &output,
        ],
    ))?;
    // Written last: what was broken off is begun again.
    Ok(std::fs::write(whole, wanted)?)
}

fn install_packages(missing: &[&str]) -> anyhow::Result<()> {
    if !is_there("apt-get", "--version") {
        bail!("install these with your package manager, then run this again: {missing:?}");
    }
    // Nobody may be there to answer what a package asks.
    let mut apt_get = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    if is_there("sudo", "--version") {
        apt_get.insert(0, "sudo");
    }
    let run_apt_get = |args: &[&str]| {
        let all = [&apt_get[1..], args].concat();
        run(command(apt_get[0], &all))
    };
    run_apt_get(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    run_apt_get(&[&install, missing].concat())
}
