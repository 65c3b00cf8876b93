//! Writes a change of a key to the log, and shapes the answer.

use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::WriteAnswer;
use fluxgate_engine::state::command::{Command, CommandError, Outcome};
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::record::KeyRecord;
use fluxgate_engine::state::snapshot::KeyRow;
use fluxgate_node::proposal::proposal;
use fluxgate_node::state::NodeState;
use fluxgate_node::writes::{WriteError, Written};

use super::view::shown;
use crate::shared::auth::RequestContext;
use crate::shared::error::ApiError;

/// Makes a change of one key.
pub(super) async fn change(
    state: &NodeState,
    caller: &RequestContext,
    command: Command,
) -> Result<WriteAnswer, ApiError> {
    let Written { outcome, applied_on, waited_ms } = write(state, caller, command).await?;
    let row = match outcome {
        Outcome::Key(row) => *row,
        Outcome::Done | Outcome::Put(_) | Outcome::Named(_) => {
            return Err(ApiError::new(ErrorCode::Internal, "internal error"));
        }
        Outcome::Refused(CommandError::Actor) => {
            return Err(crate::gateway::validate::unauthenticated(state, true).into());
        }
        Outcome::Refused(error) => return Err(rejected(&error)),
    };
    let last_used = state.shared.table.with(&row.id, |entry| entry.last_used()).flatten();
    let record = shown(state, &KeyEntry::new(&committed(row)?, last_used));
    Ok(WriteAnswer {
        record,
        applied_on: applied_on.iter().map(|node| node.0).collect(),
        waited_ms,
        notes: Vec::new(),
    })
}

/// The record of a committed change. It was made, so an error here must not say that nothing was
/// changed.
fn committed(row: KeyRow) -> Result<KeyRecord, ApiError> {
    let id = row.id;
    row.into_record(0).ok_or_else(|| {
        tracing::error!(%id, "a committed record has limits that cannot be read");
        let message =
            format!("the change of {id} was made, but its record cannot be shown: look at the key");
        ApiError::new(ErrorCode::Internal, message)
    })
}

/// Writes a command, and waits until it holds on every node.
pub(in crate::admin) async fn write(
    state: &NodeState,
    caller: &RequestContext,
    command: Command,
) -> Result<Written, ApiError> {
    let mut proposal = proposal(caller.principal.actor(), caller.client_addr_text(), command);
    proposal.presented = caller.principal.digest();
    state.writes.write(proposal, state.config.request_timeout).await.map_err(not_written)
}

/// Why a write was not made, or may not have been made.
pub(in crate::admin) fn not_written(error: WriteError) -> ApiError {
    let (code, message) = match error {
        WriteError::NoLeader => {
            (ErrorCode::NoLeader, "the cluster has no leader now; nothing was changed")
        }
        WriteError::Busy => {
            (ErrorCode::Unavailable, "the leader takes no writes now; nothing was changed")
        }
        WriteError::Unknown => (
            ErrorCode::RequestTimeout,
            "the change may or may not have been made, or may still be made: look at the key or, for a new \
             key, at the list of keys before you try again",
        ),
    };
    ApiError::new(code, message)
}

/// Why the replicated state rejected a command.
pub(in crate::admin) fn rejected(error: &CommandError) -> ApiError {
    let code = match error {
        CommandError::Actor => ErrorCode::AuthenticationFailed,
        CommandError::NotFound => ErrorCode::NotFound,
        CommandError::IdTaken
        | CommandError::Revoked
        | CommandError::OtherDirectory(_)
        | CommandError::OlderStart { .. }
        | CommandError::NotEnded(_)
        | CommandError::Promised(_)
        | CommandError::InUse(_)
        | CommandError::Removed(_) => ErrorCode::Conflict,
        CommandError::AlreadyDone(_) => ErrorCode::AlreadyDone,
        CommandError::OtherContent(_) => ErrorCode::IdempotencyKeyReused,
        CommandError::Revision(_) => ErrorCode::PreconditionFailed,
        CommandError::Invalid(_) => ErrorCode::InvalidRequest,
    };
    ApiError::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use fluxgate_engine::state::command::Actor;
    use fluxgate_engine::state::terms::Terms;
    use fluxgate_types::{ClusterMs, Digest, KeyId, Limit, LogIndex, Scope};

    use super::*;

    #[test]
    fn an_unreadable_committed_record_is_no_mistake_of_the_caller() {
        let digest = Digest::of(b"secret");
        let limit = Limit::new("a", 1, 1_000);
        let row = KeyRow {
            id: KeyId::of_imported(&digest),
            digest,
            scope: Scope::Read,
            enabled: true,
            revision: 1,
            created_index: LogIndex(1),
            created_at: ClusterMs(0),
            created_by: Actor::Operator,
            revoked_at: None,
            expires_at: None,
            name: "a".into(),
            prefix: "fx_live".into(),
            owner: None,
            // Two limits with one tag.
            limits: Some(vec![limit.clone(), limit]),
            terms: Terms::default(),
            previous: None,
            metadata: Vec::new(),
            last_used: None,
        };
        let body = committed(row).unwrap_err().body();
        assert_eq!(body.error, ErrorCode::Internal);
        assert!(body.message.contains("was made"), "{}", body.message);
    }
}
