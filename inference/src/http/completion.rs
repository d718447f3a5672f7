//! Completions from `POST {url}/chat/completions`, streamed.
//!
//! Invariant: an answer that broke off is an error, however much of it came: it counts as whole
//! when the server said why it ended.

use super::chat::{Answer, PATH, Question, Said, StreamOptions, finish_reason};
use super::endpoint::{Endpoint, Streaming, not_json};
use super::sse::Events;
use crate::completer::{
    COMPLETION_BYTES_MAX, Completer, Completion, FinishReason, Prompt, Role, Usage,
};
use crate::error::InferenceError;
use crate::stop::Stop;

/// Most bytes of a prompt, its messages together.
pub const PROMPT_BYTES_MAX: usize = 4 << 20;

/// Completes by a model behind HTTP.
#[derive(Debug)]
pub struct HttpCompleter {
    endpoint: Endpoint,
    model: String,
}

impl HttpCompleter {
    /// A completer; nothing is connected to.
    pub fn new(endpoint: Endpoint, model: &str) -> Self {
        Self {
            endpoint,
            model: model.to_owned(),
        }
    }
}

/// What has come of an answer.
struct Coming<'a> {
    text: String,
    finish_reason: Option<FinishReason>,
    usage: Option<Usage>,
    is_done: bool,
    on_delta: &'a mut dyn FnMut(&str),
}

impl Completer for HttpCompleter {
    fn model(&self) -> &str {
        &self.model
    }

    fn complete(
        &self,
        prompt: &Prompt,
        on_delta: &mut dyn FnMut(&str),
        stop: &Stop,
    ) -> Result<Completion, InferenceError> {
        let texts = prompt.messages.iter().map(|message| message.text.len());
        let bytes = texts.sum::<usize>() + prompt.system.len();
        if bytes > PROMPT_BYTES_MAX {
            return Err(InferenceError::TooLarge {
                bytes: bytes as u64,
                bytes_max: PROMPT_BYTES_MAX as u64,
            });
        }
        let question = question(&self.model, prompt);
        let mut events = Events::default();
        let mut coming = Coming {
            text: String::new(),
            finish_reason: None,
            usage: None,
            is_done: false,
            on_delta,
        };
        let mut take = |bytes: &[u8]| {
            events.take(bytes, &mut |data| coming.take(data))?;
            Ok(if coming.is_done {
                Streaming::Done
            } else {
                Streaming::More
            })
        };
        self.endpoint
            .ask_streaming(PATH, &question, &mut take, stop)?;
        events.end(&mut |data| coming.take(data))?;
        match coming.finish_reason {
            Some(finish_reason) => Ok(Completion {
                text: coming.text,
                finish_reason,
                usage: coming.usage,
            }),
            None => Err(InferenceError::garbage(
                "the stream ended before the answer did",
            )),
        }
    }
}

fn question<'a>(model: &'a str, prompt: &'a Prompt) -> Question<'a> {
    let system = Some(prompt.system.as_str()).filter(|system| !system.is_empty());
    let system = system.map(|content| Said {
        role: "system",
        content,
    });
    let messages = prompt.messages.iter().map(|message| Said {
        role: match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        },
        content: &message.text,
    });
    Question {
        model,
        messages: system.into_iter().chain(messages).collect(),
        max_tokens: prompt.tokens_max,
        temperature: None,
        stream: true,
        stream_options: Some(StreamOptions {
            include_usage: true,
        }),
        response_format: None,
    }
}

impl Coming<'_> {
    fn take(&mut self, data: &str) -> Result<(), InferenceError> {
        if self.is_done {
            return Ok(());
        }
        if data.trim() == "[DONE]" {
            self.is_done = true;
            // Some servers say only this when they have said everything.
            self.finish_reason.get_or_insert(FinishReason::Other);
            return Ok(());
        }
        let piece: Answer =
            serde_json::from_str(data).map_err(|error| not_json(data.as_bytes(), &error))?;
        let piece = piece.checked()?;
        if let Some(tokens) = piece.usage {
            self.usage = Some(tokens.into());
        }
        // One answer was asked for, so there is one choice, or none beside the usage.
        let Some(choice) = piece.choices.into_iter().next() else {
            return Ok(());
        };
        if let Some(reason) = &choice.finish_reason {
            self.finish_reason = Some(finish_reason(reason));
        }
        let delta = choice.delta.and_then(|delta| delta.content);
        let delta = delta.unwrap_or_default();
        if self.text.len() + delta.len() > COMPLETION_BYTES_MAX {
            return Err(InferenceError::garbage("the completion is too long"));
        }
        if !delta.is_empty() {
            self.text.push_str(&delta);
            (self.on_delta)(&delta);
        }
        Ok(())
    }
}
