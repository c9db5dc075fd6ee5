//! The documents beside the store, in a folder: each a file that begins with its version in a line of its own.

use ajar_access::ports::blobs::{Blob, BlobName, Blobs, check_text};
use ajar_access::ports::store::{Etag, StoreError};
use async_trait::async_trait;
use std::io::{Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Blobs in a folder of this machine. Cheap to clone; all clones are one. As with the store's file, one process at a
/// time may use it: the store's own lock, which is taken first, makes sure of that.
#[derive(Debug, Clone)]
pub struct BlobFolder {
    folder: Arc<PathBuf>,
    /// Held while a blob is compared and replaced.
    writing: Arc<Mutex<()>>,
}

impl BlobFolder {
    /// The folder at `path`, which is made by the first write.
    pub fn new(path: impl AsRef<Path>) -> BlobFolder {
        BlobFolder { folder: Arc::new(path.as_ref().to_owned()), writing: Arc::default() }
    }

    /// The folder that belongs to the store in `file`: `ajar.db` has `ajar.db.blobs`.
    pub fn beside(file: impl AsRef<Path>) -> BlobFolder {
        let mut path = file.as_ref().as_os_str().to_owned();
        path.push(".blobs");
        BlobFolder::new(PathBuf::from(path))
    }

    fn path(&self, name: &BlobName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&BlobFolder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = self.clone();
        tokio::task::spawn_blocking(move || work(&folder)).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable {
                reason: format!("the blobs' thread failed: {error}"),
                retry_after: None,
            })
        })
    }

    fn replace(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, StoreError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(name);
        let found = read(&path)?;
        if found.as_ref().map(|blob| &blob.etag) != before {
            return Err(StoreError::Conflict);
        }
        let version = found.as_ref().and_then(|blob| blob.etag.0.parse::<u64>().ok()).unwrap_or(0) + 1;
        let write = || -> Result<(), Error> {
            let folder = path.parent().unwrap_or(&self.folder);
            std::fs::create_dir_all(folder)?;
            let draft = path.with_extension("draft");
            let mut file = private(&draft)?;
            write!(file, "{version}\n{text}")?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            // The new name outlives a loss of power only once the folder is on the disk.
            std::fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| unavailable(&path, &error))?;
        Ok(Etag(version.to_string()))
    }
}

fn unavailable(path: &Path, error: &Error) -> StoreError {
    let reason = format!("the file {} cannot be used: {error}", path.display());
    StoreError::Unavailable { reason, retry_after: None }
}

/// A file for its owner's eyes only, empty.
fn private(path: &Path) -> Result<std::fs::File, Error> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn read(path: &Path) -> Result<Option<Blob>, StoreError> {
    let content = match std::fs::read_to_string(path) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unavailable(path, &error)),
    };
    let parts = content.split_once('\n').filter(|(version, _)| version.parse::<u64>().is_ok());
    let (version, text) = parts.ok_or_else(|| {
        unavailable(path, &Error::new(ErrorKind::InvalidData, "its first line is no version"))
    })?;
    Ok(Some(Blob { etag: Etag(version.to_owned()), text: text.to_owned() }))
}

#[async_trait]
impl Blobs for BlobFolder {
    async fn read(&self, name: &BlobName) -> Result<Option<Blob>, StoreError> {
        let name = name.clone();
        self.blocking(move |folder| read(&folder.path(&name))).await
    }

    async fn write(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, StoreError> {
        check_text(text)?;
        let (name, text, before) = (name.clone(), text.to_owned(), before.cloned());
        self.blocking(move |folder| folder.replace(&name, &text, before.as_ref())).await
    }
}
