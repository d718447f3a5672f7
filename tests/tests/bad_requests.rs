//! Requests that are HTTP and still not well, to every route of the served document (rows A2, A12).
//!
//! Routes, parameters and statuses come from the document, so that none can be forgotten: each bad
//! value goes to each place that can hold it, and is answered with a problem that is documented.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use stemma_tests::Server;

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(20);
/// The largest JSON body in these tests.
const BODY_BYTES_MAX: usize = 65_536;

/// Ids that are none, percent-encoded; the last is one in another alphabet.
const IDS: &[&str] = &[
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc",
    "%00",
    "a%00b",
    "%ff%fe",
    "%c3%28",
    "9007199254740993",
    "18446744073709551616",
    "-1",
    "%7B%7D",
    "%20",
    "019a0000-0000-7000-8000-00000000000G",
    "%D1%8F%E6%9C%88",
];

/// What browsers and watchers ask for, with parameters of their own that change nothing.
const TAKES_ANY_QUERY: &[&str] = &[
    "/api/health/live",
    "/api/health/ready",
    "/api/openapi.json",
    "/docs",
    "/metrics",
];

/// One route, as the document has it.
struct Route {
    method: String,
    path: String,
    operation: Value,
}

/// A server with one resource and one annotation, and its routes.
struct Bench {
    server: Server,
    routes: Vec<Route>,
    resource: String,
    annotation: String,
}

impl Bench {
    async fn start() -> Self {
        let server = Server::builder()
            .env("STEMMA_HTTP__BODY_BYTES_MAX", &BODY_BYTES_MAX.to_string())
            .env("STEMMA_HTTP__BATCH_BYTES_MAX", &BODY_BYTES_MAX.to_string())
            .env(
                "STEMMA_CONTENT__UPLOAD_BYTES_MAX",
                &BODY_BYTES_MAX.to_string(),
            )
            .start();
        let client = server.client();
        let made = client.create("a", "Jupiter has four large moons.").await;
        let resource = made["id"].as_str().expect("an id").to_owned();
        let note = json!({ "target": "http://example.org/" });
        let path = format!("/api/resources/{resource}/annotations");
        let note = client.post(&path, &note).await.expect(201);
        let annotation = note["annotation_id"].as_str().expect("an id").to_owned();
        let document = client.get("/api/openapi.json").await.expect(200);
        let mut routes = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let (method, path) = (method.to_ascii_uppercase(), path.clone());
                let operation = operation.clone();
                routes.push(Route {
                    method,
                    path,
                    operation,
                });
            }
        }
        Self {
            server,
            routes,
            resource,
            annotation,
        }
    }

    /// The path with what is there, but `bad` in the place of parameter `wrong`.
    fn path(&self, route: &Route, wrong: &str, bad: &str) -> String {
        let mut path = route.path.clone();
        for name in names(&route.path) {
            let good = match name.as_str() {
                "id" if route.path.starts_with("/api/resources") => &self.resource,
                "id" => "019a0000-0000-7000-8000-0000000000aa",
                "aid" => &self.annotation,
                "type" => "Note",
                "step" | "stage" => "validate",
                "level" => "0",
                "tile" => "000",
                "node" => "person:anonymous",
                "name" => "nobody",
                "trace_id" => "a",
                "digest" => &format!("blake3:{}", "0".repeat(64)),
                other => panic!("no example of {other}"),
            };
            let value = if name == wrong { bad } else { good };
            path = path.replace(&format!("{{{name}}}"), value);
        }
        path
    }

    /// What is answered: it is documented, and a problem unless it is a success.
    fn ask(&self, route: &Route, target: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let Route {
            method, operation, ..
        } = route;
        let shown = format!("{method} {target:.300} {headers:?}");
        let (status, head, told) = send(&self.server, method, target, headers, body);
        assert!(status < 500, "{shown}: {status} {told}");
        let documented = operation["responses"].as_object().expect("responses");
        assert!(
            documented.contains_key(&status.to_string()),
            "{shown}: {status} {told}"
        );
        if status < 400 || method == "HEAD" {
            return (status, String::new());
        }
        assert!(
            head.contains("\r\ncontent-type: application/problem+json\r\n"),
            "{shown}: {head}"
        );
        let problem: Value = serde_json::from_str(&told).expect("a problem is JSON");
        assert_eq!(problem["status"], status, "{shown}");
        let trace = problem["trace_id"].as_str().expect("a trace id");
        assert!(
            head.contains(&format!("\r\nx-request-id: {trace}\r\n")),
            "{shown}: {head}"
        );
        (status, problem["code"].as_str().expect("a code").to_owned())
    }
}

/// The names in a path's braces.
fn names(path: &str) -> Vec<String> {
    let inner = path.split(['{', '}']).skip(1).step_by(2);
    inner.map(str::to_owned).collect()
}

/// Status, head in lower case and body of the answer. A stream that goes on is not read.
fn send(
    server: &Server,
    method: &str,
    target: &str,
    headers: &str,
    body: &[u8],
) -> (u16, String, String) {
    let address = server.url().strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(WAIT)).expect("a timeout");
    let length = match body.len() {
        0 => String::new(),
        len => format!("Content-Length: {len}\r\n"),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{length}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    // The server may have answered, and hung up, before all of it was sent.
    let _ = stream.write_all(body);
    let mut told = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        told.extend_from_slice(&chunk[..count]);
        if told.windows(4).any(|w| w == b"\r\n\r\n")
            && String::from_utf8_lossy(&told).contains("text/event-stream")
        {
            break;
        }
    }
    let told = String::from_utf8_lossy(&told).into_owned();
    let (head, body) = told
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{method} {target:.300}: no head in {told:?}"));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (
        status,
        format!("{}\r\n", head.to_ascii_lowercase()),
        body.to_owned(),
    )
}

#[tokio::test]
async fn an_id_that_is_none_is_refused_by_every_route_that_has_one() {
    let bench = Bench::start().await;
    let long = [&*"a".repeat(300), &"%00".repeat(2000)];
    let mut asked = 0;
    for route in &bench.routes {
        for name in names(&route.path) {
            for bad in IDS.iter().copied().chain(long) {
                let target = bench.path(route, &name, bad);
                let (status, code) = bench.ask(route, &target, "", b"");
                // A type may be nearly any text, and a job is only looked for.
                let is_any = name == "type";
                let refused = (400..500).contains(&status) && code != "ROUTE_NOT_FOUND";
                assert!(
                    refused || is_any,
                    "{} {target:.300}: {status} {code}",
                    route.method
                );
                asked += 1;
            }
        }
    }
    assert!(asked > 300, "{asked}");
    bench.server.client().get("/api/health").await.expect(200);
}

#[tokio::test]
async fn a_query_that_is_none_is_refused_by_every_route() {
    let bench = Bench::start().await;
    for route in &bench.routes {
        let path = bench.path(route, "", "");
        if TAKES_ANY_QUERY.contains(&&*route.path) {
            let (status, _) = bench.ask(route, &format!("{path}?a=%ff&limit=1e9"), "", b"");
            assert_eq!(status, 200, "{path}");
            continue;
        }
        for (bad, wanted) in [
            ("a=%ff", (400, "MALFORMED_QUERY")),
            ("%c3%28=1", (400, "MALFORMED_QUERY")),
            ("a=%zz", (400, "MALFORMED_QUERY")),
            ("a=%", (400, "MALFORMED_QUERY")),
            ("no_such=1", (422, "INVALID_PARAMETERS")),
            ("%D1%8F=1", (422, "INVALID_PARAMETERS")),
            ("limit=1000000", (422, "INVALID_PARAMETERS")),
            ("limit=9007199254740993", (422, "INVALID_PARAMETERS")),
            ("limit=0", (422, "INVALID_PARAMETERS")),
            ("limit=1&limit=1", (422, "INVALID_PARAMETERS")),
            (
                "min_position=18446744073709551616",
                (422, "INVALID_PARAMETERS"),
            ),
            ("min_position=1e3", (422, "INVALID_PARAMETERS")),
            ("timeout_ms=60001", (422, "INVALID_PARAMETERS")),
        ] {
            let (status, code) = bench.ask(route, &format!("{path}?{bad}"), "", b"");
            let is_wanted = status == wanted.0 && (code == wanted.1 || route.method == "HEAD");
            assert!(is_wanted, "{} {path}?{bad}: {status} {code}", route.method);
        }
    }
}

/// Bodies that are no request of any route, and what they are told.
fn bad_bodies() -> Vec<(Vec<u8>, u16, &'static str)> {
    let deep = format!(r#"{{"metadata":{}1{}}}"#, "[".repeat(90), "]".repeat(90));
    let abyss = "[".repeat(60_000);
    vec![
        (vec![b' '; BODY_BYTES_MAX + 1], 413, "BODY_TOO_LARGE"),
        (deep.into_bytes(), 422, "TOO_DEEP"),
        (abyss.into_bytes(), 422, "TOO_DEEP"),
        (br#"{"a":1,"a":1}"#.to_vec(), 422, "REPEATED_KEY"),
        (
            br#"{"a":{"b":[{"c":1,"c":1}]}}"#.to_vec(),
            422,
            "REPEATED_KEY",
        ),
        (
            br#"{"a":18446744073709551616}"#.to_vec(),
            422,
            "INTEGER_OUT_OF_RANGE",
        ),
        (
            br#"{"a":-9223372036854775809}"#.to_vec(),
            422,
            "INTEGER_OUT_OF_RANGE",
        ),
        (br#"{"a":1e999}"#.to_vec(), 422, "INTEGER_OUT_OF_RANGE"),
        (b"{\"a\":\"\xff\"}".to_vec(), 400, "MALFORMED_JSON"),
        (b"{\"a\xc3\x28\":1}".to_vec(), 400, "MALFORMED_JSON"),
        (b"{\"a\":\"\\ud800\"}".to_vec(), 400, "MALFORMED_JSON"),
        (b"{\"a\":\"\0\"}".to_vec(), 400, "MALFORMED_JSON"),
        (b"{\"a\":1".to_vec(), 400, "MALFORMED_JSON"),
        (b"{} {}".to_vec(), 400, "MALFORMED_JSON"),
        (b"[]".to_vec(), 422, "INVALID_FIELDS"),
        (b"null".to_vec(), 422, "INVALID_FIELDS"),
        (b"9007199254740993".to_vec(), 422, "INVALID_FIELDS"),
    ]
}

#[tokio::test]
async fn a_body_that_is_none_is_refused_by_every_route_that_takes_json() {
    let bench = Bench::start().await;
    let mut asked = 0;
    for route in &bench.routes {
        let content = &route.operation["requestBody"]["content"];
        if content["application/json"].is_null() {
            continue;
        }
        let target = bench.path(route, "", "");
        // What a stage puts out may be large: the job is looked at before it is read.
        if route.path.ends_with("/stages/{stage}") {
            let told = bench.ask(route, &target, "Content-Type: application/json\r\n", b"{");
            assert_eq!(told, (404, "JOB_NOT_FOUND".to_owned()), "{target}");
            continue;
        }
        for (body, status, code) in bad_bodies() {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let told = bench.ask(route, &target, "Content-Type: application/json\r\n", &body);
            // What is no annotation has a code of its own.
            let own = code == "INVALID_FIELDS" && told.1 == "INVALID_ANNOTATION";
            let is_wanted = told.0 == status && (told.1 == code || own);
            assert!(is_wanted, "{} {target} {shown}: {told:?}", route.method);
            asked += 1;
        }
        let told = bench.ask(route, &target, "Content-Type: text/html\r\n", b"{}");
        assert_eq!(told, (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()), "{target}");
    }
    assert!(asked > 100, "{asked}");
    // None of it was written.
    let list = bench.server.client().get("/api/events").await.expect(200);
    assert_eq!(list["items"].as_array().expect("events").len(), 2);
}

#[tokio::test]
async fn content_that_is_too_large_is_refused() {
    let bench = Bench::start().await;
    let route = |method: &str, path: &str| {
        let is_it = |route: &&Route| (&*route.method, &*route.path) == (method, path);
        bench.routes.iter().find(is_it).expect("the route")
    };
    let put = route("PUT", "/api/resources/{id}/content");
    let path = bench.path(put, "", "");
    let large = vec![b'a'; BODY_BYTES_MAX + 1];
    let told = bench.ask(put, &path, "Content-Type: text/plain\r\n", &large);
    assert_eq!(told, (413, "CONTENT_TOO_LARGE".to_owned()));
    let form = [
        b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n",
        &large[..],
        b"\r\n--x--\r\n",
    ]
    .concat();
    let post = route("POST", "/api/resources");
    let told = bench.ask(
        post,
        &post.path,
        "Content-Type: multipart/form-data; boundary=x\r\n",
        &form,
    );
    assert_eq!(told, (413, "CONTENT_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn a_body_is_refused_by_every_route_that_changes_something_and_takes_none() {
    let bench = Bench::start().await;
    let mut asked = BTreeSet::new();
    for route in &bench.routes {
        let is_read = matches!(&*route.method, "GET" | "HEAD");
        if is_read || !route.operation["requestBody"].is_null() {
            continue;
        }
        let target = bench.path(route, "", "");
        for (headers, body) in [
            (
                "Content-Type: application/json\r\n",
                &b"{\"verify\":true}"[..],
            ),
            ("", b"{}"),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b""),
        ] {
            let told = bench.ask(route, &target, headers, body);
            assert_eq!(told, (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()), "{target}");
        }
        asked.insert(&route.path);
    }
    assert!(asked.len() >= 7, "{asked:?}");
}

#[tokio::test]
async fn a_condition_that_a_write_cannot_keep_is_refused() {
    let bench = Bench::start().await;
    for route in &bench.routes {
        let writes = route.operation["parameters"]
            .as_array()
            .expect("parameters");
        let has = |name: &str| writes.iter().any(|parameter| parameter["name"] == name);
        if matches!(&*route.method, "GET" | "HEAD") || !has("Idempotency-Key") {
            continue;
        }
        let target = bench.path(route, "", "");
        let (headers, body): (_, &[u8]) = match &route.operation["requestBody"] {
            Value::Null => ("", b""),
            _ => ("Content-Type: application/json\r\n", b"{}"),
        };
        let mut refused = vec!["If-None-Match: *\r\n", "If-None-Match: \"r1\"\r\n"];
        if !has("If-Match") {
            refused.extend(["If-Match: *\r\n", "If-Match: \"r1\"\r\n"]);
        }
        refused.push("If-Match: r1\r\n");
        for condition in refused {
            let told = bench.ask(route, &target, &format!("{headers}{condition}"), body);
            assert_eq!(
                told,
                (400, "MALFORMED_HEADER".to_owned()),
                "{} {target} {condition}",
                route.method
            );
        }
    }
}

/// Found: calls of workers and operators passed the key over, and were done again.
#[tokio::test]
async fn a_write_that_keeps_no_idempotency_key_refuses_it() {
    let bench = Bench::start().await;
    let mut asked = 0;
    for route in &bench.routes {
        let parameters = route.operation["parameters"]
            .as_array()
            .expect("parameters");
        let keeps_it = parameters.iter().any(|p| p["name"] == "Idempotency-Key");
        // A query changes nothing, whatever it is sent by.
        let is_read = matches!(&*route.method, "GET" | "HEAD") || route.path == "/api/graph/query";
        if is_read || keeps_it {
            continue;
        }
        let target = bench.path(route, "", "");
        let (headers, body): (_, &[u8]) = match &route.operation["requestBody"] {
            Value::Null => ("", b""),
            _ => ("Content-Type: application/json\r\n", b"{}"),
        };
        for condition in ["Idempotency-Key: k", "If-Match: \"r1\"", "If-None-Match: *"] {
            let headers = format!("{headers}{condition}\r\n");
            let told = bench.ask(route, &target, &headers, body);
            assert_eq!(
                told,
                (400, "MALFORMED_HEADER".to_owned()),
                "{} {target} {condition}",
                route.method
            );
        }
        asked += 1;
    }
    assert!(asked > 20, "{asked}");
}

#[tokio::test]
async fn each_wrong_place_has_its_own_pointer_and_code() {
    let server = Server::start();
    let client = server.client();
    let made = client.create("a", "x").await;
    let at = |problem: &Value| {
        let places = problem["errors"].as_array().expect("places").clone();
        let text = |place: &Value, name| place[name].as_str().expect("a text").to_owned();
        let told = places.iter().map(|p| (text(p, "pointer"), text(p, "code")));
        told.collect::<Vec<_>>()
    };
    let place = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
    let new = json!({ "name": "n", "media_type": "text/plain", "content": "c", "entity_types": ["", "Note", 3] });
    let refused = client.post("/api/resources", &new).await;
    let wanted = [
        place("/entity_types/0", "INVALID_VALUE"),
        place("/entity_types/2", "INVALID_VALUE"),
    ];
    assert_eq!(at(&refused.expect_problem(422, "INVALID_FIELDS")), wanted);
    let patched = format!("/api/resources/{}", made["id"].as_str().expect("an id"));
    let null = json!({ "name": null, "archived": null });
    let refused = client.json("PATCH", &patched, &null).await;
    let wanted = [
        place("/name", "INVALID_VALUE"),
        place("/archived", "INVALID_VALUE"),
    ];
    assert_eq!(at(&refused.expect_problem(422, "INVALID_FIELDS")), wanted);
    let annotate = json!({ "op": "add_annotation", "resource_id": made["id"], "annotation": {} });
    let mut batch = json!({ "operations": [annotate] });
    let refused = client.post("/api/batch", &batch).await;
    refused.expect_problem(422, "INVALID_ANNOTATION");
    batch["operations"][0]["no_such"] = 1.into();
    let refused = client.post("/api/batch", &batch).await;
    refused.expect_problem(422, "INVALID_FIELDS");
}

#[tokio::test]
async fn jobs_are_listed_behind_a_position_and_found_by_uuids_only() {
    let server = Server::start();
    let client = server.client();
    client.create("a", "x").await;
    client.get("/api/jobs?min_position=0").await.expect(200);
    let early = client.get("/api/jobs?min_position=9&timeout_ms=1").await;
    early.expect_problem(503, "NOT_YET");
    for path in [
        "/api/jobs/zz",
        "/api/jobs/zz/status",
        "/api/jobs/zz/events/stream",
    ] {
        client.get(path).await.expect_problem(422, "INVALID_ID");
    }
    let nobody = "/api/jobs/019a0000-0000-7000-8000-0000000000aa";
    client
        .get(nobody)
        .await
        .expect_problem(404, "JOB_NOT_FOUND");
}

#[tokio::test]
async fn a_media_type_that_no_header_can_carry_is_refused() {
    let server = Server::start();
    let client = server.client();
    let asked = |media_type: &str| json!({ "name": "n", "media_type": media_type, "content": "c" });
    for bad in ["text/plain\n", "text/plain;\r\na=b", "text/plain;\u{a0}a=b"] {
        let refused = client.post("/api/resources", &asked(bad)).await;
        let problem = refused.expect_problem(422, "INVALID_FIELDS");
        assert_eq!(problem["errors"][0]["pointer"], "/media_type");
    }
    for good in ["text/plain ; a=b*", "text/plain;a=\"b c\"\t"] {
        let made = client
            .post("/api/resources", &asked(good))
            .await
            .expect(201);
        let id = made["id"].as_str().expect("an id");
        let read = client.get(&format!("/api/resources/{id}/content")).await;
        assert_eq!((read.status, read.text().as_str()), (200, "c"), "{good}");
    }
}

#[tokio::test]
async fn a_header_that_is_no_list_of_tags_is_refused_by_every_read_that_takes_one() {
    let bench = Bench::start().await;
    let mut asked = 0;
    for route in bench.routes.iter().filter(|route| route.method == "GET") {
        let parameters = route.operation["parameters"]
            .as_array()
            .expect("parameters");
        if !parameters.iter().any(|p| p["name"] == "If-None-Match") {
            continue;
        }
        for query in ["", "?as_of_revision=0", "?revision=0"] {
            let name = query
                .trim_start_matches('?')
                .split('=')
                .next()
                .unwrap_or_default();
            if !name.is_empty() && !parameters.iter().any(|p| p["name"] == name) {
                continue;
            }
            let target = format!("{}{query}", bench.path(route, "", ""));
            let told = bench.ask(route, &target, "If-None-Match: r1\r\n", b"");
            assert_eq!(told, (400, "MALFORMED_HEADER".to_owned()), "{target}");
            asked += 1;
        }
    }
    assert!(asked >= 4, "{asked}");
}
