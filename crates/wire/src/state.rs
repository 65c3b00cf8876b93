//! Shapes of commands, their outcomes, and the records that they make.

use fluxgate_engine::lease::LeaseTerms;
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::audit::{Action, AuditEntry};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::{
    Actor, Batch, Command, CommandError, ImportSource, KeyChange, NewKey, OneKey, Proposal, Put,
};
use fluxgate_engine::state::named::{Definition, NamedKind, NamedRow};
use fluxgate_engine::state::repeats::Remembered;
use fluxgate_engine::state::snapshot::KeyRow;
use fluxgate_types::{
    BootId, ClusterMs, Digest, DirId, KeyId, Limit, LogIndex, NodeId, Scope, SubjectSeed,
};

use serde::{Deserialize, Serialize};

use crate::shape::{ShapeOf, shape};
use crate::terms::{MarkedCommandV4, MarkedV4};

shape! {
    /// See [`Limit`].
    struct LimitV1 of Limit { name: Box<str>, tokens: u64, period_ms: u64 } without scopes, mode
}

shape! {
    /// See [`ShareMap`].
    struct ShareMapV1 of ShareMap { from: ClusterMs, nodes: Vec<(NodeId, u32)> }
}

shape! {
    /// See [`StartId`].
    struct StartIdV1 of StartId { boot: BootId, nonce: u64 }
}

shape! {
    /// See [`Actor`].
    enum ActorV1 of Actor { Operator, Key(id: KeyId), System }
}

shape! {
    /// See [`ImportSource`].
    enum ImportSourceV1 of ImportSource { Import, Backup }
}

shape! {
    /// See [`KeyRow`].
    struct KeyRecordV1 of KeyRow {
        id: KeyId,
        digest: Digest,
        scope: Scope,
        enabled: bool,
        revision: u64,
        created_index: LogIndex,
        created_at: ClusterMs,
        created_by: Actor,
        revoked_at: Option<ClusterMs>,
        expires_at: Option<ClusterMs>,
        name: Box<str>,
        prefix: Box<str>,
        owner: Option<Box<str>>,
        limits: Option<Vec<Limit>>,
        previous: Option<(Digest, ClusterMs)>,
        metadata: Vec<(Box<str>, Box<str>)>,
        last_used: Option<ClusterMs>,
    } without terms
}

shape! {
    /// See [`NewKey`].
    struct NewKeyV1 of NewKey {
        id: KeyId,
        prefix: Box<str>,
        digest: Digest,
        name: Box<str>,
        scope: Scope,
        owner: Option<Box<str>>,
        limits: Option<Vec<Limit>>,
        expires_at: Option<ClusterMs>,
        metadata: Vec<(Box<str>, Box<str>)>,
        idempotency_key: Option<Box<str>>,
    } without terms
}

shape! {
    /// See [`KeyChange`].
    struct KeyChangeV1 of KeyChange {
        id: KeyId,
        if_revision: Option<u64>,
        name: Option<Box<str>>,
        scope: Option<Scope>,
        owner: Option<Option<Box<str>>>,
        limits: Option<Option<Vec<Limit>>>,
        enabled: Option<bool>,
        expires_at: Option<Option<ClusterMs>>,
        metadata: Option<Vec<(Box<str>, Box<str>)>>,
    } without removes, plan, pools
}

shape! {
    /// See [`Action`]. Variants up to `Restored` are of level 1, up to `TimeSet` of level 2.
    enum ActionV1 of Action {
        Created,
        Updated,
        Rotated,
        Revoked,
        DefaultsSet,
        NodeRegistered,
        NodeRemoved,
        ShareMapSet,
        Imported,
        Restored,
        TermsSet,
        TimeSet,
        Erased,
        BackedUp,
        Exported,
        HandedOver,
        MembersChanged,
        SignedIn,
        SignInFailed,
        OwnerSet,
        OwnerDeleted,
        PlanSet,
        PlanDeleted,
        PoolSet,
        PoolDeleted,
    }
}

shape! {
    /// See [`AuditEntry`].
    struct AuditEntryV1 of AuditEntry {
        seq: u64,
        at: ClusterMs,
        action: Action,
        key_id: Option<KeyId>,
        actor: Actor,
        from: Option<Box<str>>,
        details: Box<str>,
    }
}

shape! {
    /// See [`OneKey`].
    enum OneKeyV1 of OneKey {
        Create(key: Box<NewKey>),
        Rotate {
            id: KeyId,
            digest: Digest,
            grace_ms: u64,
            if_revision: Option<u64>,
            end_previous: bool,
        },
    }
}

shape! {
    /// See [`Command`]. Variants up to `RestoreAudit` are of level 1, up to `SetTime` of level 2.
    enum CommandV1 of Command {
        CreateKey(key: Box<NewKey>),
        UpdateKey(change: Box<KeyChange>),
        RotateKey {
            id: KeyId,
            digest: Digest,
            grace_ms: u64,
            idempotency_key: Option<Box<str>>,
            if_revision: Option<u64>,
        },
        RevokeKey { id: KeyId, if_revision: Option<u64> },
        SetDefaults { limits: Vec<Limit> },
        SetShareMap { map: ShareMap, term: u64 },
        RegisterNode { node: NodeId, dir_id: DirId },
        RemoveNode { node: NodeId },
        PutKeys { rows: Vec<KeyRow>, origin: ImportSource },
        RestoreAudit { lines: Vec<AuditEntry> },
        SetLevel { level: u32 },
        SetTerms { terms: LeaseTerms },
        #[serde(rename = "RegisterIncarnation")]
        RegisterStart {
            node: NodeId,
            dir_id: DirId,
            #[serde(rename = "incarnation")]
            start_id: StartId,
        },
        SetTime { to: ClusterMs },
        EraseKeys { ids: Vec<KeyId>, ended_before: Option<ClusterMs> },
        Once { key: Box<str>, content: u64, command: OneKey },
        Note { action: Action, details: Box<str> },
        SetSeed { seed: SubjectSeed },
        PutNamed {
            kind: NamedKind,
            name: Box<str>,
            definition: Box<Definition>,
            if_revision: Option<u64>,
        },
        DeleteNamed { kind: NamedKind, name: Box<str>, if_revision: Option<u64> },
    } and Marked(Box<MarkedCommandV4>) of MarkedCommandV4::into_command
}

shape! {
    /// See [`NamedKind`].
    enum NamedKindV1 of NamedKind { Owner, Plan, Pool }
}

shape! {
    /// See [`NamedRow`].
    struct NamedRowV1 of NamedRow {
        kind: NamedKind,
        name: Box<str>,
        definition: Definition,
        tags: Vec<u32>,
        revision: u64,
        created_index: LogIndex,
        created_at: ClusterMs,
        changed_at: ClusterMs,
    }
}

shape! {
    /// See [`Proposal`].
    struct ProposalV1 of Proposal {
        request: u128,
        actor: Actor,
        presented: Option<Digest>,
        from: Option<Box<str>>,
        command: Command,
    }
}

shape! {
    /// See [`Batch`].
    struct BatchV1 of Batch { at: ClusterMs, proposals: Vec<Proposal> }
}

shape! {
    /// See [`CommandError`]. Variants up to `OtherDirectory` are of level 1, up to `Removed` of
    /// level 2.
    enum CommandErrorV1 of CommandError {
        NotFound,
        IdTaken,
        AlreadyDone(id: KeyId),
        Revision(revision: u64),
        Revoked,
        Invalid(why: Box<str>),
        Actor,
        OtherDirectory(node: NodeId),
        #[serde(rename = "OlderIncarnation")]
        OlderStart { node: NodeId, newest: BootId },
        Removed(node: NodeId),
        OtherContent(id: KeyId),
        NotEnded(id: KeyId),
        Promised(until: ClusterMs),
        InUse(by: Box<str>),
    }
}

shape! {
    /// See [`Put`].
    enum PutV1 of Put { Made, Known, Refused(why: CommandError) }
}

/// See [`Outcome`](fluxgate_engine::state::command::Outcome).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeV1 {
    /// A key that says nothing of level 4.
    Key(ShapeOf<Box<KeyRow>>),
    Done,
    Refused(ShapeOf<CommandError>),
    Put(ShapeOf<Vec<Put>>),
    Named(ShapeOf<Box<NamedRow>>),
    /// Any other key.
    MarkedKey(ShapeOf<Box<KeyRow>>, MarkedV4),
}

shape! {
    /// See [`Remembered`].
    enum RememberedV1 of Remembered {
        Key(id: KeyId),
        Done,
        Refused(why: CommandError),
        Named { kind: NamedKind, name: Box<str> },
    }
}
