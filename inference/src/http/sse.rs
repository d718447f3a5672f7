//! Events in a stream of bytes, as `text/event-stream` frames them, cut anywhere.
//!
//! Invariant: the same bytes give the same events however they are cut into pieces.

use crate::error::InferenceError;

/// Most bytes of one event; longer ones are an error.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// Puts events together.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The line that has not ended yet, without its end.
    line: Vec<u8>,
    /// Lines of data of the event that has not ended yet, each with its end.
    data: Vec<u8>,
    /// Whether the last byte was a CR: an LF right after it belongs to it.
    is_after_cr: bool,
}

impl Events {
    /// Takes more bytes, and calls `on_data` with the data of each event that ends in them.
    ///
    /// # Errors
    /// [`Garbage`](InferenceError::Garbage) for what is too long or no UTF-8, and what `on_data`
    /// returns.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        on_data: &mut dyn FnMut(&str) -> Result<(), InferenceError>,
    ) -> Result<(), InferenceError> {
        for &byte in bytes {
            let is_pair = byte == b'\n' && std::mem::take(&mut self.is_after_cr);
            self.is_after_cr = byte == b'\r';
            match byte {
                b'\n' if is_pair => {}
                b'\n' | b'\r' => self.end_line(on_data)?,
                _ if self.line.len() + self.data.len() >= EVENT_BYTES_MAX => {
                    return Err(InferenceError::garbage(
                        "an event of the stream is too long",
                    ));
                }
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// The stream ended: gives out an event that lacks its empty line.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn end(
        &mut self,
        on_data: &mut dyn FnMut(&str) -> Result<(), InferenceError>,
    ) -> Result<(), InferenceError> {
        self.take(b"\n\n", on_data)
    }

    fn end_line(
        &mut self,
        on_data: &mut dyn FnMut(&str) -> Result<(), InferenceError>,
    ) -> Result<(), InferenceError> {
        let line = std::mem::take(&mut self.line);
        if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend(data.strip_prefix(b" ").unwrap_or(data));
            self.data.push(b'\n');
            return Ok(());
        }
        if !line.is_empty() || self.data.is_empty() {
            return Ok(());
        }
        let mut data = std::mem::take(&mut self.data);
        data.pop();
        let data = String::from_utf8(data)
            .map_err(|_| InferenceError::garbage("an event of the stream is not UTF-8"))?;
        on_data(&data)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Result<Vec<String>, InferenceError> {
        let (mut events, mut all) = (Events::default(), Vec::new());
        let mut keep = |data: &str| {
            all.push(data.to_owned());
            Ok(())
        };
        for piece in pieces {
            events.take(piece, &mut keep)?;
        }
        events.end(&mut keep)?;
        Ok(all)
    }

    #[test]
    fn comments_names_and_empty_lines_are_no_data() {
        let stream =
            b": hi\r\n\r\nevent: x\r\ndata: a\r\ndata:b\r\n\r\n\n\ndata: c\rid: 3\r\rdata: [DONE]";
        assert_eq!(events(&[stream]).unwrap(), ["a\nb", "c", "[DONE]"]);
    }

    #[test]
    fn an_event_without_end_is_refused_at_its_limit() {
        let mut endless = Events::default();
        let piece = vec![b'x'; EVENT_BYTES_MAX];
        assert!(endless.take(&piece, &mut |_| Ok(())).is_ok());
        let error = endless.take(b"y", &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.code(), "MODEL_GARBAGE");
    }

    #[test]
    fn data_that_is_not_utf_8_is_refused() {
        let error = events(&[b"data: \xff\n\n"]).unwrap_err();
        assert_eq!(error.code(), "MODEL_GARBAGE");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut(
            stream in "(data: ?[aé€🪐]{0,3}(\r\n|\n|\r)|:[x]?\n|\n|\r\n){0,12}",
            cuts in proptest::collection::vec(0_usize..80, 0..6),
        ) {
            let whole = events(&[stream.as_bytes()]).unwrap();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|w| &stream.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(events(&pieces).unwrap(), whole);
        }
    }
}
