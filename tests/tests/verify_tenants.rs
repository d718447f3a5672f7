//! `stemma verify` says of which tenant it tells, and looks at all where it is asked to (row A10).

use std::path::Path;

use serde_json::{Value, json};
use stemma_tests::command;

use crate::access::create_token;
use crate::backup::{done, stderr, stemma, text};

/// Changes a byte in the middle of a log's records.
fn flip(log: &Path) {
    let path = log.join(format!("{:020}.segment", 0));
    let mut bytes = std::fs::read(&path).expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("records");
    bytes[end - 40] ^= 1;
    std::fs::write(&path, bytes).expect("the file is ours");
}

fn verdict(found: &Value, name: &str) -> Value {
    let tenants = found["tenants"].as_array().expect("a list");
    let of = tenants.iter().find(|tenant| tenant["tenant"] == name);
    of.expect("a tenant")["verdict"].clone()
}

#[test]
fn one_tenant_is_named_and_all_are_looked_at_where_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("a.txt"));
    std::fs::write(&file, "moons").expect("a file");
    done(&data, &["import", text(&file)]);
    let alone = done(&data, &["verify"]);
    assert_eq!(
        (&alone["tenant"], &alone["notes"]),
        (&json!("default"), &json!([]))
    );
    let none = done(&data, &["verify", "--all-tenants"]);
    assert_eq!(none["tokens"], Value::Null);
    stemma(&data, &["tenant", "create", "empty"]);
    done(&data, &["import", text(&file), "--tenant", "north"]);
    create_token(&data, "operator", &[]);

    // It looked at one tenant and did not say so.
    let one = done(&data, &["verify"]);
    assert_eq!(one["tenant"], "default");
    let note = one["notes"][0].as_str().expect("a note");
    assert!(
        note.contains("default") && note.contains("--all-tenants"),
        "{note}"
    );
    let all = done(&data, &["verify", "--all-tenants"]);
    assert_eq!(all["verdict"], "intact", "{all}");
    for part in [
        verdict(&all, "default"),
        verdict(&all, "north"),
        all["tokens"]["verdict"].clone(),
    ] {
        assert_eq!(part, "intact", "{all}");
    }
    assert_eq!(all["tokens"]["events"], 1);

    flip(&data.join("tenants/north/log"));
    done(&data, &["verify"]);
    let found = stemma(&data, &["verify", "--all-tenants", "--json"]);
    assert_eq!(found.status.code(), Some(3), "{}", stderr(&found));
    let found: Value = serde_json::from_slice(&found.stdout).expect("one object");
    assert_eq!(
        (&verdict(&found, "north"), &found["verdict"]),
        (&json!("damaged"), &json!("damaged"))
    );
    assert_eq!(verdict(&found, "default"), "intact", "{found}");
    let told = stemma(&data, &["verify", "--all-tenants"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for line in [
        "intact: tenant default, ",
        "damaged: tenant north, ",
        "intact: tokens, ",
    ] {
        assert!(told.contains(line), "{told}");
    }
    // Of each damage the place, and what is wrong there.
    let is_placed = |line: &str| line.starts_with("damaged: log/") && line.contains("): ");
    assert!(told.lines().any(is_placed), "{told}");

    flip(&data.join("tenants/north/log"));
    flip(&data.join("access"));
    let found = stemma(&data, &["verify", "--all-tenants", "--json"]);
    assert_eq!(found.status.code(), Some(3), "{}", stderr(&found));
    let found: Value = serde_json::from_slice(&found.stdout).expect("one object");
    assert_eq!(found["tokens"]["verdict"], "damaged", "{found}");
    assert_eq!(found["tokens"]["damage"][0]["part"], "access", "{found}");
    assert_eq!(verdict(&found, "north"), "intact", "{found}");

    flip(&data.join("access"));
    done(&data, &["verify", "--all-tenants"]);
    // It was passed over as one that was made and never opened.
    std::fs::remove_dir_all(data.join("tenants/north/log")).expect("the directory is ours");
    let found = stemma(&data, &["verify", "--all-tenants", "--json"]);
    assert_eq!(found.status.code(), Some(3), "{}", stderr(&found));
    let found: Value = serde_json::from_slice(&found.stdout).expect("one object");
    assert_eq!(verdict(&found, "north"), "damaged", "{found}");
    assert_eq!(verdict(&found, "default"), "intact", "{found}");
}

/// A tenant that was made and never written to was passed over, as if there were none.
#[test]
fn a_tenant_without_a_log_is_named_and_has_no_verdict() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("a.txt"));
    std::fs::write(&file, "moons").expect("a file");
    done(&data, &["import", text(&file)]);
    done(&data, &["tenant", "create", "north"]);
    let all = done(&data, &["verify", "--all-tenants"]);
    assert_eq!(all["verdict"], "intact", "{all}");
    assert_eq!(all["not_verified"], json!([]), "{all}");
    assert_eq!(verdict(&all, "default"), "intact", "{all}");
    assert_eq!(verdict(&all, "north"), Value::Null, "{all}");
    let north = &all["tenants"][1];
    let told = (&north["events"], &north["root"], &north["damage"]);
    assert_eq!(told, (&json!(0), &Value::Null, &json!([])), "{all}");
    let note = north["notes"][0].as_str().expect("a note");
    assert!(note.contains("its directory is empty"), "{note}");
    let told = stemma(&data, &["verify", "--all-tenants"]);
    assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let line = format!("no log: tenant north, {note}");
    assert_eq!(told.lines().nth(1), Some(&*line), "{told}");
}

/// Whoever read the first line was told of another tenant, and not whether this one is intact.
#[test]
fn the_verdict_comes_first_and_what_it_rests_on_behind_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("a.txt"));
    std::fs::write(&file, "moons").expect("a file");
    done(&data, &["import", text(&file)]);
    done(&data, &["tenant", "create", "north"]);
    let lines = || {
        let told = stemma(&data, &["verify"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let begin = |lines: &[String], expected: &[&str]| {
        let fits = lines.iter().zip(expected).all(|(l, e)| l.starts_with(e));
        assert!(fits && lines.len() == expected.len(), "{lines:?}");
    };
    let note = "note: only the tenant default was looked at";
    begin(&lines(), &["intact: tenant default, ", note]);
    flip(&data.join("tenants/default/log"));
    let told = lines();
    let behind = ["note: views and graph were left out", note];
    let expected = ["damaged: tenant default, ", "damaged: log/"];
    begin(&told[..2], &expected);
    begin(&told[told.len() - 2..], &behind);
}

/// `stemma verify | head -1` told a script that all is well.
#[test]
fn damage_is_told_by_the_status_though_nobody_reads_what_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("a.txt"));
    std::fs::write(&file, "moons").expect("a file");
    done(&data, &["import", text(&file)]);
    let status_of = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = command(args);
        let command = command.arg("--data").arg(&data).stdout(writer);
        command.status().expect("it runs").code()
    };
    let all = [
        &["verify"][..],
        &["verify", "--json"],
        &["verify", "--all-tenants"],
        &["verify", "--all-tenants", "--json"],
        &["verify", "--position", "0"],
    ];
    for args in all {
        assert_eq!(status_of(args), Some(0), "{args:?}");
    }
    flip(&data.join("tenants/default/log"));
    for args in all {
        assert_eq!(status_of(args), Some(3), "{args:?}");
    }
    assert_eq!(status_of(&["events"]), Some(3));
    flip(&data.join("tenants/default/log"));
    assert_eq!(status_of(&["events"]), Some(0));
}

/// A log that is gone was "no data" to whoever asked for its tenant alone; a copy of a tenant that
/// was never written to, whose directory has a lock, was damaged.
#[test]
fn files_without_a_log_are_damage_and_a_lock_alone_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("a.txt"));
    std::fs::write(&file, "moons").expect("a file");
    done(&data, &["import", text(&file)]);
    done(&data, &["tenant", "create", "north"]);
    std::fs::write(data.join("tenants/north/lock"), "").expect("a file");
    std::fs::write(data.join("tenants/north/.DS_Store"), "").expect("a file");
    let all = done(&data, &["verify", "--all-tenants"]);
    assert_eq!(verdict(&all, "north"), Value::Null, "{all}");
    let none = stemma(&data, &["verify", "--tenant", "north"]);
    assert_eq!(none.status.code(), Some(1), "{}", stderr(&none));
    std::fs::remove_dir_all(data.join("tenants/default/log")).expect("the directory is ours");
    let found = stemma(&data, &["verify", "--json"]);
    assert_eq!(found.status.code(), Some(3), "{}", stderr(&found));
    let found: Value = serde_json::from_slice(&found.stdout).expect("one object");
    assert_eq!(found["damage"][0]["part"], "log", "{found}");
    assert_eq!(found["damage"][0]["kind"], "missing", "{found}");
}
