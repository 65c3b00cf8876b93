//! Reports that one peer may have missed, because it restarted or a gossip message was not
//! delivered: it is sent the reports of all counters again.

use fluxgate_types::BootId;

use super::Cursor;

/// How far one peer was sent the reports that it missed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeats {
    boot: Option<BootId>,
    is_ready: bool,
    missed: bool,
    // The next shard, and the position in it.
    at: Option<(usize, Cursor)>,
}

impl Repeats {
    /// Starts over if the peer's process restarted.
    pub fn note_incarnation(&mut self, boot: Option<BootId>) {
        if self.boot != boot {
            self.boot = boot;
            self.begin();
        }
    }

    /// Records the outcome of the last message, and whether the peer would answer requests. The
    /// reports in a message that was not delivered may be lost, and a peer that was not ready may
    /// not have known the subjects.
    pub fn note_outcome(&mut self, delivered: bool, is_ready: bool) {
        let again = delivered && (self.missed || (is_ready && !self.is_ready));
        (self.missed, self.is_ready) = (!delivered, is_ready);
        if again || self.missed {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.at = Some((0, Cursor::default()));
    }

    /// The shard from which the next reports come, and where in it; `None` if the peer has all, or
    /// cannot be reached.
    #[must_use]
    pub fn next(&self) -> Option<(usize, Cursor)> {
        self.at.filter(|_| !self.missed && self.boot.is_some())
    }

    /// Reports of a shard were taken up to the cursor; `more` if others of it are left.
    pub fn advance(&mut self, shard: usize, cursor: Cursor, more: bool, shards: usize) {
        self.at = match shard + 1 {
            _ if more => Some((shard, cursor)),
            next if next < shards => Some((next, Cursor::default())),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_sent_everything_again_once_it_is_back() {
        let mut repeats = Repeats::default();
        repeats.note_incarnation(None);
        assert_eq!(repeats.next(), None);
        for (name, boot, outcome) in [
            ("its process has started", BootId(1), (true, false)),
            ("it knows the subjects by now", BootId(1), (true, true)),
            ("its process has started again", BootId(2), (true, true)),
        ] {
            repeats.note_incarnation(Some(boot));
            repeats.note_outcome(outcome.0, outcome.1);
            assert_eq!(repeats.next(), Some((0, Cursor::default())), "{name}");
            repeats.advance(0, Cursor::default(), false, 1);
        }
        repeats.note_outcome(true, true);
        assert_eq!(repeats.next(), None, "it missed nothing");
        repeats.note_outcome(false, true);
        assert_eq!(repeats.next(), None, "it cannot be reached");
        repeats.note_outcome(true, true);
        assert!(repeats.next().is_some(), "it missed a message");
    }

    #[test]
    fn shards_are_repeated_one_after_the_other() {
        let mut repeats = Repeats::default();
        repeats.note_incarnation(Some(BootId(1)));
        repeats.advance(0, Cursor::default(), true, 2);
        assert_eq!(repeats.next().map(|(shard, _)| shard), Some(0));
        repeats.advance(0, Cursor::default(), false, 2);
        assert_eq!(repeats.next().map(|(shard, _)| shard), Some(1));
        repeats.advance(1, Cursor::default(), false, 2);
        assert_eq!(repeats.next(), None);
    }
}
