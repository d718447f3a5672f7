//! Byte ranges (RFC 9110, section 14).

/// What of a representation is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These spans: first byte and length, in the order asked for.
    Ranges(Vec<(u64, u64)>),
    /// Nothing that it has.
    Unsatisfiable,
}

/// Reads a `Range` header for a representation of `length` bytes. What is not a range of bytes, or
/// more ranges than are answered, asks for the whole, as the standard allows.
pub(crate) fn wanted(header: &str, length: u64, ranges_max: usize) -> Wanted {
    let Some(list) = header
        .split_once('=')
        .filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"))
        .map(|(_, list)| list)
    else {
        return Wanted::Whole;
    };
    let specs: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|spec| !spec.is_empty())
        .collect();
    if specs.is_empty() || specs.len() > ranges_max {
        return Wanted::Whole;
    }
    let mut ranges = Vec::new();
    for spec in specs {
        match range(spec, length) {
            None => return Wanted::Whole,
            Some(None) => {}
            Some(Some(range)) => ranges.push(range),
        }
    }
    let asked: u64 = ranges
        .iter()
        .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
    if ranges.is_empty() {
        Wanted::Unsatisfiable
    } else if asked > length {
        // Ranges that overlap would make the answer larger than the whole.
        Wanted::Whole
    } else {
        Wanted::Ranges(ranges)
    }
}

/// One range: none when it is malformed, none inside when it lies outside.
#[expect(clippy::option_option, reason = "the inner one is an answer")]
fn range(spec: &str, length: u64) -> Option<Option<(u64, u64)>> {
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let count = number(last)?.min(length);
        return Some((count > 0).then(|| (length - count, count)));
    }
    let first = number(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        number(last)?
    };
    if last < first {
        return None;
    }
    Some((first < length).then(|| (first, last.min(length - 1) - first + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_writes_them() {
        let ranges = |header: &str| wanted(header, 10, 3);
        assert_eq!(ranges("bytes=0-0"), Wanted::Ranges(vec![(0, 1)]));
        assert_eq!(ranges("BYTES=0-0"), Wanted::Ranges(vec![(0, 1)]));
        assert_eq!(ranges("bytes=2-"), Wanted::Ranges(vec![(2, 8)]));
        assert_eq!(ranges("bytes=-3"), Wanted::Ranges(vec![(7, 3)]));
        assert_eq!(ranges("bytes=-99"), Wanted::Ranges(vec![(0, 10)]));
        assert_eq!(
            ranges("bytes=5-99, 0-1"),
            Wanted::Ranges(vec![(5, 5), (0, 2)])
        );
        assert_eq!(ranges("bytes=10-, 0-1"), Wanted::Ranges(vec![(0, 2)]));
        for outside in ["bytes=10-", "bytes=-0", "bytes=99-100"] {
            assert_eq!(ranges(outside), Wanted::Unsatisfiable, "{outside}");
        }
        for ignored in [
            "items=0-1",
            "bytes=",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1",
            "bytes=0-0,1-1,2-2,3-3",
            "bytes=0-,0-",
        ] {
            assert_eq!(ranges(ignored), Wanted::Whole, "{ignored}");
        }
    }

    #[test]
    fn empty_content_has_no_range() {
        assert_eq!(wanted("bytes=0-", 0, 3), Wanted::Unsatisfiable);
        assert_eq!(wanted("bytes=-5", 0, 3), Wanted::Unsatisfiable);
    }
}
