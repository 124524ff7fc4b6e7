//! Tells the append-server where repositories are kept.

use append_server::fan_out::queue::placing::KeptAt;
use formats::ids::RepositoryId;
use formats::wire::upload::{PATH_PLACING, PLACED_REPOSITORIES_MAX, Placing};
use hyper::Method;

use crate::storage::client::{StorageClient, request, small_body};
use crate::storage::error::{StorageError, Subject};

impl StorageClient {
    /// Says where repositories are kept, from now on and for good.
    pub async fn place(
        &self,
        repositories: &[RepositoryId],
        kept_at: &KeptAt,
    ) -> Result<(), StorageError> {
        let at_once = usize::try_from(PLACED_REPOSITORIES_MAX).unwrap_or(usize::MAX);
        let mut repositories = repositories.to_vec();
        repositories.sort_unstable();
        repositories.dedup();
        for repositories in repositories.chunks(at_once) {
            let placing = Placing {
                repositories: repositories.to_vec(),
                destinations: names(kept_at),
            };
            let subject = Subject::Destinations;
            let request = request(Method::POST, PATH_PLACING, placing.encode().into());
            let answer = self.send(request, &subject).await?;
            small_body(answer, &subject).await?;
        }
        Ok(())
    }
}

fn names(kept_at: &KeptAt) -> Option<Vec<String>> {
    let KeptAt::These(names) = kept_at else {
        return None;
    };
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}
