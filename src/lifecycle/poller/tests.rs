//! The list that is tried after a time without lists, against a small server.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    api::{Credentials, Endpoint, GcpAuth, HttpPool, Principal, QuotaQueues, RetryPolicy, TokenSource},
    lifecycle::progress::Progress,
};

const SECOND: Duration = Duration::from_secs(1);
const RUNNING: &str = r#"{"metadata": {"name": "e"}, "status": {"runningCount": 1}}"#;
const EMPTY: &str = r#"{"kind": "ExecutionList"}"#;

/// A poller that has given lists up, and tries one now. The server answers every list with this status and body, and every
/// other read with an execution that runs. Also returns the number of lists that were sent.
async fn poller(status: u16, list: String) -> (Arc<Poller>, Arc<AtomicUsize>) {
    poller_of(move |_| (status, list.clone(), "")).await
}

/// The same, with a response to each list by its number: status, body and headers.
async fn poller_of(
    respond: impl Fn(usize) -> (u16, String, &'static str) + Send + 'static,
) -> (Arc<Poller>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let lists = Arc::new(AtomicUsize::default());
    let count = lists.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && connection.read_buf(&mut request).await.unwrap() > 0 {}
            let is_list = String::from_utf8_lossy(&request).contains("/executions?");
            let number = count.fetch_add(usize::from(is_list), Ordering::SeqCst);
            let (status, body, headers) = if is_list { respond(number) } else { (200, RUNNING.to_owned(), "") };
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
            _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    let transport = Transport {
        http: HttpPool::new(false).unwrap(),
        endpoint: Endpoint::emulator(&address, "r").unwrap(),
        project: "p".into(),
        region: "r".into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(60 * SECOND)),
        quota_wait_max: 60 * SECOND,
        retry: RetryPolicy::default(),
        attempt_timeout: 60 * SECOND,
        random: || 0.5,
        on_notice: Arc::new(|_| {}),
    };
    let poller = Arc::new(Poller::new(&transport));
    // Lists were of no use from 120 to 90 seconds ago; the next one is due 60 seconds after that.
    let given_up = [120, 100, 90].map(|ago| poller.state().lists.was_useless(Instant::now() - ago * SECOND));
    assert_eq!(given_up, [false, false, true]);
    (poller, lists)
}

/// The next updates of two old executions.
async fn updates(poller: &Arc<Poller>) -> [Update; 2] {
    updates_at_age(poller, 60 * SECOND).await
}

/// The next updates of two executions that started `age` ago.
async fn updates_at_age(poller: &Arc<Poller>, age: Duration) -> [Update; 2] {
    let watch = ExecutionWatch {
        execution: "e".into(),
        since: Duration::ZERO,
        is_running: false,
        max_pause: SECOND / 100,
        until: None,
        is_last_look: false,
    };
    let other = ExecutionWatch { execution: "f".into(), ..watch.clone() };
    let (first, second) =
        tokio::join!(poller.next_update("j", &watch, age, |_| {}), poller.next_update("k", &other, age, |_| {}),);
    [first, second]
}

#[tokio::test]
async fn a_list_that_works_again_brings_the_lists_back() {
    let other = RUNNING.replace("\"e\"", "\"f\"");
    let (poller, lists) = poller(200, format!(r#"{{"kind": "ExecutionList", "items": [{RUNNING}, {other}]}}"#)).await;
    for round in 1..=2 {
        let updates = updates(&poller).await;
        assert!(updates.iter().all(|update| update.response.is_ok()), "{updates:?}");
        assert_eq!(lists.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn a_list_that_is_tried_in_vain_is_not_tried_again_soon() {
    for (status, list) in [(403, ""), (404, ""), (503, ""), (200, EMPTY)] {
        let (poller, lists) = poller(status, list.to_owned()).await;
        for _ in 0..3 {
            let updates = updates(&poller).await;
            assert!(updates.iter().all(|update| update.response.is_ok()), "{status}: {updates:?}");
            // It was told when the lists were given up.
            let is_told_again =
                updates.iter().any(|update| matches!(update.notice, Some(Progress::PollingIndividually { .. })));
            assert!(!is_told_again, "{status}");
        }
        assert_eq!(lists.load(Ordering::SeqCst), 1, "{status}");
    }
}

#[tokio::test]
async fn a_list_that_waits_for_its_quota_takes_along_what_becomes_due_meanwhile() {
    const RUNS: usize = 16;
    let item = |name: &str| format!(r#"{{"metadata": {{"name": "{name}"}}, "status": {{"runningCount": 1}}}}"#);
    let items: Vec<_> = (0..RUNS).map(|number| item(&format!("e{number}"))).collect();
    let (list, refusal) = (
        format!(r#"{{"kind": "ExecutionList", "items": [{}]}}"#, items.join(",")),
        r#"{"error": {"code": 429, "message": "Quota exceeded.", "details": [{"reason": "RATE_LIMIT_EXCEEDED"}]}}"#,
    );
    let (poller, lists) = poller_of(move |number| match number {
        0 => (429, refusal.to_owned(), "retry-after: 2\r\n"),
        _ => (200, list.clone(), ""),
    })
    .await;
    poller.state().lists.succeeded();
    let mut updates = JoinSet::new();
    for number in 0..RUNS {
        let poller = poller.clone();
        updates.spawn(async move {
            let watch = ExecutionWatch {
                execution: format!("e{number}"),
                since: Duration::ZERO,
                is_running: false,
                max_pause: SECOND,
                until: None,
                is_last_look: false,
            };
            let waits = AtomicUsize::default();
            let on_wait = |_quota| _ = waits.fetch_add(1, Ordering::SeqCst);
            let update = poller.next_update(&format!("j{number}"), &watch, Duration::ZERO, on_wait).await;
            (update.response.is_ok(), waits.into_inner())
        });
        // Each begins after the last one was due.
        tokio::time::sleep(SECOND / 10).await;
        while lists.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(SECOND / 100).await;
        }
    }
    let updates = updates.join_all().await;
    assert!(updates.iter().all(|(is_ok, _)| *is_ok));
    // The runs that wait hear of it.
    assert!(updates.iter().any(|(_, waits)| *waits > 0));
    // The refused one, its repetition, and one for all others.
    assert!(lists.load(Ordering::SeqCst) <= 4, "{lists:?} lists");
}

#[tokio::test]
async fn a_young_execution_that_two_lists_lack_is_read_on_its_own() {
    let (poller, lists) = poller(200, EMPTY.to_owned()).await;
    poller.state().lists.succeeded();
    let updates = updates_at_age(&poller, Duration::ZERO).await;
    assert!(updates.iter().all(|update| update.response.is_ok()), "{updates:?}");
    assert_eq!(lists.load(Ordering::SeqCst), 2);
}
