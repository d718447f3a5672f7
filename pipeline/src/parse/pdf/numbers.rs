//! The numbers that headings begin with.

/// A text without the number that it begins with, and the word before that.
pub(super) fn without_number(text: &str) -> &str {
    const WORDS: [&str; 6] = ["chapter", "appendix", "part", "section", "annex", "kapitel"];
    let text = text.trim();
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(first));
    let (number, rest) = if is_word {
        let rest = rest.trim_start();
        rest.split_once(char::is_whitespace).unwrap_or((rest, ""))
    } else {
        (first, rest)
    };
    let is_label = is_word && number.len() <= 4;
    if number_depth(number) > 0 || is_label {
        rest.trim_start()
    } else {
        text
    }
}

/// How deep the number is that a text begins with, if it is one and words follow.
pub(super) fn depth(text: &str) -> u8 {
    let Some((number, rest)) = text.trim().split_once(char::is_whitespace) else {
        return 0;
    };
    if rest.trim_start().starts_with(char::is_alphabetic) {
        number_depth(number)
    } else {
        0
    }
}

/// How deep a number is: of `1` or `1.` it is 1, of `A.2.1` it is 3; of what is none it is 0.
fn number_depth(number: &str) -> u8 {
    const DIGITS_MAX: usize = 3;
    let number = number.trim_end_matches(['.', ':', ')']);
    let mut depth = 0;
    for (index, part) in number.split('.').enumerate() {
        let is_digits = !part.is_empty()
            && part.len() <= DIGITS_MAX
            && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_letter =
            index == 0 && part.len() == 1 && part.bytes().all(|b| b.is_ascii_uppercase());
        if !is_digits && (!is_letter || number.len() == 1) {
            return 0;
        }
        depth += 1;
    }
    depth.min(6)
}

#[cfg(test)]
mod tests {
    use super::{depth, without_number};

    #[test]
    fn the_number_before_a_heading_is_told_from_its_words() {
        let told = [
            ("1 Of grain", 1, "Of grain"),
            ("1.2.3. Of grain", 3, "Of grain"),
            ("A.1 Of grain", 2, "Of grain"),
            ("Appendix B Of grain", 0, "Of grain"),
            ("Chapter 4. Of grain", 0, "Of grain"),
            ("A market", 0, "A market"),
            ("1917", 0, "1917"),
            ("1999 was dry", 0, "1999 was dry"),
            ("12 %", 0, "%"),
        ];
        for (text, expected, bare) in told {
            assert_eq!(
                (depth(text), without_number(text)),
                (expected, bare),
                "{text}"
            );
        }
    }
}
