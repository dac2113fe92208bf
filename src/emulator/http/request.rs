//! A request for the API, once its host, query and `X-HTTP-Method-Override` are understood.

use axum::{
    body::Bytes,
    http::{Method, StatusCode, request::Parts},
};
use serde::Deserialize;
use url::form_urlencoded;

use crate::{
    emulator::{call_log::RecordedCall, wire::region_of_authority},
    job::env,
};

/// A request for the API.
pub(super) struct ParsedRequest {
    /// HTTP method, or the method in `X-HTTP-Method-Override`.
    pub(super) method: Method,
    /// None when Cloud Run has no region of the name in the host name.
    pub(super) region: Option<&'static str>,
    pub(super) path: String,
    /// Decoded query parameters.
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl ParsedRequest {
    pub(super) fn new(parts: &Parts, mut body: Bytes) -> Self {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // A request through a proxy has an absolute target, which takes precedence over the Host header (RFC 9112,
        // section 3.2.2).
        let authority = parts.uri.authority().map(|authority| authority.as_str()).or_else(|| header("host"));
        let decode = |form: &[u8]| form_urlencoded::parse(form).into_owned().collect::<Vec<_>>();
        let mut query = decode(parts.uri.query().unwrap_or_default().as_bytes());
        let mut method = parts.method.clone();
        // googleapiclient sends a GET with a long query as a POST, with the query in the body.
        let requested = header("x-http-method-override").and_then(|name| name.to_ascii_uppercase().parse().ok());
        if let Some(requested) = requested.filter(|_| method == Method::POST) {
            if requested == Method::GET {
                query.extend(decode(&body));
                body = Bytes::new();
            }
            method = requested;
        }
        let region = region_of_authority(authority);
        Self { method, region, path: parts.uri.path().to_owned(), query, body }
    }

    /// Tells calls of one method apart whose path names no resource: the job of a create, or the selector of a list.
    pub(super) fn subject(&self) -> &str {
        #[derive(Deserialize)]
        struct NamedBody<'a> {
            #[serde(borrow)]
            metadata: NamedMetadata<'a>,
        }
        #[derive(Deserialize)]
        struct NamedMetadata<'a> {
            name: &'a str,
        }
        let selector = self.query.iter().find(|(name, _)| name == "labelSelector").map(|(_, text)| text.as_str());
        let created = || serde_json::from_slice::<NamedBody<'_>>(&self.body).ok().map(|body| body.metadata.name);
        selector.or_else(created).unwrap_or_default()
    }

    /// The record of this call, with masked values of environment variables. `status` is none when no response was sent.
    pub(super) fn into_record(self, status: Option<StatusCode>, fault: Option<String>) -> RecordedCall {
        let mut body = serde_json::from_slice(&self.body).ok();
        if let Some(body) = &mut body {
            env::each_value(body, &mut |value| "…".clone_into(value));
        }
        RecordedCall {
            method: self.method.to_string(),
            region: self.region.map(str::to_owned),
            path: self.path,
            query: self.query,
            body,
            status: status.map_or(0, |status| status.as_u16()),
            fault,
        }
    }
}
