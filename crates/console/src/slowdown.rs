//! Failed tries to sign in cost time.
//!
//! Answers for: an address that fails again and again waits longer and longer, all addresses
//! together fail only so often a minute, and no address can lock out another that has signed in
//! before. A try counts as failed until it has succeeded, so that many at once gain nothing. Bounded
//! in memory; time is an argument, seconds that only rise.

use std::collections::HashMap;
use std::net::IpAddr;

use fluxgate_types::caps;

/// Bits of an IPv6 address that one subscriber has to choose from.
const SUBSCRIBER_BITS: u32 = 64;
const MINUTE_S: u64 = 60;

#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    failed: u32,
    last_s: u64,
    // Signed in from here, and when.
    good_s: Option<u64>,
}

impl Tries {
    /// When the next try is listened to.
    fn next_s(&self) -> u64 {
        let Some(over) = self.failed.checked_sub(caps::SIGN_IN_FREE_TRIES) else {
            return 0;
        };
        let wait_s = 1u64.checked_shl(over).unwrap_or(u64::MAX).min(caps::SIGN_IN_WAIT_S_MAX);
        self.last_s + wait_s
    }

    fn is_forgotten(&self, now_s: u64) -> bool {
        let last = self.last_s.max(self.good_s.unwrap_or(0));
        now_s.saturating_sub(last) >= caps::SIGN_IN_MEMORY_S
    }
}

/// Who tried how often.
#[derive(Debug, Default)]
pub struct Slowdown {
    tries: HashMap<u128, Tries>,
    minute: u64,
    failed_in_minute: u32,
}

impl Slowdown {
    /// Begins a try, which counts as failed until [`Self::end`] says otherwise.
    ///
    /// # Errors
    /// The seconds after which this address is listened to again.
    pub fn begin(&mut self, from: IpAddr, now_s: u64) -> Result<(), u64> {
        if self.minute != now_s / MINUTE_S {
            (self.minute, self.failed_in_minute) = (now_s / MINUTE_S, 0);
        }
        let from = place(from);
        let known = self.tries.get(&from).copied().filter(|tries| !tries.is_forgotten(now_s));
        let mut tries = known.unwrap_or_default();
        if now_s < tries.next_s() {
            return Err(tries.next_s() - now_s);
        }
        if self.failed_in_minute >= caps::SIGN_IN_FAILURES_PER_MINUTE_MAX && tries.good_s.is_none()
        {
            return Err(MINUTE_S - now_s % MINUTE_S);
        }
        self.failed_in_minute += 1;
        tries.failed = tries.failed.saturating_add(1);
        tries.last_s = now_s;
        self.keep(from, tries, now_s);
        Ok(())
    }

    /// Ends a try that did not fail: `signed_in`, or for a cause that says nothing of the caller.
    pub fn end(&mut self, from: IpAddr, now_s: u64, signed_in: bool) {
        self.failed_in_minute = self.failed_in_minute.saturating_sub(1);
        if let Some(tries) = self.tries.get_mut(&place(from)) {
            if signed_in {
                *tries = Tries { failed: 0, last_s: now_s, good_s: Some(now_s) };
            } else {
                tries.failed = tries.failed.saturating_sub(1);
            }
        }
    }

    fn keep(&mut self, from: u128, tries: Tries, now_s: u64) {
        if self.tries.len() >= caps::SIGN_IN_ADDRESSES_MAX && !self.tries.contains_key(&from) {
            self.tries.retain(|_, tries| !tries.is_forgotten(now_s));
        }
        if self.tries.len() >= caps::SIGN_IN_ADDRESSES_MAX && !self.tries.contains_key(&from) {
            let oldest = self.tries.iter().min_by_key(|(_, tries)| tries.last_s);
            if let Some(oldest) = oldest.map(|(from, _)| *from) {
                self.tries.remove(&oldest);
            }
        }
        self.tries.insert(from, tries);
    }
}

/// One subscriber: an IPv4 address, or the network part of an IPv6 address.
fn place(from: IpAddr) -> u128 {
    match from.to_canonical() {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits() >> SUBSCRIBER_BITS << SUBSCRIBER_BITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn free() -> u32 {
        caps::SIGN_IN_FREE_TRIES
    }

    #[test]
    fn an_address_that_fails_waits_longer_and_longer() {
        let mut slow = Slowdown::default();
        let mut now = 600;
        for _ in 0..free() {
            assert_eq!(slow.begin(address(1), now), Ok(()));
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(slow.begin(address(1), now), Err(wait));
            assert_eq!(slow.begin(address(2), now), Ok(()), "another is not held up");
            slow.end(address(2), now, true);
            now += wait;
            assert_eq!(slow.begin(address(1), now), Ok(()));
        }
        slow.end(address(1), now, true);
        assert_eq!(slow.begin(address(1), now), Ok(()), "signing in ends it");
    }

    #[test]
    fn all_together_fail_only_so_often_and_those_known_are_let_in() {
        let mut slow = Slowdown::default();
        assert_eq!(slow.begin(address(7), 60), Ok(()));
        slow.end(address(7), 60, true);
        for number in 0..caps::SIGN_IN_FAILURES_PER_MINUTE_MAX {
            assert_eq!(slow.begin(address(100 + number), 61), Ok(()));
        }
        assert_eq!(slow.begin(address(8), 70), Err(50));
        assert_eq!(slow.begin(address(7), 70), Ok(()));
        assert_eq!(slow.begin(address(8), 120), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_fades() {
        let mut slow = Slowdown::default();
        for number in 0..2 * u32::try_from(caps::SIGN_IN_ADDRESSES_MAX).unwrap() {
            // As fast as all together may fail.
            slow.begin(address(number), u64::from(number / 5)).ok();
        }
        assert_eq!(slow.tries.len(), caps::SIGN_IN_ADDRESSES_MAX);
        let mut slow = Slowdown::default();
        for _ in 0..20 {
            slow.begin(address(1), 5).ok();
        }
        assert!(slow.begin(address(1), 5).is_err());
        assert_eq!(slow.begin(address(1), 5 + caps::SIGN_IN_MEMORY_S), Ok(()));
    }

    #[test]
    fn one_subscriber_has_one_place() {
        let [a, b, c] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
        assert_eq!(place(a.parse().unwrap()), place(b.parse().unwrap()));
        assert_ne!(place(a.parse().unwrap()), place(c.parse().unwrap()));
        let mapped: IpAddr = "::ffff:1.2.3.4".parse().unwrap();
        assert_eq!(place(mapped), place("1.2.3.4".parse().unwrap()));
    }
}
