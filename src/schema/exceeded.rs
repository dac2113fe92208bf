//! The check of a JSON value against the documented limits of the fields of its message.

use serde_json::Value;

use super::message::{FieldType, MessageSchema};
use crate::{
    limits::{Consequence, LimitProblem, limits_of},
    path::Path,
};

/// One place where a value exceeds a documented limit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exceeded {
    /// The path of the value.
    pub path: Path,
    /// What is wrong and what to do: the value where it is a number or a quantity, what is allowed, and the source.
    pub text: String,
    /// What Cloud Run does about it.
    pub consequence: Consequence,
}

impl MessageSchema {
    /// Returns every place where `value` exceeds a documented limit. Skips what does not match this schema:
    /// [`MessageSchema::findings`] reports it.
    ///
    /// `place` is the path of `value` in the body, for the paths of the result.
    pub fn exceeded(&'static self, value: &Value, place: Path) -> Vec<Exceeded> {
        let mut check = LimitCheck { path: place, exceeded: Vec::new() };
        check.message(self, "", "", value);
        check.exceeded
    }
}

struct LimitCheck {
    path: Path,
    exceeded: Vec<Exceeded>,
}

impl LimitCheck {
    /// Checks a message which `parent` has in `field`.
    fn message(&mut self, message: &'static MessageSchema, parent: &str, field: &str, value: &Value) {
        let Value::Object(fields) = value else { return };
        for limit in limits_of(message.name, parent, field) {
            for LimitProblem { path, text } in limit.problems(fields) {
                let found = Exceeded { path: self.path.join(&path), text, consequence: limit.consequence };
                // A limit may have a stricter one beside it.
                if !self
                    .exceeded
                    .iter()
                    .any(|other| other.path == found.path && other.consequence == Consequence::Refuses)
                {
                    self.exceeded.push(found);
                }
            }
        }
        for (name, value) in fields {
            if let Some(field_type) = message.field(name) {
                self.path.push_key(name);
                self.field(field_type, message.name, name, value);
                self.path.pop();
            }
        }
    }

    fn field(&mut self, field_type: &FieldType, parent: &str, field: &str, value: &Value) {
        match (field_type, value) {
            (FieldType::Message(message), _) => self.message(message, parent, field, value),
            (FieldType::List(item_type), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push_index(index);
                    self.field(item_type, parent, field, item);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::run_v1::JOB, *};

    /// A job without anything to complain about, with one change.
    fn job_with(pointer: &str, value: Value) -> Value {
        let mut job = json!({
            "metadata": {"annotations": {"run.googleapis.com/launch-stage": "BETA"}, "labels": {}},
            "spec": {"template": {"metadata": {"annotations": {"run.googleapis.com/vpc-access-connector": "c"}}, "spec": {
                "taskCount": 1, "parallelism": 1, "template": {"spec": {
                    "maxRetries": 0, "timeoutSeconds": 600, "volumes": [{"name": "v", "emptyDir": {}}],
                    "containers": [{
                        "image": "i", "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}},
                    }],
                }},
            }}},
        });
        match pointer.rsplit_once('/') {
            Some((above, key)) => match job.pointer_mut(above).unwrap() {
                Value::Object(fields) => _ = fields.insert(key.to_owned(), value),
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
                _ => unreachable!(),
            },
            None => assert!(pointer.is_empty()),
        }
        job
    }

    fn found(pointer: &str, value: Value) -> Vec<(String, String, Consequence)> {
        let exceeded = JOB.exceeded(&job_with(pointer, value), Path::default());
        exceeded.into_iter().map(|Exceeded { path, text, consequence }| (path.to_string(), text, consequence)).collect()
    }

    const TASK: &str = "/spec/template/spec/template/spec";

    #[test]
    fn a_job_within_all_limits_has_no_findings() {
        assert_eq!(found("", Value::Null), []);
        for (pointer, value) in [
            ("timeoutSeconds", json!("604800")),
            ("timeoutSeconds", json!(1)),
            ("maxRetries", json!(10)),
            ("containers/0/env/0", json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "latest"}}})),
            ("containers/0/env/0/value", json!("x".repeat(32 * 1024))),
            ("containers/0/resources/limits/memory", json!("2G")),
            ("containers/0/volumeMounts/0/name", json!("cloudsql")),
            ("volumes/0", json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "1", "path": "a/b"}]}})),
            ("volumes/0/emptyDir", json!({"medium": "Memory", "sizeLimit": "1Gi"})),
            ("containers/0/startupProbe", json!({"periodSeconds": 240, "tcpSocket": {"port": 1}})),
        ] {
            assert_eq!(found(&format!("{TASK}/{pointer}"), value), [], "{pointer}");
        }
    }

    #[test]
    fn the_text_has_the_value_the_range_the_advice_and_the_source() {
        assert_eq!(
            found(&format!("{TASK}/timeoutSeconds"), json!("604801")),
            [(
                "spec.template.spec.template.spec.timeoutSeconds".to_owned(),
                "604801 is outside the range that Cloud Run allows, 1 to 604800: that is 168 hours at most (see \
                 https://cloud.google.com/run/docs/configuring/task-timeout)"
                    .to_owned(),
                Consequence::Refuses
            )]
        );
    }

    /// Each row: the place that is changed, its new value, the end of the path that is reported, words of the text.
    fn assert_each(consequence: Consequence, rows: &[(&str, Value, &str, &str)]) {
        for (pointer, value, place, words) in rows {
            let pointer = if pointer.starts_with('/') { (*pointer).to_owned() } else { format!("{TASK}/{pointer}") };
            let found = found(&pointer, value.clone());
            let [(path, text, its_consequence)] = &found[..] else { panic!("{pointer} {value}: {found:?}") };
            assert!(path.ends_with(place), "{pointer}: {path}");
            assert!(text.contains(words), "{pointer}: {text}");
            assert!(text.contains("(see https://"), "{pointer}: {text}");
            assert_eq!(*its_consequence, consequence, "{pointer}");
        }
    }

    #[test]
    fn what_cloud_run_refuses_is_found() {
        let secret = |reference: Value| json!({"name": "A", "valueFrom": {"secretKeyRef": reference}});
        let many: serde_json::Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!(""))).collect();
        let doubled = json!([{"name": "A", "value": "x"}, secret(json!({"name": "s", "key": "1"}))]);
        assert_each(
            Consequence::Refuses,
            &[
                ("/spec/template/spec/taskCount", json!(10_001), "spec.taskCount", "10001 is outside"),
                ("/spec/template/spec/taskCount", json!(0), "spec.taskCount", "1 to 10000"),
                ("/spec/template/spec/parallelism", json!(-1), "parallelism", "-1 is outside"),
                ("maxRetries", json!(11), "maxRetries", "0 to 10"),
                ("maxRetries", json!(-1), "maxRetries", "0 to 10"),
                ("timeoutSeconds", json!(0), "timeoutSeconds", "1 to 604800"),
                ("/metadata/labels", json!(many), "metadata.labels", "65 entries, but Cloud Run allows at most 64"),
                ("containers/0/args", json!(vec!["a"; 1001]), "args", "1001 entries"),
                ("containers/0/env/0", json!({"value": "x"}), "env[0].name", "missing or empty"),
                ("containers/0/env/0/name", json!(""), "env[0].name", "missing or empty"),
                ("containers/0/env/0/name", json!("A=B"), "env[0].name", "must not contain '='"),
                ("containers/0/env/0/value", json!("x".repeat(32 * 1024 + 1)), "env[0].value", "32769 bytes"),
                ("containers/0/env/0/value", json!("\0"), "env[0].value", "must not contain"),
                ("containers/0/env", doubled, "env[1].name", "'A' stands in [0] too, once with a secret"),
                ("containers/0/env/0", secret(json!({"key": "1"})), "secretKeyRef.name", "missing or empty"),
                ("containers/0/env/0", secret(json!({"name": "s"})), "secretKeyRef.key", "missing or empty"),
                ("containers/0/env/0", json!({"name": "A", "valueFrom": {}}), "valueFrom.secretKeyRef", "missing"),
                (
                    "containers/0/env/0",
                    json!({"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "1"}}}),
                    "env[0].valueFrom",
                    "must not be set together with value",
                ),
                ("containers/0/resources/limits/memory", json!("2GB"), "limits.memory", "'2GB' is not an amount"),
                ("containers/0/resources/limits/cpu", json!("one"), "limits.cpu", "'one' is not a number of CPUs"),
                ("containers/0/resources/requests", json!({"memory": "1 Gi"}), "requests.memory", "write 1Gi"),
                ("containers/0/volumeMounts/0/name", json!("w"), "volumeMounts[0].name", "no such volume"),
                ("containers/0/volumeMounts/0/mountPath", json!("/a:b"), "mountPath", "must not contain ':'"),
                ("volumes/0/emptyDir", json!({"sizeLimit": "1GB"}), "emptyDir.sizeLimit", "'1GB' is not an amount"),
                ("volumes/0/emptyDir", json!({"medium": "RAM"}), "emptyDir.medium", "'Memory', 'Disk'"),
                ("volumes/0", json!({"name": "v", "secret": {}}), "secret.secretName", "missing"),
                (
                    "volumes/0",
                    json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "1", "path": "../a"}]}}),
                    "items[0].path",
                    "relative path",
                ),
                ("containers/0/startupProbe", json!({"periodSeconds": 241}), "periodSeconds", "1 to 240"),
                ("containers/0/livenessProbe", json!({"periodSeconds": 3601}), "periodSeconds", "1 to 3600"),
                ("containers/0/ports", json!([{"containerPort": 65536}]), "containerPort", "1 to 65535"),
                (
                    "/metadata/annotations",
                    json!({"run.googleapis.com/vpc-access-connector": "c"}),
                    r#"annotations["run.googleapis.com/vpc-access-connector"]"#,
                    "move it to spec.template.metadata.annotations",
                ),
            ],
        );
    }

    #[test]
    fn what_may_change_or_is_ignored_is_told_apart() {
        let gpu = json!({"limits": {"nvidia.com/gpu": "1", "cpu": "20", "memory": "80Gi"}});
        assert_each(
            Consequence::MayRefuse,
            &[
                ("containers/0/image", json!(null), "containers[0].image", "missing"),
                ("containers/0/resources/limits/memory", json!("5Gi"), "limits.memory", "5Gi is outside the range"),
                ("containers/0/resources/limits/cpu", json!("3"), "limits.cpu", "3 is not one of"),
                ("containers/0/resources/limits/disk", json!("3"), "limits.disk", "knows only 'cpu'"),
                ("containers/0/env/0/name", json!("CLOUD_RUN_JOB"), "env[0].name", "reserved"),
                ("/metadata/labels", json!({"Team": "x"}), "labels.Team", "lowercase"),
                (
                    "/spec/template/metadata/annotations",
                    json!({"run.googleapis.com/launch-stage": "BETA"}),
                    r#"annotations["run.googleapis.com/launch-stage"]"#,
                    "job's own",
                ),
            ],
        );
        assert_each(
            Consequence::Ignores,
            &[
                ("containers/0/env", json!([{"name": "A"}, {"name": "A"}]), "env[1].name", "gets only the last"),
                ("containers/0/securityContext", json!({"runAsUser": 1}), "securityContext", "not supported"),
                (
                    "/spec/template/metadata/annotations",
                    json!({"run.googleapis.com/cpu-throttling": "true"}),
                    r#"annotations["run.googleapis.com/cpu-throttling"]"#,
                    "only on Revision",
                ),
            ],
        );
        assert_eq!(found(&format!("{TASK}/containers/0/resources"), gpu.clone()), []);
        let mut body = job_with(&format!("{TASK}/containers/0/resources"), gpu);
        body.pointer_mut(TASK).unwrap()["timeoutSeconds"] = json!(3601);
        let [found] = &JOB.exceeded(&body, Path::default())[..] else { unreachable!() };
        assert!(found.text.contains("for a task with a GPU"), "{}", found.text);
    }

    #[test]
    fn the_sizes_of_several_containers_are_not_judged() {
        let small = json!({"image": "i", "resources": {"limits": {"memory": "128Mi"}}});
        let [(path, ..)] = &found(&format!("{TASK}/containers/0"), small.clone())[..] else { unreachable!() };
        assert!(path.ends_with("limits.memory"));
        assert_eq!(found(&format!("{TASK}/containers"), json!([small, small])), []);
    }

    #[test]
    fn no_text_shows_a_value_that_may_be_a_secret() {
        let secret = "hunter2-hunter2-hunter2";
        let resources = json!({"limits": {"memory": secret, "cpu": secret}});
        let env = json!([{"name": "A", "value": format!("{secret}\0"), "valueFrom": {}}]);
        let container = json!({"image": "i", "resources": resources, "env": env, "volumeMounts": [{"name": secret}]});
        let found = found(&format!("{TASK}/containers/0"), container);
        assert!(found.len() > 4);
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
