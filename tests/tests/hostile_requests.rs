//! Tokens, headers and paths that nobody sends by mistake: whatever comes, the answer is no failure
//! of ours and holds nothing of somebody else's, and the server lives on (row E1).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use stemma_tests::{Client, Server, command};

use crate::access::create_token;
use crate::documents::text_of;

/// Requests that are made up.
const CASES: u32 = 1500;
/// What the other tenant holds, and nobody else may see.
const TREASURE: &str = "the-treasure-of-the-south";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A piece of a path.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "..",
        ".",
        "%2e%2e",
        "%2E%2e%2f",
        "%2f",
        "%5c",
        "%00",
        "%",
        "%zz",
        "%C0%AF",
        "%ff",
        "//",
        "\\",
        ";",
        "api",
        "resources",
        "admin",
        "tokens",
        "events",
        "stream",
        "content",
        "tenants",
        "south",
        "health",
        "docs",
        "{id}",
        "*",
        "~",
        "a%20b",
        "\u{202e}",
        "..;",
        "log",
        "tile",
        "0",
        "019a0000-0000-7000-8000-00000000dead",
        "x%0d%0aset-cookie:%20a=b",
    ]);
    prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        2 => prop::collection::vec(any::<u8>(), 1..12),
        1 => (1_usize..9000).prop_map(|count| vec![b'a'; count]),
    ]
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "/",
        "/api/",
        "/api/resources/",
        "/api/admin/",
        "",
        "//",
        "http://x/",
    ]);
    (start, prop::collection::vec(piece(), 0..6), any::<bool>()).prop_map(
        |(start, pieces, query)| {
            let mut path = start.as_bytes().to_vec();
            path.extend(pieces.join(&b'/'));
            if query {
                path.extend_from_slice(b"?limit=%00&ticket=..&cursor=%ff&as_of=1");
            }
            // What ends a line would make a request of another form, which the others do.
            path.retain(|byte| !b" \r\n".contains(byte));
            path
        },
    )
}

/// What is shown as a token: near to a real one, or far from any.
fn shown(token: String) -> impl Strategy<Value = Option<Vec<u8>>> {
    let changed = (any::<prop::sample::Index>(), any::<u8>()).prop_map(move |(at, to)| {
        let mut text = token.clone().into_bytes();
        let at = at.index(text.len());
        text[at] = if to == text[at] {
            to.wrapping_add(1)
        } else {
            to
        };
        [b"Bearer ".to_vec(), text].concat()
    });
    prop_oneof![
        2 => Just(None),
        4 => changed.prop_map(Some),
        2 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Some),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(|text| Some([b"Bearer ".to_vec(), text].concat())),
        1 => (1_usize..70_000).prop_map(|count| Some([b"Bearer stemma_".to_vec(), vec![b'0'; count]].concat())),
        1 => Just(Some(b"Bearer eyJhbGciOiJub25lIn0.e30.".to_vec())),
        1 => Just(Some(b"Basic YTpi".to_vec())),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let name = prop::sample::select(vec![
        "cookie",
        "origin",
        "host",
        "range",
        "if-match",
        "if-none-match",
        "if-range",
        "accept",
        "content-type",
        "idempotency-key",
        "last-event-id",
        "x-request-id",
        "traceparent",
        "x-forwarded-for",
        "content-encoding",
        "expect",
        "x-http-method-override",
        "x-tenant",
        "transfer-encoding",
        "content-length",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "",
            "*",
            "null",
            "0",
            "-1",
            "south",
            "stemma_session=",
            "bytes=0-",
            "chunked",
            "\u{0}",
            "99999999999999999999"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    prop::collection::vec((name, value), 0..4)
}

fn head(method: &str, path: &[u8], shown: Option<&[u8]>, headers: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut head = method.as_bytes().to_vec();
    head.push(b' ');
    head.extend_from_slice(path);
    head.extend_from_slice(b" HTTP/1.1\r\nconnection: close\r\nhost: 127.0.0.1\r\n");
    let own = shown.map(|shown| ("authorization", shown.to_vec()));
    for (name, value) in own.iter().chain(headers) {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend(value.iter().filter(|byte| !b"\r\n".contains(byte)));
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The whole answer, up to where the server ends it or a stream would go on.
fn answer(address: &str, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // It may have answered and gone before all was written.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    Ok(told)
}

fn check(told: &[u8], request: &[u8]) -> Result<(), TestCaseError> {
    let shown = || String::from_utf8_lossy(request).escape_debug().to_string();
    let text = String::from_utf8_lossy(told);
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    // Whoever sends less than a request is not owed an answer.
    let status = status
        .and_then(|status| status.parse::<u16>().ok())
        .unwrap_or(400);
    prop_assert!(status < 500, "{} was answered {}", shown(), text);
    prop_assert!(!text.contains(TREASURE), "{} was told {}", shown(), text);
    prop_assert!(!text.contains("\r\nset-cookie: a=b"), "{}", shown());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_no_failure_of_ours_and_tells_nothing_of_others() {
    let data = tempfile::tempdir().expect("a directory");
    let made = command(&["tenant", "create", "south", "--data"])
        .arg(data.path())
        .output();
    assert!(made.expect("it runs").status.success());
    let reader = create_token(data.path(), "reader", &[]);
    let owner = create_token(data.path(), "writer", &["--tenant", "south"]);
    let server = Server::builder()
        .data(data.path())
        .env("STEMMA_LIMITS__FAILURES_PER_S", "0")
        .start();
    let owner = Client::showing(server.url(), Some(text_of(&owner["token"])));
    let treasure = owner.create(TREASURE, TREASURE).await;
    let reader = text_of(&reader["token"]).to_owned();
    let address = server.url().trim_start_matches("http://").to_owned();
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW",
    ];
    let of_south = format!("/api/resources/{}", text_of(&treasure["id"]));
    let every = (
        prop::sample::select(methods.to_vec()),
        prop_oneof![9 => path(), 1 => Just(of_south.into_bytes())],
        prop_oneof![3 => shown(reader.clone()), 1 => Just(Some(format!("Bearer {reader}").into_bytes()))],
        headers(),
    );
    let tried = tokio::task::spawn_blocking(move || {
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(config, random);
        runner.run(&every, |(method, path, shown, headers)| {
            let request = head(method, &path, shown.as_deref(), &headers);
            let told = answer(&address, &request);
            let told =
                told.map_err(|error| TestCaseError::fail(format!("the server is gone: {error}")))?;
            check(&told, &request)
        })
    });
    if let Err(failed) = tried.await.expect("it does not panic") {
        panic!("{failed}\n{}", server.told());
    }
    assert!(!server.told().contains("panicked"), "{}", server.told());
    owner.get("/api/resources").await.expect(200);
}
