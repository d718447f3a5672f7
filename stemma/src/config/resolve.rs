//! From file, environment and options to the settings in force.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::setting::{Kind, Setting};
use super::settings::SETTINGS;
use crate::cli::Common;
use crate::exit::Usage;

/// What is shown in the place of what nobody is to see.
const SECRET: &str = "(not shown)";

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) value: String,
    pub(crate) source: String,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
}

impl Resolved {
    /// Its value for people.
    pub(crate) fn shown(&self) -> &str {
        match self.kind {
            _ if self.value.is_empty() => "–",
            Kind::Secret => SECRET,
            _ => &self.value,
        }
    }

    /// A value or a default as JSON: a number, a text, or null for none.
    pub(crate) fn json(&self, text: &str) -> serde_json::Value {
        match self.kind {
            _ if text.is_empty() => serde_json::Value::Null,
            Kind::Number(..) => text.parse::<u64>().map_or_else(|_| text.into(), Into::into),
            Kind::Secret => SECRET.into(),
            Kind::Text | Kind::Choice(_) => text.into(),
        }
    }
}

/// The settings in force.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Resolved>,
}

/// Variables of ours that are no settings.
const OTHER_VARIABLES: [&str; 4] = ["STEMMA_DATA", "STEMMA_SERVER", "STEMMA_LOG", "STEMMA_TOKEN"];

impl Settings {
    /// Resolves all settings. `options` are those of the command line.
    pub(crate) fn load(
        common: &Common,
        options: &[(&'static str, Option<String>)],
    ) -> anyhow::Result<Self> {
        let file = match &common.config {
            Some(file) => Some(file.clone()),
            None => Some(data_dir(common, None).join("stemma.toml")).filter(|file| file.is_file()),
        };
        let text = match &file {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                Some((
                    file.display().to_string(),
                    read.map_err(|error| Usage(format!("read {}: {error}", file.display())))?,
                ))
            }
            None => None,
        };
        // What is not UTF-8 is no setting's.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let environment: Vec<(String, String)> = variables.collect();
        Self::resolve(
            text.as_ref()
                .map(|(name, text)| (name.as_str(), text.as_str())),
            &environment,
            options,
        )
    }

    fn resolve(
        file: Option<(&str, &str)>,
        environment: &[(String, String)],
        options: &[(&'static str, Option<String>)],
    ) -> anyhow::Result<Self> {
        let of_default = |setting: &Setting| {
            let value = setting.default.to_owned();
            (
                setting.key,
                Resolved {
                    value,
                    source: "default".to_owned(),
                    default: setting.default,
                    kind: setting.kind,
                },
            )
        };
        let mut settings = Self {
            values: SETTINGS.iter().map(of_default).collect(),
        };
        if let Some((name, text)) = file {
            let table: toml::Table = text
                .parse()
                .map_err(|error| Usage(unreadable(name, text, &error)))?;
            settings.take_table("", &table, name)?;
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix("STEMMA_") else {
                continue;
            };
            if OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let key = rest.to_lowercase().replace("__", ".");
            settings.set(&key, value.clone(), &format!("environment {name}"))?;
        }
        // Unlike the other settings this one has a short name too, which comes before the long one.
        if let Some((name, value)) = environment.iter().find(|(name, _)| name == "STEMMA_DATA") {
            settings.set("data_dir", value.clone(), &format!("environment {name}"))?;
        }
        for (key, value) in options {
            if let Some(value) = value {
                settings.set(key, value.clone(), "option")?;
            }
        }
        Ok(settings)
    }

    fn take_table(&mut self, prefix: &str, table: &toml::Table, file: &str) -> anyhow::Result<()> {
        for (key, value) in table {
            let key = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            let value = match value {
                toml::Value::Table(nested) => {
                    self.take_table(&key, nested, file)?;
                    continue;
                }
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            self.set(&key, value, file)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: String, source: &str) -> anyhow::Result<()> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let distance = |setting: &&Setting| strsim::levenshtein(setting.key, key);
            let nearest = SETTINGS
                .iter()
                .min_by_key(distance)
                .map_or("", |setting| setting.key);
            return Err(Usage(format!(
                "{source}: there is no setting {key}; the nearest is {nearest}"
            ))
            .into());
        };
        if !setting.kind.takes(&value) {
            let expected = setting.kind.expected();
            return Err(Usage(format!("{source}: {key} is {value}, expected {expected}")).into());
        }
        let source = source.to_owned();
        self.values.insert(
            setting.key,
            Resolved {
                value,
                source,
                default: setting.default,
                kind: setting.kind,
            },
        );
        Ok(())
    }

    /// All settings, in the order of their keys.
    pub(crate) fn all(&self) -> &BTreeMap<&'static str, Resolved> {
        &self.values
    }

    /// A setting that is a text; none when it is empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.values
            .get(key)
            .map(|resolved| resolved.value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// A setting that is a number.
    pub(crate) fn number(&self, key: &str) -> u64 {
        let value = self.text(key).and_then(|value| value.parse().ok());
        value.expect("the table has this key, and its values were checked")
    }

    /// The same, as a count of things in memory.
    pub(crate) fn count(&self, key: &str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }
}

/// What is wrong with a file of settings, and where; not what stands there, which may be a secret.
fn unreadable(name: &str, text: &str, error: &toml::de::Error) -> String {
    let place = error.span().and_then(|span| text.get(..span.start));
    let line = place.map(|before| before.matches('\n').count() + 1);
    let line = line
        .map(|line| format!(", line {line}"))
        .unwrap_or_default();
    format!("{name}{line}: {}", error.message())
}

/// Where the data is.
pub(crate) fn data_dir(common: &Common, settings: Option<&Settings>) -> PathBuf {
    let named = common
        .data
        .clone()
        .or_else(|| std::env::var_os("STEMMA_DATA").map(PathBuf::from));
    let configured = || {
        settings
            .and_then(|settings| settings.text("data_dir"))
            .map(PathBuf::from)
    };
    named
        .or_else(configured)
        .unwrap_or_else(|| Path::new("stemma-data").to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn options_hold_over_environment_over_file_over_default() {
        let file = Some((
            "stemma.toml",
            "listen = \"a:1\"\n[views]\nengine = \"lsm-tree\"\ncache_bytes = 2000000\n",
        ));
        let environment = environment("STEMMA_VIEWS__CACHE_BYTES", "3000000");
        let options = [("listen", Some("b:2".to_owned())), ("public_url", None)];
        let settings = Settings::resolve(file, &environment, &options).unwrap();
        let told = |key: &str| {
            let resolved = &settings.all()[key];
            (resolved.value.clone(), resolved.source.clone())
        };
        assert_eq!(told("listen"), ("b:2".to_owned(), "option".to_owned()));
        assert_eq!(
            told("views.engine"),
            ("lsm-tree".to_owned(), "stemma.toml".to_owned())
        );
        assert_eq!(
            told("views.cache_bytes").1,
            "environment STEMMA_VIEWS__CACHE_BYTES"
        );
        assert_eq!(
            told("sse.heartbeat_ms"),
            ("15000".to_owned(), "default".to_owned())
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_a_bad_value_what_is_taken() {
        let told = |file: &str| {
            Settings::resolve(Some(("f", file)), &[], &[])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            told("[views]\nengin = \"lsm-tree\""),
            "f: there is no setting views.engin; the nearest is views.engine"
        );
        assert_eq!(
            told("[views]\nengine = \"redb\""),
            "f: views.engine is redb, expected lsm-tree or sled"
        );
        let wrong =
            Settings::resolve(None, &environment("STEMMA_LOG__QUEUE_MAX", "0"), &[]).unwrap_err();
        assert!(
            wrong.to_string().contains("expected a whole number from 1"),
            "{wrong}"
        );
    }
}
