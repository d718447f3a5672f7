//! Completers: what writes text that answers a prompt, piece by piece.

use crate::error::InferenceError;
use crate::stop::Stop;

/// Most bytes of a completion's text; a model that says more is cut off with an error.
pub const COMPLETION_BYTES_MAX: usize = 4 << 20;

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who asks.
    User,
    /// The model, in an earlier turn.
    Assistant,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What it is told before all else; empty for nothing.
    pub system: String,
    /// The conversation so far; the last message is the one to answer.
    pub messages: Vec<Message>,
    /// Most tokens of the answer.
    pub tokens_max: u32,
}

/// Why an answer ended where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model had said it all.
    Stop,
    /// `tokens_max` was reached.
    Length,
    /// The provider held back the rest.
    Filtered,
    /// Another reason that the provider did not explain.
    Other,
}

/// What a completion cost, as the provider counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that were read.
    pub prompt_tokens: u64,
    /// Tokens that were written.
    pub completion_tokens: u64,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// All of it: the deltas, one after the other.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it cost; none when the provider does not say.
    pub usage: Option<Usage>,
}

/// Answers prompts.
pub trait Completer: Send + Sync {
    /// The model's name.
    fn model(&self) -> &str;

    /// Answers, and calls `on_delta` with each piece as it comes; no piece is empty.
    ///
    /// # Errors
    /// [`InferenceError`]; pieces may have been handed out before.
    fn complete(
        &self,
        prompt: &Prompt,
        on_delta: &mut dyn FnMut(&str),
        stop: &Stop,
    ) -> Result<Completion, InferenceError>;
}
