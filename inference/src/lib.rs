//! Models at work: embedders, detectors, completers, embedded or behind HTTP.
//!
//! All calls block, take a [`Stop`], and know nothing of documents or events.

mod completer;
mod detector;
mod embedder;
mod error;
mod fixed;
mod http;
mod rules;
mod secret;
mod spans;
mod stop;

pub use completer::{
    COMPLETION_BYTES_MAX, Completer, Completion, FinishReason, Message, Prompt, Role, Usage,
};
pub use detector::{Detected, Detector, ENTITY_BYTES_MAX, Entity, TYPE_BYTES_MAX, type_name};
pub use embedder::{DIMENSION_MAX, EMBED_BATCH_MAX, Embedder, ModelKind, ModelName};
pub use error::{EXCERPT_CHARS_MAX, InferenceError, RETRY_AFTER_MAX};
pub use fixed::{STATIC_MODEL, StaticEmbedder};
pub use http::{
    DETECTION_BYTES_MAX, DetectionOptions, EMBED_TEXT_BYTES_MAX, ENTITIES_MAX, Endpoint,
    EndpointError, EndpointOptions, HttpCompleter, HttpDetector, HttpEmbedder, JsonMode,
    PROMPT_BYTES_MAX, stoppable_agent, with_stop,
};
pub use rules::{RULES_ENTITIES_MAX, RulesDetector};
pub use secret::{Secret, masked};
pub use stop::Stop;
