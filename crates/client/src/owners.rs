//! Typed calls about the records of owners.

use fluxgate_api::owners::{
    ChangeOwner, DeletedOwner, OwnerAnswer, OwnerList, OwnerRecord, OwnersQuery, SetOwner,
};
use fluxgate_api::paths;
use reqwest::Method;

use crate::transport::{Call, Repeat};
use crate::{Client, Error};

impl Client {
    /// Lists one page of the owners that have a record.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list_owners(&self, query: &OwnersQuery) -> Result<OwnerList, Error> {
        let call = Call::get(paths::OWNERS)
            .query("limit", query.limit)
            .query("cursor", query.cursor.as_ref());
        self.ask(&call).await
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
        let call = Call::new(Method::PUT, paths::owner(owner), Repeat::Harmless).json(record)?;
        self.ask(&call).await
    }

    /// Changes the record of an owner. With `revision` the change applies only if the record is still
    /// at that revision.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn change_owner(
        &self,
        owner: &str,
        change: &ChangeOwner,
        revision: Option<u64>,
    ) -> Result<OwnerAnswer, Error> {
        let call = Call::guarded(Method::PATCH, paths::owner(owner), revision);
        self.ask(&call.json(change)?).await
    }

    /// Deletes the record of an owner. Its keys stay.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete_owner(
        &self,
        owner: &str,
        revision: Option<u64>,
    ) -> Result<DeletedOwner, Error> {
        // A repeat after success would get 404, as if the record had never existed.
        let call = Call::new(Method::DELETE, paths::owner(owner), Repeat::IfNotDone);
        self.ask(&call.if_revision(revision)).await
    }
}
