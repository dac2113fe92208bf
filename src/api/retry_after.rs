//! The pause that a response asks for (`Retry-After`), and how much of it counts.
//!
//! One response must not hold up everything for an hour. Each use of the pause therefore has a bound: an unbounded one can't
//! be read from a [`RetryAfter`].

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Upper bound of a pause between two attempts, or between two reads of a job or execution.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Upper bound for the queue of a quota, in the quota's periods.
const MAX_PERIODS: u32 = 2;
/// The two obsolete forms of a date that recipients must accept (RFC 9110, 5.6.7).
const OBSOLETE_DATES: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// How long a server asks its caller to wait. It may be any duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RetryAfter(Duration);

impl From<Duration> for RetryAfter {
    fn from(pause: Duration) -> Self {
        Self(pause)
    }
}

impl RetryAfter {
    /// The wish of a response. `None` when it has none, or none that can be read.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        Self::read(headers, Utc::now())
    }

    /// The same, at the time `now` of the local clock.
    ///
    /// The header holds seconds or a date (RFC 9110, 10.2.3). A date counts from the response's own `Date`, because the local
    /// clock may be wrong.
    fn read(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Self> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // A number that is too large is a long time all the same.
            return Some(Self(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
        }
        let sent = headers.get(DATE).and_then(|sent| date(sent.to_str().ok()?)).unwrap_or(now);
        Some(Self((date(text)? - sent).to_std().unwrap_or_default()))
    }

    /// What counts of it for a pause: 60 seconds at most.
    pub(super) fn for_pause(self) -> Duration {
        self.0.min(MAX_PAUSE)
    }

    /// What counts of it for the queue of a quota that counts calls per `period`: two periods at most.
    pub(super) fn for_queue(self, period: Duration) -> Duration {
        self.0.min(period.saturating_mul(MAX_PERIODS))
    }
}

/// A date of HTTP.
fn date(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let obsolete = || OBSOLETE_DATES.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    match DateTime::parse_from_rfc2822(text) {
        Ok(date) => Some(date.to_utc()),
        Err(_) => obsolete().map(|date| date.and_utc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    const MINUTE: Duration = Duration::from_secs(60);
    /// A moment in the forms that HTTP allows.
    const MOMENT: [&str; 3] =
        ["Wed, 21 Oct 2015 07:28:00 GMT", "Wednesday, 21-Oct-15 07:28:00 GMT", "Wed Oct 21 07:28:00 2015"];

    /// The wish in seconds, where the local clock is 40 s before [`MOMENT`].
    fn seconds(retry_after: &str, sent: Option<&str>) -> Option<u64> {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        let mut headers = HeaderMap::from_iter([(RETRY_AFTER, header(retry_after))]);
        if let Some(sent) = sent {
            headers.insert(DATE, header(sent));
        }
        let now = date(MOMENT[0]).unwrap() - Duration::from_secs(40);
        RetryAfter::read(&headers, now).map(|wish| wish.0.as_secs())
    }

    #[test]
    fn seconds_are_read_however_many_there_are() {
        assert_eq!((seconds(" 7 ", None), seconds("0", None)), (Some(7), Some(0)));
        assert_eq!(seconds("3600", Some(MOMENT[0])), Some(3600));
        for many in ["18446744073709551615", "99999999999999999999999"] {
            assert_eq!(seconds(many, None), Some(u64::MAX));
        }
        for unreadable in ["soon", "-1", "", "1.5", "Wed, 99 Oct 2015 07:28:00 GMT"] {
            assert_eq!(seconds(unreadable, None), None, "{unreadable}");
        }
    }

    #[test]
    fn a_date_counts_from_the_date_of_its_response() {
        for moment in MOMENT {
            assert_eq!(seconds(moment, Some("Wed, 21 Oct 2015 07:27:43 GMT")), Some(17), "{moment}");
            // Without a date that can be read, the local clock must do.
            assert_eq!((seconds(moment, None), seconds(moment, Some("today"))), (Some(40), Some(40)));
            // It has passed already.
            assert_eq!(seconds(moment, Some("Wed, 21 Oct 2015 07:28:01 GMT")), Some(0));
        }
        assert_eq!(seconds(MOMENT[0], Some(MOMENT[1])), Some(0));
    }

    #[test]
    fn every_use_has_its_bound() {
        let wish = |seconds| RetryAfter(Duration::from_secs(seconds));
        assert_eq!((wish(59).for_pause(), wish(3600).for_pause()), (Duration::from_secs(59), MINUTE));
        assert_eq!((wish(90).for_queue(MINUTE), wish(3600).for_queue(MINUTE)), (Duration::from_secs(90), 2 * MINUTE));
        assert_eq!(wish(3600).for_queue(Duration::from_secs(1)), Duration::from_secs(2));
        assert_eq!(wish(u64::MAX).for_queue(Duration::MAX), Duration::from_secs(u64::MAX));
    }
}
