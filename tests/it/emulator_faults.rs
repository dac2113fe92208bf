//! The emulator's faults as a caller sees them.

use std::time::{Duration, Instant};

use crate::emulator_support::{Cloud, EXECUTIONS, JOBS, job, simulated};
use prefect_gcp_core::emulator::{EmulatorConfig, EventKind, Faults, SimulatedOutcome};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn faults(value: &Value) -> Faults {
    Faults::from_json(value.to_string().as_bytes()).unwrap()
}

/// An emulator with these faults, whose executions take a second.
async fn faulty(value: Value) -> Cloud {
    let config = EmulatorConfig { record_calls: true, ..simulated(SECOND, SimulatedOutcome::Success) };
    let cloud = Cloud::start(config).await;
    cloud.emulator.set_faults(faults(&value));
    cloud
}

fn rule(fault: Value) -> Value {
    json!({"rules": [{"fault": fault, "times": 1}]})
}

/// Whether the connection breaks before a response comes.
async fn breaks(cloud: &Cloud, method: Method, path: &str, body: Option<Value>) -> bool {
    let mut request = cloud.request(method, path);
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await.is_err()
}

#[tokio::test]
async fn an_injected_status_replaces_the_status_of_a_call() {
    let cloud = faulty(rule(json!({"status": {"code": 503, "retryAfter": 7}}))).await;
    let response = cloud.request(Method::GET, JOBS).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "7");
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&json!(503), &json!("UNAVAILABLE")));
    assert_eq!(cloud.get(JOBS).await.0, 200);
    for (form, expected) in [("html", "<html><title>Error 502 Bad Gateway</title></html>"), ("empty", "")] {
        cloud.emulator.set_faults(faults(&rule(json!({"status": {"code": 502, "body": form}}))));
        assert_eq!(cloud.get(JOBS).await, (StatusCode::BAD_GATEWAY, json!(expected)));
    }
    let calls: Vec<_> = cloud.emulator.calls().into_iter().map(|call| (call.status, call.fault)).collect();
    assert_eq!(calls[..2], [(503, Some("status 503".to_owned())), (200, None)]);
}

#[tokio::test]
async fn a_response_is_lost_before_or_after_the_call_took_effect() {
    for (when, has_happened) in [("before", false), ("after", true)] {
        for fault in [json!("reset"), json!({"status": {"code": 500}})] {
            let cloud = faulty(json!({"rules": [{"fault": fault, "when": when, "times": 1}]})).await;
            let is_reset = breaks(&cloud, Method::POST, JOBS, Some(job("j", "true"))).await;
            assert_eq!(is_reset, fault == "reset");
            assert_eq!(!cloud.emulator.jobs().is_empty(), has_happened, "{fault} {when}");
            let name = if fault == "reset" { "reset" } else { "status 500" };
            let name = if has_happened { format!("{name} after") } else { name.to_owned() };
            assert_eq!(cloud.emulator.faults_met()[&name], 1);
            assert_eq!(cloud.get(JOBS).await.0, 200);
        }
    }
}

#[tokio::test]
async fn a_call_is_delayed_or_hangs() {
    let cloud = faulty(rule(json!({"delay": 0.3}))).await;
    let began = Instant::now();
    assert_eq!(cloud.get(JOBS).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));

    cloud.emulator.set_faults(faults(&rule(json!("hang"))));
    let hanging = cloud.request(Method::GET, JOBS).timeout(Duration::from_millis(300)).send().await;
    assert!(hanging.unwrap_err().is_timeout());
    cloud.emulator.stop().await;
}

#[tokio::test]
async fn a_delayed_call_takes_effect_although_its_caller_has_hung_up() {
    let cloud = faulty(json!({"rules": [{"fault": {"delay": 0.4}, "calls": ["jobs.run"], "times": 1}]})).await;
    cloud.create(job("j", "true")).await;
    let start = cloud.request(Method::POST, &format!("{JOBS}/j:run")).json(&json!({}));
    assert!(start.timeout(Duration::from_millis(50)).send().await.unwrap_err().is_timeout());
    assert!(cloud.emulator.executions().is_empty());
    // A second start overtakes the first one.
    cloud.run("j").await;
    let both = cloud.wait(&format!("{JOBS}/j"), |job| job["status"]["executionCount"] == 2).await;
    assert_eq!(cloud.emulator.executions().len(), 2, "{both}");
}

#[tokio::test]
async fn a_rule_holds_for_a_time_and_again() {
    let not_found = json!({"status": {"code": 404, "message": "Requested entity was not found."}});
    let rule = json!({"fault": not_found, "calls": ["executions.*"], "after": 0.3, "for": 0.3, "every": 0.9});
    let cloud = faulty(json!({"rules": [rule]})).await;
    // Waits until lists of executions answer with this status.
    let until = async |expected: u16| {
        let began = Instant::now();
        loop {
            let (status, body) = cloud.get(EXECUTIONS).await;
            assert_eq!(cloud.get(JOBS).await.0, 200);
            if status == expected {
                return body;
            }
            assert!(began.elapsed() < 20 * SECOND);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for _ in 0..2 {
        until(200).await;
        let body = until(404).await;
        assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&json!(404), &json!("NOT_FOUND")));
    }
}

#[tokio::test]
async fn a_list_shows_nothing_while_reads_show_all() {
    for (fault, unreachable) in [("emptyList", Value::Null), ("incompleteList", json!(["us-central1"]))] {
        let cloud = faulty(json!({"rules": [{"fault": fault}]})).await;
        cloud.create(job("j", "true")).await;
        let execution = cloud.run("j").await;
        for (path, kind) in [(JOBS, "JobList"), (EXECUTIONS, "ExecutionList")] {
            let (status, list) = cloud.get(path).await;
            assert_eq!((status.as_u16(), &list["items"], &list["kind"]), (200, &json!([]), &json!(kind)));
            assert_eq!(list["unreachable"], unreachable, "{fault}");
        }
        // As at Google, a partial response has only what the caller asks for.
        let (_, list) = cloud.get(&format!("{JOBS}?fields=items(metadata/name)")).await;
        assert!(list["unreachable"].is_null());
        assert_eq!(cloud.get(&execution).await.0, 200);
        assert_eq!(cloud.get(&format!("{JOBS}/j")).await.0, 200);
        let name = if fault == "emptyList" { "empty list" } else { "incomplete list" };
        assert_eq!(cloud.emulator.faults_met()[name], 3);
    }
}

#[tokio::test]
async fn lists_lag_while_reads_show_what_is_true() {
    let cloud = faulty(json!({"rules": [{"fault": {"stale": 60.0}, "calls": ["executions.list"]}]})).await;
    cloud.create(job("j", "true")).await;
    let execution = cloud.run("j").await;
    assert_eq!(cloud.get(EXECUTIONS).await.1["items"], json!([]));
    assert_eq!(cloud.get(&execution).await.0, 200);
    assert_eq!(cloud.get(JOBS).await.1["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn retry_after_is_a_number_or_a_date() {
    for code in [429, 503] {
        let cloud = faulty(rule(json!({"status": {"code": code, "retryAfter": 3600}}))).await;
        let response = cloud.request(Method::GET, JOBS).send().await.unwrap();
        assert_eq!(response.status(), code);
        assert_eq!(response.headers()["retry-after"], "3600");

        let date = json!({"status": {"code": code, "retryAfterDate": 3600}});
        cloud.emulator.set_faults(faults(&rule(date)));
        let response = cloud.request(Method::GET, JOBS).send().await.unwrap();
        let date = |name: &str| {
            let text = response.headers()[name].to_str().unwrap();
            assert!(text.ends_with(" GMT"), "{text}");
            chrono::DateTime::parse_from_rfc2822(text).unwrap()
        };
        let pause = (date("retry-after") - date("date")).num_seconds();
        assert!((3595..=3601).contains(&pause), "{pause}");
    }
}

#[tokio::test]
async fn connections_are_refused_for_a_while() {
    let cloud = faulty(rule(json!({"refuse": 0.5}))).await;
    let began = Instant::now();
    assert!(breaks(&cloud, Method::GET, JOBS, None).await);
    // The listener closes a moment later.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = cloud.request(Method::GET, JOBS).send().await.unwrap_err();
    assert!(refused.is_connect(), "{refused:?}");
    while breaks(&cloud, Method::GET, JOBS, None).await {
        assert!(began.elapsed() < 20 * SECOND);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn stale_reads_show_an_earlier_state() {
    let stale = json!({"rules": [{"fault": {"stale": 1.0}, "calls": ["reads"]}]});
    let cloud = faulty(stale).await;
    let (status, _) = cloud.post(JOBS, job("j", "true")).await;
    assert_eq!(status, 200);
    let path = format!("{JOBS}/j");
    assert_eq!(
        cloud.get(&path).await.1["error"]["message"].as_str().unwrap(),
        "Resource 'j' of kind 'JOB' in region 'us-central1' in project 'demo' does not exist."
    );
    assert_eq!(cloud.get(JOBS).await.1["items"], json!([]));
    cloud.wait(&path, |job| job["metadata"]["name"] == "j").await;
    let execution = cloud.run("j").await;
    assert_eq!(cloud.get(EXECUTIONS).await.1["items"], json!([]));
    assert_eq!(cloud.get(&execution).await.0, 404);
    cloud.wait_ended(&execution).await;
    assert_eq!(cloud.delete(&path).await.0, 200);
    assert!(cloud.get(&path).await.1["metadata"]["deletionTimestamp"].is_null());
    cloud.emulator.set_faults(Faults::default());
    cloud.wait_gone(&path).await;
}

#[tokio::test]
async fn calls_beyond_a_quota_or_a_limit_are_refused_in_googles_form() {
    let quotas = json!({"quotas": {"reads": 1, "jobs": 1, "runningExecutions": 1}});
    let cloud = faulty(quotas).await;
    assert_eq!(cloud.get(JOBS).await.0, 200);
    let (status, body) = cloud.get(JOBS).await;
    assert_eq!((status.as_u16(), &body["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    assert!(body["error"]["message"].as_str().unwrap().starts_with("Quota exceeded for quota metric 'Read requests'"));
    assert_eq!(body["error"]["details"][0]["reason"], "RATE_LIMIT_EXCEEDED");

    assert_eq!(cloud.post(JOBS, job("a", "true")).await.0, 200);
    let (status, body) = cloud.post(JOBS, job("b", "true")).await;
    assert_eq!((status.as_u16(), &body["error"]["details"]), (429, &Value::Null));
    assert!(body["error"]["message"].as_str().unwrap().contains("1 jobs in region 'us-central1'"));

    let start = format!("{JOBS}/a:run");
    assert_eq!(cloud.post(&start, json!({})).await.0, 200);
    assert_eq!(cloud.post(&start, json!({})).await.0, 429);
    assert_eq!(cloud.emulator.faults_met()["limit"], 2);
    let begun = |kind| cloud.emulator.history()[0].events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(begun(EventKind::ExecutionCreated), 1);
}

#[tokio::test]
async fn an_expired_token_is_refused_and_another_token_is_accepted() {
    let cloud = faulty(json!({"tokenSeconds": 0.2})).await;
    let get = async |token: &str| cloud.request(Method::GET, JOBS).bearer_auth(token).send().await.unwrap().status();
    assert_eq!(get("one").await, 200);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(get("one").await, 401);
    assert_eq!(get("two").await, 200);
    assert_eq!(get("one").await, 401);
}

#[tokio::test]
async fn faults_can_be_replaced_while_the_emulator_runs() {
    let cloud = faulty(json!({})).await;
    let faults = "/emulator/faults";
    let (status, report) = cloud.post(faults, rule(json!({"status": {"code": 500}}))).await;
    assert_eq!((status.as_u16(), &report["met"]), (200, &json!({})));
    assert_eq!(cloud.get(JOBS).await.0, 500);
    let (_, report) = cloud.get(faults).await;
    assert_eq!(report["met"], json!({"status 500": 1}));
    assert_eq!(report["faults"]["rules"][0]["fault"]["status"]["code"], 500);

    let (status, refusal) = cloud.post(faults, json!({"rules": [{"fault": "typo"}]})).await;
    assert_eq!(status, 400);
    let message = refusal["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("faults: unknown variant `typo`"), "{message}");
    assert_eq!(cloud.get(faults).await.1, report);

    cloud.post(faults, json!({})).await;
    assert_eq!(cloud.get(JOBS).await.0, 200);
    assert_eq!(cloud.get(faults).await.1["met"], json!({}));
}
