//! Sending files: one multipart request each, from the disk piece by piece.

use std::fs::File;
use std::io::{Cursor, Read};
use std::sync::atomic::Ordering;

use serde_json::Value;
use stemma_domain::document::{Chunking, Strategy};
use stemma_domain::resource::{Access, Visibility};
use stemma_domain::value::{CollectionName, PrincipalName};
use uuid::Uuid;

use super::later::{Later, taken};
use super::{RECONNECT_WAIT, Run};
use crate::api_client::Refused;
use crate::cli::Upload;
use crate::command::import::{Found, media_type};
use crate::exit::Usage;
use crate::interrupt::{self, Interrupted};

/// How often a file is sent that does not get through.
const SENDS_MAX: u32 = 5;

/// What is sent with every file.
pub(super) struct Form {
    /// What parts a body; drawn anew in every process, so that no file holds it.
    boundary: String,
    /// The parts before the file.
    fields: String,
}

impl Form {
    /// # Errors
    /// [`Usage`] for a collection or settings that cannot be.
    pub(super) fn of(upload: &Upload) -> Result<Self, Usage> {
        let boundary = format!("stemma-upload-{}", Uuid::new_v4().simple());
        let mut fields = String::new();
        let mut field = |name: &str, value: &str| {
            fields.push_str(&format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        };
        if let Some(name) = &upload.collection {
            CollectionName::new(name)
                .map_err(|error| Usage(format!("--collection is {name:?}: {error}")))?;
            field("collection", name);
        }
        let strategy = upload.chunking_strategy.as_deref();
        let (size, overlap) = (upload.chunk_size, upload.chunk_overlap);
        let parsed = strategy.map_or(Ok(Strategy::Sentence), str::parse);
        let parsed = parsed.map_err(|()| {
            Usage("--chunking-strategy is one of sentence, markdown, size".to_owned())
        })?;
        Chunking::new(parsed, size, overlap)
            .map_err(|error| Usage(format!("--chunk-size, --chunk-overlap: {error}")))?;
        if let Some(strategy) = strategy {
            field("chunking_strategy", strategy);
        }
        if let Some(size) = size {
            field("chunk_size", &size.to_string());
        }
        if let Some(overlap) = overlap {
            field("chunk_overlap", &overlap.to_string());
        }
        if let Some(access) = access_of(upload)? {
            let access = serde_json::to_string(&access);
            field("access", &access.map_err(|error| Usage(error.to_string()))?);
        }
        Ok(Self { boundary, fields })
    }

    fn head(&self, name: &str, media_type: &str) -> String {
        let name = name.replace('\\', "\\\\").replace('"', "\\\"");
        let (boundary, fields) = (&self.boundary, &self.fields);
        format!(
            "{fields}--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: {media_type}\r\n\r\n"
        )
    }
}

/// To whom the documents are to be open; none where all of the tenant.
fn access_of(upload: &Upload) -> Result<Option<Access>, Usage> {
    let names = |option: &str, names: &[String]| -> Result<Vec<PrincipalName>, Usage> {
        let parsed = names.iter().map(|name| {
            let parsed = PrincipalName::new(name);
            parsed.map_err(|error| Usage(format!("{option} is {name:?}: {error}")))
        });
        parsed.collect()
    };
    let readers = names("--reader", &upload.reader)?;
    let writers = names("--writer", &upload.writer)?;
    if upload.private {
        return Ok(Some(Access::private()));
    }
    if readers.is_empty() && writers.is_empty() {
        return Ok(None);
    }
    let shared = Access::new(Visibility::Shared, readers, writers);
    let shared = shared.map_err(|error| Usage(format!("--reader, --writer: {error}")))?;
    Ok(Some(shared))
}

/// A file that is read until the command is to stop; keeps what went wrong with it, as the error
/// of a request would not tell that from what went wrong on the way.
struct Watched<'a> {
    file: File,
    failed: &'a mut Option<std::io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if interrupt::flow().is_break() {
            return Err(std::io::Error::other(Interrupted));
        }
        self.file.read(buffer).map_err(|error| {
            let told = std::io::Error::new(error.kind(), error.to_string());
            *self.failed = Some(error);
            told
        })
    }
}

impl Run<'_> {
    /// Sends files until there are no more, or all of it ends.
    pub(super) fn send_all(&self) {
        while !self.is_ending() {
            let index = self.next.fetch_add(1, Ordering::AcqRel);
            let Some(file) = self.files.get(index) else {
                return;
            };
            let sent = self.send(file);
            let mut state = self.state();
            state.view.left(&file.source_path);
            let document = &mut state.documents[index];
            let error = match sent {
                Ok(told) => {
                    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
                    let job_id = text("job_id");
                    document.document_id = Some(text("document_id"));
                    document.is_deduplicated = told["deduplicated"] == true;
                    document.status = text("status");
                    document.job_id = Some(job_id).filter(|id| !id.is_empty());
                    // Of one that failed before, the job says why.
                    if document.job_id.is_none() {
                        "completed".clone_into(&mut document.status);
                    } else if document.status != "completed" {
                        state.followed.push_back(index);
                    }
                    continue;
                }
                Err(error) => error,
            };
            if error.is::<Interrupted>() {
                return;
            }
            if let Some(refused) = error.downcast_ref::<Refused>() {
                document.fail(&refused.code, &refused.detail);
            } else if let Some(unread) = error.downcast_ref::<std::io::Error>() {
                document.fail("UNREADABLE", &unread.to_string());
            } else {
                drop(state);
                self.broken_by(index, error);
            }
        }
    }

    /// A file that does not get through: its own fault, when the server is well.
    fn broken_by(&self, index: usize, error: anyhow::Error) {
        match taken(|| self.server.get("/api/health/ready")) {
            Ok(_) => self.state().documents[index].fail("NOT_SENT", &format!("{error:#}")),
            Err(asked) if asked.is::<Interrupted>() => {}
            Err(_) => self.broken(error),
        }
    }

    /// Sends a file; waits when the server says so, and sends it again when it got lost.
    fn send(&self, file: &Found) -> anyhow::Result<Value> {
        let (mut sends, mut later) = (0, Later::default());
        loop {
            interrupt::check()?;
            self.state().view.at(&file.source_path, 0, "uploading");
            let mut unread = None;
            let error = match self.send_once(file, &mut unread) {
                Ok(told) => return Ok(told),
                Err(error) => error,
            };
            interrupt::check()?;
            if let Some(unread) = unread {
                return Err(unread.into());
            }
            if let Some(wait) = later.wait(&error) {
                let seconds = wait.as_secs_f64().ceil();
                let state = self.state();
                state.view.say(&format!("waiting {seconds} s: {error}"));
                drop(state);
                interrupt::rest(wait);
                continue;
            }
            sends += 1;
            let is_final = error.is::<Refused>() || error.is::<std::io::Error>();
            if sends == SENDS_MAX || is_final {
                return Err(error);
            }
            interrupt::rest(RECONNECT_WAIT * 2 * sends);
        }
    }

    fn send_once(
        &self,
        file: &Found,
        failed: &mut Option<std::io::Error>,
    ) -> anyhow::Result<Value> {
        let kind = media_type(&file.path)?;
        let head = self.form.head(&file.name, &kind);
        let boundary = &self.form.boundary;
        let watched = Watched {
            file: File::open(&file.path)?,
            failed,
        };
        let body = Cursor::new(head)
            .chain(watched)
            .chain(Cursor::new(format!("\r\n--{boundary}--\r\n")));
        let kind = format!("multipart/form-data; boundary={boundary}");
        self.server
            .send("POST", "/api/documents/upload", &kind, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload() -> Upload {
        Upload {
            paths: Vec::new(),
            collection: Some("atlases".to_owned()),
            chunking_strategy: Some("size".to_owned()),
            chunk_size: Some(500),
            chunk_overlap: None,
            private: false,
            reader: vec!["vera".to_owned()],
            writer: Vec::new(),
            no_wait: false,
        }
    }

    #[test]
    fn a_form_holds_what_was_asked_and_a_name_cannot_break_out_of_it() {
        let form = Form::of(&upload()).unwrap();
        let head = form.head("a\"b\\c.md", "text/markdown");
        for part in [
            "name=\"collection\"\r\n\r\natlases\r\n",
            "name=\"chunking_strategy\"\r\n\r\nsize\r\n",
            "name=\"chunk_size\"\r\n\r\n500\r\n",
            "name=\"access\"\r\n\r\n{\"readers\":[\"vera\"],\"visibility\":\"shared\"",
            "filename=\"a\\\"b\\\\c.md\"\r\nContent-Type: text/markdown\r\n\r\n",
        ] {
            assert!(head.contains(part), "{part} in {head}");
        }
        assert!(!head.contains("chunk_overlap"));
    }

    #[test]
    fn settings_that_cannot_be_are_wrong_usage() {
        let mut overlapping = upload();
        overlapping.chunk_overlap = Some(500);
        assert!(Form::of(&overlapping).is_err());
        let mut shared_with_nobody = upload();
        shared_with_nobody.reader = vec![String::new()];
        assert!(Form::of(&shared_with_nobody).is_err());
        let mut unnamed = upload();
        unnamed.collection = Some("a\nb".to_owned());
        assert!(Form::of(&unnamed).is_err());
    }
}
