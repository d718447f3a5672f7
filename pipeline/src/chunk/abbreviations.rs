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

/// What follows an ordinal in German.
const AFTER_ORDINALS: [&str; 14] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
    "Jahrhundert",
    "Auflage",
];

/// Whether a full stop at the end of `before` ends no sentence, as what follows it also tells.
///
/// So it is after a known abbreviation, after an initial (`J. Smith`), inside of `e. g.` and
/// `z. B.`, and after a number that stands at the beginning (`1. First`) or before a German month.
pub(super) fn is_abbreviation(before: &str, after: &str) -> bool {
    let Some(before) = before.trim_end().strip_suffix('.') else {
        return false;
    };
    let from = before.ceil_char_boundary(before.len().saturating_sub(LOOKED_AT_BYTES));
    let near = &before[from..];
    let ends_word =
        |c: char| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“' | '„' | '«' | '/');
    let (earlier, word) = match near.rfind(ends_word) {
        Some(at) => {
            let length = near[at..].chars().next().map_or(0, char::len_utf8);
            near.split_at(at + length)
        }
        None => ("", near),
    };
    if word.is_empty() {
        return false;
    }
    if word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit()) {
        let begins = before.trim_start().len() == word.len();
        return begins || AFTER_ORDINALS.iter().any(|month| after.starts_with(month));
    }
    let mut letters = word.chars();
    if let (Some(only), None) = (letters.next(), letters.next()) {
        let follows_another = ends_with_initial(earlier);
        let is_initial = only.is_uppercase() && only != 'I';
        return is_initial || only.is_alphabetic() && (follows_another || begins_initial(after));
    }
    // Letters with full stops between them: `e.g`, `U.S`, `i.d.R`.
    if word.contains('.') && word.split('.').all(|part| part.chars().count() == 1) {
        return true;
    }
    let lower = word.to_lowercase();
    ABBREVIATIONS.binary_search(&lower.as_str()).is_ok()
        || BEFORE_NUMBERS.binary_search(&lower.as_str()).is_ok()
            && after.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether text ends in a single letter with a full stop, as before `g.` in `e. g.`.
fn ends_with_initial(text: &str) -> bool {
    let Some(text) = text.trim_end().strip_suffix('.') else {
        return false;
    };
    let mut letters = text.chars().rev();
    let last = letters.next().is_some_and(char::is_alphabetic);
    last && letters.next().is_none_or(|c| !c.is_alphanumeric())
}

/// Whether text begins with a single letter and a full stop.
fn begins_initial(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(char::is_alphabetic) && letters.next() == Some('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order() {
        assert!(ABBREVIATIONS.is_sorted() && BEFORE_NUMBERS.is_sorted());
    }
}
