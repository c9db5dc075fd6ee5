//! Opening the file.

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};
use std::path::{Path, PathBuf};

/// Facts about the file itself, by name.
pub(crate) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about-this-file");

/// In [`ABOUT`]: how rows are laid out.
const LAYOUT: &str = "layout";

/// In [`ABOUT`]: the last etag given to any row.
pub(crate) const LAST_ETAG: &str = "last-etag";

/// The layout that this version reads and writes.
const THIS_LAYOUT: u64 = 1;

/// Why a file could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another store, mostly of another process, holds the file.
    #[error(
        "the store file {path} is in use by another process: only one process at a time can use it, so stop \
         the other one, give this one a file of its own, or use Table Storage, which many can share"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be made, read or written.
    #[error("the store file {path} cannot be used: {source}; choose a path that this user may write to")]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is of another format, or damaged.
    #[error(
        "the file {path} is not a store of this version of Ajar, or is damaged ({reason}): put a backup in its \
         place, or move it away to begin with an empty store"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
}

/// Opens the file at `path` and brings it into being as needed.
pub(crate) fn open(path: &Path) -> Result<Database, OpenError> {
    let inaccessible = |source| OpenError::Inaccessible { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(inaccessible)?;
    }
    make_private(path).map_err(inaccessible)?;
    // Without the check, redb panics on a file that something else damaged.
    let database =
        Database::builder().set_check_integrity_on_open(true).create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
            DatabaseError::Storage(StorageError::Io(source)) => misread(path, source),
            other => OpenError::Unreadable { path: path.to_owned(), reason: other.to_string() },
        })?;
    match prepare(&database) {
        Ok(THIS_LAYOUT) => Ok(database),
        Ok(other) => Err(OpenError::Unreadable {
            path: path.to_owned(),
            reason: format!("its layout is {other}, this version knows {THIS_LAYOUT}"),
        }),
        Err(error) => Err(OpenError::Unreadable { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// redb reports a file of a foreign format as invalid data, and one cut short as an unexpected end.
fn misread(path: &Path, source: std::io::Error) -> OpenError {
    match source.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
            OpenError::Unreadable { path: path.to_owned(), reason: source.to_string() }
        }
        _ => OpenError::Inaccessible { path: path.to_owned(), source },
    }
}

/// Makes the file, for its owner's eyes only, if it is not there.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The layout of the file; a new one gets this version's.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let known = match database.begin_read()?.open_table(ABOUT) {
        Ok(about) => about.get(LAYOUT)?.map(|layout| layout.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(layout) = known {
        return Ok(layout);
    }
    let write = database.begin_write()?;
    write.open_table(ABOUT)?.insert(LAYOUT, THIS_LAYOUT)?;
    write.commit()?;
    Ok(THIS_LAYOUT)
}
