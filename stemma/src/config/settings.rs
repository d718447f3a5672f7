//! The table of all settings. `docs/configuration.md` is made from it (`reference.rs`).

use super::setting::{Kind, Setting, number, text};

const GIB: u64 = 1 << 30;

/// All settings, in the order of their keys.
pub(crate) const SETTINGS: &[Setting] = &[
    number(
        "annotations.text_bytes_max",
        "16777216",
        (0, GIB),
        "Longest content, in bytes, that annotations are anchored in",
    ),
    text(
        "backup.s3_access_key",
        "",
        "Name of the key that a store of objects is asked with; AWS_ACCESS_KEY_ID without it",
    ),
    text(
        "backup.s3_endpoint",
        "",
        "Store of objects that holds the buckets of targets like s3://BUCKET/PREFIX, such as http://127.0.0.1:9000; that of Amazon in the region without it",
    ),
    number(
        "backup.s3_lock_ms",
        "120000",
        (1000, 3_600_000),
        "Milliseconds without a word after which the lock of a backup in a store of objects is taken over",
    ),
    text("backup.s3_region", "us-east-1", "Region of that store"),
    Setting {
        key: "backup.s3_secret_key",
        kind: Kind::Secret,
        default: "",
        about: "That key; AWS_SECRET_ACCESS_KEY without it",
    },
    text(
        "backup.s3_secret_key_file",
        "",
        "File whose first line is that key",
    ),
    Setting {
        key: "backup.s3_session_token",
        kind: Kind::Secret,
        default: "",
        about: "Token that goes with a key that holds for a while; AWS_SESSION_TOKEN without it",
    },
    Setting {
        key: "backup.s3_urls",
        kind: Kind::Choice(&["path", "host"]),
        default: "path",
        about: "Where the bucket stands in URLs of that store",
    },
    text(
        "backup.targets",
        "",
        "Targets that POST /api/admin/backup may write to: NAME=DIRECTORY or NAME=s3://BUCKET/PREFIX, divided by commas",
    ),
    number(
        "cache.aggregate_bytes",
        "67108864",
        (1 << 20, 64 * GIB),
        "Bytes of folded resources that the write path keeps",
    ),
    number(
        "cache.text_bytes",
        "67108864",
        (1 << 20, 64 * GIB),
        "Bytes of texts that are kept for anchoring",
    ),
    Setting {
        key: "complete.api_key",
        kind: Kind::Secret,
        default: "",
        about: "Key that the server at complete.url asks for",
    },
    text(
        "complete.api_key_file",
        "",
        "File whose first line is that key",
    ),
    text(
        "complete.model",
        "",
        "Model that writes texts, at complete.url",
    ),
    text(
        "complete.url",
        "",
        "Server of models with an interface like that of OpenAI, such as http://127.0.0.1:11434/v1, for texts that are written; nothing is written without it",
    ),
    number(
        "content.collect_every_s",
        "3600",
        (1, 31_536_000),
        "Seconds between two collections of content that nothing names",
    ),
    number(
        "content.pack_blob_bytes_max",
        "65536",
        (0, 1 << 20),
        "Content up to this many bytes is packed",
    ),
    number(
        "content.upload_bytes_max",
        "17179869184",
        (1, 1 << 50),
        "Most bytes of one piece of content",
    ),
    text(
        "data_dir",
        "",
        "Directory of the data, where neither --data nor STEMMA_DATA names one; ./stemma-data without it",
    ),
    Setting {
        key: "detect.api_key",
        kind: Kind::Secret,
        default: "",
        about: "Key that the server at detect.url asks for",
    },
    text(
        "detect.api_key_file",
        "",
        "File whose first line is that key",
    ),
    number(
        "detect.entities_max",
        "5000",
        (1, 60000),
        "Most entities of one document that are kept",
    ),
    text(
        "detect.model",
        "",
        "Model that finds entities, at detect.url",
    ),
    text(
        "detect.url",
        "",
        "Server of models with an interface like that of OpenAI, for finding entities; rules that are built in find them without it",
    ),
    number(
        "documents.bytes_max",
        "26214400",
        (1, 16 * GIB),
        "Bytes of a document that is uploaded",
    ),
    number(
        "documents.output_bytes_max",
        "134217728",
        (1 << 20, 4 * GIB),
        "Bytes of what a worker outside hands in for one step of a document, which are held in memory while they are read",
    ),
    number(
        "documents.outputs_bytes_max",
        "268435456",
        (1 << 20, 64 * GIB),
        "Bytes of what workers outside hand in that are held in memory at a time, of all tenants together; more is answered 503 with `Retry-After` before it is read. One output that is larger is read alone",
    ),
    number(
        "documents.pages_max",
        "2000",
        (1, 1_000_000),
        "Pages of a document",
    ),
    number(
        "documents.parser_memory_bytes_max",
        "536870912",
        (64 << 20, 64 * GIB),
        "Address space of the process that parses a document, in bytes",
    ),
    number(
        "documents.parser_timeout_ms",
        "120000",
        (100, 3_600_000),
        "Milliseconds that parsing a document may take",
    ),
    Setting {
        key: "documents.parser_token",
        kind: Kind::Secret,
        default: "",
        about: "Token that the service at documents.parser_url asks for",
    },
    text(
        "documents.parser_token_file",
        "",
        "File whose first line is that token",
    ),
    text(
        "documents.parser_url",
        "",
        "Parsing service that documents are sent to once they are validated; a process of our own parses them without it",
    ),
    Setting {
        key: "embed.api_key",
        kind: Kind::Secret,
        default: "",
        about: "Key that the server at embed.url asks for",
    },
    text(
        "embed.api_key_file",
        "",
        "File whose first line is that key",
    ),
    number(
        "embed.dimension",
        "0",
        (0, 4096),
        "Numbers of a vector that embed.model gives; must be set with embed.url",
    ),
    text("embed.model", "", "Model that makes vectors, at embed.url"),
    text(
        "embed.url",
        "",
        "Server of models with an interface like that of OpenAI, for vectors; a static model that is built in makes them without it",
    ),
    text(
        "graph.ca_file",
        "",
        "File of certificates, as PEM, of those who may vouch for Neo4j over TLS; those that the system trusts without it",
    ),
    number(
        "graph.cache_bytes",
        "16777216",
        (1 << 20, 64 * GIB),
        "Bytes of the cache of the graph's engine, which is the views'",
    ),
    text(
        "graph.database",
        "",
        "Database of Neo4j; its own default without it",
    ),
    Setting {
        key: "graph.mode",
        kind: Kind::Choice(&["embedded", "neo4j", "none"]),
        default: "embedded",
        about: "The graph: kept beside the views, in Neo4j at graph.uri, or not at all",
    },
    Setting {
        key: "graph.password",
        kind: Kind::Secret,
        default: "",
        about: "Password for Neo4j; better in a file",
    },
    text(
        "graph.password_file",
        "",
        "File whose first line is the password for Neo4j",
    ),
    number(
        "graph.past_events_max",
        "1000000",
        (0, 1 << 40),
        "Most events that are folded to answer of the graph as it was (as_of, as_of_position)",
    ),
    text(
        "graph.uri",
        "neo4j://127.0.0.1:7687",
        "Where Neo4j is: neo4j://HOST:PORT; neo4j+s:// over TLS, neo4j+ssc:// over TLS with whatever certificate",
    ),
    text("graph.user", "neo4j", "User of Neo4j"),
    number(
        "http.batch_bytes_max",
        "33554432",
        (1024, GIB),
        "Most bytes of a batch's body",
    ),
    number(
        "http.batch_operations_max",
        "1000",
        (1, 65_535),
        "Most operations of one batch",
    ),
    number(
        "http.body_bytes_max",
        "16777216",
        (1024, GIB),
        "Most bytes of a JSON body",
    ),
    number(
        "http.body_bytes_per_s",
        "1024",
        (1, GIB),
        "Bytes of a body that give the client one more second",
    ),
    number(
        "http.body_ms",
        "30000",
        (100, 3_600_000),
        "Milliseconds that a client may send nothing of a body, all its pauses together",
    ),
    number(
        "http.connections_max",
        "25000",
        (1, 1_000_000),
        "Most open connections of each worker",
    ),
    text(
        "http.cors_origins",
        "",
        "Origins whose pages may ask the server, such as https://app.example, divided by commas; * alone lets in all of them, by token and without cookies; none without it",
    ),
    number(
        "http.head_ms",
        "10000",
        (100, 600_000),
        "Milliseconds that a client may take to send the head of a request",
    ),
    number(
        "http.json_depth_max",
        "64",
        (4, 120),
        "Deepest nesting of a JSON body",
    ),
    number(
        "http.keep_alive_ms",
        "75000",
        (0, 3_600_000),
        "Milliseconds that an idle connection is kept",
    ),
    number(
        "http.page_items_max",
        "500",
        (50, 10_000),
        "Most items of a page",
    ),
    number(
        "http.ranges_max",
        "32",
        (1, 1000),
        "Most ranges of one request that are answered as ranges",
    ),
    number(
        "http.requests_kept_max",
        "2000",
        (1, 1_000_000),
        "Requests that wrote or failed that are remembered of each tenant, for traces and errors",
    ),
    number(
        "http.shutdown_s",
        "8",
        (0, 600),
        "Seconds that requests may go on once the server is told to stop",
    ),
    number(
        "http.wait_ms_max",
        "60000",
        (2000, 600_000),
        "Longest timeout_ms, in milliseconds, that a read may ask for",
    ),
    number(
        "http.workers",
        "0",
        (0, 1024),
        "Threads that take requests; 0 for one for each processor",
    ),
    number(
        "http.write_stall_ms",
        "60000",
        (100, 3_600_000),
        "Milliseconds that a client may take nothing of what is written to it before it is cut off",
    ),
    number(
        "http.write_wait_ms",
        "10000",
        (1, 600_000),
        "Milliseconds that a write waits for the views before it says that it is not visible yet",
    ),
    number(
        "jobs.active_max",
        "5",
        (0, 1_000_000),
        "Jobs of one user that are worked on at a time; 0 for no limit",
    ),
    number(
        "jobs.kept_max",
        "1000",
        (1, 1_000_000),
        "Finished jobs that are remembered",
    ),
    number(
        "jobs.lease_ms",
        "30000",
        (100, 86_400_000),
        "Milliseconds that a worker may stay silent before its job goes to another",
    ),
    number(
        "jobs.queued_max",
        "200000",
        (1, 100_000_000),
        "Jobs that wait at most",
    ),
    number(
        "jobs.retries_max",
        "3",
        (0, 100),
        "Retries of a job that asks for no other number",
    ),
    number(
        "jobs.retry_base_ms",
        "3000",
        (1, 3_600_000),
        "Milliseconds before the first retry at most; doubled for each further one",
    ),
    number(
        "jobs.retry_cap_ms",
        "300000",
        (1, 86_400_000),
        "Milliseconds before a retry at most",
    ),
    number(
        "jobs.uploads_per_day_max",
        "10000",
        (0, 1_000_000_000),
        "Documents that one user uploads a day (UTC); 0 for no limit",
    ),
    number(
        "jobs.workers",
        "2",
        (0, 256),
        "Workers inside the server; 0 leaves all work to workers outside",
    ),
    text(
        "jwt.algorithms",
        "RS256,ES256,EdDSA",
        "What tokens of jwt.issuer may be signed by, of these three, divided by commas",
    ),
    text(
        "jwt.audience",
        "",
        "What tokens of jwt.issuer must name as aud; must be set with it",
    ),
    text(
        "jwt.issuer",
        "",
        "Issuer whose tokens (JSON web tokens) count beside the server's own, as they name it as iss; only the server's own count without it",
    ),
    text(
        "jwt.jwks",
        "",
        "Where the public keys of jwt.issuer are (a JWK set): a file, or an https URL, http on this machine; must be set with it",
    ),
    text(
        "jwt.principal_claim",
        "sub",
        "Claim that names the principal; /a/b for one inside another",
    ),
    number(
        "jwt.refetch_min_s",
        "30",
        (1, 86_400),
        "Seconds between two fetches of the keys for tokens that name an unknown one, at least",
    ),
    number(
        "jwt.refresh_s",
        "3600",
        (1, 604_800),
        "Seconds after which the keys are fetched again",
    ),
    text(
        "jwt.role_claim",
        "roles",
        "Claim that names the role, as a text, as words in one, or in a list: operator, admin, writer, worker or reader, of which the first counts; /a/b for one inside another",
    ),
    number(
        "jwt.skew_s",
        "30",
        (0, 600),
        "Seconds that the issuer's clock may be from ours",
    ),
    text(
        "jwt.tenant_claim",
        "tenant",
        "Claim that names the tenant; /a/b for one inside another; set to nothing all tokens of the issuer are of the tenant that the server was started for",
    ),
    number(
        "limits.address_per_s",
        "0",
        (0, 1_000_000_000),
        "Requests a second without a token from one address; 0 for no limit",
    ),
    number(
        "limits.burst_s",
        "10",
        (1, 3600),
        "Seconds of each of these rates that may be used at once",
    ),
    number(
        "limits.failures_per_s",
        "1000",
        (0, 1_000_000_000),
        "Tokens that do not hold, a second from one address; 0 for no limit",
    ),
    number(
        "limits.remembered_max",
        "65536",
        (64, 1 << 24),
        "Tokens and addresses that are remembered for each of these rates; beyond it those are forgotten who asked least lately",
    ),
    number(
        "limits.token_per_s",
        "0",
        (0, 1_000_000_000),
        "Requests a second of one token; 0 for no limit",
    ),
    text(
        "listen",
        "127.0.0.1:8470",
        "Address and port to listen on; port 0 takes a free one",
    ),
    number(
        "log.batch_bytes_max",
        "33554432",
        (1024, 256 << 20),
        "Most bytes of the events of one request",
    ),
    number(
        "log.check_at_open_bytes_max",
        "16777216",
        (0, 1 << 40),
        "Bytes of sealed segments up to which a start reads all of them before it takes requests; of larger logs the check goes on behind the start",
    ),
    number(
        "log.check_bytes_per_s",
        "134217728",
        (0, 1 << 40),
        "Bytes a second at which a log too large to be read before the start is checked behind it; 0 leaves the check out",
    ),
    number(
        "log.queue_max",
        "16384",
        (1, 1 << 20),
        "Batches that may wait for the log's writer; one of more than 16 KiB counts for each 16 KiB or part of them",
    ),
    number(
        "log.segment_bytes_max",
        "67108864",
        (8192, GIB),
        "Bytes that segments of the log grow to",
    ),
    text(
        "otlp.endpoint",
        "",
        "Collector that spans are exported to by OTLP over HTTP, such as http://127.0.0.1:4318; none are without it",
    ),
    Setting {
        key: "otlp.headers",
        kind: Kind::Secret,
        default: "",
        about: "Headers that the collector asks for: NAME=VALUE, divided by commas",
    },
    text(
        "otlp.headers_file",
        "",
        "File whose first line is those headers",
    ),
    number(
        "otlp.queue_max",
        "8192",
        (1, 1_000_000),
        "Most spans that wait to be exported; those beyond are dropped and counted",
    ),
    text(
        "otlp.service",
        "stemma",
        "What this process is called in what is exported",
    ),
    text(
        "public_url",
        "",
        "URL that clients reach the server by; IRIs below it name resources; without it the request's own host",
    ),
    Setting {
        key: "search.mode",
        kind: Kind::Choice(&["embedded", "none"]),
        default: "embedded",
        about: "The search index: kept beside the views, or not at all",
    },
    number(
        "search.vector_cache_bytes",
        "268435456",
        (1 << 20, 64 * GIB),
        "Bytes of vectors that are kept in memory for searching",
    ),
    number(
        "search.vectors_scanned_max",
        "200000",
        (1, 1 << 32),
        "Most passages whose vectors one query is compared with",
    ),
    number(
        "sse.heartbeat_ms",
        "15000",
        (10, 3_600_000),
        "Milliseconds between two heartbeats of a live stream",
    ),
    number(
        "sse.retry_ms",
        "2000",
        (0, 3_600_000),
        "Milliseconds that a client is told to wait before it connects again",
    ),
    number(
        "sse.ring_bytes_max",
        "16777216",
        (1 << 16, GIB),
        "Bytes of rendered events that all streams share",
    ),
    number(
        "sse.streams_max",
        "20000",
        (1, 1_000_000),
        "Most open live streams",
    ),
    number(
        "sse.tenant_streams_max",
        "0",
        (0, 1_000_000),
        "Most open live streams of one tenant; 0 for half of all where tokens of several tenants hold or jwt.issuer is set, else all",
    ),
    number(
        "sse.token_streams_max",
        "0",
        (0, 1_000_000),
        "Most open live streams of one token, or of one address without one; 0 for no limit",
    ),
    number(
        "tenants.idle_close_ms",
        "300000",
        (100, 86_400_000),
        "Milliseconds after which a tenant that nobody uses is closed",
    ),
    number(
        "tenants.open_max",
        "100",
        (1, 100_000),
        "Tenants that are open at a time, besides the one that the server was started for",
    ),
    number(
        "views.cache_bytes",
        "67108864",
        (1 << 20, 64 * GIB),
        "Bytes of the views' engine's cache",
    ),
    Setting {
        key: "views.engine",
        kind: Kind::Choice(&["lsm-tree", "sled"]),
        default: "lsm-tree",
        about: "Engine that holds the views",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_in_order_and_their_defaults_are_taken() {
        for pair in SETTINGS.windows(2) {
            assert!(pair[0].key < pair[1].key, "{}", pair[1].key);
        }
        for setting in SETTINGS
            .iter()
            .filter(|setting| !setting.default.is_empty())
        {
            assert!(setting.kind.takes(setting.default), "{}", setting.key);
        }
    }
}
