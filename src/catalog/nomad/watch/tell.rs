//! What the watcher tells besides services: which rights the token lacks, and why it reads as it does.

use super::Watch;
use crate::catalog::believe::shown;
use std::collections::BTreeSet;

impl Watch {
    pub(super) fn notes(&self) {
        let refused = self
            .refused
            .iter()
            .map(|reason| format!("{reason}; reading by list: a change costs a read of every routed service"));
        let broken = self.broken.iter().map(|(key, error)| format!("service `{}`: {error}", shown(key)));
        self.publisher.notes(refused.chain(broken).collect());
    }

    pub(super) fn lack(&mut self, lacking: bool) {
        self.lacking = lacking;
        self.rights();
    }

    pub(super) fn rights(&self) {
        let all = self.lacking.then(|| self.paths.namespace());
        let namespaces: BTreeSet<&str> =
            all.into_iter().chain(self.forbidden.iter().map(|key| &*key.namespace)).collect();
        self.publisher.rights(namespaces.into_iter().map(needs).collect());
    }
}

fn needs(namespace: &str) -> String {
    format!("namespace \"{namespace}\" needs `read-job`")
}
