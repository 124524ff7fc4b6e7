//! The client of the append-server's control socket. Every answer's length is bounded before it is read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use append_server::answer::chain;
use append_server::destination::{
    ByteRange, DestinationError, DestinationName, ObjectKey, ObjectRead,
};
use append_server::server::ObjectReader;
use bytes::{Bytes, BytesMut};
use formats::ids::{PackId, RepositoryId, RunId};
use formats::limits::{PACK_BYTES_MAX, SMALL_BODY_BYTES_MAX};
use formats::object::{ObjectKind, ObjectName};
use formats::wire::upload::objects::{OBJECT_NAME_BYTES_MAX, OBJECT_PAGE_MAX, ObjectPage};
use formats::wire::upload::refusal::Refusal;
use formats::wire::upload::{OpenRun, PATH_REPOSITORIES, PATH_RUNS, Stored};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, RANGE};
use hyper::{Method, Request, StatusCode};
use tokio::time::timeout;

use crate::storage::connection::{Answer, Lease, Pool};
use crate::storage::error::{StorageError, Subject};

/// How long the server may take to begin an answer: it may have to sync much data first.
const ANSWER_DEADLINE: Duration = Duration::from_secs(300);
/// How long it may take to bring the next piece of a body.
const PIECE_DEADLINE: Duration = Duration::from_secs(60);
/// The most bytes of a listing's page.
pub(super) const PAGE_BYTES_MAX: u64 = OBJECT_PAGE_MAX * (OBJECT_NAME_BYTES_MAX + 12) + 16;

/// Which part of an object to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRange {
    /// All of it.
    All,
    /// From here to its end.
    From(u64),
    /// This many bytes from `start`; fewer when the object ends before.
    Part {
        /// The first byte.
        start: u64,
        /// How many.
        bytes: u64,
    },
}

/// The append-server, by its control socket. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct StorageClient {
    pub(super) pool: Arc<Pool>,
    /// Reads objects when the server is in this process: every pack is read back, and a socket in between costs
    /// two copies of each.
    reader: Option<ObjectReader>,
    /// The only destination that is read, if not all.
    from: Option<DestinationName>,
    /// The destinations that can be read one by one.
    destinations: Arc<[DestinationName]>,
}

/// A stream of an object's bytes.
pub type ObjectStream = BoxStream<'static, Result<Bytes, StorageError>>;

impl StorageClient {
    /// Talks to the server at this socket. Connects when something is asked.
    pub fn new(control_socket: &Path) -> Self {
        Self {
            pool: Pool::new(control_socket),
            reader: None,
            from: None,
            destinations: Arc::default(),
        }
    }

    /// Talks to the server of this process: reads objects directly, and asks everything else at the socket.
    pub fn embedded(control_socket: &Path, reader: ObjectReader) -> Self {
        Self {
            pool: Pool::new(control_socket),
            reader: Some(reader),
            from: None,
            destinations: Arc::default(),
        }
    }

    /// The same storage, with the names of its destinations.
    pub fn with_destinations(self, destinations: Vec<DestinationName>) -> Self {
        Self {
            destinations: destinations.into(),
            ..self
        }
    }

    /// The same storage, read at one destination alone.
    pub fn at(&self, destination: &DestinationName) -> Self {
        Self {
            from: Some(destination.clone()),
            destinations: Arc::default(),
            ..self.clone()
        }
    }

    /// The destination that is read, if it is one alone.
    pub fn destination(&self) -> Option<&DestinationName> {
        self.from.as_ref()
    }

    /// Its destinations' names; none when it is read at one alone.
    pub fn destination_names(&self) -> &[DestinationName] {
        &self.destinations
    }

    /// The same storage at each of its destinations alone; none when it is read at one already.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.destinations.iter().map(|name| self.at(name))
    }

    /// Opens a run's right to append data packs.
    pub async fn open_run(&self, open: &OpenRun) -> Result<(), StorageError> {
        let subject = Subject::Run(open.run);
        let request = request(Method::POST, PATH_RUNS, open.encode().into());
        let answer = self.send(request, &subject).await?;
        small_body(answer, &subject).await.map(drop)
    }

    /// Ends a run's grant. When this returns, nothing of the run can be stored any more.
    pub async fn close_run(&self, run: RunId) -> Result<(), StorageError> {
        let subject = Subject::Run(run);
        let path = format!("{PATH_RUNS}/{run}");
        let request = request(Method::DELETE, &path, Bytes::new());
        let answer = self.send(request, &subject).await?;
        small_body(answer, &subject).await.map(drop)
    }

    /// Reads an object or a part of it, at most `bytes_max`; one that is longer is an error.
    pub async fn get(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        range: ReadRange,
        bytes_max: u64,
    ) -> Result<Bytes, StorageError> {
        let subject = Subject::Object(repository, name.clone());
        let reading = self
            .begin_read(subject, repository, name, range, bytes_max)
            .await?;
        reading.collect().await
    }

    /// Reads an object or a part of it as it comes, and ends with an error after `bytes_max`, or when fewer
    /// bytes came than were announced. Gives how many that is, too.
    pub async fn get_stream(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        range: ReadRange,
        bytes_max: u64,
    ) -> Result<(u64, ObjectStream), StorageError> {
        let subject = Subject::Object(repository, name.clone());
        let reading = self
            .begin_read(subject, repository, name, range, bytes_max)
            .await?;
        let bytes = reading
            .announced
            .ok_or_else(|| wrong(&reading.subject, "its size is missing"))?;
        Ok((bytes, stream::try_unfold(reading, Reading::next).boxed()))
    }

    /// An object's bytes.
    pub async fn head(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
    ) -> Result<u64, StorageError> {
        let subject = Subject::Object(repository, name.clone());
        let path = self.object_path(repository, name);
        let request = request(Method::HEAD, &path, Bytes::new());
        let answer = self.send(request, &subject).await?;
        let Answer { response, lease } = answer;
        let status = response.status();
        let bytes = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        lease.give_back();
        match (status, bytes) {
            (StatusCode::OK, Some(bytes)) => Ok(bytes),
            (StatusCode::OK, None) => Err(wrong(&subject, "its size is missing")),
            (StatusCode::NOT_FOUND, _) => Err(StorageError::Absent { subject }),
            // The answer to HEAD has no body that would say more.
            (status, _) => Err(StorageError::Failed {
                subject,
                text: format!("status {status}; the append-server's log says why"),
            }),
        }
    }

    /// Creates an object that is not a data pack, durably. The same bytes again are a success (`existed`);
    /// other bytes are [`StorageError::Conflict`].
    pub async fn put(
        &self,
        repository: RepositoryId,
        name: &ObjectName,
        bytes: Bytes,
    ) -> Result<Stored, StorageError> {
        let subject = Subject::Object(repository, name.clone());
        let digest = PackId(*blake3::hash(&bytes).as_bytes());
        let length = bytes.len() as u64;
        let request = request(Method::PUT, &object_path(repository, name), bytes);
        let answer = self.send(request, &subject).await?;
        let body = small_body(answer, &subject).await?;
        let stored = Stored::decode(&body).map_err(|source| StorageError::Decode {
            subject: subject.clone(),
            source,
        })?;
        if stored.digest != digest || stored.bytes != length {
            return Err(wrong(&subject, "it stored other bytes than were sent"));
        }
        Ok(stored)
    }

    /// All objects of a folder with their sizes, in byte order of names.
    pub async fn list(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
    ) -> Result<Vec<(ObjectName, u64)>, StorageError> {
        let mut objects = Vec::new();
        let mut after = None;
        loop {
            let (page, more) = self.list_page(repository, kind, after.as_ref()).await?;
            objects.extend(page);
            if !more {
                return Ok(objects);
            }
            after = objects
                .last()
                .map(|(name, _): &(ObjectName, u64)| name.clone());
        }
    }

    /// One page of a folder after a name, and whether there are more.
    pub async fn list_page(
        &self,
        repository: RepositoryId,
        kind: ObjectKind,
        after: Option<&ObjectName>,
    ) -> Result<(Vec<(ObjectName, u64)>, bool), StorageError> {
        let subject = Subject::Folder(repository, kind);
        let mut path = format!("{PATH_REPOSITORIES}/{repository}?kind={}", kind.folder());
        if let Some(after) = after {
            // A name has no character that a query could mistake.
            path.push_str("&after=");
            path.push_str(&after.to_string());
        }
        if let Some(from) = &self.from {
            path.push_str(&format!("&destination={from}"));
        }
        let request = request(Method::GET, &path, Bytes::new());
        let answer = self.send(request, &subject).await?;
        let body = collect(answer, &subject, PAGE_BYTES_MAX).await?;
        let page = ObjectPage::decode(&body).map_err(|source| StorageError::Decode {
            subject: subject.clone(),
            source,
        })?;
        check_page(&page, kind, after, &subject)
    }

    async fn begin_read(
        &self,
        subject: Subject,
        repository: RepositoryId,
        name: &ObjectName,
        range: ReadRange,
        bytes_max: u64,
    ) -> Result<Reading, StorageError> {
        let Some(reader) = &self.reader else {
            let answer = self.begin_get(&subject, repository, name, range).await?;
            return Reading::begin(answer, subject, bytes_max);
        };
        let key = ObjectKey {
            repository,
            name: name.clone(),
        };
        let reading = reader.get_range(self.from.as_ref(), &key, range.into());
        match timeout(ANSWER_DEADLINE, reading).await {
            Ok(Ok(read)) => Reading::begin_local(read, subject, bytes_max),
            Ok(Err(refusal)) => Err(StorageError::from_refusal(subject, refusal)),
            Err(_) => Err(StorageError::Deadline {
                subject,
                deadline: ANSWER_DEADLINE,
            }),
        }
    }

    async fn begin_get(
        &self,
        subject: &Subject,
        repository: RepositoryId,
        name: &ObjectName,
        range: ReadRange,
    ) -> Result<Answer, StorageError> {
        let path = self.object_path(repository, name);
        let mut request = request(Method::GET, &path, Bytes::new());
        let header = match range {
            ReadRange::All => None,
            ReadRange::From(start) => Some(format!("bytes={start}-")),
            ReadRange::Part { start, bytes } => {
                let last = start.saturating_add(bytes.max(1)) - 1;
                Some(format!("bytes={start}-{last}"))
            }
        };
        let expected = match header {
            None => StatusCode::OK,
            Some(header) => {
                let value = hyper::header::HeaderValue::from_str(&header);
                let value = value.map_err(|_| wrong(subject, "its range is no header"))?;
                request.headers_mut().insert(RANGE, value);
                StatusCode::PARTIAL_CONTENT
            }
        };
        let answer = self.send(request, subject).await?;
        if !answer.response.status().is_success() {
            return Err(refusal(answer, subject).await);
        }
        if answer.response.status() != expected {
            return Err(wrong(subject, "it is not the range that was asked for"));
        }
        Ok(answer)
    }

    /// The path to read an object at.
    fn object_path(&self, repository: RepositoryId, name: &ObjectName) -> String {
        let path = object_path(repository, name);
        match &self.from {
            Some(from) => format!("{path}?destination={from}"),
            None => path,
        }
    }

    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        subject: &Subject,
    ) -> Result<Answer, StorageError> {
        self.pool.send(request, subject, ANSWER_DEADLINE).await
    }
}

/// The largest object there is: a bound for reads whose object is not known better.
pub const OBJECT_BYTES_MAX: u64 = PACK_BYTES_MAX;

fn object_path(repository: RepositoryId, name: &ObjectName) -> String {
    format!("{PATH_REPOSITORIES}/{repository}/{name}")
}

pub(super) fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "append-server")
        .body(Full::new(body))
        .expect("paths are made of hexadecimal digits and names without special characters")
}

/// A page's names are of its folder, sorted, and after the one that was asked for; else a list could loop.
fn check_page(
    page: &ObjectPage,
    kind: ObjectKind,
    after: Option<&ObjectName>,
    subject: &Subject,
) -> Result<(Vec<(ObjectName, u64)>, bool), StorageError> {
    let mut last = after.map(ToString::to_string);
    let mut objects = Vec::with_capacity(page.objects.len());
    for (text, bytes) in &page.objects {
        let name: ObjectName = text
            .parse()
            .map_err(|_| wrong(subject, "it lists a name that is no object's"))?;
        if name.kind() != kind {
            return Err(wrong(subject, "it lists another folder's object"));
        }
        if last.as_ref().is_some_and(|last| text <= last) {
            return Err(wrong(subject, "its names are not in order"));
        }
        last = Some(text.clone());
        objects.push((name, *bytes));
    }
    if page.more && objects.is_empty() {
        return Err(wrong(subject, "it promises more after an empty page"));
    }
    Ok((objects, page.more))
}

/// A success's small body, or the refusal as an error.
pub(super) async fn small_body(answer: Answer, subject: &Subject) -> Result<Bytes, StorageError> {
    collect(answer, subject, SMALL_BODY_BYTES_MAX as u64).await
}

pub(super) async fn collect(
    answer: Answer,
    subject: &Subject,
    bytes_max: u64,
) -> Result<Bytes, StorageError> {
    if !answer.response.status().is_success() {
        return Err(refusal(answer, subject).await);
    }
    Reading::begin(answer, subject.clone(), bytes_max)?
        .collect()
        .await
}

async fn refusal(answer: Answer, subject: &Subject) -> StorageError {
    let status = answer.response.status();
    let bytes_max = SMALL_BODY_BYTES_MAX as u64;
    let mut reading = match Reading::begin(answer, subject.clone(), bytes_max) {
        Ok(reading) => reading,
        Err(error) => return error,
    };
    let mut body = BytesMut::new();
    loop {
        match reading.next().await {
            Ok(Some((piece, rest))) => {
                body.extend_from_slice(&piece);
                reading = rest;
            }
            Ok(None) => break,
            Err(error) => return error,
        }
    }
    match Refusal::decode(&body) {
        Ok(refusal) => StorageError::from_refusal(subject.clone(), refusal),
        Err(_) => StorageError::Failed {
            subject: subject.clone(),
            text: format!("status {status} without a reason"),
        },
    }
}

/// A body being read, within its bound.
struct Reading {
    source: Source,
    subject: Subject,
    announced: Option<u64>,
    taken: u64,
    bytes_max: u64,
}

/// Where a body comes from.
enum Source {
    Http { body: Incoming, lease: Lease },
    Local(BoxStream<'static, Result<Bytes, DestinationError>>),
}

impl From<ReadRange> for ByteRange {
    fn from(range: ReadRange) -> Self {
        match range {
            ReadRange::All => Self::ALL,
            ReadRange::From(start) => Self { start, bytes: None },
            ReadRange::Part { start, bytes } => Self {
                start,
                bytes: Some(bytes.max(1)),
            },
        }
    }
}

impl Reading {
    fn begin(answer: Answer, subject: Subject, bytes_max: u64) -> Result<Self, StorageError> {
        let body = answer.response.into_body();
        // What is announced is checked before anything is allocated for it.
        if body.size_hint().lower() > bytes_max {
            return Err(StorageError::TooLong { subject, bytes_max });
        }
        Ok(Self {
            announced: body.size_hint().exact(),
            source: Source::Http {
                body,
                lease: answer.lease,
            },
            subject,
            taken: 0,
            bytes_max,
        })
    }

    fn begin_local(
        read: ObjectRead,
        subject: Subject,
        bytes_max: u64,
    ) -> Result<Self, StorageError> {
        if read.bytes > bytes_max {
            return Err(StorageError::TooLong { subject, bytes_max });
        }
        Ok(Self {
            announced: Some(read.bytes),
            source: Source::Local(read.body),
            subject,
            taken: 0,
            bytes_max,
        })
    }

    /// All of it.
    async fn collect(self) -> Result<Bytes, StorageError> {
        let announced = usize::try_from(self.announced.unwrap_or(0)).unwrap_or(0);
        let mut collected = BytesMut::with_capacity(announced);
        let mut reading = self;
        while let Some((piece, rest)) = reading.next().await? {
            collected.extend_from_slice(&piece);
            reading = rest;
        }
        Ok(collected.freeze())
    }

    /// The next piece. At the end the connection goes back to the pool.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StorageError> {
        loop {
            let piece = timeout(PIECE_DEADLINE, self.source.next(&self.subject)).await;
            let piece = piece.map_err(|_| StorageError::Deadline {
                subject: self.subject.clone(),
                deadline: PIECE_DEADLINE,
            })??;
            let Some(piece) = piece else {
                return self.end().map(|()| None);
            };
            if piece.is_empty() {
                continue;
            }
            self.taken += piece.len() as u64;
            if self.taken > self.bytes_max {
                return Err(StorageError::TooLong {
                    subject: self.subject,
                    bytes_max: self.bytes_max,
                });
            }
            return Ok(Some((piece, self)));
        }
    }

    fn end(self) -> Result<(), StorageError> {
        match self.source {
            Source::Http { lease, .. } => lease.give_back(),
            // HTTP's own framing tells this; here it is counted.
            Source::Local(_) if Some(self.taken) != self.announced => {
                return Err(wrong(&self.subject, "it ended early"));
            }
            Source::Local(_) => {}
        }
        Ok(())
    }
}

impl Source {
    /// The next piece, or an empty one for what is no data; none at the end.
    async fn next(&mut self, subject: &Subject) -> Result<Option<Bytes>, StorageError> {
        match self {
            Self::Http { body, .. } => match body.frame().await {
                None => Ok(None),
                Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
                Some(Err(source)) => Err(StorageError::Http {
                    subject: subject.clone(),
                    source,
                }),
            },
            Self::Local(pieces) => match pieces.next().await {
                None => Ok(None),
                Some(Ok(piece)) => Ok(Some(piece)),
                Some(Err(error)) => Err(StorageError::Failed {
                    subject: subject.clone(),
                    text: chain(&error),
                }),
            },
        }
    }
}

pub(super) fn wrong(subject: &Subject, what: &'static str) -> StorageError {
    StorageError::WrongAnswer {
        subject: subject.clone(),
        what,
    }
}
