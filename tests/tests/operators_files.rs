//! The files for operators: every metric that they name is exported by the real binary, every alert
//! is described, and the rules say what they are to say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use stemma_tests::Server;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("the workspace's root").to_path_buf()
}

fn file(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of metrics of ours in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut names = BTreeSet::new();
    for word in text.split(|c| !is_part(c)) {
        if word.starts_with("stemma_") {
            names.insert(word.to_owned());
        }
    }
    names
}

/// The expressions of the dashboard, in which labels' values are of no matter.
fn expressions(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "expr" || key == "query" => into.push(text.to_owned()),
                    _ => expressions(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, into)),
        _ => {}
    }
}

#[tokio::test]
async fn every_metric_that_the_files_name_is_exported_with_a_help_text() {
    let server = Server::start();
    let client = server.client();
    client.create("one", "content").await;
    // The graph is opened beside, and tells nothing of itself before.
    client.get("/api/graph/stats").await.expect(200);
    let text = client.get("/metrics").await.text();
    let series: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let dashboard: Value = serde_json::from_str(&file("ops/grafana-dashboard.json")).expect("JSON");
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 40, "{}", asked.len());
    for (place, text) in [
        ("ops/grafana-dashboard.json", asked.join("\n")),
        ("ops/alerts.yaml", file("ops/alerts.yaml")),
        ("docs/operations.md", file("docs/operations.md")),
    ] {
        let names = named(&text);
        assert!(!names.is_empty(), "{place} names no metric");
        for name in names {
            assert!(series.contains(name.as_str()), "{place} names {name}");
        }
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap_or_default();
            let help = format!("# HELP {name} ");
            let help = text.lines().find_map(|line| line.strip_prefix(&help));
            assert!(
                help.is_some_and(|help| help.len() > 5),
                "{name} has no help"
            );
        }
    }
}

#[test]
fn every_alert_is_described_under_a_heading_of_its_own() {
    let rules = file("ops/alerts.yaml");
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: BTreeSet<&str> = alerts.collect();
    let page = file("docs/operations.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    let headings: BTreeSet<&str> = headings.filter(|name| name.starts_with("Stemma")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(alerts, headings);
}

#[test]
fn prometheus_takes_the_rules_and_they_say_what_they_are_to_say() {
    for args in [
        ["check", "rules", "ops/alerts.yaml"],
        ["test", "rules", "ops/alerts-test.yaml"],
    ] {
        let own = root().join("target/prometheus/usr/bin/promtool");
        let promtool = if own.is_file() {
            own
        } else {
            "promtool".into()
        };
        let output = Command::new(promtool)
            .args(args)
            .current_dir(root())
            .output();
        let output = output.expect("promtool is there: cargo xtask install");
        let told = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&told)
        );
    }
}

/// What a unit or an image says under a name.
fn said<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .collect()
}

#[test]
fn the_service_and_the_container_run_as_nobody_who_may_do_more() {
    let unit = file("ops/stemma.service");
    assert_eq!(said(&unit, "NoNewPrivileges="), ["yes"]);
    assert_eq!(said(&unit, "CapabilityBoundingSet="), [""]);
    assert_eq!(said(&unit, "ProtectSystem="), ["strict"]);
    let image = file("ops/Containerfile");
    assert_eq!(said(&image, "USER "), ["65532:65532"]);
    // All of the sources is copied in, and nothing of what was built of them here.
    let left_out = file(".dockerignore");
    assert!(
        left_out.lines().any(|line| line == "**/target"),
        "{left_out}"
    );
    // Both start what there is: the options are of the command line.
    for text in said(&unit, "ExecStart=")
        .into_iter()
        .chain(said(&image, "CMD "))
    {
        assert!(text.contains("--log-format"), "{text}");
    }
    let help = stemma_tests::run(&["serve", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    assert!(
        help.contains("--log-format") && help.contains("--listen"),
        "{help}"
    );
}
