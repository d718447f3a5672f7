//! What stages put out, as it is stored: read on, in pieces, or chunk by chunk.
//!
//! Invariant: no more of it is in memory than what was asked for, however large the document is.

use std::io::{BufRead, BufReader, Read};

use stemma_content_store::{Blob, ReadError};
use stemma_domain::document::{Chunk, read_chunks};

use crate::stages::commit::CommitError;

/// A blob as something to read from.
#[derive(Debug)]
pub(crate) struct StoredOutput {
    blob: Blob,
    offset: u64,
}

impl StoredOutput {
    /// A blob from its first byte on.
    pub(crate) fn new(blob: Blob) -> Self {
        Self { blob, offset: 0 }
    }
}

impl Read for StoredOutput {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.blob.read_at(self.offset, buffer.len());
        let read = read.map_err(std::io::Error::other)?;
        buffer[..read.len()].copy_from_slice(&read);
        self.offset += read.len() as u64;
        Ok(read.len())
    }
}

/// Chunks with their texts, in their order, read as they are asked for. Ends with the first error.
pub(crate) struct StoredChunks {
    lines: BufReader<StoredOutput>,
    text: Blob,
    line: Vec<u8>,
    skip: usize,
    is_ended: bool,
}

impl StoredChunks {
    /// The chunks from the place `from` on, of what the stages `chunk` and `parse` put out.
    pub(crate) fn new(chunks: Blob, text: Blob, from: usize) -> Self {
        Self {
            lines: BufReader::new(StoredOutput::new(chunks)),
            text,
            line: Vec::new(),
            skip: from,
            is_ended: false,
        }
    }

    /// Reads the next line; none at the end.
    fn read_line(&mut self) -> Result<Option<()>, CommitError> {
        self.line.clear();
        let read = self.lines.read_until(b'\n', &mut self.line);
        match read.map_err(std::io::Error::downcast::<ReadError>) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(())),
            Err(Ok(error)) => Err(error.into()),
            Err(Err(error)) => Err(CommitError::Internal(error.to_string())),
        }
    }

    fn read(&mut self) -> Result<Option<(Chunk, String)>, CommitError> {
        let broken = |problem: &dyn std::fmt::Display| CommitError::Internal(problem.to_string());
        while self.read_line()?.is_some() {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            let chunks = read_chunks(&self.line, 0, 1).map_err(|error| broken(&error))?;
            let chunk = chunks.into_iter().next();
            let chunk = chunk.ok_or_else(|| broken(&"a line without a chunk"))?;
            let len = chunk.byte_end.checked_sub(chunk.byte_start);
            let len = len.and_then(|len| usize::try_from(len).ok());
            let len = len.ok_or_else(|| broken(&"a chunk that ends before it begins"))?;
            let text = self.text.read_at(chunk.byte_start, len)?;
            if text.len() != len {
                return Err(broken(&"a chunk that ends behind its text"));
            }
            let text = String::from_utf8(text.into()).map_err(|error| broken(&error))?;
            return Ok(Some((chunk, text)));
        }
        Ok(None)
    }
}

impl Iterator for StoredChunks {
    type Item = Result<(Chunk, String), CommitError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_ended {
            return None;
        }
        let read = self.read().transpose();
        self.is_ended = !matches!(read, Some(Ok(_)));
        read
    }
}
