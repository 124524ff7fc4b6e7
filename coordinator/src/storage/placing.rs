//! Tells the append-server how repositories are kept.

use append_server::fan_out::queue::placing::{Keeping, KeptAt};
use formats::ids::RepositoryId;
use formats::wire::placing::{AskedPlaces, PATH_PLACING, PLACED_REPOSITORIES_MAX, Placing};
use hyper::Method;

use crate::storage::client::{StorageClient, request, small_body};
use crate::storage::error::{StorageError, Subject};

impl StorageClient {
    /// Says how repositories are kept, from now on and for good; without anything, that nobody writes to them any more.
    pub async fn place(
        &self,
        repositories: &[RepositoryId],
        keeping: Option<&Keeping>,
    ) -> Result<(), StorageError> {
        let at_once = usize::try_from(PLACED_REPOSITORIES_MAX).unwrap_or(usize::MAX);
        let mut repositories = repositories.to_vec();
        repositories.sort_unstable();
        repositories.dedup();
        for repositories in repositories.chunks(at_once) {
            let placing = Placing {
                repositories: repositories.to_vec(),
                asked: keeping.map(asked),
            };
            let subject = Subject::Destinations;
            let request = request(Method::POST, PATH_PLACING, placing.encode().into());
            let answer = self.send(request, &subject).await?;
            small_body(answer, &subject).await?;
        }
        Ok(())
    }
}

fn asked(keeping: &Keeping) -> AskedPlaces {
    AskedPlaces {
        destinations: names(&keeping.kept_at),
        copies: keeping.copies,
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
