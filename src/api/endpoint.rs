//! The address of a region's API. Requests to it carry the token, so it is checked before anything is sent.

use std::net::IpAddr;

use thiserror::Error;
use url::{Host, Url};

/// The address of one region's API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    base: Url,
    host_header: Option<String>,
    needs_token: bool,
    /// Whether each region has an address of its own.
    has_regions: bool,
}

/// Why an endpoint, a region or a project can't be used.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum EndpointError {
    /// Not a region. It could change the host name that the token is sent to.
    #[error("'{0}' is not a region: expected lower-case letters, digits and dashes, such as us-central1")]
    Region(String),
    /// Not a project id. It could change the path of a call.
    #[error("'{0}' is not a project id: expected lower-case letters, digits and dashes, such as my-project-123456")]
    Project(String),
    /// Not a URL, or one with a user name, a password, a query or a fragment. Those are not shown: they may be secret.
    #[error("'{0}' is not an API endpoint: expected https://HOST, with {{region}} where the region belongs")]
    Url(String),
    /// Plain HTTP would send the token unencrypted over the network.
    #[error("the API endpoint '{0}' uses plain HTTP, which is allowed for loopback addresses only: use https://")]
    PlainHttp(String),
    /// Not an address of an emulator.
    #[error("CLOUD_RUN_EMULATOR_HOST is '{0}': expected HOST:PORT, such as 127.0.0.1:8080")]
    EmulatorHost(String),
}

impl Endpoint {
    /// The endpoint of `region`: `template` with the region in place of `{region}`.
    ///
    /// # Errors
    /// When the region is not a name, or the result is neither HTTPS nor HTTP to a loopback address.
    pub fn new(template: &str, region: &str) -> Result<Self, EndpointError> {
        check_region(region)?;
        let (text, has_regions) = (template.replace("{region}", region), template.contains("{region}"));
        let refused = || EndpointError::Url(discreet(&text));
        let base = Url::parse(&text).map_err(|_| refused())?;
        let plain = base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        match base.scheme() {
            _ if !plain || base.host().is_none() => Err(refused()),
            "https" => Ok(Self { base, host_header: None, needs_token: true, has_regions }),
            "http" if is_loopback(&base) => Ok(Self { base, host_header: None, needs_token: true, has_regions }),
            "http" => Err(EndpointError::PlainHttp(text)),
            _ => Err(refused()),
        }
    }

    /// The emulator at `host` (`HOST:PORT`). It needs no token. Like Google, it takes the region from the request's host
    /// name.
    ///
    /// # Errors
    /// When `host` is not `HOST:PORT` or the region is not a name.
    pub fn emulator(host: &str, region: &str) -> Result<Self, EndpointError> {
        check_region(region)?;
        let invalid = || EndpointError::EmulatorHost(discreet(host));
        let address = host.strip_prefix("http://").unwrap_or(host).trim_end_matches('/');
        let base = Url::parse(&format!("http://{address}")).map_err(|_| invalid())?;
        if address.is_empty() || address.contains(['/', '@', '?', '#']) || base.host().is_none() {
            return Err(invalid());
        }
        Ok(Self {
            base,
            host_header: Some(format!("{region}-run.googleapis.com")),
            needs_token: false,
            has_regions: true,
        })
    }

    /// The URL of a resource, from its path segments below `namespaces/{project}`. Percent-encodes them.
    pub fn url<S: AsRef<str>>(&self, project: &str, segments: &[S]) -> Url {
        let mut url = self.base.clone();
        // Only a URL without a host has no segments; `new` and `emulator` reject those.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["apis", "run.googleapis.com", "v1", "namespaces", project]).extend(segments);
        }
        url
    }

    /// The URL of Cloud Logging's `entries.list` that goes with this endpoint. `region` is the endpoint's. `None`: see
    /// [`Self::sibling_url`].
    pub fn log_entries_url(&self, region: &str) -> Option<Url> {
        self.sibling_url("logging", region, &["v2", "entries:list"])
    }

    /// The URL of another Google API that goes with this endpoint: `service` is its host in the domain, such as `logging`.
    /// `region` is the endpoint's. Percent-encodes the segments of the path.
    ///
    /// The token goes there, so only to an address that whoever set the endpoint has implied: to the host `service` of the
    /// same domain, where the endpoint has the form of Google's (`{region}-run.{domain}`, in any universe); to the endpoint
    /// itself, where that is on this machine; to the emulator. `None`: any other endpoint, such as a gateway of one's own.
    pub(super) fn sibling_url(&self, service: &str, region: &str, segments: &[&str]) -> Option<Url> {
        let mut url = self.base.clone();
        if self.needs_token && !is_loopback(&self.base) {
            let domain = self.base.domain()?.strip_prefix(region)?.strip_prefix("-run.")?;
            // A domain of one label would be everybody's. A job variable sets the region, and must not make an address
            // without `{region}` one of this form.
            let is_implied = self.has_regions || domain == "googleapis.com";
            if !is_implied || !domain.contains('.') || self.base.port().is_some() || self.base.path() != "/" {
                return None;
            }
            url.set_host(Some(&format!("{service}.{domain}"))).ok()?;
        }
        url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
        Some(url)
    }

    /// Identifies project and region: no other pair has the same text.
    pub fn scope(&self, project: &str) -> String {
        format!("{} {}", self.host_header.as_deref().unwrap_or_default(), self.url::<&str>(project, &[]))
    }

    /// The `Host` header of requests, when it differs from the address.
    pub fn host_header(&self) -> Option<&str> {
        self.host_header.as_deref()
    }

    /// Whether calls may go through the environment's proxy. Plain HTTP may not: it is for this machine only, and the proxy
    /// would see the token.
    pub fn may_use_proxy(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether the API is on this machine.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.base)
    }

    /// Whether calls need a token.
    pub fn needs_token(&self) -> bool {
        self.needs_token
    }
}

/// An address without its parts that may be secret: everything before an `@`, the query and the fragment.
fn discreet(address: &str) -> String {
    let address = address.rsplit_once('@').map_or(address.to_owned(), |(_, rest)| format!("…@{rest}"));
    address.split_once(['?', '#']).map_or(address.clone(), |(before, _)| format!("{before}?…"))
}

/// A job variable sets the region, and must not be able to name another host.
fn check_region(region: &str) -> Result<(), EndpointError> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let bytes = region.as_bytes();
    if (1..=63).contains(&bytes.len()) && bytes.iter().all(|&byte| legal(byte)) && bytes[0] != b'-' {
        return Ok(());
    }
    Err(EndpointError::Region(region.to_owned()))
}

/// Checks that a text is a project id or a project number, which is safe in a path. Ids have letters, digits and dashes;
/// old ones begin with a domain and a colon.
///
/// # Errors
/// [`EndpointError::Project`] when it is neither.
pub fn check_project(project: &str) -> Result<(), EndpointError> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = project.as_bytes();
    let is_legal = bytes.len() <= 100 && bytes.iter().all(|&byte| legal(byte));
    if is_legal && ends(bytes.first()) && ends(bytes.last()) {
        return Ok(());
    }
    Err(EndpointError::Project(project.to_owned()))
}

/// Whether the host of an address is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOGLE: &str = "https://{region}-run.googleapis.com";

    #[test]
    fn every_region_has_its_own_host() {
        let url = Endpoint::new(GOOGLE, "europe-west1").unwrap().url("p", &["jobs", "j:run"]);
        assert_eq!(
            url.as_str(),
            "https://europe-west1-run.googleapis.com/apis/run.googleapis.com/v1/namespaces/p/jobs/j:run"
        );
    }

    #[test]
    fn names_stay_one_segment_of_the_path() {
        let url = Endpoint::new(GOOGLE, "r1").unwrap().url("a/b?c", &["jobs", "x/../y#z%"]);
        assert_eq!(url.path(), "/apis/run.googleapis.com/v1/namespaces/a%2Fb%3Fc/jobs/x%2F..%2Fy%23z%25");
        assert_eq!((url.query(), url.fragment()), (None, None));
    }

    #[test]
    fn a_region_cannot_name_another_host() {
        for region in ["", "evil.example/", "a.b", "a@b", "US", "-a", "a b", "a/b", "é", "us-central1\n"] {
            assert_eq!(Endpoint::new(GOOGLE, region), Err(EndpointError::Region(region.into())), "{region:?}");
            assert!(Endpoint::emulator("127.0.0.1:1", region).is_err());
        }
    }

    #[test]
    fn a_project_is_an_id() {
        for project in ["p", "my-project-123456", "example.com:old-project", "123456789012"] {
            assert_eq!(check_project(project), Ok(()), "{project}");
        }
        for project in ["", "..", ".", "a/b", "P", "a b", "-a", "a-", "p?x", "é", "p\n", &"p".repeat(101)] {
            assert_eq!(check_project(project), Err(EndpointError::Project(project.into())), "{project:?}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for address in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:1", "https://run.internal/prefix/"]
        {
            assert!(Endpoint::new(address, "r1").unwrap().needs_token(), "{address}");
        }
        for address in ["http://10.0.0.1", "http://localhost.evil.example", "http://127.0.0.1.example"] {
            assert_eq!(Endpoint::new(address, "r1"), Err(EndpointError::PlainHttp(address.into())));
        }
        for address in ["https://user:hush@h", "https://user:hush@h:port", "user:hush@h", "ftp://u:h@ush@h"] {
            let hidden = Endpoint::new(address, "r1").unwrap_err().to_string();
            assert!(hidden.contains("…@h") && !hidden.contains("ush"), "{hidden}");
            let hidden = Endpoint::emulator(address, "r1").unwrap_err().to_string();
            assert!(hidden.contains("…@h") && !hidden.contains("ush"), "{hidden}");
        }
        let hidden = Endpoint::new("https://h?key=hush#hush", "r1").unwrap_err().to_string();
        assert!(hidden.contains("'https://h?…'"), "{hidden}");
        for address in
            ["", "run.googleapis.com", "ftp://h", "https://user@h", "https://h?x=1", "https://h#x", "https://"]
        {
            assert!(matches!(Endpoint::new(address, "r1"), Err(EndpointError::Url(_))), "{address}");
        }
    }

    #[test]
    fn logs_are_read_where_the_endpoint_implies_it_and_nowhere_else() {
        let url = |endpoint: &str| Endpoint::new(endpoint, "r1").unwrap().log_entries_url("r1").map(String::from);
        let google = Some("https://logging.googleapis.com/v2/entries:list".to_owned());
        assert_eq!(url(GOOGLE), google);
        assert_eq!(url("https://r1-run.googleapis.com/"), google);
        let other_universe = url("https://{region}-run.apis-example.goog");
        assert_eq!(other_universe.as_deref(), Some("https://logging.apis-example.goog/v2/entries:list"));
        let local = Some("http://127.0.0.1:8080/v2/entries:list".to_owned());
        assert_eq!(url("http://127.0.0.1:8080"), local);
        for elsewhere in [
            "https://run.example.com",
            "https://gateway.example.com/{region}-run.googleapis.com",
            "https://{region}-run.com",
            "https://{region}-run.googleapis.com:8443",
            "https://{region}-run.googleapis.com/prefix",
            "https://x{region}-run.googleapis.com",
            "https://r2-run.googleapis.com",
            "https://r1-run.corp.example",
            "https://10.0.0.1",
        ] {
            assert_eq!(url(elsewhere), None, "{elsewhere}");
        }
        let emulator = Endpoint::emulator("127.0.0.1:8080", "r1").unwrap();
        assert_eq!(emulator.log_entries_url("r1").map(String::from), local);
    }

    #[test]
    fn permissions_are_asked_where_the_endpoint_implies_it_and_nowhere_else() {
        let url = |endpoint: &str| {
            let endpoint = Endpoint::new(endpoint, "r1").unwrap();
            endpoint.sibling_url("iam", "r1", &["v1", "a/../b:test"]).map(String::from)
        };
        assert_eq!(url(GOOGLE).as_deref(), Some("https://iam.googleapis.com/v1/a%2F..%2Fb:test"));
        assert_eq!(url("http://127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080/v1/a%2F..%2Fb:test"));
        assert_eq!(url("https://run.example.com"), None);
        assert_eq!(url("https://{region}-run.com"), None);
    }

    #[test]
    fn plain_http_uses_no_proxy() {
        assert!(Endpoint::new(GOOGLE, "r1").unwrap().may_use_proxy());
        assert!(!Endpoint::new("http://127.0.0.1:8080", "r1").unwrap().may_use_proxy());
        assert!(!Endpoint::emulator("127.0.0.1:8080", "r1").unwrap().may_use_proxy());
    }

    #[test]
    fn the_emulator_gets_the_region_and_no_token() {
        let endpoint = Endpoint::emulator("127.0.0.1:8080", "us-east1").unwrap();
        assert_eq!(endpoint.host_header(), Some("us-east1-run.googleapis.com"));
        assert!(!endpoint.needs_token());
        assert!(endpoint.url("p", &["jobs"]).as_str().starts_with("http://127.0.0.1:8080/apis/"));
        assert_eq!(Endpoint::emulator("http://127.0.0.1:8080/", "us-east1"), Ok(endpoint));
        for host in ["", "http://", "a/b", ":80"] {
            assert_eq!(Endpoint::emulator(host, "r1"), Err(EndpointError::EmulatorHost(host.into())), "{host}");
        }
        assert_eq!(Endpoint::emulator("u@h", "r1"), Err(EndpointError::EmulatorHost("…@h".into())));
    }
}
