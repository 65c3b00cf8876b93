//! The messages of a session's peers: any numbers, of counters that exist or not.

use std::sync::Arc;

use fluxgate_engine::quota::{CounterId, CounterReport, Sender};
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, KeyId, Limit, Subject, caps};
use fluxgate_wire::{self as wire, Shaped};

use super::{KEYS, PEERS, PERIOD_MS, Session};
use crate::source::Source;

impl Session {
    pub(super) fn key(&self, source: &mut Source<'_>) -> Subject {
        source.pick(&KEYS).parse::<KeyId>().expect("an id").into()
    }

    /// The sender, as the node would pass it on: a newer incarnation is recorded, an older one
    /// dropped.
    pub(super) fn sender(&mut self, source: &mut Source<'_>) -> Option<Sender> {
        let node = source.pick(&PEERS);
        let known = self.incarnation.incarnations.of(node);
        let boot = match source.below(8) {
            7 => BootId(source.number()),
            _ => known.unwrap_or(BootId(1)),
        };
        self.incarnation.incarnations.note(node, boot);
        self.incarnation.incarnations_tag = self.incarnation.incarnations.tag();
        (self.incarnation.incarnations.of(node) == Some(boot)).then_some(Sender { node, boot })
    }

    pub(super) fn counter_of(&self, key: &Subject, spec: &LimitSpec) -> CounterId {
        CounterId { subject: *key, limit: spec.tag, window: spec.limit.window_at(self.now).number }
    }

    pub(super) fn counter(&self, source: &mut Source<'_>) -> CounterId {
        let key = self.key(source);
        let limits = &self.key_limits[&key].specs;
        let mut counter = self.counter_of(&key, &limits[source.below(limits.len())]);
        match source.byte() {
            0..=199 => {}
            200..=219 => counter.window += 1,
            220..=239 => counter.window -= 1,
            240..=247 => counter.window = source.number(),
            _ => counter.limit = u32::try_from(source.short()).unwrap_or(0),
        }
        counter
    }
}

pub(super) fn specs(source: &mut Source<'_>, count: usize) -> Arc<[LimitSpec]> {
    let limit = |(at, name): (usize, &str)| {
        let tokens = match source.byte() {
            small @ 0..=250 => 1 + u64::from(small),
            _ => caps::LIMIT_TOKENS_MAX,
        };
        Limit::new(name, tokens, PERIOD_MS * (1 + at as u64))
    };
    let limits: Vec<Limit> =
        ["requests", "bulk"].into_iter().take(count).enumerate().map(limit).collect();
    assert_eq!(Limit::check_all(&limits), Ok(()));
    LimitSpec::all(&limits).expect("two names, two tags")
}

/// A report, mostly tagged with the incarnations that the node knows too.
pub(super) fn report(source: &mut Source<'_>, tag: u64) -> CounterReport {
    let incarnations = if source.once_in(4) { source.number() } else { tag };
    let burned = i64::from_le_bytes(source.number().to_le_bytes());
    CounterReport {
        spent: source.number(),
        burned,
        limit: source.number(),
        incarnations,
        left: source.number(),
    }
}

/// A message after it was encoded and decoded.
pub(super) fn sent_and_read<T>(message: &T) -> T
where
    T: Shaped + PartialEq + std::fmt::Debug,
{
    let bytes = wire::encode(&message.to_shape()).expect("a message fits its envelope");
    let read = T::from_shape(wire::decode(&bytes).expect("it reads back"));
    assert_eq!(read, *message);
    read
}
