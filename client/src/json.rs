//! Values of any serde type, as JSON.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Client, ClientError, SetOptions};

impl Client {
    /// The value of a key, read as JSON. Sent again, as [`Client::get`].
    ///
    /// # Errors
    /// [`ClientError::Value`] if the value is not JSON of such a type.
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, ClientError> {
        let Some(value) = self.get(key).await? else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).map_err(|error| ClientError::Value(error.to_string()))
    }

    /// Sets a key to a value written as JSON; returns whether it was set. Sent again unless there is a condition, as
    /// [`Client::set_with`].
    ///
    /// # Errors
    /// [`ClientError::Value`] if the value cannot be written as JSON; nothing was sent.
    pub async fn set_json<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        options: SetOptions,
    ) -> Result<bool, ClientError> {
        let value = serde_json::to_vec(value).map_err(|error| ClientError::Value(error.to_string()))?;
        self.set_with(key, value, options).await
    }
}
