//! A text that is addressed by code points, and by UTF-16 units for browsers.
//!
//! Every [`STRIDE`] code points their byte and UTF-16 offsets are noted, so that finding one place
//! costs the same in a long text as in a short one.

/// Code points between two notes.
const STRIDE: usize = 1024;

/// A text with its notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextIndex {
    text: String,
    /// For code point `i * STRIDE`: its byte offset and its UTF-16 offset.
    notes: Vec<(usize, usize)>,
    code_points: usize,
    utf16_units: usize,
}

impl TextIndex {
    /// Notes the places of a text.
    pub fn new(text: &str) -> Self {
        let mut notes = Vec::with_capacity(text.len() / STRIDE + 1);
        let (mut code_points, mut utf16_units) = (0, 0);
        for (byte, character) in text.char_indices() {
            if code_points % STRIDE == 0 {
                notes.push((byte, utf16_units));
            }
            code_points += 1;
            utf16_units += character.len_utf16();
        }
        Self {
            text: text.to_owned(),
            notes,
            code_points,
            utf16_units,
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its length in code points.
    pub fn len(&self) -> usize {
        self.code_points
    }

    /// Whether it has no code point.
    pub fn is_empty(&self) -> bool {
        self.code_points == 0
    }

    /// The byte at which a code point begins; the end of the text is a place too.
    pub fn byte_of(&self, code_point: usize) -> Option<usize> {
        if code_point >= self.code_points {
            return (code_point == self.code_points).then_some(self.text.len());
        }
        let (byte, _) = self.notes[code_point / STRIDE];
        let within = self.text[byte..].char_indices().nth(code_point % STRIDE);
        within.map(|(offset, _)| byte + offset)
    }

    /// The code point that begins at a byte (which must begin one, or be the end).
    pub fn code_point_of(&self, byte: usize) -> usize {
        let note = self
            .notes
            .partition_point(|(noted, _)| *noted <= byte)
            .saturating_sub(1);
        let Some((noted, _)) = self.notes.get(note) else {
            return 0;
        };
        note * STRIDE + self.text[*noted..byte].chars().count()
    }

    /// The text between two code points; none when they are no span of it.
    pub fn slice(&self, start: usize, end: usize) -> Option<&str> {
        self.text.get(self.byte_of(start)?..self.byte_of(end)?)
    }

    /// The UTF-16 offset of a code point; none beyond the end.
    pub fn utf16_of(&self, code_point: usize) -> Option<usize> {
        if code_point >= self.code_points {
            return (code_point == self.code_points).then_some(self.utf16_units);
        }
        let (byte, units) = self.notes[code_point / STRIDE];
        let before = self.text[byte..].chars().take(code_point % STRIDE);
        Some(units + before.map(char::len_utf16).sum::<usize>())
    }

    /// The code point at a UTF-16 offset; none beyond the end or inside a surrogate pair.
    pub fn code_point_of_utf16(&self, unit: usize) -> Option<usize> {
        if unit == self.utf16_units {
            return Some(self.code_points);
        }
        let note = self
            .notes
            .partition_point(|(_, noted)| *noted <= unit)
            .checked_sub(1)?;
        let (byte, mut units) = self.notes[note];
        for (index, character) in self.text[byte..].chars().enumerate() {
            if units >= unit {
                return (units == unit).then_some(note * STRIDE + index);
            }
            units += character.len_utf16();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_code_point_byte_and_utf16_unit() {
        let text = TextIndex::new("aé𝄞z");
        assert_eq!(
            (0..=5).map(|i| text.byte_of(i)).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(3), Some(7), Some(8), None]
        );
        assert_eq!(
            [0, 1, 3, 7, 8].map(|byte| text.code_point_of(byte)),
            [0, 1, 2, 3, 4]
        );
        assert_eq!(
            [2, 3, 4].map(|i| text.utf16_of(i)),
            [Some(2), Some(4), Some(5)]
        );
        assert_eq!(
            [2, 3, 4, 5, 6].map(|u| text.code_point_of_utf16(u)),
            [Some(2), None, Some(3), Some(4), None]
        );
        assert_eq!(text.slice(1, 3), Some("é𝄞"));
        assert_eq!(
            (text.slice(2, 9), TextIndex::new("").byte_of(0)),
            (None, Some(0))
        );
    }

    #[test]
    fn places_far_into_a_text_agree_with_counting() {
        let text = TextIndex::new(&"ab𝄞é".repeat(3000));
        for code_point in [0, 1, 1023, 1024, 1025, 4097, 11_999, 12_000] {
            let byte = text.byte_of(code_point).unwrap();
            assert_eq!(text.code_point_of(byte), code_point);
            let unit = text.utf16_of(code_point).unwrap();
            assert_eq!(text.code_point_of_utf16(unit), Some(code_point));
        }
    }
}
