//! What limits, retries and breaks, compiled.

use super::condition::Condition;
use super::source::{Address, Criterion};
use crate::declare::{self, GoDuration};
use http::StatusCode;
use std::time::Duration;

/// `rateLimit`.
#[derive(Debug, Clone)]
pub struct ReadyRate {
    /// Who is limited.
    pub criterion: Criterion,
    /// Requests a second; `None`: no limit.
    pub rate: Option<f64>,
    /// Requests that may come at once.
    pub burst: f64,
    /// The longest time that a request waits for its turn.
    pub patience: Duration,
    /// How long a source that was not seen is remembered.
    pub memory: Duration,
}

impl ReadyRate {
    /// Of what was declared.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(declared: &declare::RateLimit) -> Result<Self, String> {
        if declared.redis.is_some() {
            return Err("`redis` is not served: buckets are in memory only".to_owned());
        }
        let period = length("period", declared.period, Duration::from_secs(1))?;
        let rate = (declared.average > 0).then(|| declared.average as f64 / period.as_secs_f64());
        let (patience, memory) = match rate {
            None => (Duration::ZERO, Duration::from_secs(2)),
            Some(rate) if rate < 1.0 => (Duration::from_millis(500), Duration::from_secs(1 + (1.0 / rate) as u64)),
            Some(rate) => (Duration::from_secs(1) / ((rate as u32).saturating_mul(2)), Duration::from_secs(2)),
        };
        let criterion = Criterion::new(declared.source_criterion.as_ref(), Criterion::Address(Address::Peer(None)))?;
        Ok(Self { criterion, rate, burst: declared.burst.max(1) as f64, patience, memory })
    }
}

/// `inFlightReq`.
#[derive(Debug, Clone)]
pub struct ReadyInFlight {
    /// Who is limited.
    pub criterion: Criterion,
    /// Requests at a time.
    pub amount: i64,
}

impl ReadyInFlight {
    /// Of what was declared.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(declared: &declare::InFlightReq) -> Result<Self, String> {
        let criterion = Criterion::new(declared.source_criterion.as_ref(), Criterion::Host)?;
        Ok(Self { criterion, amount: declared.amount })
    }
}

/// `circuitBreaker`.
#[derive(Debug, Clone)]
pub struct ReadyBreaker {
    /// When it opens.
    pub condition: Condition,
    /// How often that is looked at.
    pub check: Duration,
    /// How long it stays open.
    pub open: Duration,
    /// How long it takes to close.
    pub recovery: Duration,
    /// Status while it is open.
    pub status: StatusCode,
}

impl ReadyBreaker {
    /// Of what was declared.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(declared: &declare::CircuitBreaker) -> Result<Self, String> {
        let ten = Duration::from_secs(10);
        let said = declared.response_code;
        let status = u16::try_from(said).ok().filter(|status| (200..600).contains(status));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        Ok(Self {
            condition: Condition::parse(&declared.expression).map_err(|why| format!("`expression`: {why}"))?,
            check: length("checkPeriod", declared.check_period, Duration::from_millis(100))?,
            open: length("fallbackDuration", declared.fallback_duration, ten)?,
            recovery: length("recoveryDuration", declared.recovery_duration, ten)?,
            status: match status {
                Some(status) => status,
                None if said == 0 => StatusCode::SERVICE_UNAVAILABLE,
                None => return Err(format!("`responseCode`: `{said}` is not a status of an answer")),
            },
        })
    }
}

/// `retry`.
#[derive(Debug, Clone)]
pub struct ReadyRetry {
    /// Tries, the first one included.
    pub attempts: u32,
    /// How long a request is tried again.
    pub timeout: Option<Duration>,
    /// The first pause; none if it is zero.
    pub pause: Duration,
    /// By how much each pause is longer than the last one.
    pub growth: f64,
    /// Largest body of a request that is tried again because of a status, in bytes.
    pub body: u64,
    /// Statuses, first and last of each range.
    pub statuses: Vec<(u16, u16)>,
    /// After no server could be reached.
    pub unreached: bool,
    /// After a status whatever the method.
    pub any_method: bool,
    /// What each request adds to its service's budget, in thousandths of a try.
    pub share: u32,
    /// What each second adds to it, in thousandths of a try.
    pub each_second: u32,
}

impl ReadyRetry {
    /// Of what was declared.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(declared: &declare::Retry) -> Result<Self, String> {
        let attempts = u32::try_from(declared.attempts).ok().filter(|attempts| *attempts > 0);
        let attempts =
            attempts.ok_or_else(|| format!("`attempts`: expected 1 or more, got `{}`", declared.attempts))?;
        if declared.status.is_empty() && declared.disable_retry_on_network_error {
            return Err("it names neither a `status`, nor is it to try again after network errors".to_owned());
        }
        let statuses = declared.status.iter().map(|text| range(text)).collect::<Result<_, _>>()?;
        let thousandths = |name: &str, said: Option<i64>, default: i64, by: u32| {
            let number = said.unwrap_or(default);
            let fits = u32::try_from(number).ok().filter(|number| *number <= 1_000);
            fits.map(|number| number * by).ok_or_else(|| format!("`{name}`: expected 0 to 1000, got `{number}`"))
        };
        let timeout = length("timeout", declared.timeout, Duration::ZERO)?;
        Ok(Self {
            attempts,
            timeout: (!timeout.is_zero()).then_some(timeout),
            pause: length("initialInterval", declared.initial_interval, Duration::ZERO)?,
            growth: 2f64.powf(1.0 / f64::from(attempts.saturating_sub(1).max(1))),
            body: u64::try_from(declared.max_request_body_bytes.unwrap_or(2 << 20)).unwrap_or(u64::MAX),
            statuses,
            unreached: !declared.disable_retry_on_network_error,
            any_method: declared.retry_non_idempotent_method,
            share: thousandths("rustLbBudgetPercent", declared.rust_lb_budget_percent, 20, 10)?,
            each_second: thousandths("rustLbBudgetPerSecond", declared.rust_lb_budget_per_second, 3, 1_000)?,
        })
    }
}

/// `503` or `500-599`.
fn range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..1_000).contains(status));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!("`status`: expected a status such as `503` or `500-599`, got `{text}`")),
    }
}

/// A length of time; 0 means the default.
fn length(option: &str, said: GoDuration, default: Duration) -> Result<Duration, String> {
    match said.length() {
        Some(Duration::ZERO) => Ok(default),
        Some(length) => Ok(length),
        None => Err(format!("`{option}`: `{said}` is below zero")),
    }
}
