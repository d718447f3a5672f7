//! The wire types of `POST {url}/chat/completions`.

use serde::{Deserialize, Serialize};

use crate::completer::{FinishReason, Usage};
use crate::error::{InferenceError, excerpt};

pub(super) const PATH: &str = "/chat/completions";

#[derive(Serialize)]
pub(super) struct Question<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Said<'a>>,
    pub(super) max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f32>,
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_format: Option<serde_json::Value>,
}

#[derive(Serialize)]
pub(super) struct Said<'a> {
    pub(super) role: &'static str,
    pub(super) content: &'a str,
}

#[derive(Serialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

/// A whole answer, or one piece of a streamed one.
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) choices: Vec<Choice>,
    #[serde(default)]
    pub(super) usage: Option<Tokens>,
    /// What some servers send when they fail after they began to answer.
    #[serde(default)]
    pub(super) error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    pub(super) message: Option<Content>,
    #[serde(default)]
    pub(super) delta: Option<Content>,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Content {
    #[serde(default)]
    pub(super) content: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self {
            prompt_tokens: tokens.prompt_tokens,
            completion_tokens: tokens.completion_tokens,
        }
    }
}

impl Answer {
    /// Fails with what the server says went wrong, if it says so.
    pub(super) fn checked(self) -> Result<Self, InferenceError> {
        match &self.error {
            None => Ok(self),
            Some(error) => Err(InferenceError::Failed {
                status: 200,
                excerpt: excerpt(error["message"].as_str().unwrap_or(&error.to_string())),
            }),
        }
    }
}

pub(super) fn finish_reason(written: &str) -> FinishReason {
    match written {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "content_filter" => FinishReason::Filtered,
        _ => FinishReason::Other,
    }
}
