//! Files that are uploaded, and the way from an upload to what became of it.

use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde_json::Value;

use crate::{Answer, Client, SseReader};

/// How long a job may take at most before a test gives it up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A file to be uploaded.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its name.
    pub name: String,
    /// Its media type; none leaves it to the server.
    pub media_type: Option<String>,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Fields of the form beside it.
    pub fields: Vec<(String, String)>,
}

impl Upload {
    /// A file without a media type.
    pub fn of(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            media_type: None,
            bytes: bytes.into(),
            fields: Vec::new(),
        }
    }

    /// The file with a media type.
    #[must_use]
    pub fn typed(mut self, media_type: &str) -> Self {
        self.media_type = Some(media_type.to_owned());
        self
    }

    /// The file with a field beside it.
    #[must_use]
    pub fn with(mut self, field: &str, value: &str) -> Self {
        self.fields.push((field.to_owned(), value.to_owned()));
        self
    }

    fn form(&self) -> Form {
        let mut part = Part::bytes(self.bytes.clone()).file_name(self.name.clone());
        if let Some(media_type) = &self.media_type {
            part = part.mime_str(media_type).expect("a media type");
        }
        let fields = self.fields.iter().cloned();
        let form = fields.fold(Form::new(), |form, (name, value)| form.text(name, value));
        form.part("file", part)
    }
}

impl Client {
    /// The request that uploads a file, to be refined.
    pub fn uploading(&self, upload: &Upload) -> reqwest::RequestBuilder {
        let request = self.request("POST", "/api/documents/upload");
        request.multipart(upload.form())
    }

    /// Uploads a file.
    pub async fn upload(&self, upload: &Upload) -> Answer {
        self.send(self.uploading(upload)).await
    }

    /// Uploads a file and follows its job to the end; gives the job and the document.
    ///
    /// # Panics
    /// When it is not taken, or does not end in time.
    pub async fn processed(&self, upload: &Upload) -> (Value, Value) {
        let taken = self.upload(upload).await.expect(202);
        let job = self.ended(text(&taken["job_id"])).await;
        (job, self.document(text(&taken["document_id"])).await)
    }

    /// A document's descriptor.
    pub async fn document(&self, id: &str) -> Value {
        self.get(&format!("/api/documents/{id}")).await.expect(200)
    }

    /// A job as it is.
    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/jobs/{id}")).await.expect(200)
    }

    /// Follows a job's stream until it has ended, and gives the job.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&self, job_id: &str) -> Value {
        self.ended_within(job_id, PATIENCE).await
    }

    /// The same, where the job may wait behind many others.
    ///
    /// # Panics
    /// When it does not end in that time.
    pub async fn ended_within(&self, job_id: &str, patience: Duration) -> Value {
        let is_ended = |job: &Value| {
            let status = text(&job["status"]);
            ["completed", "failed", "cancelled"].contains(&status)
        };
        self.reaches_within(job_id, is_ended, patience).await
    }

    /// Follows a job's stream until it is as asked, or has ended, and gives the job.
    ///
    /// # Panics
    /// When neither comes in time.
    pub async fn reaches(&self, job_id: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        self.reaches_within(job_id, is_there, PATIENCE).await
    }

    async fn reaches_within(
        &self,
        job_id: &str,
        is_there: impl Fn(&Value) -> bool,
        patience: Duration,
    ) -> Value {
        let stream = self.request("GET", &format!("/api/jobs/{job_id}/events/stream"));
        let follow = async {
            let mut frames = SseReader::open(stream).await;
            let mut last = Value::Null;
            while let Some(frame) = frames.next().await {
                if frame.data.is_some() {
                    last = frame.json();
                    if is_there(&last) {
                        break;
                    }
                }
            }
            last
        };
        let followed = tokio::time::timeout(patience, follow).await;
        followed.unwrap_or_else(|_| panic!("job {job_id} takes too long"))
    }

    /// Every item of a list, page by page; `path` holds the list's parameters, `limit` among them.
    ///
    /// # Panics
    /// When a page is not given.
    pub async fn every(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(&next).await.expect(200);
            items.extend(page["items"].as_array().expect("a page").iter().cloned());
            let Some(cursor) = page["next_cursor"].as_str() else {
                return items;
            };
            // A cursor stands for where a list was begun.
            let kept = path.replace("after=start&", "");
            next = format!("{kept}&cursor={cursor}");
        }
    }
}

/// A JSON text.
fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
