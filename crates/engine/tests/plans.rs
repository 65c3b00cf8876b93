//! Plans and pools in the replicated state: which limits are in force, which counters they keep, what
//! is in use, and what a snapshot keeps of all that.

use std::convert::Infallible;

use fluxgate_engine::quota::SubjectLimits;
use fluxgate_engine::state::Registry;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, CommandError, KeyChange, NewKey, Outcome, Proposal,
};
use fluxgate_engine::state::in_force::Source;
use fluxgate_engine::state::named::{Definition, NamedKind};
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_engine::state::snapshot::{Item, KeyRow, Restore};
use fluxgate_engine::state::terms::Terms;
use fluxgate_types::{
    ClusterMs, Digest, KeyId, Limit, LogIndex, Mode, Scope, Scopes, Subject, SubjectSeed,
};

struct Log {
    registry: Registry,
    index: u64,
}

fn limit(name: &str, tokens: u64) -> Limit {
    Limit::new(name, tokens, 60_000)
}

fn shadow(name: &str, tokens: u64) -> Limit {
    Limit { mode: Mode::Shadow, ..limit(name, tokens) }
}

fn key(number: u64) -> KeyId {
    format!("key_{number:012}").parse().expect("an id")
}

fn planned(plan: &str) -> Terms {
    Terms { plan: Some(plan.into()), ..Terms::default() }
}

fn saying(limits: Vec<Limit>, terms: Terms) -> Definition {
    Definition { limits, terms, exposes: Vec::new(), enabled: true, metadata: Vec::new() }
}

impl Log {
    /// With default limits, a seed and therefore a plan `default`.
    fn new() -> Self {
        let mut log = Self { registry: Registry::default(), index: 0 };
        log.apply(Command::SetDefaults { limits: vec![limit("requests", 100)] });
        log.system(Command::SetSeed { seed: SubjectSeed([5; 16]) });
        log
    }

    fn system(&mut self, command: Command) -> Outcome {
        self.apply_as(Actor::System, command)
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.apply_as(Actor::Operator, command)
    }

    fn apply_as(&mut self, actor: Actor, command: Command) -> Outcome {
        self.index += 1;
        let request = u128::from(self.index);
        let proposal = Proposal { request, actor, presented: None, from: None, command };
        let batch = Batch { at: ClusterMs(self.index * 1_000), proposals: vec![proposal] };
        self.registry.apply(1, LogIndex(self.index), &batch).outcomes.remove(0)
    }

    fn put(&mut self, kind: NamedKind, name: &str, definition: Definition) -> Outcome {
        let definition = Box::new(definition);
        let command = Command::PutNamed { kind, name: name.into(), definition, if_revision: None };
        self.apply(command)
    }

    fn plan(&mut self, name: &str, limits: Vec<Limit>, terms: Terms) {
        let outcome = self.put(NamedKind::Plan, name, saying(limits, terms));
        assert!(matches!(outcome, Outcome::Named(_)), "{outcome:?}");
    }

    fn delete(&mut self, kind: NamedKind, name: &str) -> Outcome {
        self.apply(Command::DeleteNamed { kind, name: name.into(), if_revision: None })
    }

    fn create(&mut self, number: u64, limits: Option<Vec<Limit>>, terms: Terms) -> Outcome {
        self.apply(Command::CreateKey(Box::new(NewKey {
            id: key(number),
            prefix: "fx_live_".into(),
            digest: Digest::of(&number.to_le_bytes()),
            name: "k".into(),
            scope: Scope::Write,
            owner: None,
            limits,
            terms,
            expires_at: None,
            metadata: Vec::new(),
            idempotency_key: None,
        })))
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut KeyChange)) -> Outcome {
        let mut changed = KeyChange {
            id: key(number),
            if_revision: None,
            name: None,
            scope: None,
            owner: None,
            limits: None,
            removes: Box::default(),
            plan: None,
            pools: None,
            enabled: None,
            expires_at: None,
            metadata: None,
        };
        change(&mut changed);
        self.apply(Command::UpdateKey(Box::new(changed)))
    }

    /// The limits in force, with their sources.
    fn sources(&self, number: u64) -> Vec<(LimitSpec, Source)> {
        let shared = self.registry.shared();
        shared.sources_of(&shared.table.get(&key(number)).expect("a key"))
    }

    /// Name and tokens of what denies.
    fn in_force(&self, subject: &Subject) -> Vec<(String, u64)> {
        let shared = self.registry.shared();
        let limits = SubjectLimits::find(&shared, &shared.view(), subject).expect("it exists");
        limits.specs.iter().map(|s| (s.limit.name.to_string(), s.limit.tokens)).collect()
    }

    fn tag(&self, number: u64, name: &str) -> u32 {
        let sources = self.sources(number);
        sources.iter().find(|(spec, _)| *spec.limit.name == *name).expect("a limit").0.tag
    }
}

fn of(limits: &[(&str, u64)]) -> Vec<(String, u64)> {
    limits.iter().map(|(name, tokens)| ((*name).to_owned(), *tokens)).collect()
}

#[test]
fn the_default_limits_become_a_plan_once_and_the_settings_do_not_change_it() {
    let mut log = Log::new();
    let shared = log.registry.shared();
    let plan = shared.plan("default").expect("it is made with the seed");
    assert_eq!((plan.revision, plan.limits()), (1, &*shared.view().defaults));
    // What a leader with another file proposes, from before it knew of the plan.
    let late = log.apply(Command::SetDefaults { limits: vec![limit("requests", 7)] });
    assert_eq!(late, Outcome::Done);
    log.create(1, None, Terms::default());
    assert_eq!(log.in_force(&key(1).into()), of(&[("requests", 100)]));
    let before = log.tag(1, "requests");
    log.plan("default", vec![limit("requests", 9)], Terms::default());
    assert_eq!(log.in_force(&key(1).into()), of(&[("requests", 9)]));
    assert_eq!(log.tag(1, "requests"), before, "what was spent stays spent");
    // A log in which the seed comes first, as in a cluster that begins at this level.
    let mut first = Log { registry: Registry::default(), index: 0 };
    first.system(Command::SetSeed { seed: SubjectSeed([5; 16]) });
    assert!(first.registry.shared().plan("default").is_none());
    first.apply(Command::SetDefaults { limits: vec![limit("requests", 3)] });
    assert!(first.registry.shared().plan("default").is_some());
}

#[test]
fn a_change_of_a_plan_reaches_keys_whose_limits_were_already_computed() {
    let mut log = Log::new();
    log.plan("gold", vec![limit("requests", 600)], Terms::default());
    log.create(1, None, planned("gold"));
    log.create(2, Some(vec![limit("burst", 5)]), planned("gold"));
    let removes = Terms { removes: ["requests".into()].into(), ..planned("gold") };
    log.create(3, Some(vec![limit("burst", 5)]), removes);
    for tokens in [600, 700, 1] {
        log.plan("gold", vec![limit("requests", tokens)], Terms::default());
        assert_eq!(log.in_force(&key(1).into()), of(&[("requests", tokens)]));
        assert_eq!(log.in_force(&key(2).into()), of(&[("burst", 5), ("requests", tokens)]));
        assert_eq!(log.in_force(&key(3).into()), of(&[("burst", 5)]));
    }
    // A name that the plan loses comes from the plan default.
    log.plan("gold", vec![limit("other", 4)], Terms::default());
    assert_eq!(log.in_force(&key(1).into()), of(&[("other", 4), ("requests", 100)]));
    let sources = log.sources(1);
    assert_eq!(sources[1].1, Source::Plan("default".into()));
}

#[test]
fn a_limit_keeps_its_counter_when_a_key_joins_a_plan_or_leaves_it() {
    let mut log = Log::new();
    log.plan("gold", vec![limit("requests", 600), limit("burst", 5)], Terms::default());
    log.create(1, None, Terms::default());
    let tag = log.tag(1, "requests");
    log.change(1, |change| change.plan = Some(Some("gold".into())));
    assert_eq!(log.tag(1, "requests"), tag);
    // Its own limit of the same name takes over the counter; a new name beside it does not.
    log.change(1, |change| change.limits = Some(Some(vec![limit("requests", 5)])));
    assert_eq!(log.tag(1, "requests"), tag);
    log.change(1, |change| change.limits = Some(Some(vec![limit("mine", 5)])));
    let mine = log.tag(1, "mine");
    assert_ne!(mine, tag);
    assert_eq!(log.tag(1, "requests"), tag);
    // A rename in its own list keeps the counter.
    log.change(1, |change| change.limits = Some(Some(vec![limit("ours", 5)])));
    assert_eq!(log.tag(1, "ours"), mine);
    log.change(1, |change| (change.plan, change.limits) = (Some(None), Some(None)));
    assert_eq!(log.tag(1, "requests"), tag);
}

#[test]
fn what_is_named_exists_and_what_is_in_use_stays() {
    let mut log = Log::new();
    let pools = |names: &[&str]| Terms {
        pools: Some(names.iter().map(|name| (*name).into()).collect()),
        ..Terms::default()
    };
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(CommandError::Invalid(_)));
    assert!(refused(&log.create(1, None, planned("gold"))));
    assert!(refused(&log.create(1, None, pools(&["a"]))));
    assert!(refused(&log.put(NamedKind::Plan, "gold", saying(Vec::new(), pools(&["a"])))));
    assert!(refused(&log.put(NamedKind::Pool, "a", saying(Vec::new(), Terms::default()))));
    for name in ["a", "b", "c"] {
        log.put(NamedKind::Pool, name, saying(vec![limit("all", 9)], Terms::default()));
    }
    assert!(refused(&log.create(1, None, pools(&["a", "b", "c"]))));
    assert!(refused(&log.create(1, None, pools(&["a", "a"]))));
    log.plan("gold", Vec::new(), pools(&["a"]));
    log.create(1, None, planned("gold"));
    log.create(2, None, Terms { pools: pools(&["b"]).pools, ..planned("gold") });
    log.put(NamedKind::Owner, "acme", saying(Vec::new(), planned("gold")));
    let pools_of = |log: &Log, number| {
        let shared = log.registry.shared();
        let entry = shared.table.get(&key(number)).expect("a key");
        let of_key = shared.with_in_force(&shared.view(), &entry, |_, _, pools| pools.to_vec());
        let name = |pool| shared.named.get(&pool).expect("a pool").name.to_string();
        of_key.into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!((pools_of(&log, 1), pools_of(&log, 2)), (vec!["a".into()], vec!["b".into()]));
    let in_use = |outcome: Outcome| {
        let Outcome::Refused(CommandError::InUse(by)) = outcome else { panic!("{outcome:?}") };
        by.to_string()
    };
    assert!(in_use(log.delete(NamedKind::Plan, "gold")).contains("2 keys and 1 owners"));
    assert!(in_use(log.delete(NamedKind::Pool, "a")).contains("0 keys and 1 plans"));
    assert!(in_use(log.delete(NamedKind::Pool, "b")).contains("1 keys and 0 plans"));
    in_use(log.delete(NamedKind::Plan, "default"));
    // An erased record names nothing.
    log.apply(Command::RevokeKey { id: key(1), if_revision: None });
    log.apply(Command::EraseKeys { ids: vec![key(1)], ended_before: None });
    log.change(2, |change| (change.plan, change.pools) = (Some(None), Some(None)));
    in_use(log.delete(NamedKind::Plan, "gold"));
    log.delete(NamedKind::Owner, "acme");
    for (kind, name) in [(NamedKind::Plan, "gold"), (NamedKind::Pool, "a"), (NamedKind::Pool, "b")]
    {
        assert_eq!(log.delete(kind, name), Outcome::Done);
    }
}

#[test]
fn a_key_always_has_a_limit() {
    let mut log = Log::new();
    let without = |name: &str| Terms { removes: [name.into()].into(), ..Terms::default() };
    let refused = log.create(1, None, without("requests"));
    assert!(matches!(refused, Outcome::Refused(CommandError::Invalid(_))), "{refused:?}");
    log.plan("gold", vec![limit("burst", 5)], Terms::default());
    let outcome = log.create(1, None, Terms { plan: Some("gold".into()), ..without("requests") });
    assert!(matches!(outcome, Outcome::Key(_)), "{outcome:?}");
    assert_eq!(log.in_force(&key(1).into()), of(&[("burst", 5)]));
    // The plan loses what was left: then nothing is taken away.
    log.plan("gold", Vec::new(), Terms::default());
    assert_eq!(log.in_force(&key(1).into()), of(&[("requests", 100)]));
    for limits in [Vec::new(), vec![shadow("requests", 5)]] {
        let outcome = log.put(NamedKind::Plan, "default", saying(limits, Terms::default()));
        assert!(matches!(outcome, Outcome::Refused(CommandError::Invalid(_))), "{outcome:?}");
    }
}

#[test]
fn limits_in_mode_shadow_belong_to_the_shadow_of_the_subject() {
    let mut log = Log::new();
    let limits = vec![limit("requests", 9), shadow("watch", 3)];
    log.create(1, Some(limits.clone()), Terms::default());
    log.put(NamedKind::Owner, "acme", saying(limits.clone(), Terms::default()));
    let owner = log.registry.shared().record(NamedKind::Owner, "acme").expect("a record").subject;
    for subject in [key(1).into(), owner] {
        assert_eq!(log.in_force(&subject), of(&[("requests", 9)]));
        assert_eq!(log.in_force(&subject.shadow()), of(&[("watch", 3)]));
    }
    log.plan("default", limits, Terms::default());
    log.create(2, None, Terms::default());
    assert_eq!(log.in_force(&key(2).into()), of(&[("requests", 9)]));
    assert_eq!(log.in_force(&Subject::from(key(2)).shadow()), of(&[("watch", 3)]));
}

#[test]
fn a_snapshot_keeps_plans_terms_and_marks() {
    let mut log = Log::new();
    let writes: Scopes = [Scope::Write, Scope::Admin].into_iter().collect();
    let marked = Limit { scopes: writes, ..shadow("writes", 5) };
    log.put(NamedKind::Pool, "search", saying(vec![limit("all", 9)], Terms::default()));
    let pools = Terms { pools: Some(["search".into()].into()), ..Terms::default() };
    log.plan("gold", vec![limit("burst", 5), marked.clone()], pools);
    log.plan("default", vec![limit("requests", 50), marked.clone()], Terms::default());
    let removes = Terms { removes: ["burst".into()].into(), ..planned("gold") };
    log.create(1, None, removes);
    log.create(2, Some(vec![limit("a", 1), marked]), Terms::default());
    // One whose limit was renamed, so that its tag is kept beside its marks.
    log.change(2, |change| change.limits = Some(Some(vec![shadow("b", 1)])));
    log.create(3, None, Terms::default());
    let mut restore = Restore::default();
    let taken: Result<(), Infallible> = log.registry.freeze().write(|item| {
        // The shape of a row has no place for what level 4 adds.
        if let Item::Keys(rows) = &item {
            assert!(rows.iter().all(KeyRow::is_plain));
        }
        restore.take(item).expect("our own snapshot is valid");
        Ok(())
    });
    taken.unwrap_or_else(|never| match never {});
    let mut other = Registry::default();
    other.install(LogIndex(log.index), restore);
    let other = Log { registry: other, index: log.index };
    let digests = [&log, &other].map(|log| log.registry.shared().digest().expect("an entry").1);
    assert_eq!(digests[0], digests[1]);
    for number in 1..=3 {
        assert_eq!(log.sources(number), other.sources(number));
        let subject = Subject::from(key(number));
        assert_eq!(log.in_force(&subject), other.in_force(&subject));
        assert_eq!(log.in_force(&subject.shadow()), other.in_force(&subject.shadow()));
    }
    let uses = |log: &Log| log.registry.shared().uses(NamedKind::Plan, "gold");
    assert_eq!((uses(&log), uses(&other)), ((1, 0), (1, 0)));
    assert_eq!(other.registry.shared().uses(NamedKind::Pool, "search"), (0, 1));
}
