//! What a message schema is: a name, and fields with their types.

use std::fmt;

use serde_json::Value;

/// The type of a field.
#[derive(Debug)]
pub enum FieldType {
    /// A string. Timestamps are strings too.
    Text,
    /// A boolean.
    Bool,
    /// A 32-bit integer. JSON may hold it as a number or as a string of digits.
    Int32,
    /// A 64-bit integer. The API writes it as a string of digits, and also accepts a number.
    Int64,
    /// A mapping of strings to strings.
    TextMap,
    /// A mapping of strings to anything: a message that the document leaves open.
    AnyMap,
    /// A message of this schema.
    Message(&'static MessageSchema),
    /// A list of any length, whose items have this type.
    List(&'static FieldType),
}

/// A message: its name in the discovery document, and its fields sorted by name.
#[derive(Debug)]
pub struct MessageSchema {
    pub(super) name: &'static str,
    pub(super) fields: &'static [(&'static str, FieldType)],
}

impl MessageSchema {
    /// Returns the type of the field `name`, or `None` if the message has no such field.
    pub fn field(&self, name: &str) -> Option<&'static FieldType> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, field_type)| field_type)
    }

    /// Rewrites every int64 field of `value` from a number to a string of digits, which is how JSON of protobuf messages
    /// writes an int64. Templates and job variables usually hold numbers.
    ///
    /// Leaves everything else unchanged: unknown fields, values of a wrong type, and strings.
    /// [`MessageSchema::findings`] reports the wrong ones.
    pub fn int64s_to_strings(&'static self, value: &mut Value) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            if let Some(field_type) = self.field(name) {
                field_type.int64s_to_strings(value);
            }
        }
    }
}

impl FieldType {
    fn int64s_to_strings(&self, value: &mut Value) {
        match (self, value) {
            (FieldType::Int64, value) => {
                if let Some(number) = value.as_i64() {
                    *value = Value::String(number.to_string());
                }
            }
            (FieldType::List(item), Value::Array(items)) => {
                items.iter_mut().for_each(|value| item.int64s_to_strings(value));
            }
            (FieldType::Message(message), value) => message.int64s_to_strings(value),
            _ => {}
        }
    }
}

/// The type as an error message names it.
impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldType::Text => f.write_str("a string"),
            FieldType::Bool => f.write_str("a boolean"),
            FieldType::Int32 => f.write_str("a 32-bit integer"),
            FieldType::Int64 => f.write_str("an integer"),
            FieldType::TextMap => f.write_str("a mapping of strings"),
            FieldType::AnyMap => f.write_str("a mapping"),
            FieldType::Message(message) => write!(f, "a mapping ({})", message.name),
            FieldType::List(_) => f.write_str("a list"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static JOB: MessageSchema = MessageSchema { name: "Job", fields: &[("tasks", FieldType::List(&TASKS))] };
    static TASKS: FieldType = FieldType::Message(&TASK);
    static TASK: MessageSchema = MessageSchema {
        name: "Task",
        fields: &[("labels", FieldType::TextMap), ("retries", FieldType::Int32), ("timeoutSeconds", FieldType::Int64)],
    };

    #[test]
    fn int64_fields_become_strings_and_nothing_else_changes() {
        let job = |timeout: Value| {
            let task = json!({"timeoutSeconds": timeout, "retries": 3, "labels": {"timeoutSeconds": 1}, "unknown": 1});
            json!({"tasks": [task, "no task"], "timeoutSeconds": 1})
        };
        for (before, after) in [
            (json!(600), json!("600")),
            (json!("600"), json!("600")),
            (json!(1.5), json!(1.5)),
            (json!(null), json!(null)),
        ] {
            let mut body = job(before);
            JOB.int64s_to_strings(&mut body);
            assert_eq!(body, job(after));
        }
    }
}
