//! Typed calls of the admin listener.
//!
//! Answers for: which of these calls may be repeated. A create and a rotate always carry an
//! idempotency key, so that a repeat cannot create a second secret.

use fluxgate_api::cluster::{AddNode, ClusterChange, ClusterView, HandOver, RemoveNode, SetTime};
use fluxgate_api::keys::{
    CreateKey, CreatedKey, ErasedKey, Included, KeyList, KeyRecord, ListQuery, ReadKey, RotateKey,
    UpdateKey, WriteAnswer,
};
use fluxgate_api::paths::{self, header};
use fluxgate_api::usage::{AuditList, AuditQuery, Usage, Whoami};
use fluxgate_types::KeyId;
use reqwest::Method;

use crate::transport::{Call, Repeat};
use crate::{Client, Error};

impl Client {
    /// Creates a key. Draws an idempotency key if the caller passes none.
    ///
    /// # Errors
    /// [`Error::AnswerLost`] when the key was created but the answer was lost; otherwise when the
    /// call fails.
    pub async fn create_key(
        &self,
        key: &CreateKey,
        idempotency_key: Option<&str>,
    ) -> Result<CreatedKey, Error> {
        let call = Call::new(Method::POST, paths::KEYS, Repeat::Harmless)
            .header(header::IDEMPOTENCY_KEY, idempotency(idempotency_key)?)
            .json(key)?;
        self.ask(&call).await
    }

    /// Lists one page of keys.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_keys(&self, query: &ListQuery) -> Result<KeyList, Error> {
        let call = Call::get(paths::KEYS)
            .query("owner", query.owner.as_ref())
            .query("search", query.search.as_ref())
            .query("status", query.status)
            .query("limit", query.limit)
            .query("cursor", query.cursor.as_ref())
            .query("export", query.export.then_some(true));
        self.ask(&call).await
    }

    /// Reads a key's record.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn read_key(&self, id: KeyId) -> Result<KeyRecord, Error> {
        self.read_key_with(id, &ReadKey::default()).await
    }

    /// Reads the record of a key, and what else is asked for.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn read_key_with(&self, id: KeyId, read: &ReadKey) -> Result<KeyRecord, Error> {
        let effective = read.include.map(|Included::Effective| "effective");
        self.ask(&Call::get(paths::key(id)).query("include", effective)).await
    }

    /// Changes a key. With `revision` the change applies only if the key is still at that revision.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn update_key(
        &self,
        id: KeyId,
        change: &UpdateKey,
        revision: Option<u64>,
    ) -> Result<WriteAnswer, Error> {
        let call = Call::guarded(Method::PATCH, paths::key(id), revision).json(change)?;
        self.ask(&call).await
    }

    /// Replaces a key's secret. Draws an idempotency key if the caller passes none.
    ///
    /// # Errors
    /// [`Error::AnswerLost`] when the secret was created but the answer was lost; otherwise when
    /// the call fails.
    pub async fn rotate_key(
        &self,
        id: KeyId,
        rotate: &RotateKey,
        idempotency_key: Option<&str>,
    ) -> Result<CreatedKey, Error> {
        let call = Call::new(Method::POST, paths::key_rotate(id), Repeat::Harmless)
            .header(header::IDEMPOTENCY_KEY, idempotency(idempotency_key)?)
            .json(rotate)?;
        self.ask(&call).await
    }

    /// Revokes a key permanently.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn revoke_key(&self, id: KeyId) -> Result<WriteAnswer, Error> {
        let call = Call::new(Method::DELETE, paths::key(id), Repeat::Harmless);
        self.ask(&call).await
    }

    /// Erases the record of a revoked or expired key.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn erase_key(&self, id: KeyId) -> Result<ErasedKey, Error> {
        // A repeat after success would get 404, as if the record had never existed.
        let call = Call::new(Method::DELETE, paths::key(id), Repeat::IfNotDone);
        self.ask(&call.query("erase", Some(true))).await
    }

    /// Reads the usage of a key.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn read_usage(&self, id: KeyId) -> Result<Usage, Error> {
        self.ask(&Call::get(paths::key_usage(id))).await
    }

    /// Lists one page of the audit trail.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_audit(&self, query: &AuditQuery) -> Result<AuditList, Error> {
        let call = Call::get(paths::AUDIT)
            .query("key_id", query.key_id.as_ref())
            .query("action", query.action.as_ref())
            .query("actor", query.actor.as_ref())
            .query("limit", query.limit)
            .query("cursor", query.cursor.as_ref());
        self.ask(&call).await
    }

    /// Reads which credential this client presents.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn whoami(&self) -> Result<Whoami, Error> {
        self.ask(&Call::get(paths::WHOAMI)).await
    }

    /// Reads the cluster, as the answering node sees it.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn read_cluster(&self) -> Result<ClusterView, Error> {
        self.ask(&Call::get(paths::CLUSTER)).await
    }

    /// Adds a node to the cluster, or moves it to another address.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn add_node(&self, node: &AddNode) -> Result<ClusterChange, Error> {
        let call = Call::new(Method::POST, paths::CLUSTER_NODES, Repeat::Harmless).json(node)?;
        self.ask(&call).await
    }

    /// Removes a node from the cluster.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn remove_node(&self, id: u64, how: RemoveNode) -> Result<ClusterChange, Error> {
        // A repeat after success would get 404, as if the node had never been a member.
        let call = Call::new(Method::DELETE, paths::cluster_node(id), Repeat::IfNotDone)
            .query("force", how.force.then_some(true));
        self.ask(&call).await
    }

    /// Hands leadership to another node.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn hand_over(&self, hand_over: HandOver) -> Result<ClusterChange, Error> {
        // A repeat without a named node would take leadership from the new leader.
        let repeat = match hand_over.to {
            Some(_) => Repeat::Harmless,
            None => Repeat::IfNotDone,
        };
        let call = Call::new(Method::POST, paths::CLUSTER_LEADER, repeat).json(&hand_over)?;
        self.ask(&call).await
    }

    /// Moves cluster time forward.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_time(&self, set_time: SetTime) -> Result<ClusterChange, Error> {
        // A repeat after success would be rejected, because time never moves back.
        let call = Call::new(Method::POST, paths::CLUSTER_TIME, Repeat::IfNotDone);
        self.ask(&call.json(&set_time)?).await
    }

    /// Reads the metrics of the answering node, in Prometheus text.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn metrics(&self) -> Result<String, Error> {
        let answer = self.send(&Call::get(paths::METRICS)).await?;
        if answer.is_success() {
            Ok(String::from_utf8_lossy(&answer.body).into_owned())
        } else {
            Err(answer.refused())
        }
    }
}

/// Returns the caller's idempotency key, or draws one of 128 random bits.
fn idempotency(given: Option<&str>) -> Result<String, Error> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Error::unexpected(None, format!("cannot draw random bytes: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}
