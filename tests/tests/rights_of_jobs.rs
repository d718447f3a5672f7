//! Jobs of models ask for the rights of whoever wanted them in each attempt (row E1).

use serde_json::{Value, json};
use stemma_tests::{Behaviour, Client, ModelServer, Server};

use crate::documents::text_of;
use crate::grants::{House, make, private, shared};

/// People whose models fail until they are told to behave well.
async fn house_of(model: &ModelServer) -> House {
    model.behave(Behaviour::Status(500, Vec::new(), "{}".to_owned()));
    let builder = Server::builder()
        .env("STEMMA_DETECT__URL", &model.url())
        .env("STEMMA_DETECT__MODEL", "stand-in")
        .env("STEMMA_COMPLETE__URL", &model.url())
        .env("STEMMA_COMPLETE__MODEL", "stand-in")
        .env("STEMMA_JOBS__RETRIES_MAX", "100")
        .env("STEMMA_JOBS__RETRY_BASE_MS", "20")
        .env("STEMMA_JOBS__RETRY_CAP_MS", "40");
    House::open_by(builder).await
}

/// Has a job queued whose answer is its stream; gives its id.
async fn begin(client: &Client, path: &str, body: Option<&Value>) -> String {
    let mut request = client.request("POST", path);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200, "{path}");
    let jobs = client.get("/api/jobs?limit=1").await.expect(200);
    text_of(&jobs["items"][0]["id"]).to_owned()
}

async fn begin_detection(client: &Client, id: &str) -> String {
    let path = format!("/api/resources/{id}/detect-annotations-stream");
    begin(client, &path, None).await
}

async fn grant(client: &Client, id: &str, access: &Value) {
    let path = format!("/api/resources/{id}/access");
    client.json("PUT", &path, access).await.expect(200);
}

fn is_retrying(job: &Value) -> bool {
    job["status"] == "retrying"
}

/// Found: what was queued went on with the server's own rights.
#[tokio::test]
async fn a_job_that_waits_for_its_next_try_loses_what_its_owner_loses() {
    let model = ModelServer::start();
    let house = house_of(&model).await;
    let readable = json!({ "visibility": "shared", "readers": ["will"] });
    for (access, code) in [
        (&readable, "GRANT_MISSING"),
        (&private(), "RESOURCE_NOT_FOUND"),
    ] {
        let (id, _) = make(&house.olga, &shared(), "Quill").await;
        let job = begin_detection(&house.will, &id).await;
        house.boss.reaches(&job, is_retrying).await;
        grant(&house.olga, &id, access).await;
        let ended = house.boss.ended(&job).await;
        assert_eq!(ended["error"]["code"], code, "{ended}");
        assert_eq!(ended["status"], "failed");
    }
    let (id, _) = make(&house.olga, &shared(), "Quill").await;
    let asked = json!({ "name": "n", "prompt": "Tell of it.", "context": [id] });
    let job = begin(&house.will, "/api/generate-resource-stream", Some(&asked)).await;
    house.boss.reaches(&job, is_retrying).await;
    grant(&house.olga, &id, &private()).await;
    let ended = house.boss.ended(&job).await;
    assert_eq!(ended["error"]["code"], "RESOURCE_NOT_FOUND", "{ended}");
}

#[tokio::test]
async fn a_job_sees_what_its_owner_sees_and_everything_where_an_admin_asked() {
    let model = ModelServer::start();
    let house = house_of(&model).await;
    model.behave(Behaviour::Well);
    let (id, _) = make(&house.olga, &private(), "Quill").await;
    for client in [&house.olga, &house.boss] {
        let job = begin_detection(client, &id).await;
        let ended = house.boss.ended(&job).await;
        assert_eq!(ended["status"], "completed", "{ended}");
        let asked = json!({ "name": "n", "prompt": "Tell of it.", "context": [id] });
        let job = begin(client, "/api/generate-resource-stream", Some(&asked)).await;
        let ended = house.boss.ended(&job).await;
        assert_eq!(ended["status"], "completed", "{ended}");
    }
    // Without tokens everybody is as an admin, and nobody is a principal.
    let server = Server::start();
    let anybody = server.client();
    let (id, _) = make(&anybody, &private(), "Quill").await;
    let job = begin_detection(&anybody, &id).await;
    assert_eq!(anybody.ended(&job).await["status"], "completed");
}

/// Found: whoever was an admin once read with what they had asked for then, by trying it again.
#[tokio::test]
async fn what_was_asked_for_as_an_admin_is_tried_again_by_admins_alone() {
    let model = ModelServer::start();
    let house = house_of(&model).await;
    let admin = house.token("ada", "admin").await;
    let writer = house.token("ada", "writer").await;
    for (access, status, code) in [
        (private(), 404, "JOB_NOT_FOUND"),
        (json!({ "visibility": "tenant" }), 403, "ROLE_MISSING"),
    ] {
        model.behave(Behaviour::Status(500, Vec::new(), "{}".to_owned()));
        let (id, _) = make(&house.olga, &access, "Quill").await;
        let asked = json!({ "name": "n", "prompt": "Tell of it.", "context": [id] });
        let job = begin(&admin, "/api/generate-resource-stream", Some(&asked)).await;
        admin.reaches(&job, is_retrying).await;
        let call = |what: &str| format!("/api/jobs/{job}/{what}");
        admin
            .raw("POST", &call("cancel"), &[], "")
            .await
            .expect(202);
        assert_eq!(house.boss.ended(&job).await["status"], "cancelled");

        let refused = writer.raw("POST", &call("retry"), &[], "").await;
        refused.expect_problem(status, code);
        model.behave(Behaviour::Well);
        house
            .boss
            .raw("POST", &call("retry"), &[], "")
            .await
            .expect(202);
        assert_eq!(house.boss.ended(&job).await["status"], "completed");
    }
}

/// Found: it was taken for what was left out, and opened the resource to the tenant.
#[tokio::test]
async fn null_is_no_grant() {
    let server = Server::start();
    let client = server.client();
    let made = json!({ "name": "n", "media_type": "text/plain", "content": "c", "access": null });
    let refused = client.post("/api/resources", &made).await;
    let problem = refused.expect_problem(422, "INVALID_FIELDS");
    assert_eq!(problem["errors"][0]["pointer"], "/access", "{problem}");
    let upload = stemma_tests::Upload::of("a.txt", "text").with("access", "null");
    let problem = client.upload(&upload).await;
    let problem = problem.expect_problem(422, "INVALID_FIELDS");
    assert_eq!(problem["errors"][0]["pointer"], "/access", "{problem}");
}
