//! The table of vectors: its bytes, as docs/format/static-embedding.md describes them, checked
//! before anything in them is used.

use std::collections::HashMap;

use crate::error::InferenceError;

/// What the file begins with.
const MAGIC: &[u8; 16] = b"STEMMA-STATIC-1\n";

/// Bytes before the tokens: the magic, and three numbers of four bytes.
const HEADER_BYTES: usize = 28;

/// Most bytes of a token; longer ones do not occur.
pub(super) const TOKEN_BYTES_MAX: usize = 128;

/// Vectors of tokens. A row is whole numbers and the scale they are to be multiplied by.
#[derive(Debug)]
pub(super) struct Table {
    /// Rows of tokens that begin a word.
    beginning: HashMap<&'static str, u32>,
    /// Rows of tokens that go on within a word, without their `##`.
    inner: HashMap<&'static str, u32>,
    scales: &'static [u8],
    numbers: &'static [u8],
    dimension: usize,
    /// The mean length of the rows.
    length: f32,
}

impl Table {
    /// Reads a table from its bytes.
    ///
    /// # Errors
    /// [`Damaged`](InferenceError::Damaged) when they are not those of the digest, or no table.
    pub(super) fn read(
        name: &str,
        bytes: &'static [u8],
        digest: &str,
    ) -> Result<Self, InferenceError> {
        let damaged = |what: &str| InferenceError::Damaged {
            name: name.to_owned(),
            what: what.to_owned(),
        };
        if blake3::hash(bytes).to_hex().as_str() != digest {
            return Err(damaged("its digest is another one"));
        }
        let mut table = Self::parse(bytes).ok_or_else(|| damaged("it is no table of vectors"))?;
        table.length = table.mean_length();
        Ok(table)
    }

    fn parse(bytes: &'static [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?.strip_prefix(MAGIC)?;
        let number = |at: usize| {
            let four = header.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(four)).ok()
        };
        let (count, dimension, tokens_bytes) = (number(0)?, number(4)?, number(8)?);
        let (tokens, rest) = bytes[HEADER_BYTES..].split_at_checked(tokens_bytes)?;
        let (scales, numbers) = rest.split_at_checked(count.checked_mul(4)?)?;
        if numbers.len() != count.checked_mul(dimension)? || dimension == 0 {
            return None;
        }
        let tokens = std::str::from_utf8(tokens).ok()?.strip_suffix('\n')?;
        let (mut beginning, mut inner) = (HashMap::with_capacity(count), HashMap::new());
        let mut rows = 0_u32;
        for token in tokens.split('\n') {
            if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
                return None;
            }
            let other = match token.strip_prefix("##").filter(|rest| !rest.is_empty()) {
                Some(rest) => inner.insert(rest, rows),
                None => beginning.insert(token, rows),
            };
            if other.is_some() {
                return None;
            }
            rows += 1;
        }
        let is_whole = usize::try_from(rows) == Ok(count);
        is_whole.then_some(Self {
            beginning,
            inner,
            scales,
            numbers,
            dimension,
            length: 1.0,
        })
    }

    /// How many numbers a row has.
    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// The mean length of all rows.
    pub(super) fn length(&self) -> f32 {
        self.length
    }

    /// The row of a token, if there is one. `is_inner` tells tokens that go on within a word.
    pub(super) fn row(&self, token: &str, is_inner: bool) -> Option<u32> {
        let tokens = if is_inner {
            &self.inner
        } else {
            &self.beginning
        };
        tokens.get(token).copied()
    }

    /// Adds a row to a sum.
    ///
    /// # Panics
    /// When the row is not from [`row`](Self::row), or the sum is not of the table's dimension.
    pub(super) fn add(&self, row: u32, sum: &mut [f32]) {
        assert_eq!(sum.len(), self.dimension, "a sum of the table's rows");
        let (scale, numbers) = self.scaled(row as usize);
        for (value, number) in sum.iter_mut().zip(numbers) {
            *value += scale * f32::from(number.cast_signed());
        }
    }

    fn scaled(&self, row: usize) -> (f32, &[u8]) {
        let scale = &self.scales[row * 4..row * 4 + 4];
        let scale = f32::from_le_bytes(scale.try_into().expect("a slice of four"));
        (
            scale,
            &self.numbers[row * self.dimension..(row + 1) * self.dimension],
        )
    }

    fn mean_length(&self) -> f32 {
        let count = self.scales.len() / 4;
        let mut sum = 0.0;
        for row in 0..count {
            let (scale, numbers) = self.scaled(row);
            let squares = numbers.iter().map(|n| i32::from(n.cast_signed()).pow(2));
            sum += f64::from(scale) * f64::from(squares.sum::<i32>()).sqrt();
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "a mean of some ten thousand small numbers"
        )]
        let mean = (sum / count.max(1) as f64) as f32;
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(tokens: &str, count: u32, cut: usize) -> Result<Table, InferenceError> {
        let mut bytes = MAGIC.to_vec();
        for number in [count, 2, u32::try_from(tokens.len()).unwrap()] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(tokens.as_bytes());
        (0..count).for_each(|_| bytes.extend(0.5_f32.to_le_bytes()));
        (0..count).for_each(|_| bytes.extend([6, (-8_i8).cast_unsigned()]));
        bytes.truncate(bytes.len() - cut);
        let digest = blake3::hash(&bytes).to_hex();
        Table::read("t", bytes.leak(), digest.as_str())
    }

    #[test]
    fn rows_are_scaled_and_added() {
        let table = table("a\n##a\n##\n", 3, 0).unwrap();
        let mut sum = [1.0, 1.0];
        table.add(table.row("a", true).unwrap(), &mut sum);
        assert_eq!(format!("{sum:?}"), "[4.0, -3.0]");
        assert_eq!(
            (table.row("a", false), table.row("##", false)),
            (Some(0), Some(2))
        );
        assert!((table.length() - 5.0).abs() < 1e-6);
    }

    #[test]
    fn bytes_that_are_no_table_are_named_damaged() {
        for (tokens, count, cut) in [
            ("a\nb\n", 3, 0),
            ("a\na\n", 2, 0),
            ("a\n\n", 2, 0),
            ("a\nb", 2, 0),
            ("a\nb\n", 2, 1),
            ("a\nb\n", 2, 20),
            ("", 0, 0),
        ] {
            let error = table(tokens, count, cut).unwrap_err();
            assert_eq!(error.code(), "MODEL_DAMAGED", "{tokens:?}");
        }
        let error = Table::read("t", b"other", &"0".repeat(64)).unwrap_err();
        assert_eq!(error.code(), "MODEL_DAMAGED");
    }
}
