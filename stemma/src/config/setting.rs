//! What a setting is: its key, what it takes, its default.

/// A setting.
pub(crate) struct Setting {
    /// Its key, `section.name`.
    pub(crate) key: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// Its default, as text; empty for none.
    pub(crate) default: &'static str,
    /// What it does, with its unit.
    pub(crate) about: &'static str,
}

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A whole number in a range.
    Number(u64, u64),
    /// Any text, which nobody is shown.
    Secret,
    /// One of these words.
    Choice(&'static [&'static str]),
}

pub(super) const fn number(
    key: &'static str,
    default: &'static str,
    range: (u64, u64),
    about: &'static str,
) -> Setting {
    Setting {
        key,
        kind: Kind::Number(range.0, range.1),
        default,
        about,
    }
}

pub(super) const fn text(key: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting {
        key,
        kind: Kind::Text,
        default,
        about,
    }
}

impl Kind {
    /// What is taken, for people.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Secret => "a text that is not shown".to_owned(),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Choice(words) => words.join(" or "),
        }
    }

    /// Whether a text is taken.
    pub(crate) fn takes(self, text: &str) -> bool {
        match self {
            Self::Text | Self::Secret => true,
            Self::Number(least, most) => {
                text.parse().is_ok_and(|n: u64| (least..=most).contains(&n))
            }
            Self::Choice(words) => words.contains(&text),
        }
    }
}
