//! What a record of each kind says, in JSON and in the replicated state.

use std::collections::BTreeMap;

use fluxgate_api::keys::LimitSpec;
use fluxgate_api::paths;
use fluxgate_api::records::{
    ChangeOwner, ChangePlan, ChangePool, OwnerAnswer, OwnerList, OwnerRecord, PlanAnswer, PlanList,
    PlanRecord, PoolAnswer, PoolList, PoolRecord, SetOwner, SetPlan, SetPool,
};
use fluxgate_api::text::Text;
use fluxgate_engine::state::named::{Definition, NamedKind, NamedRow};
use fluxgate_engine::state::terms::Terms;
use fluxgate_types::{Limit, caps};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::keys::fields::{
    InvalidField, is_dots, limit_entries, limits, limits_beside, metadata, pools, record_name, text,
};
use crate::shared::auth::Principal;

/// What distinguishes the records of one kind.
pub(in crate::admin) trait Kind: 'static {
    const KIND: NamedKind;
    /// The path of the list.
    const LIST: &'static str;
    /// The path of one record.
    const ONE: &'static str;
    const ONLY_OPERATOR: &'static str;
    const UNKNOWN: &'static str;
    /// The body of PUT.
    type Set: DeserializeOwned + Send;
    /// The body of PATCH.
    type Change: DeserializeOwned + Send + Sync;
    type Record: Serialize + Send;
    type List: Serialize + Send;
    /// The answer to a write.
    type Answer: Serialize + Send;

    fn name(name: &str) -> Result<Box<str>, InvalidField> {
        record_name(Self::KIND.as_str(), name)
    }

    /// Whether a caller may read this record that is not the operator.
    fn may_read(_: &Principal, _: &str) -> bool {
        false
    }

    fn definition(set: Self::Set) -> Result<Definition, InvalidField>;

    fn changed(change: &Self::Change, before: Definition) -> Result<Definition, InvalidField>;

    /// With how many keys and how many records name it.
    fn shown(row: &NamedRow, uses: (usize, usize)) -> Self::Record;

    fn list(records: Vec<Self::Record>, next_cursor: Option<String>) -> Self::List;

    fn answer(record: Self::Record, applied_on: Vec<u64>, waited_ms: u64) -> Self::Answer;
}

type Pairs = [(Box<str>, Box<str>)];

fn pairs(pairs: &Pairs) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn strings(names: &[Box<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(in crate::admin) struct Owners;

impl Kind for Owners {
    const KIND: NamedKind = NamedKind::Owner;
    const LIST: &'static str = paths::OWNERS;
    const ONE: &'static str = paths::OWNER;
    const ONLY_OPERATOR: &'static str = "Records of owners require the operator token";
    const UNKNOWN: &'static str = "this owner has no record";
    type Set = SetOwner;
    type Change = ChangeOwner;
    type Record = OwnerRecord;
    type List = OwnerList;
    type Answer = OwnerAnswer;

    fn name(name: &str) -> Result<Box<str>, InvalidField> {
        if is_dots(name) {
            return Err(InvalidField::new("owner: a record cannot have this name".to_owned()));
        }
        text("owner", name, caps::OWNER_CHARS_MAX)
    }

    fn may_read(principal: &Principal, name: &str) -> bool {
        principal.manages_owner(Some(name))
    }

    fn definition(set: SetOwner) -> Result<Definition, InvalidField> {
        // An owner may have no limits.
        let (limits, removes) = limits_beside(set.limits, true)?;
        let plan = set.plan.map(|plan| record_name("plan", &plan)).transpose()?;
        Ok(Definition {
            limits,
            terms: Terms { plan, removes, pools: None },
            exposes: Vec::new(),
            enabled: set.enabled,
            metadata: metadata(&set.metadata)?,
        })
    }

    fn changed(change: &ChangeOwner, mut said: Definition) -> Result<Definition, InvalidField> {
        if let Some(own) = &change.limits {
            (said.limits, said.terms.removes) = limits_beside(own.clone(), true)?;
        }
        if let Some(plan) = &change.plan {
            let named = |plan: &String| record_name("plan", plan);
            said.terms.plan = plan.as_ref().map(named).transpose()?;
        }
        said.enabled = change.enabled.unwrap_or(said.enabled);
        if let Some(pairs) = &change.metadata {
            said.metadata = metadata(pairs)?;
        }
        Ok(said)
    }

    fn shown(row: &NamedRow, _: (usize, usize)) -> OwnerRecord {
        let Definition { limits, terms, enabled, metadata, .. } = &row.definition;
        OwnerRecord {
            owner: row.name.to_string(),
            limits: limit_entries(limits, &terms.removes),
            plan: terms.plan.as_ref().map(ToString::to_string),
            enabled: *enabled,
            metadata: pairs(metadata),
            created_at: Text(row.created_at),
            changed_at: Text(row.changed_at),
            revision: row.revision,
        }
    }

    fn list(owners: Vec<OwnerRecord>, next_cursor: Option<String>) -> OwnerList {
        OwnerList { owners, next_cursor }
    }

    fn answer(record: OwnerRecord, applied_on: Vec<u64>, waited_ms: u64) -> OwnerAnswer {
        OwnerAnswer { record, applied_on, waited_ms }
    }
}

pub(in crate::admin) struct Plans;

fn exposed(names: &[String]) -> Result<Vec<Box<str>>, InvalidField> {
    if names.len() > caps::EXPOSES_MAX {
        return Err(InvalidField::new(format!("exposes: at most {} names", caps::EXPOSES_MAX)));
    }
    if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
        return Err(InvalidField::new("exposes: a name appears twice".to_owned()));
    }
    names.iter().map(|name| text("exposes", name, caps::METADATA_NAME_CHARS_MAX)).collect()
}

impl Kind for Plans {
    const KIND: NamedKind = NamedKind::Plan;
    const LIST: &'static str = paths::PLANS;
    const ONE: &'static str = paths::PLAN;
    const ONLY_OPERATOR: &'static str = "Plans require the operator token";
    const UNKNOWN: &'static str = "no such plan";
    type Set = SetPlan;
    type Change = ChangePlan;
    type Record = PlanRecord;
    type List = PlanList;
    type Answer = PlanAnswer;

    fn definition(set: SetPlan) -> Result<Definition, InvalidField> {
        // A plan may have pools only.
        let (limits, removes) = limits_beside(set.limits, true)?;
        let pools = set.pools.as_deref().map(pools).transpose()?;
        Ok(Definition {
            limits,
            terms: Terms { plan: None, pools, removes },
            exposes: exposed(&set.exposes)?,
            enabled: true,
            metadata: metadata(&set.metadata)?,
        })
    }

    fn changed(change: &ChangePlan, mut said: Definition) -> Result<Definition, InvalidField> {
        if let Some(own) = &change.limits {
            (said.limits, said.terms.removes) = limits_beside(own.clone(), true)?;
        }
        if let Some(names) = &change.pools {
            said.terms.pools = names.as_deref().map(pools).transpose()?;
        }
        if let Some(names) = &change.exposes {
            said.exposes = exposed(names)?;
        }
        if let Some(pairs) = &change.metadata {
            said.metadata = metadata(pairs)?;
        }
        Ok(said)
    }

    fn shown(row: &NamedRow, (keys, owners): (usize, usize)) -> PlanRecord {
        let Definition { limits, terms, exposes, metadata, .. } = &row.definition;
        PlanRecord {
            plan: row.name.to_string(),
            limits: limit_entries(limits, &terms.removes),
            pools: terms.pools.as_deref().map(strings),
            exposes: strings(exposes),
            metadata: pairs(metadata),
            keys,
            owners,
            created_at: Text(row.created_at),
            changed_at: Text(row.changed_at),
            revision: row.revision,
        }
    }

    fn list(plans: Vec<PlanRecord>, next_cursor: Option<String>) -> PlanList {
        PlanList { plans, next_cursor }
    }

    fn answer(record: PlanRecord, applied_on: Vec<u64>, waited_ms: u64) -> PlanAnswer {
        PlanAnswer { record, applied_on, waited_ms }
    }
}

pub(in crate::admin) struct Pools;

fn of_pool(specs: Vec<LimitSpec>) -> Result<Vec<Limit>, InvalidField> {
    if specs.is_empty() {
        return Err(InvalidField::new("limits: a pool needs at least one".to_owned()));
    }
    limits(specs)
}

impl Kind for Pools {
    const KIND: NamedKind = NamedKind::Pool;
    const LIST: &'static str = paths::POOLS;
    const ONE: &'static str = paths::POOL;
    const ONLY_OPERATOR: &'static str = "Pools require the operator token";
    const UNKNOWN: &'static str = "no such pool";
    type Set = SetPool;
    type Change = ChangePool;
    type Record = PoolRecord;
    type List = PoolList;
    type Answer = PoolAnswer;

    fn definition(set: SetPool) -> Result<Definition, InvalidField> {
        Ok(Definition {
            limits: of_pool(set.limits)?,
            terms: Terms::default(),
            exposes: Vec::new(),
            enabled: true,
            metadata: metadata(&set.metadata)?,
        })
    }

    fn changed(change: &ChangePool, mut said: Definition) -> Result<Definition, InvalidField> {
        if let Some(own) = &change.limits {
            said.limits = of_pool(own.clone())?;
        }
        if let Some(pairs) = &change.metadata {
            said.metadata = metadata(pairs)?;
        }
        Ok(said)
    }

    fn shown(row: &NamedRow, (keys, plans): (usize, usize)) -> PoolRecord {
        let Definition { limits, metadata, .. } = &row.definition;
        PoolRecord {
            pool: row.name.to_string(),
            limits: limits.iter().map(LimitSpec::from).collect(),
            metadata: pairs(metadata),
            keys,
            plans,
            created_at: Text(row.created_at),
            changed_at: Text(row.changed_at),
            revision: row.revision,
        }
    }

    fn list(pools: Vec<PoolRecord>, next_cursor: Option<String>) -> PoolList {
        PoolList { pools, next_cursor }
    }

    fn answer(record: PoolRecord, applied_on: Vec<u64>, waited_ms: u64) -> PoolAnswer {
        PoolAnswer { record, applied_on, waited_ms }
    }
}
