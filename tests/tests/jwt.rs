//! Tokens of an issuer outside (JSON web tokens) beside the server's own (row E1).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use stemma_tests::{Client, KeyServer, Server, ServerBuilder, SigningKey, SseReader, command};

use crate::access::create_token;
use crate::documents::text_of;

const ISSUER: &str = "https://id.example/realm";
const AUDIENCE: &str = "stemma-test";

/// Seconds since 1970.
#[allow(clippy::disallowed_methods)] // tokens are signed by the clock that the server has
fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock that goes").as_secs()
}

fn trusting(jwks: &str) -> ServerBuilder {
    Server::builder()
        .env("STEMMA_JWT__ISSUER", ISSUER)
        .env("STEMMA_JWT__AUDIENCE", AUDIENCE)
        .env("STEMMA_JWT__JWKS", jwks)
        .env("STEMMA_JWT__SKEW_S", "0")
}

/// Claims of somebody for the next minutes.
fn claims(principal: &str, role: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": principal, "roles": [role], "tenant": "default",
        "iat": now_s(), "exp": now_s() + 600,
    })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn showing(server: &Server, token: &str) -> Client {
    Client::showing(server.url(), Some(token))
}

#[tokio::test]
async fn a_token_of_the_issuer_lets_in_whoever_it_names_as_what_it_names() {
    let keys = [
        SigningKey::ed("ed"),
        SigningKey::ec("ec"),
        SigningKey::rsa("rsa"),
    ];
    let issuer = KeyServer::of(&keys.each_ref());
    let server = trusting(&issuer.url()).start();
    // Without a token of its own the server asks everybody for one all the same.
    let nobody = server.client().get("/api/resources").await;
    nobody.expect_problem(401, "TOKEN_MISSING");
    for key in &keys {
        let principal = format!("ada-{}", key.kid);
        let writer = showing(&server, &key.token(&claims(&principal, "writer")));
        let made = writer.create("Moon", "The moon is far.").await;
        let events = writer.get("/api/events?limit=500").await.expect(200);
        let events = events["items"].as_array().expect("items");
        let own = events.iter().find(|event| {
            event.to_string().contains(text_of(&made["id"])) && event["actor"] == principal.as_str()
        });
        assert!(own.is_some(), "{events:?}");
        let reader = showing(&server, &key.token(&claims("bob", "reader")));
        reader.get("/api/resources").await.expect(200);
        let refused = reader.post("/api/resources", &json!({})).await;
        let told = refused.expect_problem(403, "ROLE_MISSING");
        let suffice = "the token's role is reader, and it takes writer or admin";
        assert_eq!(told["detail"], suffice);
    }
    let operator = with(claims("root", "operator"), "tenant", Value::Null);
    let operator = showing(&server, &keys[0].token(&operator));
    operator.get("/api/admin/tokens").await.expect(200);
    // Whoever may give out tokens of the server's own may do so by a token of the issuer's too.
    let new = json!({ "principal": "eve", "role": "reader", "tenant": "default" });
    let own = operator.post("/api/admin/tokens", &new).await.expect(201);
    showing(&server, text_of(&own["token"]))
        .get("/api/resources")
        .await
        .expect(200);
    let foreign = with(claims("ada", "reader"), "tenant", json!("elsewhere"));
    let foreign = showing(&server, &keys[0].token(&foreign));
    let refused = foreign.get("/api/resources").await;
    refused.expect_problem(403, "TENANT_NOT_SERVED");
    assert_eq!(issuer.asked(), 1, "keys are fetched once for all requests");
}

/// Tokens of which none holds, and what is wrong with each.
fn broken(key: &SigningKey, stranger: &SigningKey) -> Vec<(&'static str, String)> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let good = claims("ada", "admin");
    let whole = key.token(&good);
    let (text, signature) = whole.rsplit_once('.').expect("a signature");
    let (head, _) = text.split_once('.').expect("a head");
    let forged = URL_SAFE_NO_PAD.encode(with(good.clone(), "sub", json!("eve")).to_string());
    let head_of = |alg: &str| json!({ "alg": alg, "kid": key.kid });
    let none = stranger.signed(&head_of("none"), &good);
    let unsigned = none.rsplit_once('.').expect("a signature").0;
    let changed = |name: &str, value: Value| key.token(&with(good.clone(), name, value));
    vec![
        ("not signed", format!("{unsigned}.")),
        ("signed by nothing", none.clone()),
        (
            "signed by a secret",
            stranger.signed(&head_of("HS256"), &good),
        ),
        ("of another algorithm", key.signed(&head_of("RS256"), &good)),
        ("of a stranger", stranger.signed(&head_of("EdDSA"), &good)),
        ("changed", format!("{head}.{forged}.{signature}")),
        ("cut", format!("{text}.{}", &signature[..20])),
        ("without a signature", format!("{text}.")),
        ("over", changed("exp", json!(now_s() - 1))),
        ("without an end", changed("exp", Value::Null)),
        ("ending at a text", changed("exp", json!("2999"))),
        ("not begun", changed("nbf", json!(now_s() + 300))),
        ("beginning at a text", changed("nbf", json!("1"))),
        ("for another", changed("aud", json!("other"))),
        ("for nobody", changed("aud", Value::Null)),
        (
            "of another issuer",
            changed("iss", json!("https://evil.example")),
        ),
        ("of no issuer", changed("iss", Value::Null)),
        ("of no role", changed("roles", json!(["owner"]))),
        ("of no tenant", changed("tenant", Value::Null)),
        ("of a path", changed("tenant", json!("../default"))),
        ("of nobody", changed("sub", Value::Null)),
        ("of a name of ours", changed("sub", json!("anonymous"))),
        (
            "of another kind",
            key.signed(&with(head_of("EdDSA"), "typ", json!("logout+jwt")), &good),
        ),
        (
            "of a critical extension",
            key.signed(&with(head_of("EdDSA"), "crit", json!(["x"])), &good),
        ),
        ("too long", changed("more", json!("x".repeat(9000)))),
        ("nonsense", "a.b.c".to_owned()),
        ("dots", "..".to_owned()),
    ]
}

#[tokio::test]
async fn whatever_is_not_right_about_a_token_of_the_issuer_it_lets_nobody_in() {
    let (key, stranger) = (SigningKey::ed("one"), SigningKey::ed("one"));
    let issuer = KeyServer::of(&[&key]);
    let server = trusting(&issuer.url()).start();
    let good = showing(&server, &key.token(&claims("ada", "admin")));
    good.get("/api/resources").await.expect(200);
    for (what, token) in broken(&key, &stranger) {
        let refused = showing(&server, &token).get("/api/resources").await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.text());
        let problem = refused.expect_problem(401, "TOKEN_INVALID");
        assert!(refused.header("www-authenticate").contains("invalid_token"));
        let lacks = match what {
            "without an end" | "ending at a text" => "it has no exp",
            "for nobody" => "it has no aud",
            "of no issuer" => "it has no iss",
            _ => continue,
        };
        let detail = text_of(&problem["detail"]);
        assert!(detail.contains(lacks), "{what}: {detail}");
    }
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_once_and_one_that_is_gone_vouches_for_nobody() {
    let (first, second) = (SigningKey::ed("first"), SigningKey::ec("second"));
    let issuer = KeyServer::of(&[&first]);
    let server = trusting(&issuer.url())
        .env("STEMMA_JWT__REFETCH_MIN_S", "1")
        .start();
    let old = showing(&server, &first.token(&claims("ada", "reader")));
    old.get("/api/resources").await.expect(200);
    issuer.show(&[&second]);
    let new = showing(&server, &second.token(&claims("ada", "reader")));
    // The shortest time between two fetches may not be over yet.
    while new.get("/api/resources").await.status == 401 {}
    new.get("/api/resources").await.expect(200);
    old.get("/api/resources")
        .await
        .expect_problem(401, "TOKEN_INVALID");
}

#[tokio::test]
async fn unknown_keys_have_the_issuer_asked_no_more_often_than_is_set() {
    let (key, unknown) = (SigningKey::ed("known"), SigningKey::ed("unknown"));
    let issuer = KeyServer::of(&[&key]);
    let server = trusting(&issuer.url())
        .env("STEMMA_JWT__REFETCH_MIN_S", "86400")
        .start();
    for n in 0..20 {
        let token = unknown.token(&claims(&format!("ada{n}"), "reader"));
        let refused = showing(&server, &token).get("/api/resources").await;
        refused.expect_problem(401, "TOKEN_INVALID");
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let key = SigningKey::ed("one");
    let issuer = KeyServer::of(&[&key]);
    let server = trusting(&issuer.url()).start();
    let short = with(claims("ada", "reader"), "exp", json!(now_s() + 3));
    let client = showing(&server, &key.token(&short));
    let mut stream = SseReader::open(client.request("GET", "/api/events/stream")).await;
    // A ticket is its token's, and ends with it too.
    let ticket = client.request("POST", "/api/tickets");
    let ticket = client.send(ticket).await.expect(201);
    let path = format!("/api/events/stream?ticket={}", text_of(&ticket["ticket"]));
    let mut by_ticket = SseReader::open(server.client().request("GET", &path)).await;
    while stream.next().await.is_some() {}
    while by_ticket.next().await.is_some() {}
    assert!(now_s() >= short["exp"].as_u64().expect("a time"));
    client
        .get("/api/resources")
        .await
        .expect_problem(401, "TOKEN_INVALID");
    let refused = server.client().get(&path).await;
    refused.expect_problem(401, "TOKEN_INVALID");
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_told_of_and_our_own_tokens_go_on() {
    let key = SigningKey::ed("one");
    let issuer = KeyServer::of(&[&key]);
    let data = tempfile::tempdir().expect("a directory");
    let own = create_token(data.path(), "admin", &[]);
    for (said, why) in [
        (None, "500"),
        (Some("<html>"), "it is not JSON"),
        (Some("{\"keys\":[]}"), "it has no key"),
    ] {
        issuer.say(said.map(str::to_owned));
        let server = trusting(&issuer.url())
            .env("STEMMA_JWT__REFETCH_MIN_S", "1")
            .data(data.path())
            .start();
        let own = showing(&server, text_of(&own["token"]));
        let health = own.get("/api/health").await.expect(200);
        assert_eq!(health["status"], "degraded", "{health}");
        assert_eq!(health["parts"]["issuer"]["status"], "degraded");
        let reason = text_of(&health["parts"]["issuer"]["reason"]);
        assert!(reason.contains(why), "{reason}");
        let theirs = showing(&server, &key.token(&claims("ada", "reader")));
        let refused = theirs.get("/api/resources").await;
        refused.expect_problem(503, "ISSUER_UNAVAILABLE");
        assert!(!refused.header("retry-after").is_empty());
        issuer.show(&[&key]);
        while theirs.get("/api/resources").await.status == 503 {}
        theirs.get("/api/resources").await.expect(200);
        let health = own.get("/api/health").await.expect(200);
        assert_eq!(health["parts"]["issuer"]["status"], "ok");
    }
}

#[tokio::test]
async fn keys_may_be_in_a_file_and_claims_inside_others() {
    let key = SigningKey::ed("one");
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("keys.json");
    std::fs::write(&file, json!({ "keys": [key.jwk()] }).to_string()).expect("it is written");
    let server = trusting(file.to_str().expect("a plain path"))
        .env("STEMMA_JWT__ROLE_CLAIM", "/realm_access/roles")
        .env("STEMMA_JWT__PRINCIPAL_CLAIM", "email")
        .env("STEMMA_JWT__TENANT_CLAIM", "")
        .start();
    let token = key.token(&json!({
        "iss": ISSUER, "aud": [AUDIENCE, "other"], "exp": now_s() + 600, "email": "ada@id.example",
        "realm_access": { "roles": ["offline", "writer"] },
    }));
    let writer = showing(&server, &token);
    writer.create("Moon", "The moon is far.").await;
    let events = writer.get("/api/events?limit=1").await.expect(200);
    assert_eq!(events["items"][0]["actor"], "ada@id.example");
}

#[test]
fn a_server_does_not_start_with_half_an_issuer() {
    let data = tempfile::tempdir().expect("a directory");
    let refused = |set: &[(&str, &str)]| {
        let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        let output = command
            .arg(data.path() as &Path)
            .envs(set.iter().copied())
            .output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{set:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let issuer = ("STEMMA_JWT__ISSUER", ISSUER);
    let audience = ("STEMMA_JWT__AUDIENCE", AUDIENCE);
    assert!(refused(&[issuer]).contains("jwt.audience must be set"));
    assert!(refused(&[issuer, audience]).contains("jwt.jwks must be set"));
    let plain = ("STEMMA_JWT__JWKS", "http://id.example/keys");
    assert!(refused(&[issuer, audience, plain]).contains("https URL"));
    let weak = ("STEMMA_JWT__ALGORITHMS", "RS256,HS256");
    assert!(refused(&[issuer, audience, weak]).contains("HS256"));
}
