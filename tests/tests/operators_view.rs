//! What an operator sees of a server: spans in a collector of traces, the figures and the health of
//! all tenants (rows A13, B11, C4).

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemma_tests::{
    Client, Collector, DIMENSION, ModelServer, ParsingServer, Server, ServerBuilder, TracedSpan,
    Upload, command,
};

use crate::access::create_token;
use crate::documents::{TEXT, text_of};
use crate::documents_cli::worker;

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn exporting_to(collector: &Collector) -> ServerBuilder {
    Server::builder()
        .env("STEMMA_OTLP__ENDPOINT", &collector.url())
        .env("STEMMA_OTLP__HEADERS", "api-key=of-the-tests")
}

/// The span of this name in the trace.
fn named<'a>(spans: &'a [TracedSpan], trace: &str, name: &str) -> &'a TracedSpan {
    let mut found = spans.iter().filter(|s| s.trace == trace && s.name == name);
    found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

fn has(spans: &[TracedSpan], trace: &str, name: &str) -> bool {
    spans.iter().any(|s| s.trace == trace && s.name == name)
}

/// A figure; none while it is not told of.
fn figure(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|rest| rest.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_its_job_and_the_stages_are_one_trace_and_models_are_told_of_it() {
    let (collector, model) = (Collector::start(), ModelServer::start());
    let server = exporting_to(&collector)
        .env("STEMMA_EMBED__URL", &model.url())
        .env("STEMMA_EMBED__MODEL", "stand-in")
        .env("STEMMA_EMBED__DIMENSION", &DIMENSION.to_string())
        .start();
    let client = server.client();
    let upload = Upload::of("planets.txt", TEXT);
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let request = client.uploading(&upload).header("traceparent", &parent);
    let taken = client.send(request).await.expect(202);
    let job = client.ended(text_of(&taken["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    let job_name = format!("job {}", text_of(&job["type"]));
    let spans = collector.spans_when(|spans| has(spans, TRACE, &job_name));
    let request = named(&spans, TRACE, "POST /api/documents/upload");
    assert_eq!(request.parent.as_deref(), Some(PARENT));
    assert_eq!(request.whole["kind"], 2);
    let of_job = named(&spans, TRACE, &job_name);
    for stage in ["validate", "parse", "chunk", "embed", "detect", "index"] {
        let stage = named(&spans, TRACE, &format!("stage {stage}"));
        assert_eq!(stage.parent.as_ref(), Some(&of_job.id));
    }
    let embed = named(&spans, TRACE, "stage embed");
    let told = format!("00-{TRACE}-{}-01", embed.id);
    let asked = model.asked();
    assert!(
        asked
            .iter()
            .any(|asked| asked.traceparent.as_ref() == Some(&told)),
        "{asked:?}"
    );
    // A question that is embedded is told of as a part of its request, whatever its trace is called.
    let search = client.request("GET", "/api/search?q=moons&mode=vector");
    client
        .send(search.header("X-Request-ID", "order 7".replace(' ', "-")))
        .await
        .expect(200);
    let asked = model.asked();
    let last = asked.last().and_then(|asked| asked.traceparent.clone());
    let last = last.expect("a traceparent");
    let spans = collector.spans_when(|spans| {
        spans
            .iter()
            .any(|span| last == format!("00-{}-{}-01", span.trace, span.id))
    });
    let is_last = |span: &&TracedSpan| last.contains(&span.id);
    let search = spans.iter().find(is_last).expect("it was waited for");
    assert_eq!(search.name, "GET /api/search");
    let attributes = search.whole["attributes"].to_string();
    assert!(attributes.contains("order-7"), "{attributes}");
    assert!(
        collector
            .heads()
            .iter()
            .all(|head| head.contains("api-key: of-the-tests"))
    );
    assert!(!server.told().contains("of-the-tests"));
    let metrics = client.get("/metrics").await.text();
    assert_eq!(figure(&metrics, "stemma_otlp_on "), Some(1.0));
    assert_eq!(
        figure(&metrics, "stemma_otlp_spans_dropped_total "),
        Some(0.0)
    );
    assert!(figure(&metrics, "stemma_otlp_spans_exported_total ") > Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_silent_holds_nobody_up_and_what_is_dropped_is_counted() {
    let collector = Collector::silent();
    let mut server = exporting_to(&collector)
        .env("STEMMA_OTLP__QUEUE_MAX", "4")
        .start();
    let client = server.client();
    let begun = Instant::now();
    loop {
        client.get("/api/health/live").await.expect(200);
        let metrics = client.get("/metrics").await.text();
        if figure(&metrics, "stemma_otlp_spans_dropped_total ") > Some(0.0) {
            assert!(figure(&metrics, "stemma_otlp_spans_queued ") <= Some(4.0 + 512.0));
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is dropped:\n{metrics}");
    }
    drop(collector);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn nothing_is_exported_unless_it_is_configured() {
    let server = Server::start();
    let metrics = server.client().get("/metrics").await.text();
    assert_eq!(figure(&metrics, "stemma_otlp_on "), Some(0.0));
    for bad in ["127.0.0.1:4318", "http://user:secret@127.0.0.1"] {
        let dir = tempfile::tempdir().expect("a directory");
        let output = command(&["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.path().join("data"))
            .env("STEMMA_OTLP__ENDPOINT", bad)
            .output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{bad}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("otlp") && !told.contains("secret"), "{told}");
    }
}

/// A program that is ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn begun(command: &mut Command) -> Program {
    Program(command.spawn().expect("the binary starts"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_outside_tells_the_server_and_its_parsing_service_of_the_trace() {
    let collector = Collector::start();
    let server = exporting_to(&collector)
        .env("STEMMA_JOBS__WORKERS", "0")
        .start();
    let parser = ParsingServer::answering(vec![
        "200 OK|{\"status\":\"done\",\"document\":{\"text\":\"The moons of Jupiter.\"}}",
    ]);
    let mut outside = worker(&server, "outside");
    outside
        .env("STEMMA_OTLP__ENDPOINT", collector.url())
        .env("STEMMA_OTLP__SERVICE", "worker")
        .env("STEMMA_DOCUMENTS__PARSER_URL", parser.url());
    let _outside = begun(&mut outside);
    let client = server.client();
    let upload = Upload::of("planets.txt", TEXT);
    let request = client.uploading(&upload).header("X-Request-ID", TRACE);
    let taken = client.send(request).await.expect(202);
    let job = client.ended(text_of(&taken["job_id"])).await;
    assert_eq!(job["status"], "completed", "{job}");
    let job_name = format!("job {}", text_of(&job["type"]));
    let spans = collector.spans_when(|spans| {
        has(spans, TRACE, &job_name) && has(spans, TRACE, "POST /api/workers/jobs/{id}/complete")
    });
    let of_job = named(&spans, TRACE, &job_name);
    let complete = named(&spans, TRACE, "POST /api/workers/jobs/{id}/complete");
    assert_eq!(complete.parent.as_ref(), Some(&of_job.id));
    let parse = named(&spans, TRACE, "stage parse");
    let told = format!("traceparent: 00-{TRACE}-{}-01", parse.id);
    let asked = parser.asked();
    assert!(asked[0].headers.contains(&told), "{}", asked[0].headers);
}

fn made(data: &std::path::Path, tenant: &str) {
    let output = command(&["tenant", "create", tenant])
        .arg("--data")
        .arg(data)
        .output();
    assert!(output.expect("it runs").status.success());
}

#[tokio::test]
async fn health_and_metrics_tell_the_operator_of_every_tenant_that_is_open_or_failed_to() {
    let data = tempfile::tempdir().expect("a directory");
    let token = |role: &str, tenant: &str| {
        let made = create_token(data.path(), role, &["--tenant", tenant]);
        text_of(&made["token"]).to_owned()
    };
    made(data.path(), "north");
    made(data.path(), "south");
    let tokens = [
        token("operator", "default"),
        token("admin", "north"),
        token("admin", "south"),
    ];
    let server = Server::builder().data(data.path()).start();
    let [operator, north, south] = tokens.map(|token| Client::showing(server.url(), Some(&token)));
    north.create("one", "content").await;
    // What is in its place is no log.
    let log = data.path().join("tenants/south/log");
    let _ = std::fs::remove_dir_all(&log);
    std::fs::write(&log, "no directory").expect("the directory is ours");
    south
        .get("/api/resources")
        .await
        .expect_problem(503, "TENANT_UNAVAILABLE");
    let health = operator.get("/api/health").await.expect(200);
    assert_eq!(health["status"], "degraded", "{health}");
    for store in ["database", "eventStore", "graph", "jobs"] {
        assert_eq!(health[store]["status"], "ok", "{health}");
    }
    assert_eq!(health["tenants"]["open"], 1, "{health}");
    assert_eq!(health["tenants"]["failed"][0]["tenant"], "south");
    assert_ne!(text_of(&health["tenants"]["failed"][0]["reason"]), "");
    let metrics = operator.get("/metrics").await.text();
    assert_eq!(figure(&metrics, "stemma_tenants_open "), Some(2.0));
    assert_eq!(figure(&metrics, "stemma_tenants_failed "), Some(1.0));
    let of_north = "stemma_tenant_log_writable{tenant=\"north\"} ";
    assert_eq!(figure(&metrics, of_north), Some(1.0), "{metrics}");
    assert!(metrics.contains("stemma_tenant_lag_events{tenant=\"north\",projection=\"views\"}"));
    // Nobody else is told of others.
    let own: Value = north.get("/api/health").await.expect(200);
    assert_eq!(own.get("tenants"), None);
    let own = north.get("/metrics").await.text();
    assert!(!own.contains("stemma_tenant_"), "{own}");
    std::fs::remove_file(&log).expect("the file is ours");
    south.get("/api/resources").await.expect(200);
    let health = operator.get("/api/health").await.expect(200);
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(health["tenants"]["open"], 2, "{health}");
}

#[tokio::test]
async fn looking_at_a_tenant_does_not_keep_it_open() {
    let data = tempfile::tempdir().expect("a directory");
    made(data.path(), "north");
    let token = |role: &str, tenant: &str| {
        let made = create_token(data.path(), role, &["--tenant", tenant]);
        text_of(&made["token"]).to_owned()
    };
    let tokens = [token("operator", "default"), token("admin", "north")];
    let server = Server::builder()
        .data(data.path())
        .env("STEMMA_TENANTS__IDLE_CLOSE_MS", "1500")
        .start();
    let [operator, north] = tokens.map(|token| Client::showing(server.url(), Some(&token)));
    north.get("/api/resources").await.expect(200);
    let begun = Instant::now();
    loop {
        let metrics = operator.get("/metrics").await.text();
        if figure(&metrics, "stemma_tenants_open ") == Some(1.0) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it is still open:\n{metrics}");
    }
}

#[tokio::test]
async fn what_came_of_jobs_is_counted() {
    let server = Server::start();
    let client = server.client();
    client.processed(&Upload::of("planets.txt", TEXT)).await;
    client.processed(&Upload::of("empty.txt", " \n ")).await;
    let metrics = client.get("/metrics").await.text();
    for (series, value) in [
        ("stemma_jobs_ended_completed_total ", 1.0),
        ("stemma_jobs_ended_failed_total ", 1.0),
        ("stemma_jobs_processing_seconds_count ", 1.0),
        ("stemma_jobs_waiting_seconds_count ", 1.0),
        ("stemma_jobs_leases_lost_total ", 0.0),
        ("stemma_jobs_queued ", 0.0),
    ] {
        assert_eq!(figure(&metrics, series), Some(value), "{series}\n{metrics}");
    }
    assert!(figure(&metrics, "stemma_jobs_workers ") > Some(0.0));
    assert!(figure(&metrics, "stemma_disk_free_bytes ") > Some(0.0));
    assert!(figure(&metrics, "stemma_process_resident_bytes ") > Some(1e6));
    assert!(figure(&metrics, "stemma_process_open_files ") > Some(3.0));
}

/// Found: the operator's requests, and what users of other tenants asked of a route that is open to
/// all, stood among the failures of the first tenant, with their paths and names.
#[tokio::test]
async fn what_is_asked_of_the_server_or_by_others_is_no_tenants_to_remember() {
    let data = tempfile::tempdir().expect("a directory");
    made(data.path(), "north");
    let token = |role: &str, tenant: &str| {
        let made = create_token(data.path(), role, &["--tenant", tenant]);
        text_of(&made["token"]).to_owned()
    };
    let tokens = [
        token("operator", "default"),
        token("admin", "default"),
        token("admin", "north"),
    ];
    let server = Server::builder().data(data.path()).start();
    let [operator, first, north] = tokens.map(|token| Client::showing(server.url(), Some(&token)));
    let delete = operator.request("DELETE", "/api/admin/tenants/acme");
    let gone = operator.send(delete.header("x-request-id", "acme")).await;
    gone.expect_problem(404, "TENANT_NOT_FOUND");
    let token = operator.post("/api/admin/tokens", &json!({})).await;
    token.expect_problem(422, "INVALID_FIELDS");
    let page = [("accept", "text/html")];
    let page = north.get_with("/api/openapi.json", &page).await;
    page.expect_problem(406, "NOT_ACCEPTABLE");
    for client in [&first, &north] {
        let wrong = client.post("/api/resources", &json!({})).await;
        wrong.expect_problem(422, "INVALID_FIELDS");
    }
    for client in [&first, &north] {
        let errors = client.get("/api/errors?kind=request").await.expect(200);
        let own = errors["items"].as_array().expect("a list").iter();
        let own: Vec<&str> = own.map(|error| text_of(&error["message"])).collect();
        assert_eq!(own, ["POST /api/resources"], "{errors}");
    }
    let story = first.get("/api/traces/acme").await;
    story.expect_problem(404, "TRACE_NOT_FOUND");
}
