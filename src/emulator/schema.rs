//! What Google's front end says of a body that is not the message it should be. It refuses such a body before Cloud Run
//! sees it.

use serde_json::Value;

use super::errors::Violation;
use crate::schema::{Finding, MessageSchema, Problem};

/// What in `value` is not as this message says, in the words of Google's front end.
pub(super) fn violations(message: &'static MessageSchema, value: &Value) -> Vec<Violation> {
    message.findings(value).into_iter().map(violation).collect()
}

fn violation(Finding { path, problem }: Finding) -> Violation {
    match problem {
        Problem::UnknownField(_) => {
            let (above, name) = path.split_key();
            let place = if above.is_root() { String::new() } else { format!(" at '{above}'") };
            let words = format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.");
            Violation::new(above.to_string(), words)
        }
        Problem::WrongType { found, .. } => Violation::new(
            path.to_string(),
            format!("Invalid value at '{path}': {found} is not what this field takes."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::run_v1::JOB;

    #[test]
    fn an_unknown_field_is_named_with_its_place() {
        let body = json!({"spec": {"template": {"spec": {"tasks": 1}}}, "colour": "red"});
        let words: Vec<_> = violations(&JOB, &body).into_iter().map(|violation| violation.description).collect();
        assert!(words[0].contains("Unknown name \"colour\":"), "{words:?}");
        assert!(words[1].contains("Unknown name \"tasks\" at 'spec.template.spec'"), "{words:?}");
    }

    #[test]
    fn a_wrong_type_is_named_without_the_value() {
        let [violation] = &violations(&JOB, &json!({"metadata": {"labels": {"key": ["hunter2"]}}}))[..] else {
            unreachable!()
        };
        assert_eq!(violation.field, "metadata.labels.key");
        assert!(violation.description.contains("a list is not what this field takes"));
    }
}
