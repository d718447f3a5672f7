//! Full stops that end no sentence.

/// Abbreviations that more text follows, in lower case without their last full stop, in order.
/// English first, with what German, French and Spanish use most.
const ABBREVIATIONS: [&str; 92] = [
    "abb", "abs", "adm", "al", "approx", "apr", "art", "aug", "av", "bd", "bzw", "ca", "cap",
    "capt", "cf", "ch", "chap", "cmdr", "col", "cpl", "dec", "dept", "dr", "dra", "ed", "eds",
    "eq", "eqs", "esp", "est", "evtl", "exp", "feb", "fig", "figs", "fr", "gen", "ggf", "gov",
    "hr", "hrsg", "incl", "inkl", "jan", "jul", "jun", "lt", "maj", "mar", "max", "min", "mio",
    "mlle", "mm", "mme", "mr", "mrs", "ms", "mt", "mwst", "nov", "nr", "oct", "op", "pp", "pres",
    "prof", "prov", "ref", "refs", "rep", "rev", "sec", "sect", "sen", "sep", "sept", "sgt", "sog",
    "spp", "sra", "srta", "str", "tab", "tel", "usw", "vgl", "viz", "vol", "vols", "vs", "zzgl",
];

/// Abbreviations only before a number.
const BEFORE_NUMBERS: [&str; 8] = ["item", "lines", "no", "nos", "note", "p", "par", "step"];

/// Bytes before a full stop that are looked at.
const LOOKED_AT_BYTES: usize = 64;

/// Whether a full stop at the end of `before` ends no sentence, as what follows it also tells.
///
/// So it is after a known abbreviation, after an initial (`J. Smith`), inside of `e. g.` and
/// `z. B.`, and after a number of one or two digits with a capital behind it, which is an ordinal
/// in German and the number of a line elsewhere.
pub(super) fn is_abbreviation(before: &str, after: &str) -> bool {
    let Some(before) = before.trim_end().strip_suffix('.') else {
        return false;
    };
    let from = before.ceil_char_boundary(before.len().saturating_sub(LOOKED_AT_BYTES));
    let near = &before[from..];
    let word = near
        .rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“' | '„' | '«' | '/'))
        .next()
        .unwrap_or_default();
    if word.is_empty() {
        return false;
    }
    let mut letters = word.chars();
    if let (Some(only), None) = (letters.next(), letters.next()) {
        return only.is_alphabetic() && only != 'I' || only.is_ascii_digit();
    }
    let numbers = word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit());
    // Letters with full stops between them: `e.g`, `U.S`, `i.d.R`.
    let dotted = word.split('.').all(|part| part.chars().count() == 1) && word.contains('.');
    if numbers || dotted {
        return true;
    }
    let lower = word.to_lowercase();
    ABBREVIATIONS.binary_search(&lower.as_str()).is_ok()
        || BEFORE_NUMBERS.binary_search(&lower.as_str()).is_ok()
            && after.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order() {
        assert!(ABBREVIATIONS.is_sorted() && BEFORE_NUMBERS.is_sorted());
    }
}
