//! What a fuzzer, and the test that replays its corpus, may ask of every reader of this crate.
//!
//! Each function panics when a reader does, or when what it read does not come back.

use crate::cursor::Cursor;
use crate::{key, row};

/// Rows, keys and cursors: the first byte says which.
pub fn rows(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let name = b"key";
    match kind % 7 {
        0 => {
            if let Ok(read) = row::decode_resource(name, bytes) {
                let again = row::decode_resource(name, &row::encode_resource(&read));
                assert_eq!(again.expect("it was written by us"), read);
                let _ = key::indexes(&read);
            }
        }
        1 => {
            if let Ok(read) = row::decode_annotation(name, bytes) {
                let again = row::decode_annotation(name, &row::encode_annotation(&read));
                assert_eq!(again.expect("it was written by us"), read);
            }
        }
        2 => {
            if let Ok(read) = row::decode_type(name, bytes) {
                let again = row::decode_type(name, &row::encode_type(&read));
                assert_eq!(again.expect("it was written by us"), read);
            }
        }
        3 => {
            if let Ok(read) = row::decode_sizes(name, bytes) {
                assert_eq!(row::encode_sizes(&read), bytes);
            }
        }
        4 => {
            if let Ok(read) = row::decode_checkpoint(name, bytes) {
                assert_eq!(row::encode_checkpoint(&read), bytes);
            }
        }
        5 => {
            let _ = row::decode_position(name, bytes);
            let _ = key::indexed_resource(bytes);
            let after = key::after_prefix(bytes);
            assert!(
                bytes.first() == Some(&u8::MAX) || after.as_slice() > bytes || bytes.is_empty()
            );
        }
        _ => {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(cursor) = text.parse::<Cursor>() {
                assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
