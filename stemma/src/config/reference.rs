//! The table of all settings for people: `docs/configuration.md`.

use super::settings::SETTINGS;

/// The reference of all settings, as Markdown.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\nMade from the code by `stemma config --reference`.\n\n\
         A setting is taken from `stemma.toml` in the data directory (or `--config FILE`), then from the \
         environment (`STEMMA_SECTION__KEY`, such as `STEMMA_VIEWS__ENGINE=lsm-tree`), then from an option of the \
         command; the last one holds. An unknown key is an error. `stemma config` prints what is in force.\n\n\
         | key | default | takes | what it does |\n|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", setting.default)
        };
        text.push_str(&format!(
            "| `{}` | {default} | {} | {} |\n",
            setting.key,
            setting.kind.expected(),
            setting.about
        ));
    }
    text.push_str(
        "\n`STEMMA_DATA`, `STEMMA_SERVER` and `STEMMA_LOG` (what is logged, `info` by default) are read beside them.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_the_documentation_is_current() {
        let written = include_str!("../../../docs/configuration.md");
        assert_eq!(
            written,
            reference(),
            "write it anew: stemma config --reference > docs/configuration.md"
        );
    }
}
