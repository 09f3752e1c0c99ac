//! Several event handlers for one watch.

use std::{collections::BTreeSet, sync::Arc};

use super::handler::EventHandler;
use crate::api::ObjectKey;

/// Calls all handlers, in order. For logical clusters that are the same cluster.
pub struct FanOut<K>(pub Vec<Arc<dyn EventHandler<K> + Send + Sync>>);

impl<K: Clone> EventHandler<K> for FanOut<K> {
    fn applied(&self, object: K) {
        let Some((last, others)) = self.0.split_last() else { return };
        for handler in others {
            handler.applied(object.clone());
        }
        last.applied(object);
    }

    fn gone(&self, key: &ObjectKey) {
        self.0.iter().for_each(|handler| handler.gone(key));
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let all: BTreeSet<_> = self.0.iter().flat_map(EventHandler::keys).collect();
        all.into_iter().collect()
    }

    fn complete(&self) {
        self.0.iter().for_each(EventHandler::complete);
    }
}

/// Calls all handlers with one shared copy of the object, after the function has removed unused fields.
pub struct Shared<K>(pub FanOut<Arc<K>>, pub fn(&mut K));

impl<K> EventHandler<K> for Shared<K> {
    fn applied(&self, mut object: K) {
        (self.1)(&mut object);
        self.0.applied(Arc::new(object));
    }

    fn gone(&self, key: &ObjectKey) {
        self.0.gone(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.0.keys()
    }

    fn complete(&self) {
        self.0.complete();
    }
}

impl<K, F: EventHandler<K> + ?Sized> EventHandler<K> for Arc<F> {
    fn applied(&self, object: K) {
        self.as_ref().applied(object);
    }

    fn gone(&self, key: &ObjectKey) {
        self.as_ref().gone(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.as_ref().keys()
    }

    fn complete(&self) {
        self.as_ref().complete();
    }
}
