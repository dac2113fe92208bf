//! The emulator's lists: order, pages, selectors, partial responses.

use std::time::Duration;

use crate::emulator_support::{Cloud, EXECUTIONS, JOBS, job, simulated};
use prefect_gcp_core::emulator::{EmulatorConfig, SimulatedOutcome};
use reqwest::Method;
use serde_json::{Value, json};

const SUCCESS: SimulatedOutcome = SimulatedOutcome::Success;

async fn instant() -> Cloud {
    Cloud::start(simulated(Duration::ZERO, SUCCESS)).await
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_are_newest_first_and_inserts_do_not_shift_their_pages() {
    let cloud = Cloud::start(EmulatorConfig { page_size: 3, ..simulated(Duration::ZERO, SUCCESS) }).await;
    for name in ["a", "b", "c", "d", "e"] {
        cloud.create(job(name, "true")).await;
    }
    let (_, first) = cloud.get(&format!("{JOBS}?limit=2")).await;
    assert_eq!((names(&first), &first["kind"]), (vec!["e", "d"], &json!("JobList")));
    cloud.create(job("f", "true")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = cloud.get(&format!("{JOBS}?limit=2&continue={token}")).await;
    assert_eq!(names(&second), ["c", "b"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let (_, third) = cloud.get(&format!("{JOBS}?limit=2&continue={token}")).await;
    assert_eq!(names(&third), ["a"]);
    assert!(third["metadata"]["continue"].is_null());
    let (_, largest) = cloud.get(&format!("{JOBS}?limit=100")).await;
    assert_eq!(names(&largest).len(), 3);
    assert!(largest["metadata"]["continue"].is_string());
}

#[tokio::test]
async fn label_selectors_select_executions_by_the_labels_of_their_jobs() {
    let cloud = instant().await;
    for name in ["a", "b", "c"] {
        cloud.create(job(name, "true")).await;
        cloud.run(name).await;
    }
    let list = async |selector: &str| {
        let request = cloud.request(Method::GET, EXECUTIONS).query(&[("labelSelector", selector)]);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let jobs = |list: &Value| names(list).iter().map(|name| name[..1].to_owned()).collect::<String>();
    assert_eq!(jobs(&list("run.googleapis.com/job in (a, c, z)").await), "ca");
    assert_eq!(jobs(&list("run.googleapis.com/job = b").await), "b");
    assert_eq!(jobs(&list("stage=test,run.googleapis.com/job notIn (b)").await), "ca");
    assert_eq!(jobs(&list("stage!=test").await), "");
    assert_eq!(list("a in").await["error"]["status"], "INVALID_ARGUMENT");
}

#[tokio::test]
async fn fields_selects_parts_of_the_response() {
    let cloud = instant().await;
    cloud.create(job("daily", "true")).await;
    let (_, list) = cloud.get(&format!("{JOBS}?fields=items(metadata/name),metadata/continue")).await;
    assert_eq!(list, json!({"items": [{"metadata": {"name": "daily"}}]}));
    let (_, one) = cloud.get(&format!("{JOBS}/daily?fields=kind")).await;
    assert_eq!(one, json!({"kind": "Job"}));
}

#[tokio::test]
async fn unsupported_and_malformed_parameters_are_refused() {
    let cloud = instant().await;
    for query in [
        "fieldSelector=a%3Db",
        "watch=true",
        "limit=-1",
        "limit=x",
        "continue=x",
        "fields=nam",
        "fields=a(",
        "colour=red",
    ] {
        let (status, answer) = cloud.get(&format!("{JOBS}?{query}")).await;
        assert_eq!((status.as_u16(), &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{query}");
    }
    assert_eq!(cloud.get(&format!("{JOBS}?alt=json&prettyPrint=false&limit=0&watch=false")).await.0, 200);
}

#[tokio::test]
async fn a_post_with_a_method_override_is_a_get() {
    let cloud = instant().await;
    cloud.create(job("daily", "true")).await;
    cloud.run("daily").await;
    let request =
        cloud.request(Method::POST, &format!("{EXECUTIONS}?alt=json")).header("x-http-method-override", "GET");
    let form = "labelSelector=run.googleapis.com%2Fjob+in+%28other%2Cdaily%29&limit=5";
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let list: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(names(&list).len(), 1);
}
