//! `stemma config`: the settings in force.

use serde_json::json;

use super::answer;
use super::job_errors::JOB_ERRORS;
use crate::cli::{Common, Config};
use crate::config::{Resolved, Settings, reference};
use crate::exit::Exit;

pub(crate) fn run(common: &Common, settings: &Settings, config: &Config) -> anyhow::Result<Exit> {
    if config.reference {
        answer(reference().trim_end())?;
    } else if config.errors {
        answer(errors().trim_end())?;
    } else if common.json {
        let entry = |resolved: &Resolved| {
            json!({
                "value": resolved.json(&resolved.value),
                "source": resolved.source,
                "default": resolved.json(resolved.default),
            })
        };
        let all: serde_json::Map<_, _> = settings
            .all()
            .iter()
            .map(|(key, resolved)| ((*key).to_owned(), entry(resolved)))
            .collect();
        answer(&serde_json::Value::Object(all).to_string())?;
    } else {
        for (key, resolved) in settings.all() {
            answer(&format!(
                "{key} = {}  ({})",
                resolved.shown(),
                resolved.source
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// The reference of all error codes, as Markdown.
fn errors() -> String {
    let mut text = String::from(
        "# Error codes\n\nMade from the code by `stemma config --errors`.\n\n\
         Every failure is an RFC 9457 problem (`application/problem+json`) with a stable `code`, a `trace_id` \
         that stands in the server's log too, and `errors` with a JSON pointer or parameter for each place that is wrong.\n\n\
         | status | code | what it means, and what to do |\n|---|---|---|\n",
    );
    for code in stemma_api::Code::ALL {
        text.push_str(&format!(
            "| {} | `{}` | {} |\n",
            code.status(),
            code.name(),
            code.explanation()
        ));
    }
    text.push_str(
        "\n## What jobs and steps fail with\n\n\
         These stand in the `error` of a job and the `failures` of a document, with a message and whether trying again may help. \
         Workers outside may give codes of their own.\n\n\
         | code | what it means, and what to do |\n|---|---|\n",
    );
    for (code, explanation) in JOB_ERRORS {
        text.push_str(&format!("| `{code}` | {explanation} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_error_codes_in_the_documentation_are_current() {
        let written = include_str!("../../../docs/errors.md");
        assert_eq!(
            written,
            super::errors(),
            "write it anew: stemma config --errors > docs/errors.md"
        );
    }
}
