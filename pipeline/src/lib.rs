//! The stages that a document passes: validate, parse, chunk, embed, detect, index.
