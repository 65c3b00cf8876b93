//! No node's log contains a panic or a secret: of a key, of the operator, of the cluster.

use super::CheckResult;
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("logs_are_clean");
    let (mut bytes, mut secrets) = (0, 0);
    for log in &known.logs {
        result.judge(log.panics.is_empty() && log.secrets == 0, || format!("{log:?}"));
        bytes += log.bytes;
        secrets = secrets.max(log.secrets_looked_for);
    }
    result.note = format!("{} KiB searched for {secrets} secrets", bytes / 1_024);
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{counts, known};
    use super::*;
    use crate::history::{Event, Log};

    #[test]
    fn a_panic_or_a_secret_is_a_violation() {
        let log = |panics: Vec<String>, secrets| {
            Event::Log(Log { n: 1, bytes: 9, secrets_looked_for: 1, panics, secrets })
        };
        assert_eq!(counts(&judge(&known(vec![log(vec![], 0)]))), (1, 0));
        assert_eq!(counts(&judge(&known(vec![log(vec!["panicked at".to_owned()], 0)]))), (1, 1));
        assert_eq!(counts(&judge(&known(vec![log(vec![], 1)]))), (1, 1));
    }
}
