//! End-to-end tests: the real binary, driven over HTTP and from its command line.
#![allow(missing_docs, clippy::expect_used)]

mod annotations;
mod bad_input;
mod bad_requests;
mod batch;
mod browser;
mod clock_jumps;
mod command_line;
mod connections;
mod content;
mod contract;
mod damage;
mod document_failures;
mod documents;
mod documents_cli;
mod durability;
mod events;
mod full_disk;
mod graph;
mod graph_conformance;
mod graph_in_neo4j;
mod graph_queries;
mod hostile_files;
mod job_retries;
mod jobs;
mod killed_jobs;
mod killed_workers;
mod operation;
mod outside_workers;
mod proofs;
mod real_files;
mod resources;
mod search;
mod stream;
#[path = "../../pipeline/tests/written/mod.rs"]
mod written;
