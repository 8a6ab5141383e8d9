//! A cheap question every 2 s over a connection that is open anyway: is the agent there, and do the connections to it still lead there?
//!
//! A blocked query on a connection that was lost without a word (a network that was cut, a firewall that forgot, a machine that
//! was switched off) hears nothing until its deadline, more than a minute later. The pulse hears so within seconds: where its
//! question stays unanswered and the same question over a fresh connection is answered, what was open is lost. An agent that is only
//! slow or paused answers the old question first, and nothing is read anew because of it.
//!
//! What always holds: any answer counts, whatever its status; at most two questions are open at a time; a loss is told once, with the
//! time since when, so that a watcher that has noticed by itself does nothing.

use super::http::{Agent, Error, Lane};
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Answered without rights by both products, from memory.
const PATH: &str = "/v1/status/leader";
/// How long the old question may take beyond the fresh one, before its connection counts as lost.
const GRACE: Duration = Duration::from_secs(1);
/// The old question is given up after this time.
const LONG: Duration = Duration::from_secs(120);

/// What it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// An answer came.
    Answered,
    /// None came, over the old connection or over fresh ones.
    Silent,
    /// Fresh connections work, and what was open at this time does not.
    Lost(Instant),
}

/// A running pulse.
#[derive(Debug)]
pub struct Pulse {
    beats: mpsc::Receiver<Beat>,
    _task: AbortOnDropHandle<()>,
}

impl Pulse {
    /// Starts to ask over this lane, `every` so often.
    pub fn start(agent: Agent, lane: Lane, every: Duration) -> Self {
        let (sender, beats) = mpsc::channel(4);
        let turns = lane.clone();
        let turn = move || {
            let lane = turns.clone();
            async move { lane.turn().await }
        };
        let ask = move |fresh: bool, limit: Duration| {
            let (agent, lane) = (agent.clone(), lane.clone());
            async move {
                let lane = if fresh { agent.lane()? } else { lane };
                lane.get(PATH, limit).await.map(drop)
            }
        };
        Self { beats, _task: AbortOnDropHandle::new(tokio::spawn(run(turn, ask, every, sender))) }
    }

    /// The next beat.
    pub async fn beat(&mut self) -> Beat {
        match self.beats.recv().await {
            Some(beat) => beat,
            // Only when its task is gone, which ends with this value.
            None => std::future::pending().await,
        }
    }
}

/// Whether something came back, be it a refusal.
fn answered(answer: &Result<(), Error>) -> bool {
    !matches!(answer, Err(Error::Connect(_) | Error::Cut(_) | Error::Deadline(_) | Error::Tls(_) | Error::File { .. }))
}

async fn run<T, W: Future<Output = T>, F: Future<Output = Result<(), Error>>>(
    turn: impl Fn() -> W,
    ask: impl Fn(bool, Duration) -> F,
    every: Duration,
    beats: mpsc::Sender<Beat>,
) {
    loop {
        // Many proxies of one agent do not ask together.
        let pause = every.mul_f64(rand::random_range(0.9..=1.1));
        sleep(pause).await;
        let _turn = turn().await;
        let asked = Instant::now();
        let mut old = std::pin::pin!(ask(false, LONG));
        let mut outcome = timeout(every / 2, old.as_mut()).await.ok();
        let mut unanswered = 0;
        while !outcome.as_ref().is_some_and(answered) {
            // The fresh one has its own time, so that the first packet after a cut is soon sent.
            let begin = Instant::now();
            let fresh = ask(true, every * 3 / 4);
            let waits = outcome.is_none();
            let alive = tokio::select! {
                biased;
                answer = old.as_mut(), if waits => {
                    outcome = Some(answer);
                    continue;
                }
                fresh = fresh => answered(&fresh),
            };
            unanswered += 1;
            let beat = if alive {
                if waits && let Ok(answer) = timeout(begin.elapsed() + GRACE, old.as_mut()).await {
                    outcome = Some(answer);
                    continue;
                }
                Beat::Lost(asked)
            } else {
                Beat::Silent
            };
            // One alone may be an agent that is slow.
            if (beat != Beat::Silent || unanswered > 1) && beats.send(beat).await.is_err() {
                return;
            }
            if alive {
                break;
            }
            // A refused connection is refused at once.
            sleep((every * 3 / 4).saturating_sub(begin.elapsed())).await;
        }
        if beats.send(Beat::Answered).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    const EVERY: Duration = Duration::from_secs(2);

    /// What becomes of the old and of the fresh question: after how long, and whether with an answer.
    type Script = Arc<Mutex<[(Duration, bool); 2]>>;

    fn pulse(script: &Script) -> Pulse {
        let (sender, beats) = mpsc::channel(4);
        let script = script.clone();
        let ask = move |fresh: bool, limit: Duration| {
            let script = script.clone();
            async move {
                let (after, answers) = script.lock().unwrap()[usize::from(fresh)];
                timeout(limit, sleep(after)).await.map_err(|_| Error::Deadline(limit))?;
                if answers { Ok(()) } else { Err(Error::Cut("reset".into())) }
            }
        };
        Pulse { beats, _task: AbortOnDropHandle::new(tokio::spawn(run(|| std::future::ready(()), ask, EVERY, sender))) }
    }

    fn script(old: (u64, bool), fresh: (u64, bool)) -> Script {
        let of = |(ms, answers)| (Duration::from_millis(ms), answers);
        Arc::new(Mutex::new([of(old), of(fresh)]))
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_answers_is_there_however_slowly() {
        for (old, fresh) in [((1, true), (1, true)), ((3000, true), (3000, true)), ((1900, true), (1, true))] {
            let mut pulse = pulse(&script(old, fresh));
            for _ in 0..5 {
                assert_eq!(pulse.beat().await, Beat::Answered, "{old:?} {fresh:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_were_lost_are_told_of_once() {
        const NEVER: u64 = 1 << 40;
        for old in [(NEVER, true), (1, false)] {
            let begin = Instant::now();
            let script = script(old, (5, true));
            let mut pulse = pulse(&script);
            let Beat::Lost(since) = pulse.beat().await else { panic!("{old:?}: not lost") };
            assert!(begin.elapsed() < Duration::from_millis(4300), "{:?}", begin.elapsed());
            assert!(since >= begin && since < Instant::now());
            script.lock().unwrap()[0] = (Duration::from_millis(1), true);
            for _ in 0..3 {
                assert_eq!(pulse.beat().await, Beat::Answered);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_silent_is_said_so_and_its_answer_to_the_old_question_ends_it() {
        let script = script((9000, true), (1 << 40, true));
        let mut pulse = pulse(&script);
        for _ in 0..3 {
            assert_eq!(pulse.beat().await, Beat::Silent);
        }
        let mut beat = pulse.beat().await;
        while beat == Beat::Silent {
            beat = pulse.beat().await;
        }
        assert_eq!(beat, Beat::Answered);
    }
}
