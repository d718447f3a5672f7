//! Sorting that can be stopped.

use std::cmp::Ordering;

use crate::error::Error;

/// The places of things in their order; what compares equal stays as it was. Ends with the first
/// comparison that fails: the one of the standard library cannot be left half done.
pub(crate) fn sorted(
    count: usize,
    mut compare: impl FnMut(usize, usize) -> Result<Ordering, Error>,
) -> Result<Vec<usize>, Error> {
    let mut places: Vec<usize> = (0..count).collect();
    let mut merged = Vec::with_capacity(count);
    // Runs of this length are sorted; two that are neighbors become one.
    let mut length = 1;
    while length < count {
        for both in places.chunks(length * 2) {
            let (mut left, mut right) = both.split_at(length.min(both.len()));
            while let (Some(one), Some(other)) = (left.first(), right.first()) {
                let from = match compare(*one, *other)? {
                    Ordering::Greater => &mut right,
                    Ordering::Less | Ordering::Equal => &mut left,
                };
                merged.extend_from_slice(&from[..1]);
                *from = &from[1..];
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(&mut places, &mut merged);
        merged.clear();
        length *= 2;
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_sorted_and_what_is_equal_stays_in_its_order() {
        for count in 0..40 {
            let values: Vec<usize> = (0..count).map(|index| index * 7 % 5).collect();
            let places = sorted(count, |a, b| Ok(values[a].cmp(&values[b]))).unwrap();
            let mut expected: Vec<usize> = (0..count).collect();
            expected.sort_by_key(|place| values[*place]);
            assert_eq!(places, expected);
        }
    }

    #[test]
    fn a_sort_ends_with_the_first_comparison_that_fails() {
        let mut compared = 0;
        let ended = sorted(1000, |_, _| {
            compared += 1;
            if compared == 3 {
                return Err(Error::Cancelled);
            }
            Ok(Ordering::Less)
        });
        assert_eq!((ended, compared), (Err(Error::Cancelled), 3));
    }
}
