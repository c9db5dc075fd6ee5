//! How a row is laid out as an entity.

use ajar_access::keys::Key;
use ajar_access::ports::store::{Etag, Row};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt::Write;

/// The layout that this version writes, and the only one it reads, in property `v`.
const LAYOUT: u64 = 1;

/// The most UTF-16 units in a string property: 64 KiB
/// (<https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model>).
const PIECE_UNITS: usize = 32 * 1024;

/// An entity as the service sends it.
pub(crate) type Entity = Map<String, Value>;

/// Why an entity is no row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntityError {
    #[error(
        "a row has layout {0}, but this version reads {LAYOUT}: a newer version wrote it, deploy that one"
    )]
    Layout(String),
    #[error("a row has no usable {0}: something else than Ajar wrote to its tables")]
    Property(&'static str),
}

/// The JSON text of the entity that holds `document`.
///
/// # Errors
/// None that a document can cause; serialising is fallible by its type only.
pub(crate) fn to_json(
    partition: &Key,
    row: &Key,
    document: &str,
) -> Result<Box<RawValue>, serde_json::Error> {
    let mut entity = Map::new();
    entity.insert("PartitionKey".to_owned(), partition.as_str().into());
    entity.insert("RowKey".to_owned(), row.as_str().into());
    entity.insert("v".to_owned(), LAYOUT.into());
    for (number, piece) in pieces(document).enumerate() {
        entity.insert(format!("d{number}"), piece.into());
    }
    RawValue::from_string(ascii(&serde_json::to_string(&entity)?))
}

/// `json` with everything beyond ASCII, which only its strings hold, as escapes.
///
/// Azurite 3.35 makes text of each piece of a request as it comes from the network, which breaks a character that
/// lies across two pieces, and looks for JSON in a batch with an expression that stops at U+2028. The same bytes
/// for Azure, that what is tested is what runs.
fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// The row that `entity` holds.
///
/// # Errors
/// When this version of Ajar did not write it.
pub(crate) fn to_row(mut entity: Entity) -> Result<Row, EntityError> {
    match entity.get("v") {
        Some(layout) if layout.as_u64() == Some(LAYOUT) => {}
        Some(other) => return Err(EntityError::Layout(other.to_string())),
        None => return Err(EntityError::Property("v")),
    }
    let partition = key(&entity, "PartitionKey")?;
    let row = key(&entity, "RowKey")?;
    let etag = text(&mut entity, "odata.etag").map(Etag).ok_or(EntityError::Property("odata.etag"))?;
    let mut document = text(&mut entity, "d0").ok_or(EntityError::Property("d0"))?;
    let mut number = 1;
    while let Some(piece) = text(&mut entity, &format!("d{number}")) {
        document.push_str(&piece);
        number += 1;
    }
    Ok(Row { partition, row, etag, document })
}

fn text(entity: &mut Entity, name: &str) -> Option<String> {
    match entity.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn key(entity: &Entity, name: &'static str) -> Result<Key, EntityError> {
    entity.get(name).and_then(Value::as_str).and_then(Key::from_stored).ok_or(EntityError::Property(name))
}

/// `document` cut into pieces that a property holds, between characters; one empty piece when it is empty.
fn pieces(document: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(document);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut units = 0;
        let end = text.char_indices().find_map(|(place, character)| {
            units += character.len_utf16();
            (units > PIECE_UNITS).then_some(place)
        });
        match end.and_then(|end| text.split_at_checked(end)) {
            Some((piece, more)) => {
                rest = Some(more);
                Some(piece)
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> usize {
        text.encode_utf16().count()
    }

    fn cut(document: &str) -> Vec<usize> {
        let cut: Vec<&str> = pieces(document).collect();
        assert_eq!(cut.concat(), document);
        cut.into_iter().map(units).collect()
    }

    #[test]
    fn a_document_is_cut_into_the_fewest_pieces_that_a_property_holds() {
        assert_eq!(cut(""), [0]);
        assert_eq!(cut(&"x".repeat(PIECE_UNITS)), [PIECE_UNITS]);
        assert_eq!(cut(&"é".repeat(PIECE_UNITS + 1)), [PIECE_UNITS, 1]);
        assert_eq!(cut(&"語".repeat(2 * PIECE_UNITS)), [PIECE_UNITS, PIECE_UNITS]);
    }

    #[test]
    fn a_pair_of_units_is_never_cut() {
        assert_eq!(cut(&format!("{}😀", "x".repeat(PIECE_UNITS - 1))), [PIECE_UNITS - 1, 2]);
        assert_eq!(cut(&format!("{}😀x", "x".repeat(PIECE_UNITS - 2))), [PIECE_UNITS, 1]);
    }

    fn entity(changed: &[(&str, Value)]) -> Entity {
        let json = to_json(&Key::new(["p"]), &Key::new(["r"]), "{}").unwrap();
        let mut entity: Entity = serde_json::from_str(json.get()).unwrap();
        entity.insert("odata.etag".to_owned(), "W/\"1\"".into());
        for (name, value) in changed {
            entity.insert((*name).to_owned(), value.clone());
        }
        entity
    }

    #[test]
    fn a_row_reads_back() {
        let row = to_row(entity(&[])).unwrap();
        assert_eq!((row.partition.as_str(), row.row.as_str(), row.document.as_str()), ("p", "r", "{}"));
        assert_eq!(row.etag, Etag("W/\"1\"".to_owned()));
    }

    #[test]
    fn what_is_sent_is_ascii_and_means_the_same() {
        let document = "\"é語😀\u{2028}\u{7f}\\u00e9\"";
        let json = to_json(&Key::new(["p"]), &Key::new(["r"]), document).unwrap();
        assert!(json.get().is_ascii(), "{json}");
        let entity: Entity = serde_json::from_str(json.get()).unwrap();
        assert_eq!(entity.get("d0"), Some(&Value::String(document.to_owned())));
    }

    #[test]
    fn an_entity_that_this_version_did_not_write_is_an_error() {
        assert_eq!(to_row(entity(&[("v", 2.into())])), Err(EntityError::Layout("2".to_owned())));
        assert_eq!(to_row(entity(&[("d0", 7.into())])), Err(EntityError::Property("d0")));
        assert_eq!(to_row(entity(&[("RowKey", "a/b".into())])), Err(EntityError::Property("RowKey")));
        let mut foreign = entity(&[]);
        foreign.remove("v");
        assert_eq!(to_row(foreign), Err(EntityError::Property("v")));
    }
}
