//! Which scenarios a whole run must have seen.

use comfy_table::Table;

use crate::scenario::groups;
use crate::terms::Terms;
use fluxgate_record::Knowledge;

/// A run needs one scenario of each group per this many seconds.
const ONE_IN_S: u64 = 300;

/// A row of the table: what, how often it was seen, how often it must be.
pub(crate) struct Seen {
    pub(crate) what: String,
    pub(crate) count: u64,
    pub(crate) least: u64,
}

/// The coverage of a run, and the coverage that a run of this length needs.
pub(crate) fn seen(known: &Knowledge) -> Vec<Seen> {
    let Some(run) = &known.run else { return Vec::new() };
    let terms = Terms::from_name(&run.terms).unwrap_or(Terms::Plain);
    let least = (run.seconds / ONE_IN_S).max(1);
    let of = |names: &[&str]| {
        let faults = known.faults.iter();
        faults.filter(|fault| names.contains(&fault.kind.as_str())).count() as u64
    };
    let mut all: Vec<Seen> = groups(terms)
        .map(|group| {
            let names: Vec<&str> = group.kinds.iter().map(|kind| kind.as_str()).collect();
            Seen { what: group.name.to_owned(), count: of(&names), least }
        })
        .collect();
    // The first map, then one without and one with the node again.
    let maps =
        Seen { what: "share maps".to_owned(), count: known.share_maps, least: 1 + 2 * least };
    let clock = u64::from(known.first_start.is_some());
    let clock = Seen { what: "wrong clocks at the first start".to_owned(), count: clock, least: 1 };
    all.extend([maps, clock]);
    all
}

pub(crate) fn table(known: &Knowledge) -> Table {
    let mut table = Table::new();
    table.set_header(["must be seen", "seen", "at least"]);
    for one in seen(known) {
        table.add_row([one.what, one.count.to_string(), one.least.to_string()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluxgate_record::history::{Event, Fault, Run};

    #[test]
    fn a_group_that_never_came_is_missing_and_long_runs_need_more() {
        let fault = |kind: &str| {
            let (kind, nodes) = (kind.to_owned(), vec![1]);
            let (t0, installed, t1) = (1, 2, 3);
            let (quiet, isolates, alone) = (false, false, true);
            Event::Fault(Fault { kind, nodes, t0, installed, t1, quiet, isolates, alone })
        };
        let missing = |seconds: u64, events: Vec<Event>| {
            let run = Run {
                seed: 1,
                nodes: 3,
                seconds,
                lease_us: 3_000_000,
                default_tokens: 100,
                default_period_s: 60,
                wall_us: 0,
                terms: String::new(),
            };
            let mut all = events;
            all.push(Event::Run(run));
            let all = seen(&Knowledge::new(all));
            all.into_iter().filter(|one| one.count < one.least).count()
        };
        let all = missing(300, Vec::new());
        assert_eq!(missing(300, vec![fault("long_cut")]), all - 1);
        assert_eq!(missing(300, vec![fault("long_cut"), fault("cloned")]), all - 2);
        assert_eq!(missing(600, vec![fault("long_cut")]), all);
        assert_eq!(missing(600, vec![fault("long_cut"), fault("long_kill")]), all - 1);
    }
}
