//! Backups and restores that are killed or run out of room: what was good stays good (row E5).

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use stemma_tests::{SmallDisk, binary, command};

use crate::backup::{
    backup_files, done, files, stderr, stemma, text, with_small_segments, written,
};

/// How long a command may take to come to where it is to be killed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Starts a command and kills it once `is_there` says so, if it has not ended by then.
fn killed(data: &Path, args: &[&str], mut is_there: impl FnMut() -> bool) -> bool {
    let mut command = command(args);
    command
        .arg("--data")
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child: Child = command.spawn().expect("the binary starts");
    let begun = Instant::now();
    let has_ended = loop {
        if child.try_wait().expect("the process is ours").is_some() {
            break true;
        }
        if is_there() {
            break false;
        }
        assert!(begun.elapsed() < PATIENCE, "it never came there");
        std::thread::yield_now();
    };
    // One that has just ended is killed in vain.
    let _ = child.kill();
    child.wait().expect("the process is ours");
    !has_ended
}

fn bytes_of(dir: &Path) -> usize {
    files(dir).values().map(Vec::len).sum()
}

#[tokio::test]
async fn a_backup_that_is_killed_leaves_the_one_before_it_and_the_next_goes_on() {
    let mut server = written(20).await;
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("target");
    let first = done(server.data(), &["backup", text(&target)]);
    server.start_again();
    for number in 0..300 {
        let content = format!("later {number} ").repeat(300);
        server.client().create("later", &content).await;
    }
    assert_eq!(server.stop(), Some(0));
    let before = bytes_of(&target);
    let whole = dir.path().join("whole");
    let all = done(server.data(), &["backup", text(&whole)]);
    let new = bytes_of(&whole) - before;
    let mut n_killed = 0;
    // Places all over what is to be copied, at its very beginning and at its very end too.
    for permille in [0, 1, 50, 130, 290, 410, 560, 670, 780, 890, 960, 999] {
        let place = before + new * permille / 1000;
        let is_there = || bytes_of(&target) >= place;
        n_killed += usize::from(killed(server.data(), &["backup", text(&target)], is_there));
        let restored = dir.path().join(format!("restored-{permille}"));
        let found = done(&restored, &["restore", text(&target)]);
        let root = &found["tenants"][0]["root"];
        let is_one = [&first, &all]
            .iter()
            .any(|made| made["tenants"][0]["root"] == *root);
        assert!(is_one, "{found}");
        done(&restored, &["verify"]);
    }
    assert!(n_killed > 4, "{n_killed} were killed");
    done(server.data(), &["backup", text(&target)]);
    // Nothing is left of those that were killed.
    let left = files(&target);
    let left = left
        .keys()
        .find(|name| Path::new(name).extension().is_some_and(|e| e == "new"));
    assert_eq!(left, None);
    let restored = dir.path().join("restored");
    let found = done(&restored, &["restore", text(&target)]);
    assert_eq!(found["tenants"], all["tenants"]);
}

#[tokio::test]
async fn a_target_that_is_full_leaves_the_backup_before_and_takes_the_next_once_there_is_room() {
    let mut server = written(20).await;
    let disk = SmallDisk::of(2048);
    let target = disk.data();
    let data = server.data().to_path_buf();
    let backup = || {
        let (program, args) = (disk.entrance(), ["backup", text(&target), "--json"]);
        let mut command = std::process::Command::new(&program[0]);
        command.args(&program[1..]).arg(binary()).args(args);
        command.env_remove("STEMMA_SERVER").arg("--data").arg(&data);
        command.output().expect("it runs")
    };
    let made = backup();
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let seen = disk.outside("data");
    let before = backup_files(&seen);
    server.start_again();
    for number in 0..40 {
        let content = format!("later {number} ").repeat(8000);
        server.client().create("later", &content).await;
    }
    let refused = backup();
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("No space left"),
        "{}",
        stderr(&refused)
    );
    let after = backup_files(&seen);
    for (name, bytes) in &before {
        assert!(after.get(name) == Some(bytes), "{name} was changed");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let restored = dir.path().join("restored");
    done(&restored, &["restore", text(&seen)]);
    assert_eq!(done(&restored, &["verify"])["events"], 21);
    let larger = std::process::Command::new(&disk.entrance()[0])
        .args(&disk.entrance()[1..])
        .args(["mount", "-o", "remount,size=65536k"])
        .arg(target.parent().expect("a mount"))
        .output()
        .expect("mount is there");
    assert!(larger.status.success(), "{}", stderr(&larger));
    let made = backup();
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let restored = dir.path().join("later");
    done(&restored, &["restore", text(&seen)]);
    assert_eq!(done(&restored, &["verify"])["events"], 61);
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_nothing_that_is_taken_for_data() {
    let mut server = written(200).await;
    crate::access::create_token(server.data(), "admin", &[]);
    server.start_again();
    assert_eq!(server.stop(), Some(0));
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("target");
    let made = done(server.data(), &["backup", text(&target)]);
    let (whole, restored) = (dir.path().join("whole"), dir.path().join("restored"));
    done(&whole, &["restore", text(&target)]);
    let all = files(&whole).len();
    let mut n_killed = 0;
    for permille in [0, 1, 100, 250, 400, 550, 700, 850, 990] {
        let is_there = || restored.exists() && files(&restored).len() >= all * permille / 1000;
        if !killed(&restored, &["restore", text(&target)], is_there) {
            assert!(restored.join("tenants").is_dir());
            std::fs::remove_dir_all(&restored).expect("the directory is ours");
            continue;
        }
        n_killed += 1;
        if restored.join("tenants").is_dir() {
            done(&restored, &["verify"]);
            std::fs::remove_dir_all(&restored).expect("the directory is ours");
            continue;
        }
        if !restored.join(".restoring").is_dir() {
            continue;
        }
        for args in [
            &["serve", "--listen", "127.0.0.1:0"][..],
            &["verify"],
            &["token", "list"],
            &["tenant", "list"],
            &["backup", text(&target)],
        ] {
            let output = stemma(&restored, args);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{args:?}: {}",
                stderr(&output)
            );
            assert!(
                stderr(&output).contains("broken off"),
                "{}",
                stderr(&output)
            );
        }
    }
    assert!(n_killed > 2, "{n_killed} were killed");
    if restored.exists() {
        done(&restored, &["restore", text(&target)]);
    }
    let found = done(&whole, &["verify"]);
    assert_eq!(found["root"], made["tenants"][0]["root"]);
    // What is there is not restored over.
    let output = stemma(&whole, &["restore", text(&target)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("is not empty"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn an_import_that_is_killed_is_no_tenant_and_is_done_again() {
    let server = written(200).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (target, data) = (dir.path().join("target"), dir.path().join("data"));
    done(
        server.data(),
        &["tenant", "export", "default", text(&target)],
    );
    let running = with_small_segments().data(&data).start();
    let names = || async {
        let all = running.client().get("/api/admin/tenants").await.expect(200);
        all["items"].as_array().expect("a list").len()
    };
    let staging = data.join("tenants/.importing-moved");
    let import = ["tenant", "import", text(&target), "--name", "moved"];
    let mut n_killed = 0;
    for n_files in [1, 5, 12, 20] {
        let is_there = || files(&staging).len() >= n_files;
        if !killed(&data, &import, is_there) {
            break;
        }
        if data.join("tenants/moved").exists() {
            break;
        }
        n_killed += 1;
        assert_eq!(names().await, 1);
    }
    assert!(n_killed > 0, "it was never killed half-way");
    if !data.join("tenants/moved").exists() {
        done(&data, &import);
    }
    assert_eq!(names().await, 2);
    assert!(!staging.exists());
    drop(running);
    assert_eq!(done(&data, &["verify", "--tenant", "moved"])["events"], 201);
}
