//! Content over HTTP: ranges, conditions, uploads of every size (rows A2, A12).

use serde_json::{Value, json};
use stemma_tests::Server;

fn path(resource: &Value) -> String {
    format!(
        "/api/resources/{}/content",
        resource["id"].as_str().expect("an id")
    )
}

fn etag(resource: &Value) -> String {
    format!("\"{}\"", resource["digest"].as_str().expect("a digest"))
}

#[tokio::test]
async fn content_is_read_whole_in_one_range_and_in_several() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("digits", "0123456789").await;
    let whole = client.get(&path(&made)).await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("etag"), etag(&made));
    assert!(whole.header("content-type").starts_with("text/plain"));
    for (range, bytes, told) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
    ] {
        let part = client.get_with(&path(&made), &[("range", range)]).await;
        assert_eq!((part.status, part.text().as_str()), (206, bytes));
        assert_eq!(part.header("content-range"), told);
    }
    let several = client
        .get_with(&path(&made), &[("range", "bytes=0-1,5-6")])
        .await;
    assert_eq!(several.status, 206);
    let kind = several.header("content-type").to_owned();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("a boundary");
    let text = several.text();
    assert_eq!(
        text.matches(boundary.trim_matches('"')).count(),
        3,
        "{text}"
    );
    for part in [
        "bytes 0-1/10",
        "bytes 5-6/10",
        "\r\n\r\n01\r\n",
        "\r\n\r\n56\r\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let beyond = client
        .get_with(&path(&made), &[("range", "bytes=10-")])
        .await;
    beyond.expect_problem(416, "RANGE_NOT_SATISFIABLE");
    assert_eq!(beyond.header("content-range"), "bytes */10");
    let unknown_unit = client
        .get_with(&path(&made), &[("range", "lines=1-2")])
        .await;
    assert_eq!((unknown_unit.status, unknown_unit.bytes.len()), (200, 10));
}

#[tokio::test]
async fn conditions_on_content_hold_by_its_digest() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("conditional", "0123456789").await;
    let tag = etag(&made);
    let same = client
        .get_with(&path(&made), &[("if-none-match", &tag)])
        .await;
    assert_eq!((same.status, same.bytes.len()), (304, 0));
    assert_eq!(same.header("etag"), tag);
    let weak = format!("W/{tag}");
    assert_eq!(
        client
            .get_with(&path(&made), &[("if-none-match", &weak)])
            .await
            .status,
        304
    );
    let other = client
        .get_with(&path(&made), &[("if-none-match", "\"other\"")])
        .await;
    assert_eq!(other.status, 200);
    let headers = [("range", "bytes=0-1"), ("if-range", tag.as_str())];
    assert_eq!(client.get_with(&path(&made), &headers).await.status, 206);
    let headers = [("range", "bytes=0-1"), ("if-range", "\"other\"")];
    assert_eq!(client.get_with(&path(&made), &headers).await.status, 200);
    // Whoever joins ranges of one content got those of another, too.
    for (condition, status) in [
        (tag.as_str(), 206),
        ("*", 206),
        (&format!("\"other\", {tag}"), 206),
        ("\"other\"", 412),
        (&weak, 412),
        ("\"r0\"", 412),
    ] {
        let headers = [("range", "bytes=0-1"), ("if-match", condition)];
        let answer = client.get_with(&path(&made), &headers).await;
        assert_eq!(answer.status, status, "{condition}");
    }
    let of_resource = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    for (condition, status) in [("\"r0\"", 200), ("\"r1\"", 412)] {
        let answer = client
            .get_with(&of_resource, &[("if-match", condition)])
            .await;
        assert_eq!(answer.status, status, "{condition}");
    }
    let head = client.raw("HEAD", &path(&made), &[], "").await;
    assert_eq!(
        (head.status, head.bytes.len(), head.header("content-length")),
        (200, 0, "10")
    );
}

#[tokio::test]
async fn a_revision_of_content_is_immutable_and_the_newest_is_not() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("revised", "one").await;
    let plain = [("content-type", "text/plain")];
    let revised = client.raw("PUT", &path(&made), &plain, "two").await;
    assert_eq!(revised.expect(200)["revision"], 1);
    let first = client.get(&format!("{}?revision=0", path(&made))).await;
    assert_eq!(first.text(), "one");
    assert!(first.header("cache-control").contains("immutable"));
    // What one browser keeps is for whoever was logged in alone.
    assert!(first.header("vary").contains("cookie"));
    let newest = client.get(&path(&made)).await;
    assert_eq!(newest.text(), "two");
    assert!(!newest.header("cache-control").contains("immutable"));
    let ahead = client.get(&format!("{}?revision=7", path(&made))).await;
    ahead.expect_problem(422, "NOT_HAPPENED_YET");
    let stale = [("content-type", "text/plain"), ("if-match", "\"r0\"")];
    client
        .raw("PUT", &path(&made), &stale, "three")
        .await
        .expect_problem(412, "PRECONDITION_FAILED");
    assert_eq!(client.get(&path(&made)).await.text(), "two");
}

#[tokio::test]
async fn large_content_goes_in_by_multipart_and_comes_back_the_same() {
    let server = Server::start();
    let client = server.client();
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let boundary = "b0und4ry";
    let form = |metadata: &str| {
        let mut form = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"metadata\"\r\ncontent-type: application/json\r\n\r\n{metadata}\r\n\
             --{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\ncontent-type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        form.extend_from_slice(&bytes);
        form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        form
    };
    let kind = format!("multipart/form-data; boundary={boundary}");
    let headers = [("content-type", kind.as_str())];
    let metadata =
        json!({ "name": "numbers", "media_type": "application/octet-stream" }).to_string();
    let made = client
        .raw("POST", "/api/resources", &headers, form(&metadata))
        .await
        .expect(201);
    assert_eq!(made["byte_size"], bytes.len());
    assert_eq!(client.get(&path(&made)).await.bytes, bytes);
    let part = client
        .get_with(&path(&made), &[("range", "bytes=11000000-11000007")])
        .await;
    assert_eq!(part.bytes, bytes[11_000_000..11_000_008]);
    let wrong = client
        .raw("POST", "/api/resources", &headers, form("{\"name\": 7}"))
        .await;
    wrong.expect_problem(422, "INVALID_FIELDS");
    let mut cut = form(&metadata);
    cut.truncate(6_000_000);
    client
        .raw("POST", "/api/resources", &headers, cut)
        .await
        .expect_problem(400, "MALFORMED_MULTIPART");
    let listed = client.get("/api/resources").await.expect(200);
    assert_eq!(listed["items"].as_array().expect("items").len(), 1);
}

#[tokio::test]
async fn content_above_the_limit_is_refused_and_nothing_is_left() {
    let server = Server::builder()
        .env("STEMMA_CONTENT__UPLOAD_BYTES_MAX", "100")
        .start();
    let client = server.client();
    let made = client.create("small", "x").await;
    let plain = [("content-type", "text/plain")];
    let answer = client
        .raw("PUT", &path(&made), &plain, "y".repeat(101))
        .await;
    answer.expect_problem(413, "CONTENT_TOO_LARGE");
    assert_eq!(
        client
            .raw("PUT", &path(&made), &plain, "y".repeat(100))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn base64_content_is_taken_and_bad_base64_is_not() {
    let server = Server::start();
    let client = server.client();
    let body =
        json!({ "name": "b", "media_type": "application/octet-stream", "content_base64": "AAH/" });
    let made = client.post("/api/resources", &body).await.expect(201);
    assert_eq!(client.get(&path(&made)).await.bytes, [0, 1, 255]);
    let body =
        json!({ "name": "b", "media_type": "application/octet-stream", "content_base64": "AAH" });
    let problem = client
        .post("/api/resources", &body)
        .await
        .expect_problem(422, "INVALID_FIELDS");
    assert_eq!(problem["errors"][0]["pointer"], "/content_base64");
}

/// Row A12: what an author uploads never runs as the server's own page.
#[tokio::test]
async fn untrusted_html_and_svg_cannot_run_as_the_servers_origin() {
    let server = Server::start();
    let client = server.client();
    for (media_type, text) in [
        ("text/html", "<script>alert(1)</script>"),
        (
            "image/svg+xml",
            "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        ),
    ] {
        let body = json!({ "name": "page", "media_type": media_type, "content": text });
        let made = client.post("/api/resources", &body).await.expect(201);
        let answer = client.get(&path(&made)).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("sandbox")
        );
    }
}

#[tokio::test]
async fn damage_at_the_start_of_long_content_is_told_before_any_of_it_is_sent() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let path = path(&made);
    let bytes = vec![7; 1 << 20];
    let kind = ("content-type", "application/octet-stream");
    client
        .raw("PUT", &path, &[kind], bytes.clone())
        .await
        .expect(200);
    assert_eq!(client.get(&path).await.bytes, bytes);
    let blobs = server.data().join("tenants/default/content/blobs");
    let dir = std::fs::read_dir(blobs)
        .expect("blobs")
        .next()
        .expect("one")
        .expect("a directory");
    let file = std::fs::read_dir(dir.path())
        .expect("blobs")
        .next()
        .expect("one")
        .expect("a file")
        .path();
    let mut stored = std::fs::read(&file).expect("the blob");
    let at = stored
        .windows(9)
        .position(|w| w == [7; 9])
        .expect("it stands there");
    stored[at] ^= 1;
    std::fs::write(&file, stored).expect("the file is ours");
    client
        .get(&path)
        .await
        .expect_problem(500, "CONTENT_DAMAGED");
}

#[tokio::test]
async fn ranges_are_for_get_and_never_make_more_than_the_whole() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "0123456789").await;
    let path = path(&made);
    let head = client
        .raw("HEAD", &path, &[("range", "bytes=0-1")], "")
        .await;
    assert_eq!((head.status, head.header("content-length")), (200, "10"));
    let many = client.get_with(&path, &[("range", "bytes=0-,0-,0-")]).await;
    assert_eq!((many.status, many.text().as_str()), (200, "0123456789"));
}

/// The most memory that the server has had resident, in MiB.
fn peak_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("the process runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let kib: u64 = line
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    kib / 1024
}

#[tokio::test]
async fn large_content_passes_through_bounded_memory_both_ways() {
    const BYTES: usize = 512 << 20;
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let path = path(&made);
    let before = peak_mib(&server);
    let kind = ("content-type", "application/octet-stream");
    client
        .raw("PUT", &path, &[kind], vec![7; BYTES])
        .await
        .expect(200);
    assert_eq!(client.get(&path).await.bytes.len(), BYTES);
    let grown = peak_mib(&server) - before;
    assert!(grown < 64, "{grown} MiB for {} MiB of content", BYTES >> 20);
}

#[tokio::test]
async fn a_stop_ends_streams_and_uploads_that_never_end() {
    let mut server = Server::builder()
        .env("STEMMA_HTTP__SHUTDOWN_S", "1")
        .start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let path = path(&made);
    let host = server.url().trim_start_matches("http://").to_owned();
    let mut half = std::net::TcpStream::connect(&host).expect("the server listens");
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\nhalf");
    std::io::Write::write_all(&mut half, head.as_bytes()).expect("it is taken");
    let mut stream =
        stemma_tests::SseReader::open(client.request("GET", "/api/events/stream")).await;
    stream.until("stemma.live").await;
    let stopped = tokio::task::spawn_blocking(move || server.stop());
    while stream.next().await.is_some() {}
    assert_eq!(stopped.await.expect("it stops"), Some(0));
}
