//! A name for a file that is safe to store, to show, and to save under.

/// The longest name, in bytes of UTF-8: what file systems take.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// The name of a file of which nothing usable was sent.
const UNNAMED: &str = "document";

/// Makes a safe name of what a client sent.
///
/// The result is the last part of a path of any system, without control characters and without
/// those that change the direction of text or cannot be seen, without characters that some system
/// refuses in names, not one of Windows' names of devices, at most [`FILE_NAME_BYTES_MAX`] bytes
/// long with its extension kept, and never empty. Letters of all scripts stay. Making a name safe
/// twice changes nothing.
pub fn safe_file_name(sent: &str) -> String {
    let last = sent
        .rsplit(['/', '\\'])
        .find(|part| !part.trim().is_empty());
    let visible: String = last
        .unwrap_or_default()
        .chars()
        .filter_map(|c| match c {
            '<' | '>' | ':' | '"' | '|' | '?' | '*' => Some('_'),
            c if c.is_whitespace() => Some(' '),
            c if c.is_control() || is_invisible(c) => None,
            c => Some(c),
        })
        .collect();
    let trimmed = trim(&visible);
    let named = if trimmed.is_empty() { UNNAMED } else { trimmed };
    let mut name = if is_device(named) {
        format!("_{named}")
    } else {
        named.to_owned()
    };
    shorten(&mut name);
    name
}

/// White space around a name, dots that hide a file or that Windows drops.
fn trim(name: &str) -> &str {
    name.trim_matches(|c: char| c == ' ' || c == '.')
}

/// Characters that turn the direction of text, join or split without being seen, or stand for no
/// character. The joiner between emoji and the non-joiner of Persian go with them.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{ffff}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Windows' names of devices, with whatever extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let upper = stem.to_ascii_uppercase();
    if matches!(
        upper.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) {
        return true;
    }
    let numbered = upper
        .strip_prefix("COM")
        .or_else(|| upper.strip_prefix("LPT"));
    numbered.is_some_and(|number| {
        matches!(
            number,
            "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9"
        ) || matches!(number, "¹" | "²" | "³")
    })
}

/// Cuts the stem of a name that is too long; an extension is kept if it is short.
fn shorten(name: &mut String) {
    const EXTENSION_BYTES_MAX: usize = 16;
    if name.len() <= FILE_NAME_BYTES_MAX {
        return;
    }
    let extension = match name.rfind('.') {
        Some(dot) if name.len() - dot <= EXTENSION_BYTES_MAX => name.split_off(dot),
        _ => String::new(),
    };
    let room = FILE_NAME_BYTES_MAX - extension.len();
    let end = name.floor_char_boundary(room);
    name.truncate(end);
    let kept = name.trim_end_matches([' ', '.']).len();
    name.truncate(kept);
    name.push_str(&extension);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_of_a_path_is_kept() {
        assert_eq!(safe_file_name("../../etc/passwd"), "passwd");
        assert_eq!(safe_file_name("C:\\temp\\report.pdf"), "report.pdf");
        assert_eq!(safe_file_name("a/b/"), "b");
        assert_eq!(safe_file_name("..\\.."), "document");
    }

    #[test]
    fn what_deceives_the_eye_is_gone() {
        assert_eq!(safe_file_name("invoice\u{202e}fdp.exe"), "invoicefdp.exe");
        assert_eq!(safe_file_name("a\0b\nc\u{7f}.txt"), "ab c.txt");
        assert_eq!(safe_file_name("a\u{200b}b"), "ab");
    }

    #[test]
    fn letters_of_all_scripts_stay() {
        assert_eq!(
            safe_file_name("Übersicht 数据 отчёт.pdf"),
            "Übersicht 数据 отчёт.pdf"
        );
        assert_eq!(safe_file_name("हिन्दी.docx"), "हिन्दी.docx");
    }

    #[test]
    fn names_of_devices_and_hidden_files_are_changed() {
        assert_eq!(safe_file_name("con"), "_con");
        assert_eq!(safe_file_name("LPT1.txt"), "_LPT1.txt");
        assert_eq!(safe_file_name("console.txt"), "console.txt");
        assert_eq!(safe_file_name(".bashrc"), "bashrc");
        assert_eq!(safe_file_name(" ... "), "document");
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let name = safe_file_name(&format!("{}.pdf", "ж".repeat(400)));
        assert!(name.len() <= FILE_NAME_BYTES_MAX && name.ends_with("ж.pdf"));
    }

    proptest! {
        #[test]
        fn a_name_is_safe_and_stays_so(sent in "\\PC{0,40}|[./\\\\ :\u{0}-\u{20}\u{200b}-\u{202e}a-c]{0,300}") {
            let name = safe_file_name(&sent);
            prop_assert!(!name.is_empty() && name.len() <= FILE_NAME_BYTES_MAX);
            prop_assert!(!name.contains(['/', '\\']) && !name.chars().any(char::is_control));
            prop_assert!(name != "." && name != "..");
            prop_assert_eq!(safe_file_name(&name), name);
        }
    }
}
