//! No node's log tells of a panic, or shows a secret: of a key, of the operator, of the cluster.

use super::Tally;
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("logs_are_clean");
    let (mut bytes, mut secrets) = (0, 0);
    for log in &known.logs {
        tally.judge(log.panics.is_empty() && log.secrets == 0, || format!("{log:?}"));
        bytes += log.bytes;
        secrets = secrets.max(log.secrets_looked_for);
    }
    tally.note = format!("{} KiB searched for {secrets} secrets", bytes / 1_024);
    tally
}

#[cfg(test)]
mod tests {
    use super::super::testing::{figures, known};
    use super::*;
    use crate::history::{Event, Log};

    #[test]
    fn a_panic_and_a_secret_are_violations() {
        let log = |panics: Vec<String>, secrets| {
            Event::Log(Log { n: 1, bytes: 9, secrets_looked_for: 1, panics, secrets })
        };
        assert_eq!(figures(&judge(&known(vec![log(vec![], 0)]))), (1, 0));
        assert_eq!(figures(&judge(&known(vec![log(vec!["panicked at".to_owned()], 0)]))), (1, 1));
        assert_eq!(figures(&judge(&known(vec![log(vec![], 1)]))), (1, 1));
    }
}
