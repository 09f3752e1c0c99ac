//! Generates private keys. RSA keys take seconds of CPU time, so they are generated on blocking
//! threads, two at a time.

use async_trait::async_trait;
use cert_lib::{
    issue::KeyGenerator,
    model::key::{KeyError, KeyType, PrivateKey},
};
use tokio::sync::Semaphore;

/// See the [module](self).
#[derive(Debug)]
pub struct KeyPool {
    permits: Semaphore,
}

impl Default for KeyPool {
    fn default() -> Self {
        Self { permits: Semaphore::new(2) }
    }
}

#[async_trait]
impl KeyGenerator for KeyPool {
    async fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeyError> {
        match kind {
            KeyType::P256 | KeyType::P384 => PrivateKey::generate(kind),
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
                let failed = |_| KeyError::Generate(kind);
                let _permit = self.permits.acquire().await.map_err(|_| KeyError::Generate(kind))?;
                tokio::task::spawn_blocking(move || PrivateKey::generate(kind))
                    .await
                    .map_err(failed)?
            }
        }
    }
}
