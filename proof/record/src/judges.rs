//! The promises, one file each, judged by a history alone.
//!
//! Names are those of `docs/protocol.md` where it has the promise.

mod acked_is_durable;
mod answers_to_the_letter;
mod cluster_heals;
mod created_means_usable;
mod healthy_is_exact;
mod isolated_falls_silent;
mod limits_are_as_set;
mod logs_are_clean;
mod mistakes_change_nothing;
mod never_over_admits;
mod nodes_live_on;
mod remaining_is_honest;
mod replicas_agree;
mod restored_are_refused;
mod revoked_means_revoked;
mod scopes_are_obeyed;
mod served_in_calm;
mod survivors_serve;
mod time_is_right;
mod windows_go_on;
mod writes_go_on;
mod wrong_clocks_show;

pub use cluster_heals::HEAL_MAX;

use crate::knowledge::Knowledge;

/// Violations that are kept as text.
const EXAMPLES_MAX: usize = 12;

/// The result of a check.
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub name: &'static str,
    pub judged: u64,
    pub violated: u64,
    pub examples: Vec<String>,
    /// Something worth showing beside the counts.
    pub note: String,
    /// This run makes no such promise; the note says why.
    pub not_promised: bool,
}

impl CheckResult {
    fn new(name: &'static str) -> Self {
        let (judged, violated) = (0, 0);
        let (examples, note, not_promised) = (Vec::new(), String::new(), false);
        Self { name, judged, violated, examples, note, not_promised }
    }

    fn judge(&mut self, sound: bool, say: impl FnOnce() -> String) {
        self.judged += 1;
        if sound {
            return;
        }
        self.violated += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(say());
        }
    }
}

type Check = fn(&Knowledge) -> CheckResult;

const ALL: &[Check] = &[
    never_over_admits::judge,
    remaining_is_honest::judge,
    limits_are_as_set::judge,
    windows_go_on::judge,
    created_means_usable::judge,
    revoked_means_revoked::judge,
    scopes_are_obeyed::judge,
    acked_is_durable::judge,
    replicas_agree::judge,
    cluster_heals::judge,
    healthy_is_exact::judge,
    served_in_calm::judge,
    survivors_serve::judge,
    isolated_falls_silent::judge,
    answers_to_the_letter::judge,
    nodes_live_on::judge,
    logs_are_clean::judge,
    restored_are_refused::judge,
    mistakes_change_nothing::judge,
    writes_go_on::judge,
    wrong_clocks_show::judge,
    time_is_right::judge,
];

pub fn judge(known: &Knowledge) -> Vec<CheckResult> {
    ALL.iter().map(|check| check(known)).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Small histories, written by hand. Times are in milliseconds.

    use crate::history::{Change, Event, Heal, Run, Us, Validate, VerdictHeaders, Write};
    use crate::knowledge::Knowledge;

    pub(crate) const MS: Us = 1_000;
    /// The key of these histories: 10 tokens in 2 s, scope `write`.
    pub(crate) const KEY: u64 = 1;

    pub(crate) fn run() -> Event {
        Event::Run(Run {
            seed: 1,
            nodes: 3,
            seconds: 60,
            lease_us: 3_000 * MS,
            default_tokens: 100,
            default_period_s: 60,
            wall_us: 0,
            terms: String::new(),
        })
    }

    pub(crate) fn write(k: u64, change: Change, ms: (u64, u64), s: u16) -> Write {
        let created = matches!(change, Change::Create { .. }) && s == 201;
        Write {
            n: 1,
            k,
            change,
            t0: ms.0 * MS,
            t1: ms.1 * MS,
            s,
            err: None,
            id: created.then(|| format!("key_{k}")),
            code: (s == 503).then(|| "no_leader".to_owned()),
        }
    }

    pub(crate) fn create(k: u64, ms: (u64, u64), s: u16) -> Event {
        let change = Change::Create {
            name: format!("key {k}"),
            owner: "owner".to_owned(),
            scope: "write".to_owned(),
            tokens: Some(10),
            period_s: 2,
        };
        Event::Write(Box::new(write(k, change, ms, s)))
    }

    pub(crate) fn change(change: Change, ms: (u64, u64), s: u16) -> Event {
        Event::Write(Box::new(write(KEY, change, ms, s)))
    }

    /// An answer of node 1 about the key: status, remaining, reset.
    pub(crate) fn answer(ms: (u64, u64), s: u16, remaining: u64, reset: u64) -> Validate {
        let h = VerdictHeaders {
            limit: Some(10),
            remaining: Some(remaining),
            reset: Some(reset),
            ..VerdictHeaders::default()
        };
        let (t0, t1) = (ms.0 * MS, ms.1 * MS);
        Validate { n: 1, k: KEY, cost: 1, t0, t1, s, h, ..Validate::default() }
    }

    pub(crate) fn validate(validate: Validate) -> Event {
        Event::Validate(Box::new(validate))
    }

    /// Calm from `ms + 1 s` on.
    pub(crate) fn well(ms: u64) -> Event {
        Event::Heal(Heal { t0: ms * MS, t1: ms * MS, well: true, why: String::new() })
    }

    pub(crate) fn known(events: Vec<Event>) -> Knowledge {
        let mut all = vec![run(), create(KEY, (0, 5), 201)];
        all.extend(events);
        Knowledge::new(all)
    }

    /// How many cases were judged, and how many violations found.
    pub(crate) fn counts(result: &super::CheckResult) -> (u64, u64) {
        (result.judged, result.violated)
    }
}
