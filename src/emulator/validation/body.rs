//! Reads a request body as a message of the API. Google's front end refuses a malformed body before Cloud Run sees it,
//! and so does this module.

use serde_json::Value;

use crate::{
    emulator::wire::{ApiRefusal, Violation},
    schema::{Finding, MessageSchema, Problem},
};

/// Reads a JSON body as this message: known fields only, with values of the right types. An empty body is an empty
/// message. Drops null fields: in protobuf's JSON, null means absent.
pub(crate) fn read_body(body: &[u8], message: &'static MessageSchema) -> Result<Value, ApiRefusal> {
    let mut value = match body.trim_ascii() {
        [] => Value::Object(serde_json::Map::new()),
        body => serde_json::from_slice(body).map_err(|error| ApiRefusal::not_json(&error))?,
    };
    let violations = violations(message, &value);
    if !violations.is_empty() {
        return Err(ApiRefusal::invalid(&violations));
    }
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Where `value` differs from this message, in the words of Google's front end.
fn violations(message: &'static MessageSchema, value: &Value) -> Vec<Violation> {
    message.findings(value).into_iter().map(violation).collect()
}

fn violation(Finding { path, problem }: Finding) -> Violation {
    match problem {
        Problem::UnknownField(_) => {
            let (parent, name) = path.split_key();
            let place = if parent.is_root() { String::new() } else { format!(" at '{parent}'") };
            let description =
                format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.");
            Violation::new(parent.to_string(), description)
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
    fn a_violation_names_an_unknown_field_and_its_place() {
        let body = json!({"spec": {"template": {"spec": {"tasks": 1}}}, "colour": "red"});
        let words: Vec<_> = violations(&JOB, &body).into_iter().map(|violation| violation.description).collect();
        assert!(words[0].contains("Unknown name \"colour\":"), "{words:?}");
        assert!(words[1].contains("Unknown name \"tasks\" at 'spec.template.spec'"), "{words:?}");
    }

    #[test]
    fn a_violation_names_a_wrong_type_without_the_value() {
        let [violation] = &violations(&JOB, &json!({"metadata": {"labels": {"key": ["hunter2"]}}}))[..] else {
            unreachable!()
        };
        assert_eq!(violation.field, "metadata.labels.key");
        assert!(violation.description.contains("a list is not what this field takes"));
    }
}
