//! A server that sends the next response of a queue to each request, and records the requests.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How the server reacts to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Response {
    /// A status and a body.
    Http(u16, &'static str),
    /// A status, a body, and lines of the head.
    WithHead(u16, &'static str, &'static str),
    /// The connection is closed.
    Drop,
    /// No response, ever.
    Hang,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method and target.
    pub line: String,
    pub body: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub struct Queue {
    /// `HOST:PORT`.
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Queue {
    pub async fn start(responses: Vec<Response>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = requests.clone();
        let responses = Arc::new(Mutex::new(VecDeque::from(responses)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, responses.clone(), seen.clone()));
            }
        });
        Self { address, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request per connection, so that no response waits behind another.
async fn serve(mut stream: TcpStream, responses: Arc<Mutex<VecDeque<Response>>>, seen: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read(&mut stream).await else { return };
    seen.lock().unwrap().push(request);
    let response = responses.lock().unwrap().pop_front().expect("more requests than responses");
    let (status, extra, body) = match response {
        Response::Http(status, body) => (status, String::new(), body),
        Response::WithHead(status, body, head) => (status, format!("{head}\r\n"), body),
        Response::Drop => return,
        Response::Hang => return std::future::pending().await,
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\n{extra}location: http://127.0.0.1:1/\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = vec![];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = bytes.split_off(head + 4);
    let request = Request { line, headers, body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    Some(Request { body: String::from_utf8(body).unwrap(), ..request })
}
