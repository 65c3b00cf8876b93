//! The newest windows of a limit that are over, with the tokens that this node spent in them.

use std::collections::VecDeque;

use fluxgate_types::caps;

/// What this node spent in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpent {
    /// The window's number.
    pub window: u64,
    /// Tokens.
    pub spent: u64,
}

/// The newest windows that are over, in a compact form: within the bounds of limits, a window
/// number and its tokens fit into 32 bits each.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    windows: VecDeque<(u32, u32)>,
}

impl Past {
    pub(super) fn push(&mut self, spent: WindowSpent) {
        let (Ok(window), Ok(spent)) = (u32::try_from(spent.window), u32::try_from(spent.spent))
        else {
            return;
        };
        if self.windows.len() == caps::USAGE_WINDOWS {
            self.windows.pop_front();
        }
        if self.windows.len() == self.windows.capacity() {
            // Grow by a quarter: doubling would leave half of it empty on every key.
            self.windows.reserve_exact(caps::USAGE_WINDOWS / 4);
        }
        self.windows.push_back((window, spent));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = WindowSpent> + '_ {
        let spent = |(window, spent): &(u32, u32)| WindowSpent {
            window: u64::from(*window),
            spent: u64::from(*spent),
        };
        self.windows.iter().map(spent)
    }
}
