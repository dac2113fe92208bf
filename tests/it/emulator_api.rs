//! The emulator's API: the life of jobs and executions as callers see it, refusals, the history.

use std::time::Duration;

use crate::emulator_support::{Cloud, EXECUTIONS, JOBS, condition, job, quick, simulated, task};
use prefect_gcp_core::emulator::{DURATION_ANNOTATION, EmulatorConfig, OUTCOME_ANNOTATION, SimulatedOutcome};
use reqwest::Method;
use serde_json::json;

const SUCCESS: SimulatedOutcome = SimulatedOutcome::Success;

async fn instant() -> Cloud {
    Cloud::start(simulated(Duration::ZERO, SUCCESS)).await
}

#[tokio::test]
async fn a_create_returns_the_job_with_the_fields_that_cloud_run_fills_in() {
    let cloud = instant().await;
    let (status, created) = cloud.post(JOBS, job("daily", "true")).await;
    assert_eq!(status, 200);
    let metadata = &created["metadata"];
    let number = metadata["namespace"].as_str().unwrap();
    assert!(number.len() == 12 && number.bytes().all(|byte| byte.is_ascii_digit()), "{number}");
    assert_eq!(metadata["selfLink"], format!("/apis/run.googleapis.com/v1/namespaces/{number}/jobs/daily"));
    assert_eq!(metadata["generation"], 1);
    assert!(["uid", "resourceVersion", "creationTimestamp"].iter().all(|field| metadata[field].is_string()));
    assert_eq!(metadata["labels"]["cloud.googleapis.com/location"], "us-central1");
    assert_eq!(metadata["labels"]["team"], "data");
    assert!(metadata["labels"]["run.googleapis.com/lastUpdatedTime"].is_string());
    for annotation in ["creator", "lastModifier", "operation-id"] {
        assert!(metadata["annotations"][format!("run.googleapis.com/{annotation}")].is_string(), "{annotation}");
    }
    let mut created = created.clone();
    assert_eq!(created["spec"]["template"]["spec"]["taskCount"], 1);
    assert_eq!(condition(&created, "Ready")["status"], "Unknown");
    let task = task(&mut created);
    assert_eq!((&task["maxRetries"], &task["timeoutSeconds"]), (&json!(0), &json!("600")));
    assert_eq!(task["serviceAccountName"], format!("{number}-compute@developer.gserviceaccount.com"));
    assert_eq!(task["containers"][0]["resources"]["limits"], json!({"cpu": "1000m", "memory": "512Mi"}));
    // The number of a project identifies it as its id does.
    let by_number = format!("/apis/run.googleapis.com/v1/namespaces/{number}/jobs/daily");
    let ready = cloud.wait(&by_number, |job| condition(job, "Ready")["status"] == "True").await;
    assert_ne!(ready["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn an_execution_is_pending_then_running_then_completed_and_its_job_shows_it() {
    let config =
        EmulatorConfig { start_after: Duration::from_millis(150), ..simulated(Duration::from_millis(300), SUCCESS) };
    let cloud = Cloud::start(config).await;
    let job = cloud.create(job("daily", "true")).await;
    let path = cloud.run("daily").await;
    let latest = async || cloud.get(&format!("{JOBS}/daily")).await.1["status"]["latestCreatedExecution"].clone();
    assert_eq!(latest().await["completionStatus"], "EXECUTION_PENDING");

    let (_, pending) = cloud.get(&path).await;
    let name = pending["metadata"]["name"].as_str().unwrap();
    let suffix = name.strip_prefix("daily-").unwrap();
    assert!(suffix.len() == 5 && suffix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    let labels = &pending["metadata"]["labels"];
    assert_eq!((&labels["run.googleapis.com/job"], &labels["stage"]), (&json!("daily"), &json!("test")));
    assert_eq!(labels["run.googleapis.com/jobUid"], job["metadata"]["uid"]);
    assert_eq!(labels["run.googleapis.com/jobGeneration"], "1");
    assert_eq!(labels["run.googleapis.com/servingState"], "Active");
    assert_eq!(pending["metadata"]["ownerReferences"][0]["uid"], job["metadata"]["uid"]);
    assert_eq!(cloud.log(&pending).await, "");
    let completed = condition(&pending, "Completed");
    assert_eq!(completed["status"], "Unknown");
    assert_eq!(completed["message"], "Waiting for execution to complete.");
    for absent in ["runningCount", "succeededCount", "failedCount", "retriedCount", "startTime", "completionTime"] {
        assert!(pending["status"][absent].is_null(), "{absent}");
    }

    let running = cloud.wait_started(&path).await;
    assert_eq!(running["status"]["runningCount"], 1);
    assert!(running["status"]["startTime"].is_string());
    for kind in ["ResourcesAvailable", "Started", "ContainerReady"] {
        assert_eq!(condition(&running, kind)["status"], "True", "{kind}");
    }
    assert_eq!(latest().await["completionStatus"], "EXECUTION_RUNNING");

    let ended = cloud.wait_ended(&path).await;
    assert_eq!(condition(&ended, "Completed")["status"], "True");
    assert_eq!(ended["status"]["succeededCount"], 1);
    assert!(ended["status"]["runningCount"].is_null() && ended["status"]["completionTime"].is_string());
    assert!(ended["metadata"]["labels"]["run.googleapis.com/servingState"].is_null());
    let latest = latest().await;
    assert_eq!((&latest["name"], &latest["completionStatus"]), (&json!(name), &json!("EXECUTION_SUCCEEDED")));
    assert_eq!(latest["completionTimestamp"], ended["status"]["completionTime"]);
    assert_eq!(cloud.get(&format!("{JOBS}/daily")).await.1["status"]["executionCount"], 1);
}

#[tokio::test]
async fn a_missing_resource_is_refused_in_cloud_runs_words() {
    let cloud = instant().await;
    for (path, kind, name) in [(JOBS, "JOB", "nope"), (EXECUTIONS, "EXECUTION", "nope-abcde")] {
        let words =
            format!("Resource '{name}' of kind '{kind}' in region 'us-central1' in project 'demo' does not exist.");
        for answer in [cloud.get(&format!("{path}/{name}")).await, cloud.delete(&format!("{path}/{name}")).await] {
            let (status, body) = answer;
            assert_eq!(status, 404);
            assert_eq!(body, json!({"error": {"code": 404, "message": words, "status": "NOT_FOUND"}}));
        }
    }
    assert_eq!(cloud.post(&format!("{JOBS}/nope:run"), json!({})).await.0, 404);
    assert_eq!(cloud.post(&format!("{EXECUTIONS}/nope:cancel"), json!({})).await.0, 404);
}

#[tokio::test]
async fn a_taken_name_is_a_conflict() {
    let cloud = instant().await;
    cloud.create(job("daily", "true")).await;
    let (status, body) = cloud.post(JOBS, job("daily", "true")).await;
    assert_eq!(status, 409);
    assert_eq!(body["error"]["message"], "Resource 'daily' already exists.");
}

#[tokio::test]
async fn an_invalid_body_is_refused_with_the_field_and_creates_nothing() {
    let cloud = instant().await;
    let mut unknown = job("daily", "true");
    unknown["spec"]["template"]["spec"]["tasks"] = json!(1);
    let mut wrong = job("daily", "true");
    task(&mut wrong)["containers"] = json!("busybox");
    for (body, field) in [
        (unknown, "spec.template.spec"),
        (wrong, "spec.template.spec.template.spec.containers"),
        (job("Daily", "true"), "metadata.name"),
        (json!([]), ""),
    ] {
        let (status, answer) = cloud.post(JOBS, body).await;
        assert_eq!((status.as_u16(), &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
        let detail = &answer["error"]["details"][0];
        assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.BadRequest");
        assert_eq!(detail["fieldViolations"][0]["field"], field, "{answer}");
    }
    let response = cloud.request(Method::POST, JOBS).body("{\"kind\": ").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(cloud.emulator.jobs().is_empty());
}

#[tokio::test]
async fn a_missing_project_is_a_missing_permission() {
    let cloud = Cloud::start(EmulatorConfig { projects: vec!["other".to_owned()], ..quick() }).await;
    for (method, path, permission, resource) in [
        (Method::POST, JOBS.to_owned(), "run.jobs.create", "jobs"),
        (Method::GET, JOBS.to_owned(), "run.jobs.list", "jobs"),
        (Method::GET, format!("{JOBS}/j"), "run.jobs.get", "jobs/j"),
        (Method::PUT, format!("{JOBS}/j"), "run.jobs.update", "jobs/j"),
        (Method::DELETE, format!("{JOBS}/j"), "run.jobs.delete", "jobs/j"),
        (Method::POST, format!("{JOBS}/j:run"), "run.jobs.run", "jobs/j"),
        (Method::GET, EXECUTIONS.to_owned(), "run.executions.list", "executions"),
        (Method::GET, format!("{EXECUTIONS}/e"), "run.executions.get", "executions/e"),
        (Method::DELETE, format!("{EXECUTIONS}/e"), "run.executions.delete", "executions/e"),
        (Method::POST, format!("{EXECUTIONS}/e:cancel"), "run.executions.cancel", "executions/e"),
    ] {
        let (status, body) = cloud.send(method, &path, None).await;
        let words = format!(
            "Permission '{permission}' denied on resource 'namespaces/demo/{resource}' (or resource may not exist)."
        );
        assert_eq!(status, 403, "{path}");
        assert_eq!((&body["error"]["message"], &body["error"]["status"]), (&json!(words), &json!("PERMISSION_DENIED")));
    }
    assert_eq!(cloud.get(&JOBS.replace("demo", "other")).await.0, 200);
}

#[tokio::test]
async fn the_host_name_has_the_region_and_regions_have_separate_jobs() {
    let cloud = instant().await;
    let send = async |host: &str, method: Method, path: &str| {
        let mut request = cloud.request(method.clone(), path).header("host", host);
        if method == Method::POST {
            request = request.json(&job("daily", "true"));
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(send("europe-west1-run.googleapis.com", Method::POST, JOBS).await.0, 200);
    let path = format!("{JOBS}/daily");
    let (status, found) = send("europe-west1-run.googleapis.com", Method::GET, &path).await;
    assert!(status == 200 && found.contains("\"cloud.googleapis.com/location\":\"europe-west1\""), "{found}");
    let (status, missing) = send("us-east1-run.googleapis.com", Method::GET, &path).await;
    assert!(status == 404 && missing.contains("in region 'us-east1'"), "{missing}");
    let (status, page) = send("europe-middle1-run.googleapis.com", Method::GET, &path).await;
    assert!(status == 404 && page.starts_with("<!DOCTYPE html>"), "{page}");
}

#[tokio::test]
async fn an_absolute_request_target_takes_precedence_over_the_host_header() {
    let cloud = instant().await;
    let address = format!("http://{}", cloud.emulator.address());
    let through_proxy = reqwest::Client::builder().proxy(reqwest::Proxy::http(&address).unwrap()).build().unwrap();
    let url = format!("http://asia-east1-run.emulator{JOBS}");
    let response = through_proxy.post(url).json(&job("daily", "true")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let label = &cloud.emulator.jobs()[0].metadata.labels["cloud.googleapis.com/location"];
    assert_eq!(label, "asia-east1");
}

#[tokio::test]
async fn an_unknown_path_gets_the_html_page_of_the_front_end() {
    let cloud = instant().await;
    for path in ["/nope", "/apis/run.googleapis.com/v1/namespaces/demo/services", "/v2/<script>"] {
        let (status, page) = cloud.get(path).await;
        let page = page.as_str().unwrap();
        assert!(status == 404 && page.starts_with("<!DOCTYPE html>") && !page.contains("<script"), "{page}");
    }
}

#[tokio::test]
async fn an_image_that_cannot_exist_makes_the_job_not_ready() {
    let cloud = instant().await;
    let mut missing = job("missing", "true");
    task(&mut missing)["containers"][0]["image"] = json!("registry.invalid:5000/flow:1");
    let unready = cloud.create(missing).await;
    let ready = condition(&unready, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("ContainerMissing")));
    assert_eq!(ready["message"], "Image 'registry.invalid:5000/flow:1' not found.");
    let (status, error) = cloud.post(&format!("{JOBS}/missing:run"), json!({})).await;
    assert_eq!((status.as_u16(), &error["error"]["status"]), (400, &json!("FAILED_PRECONDITION")));
}

#[tokio::test]
async fn an_execution_started_early_waits_for_the_readiness_of_its_job() {
    let cloud = Cloud::start(EmulatorConfig { ready_after: Duration::from_millis(200), ..quick() }).await;
    let mut missing = job("missing", "true");
    task(&mut missing)["containers"][0]["image"] = json!("registry.invalid/flow");
    for (job, status) in [(job("early", "true"), "True"), (missing, "False")] {
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        cloud.post(JOBS, job).await;
        let path = cloud.run(&name).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(cloud.get(&path).await.1["status"]["startTime"].is_null());
        assert_eq!(condition(&cloud.wait_ended(&path).await, "Completed")["status"], status);
    }
}

#[tokio::test]
async fn a_replaced_job_has_a_new_generation_that_becomes_ready() {
    let cloud = instant().await;
    cloud.create(job("daily", "true")).await;
    cloud.wait_ended(&cloud.run("daily").await).await;
    let path = format!("{JOBS}/daily");
    let (status, replaced) = cloud.send(Method::PUT, &path, Some(job("daily", "false"))).await;
    assert_eq!(status, 200, "{replaced}");
    assert_eq!(
        (&replaced["metadata"]["generation"], &replaced["status"]["observedGeneration"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(condition(&replaced, "Ready")["status"], "Unknown");
    assert_eq!(replaced["status"]["executionCount"], 1);
    cloud.wait(&path, |job| condition(job, "Ready")["status"] == "True").await;
    let (status, _) = cloud.send(Method::PUT, &path, Some(job("other", "true"))).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_deleted_execution_is_stopped_and_removed_and_its_job_stays() {
    let cloud = Cloud::start(simulated(Duration::from_secs(300), SUCCESS)).await;
    cloud.create(job("daily", "true")).await;
    let path = cloud.run("daily").await;
    cloud.wait_started(&path).await;
    assert_eq!(cloud.delete(&path).await.1["status"], "Success");
    cloud.wait_gone(&path).await;
    let (_, job) = cloud.get(&format!("{JOBS}/daily")).await;
    let latest = &job["status"]["latestCreatedExecution"];
    assert!(latest["deletionTimestamp"].is_string(), "{latest}");
    assert_eq!(latest["completionStatus"], "EXECUTION_CANCELLED");
}

#[tokio::test]
async fn a_job_tells_how_far_its_latest_execution_came_and_how_many_it_had() {
    let cloud = Cloud::start(simulated(Duration::from_secs(300), SUCCESS)).await;
    for (name, outcome) in [("good", "success"), ("bad", "failure"), ("long", "success")] {
        let mut job = job(name, "true");
        let duration = if name == "long" { "300" } else { "0.01" };
        job["spec"]["template"]["metadata"]["annotations"] =
            json!({DURATION_ANNOTATION: duration, OUTCOME_ANNOTATION: outcome});
        cloud.create(job).await;
    }
    let status = async |job: &str| cloud.get(&format!("{JOBS}/{job}")).await.1["status"].clone();
    let completion = async |job: &str| status(job).await["latestCreatedExecution"]["completionStatus"].clone();
    for (job, expected) in [("good", "EXECUTION_SUCCEEDED"), ("bad", "EXECUTION_FAILED")] {
        let path = cloud.run(job).await;
        cloud.wait_ended(&path).await;
        assert_eq!(completion(job).await, expected);
        // A deletion changes nothing about how it ended.
        cloud.delete(&path).await;
        cloud.wait_gone(&path).await;
        let latest = &status(job).await["latestCreatedExecution"];
        assert_eq!(latest["completionStatus"], expected);
        assert!(latest["deletionTimestamp"].is_string() && latest["completionTimestamp"].is_string(), "{latest}");
    }

    let (older, younger) = (cloud.run("long").await, cloud.run("long").await);
    cloud.wait_started(&older).await;
    cloud.wait_started(&younger).await;
    let shown = status("long").await;
    assert_eq!(shown["executionCount"], 2);
    assert!(younger.ends_with(shown["latestCreatedExecution"]["name"].as_str().unwrap()));
    assert_eq!(completion("long").await, "EXECUTION_RUNNING");
    // The end of the older one is not news about the younger one.
    assert_eq!(cloud.post(&format!("{older}:cancel"), json!({})).await.0, 200);
    let cancelled = cloud.wait_ended(&older).await;
    assert_eq!(condition(&cancelled, "Completed")["reason"], "Cancelled");
    assert_eq!(completion("long").await, "EXECUTION_RUNNING");
    assert_eq!(cloud.post(&format!("{younger}:cancel"), json!({})).await.0, 200);
    cloud.wait_ended(&younger).await;
    assert_eq!(completion("long").await, "EXECUTION_CANCELLED");
    // Deleted ones still count.
    cloud.delete(&younger).await;
    cloud.wait_gone(&younger).await;
    assert_eq!(status("long").await["executionCount"], 2);
}

#[tokio::test]
async fn a_deleted_job_shows_that_its_execution_is_deleted_too() {
    let config = EmulatorConfig { delete_after: Duration::from_secs(60), ..simulated(Duration::ZERO, SUCCESS) };
    let cloud = Cloud::start(config).await;
    cloud.create(job("daily", "true")).await;
    cloud.wait_ended(&cloud.run("daily").await).await;
    cloud.delete(&format!("{JOBS}/daily")).await;
    let (_, job) = cloud.get(&format!("{JOBS}/daily")).await;
    assert!(job["metadata"]["deletionTimestamp"].is_string());
    let latest = &job["status"]["latestCreatedExecution"];
    assert!(latest["deletionTimestamp"].is_string(), "{latest}");
    assert_eq!(latest["completionStatus"], "EXECUTION_SUCCEEDED");
}

#[tokio::test]
async fn failed_resources_cannot_be_read_after_their_deletion() {
    let cloud = Cloud::start(EmulatorConfig { delete_after: Duration::from_secs(60), ..quick() }).await;
    cloud.create(job("failing", "exit 1")).await;
    let path = cloud.run("failing").await;
    cloud.wait_ended(&path).await;
    assert_eq!(cloud.delete(&path).await.0, 200);
    assert_eq!(cloud.get(&path).await.0, 404);
    let mut missing = job("missing", "true");
    task(&mut missing)["containers"][0]["image"] = json!("registry.invalid/flow");
    cloud.create(missing).await;
    assert_eq!(cloud.delete(&format!("{JOBS}/missing")).await.0, 200);
    assert_eq!(cloud.get(&format!("{JOBS}/missing")).await.0, 404);
}

#[tokio::test]
async fn the_history_has_the_life_of_a_deleted_job_and_no_secrets() {
    let cloud = Cloud::start(EmulatorConfig { record_calls: true, ..quick() }).await;
    let mut failing = job("<daily>", "exit 1");
    failing["metadata"]["name"] = json!("daily");
    task(&mut failing)["maxRetries"] = json!(1);
    task(&mut failing)["containers"][0]["env"] = json!([{"name": "PASSWORD", "value": "hunter2"}]);
    cloud.create(failing).await;
    assert!(!format!("{:?}", cloud.emulator).contains("hunter2"));
    let execution = cloud.wait_ended(&cloud.run("daily").await).await;
    let (_, page) = cloud.get("/").await;
    assert!(page.as_str().unwrap().contains("NonZeroExitCode"), "{page}");
    cloud.delete(&format!("{JOBS}/daily")).await;
    cloud.wait_gone(&format!("{JOBS}/daily")).await;
    let (_, history) = cloud.get("/emulator/history").await;
    let life = &history["jobs"][0];
    assert_eq!(
        (&life["project"], &life["region"], &life["job"]),
        (&json!("demo"), &json!("us-central1"), &json!("daily"))
    );
    let events: Vec<&str> =
        life["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = [
        "created",
        "ready",
        "executionCreated",
        "executionStarted",
        "taskRetried",
        "executionFailed",
        "deletionRequested",
        "deleted",
    ];
    assert_eq!(events, expected);
    let (_, page) = cloud.get("/").await;
    let page = page.as_str().unwrap();
    assert!(page.contains("Deleted jobs") && page.contains("daily"));
    assert!(!page.contains("hunter2") && !history.to_string().contains("hunter2"));
    let (_, calls) = cloud.get("/emulator/calls").await;
    assert!(calls.to_string().contains(r#"{"name":"PASSWORD","value":"…"}"#), "{calls}");
    assert!(!format!("{calls} {:?}", cloud.emulator).contains("hunter2"));
    // The log outlives the job, and no other file can be read.
    cloud.log(&execution).await;
    for path in ["/logs/demo/us-central1/..%2F..%2Fetc%2Fpasswd", "/logs/demo/us-central1/nope", "/logs/a/b/.."] {
        assert_eq!(cloud.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn calls_are_recorded_only_on_request() {
    for record_calls in [true, false] {
        let cloud = Cloud::start(EmulatorConfig { record_calls, ..quick() }).await;
        cloud.post(JOBS, job("daily", "true")).await;
        cloud.get(&format!("{JOBS}?limit=1")).await;
        let calls = cloud.emulator.calls();
        if !record_calls {
            assert!(calls.is_empty());
            continue;
        }
        assert_eq!(calls.len(), 2);
        assert_eq!((calls[0].method.as_str(), calls[0].path.as_str(), calls[0].status), ("POST", JOBS, 200));
        assert_eq!(calls[0].body, Some(job("daily", "true")));
        assert_eq!(calls[1].query, [("limit".to_owned(), "1".to_owned())]);
        let (_, shown) = cloud.get("/emulator/calls").await;
        assert_eq!(shown[1]["query"], json!([["limit", "1"]]));
    }
}

#[tokio::test]
async fn a_web_page_cannot_make_a_browser_run_commands() {
    let cloud = Cloud::start(quick()).await;
    let request = cloud.request(Method::POST, JOBS).header("origin", "https://evil.example").json(&job("evil", "true"));
    assert_eq!(request.send().await.unwrap().status(), 403);
    assert!(cloud.emulator.jobs().is_empty());
}

#[tokio::test]
async fn the_error_names_an_address_that_is_in_use() {
    let cloud = Cloud::start(quick()).await;
    let config = EmulatorConfig { address: cloud.emulator.address(), ..quick() };
    let error = prefect_gcp_core::emulator::Emulator::start(config).await.unwrap_err().to_string();
    assert!(error.contains(&cloud.emulator.address().to_string()), "{error}");
}
