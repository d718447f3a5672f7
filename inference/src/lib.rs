//! Models at work: embedders, detectors, completers, embedded or behind HTTP.
