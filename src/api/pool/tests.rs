use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::api::{
    CloudRunClient, Credentials, Endpoint, GcpAuth, Notice, Principal, QuotaQueues, RetryPolicy, TokenSource, Transport,
};

const LONG: Duration = Duration::from_secs(60);
const JOB: &[u8] = br#"{"metadata": {"name": "j", "uid": "u"}}"#;
/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE_LENGTH: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A server that speaks as much HTTP/2 as these tests need. Its first connection goes dead after one response: it stays open,
/// and nothing is read from it or written to it any more. Other connections live on.
struct Server {
    address: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections: Arc<AtomicUsize> = Arc::default();
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
                tokio::spawn(serve(stream, is_first));
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Serves a connection until the client closes it.
async fn serve(mut stream: TcpStream, goes_dead: bool) -> Option<()> {
    stream.read_exact(&mut [0; PREFACE_LENGTH]).await.ok()?;
    send(&mut stream, SETTINGS, 0, [0; 4], &[]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
        stream.read_exact(&mut payload).await.ok()?;
        match kind {
            SETTINGS | PING if flags & ACK == 0 => send(&mut stream, kind, ACK, id, &payload).await?,
            HEADERS => {
                // In the table of HPACK, 8 is the status 200.
                send(&mut stream, HEADERS, END_HEADERS, id, &[0x88]).await?;
                send(&mut stream, DATA, END_STREAM, id, JOB).await?;
                if goes_dead {
                    return std::future::pending().await;
                }
            }
            _ => {}
        }
    }
}

/// Sends a frame (RFC 9113, 4.1).
async fn send(stream: &mut TcpStream, kind: u8, flags: u8, id: [u8; 4], payload: &[u8]) -> Option<()> {
    // The acknowledgement of settings has no payload.
    let payload = if kind == SETTINGS { &[] } else { payload };
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let frame = [&length[..], &[kind, flags], &id, payload].concat();
    stream.write_all(&frame).await.ok()
}

/// A pool whose clients speak HTTP/2 without TLS, and the number of clients that it has built.
fn pool(pings: Pings) -> (HttpPool, Arc<AtomicUsize>) {
    let built: Arc<AtomicUsize> = Arc::default();
    let count = built.clone();
    let build = move || {
        count.fetch_add(1, Ordering::Relaxed);
        client_builder(false, pings).http2_prior_knowledge().build()
    };
    (HttpPool::with(build).unwrap(), built)
}

/// A client of the server, and the failed attempts that it repeated.
fn client(server: &Server, http: HttpPool, attempt_timeout: Duration) -> (CloudRunClient, Arc<Mutex<Vec<String>>>) {
    let repeated: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = repeated.clone();
    let transport = Transport {
        http,
        endpoint: Endpoint::emulator(&server.address, "us-east1").unwrap(),
        project: "my-project".into(),
        region: "us-east1".into(),
        tokens: TokenSource::new(Principal::new(Credentials::ApplicationDefault, true), Arc::new(GcpAuth::default())),
        quotas: Arc::new(QuotaQueues::new(LONG)),
        quota_wait_max: LONG,
        retry: RetryPolicy { initial_delay: Duration::from_millis(1), ..RetryPolicy::default() },
        attempt_timeout,
        random: || 0.5,
        on_notice: Arc::new(move |notice| {
            if let Notice::Retry(notice) = notice {
                seen.lock().unwrap().push(notice.error.message);
            }
        }),
    };
    (CloudRunClient::new(transport), repeated)
}

#[tokio::test]
async fn an_attempt_that_timed_out_on_a_dead_connection_is_repeated_on_a_fresh_one() {
    let server = Server::start().await;
    // No ping finds out.
    let (http, built) = pool(Pings { interval: LONG, timeout: LONG });
    let (client, repeated) = client(&server, http, Duration::from_secs(1));
    client.get_job("j").await.unwrap();
    assert_eq!((server.connections(), built.load(Ordering::Relaxed)), (1, 1));
    client.get_job("j").await.unwrap();
    assert!(server.connections() > 1 && built.load(Ordering::Relaxed) > 1);
    assert!(repeated.lock().unwrap()[0].starts_with("no response in time"));
}

#[tokio::test]
async fn pings_find_a_dead_connection_before_the_attempt_times_out() {
    let server = Server::start().await;
    let (http, _) = pool(Pings { interval: Duration::from_millis(50), timeout: Duration::from_secs(1) });
    let (client, repeated) = client(&server, http, 2 * LONG);
    client.get_job("j").await.unwrap();
    client.get_job("j").await.unwrap();
    assert!(server.connections() > 1);
    // The setting request_timeout_seconds would not help.
    assert!(repeated.lock().unwrap()[0].contains("keep-alive timed out"));
}

#[tokio::test]
async fn a_client_is_replaced_once_however_many_attempts_time_out_on_it() {
    let (http, built) = pool(Pings::default());
    let (first, callers) = (http.current(), 50);
    let renewals: Vec<_> = (0..callers)
        .map(|_| {
            let (http, first) = (http.clone(), first.clone());
            tokio::spawn(async move { http.renew(&first).await })
        })
        .collect();
    for renewal in renewals {
        renewal.await.unwrap();
    }
    // One that comes late.
    http.renew(&first).await;
    assert_eq!((http.current().generation, built.load(Ordering::Relaxed)), (1, 2));
    http.renew(&http.current()).await;
    assert_eq!((http.current().generation, built.load(Ordering::Relaxed)), (2, 3));
}

#[tokio::test]
async fn a_client_stays_while_no_other_can_be_built() {
    let built = AtomicUsize::new(0);
    let http = HttpPool::with(move || match built.fetch_add(1, Ordering::Relaxed) {
        // A user agent that HTTP does not allow stands for root certificates that can't be loaded.
        1 => client_builder(false, Pings::default()).user_agent("\n").build(),
        _ => client_builder(false, Pings::default()).build(),
    })
    .unwrap();
    http.renew(&http.current()).await;
    assert_eq!(http.current().generation, 0);
    http.renew(&http.current()).await;
    assert_eq!(http.current().generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_build_that_hangs_holds_one_thread_and_no_call() {
    let (release, hangs) = std::sync::mpsc::channel::<()>();
    let (hangs, built) = (Mutex::new(hangs), Arc::new(AtomicUsize::new(0)));
    let count = built.clone();
    let http = HttpPool::with(move || {
        if count.fetch_add(1, Ordering::Relaxed) > 0 {
            _ = hangs.lock().unwrap().recv();
        }
        client_builder(false, Pings::default()).build()
    })
    .unwrap();
    let first = http.current();
    // tokio's paused clock stands still while a blocking thread works, so it is moved by hand.
    for _ in 0..3 {
        let renewal = tokio::spawn({
            let (http, first) = (http.clone(), first.clone());
            async move { http.renew(&first).await }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(RENEWAL_WAIT).await;
        renewal.await.unwrap();
    }
    assert_eq!(http.current().generation, 0);
    drop(release);
    while http.current().generation == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(built.load(Ordering::Relaxed), 2);
}
