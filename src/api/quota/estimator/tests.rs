use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// From a call to its response.
const LATENCY: Duration = Duration::from_millis(100);

fn estimator() -> QuotaEstimator {
    QuotaEstimator::new(MINUTE, || 0.5)
}

/// Sends so many calls at `now`, a microsecond apart. Returns when each was sent.
fn send(estimator: &mut QuotaEstimator, count: u32, now: Duration) -> Vec<Duration> {
    let sent: Vec<_> = (0..count).map(|number| now + Duration::from_micros(number.into())).collect();
    for at in &sent {
        assert_eq!(estimator.admission(*at), Admission::Now);
    }
    sent
}

/// When the next call is admitted. It is sent then.
fn next(estimator: &mut QuotaEstimator, mut now: Duration) -> Duration {
    while let Admission::After(pause) = estimator.admission(now) {
        now += pause;
    }
    now
}

/// Refuses every call from `now` on until the quota has shown itself, accepts the probe at `opens`, and returns when it was.
fn learn(estimator: &mut QuotaEstimator, now: Duration, opens: Duration) -> Duration {
    let refused = send(estimator, 4, now);
    for sent in refused {
        estimator.refused(now + LATENCY, sent, None);
    }
    let mut probe = next(estimator, now + LATENCY);
    while probe < opens {
        estimator.refused(probe + LATENCY, probe, None);
        probe = next(estimator, probe + LATENCY);
    }
    estimator.accepted(probe + LATENCY, probe);
    probe
}

#[test]
fn a_refusal_closes_the_line_until_one_probe_is_accepted() {
    let mut estimator = estimator();
    let sent = send(&mut estimator, 2, SECOND);
    estimator.accepted(SECOND, sent[0]);
    estimator.refused(SECOND, sent[1], None);
    assert!(estimator.is_limited());
    let mut pauses = vec![];
    let mut now = SECOND;
    for _ in 0..8 {
        let probe = next(&mut estimator, now);
        pauses.push((probe - now).as_millis());
        // No other call is sent until the probe has its response.
        assert!(matches!(estimator.admission(probe + LATENCY), Admission::After(_)));
        now = probe + LATENCY;
        estimator.refused(now, probe, None);
    }
    // They grow to a eighth of the period.
    assert_eq!(pauses, [500, 1000, 2000, 4000, 7500, 7500, 7500, 7500]);
    let probe = next(&mut estimator, now);
    estimator.accepted(probe + LATENCY, probe);
    assert_eq!(estimator.admission(probe + 2 * MINUTE), Admission::Now);
}

#[test]
fn a_refusal_among_accepted_calls_is_chance() {
    let mut estimator = estimator();
    let sent = send(&mut estimator, 8, SECOND);
    estimator.refused(SECOND + LATENCY, sent[1], None);
    for accepted in [0, 2, 3] {
        estimator.accepted(SECOND + LATENCY, sent[accepted]);
    }
    assert!(matches!(estimator.admission(SECOND + LATENCY), Admission::After(_)));
    estimator.accepted(SECOND + LATENCY, sent[4]);
    assert_eq!(send(&mut estimator, 8, SECOND + LATENCY).len(), 8);
    // A second one, alone, is followed by an accepted probe.
    let sent = send(&mut estimator, 1, 2 * SECOND)[0];
    estimator.refused(2 * SECOND, sent, None);
    let probe = next(&mut estimator, 2 * SECOND);
    estimator.accepted(probe, probe);
    assert!(!estimator.is_limited());
}

#[test]
fn a_quota_that_has_shown_itself_is_used_slowly_at_first() {
    let mut estimator = estimator();
    let opened = learn(&mut estimator, SECOND, SECOND);
    let mut sent = vec![opened + LATENCY];
    for _ in 0..60 {
        let at = next(&mut estimator, sent[sent.len() - 1]);
        estimator.accepted(at, at);
        sent.push(at);
    }
    let first = sent[1] - sent[0];
    assert!(first > 5 * SECOND, "{first:?}");
    // Ever faster.
    assert!(sent.windows(3).all(|at| at[2] - at[1] < at[1] - at[0]));
    // The next refusal begins it anew.
    let refused = next(&mut estimator, sent[60]);
    estimator.refused(refused, refused, None);
    let probe = next(&mut estimator, refused);
    assert_eq!(probe - refused, MINUTE / 12);
    estimator.accepted(probe, probe);
    assert!(next(&mut estimator, probe) - probe > SECOND);
}

#[test]
fn a_quota_that_refuses_nothing_for_two_periods_is_forgotten() {
    let mut estimator = estimator();
    let opened = learn(&mut estimator, SECOND, SECOND);
    assert!(estimator.is_limited());
    let calls = send(&mut estimator, 1, opened + 3 * MINUTE);
    estimator.accepted(opened + 3 * MINUTE, calls[0]);
    assert!(!estimator.is_limited());
}

/// An estimator whose quota accepted 20 calls and then nothing for a minute, and when it opened.
fn alone() -> (QuotaEstimator, Duration) {
    let mut estimator = estimator();
    for sent in send(&mut estimator, 20, SECOND) {
        estimator.accepted(SECOND, sent);
    }
    let opened = learn(&mut estimator, 2 * SECOND, MINUTE);
    assert!(opened < 63 * SECOND, "{opened:?}");
    (estimator, opened)
}

/// Sends calls and has them accepted until the line closes. Returns their number and the time that the line is closed.
fn until_closed(estimator: &mut QuotaEstimator, mut now: Duration) -> (usize, Duration) {
    for count in 0.. {
        match estimator.admission(now) {
            Admission::After(pause) if pause > 5 * SECOND => return (count, pause),
            Admission::After(pause) => {
                now += pause;
                assert_eq!(estimator.admission(now), Admission::Now);
            }
            Admission::Now => {}
            Admission::AfterResponse => panic!("nothing is in flight"),
        }
        estimator.accepted(now, now);
    }
    unreachable!()
}

#[test]
fn a_worker_that_is_alone_closes_its_line_until_the_window_ends() {
    let (mut estimator, opened) = alone();
    // The probe was the first of 20.
    let (sent, closed) = until_closed(&mut estimator, opened);
    assert_eq!(sent, 19);
    assert!(closed > MINUTE / 2, "{closed:?}");
    let opened = next(&mut estimator, opened + 40 * SECOND);
    estimator.accepted(opened, opened);
    // The second window has one call more, which is refused. That tells nothing new.
    let mut now = opened;
    for _ in 0..19 {
        now = next(&mut estimator, now);
        estimator.accepted(now, now);
    }
    now = next(&mut estimator, now);
    estimator.refused(now, now, None);
    let probe = next(&mut estimator, now);
    assert!(probe - opened >= MINUTE, "{:?}", probe - opened);
    estimator.accepted(probe, probe);
    assert_eq!(until_closed(&mut estimator, probe).0, 19);
}

#[test]
fn a_window_that_begins_a_moment_too_early_changes_nothing() {
    let (mut estimator, opened) = alone();
    // The line was not closed, because the window was not used up.
    let mut now = opened + MINUTE + SECOND;
    assert_eq!(estimator.admission(now), Admission::Now);
    for _ in 0..3 {
        estimator.refused(now, now, None);
        now = next(&mut estimator, now);
    }
    estimator.accepted(now, now);
    // The same number, and one call more.
    assert_eq!(until_closed(&mut estimator, now).0, 20);
}

#[test]
fn a_worker_that_gets_less_than_before_is_not_alone() {
    let (mut estimator, opened) = alone();
    let mut now = opened + LATENCY;
    for _ in 0..10 {
        now = next(&mut estimator, now);
        estimator.accepted(now, now);
    }
    now = next(&mut estimator, now);
    // One refusal may be chance: the line opens soon. A second one is none.
    estimator.refused(now, now, None);
    let probe = next(&mut estimator, now);
    assert_eq!(probe - now, MINUTE / 120);
    estimator.refused(probe, probe, None);
    let probe = next(&mut estimator, probe);
    estimator.accepted(probe, probe);
    assert!(matches!(estimator.pace, Pace::Shared(_)));
}

#[test]
fn a_window_that_allows_more_than_before_is_measured_anew() {
    let (mut estimator, opened) = alone();
    until_closed(&mut estimator, opened);
    let opened = next(&mut estimator, opened + 40 * SECOND);
    estimator.accepted(opened, opened);
    assert!(matches!(estimator.pace, Pace::Alone(_)));
    // The second window has one call more, which is accepted.
    let mut now = opened;
    for _ in 0..20 {
        now = next(&mut estimator, now);
        estimator.accepted(now, now);
    }
    assert!(matches!(estimator.pace, Pace::Shared(_)));
}

/// An estimator whose first call was refused at [`LATENCY`], with this `Retry-After`.
fn refused_for(pause: Duration) -> QuotaEstimator {
    let mut estimator = estimator();
    assert_eq!(estimator.admission(Duration::ZERO), Admission::Now);
    estimator.refused(LATENCY, Duration::ZERO, Some(pause.into()));
    estimator
}

#[test]
fn a_pause_that_the_server_asks_for_is_kept() {
    let mut estimator = refused_for(MINUTE / 2);
    assert_eq!(estimator.admission(MINUTE / 4), Admission::After(MINUTE / 4 + LATENCY));
    assert_eq!(estimator.admission(MINUTE / 2 + LATENCY), Admission::Now);
}

#[test]
fn a_long_pause_holds_the_queue_for_two_periods() {
    for asked in [2 * MINUTE, 60 * MINUTE, Duration::MAX] {
        let mut estimator = refused_for(asked);
        let probe = next(&mut estimator, LATENCY);
        assert_eq!(probe, MINUTE + LATENCY);
        // The probe's response never comes.
        assert_eq!(next(&mut estimator, probe), 2 * MINUTE + LATENCY);
    }
}

#[test]
fn one_probe_is_sent_during_a_long_pause() {
    let mut estimator = refused_for(60 * MINUTE);
    let probe = next(&mut estimator, LATENCY);
    assert!(matches!(estimator.admission(probe), Admission::After(_)));
    // One that is not sent makes room for another.
    estimator.withdrawn(probe);
    assert_eq!(estimator.admission(probe), Admission::Now);
    // An accepted one ends the pause.
    estimator.accepted(probe, probe);
    assert_eq!(send(&mut estimator, 5, probe).len(), 5);
}

#[test]
fn a_probe_that_is_refused_begins_the_pause_again() {
    let mut estimator = refused_for(60 * MINUTE);
    let probe = 3 * MINUTE / 2;
    assert_eq!(estimator.admission(probe), Admission::Now);
    estimator.refused(probe + LATENCY, probe, Some((60 * MINUTE).into()));
    assert_eq!(next(&mut estimator, probe + LATENCY), probe + MINUTE + LATENCY);
}

#[test]
fn calls_that_were_sent_before_the_pause_do_not_end_it() {
    let mut estimator = estimator();
    let sent = send(&mut estimator, 9, Duration::ZERO);
    estimator.refused(LATENCY, sent[0], Some((60 * MINUTE).into()));
    for early in &sent[1..] {
        estimator.accepted(LATENCY, *early);
    }
    assert_eq!(next(&mut estimator, LATENCY), MINUTE + LATENCY);
}

proptest! {
    /// Whatever the responses are, a call is admitted again in the end.
    #[test]
    fn no_call_waits_forever(
        responses in proptest::collection::vec((0..3u8, 0u64..90), 1..200),
        asked in any::<u64>(),
    ) {
        let mut estimator = estimator();
        let mut now = Duration::ZERO;
        for (response, later) in responses {
            now += Duration::from_secs(later);
            for _ in 0..2 {
                if let Admission::After(pause) = estimator.admission(now) {
                    prop_assert!(pause <= 2 * MINUTE, "{pause:?}");
                    now += pause;
                } else {
                    let sent = now;
                    now += LATENCY;
                    match response {
                        0 => estimator.accepted(now, sent),
                        1 => estimator.refused(now, sent, Some(Duration::from_secs(asked).into())),
                        _ => estimator.withdrawn(sent),
                    }
                }
            }
        }
        prop_assert_eq!(estimator.in_flight, 0);
    }
}
