//! Commands tell where they work, and refuse what is no data (rows A9, E5).

use stemma_tests::{Server, command, run};

use crate::backup::{stderr, text};

/// Whoever had named a server for all commands had data made, or looked for, in the directory where
/// they stood, and was told that all is well.
#[test]
fn what_works_on_a_directory_is_not_begun_where_only_a_server_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for args in [
        &["verify"][..],
        &["stats"],
        &["backup", "target"],
        &["rebuild", "views"],
        &["restore", "source"],
        &["tenant", "import", "source"],
        &["tenant", "export", "default", "target"],
    ] {
        let mut command = command(args);
        let command = command.current_dir(dir.path());
        let output = command
            .env("STEMMA_SERVER", "http://127.0.0.1:9")
            .output()
            .expect("it runs");
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(
            told.contains("STEMMA_SERVER") && told.contains("--data"),
            "{told}"
        );
    }
    let made = std::fs::read_dir(dir.path()).expect("it is there").count();
    assert_eq!(made, 0);
}

/// A backup that was served was an empty store, made within it.
#[test]
fn a_backup_is_not_taken_for_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, target) = (dir.path().join("data"), dir.path().join("target"));
    let (data, target) = (
        data.to_str().expect("plain"),
        target.to_str().expect("plain"),
    );
    let file = dir.path().join("a.txt");
    std::fs::write(&file, "moons").expect("room");
    let file = file.to_str().expect("plain");
    for args in [&["import", file][..], &["backup", target]] {
        let done = run(&[args, &["--data", data]].concat());
        assert!(done.status.success(), "{}", stderr(&done));
    }
    for args in [
        &["verify"][..],
        &["stats"],
        &["serve"],
        &["import", file],
        &["tenant", "create", "north"],
        &["token", "create", "--name", "ada", "--role", "admin"],
    ] {
        let output = run(&[args, &["--data", target]].concat());
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("is a backup; `stemma restore "), "{told}");
    }
}

/// `--tenant other` was passed over, and what was to go there went to the token's tenant.
#[test]
fn a_tenant_that_is_named_beside_a_server_is_refused() {
    let server = Server::start();
    let file = server.data().join("../a.txt");
    std::fs::write(&file, "moons").expect("a file");
    for args in [
        &["import", text(&file)][..],
        &["events"],
        &["upload", text(&file)],
        &["jobs", "list"],
    ] {
        let there = ["--server", server.url(), "--tenant"];
        let refused = command(&[args, &there, &["other"]].concat()).output();
        let refused = refused.expect("it runs");
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        let told = stderr(&refused);
        assert!(
            told.contains("--tenant") && told.contains("token"),
            "{told}"
        );
        let done = command(&[args, &there, &["default"]].concat()).output();
        assert_eq!(done.expect("it runs").status.code(), Some(0), "{args:?}");
    }
}
