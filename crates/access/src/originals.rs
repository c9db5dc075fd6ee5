//! Rules of other people as they were before Ajar moved them: in a row of the point, for planning, and in a blob beside the
//! tables, for whoever puts them back when the tables are lost (`ajar drain`).

use crate::Ajar;
use crate::document::{Document, decode_text, encode};
use crate::error::AccessError;
use crate::point::{self, Originals, PointRows};
use crate::ports::blobs::BlobName;
use ajar_network::plan::{OriginalRule, Plan};
use ajar_network::resource_id::ResourceId;
use serde::{Deserialize, Serialize};

impl Originals {
    /// With those of `older` whose rules it does not have.
    fn and(mut self, older: &Originals) -> Originals {
        let is_new =
            |old: &&OriginalRule| !self.rules.iter().any(|rule| rule.name.eq_ignore_ascii_case(&old.name));
        let older_rules: Vec<_> = older.rules.iter().filter(is_new).cloned().collect();
        self.rules.extend(older_rules);
        self.flush_connection = self.flush_connection.or(older.flush_connection);
        self
    }

    /// Without what `before` has and `after` has not.
    fn without_what_left(mut self, before: &Originals, after: &Originals) -> Originals {
        let has = |all: &Originals, rule: &OriginalRule| {
            all.rules.iter().any(|other| other.name.eq_ignore_ascii_case(&rule.name))
        };
        self.rules.retain(|rule| !has(before, rule) || has(after, rule));
        if after.flush_connection.is_none() && before.flush_connection.is_some() {
            self.flush_connection = None;
        }
        self
    }
}

/// The copy of a point's originals beside the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginalsCopy {
    /// The point: the blob's name does not tell it.
    pub point: ResourceId,
    /// Rules of other people as they were before Ajar moved them.
    pub rules: Vec<OriginalRule>,
    /// `flushConnection` as it was before Ajar set it, if it did.
    pub flush_connection: Option<bool>,
}

impl Document for OriginalsCopy {
    const VERSION: u32 = 1;
    const NAME: &'static str = "copy of originals";
}

impl OriginalsCopy {
    /// Reads the text of a copy.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<OriginalsCopy, String> {
        decode_text(text, "of one enforcement point").map_err(|error| error.log_text())
    }
}

fn of_plan(planned: &Plan) -> Originals {
    Originals { rules: planned.originals.clone(), flush_connection: planned.original_flush_connection }
}

fn of_rows(rows: &PointRows) -> Originals {
    rows.originals.as_ref().map(|stored| stored.content.clone()).unwrap_or_default()
}

/// Before a write: what it moves is kept beside what was moved before, first in the blob.
pub(crate) async fn keep_before_a_write(
    ajar: &Ajar,
    point: &ResourceId,
    rows: &PointRows,
    planned: &Plan,
) -> Result<(), AccessError> {
    let before = of_rows(rows);
    let wanted = of_plan(planned).and(&before);
    if wanted == before {
        return Ok(());
    }
    // What the copy has and the tables have not is of tables that were lost: whatever was moved in their time is older.
    copy(ajar, point, |kept| kept.and(&wanted)).await?;
    write(ajar, point, rows, &wanted).await
}

/// After it was read back: only what is still moved is kept, and beside the tables also what they never knew of.
pub(crate) async fn keep_what_is_still_moved(
    ajar: &Ajar,
    point: &ResourceId,
    rows: &PointRows,
    planned: &Plan,
) -> Result<(), AccessError> {
    let (before, wanted) = (of_rows(rows), of_plan(planned));
    if wanted == before {
        return Ok(());
    }
    copy(ajar, point, |kept| kept.and(&wanted).without_what_left(&before, &wanted)).await?;
    write(ajar, point, rows, &wanted).await
}

async fn write(
    ajar: &Ajar,
    point: &ResourceId,
    rows: &PointRows,
    originals: &Originals,
) -> Result<(), AccessError> {
    let before = rows.originals.as_ref().map(|stored| stored.etag.clone());
    point::write_originals(ajar, point, originals, before).await
}

async fn copy(
    ajar: &Ajar,
    point: &ResourceId,
    change: impl FnOnce(Originals) -> Originals,
) -> Result<(), AccessError> {
    let name = BlobName::originals(point);
    let found = ajar.ports.blobs.read(&name).await?;
    let kept = match &found {
        Some(blob) => {
            let OriginalsCopy { rules, flush_connection, .. } = decode_text(&blob.text, name.as_str())?;
            Originals { rules, flush_connection }
        }
        None => Originals::default(),
    };
    let changed = change(kept.clone());
    if changed == kept && found.is_some() {
        return Ok(());
    }
    let Originals { rules, flush_connection } = changed;
    let text = encode(&OriginalsCopy { point: point.clone(), rules, flush_connection })?;
    ajar.ports.blobs.write(&name, &text, found.map(|blob| blob.etag).as_ref()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn originals(rules: &[(&str, u16)], flush_connection: Option<bool>) -> Originals {
        let rule = |&(name, priority): &(&str, u16)| OriginalRule {
            name: name.to_owned(),
            priority,
            rule: json!({ "name": name }),
        };
        Originals { rules: rules.iter().map(rule).collect(), flush_connection }
    }

    #[test]
    fn what_was_kept_first_stays() {
        let kept = originals(&[("a", 100)], Some(false));
        let both = kept.and(&originals(&[("A", 4000), ("b", 101)], Some(true)));
        assert_eq!(both, originals(&[("a", 100), ("b", 101)], Some(false)));
    }

    #[test]
    fn only_what_the_tables_knew_of_leaves_the_copy() {
        let kept = originals(&[("lost", 100), ("back", 101), ("moved", 102)], Some(false));
        let before = originals(&[("back", 101), ("moved", 102)], Some(false));
        let after = originals(&[("moved", 102)], None);
        assert_eq!(
            kept.clone().without_what_left(&before, &after),
            originals(&[("lost", 100), ("moved", 102)], None)
        );
        let never_known = originals(&[("back", 101), ("moved", 102)], None);
        assert_eq!(kept.without_what_left(&never_known, &after).flush_connection, Some(false));
    }
}
