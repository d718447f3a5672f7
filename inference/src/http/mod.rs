//! Models behind HTTP, by the protocol that OpenAI made common.

mod chat;
mod completion;
mod detection;
mod embeddings;
mod endpoint;
mod sse;
mod stoppable;

pub use completion::{HttpCompleter, PROMPT_BYTES_MAX};
pub use detection::{DETECTION_BYTES_MAX, DetectionOptions, ENTITIES_MAX, HttpDetector, JsonMode};
pub use embeddings::{EMBED_TEXT_BYTES_MAX, HttpEmbedder};
pub use endpoint::{Endpoint, EndpointError, EndpointOptions};
pub use stoppable::{stoppable_agent, with_stop};
