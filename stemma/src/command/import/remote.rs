//! Importing through a server, one request a file.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Cursor, Read};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::local::digest_of;
use super::{Destination, Found, Known, KnownFiles, Outcome, Plan, media_type};
use crate::api_client::{Refused, Server};
use crate::command::upload::later::taken;
use crate::interrupt;

/// What parts a multipart body; no file's content is looked for it, since it is random enough.
const BOUNDARY: &str = "stemma-import-7c1b0f3e9d5a4862";

/// A server.
pub(super) struct Remote {
    server: Server,
    /// Content that is there, as far as it was looked at or brought in.
    digests: HashSet<String>,
    events: u64,
}

impl Remote {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            digests: HashSet::new(),
            events: 0,
        }
    }

    fn bring_one(
        &mut self,
        plan: &Plan,
        file: &Found,
        known: Option<&Known>,
    ) -> anyhow::Result<Outcome> {
        let digest = digest_of(file)?;
        if known.is_some_and(|known| known.digest == digest) {
            return Ok(Outcome::Unchanged);
        }
        let is_duplicate = !self.digests.insert(digest);
        let kind = media_type(&file.path)?;
        if let Some(known) = known {
            let path = format!("/api/resources/{}/content", known.id);
            taken(|| {
                let content = File::open(&file.path)?;
                self.server.send("PUT", &path, &kind, content)
            })?;
            self.events += 1;
            return Ok(Outcome::Revised { is_duplicate });
        }
        let mut metadata = json!({
            "name": file.name, "media_type": kind,
            "metadata": { "source_path": file.source_path, "source_root": file.source_root },
        });
        if let Some(collection) = &plan.collection {
            metadata["collection"] = collection.as_str().into();
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n\
             {metadata}\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
             Content-Type: {kind}\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        taken(|| {
            let content = File::open(&file.path)?;
            let body = Cursor::new(&head).chain(content).chain(Cursor::new(&tail));
            self.server.send("POST", "/api/resources", &kind, body)
        })?;
        self.events += 1;
        Ok(Outcome::Created { is_duplicate })
    }
}

impl Destination for Remote {
    fn known(&mut self, collection: Option<&str>) -> anyhow::Result<KnownFiles> {
        let mut known = KnownFiles::default();
        let filter = collection
            .map(|name| {
                format!(
                    "&collection={}",
                    utf8_percent_encode(name, NON_ALPHANUMERIC)
                )
            })
            .unwrap_or_default();
        let base = format!("/api/resources?limit=500&archived=any{filter}");
        let mut path = base.clone();
        loop {
            let page = taken(|| self.server.get(&path))?;
            for resource in page["items"].as_array().into_iter().flatten() {
                if let Some(digest) = resource["digest"].as_str() {
                    self.digests.insert(digest.to_owned());
                }
                if resource.get("collection").and_then(Value::as_str) != collection {
                    continue;
                }
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                if let Some(path) = resource["metadata"]["source_path"].as_str() {
                    let root = resource["metadata"]["source_root"].as_str();
                    let made = Known {
                        id: text(&resource["id"]),
                        digest: text(&resource["digest"]),
                        source_root: root.map(str::to_owned),
                    };
                    known.add(path, made);
                }
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{base}&cursor={cursor}"),
                None => return Ok(known),
            }
        }
    }

    fn bring(
        &mut self,
        plan: &Plan,
        known: &KnownFiles,
        each: &mut dyn FnMut(&Found, anyhow::Result<Outcome>),
    ) -> anyhow::Result<()> {
        for file in &plan.files {
            interrupt::check()?;
            let outcome = self.bring_one(plan, file, known.find(file));
            // What the server refuses, or cannot be read here, is that file's affair; a server that
            // cannot be reached, is not well, or lets nobody in by this token, is everyone's.
            let of_file = |error: &anyhow::Error| {
                let refused = error.downcast_ref::<Refused>();
                refused
                    .is_some_and(|refused| refused.status != 401 && refused.code != "ROLE_MISSING")
                    || error.is::<std::io::Error>()
            };
            if let Err(error) = &outcome
                && !of_file(error)
            {
                return outcome.map(drop);
            }
            each(file, outcome);
        }
        Ok(())
    }

    fn events(&self) -> u64 {
        self.events
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}
