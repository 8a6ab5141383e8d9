use super::*;
use crate::acme::client::Timing;
use tokio::time::Instant;

#[test]
fn names_are_as_an_authority_wants_them() {
    let of = |given: &[&str]| names(&given.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let good = of(&["A.Test.", "*.a.test", "a.test", "_x.test", "192.0.2.1", "2001:db8::1"]).expect("names");
    assert_eq!(good, ["a.test", "*.a.test", "_x.test", "192.0.2.1", "2001:db8::1"]);
    for bad in ["", "*", "a.*.test", "**.test", "a..test", ".test", "a b.test", "ü.test", "a/b", "*.*.test"] {
        assert!(matches!(of(&[bad]), Err(AcmeError::Config(_))), "{bad:?}");
    }
    assert!(of(&[&"a".repeat(64)]).is_err());
    assert!(of(&[&"a.".repeat(127)]).is_ok() && of(&[&format!("{}test", "a.".repeat(126))]).is_err());
    assert!(of(&[]).is_err());
    let many: Vec<String> = (0..=NAMES).map(|i| format!("{i}.test")).collect();
    assert!(names(&many).is_err() && names(&many[1..]).is_ok());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_obey_the_authority_and_end() {
    let timing = Timing::default();
    let mut pace = Pace::new(&timing, Duration::from_secs(60));
    let start = Instant::now();
    pace.wait(None, Phase::Issue).await.expect("waited");
    assert_eq!(start.elapsed(), timing.first_pause);
    pace.wait(Some(Duration::from_secs(7)), Phase::Issue).await.expect("waited");
    assert_eq!(start.elapsed(), timing.first_pause + Duration::from_secs(7));
    pace.wait(Some(Duration::from_secs(3_600)), Phase::Issue).await.expect("waited");
    assert_eq!(start.elapsed(), timing.first_pause + Duration::from_secs(7) + timing.longest_pause);
    let error = pace.wait(Some(Duration::from_secs(3_600)), Phase::Issue).await.expect_err("over");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)));
    assert!(start.elapsed() < Duration::from_secs(60), "it does not wait for what it knows to be too late");
    let mut looks = 0;
    let mut pace = Pace::new(&timing, Duration::from_secs(600));
    while pace.wait(None, Phase::Issue).await.is_ok() {
        looks += 1;
    }
    assert!((20..60).contains(&looks), "{looks}");
}
