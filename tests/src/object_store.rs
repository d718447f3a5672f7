//! A store of objects that speaks S3, from the package that people test with in its place.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The bucket that is there.
const BUCKET: &str = "backups";
/// What the store goes by without looking closer: who asks.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

/// A store that runs until it is dropped, in memory.
#[derive(Debug)]
pub struct ObjectStore {
    child: Child,
    address: String,
    client: reqwest::Client,
}

impl ObjectStore {
    /// The secret that commands are given.
    pub const SECRET: &str = "a-secret-that-nobody-is-told";

    /// A store with an empty bucket.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let place = root.expect("the workspace's root").join("target/moto/bin");
        let python = place.join("python");
        assert!(
            python.is_file(),
            "{} is missing: cargo xtask install",
            python.display()
        );
        let mut command = Command::new(python);
        command
            .args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut told = BufReader::new(child.stderr.take().expect("it is piped"));
        let address = loop {
            let mut line = String::new();
            let read = told.read_line(&mut line).expect("it can be read");
            assert!(read > 0, "the store ended before it listened");
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().to_owned();
            }
        };
        std::thread::spawn(move || told.read_to_end(&mut Vec::new()));
        let store = Self {
            child,
            address,
            client: reqwest::Client::new(),
        };
        store.ask("PUT", "", Vec::new()).await;
        store
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What names a target in it.
    pub fn target(prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The variables that a command needs to get at it, by an address that leads to it.
    pub fn variables(address: &str) -> [(&'static str, String); 4] {
        [
            ("STEMMA_BACKUP__S3_ENDPOINT", format!("http://{address}")),
            ("STEMMA_BACKUP__S3_ACCESS_KEY", "tests".to_owned()),
            ("STEMMA_BACKUP__S3_SECRET_KEY", Self::SECRET.to_owned()),
            ("STEMMA_BACKUP__S3_LOCK_MS", "1000".to_owned()),
        ]
    }

    async fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let method = method.parse().expect("a method");
        let url = format!("http://{}/{BUCKET}/{path}", self.address);
        let request = self.client.request(method, url).body(body);
        let answer = request.header("authorization", AUTHORIZATION).send().await;
        let answer = answer.expect("the store answers");
        let status = answer.status().as_u16();
        (status, answer.bytes().await.expect("a body").to_vec())
    }

    /// The names of all objects, with what the store says that they hold.
    pub async fn objects(&self) -> BTreeMap<String, String> {
        let (status, body) = self.ask("GET", "?list-type=2", Vec::new()).await;
        assert_eq!(status, 200);
        let body = String::from_utf8(body).expect("XML");
        let within = |text: &str, tag: &str| {
            let rest = text.split_once(&format!("<{tag}>")).expect("a tag").1;
            rest.split('<').next().expect("a text").to_owned()
        };
        assert_eq!(within(&body, "IsTruncated"), "false");
        let all = body.split("<Contents>").skip(1);
        all.map(|one| (within(one, "Key"), within(one, "ETag")))
            .collect()
    }

    /// An object's bytes; none when there is none.
    pub async fn get(&self, name: &str) -> Option<Vec<u8>> {
        let (status, body) = self.ask("GET", name, Vec::new()).await;
        (status == 200).then_some(body)
    }

    /// Writes an object.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) {
        assert_eq!(self.ask("PUT", name, bytes).await.0, 200);
    }

    /// Removes an object.
    pub async fn delete(&self, name: &str) {
        assert_eq!(self.ask("DELETE", name, Vec::new()).await.0, 204);
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
