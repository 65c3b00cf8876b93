//! Typed calls about records with a name: owners, plans and pools.

use fluxgate_api::paths;
use fluxgate_api::records::{
    ChangeOwner, ChangePlan, ChangePool, DeletedRecord, OwnerAnswer, OwnerList, OwnerRecord,
    PlanAnswer, PlanList, PlanRecord, PoolAnswer, PoolList, PoolRecord, RecordsQuery, SetOwner,
    SetPlan, SetPool,
};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::transport::{Call, Repeat};
use crate::{Client, Error};

impl Client {
    async fn list_records<L: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &RecordsQuery,
    ) -> Result<L, Error> {
        let call =
            Call::get(path).query("limit", query.limit).query("cursor", query.cursor.as_ref());
        self.ask(&call).await
    }

    async fn set_record<A: DeserializeOwned>(
        &self,
        path: String,
        record: &impl Serialize,
    ) -> Result<A, Error> {
        self.ask(&Call::new(Method::PUT, path, Repeat::Harmless).json(record)?).await
    }

    async fn change_record<A: DeserializeOwned>(
        &self,
        path: String,
        change: &impl Serialize,
        revision: Option<u64>,
    ) -> Result<A, Error> {
        self.ask(&Call::guarded(Method::PATCH, path, revision).json(change)?).await
    }

    async fn delete_record(
        &self,
        path: String,
        revision: Option<u64>,
    ) -> Result<DeletedRecord, Error> {
        // A repeat after success would get 404, as if the record had never existed.
        let call = Call::new(Method::DELETE, path, Repeat::IfNotDone);
        self.ask(&call.if_revision(revision)).await
    }

    /// Lists one page of the owners that have a record.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_owners(&self, query: &RecordsQuery) -> Result<OwnerList, Error> {
        self.list_records(paths::OWNERS, query).await
    }

    /// Reads the record of an owner.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn read_owner(&self, owner: &str) -> Result<OwnerRecord, Error> {
        self.ask(&Call::get(paths::owner(owner))).await
    }

    /// Creates the record of an owner, or replaces what it says.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_owner(&self, owner: &str, record: &SetOwner) -> Result<OwnerAnswer, Error> {
        self.set_record(paths::owner(owner), record).await
    }

    /// Changes the record of an owner. With `revision` the change applies only if the record is still at that
    /// revision.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn change_owner(
        &self,
        owner: &str,
        change: &ChangeOwner,
        revision: Option<u64>,
    ) -> Result<OwnerAnswer, Error> {
        self.change_record(paths::owner(owner), change, revision).await
    }

    /// Deletes the record of an owner. Its keys stay.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_owner(
        &self,
        owner: &str,
        revision: Option<u64>,
    ) -> Result<DeletedRecord, Error> {
        self.delete_record(paths::owner(owner), revision).await
    }

    /// Lists one page of the plans.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_plans(&self, query: &RecordsQuery) -> Result<PlanList, Error> {
        self.list_records(paths::PLANS, query).await
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn read_plan(&self, plan: &str) -> Result<PlanRecord, Error> {
        self.ask(&Call::get(paths::plan(plan))).await
    }

    /// Creates a plan, or replaces what it says.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_plan(&self, plan: &str, record: &SetPlan) -> Result<PlanAnswer, Error> {
        self.set_record(paths::plan(plan), record).await
    }

    /// Changes a plan. With `revision` the change applies only if the record is still at that
    /// revision.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn change_plan(
        &self,
        plan: &str,
        change: &ChangePlan,
        revision: Option<u64>,
    ) -> Result<PlanAnswer, Error> {
        self.change_record(paths::plan(plan), change, revision).await
    }

    /// Deletes a plan. Only one that no key and no owner names.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_plan(
        &self,
        plan: &str,
        revision: Option<u64>,
    ) -> Result<DeletedRecord, Error> {
        self.delete_record(paths::plan(plan), revision).await
    }

    /// Lists one page of the pools.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_pools(&self, query: &RecordsQuery) -> Result<PoolList, Error> {
        self.list_records(paths::POOLS, query).await
    }

    /// Reads a pool.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn read_pool(&self, pool: &str) -> Result<PoolRecord, Error> {
        self.ask(&Call::get(paths::pool(pool))).await
    }

    /// Creates a pool, or replaces what it says.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_pool(&self, pool: &str, record: &SetPool) -> Result<PoolAnswer, Error> {
        self.set_record(paths::pool(pool), record).await
    }

    /// Changes a pool. With `revision` the change applies only if the record is still at that
    /// revision.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn change_pool(
        &self,
        pool: &str,
        change: &ChangePool,
        revision: Option<u64>,
    ) -> Result<PoolAnswer, Error> {
        self.change_record(paths::pool(pool), change, revision).await
    }

    /// Deletes a pool. Only one that no key and no plan names.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_pool(
        &self,
        pool: &str,
        revision: Option<u64>,
    ) -> Result<DeletedRecord, Error> {
        self.delete_record(paths::pool(pool), revision).await
    }
}
