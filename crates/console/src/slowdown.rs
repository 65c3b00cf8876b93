//! Delays repeated failed sign-ins.
//!
//! Answers for: an address that keeps failing waits longer each time, the failures of all addresses
//! together are limited per minute, and no address can lock out another one that has signed in
//! before. An attempt counts as failed until it has succeeded, so that concurrent attempts gain
//! nothing. Memory is bounded. Time is an argument, in seconds, and must not decrease.

use std::collections::HashMap;
use std::net::IpAddr;

use fluxgate_types::caps;

/// Size of the part of an IPv6 address that a single subscriber can choose, bits.
const SUBSCRIBER_BITS: u32 = 64;
const MINUTE_S: u64 = 60;

#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    failed: u32,
    last_s: u64,
    // When a sign-in from this address succeeded last.
    signed_in_s: Option<u64>,
}

impl Attempts {
    /// When the next attempt is accepted, seconds.
    fn next_s(&self) -> u64 {
        let Some(over) = self.failed.checked_sub(caps::SIGN_IN_FREE_TRIES) else {
            return 0;
        };
        let wait_s = 1u64.checked_shl(over).unwrap_or(u64::MAX).min(caps::SIGN_IN_WAIT_S_MAX);
        self.last_s + wait_s
    }

    fn is_forgotten(&self, now_s: u64) -> bool {
        let last = self.last_s.max(self.signed_in_s.unwrap_or(0));
        now_s.saturating_sub(last) >= caps::SIGN_IN_MEMORY_S
    }
}

/// The failed sign-ins of each address.
#[derive(Debug, Default)]
pub struct Slowdown {
    attempts: HashMap<u128, Attempts>,
    minute: u64,
    failed_in_minute: u32,
}

impl Slowdown {
    /// Begins an attempt, which counts as failed until [`Self::end`] is called.
    ///
    /// # Errors
    /// The number of seconds until this address may try again.
    pub fn begin(&mut self, from: IpAddr, now_s: u64) -> Result<(), u64> {
        if self.minute != now_s / MINUTE_S {
            (self.minute, self.failed_in_minute) = (now_s / MINUTE_S, 0);
        }
        let from = subscriber(from);
        let known =
            self.attempts.get(&from).copied().filter(|attempts| !attempts.is_forgotten(now_s));
        let mut attempts = known.unwrap_or_default();
        if now_s < attempts.next_s() {
            return Err(attempts.next_s() - now_s);
        }
        if self.failed_in_minute >= caps::SIGN_IN_FAILURES_PER_MINUTE_MAX
            && attempts.signed_in_s.is_none()
        {
            return Err(MINUTE_S - now_s % MINUTE_S);
        }
        self.failed_in_minute += 1;
        attempts.failed = attempts.failed.saturating_add(1);
        attempts.last_s = now_s;
        self.store(from, attempts, now_s);
        Ok(())
    }

    /// Ends an attempt that did not fail: either `signed_in`, or it ended for a reason that is not
    /// the caller's fault.
    pub fn end(&mut self, from: IpAddr, now_s: u64, signed_in: bool) {
        self.failed_in_minute = self.failed_in_minute.saturating_sub(1);
        if let Some(attempts) = self.attempts.get_mut(&subscriber(from)) {
            if signed_in {
                *attempts = Attempts { failed: 0, last_s: now_s, signed_in_s: Some(now_s) };
            } else {
                attempts.failed = attempts.failed.saturating_sub(1);
            }
        }
    }

    fn store(&mut self, from: u128, attempts: Attempts, now_s: u64) {
        if self.attempts.len() >= caps::SIGN_IN_ADDRESSES_MAX && !self.attempts.contains_key(&from)
        {
            self.attempts.retain(|_, attempts| !attempts.is_forgotten(now_s));
        }
        if self.attempts.len() >= caps::SIGN_IN_ADDRESSES_MAX && !self.attempts.contains_key(&from)
        {
            let oldest = self.attempts.iter().min_by_key(|(_, attempts)| attempts.last_s);
            if let Some(oldest) = oldest.map(|(from, _)| *from) {
                self.attempts.remove(&oldest);
            }
        }
        self.attempts.insert(from, attempts);
    }
}

/// The subscriber of an address: an IPv4 address, or the network part of an IPv6 address.
fn subscriber(from: IpAddr) -> u128 {
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
    fn an_address_that_keeps_failing_waits_longer_each_time() {
        let mut slow = Slowdown::default();
        let mut now = 600;
        for _ in 0..free() {
            assert_eq!(slow.begin(address(1), now), Ok(()));
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(slow.begin(address(1), now), Err(wait));
            assert_eq!(slow.begin(address(2), now), Ok(()), "another address is not delayed");
            slow.end(address(2), now, true);
            now += wait;
            assert_eq!(slow.begin(address(1), now), Ok(()));
        }
        slow.end(address(1), now, true);
        assert_eq!(slow.begin(address(1), now), Ok(()), "signing in ends the delay");
    }

    #[test]
    fn failures_of_all_addresses_are_limited_but_known_addresses_pass() {
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
    fn memory_is_bounded_and_expires() {
        let mut slow = Slowdown::default();
        for number in 0..2 * u32::try_from(caps::SIGN_IN_ADDRESSES_MAX).unwrap() {
            // At the highest rate at which all addresses together may fail.
            slow.begin(address(number), u64::from(number / 5)).ok();
        }
        assert_eq!(slow.attempts.len(), caps::SIGN_IN_ADDRESSES_MAX);
        let mut slow = Slowdown::default();
        for _ in 0..20 {
            slow.begin(address(1), 5).ok();
        }
        assert!(slow.begin(address(1), 5).is_err());
        assert_eq!(slow.begin(address(1), 5 + caps::SIGN_IN_MEMORY_S), Ok(()));
    }

    #[test]
    fn addresses_of_one_subscriber_count_together() {
        let [a, b, c] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
        assert_eq!(subscriber(a.parse().unwrap()), subscriber(b.parse().unwrap()));
        assert_ne!(subscriber(a.parse().unwrap()), subscriber(c.parse().unwrap()));
        let mapped: IpAddr = "::ffff:1.2.3.4".parse().unwrap();
        assert_eq!(subscriber(mapped), subscriber("1.2.3.4".parse().unwrap()));
    }
}
