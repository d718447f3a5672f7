//! Backups of every format that was ever written are restored byte for byte, those of a later one
//! refused (row E5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stemma_tests::{Client, Server};

use crate::backup::{backup_files, done, files, stderr, stemma, text};
use crate::documents::text_of;

/// What was kept of a format: `files`, a backup as it was written; `made.json`, what had been made
/// by then; and `events-TENANT.jsonl`, as `stemma events --json` told them.
fn golden(format: u32) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    dir.join(format!("backup-{format}"))
}

fn json_of(path: &Path) -> Value {
    let bytes = std::fs::read(path).expect("the file is there");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A copy of a target, to be written to.
fn copied(target: &Path, to: &Path) {
    for (name, bytes) in files(target) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
        std::fs::write(path, bytes).expect("it can be written");
    }
}

/// The segments that the parts of a log in a backup make up, by the names of their files.
fn joined(target: &Path, log: &Value) -> BTreeMap<String, Vec<u8>> {
    let segments = log["segments"].as_array().expect("segments").iter();
    let whole = segments.map(|segment| {
        let parts = segment["parts"].as_array().expect("parts").iter();
        let parts = parts.map(|part| std::fs::read(target.join(text_of(&part["name"]))));
        let mut bytes = parts
            .collect::<Result<Vec<_>, _>>()
            .expect("parts")
            .concat();
        if let Some(planned) = segment["planned_bytes"].as_u64() {
            bytes.resize(usize::try_from(planned).expect("it fits"), 0);
        }
        (text_of(&segment["name"]).to_owned(), bytes)
    });
    whole.collect()
}

fn assert_restored(data: &Path, target: &Path) {
    let manifest = json_of(&target.join("manifest.json"));
    let body = &manifest["body"];
    let mut logs = vec![("access".to_owned(), &body["access"])];
    for tenant in body["tenants"].as_array().expect("tenants") {
        logs.push((
            format!("tenants/{}/log", text_of(&tenant["name"])),
            &tenant["log"],
        ));
    }
    assert_eq!(logs.len(), 3);
    for (dir, log) in logs {
        let mut found = files(&data.join(&dir));
        found.retain(|name, _| name.ends_with(".segment"));
        assert!(found == joined(target, log), "{dir} differs");
    }
}

#[tokio::test]
async fn a_backup_that_an_older_release_wrote_comes_back_byte_for_byte_and_is_gone_on_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let (target, data) = (dir.path().join("target"), dir.path().join("data"));
    copied(&golden(1).join("files"), &target);
    done(&data, &["restore", text(&target)]);
    assert_restored(&data, &target);
    for tenant in ["default", "north"] {
        let told = stemma(&data, &["events", "--json", "--tenant", tenant]);
        let golden = golden(1).join(format!("events-{tenant}.jsonl"));
        let golden = std::fs::read(golden).expect("the file is there");
        assert!(
            told.stdout == golden,
            "{}",
            String::from_utf8_lossy(&told.stdout)
        );
    }
    let verified = done(&data, &["verify", "--all-tenants"]);
    assert_eq!(verified["verdict"], "intact", "{verified}");

    let made = json_of(&golden(1).join("made.json"));
    let mut server = Server::builder().data(&data).start();
    for tenant in made["tenants"].as_array().expect("tenants") {
        let client = Client::showing(server.url(), Some(text_of(&tenant["token"])));
        for resource in tenant["resources"].as_array().expect("resources") {
            let path = format!("/api/resources/{}", text_of(&resource["id"]));
            assert_eq!(
                client.get(&path).await.expect(200)["name"],
                resource["name"]
            );
            let content = client.get(&format!("{path}/content")).await;
            assert_eq!(content.text(), text_of(&resource["content"]));
        }
        client
            .create("later", "written by the release after it")
            .await;
    }
    assert_eq!(server.stop(), Some(0));

    // A later release goes on with the backup, and what was there stays as it was.
    let before = backup_files(&target);
    done(&data, &["backup", text(&target)]);
    let mut after = backup_files(&target);
    after.retain(|name, _| before.contains_key(name) && name != "manifest.json");
    assert!(
        before
            .iter()
            .all(|(name, bytes)| name == "manifest.json" || after[name] == *bytes)
    );
    let again = dir.path().join("again");
    done(&again, &["restore", text(&target)]);
    assert_restored(&again, &target);
}

/// Found: `--name` said both which tenant and what it is to be called, so that none of several came
/// in beside the live one of its name.
#[test]
fn a_tenant_of_a_backup_of_several_is_brought_in_under_another_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let (target, data) = (golden(1).join("files"), dir.path().join("data"));
    let import = |more: &[&str]| {
        let args = [&["tenant", "import", text(&target)], more].concat();
        stemma(&data, &args)
    };
    for (more, why) in [
        (
            &["--name", "beside"][..],
            "default, north; --from says which",
        ),
        (&["--from", "south"], "no tenant south, but default, north"),
    ] {
        let refused = import(more);
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
    }
    for more in [
        &["--name", "north"][..],
        &["--from", "north", "--name", "beside"],
        &["--from", "default"],
    ] {
        let told = import(more);
        assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    }
    let events = |tenant| stemma(&data, &["events", "--json", "--tenant", tenant]).stdout;
    assert!(events("beside") == events("north") && events("default") != events("north"));
}

/// Found: it ended with 3, as if the backup were damaged.
#[test]
fn a_backup_of_a_later_format_is_refused_by_its_number_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (target, data) = (dir.path().join("target"), dir.path().join("data"));
    copied(&golden(1).join("files"), &target);
    let known = dir.path().join("known");
    done(&known, &["restore", text(&target)]);
    // Whatever else it has that this release does not know.
    let later = json!({ "format": 2, "parts": [], "body": "elsewhere" });
    let later = later.to_string().into_bytes();
    std::fs::write(target.join("manifest.json"), &later).expect("a manifest");
    let before = backup_files(&target);
    for (data, args) in [
        (&data, ["restore", text(&target)].as_slice()),
        (
            &data,
            &["tenant", "import", text(&target), "--name", "north"],
        ),
        (&known, &["backup", text(&target)]),
    ] {
        let refused = stemma(data, args);
        let told = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{args:?}: {told}");
        assert!(
            told.contains("has format 2; this program knows format 1"),
            "{args:?}: {told}"
        );
    }
    assert!(!data.join("tenants").exists(), "nothing was restored");
    assert!(backup_files(&target) == before, "the target is as it was");
}
