//! Shared by the emulator's integration tests: an emulator with short times, and a plain HTTP client.

use std::{
    sync::Once,
    time::{Duration, Instant},
};

use prefect_gcp_core::emulator::{Emulator, EmulatorConfig, ExecutorConfig, SimulatedOutcome};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

pub const JOBS: &str = "/apis/run.googleapis.com/v1/namespaces/demo/jobs";
pub const EXECUTIONS: &str = "/apis/run.googleapis.com/v1/namespaces/demo/executions";
pub const TASKS: &str = "/apis/run.googleapis.com/v1/namespaces/demo/tasks";

/// A configuration with short times.
pub fn quick() -> EmulatorConfig {
    EmulatorConfig {
        ready_after: Duration::from_millis(20),
        start_after: Duration::from_millis(10),
        delete_after: Duration::from_millis(20),
        ..EmulatorConfig::default()
    }
}

/// A configuration with short times that simulates tasks.
pub fn simulated(duration: Duration, outcome: SimulatedOutcome) -> EmulatorConfig {
    EmulatorConfig { executor: ExecutorConfig::Simulated { duration, outcome }, ..quick() }
}

pub struct Cloud {
    pub emulator: Emulator,
    http: reqwest::Client,
}

impl Cloud {
    pub async fn start(config: EmulatorConfig) -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let emulator = Emulator::start(config).await.unwrap();
        Self { emulator, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.emulator.address()))
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::DELETE, path, None).await
    }

    /// Creates a job and waits until it is ready or not.
    pub async fn create(&self, job: Value) -> Value {
        let path = format!("{JOBS}/{}", job["metadata"]["name"].as_str().unwrap());
        let (status, answer) = self.post(JOBS, job).await;
        assert_eq!(status, 200, "{answer}");
        self.wait(&path, |job| condition(job, "Ready")["status"] != "Unknown").await
    }

    /// Runs a job, and returns the path of its execution.
    pub async fn run(&self, job: &str) -> String {
        let (status, execution) = self.post(&format!("{JOBS}/{job}:run"), json!({})).await;
        assert_eq!(status, 200, "{execution}");
        format!("{EXECUTIONS}/{}", execution["metadata"]["name"].as_str().unwrap())
    }

    /// Waits until an execution has started.
    pub async fn wait_started(&self, path: &str) -> Value {
        self.wait(path, |execution| execution["status"]["runningCount"].is_number()).await
    }

    /// Waits until an execution has ended.
    pub async fn wait_ended(&self, path: &str) -> Value {
        self.wait(path, |execution| condition(execution, "Completed")["status"] != "Unknown").await
    }

    /// Waits until a resource no longer exists.
    pub async fn wait_gone(&self, path: &str) {
        self.wait(path, |answer| answer["error"]["code"] == 404).await;
    }

    pub async fn wait(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let (_, resource) = self.get(path).await;
            if done(&resource) {
                return resource;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "timed out waiting: {resource:#}");
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    pub async fn log(&self, execution: &Value) -> String {
        let path = execution["status"]["logUri"].as_str().unwrap();
        assert!(path.starts_with(&format!("http://{}/logs/", self.emulator.address())), "{path}");
        self.http.get(path).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }
}

/// The condition of this type; null when the resource has none.
pub fn condition(resource: &Value, kind: &str) -> Value {
    let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// A job that runs a shell script, once.
pub fn job(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"team": "data"}},
        "spec": {"template": {"metadata": {"labels": {"stage": "test"}}, "spec": {"template": {"spec": {
            "maxRetries": 0,
            "containers": [{"image": "busybox", "command": ["sh", "-c", script]}],
        }}}}},
    })
}

/// The task specification of a job.
pub fn task(job: &mut Value) -> &mut Value {
    &mut job["spec"]["template"]["spec"]["template"]["spec"]
}

/// Whether a process is running.
pub fn lives(pid: &str) -> bool {
    let state = std::process::Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().unwrap();
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

/// Waits until a file has a complete line, and returns its content.
pub async fn content(path: &std::path::Path) -> String {
    let begin = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => assert!(begin.elapsed() < Duration::from_secs(20), "{} was not written", path.display()),
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}
