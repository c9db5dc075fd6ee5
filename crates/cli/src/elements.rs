//! Splits JSON into its elements in one pass and bounded memory, without understanding them.
//!
//! An element is what a list holds, or a whole document that is no list. The lists are: a document, the `value` of an
//! ARM list, the `data` of a Resource Graph result. Only brackets and quotes are looked at, so that the parts after
//! a bad element are found, whatever is wrong with it, and no nesting is too deep.

use std::io::{ErrorKind, Read};

use memchr::{memchr, memchr_iter, memchr3};

use crate::place::Place;

/// The longest element that is read. The largest NSG Azure allows takes about 2 MB, the largest template 4 MB.
pub(crate) const LONGEST_ELEMENT: usize = 16 << 20;

/// The keys of ARM and Resource Graph whose lists hold the elements.
const LISTS: [&[u8]; 2] = [b"\"value\"", b"\"data\""];

/// The keys by which ARM, `az graph query` and Resource Graph say that more pages follow.
const MORE_PAGES: [&[u8]; 4] =
    [b"\"nextLink\"", b"\"skip_token\"", b"\"$skipToken\"", b"\"@odata.nextLink\""];

/// How many bytes an error shows.
const EXCERPT: usize = 12;

const CHUNK: usize = 128 << 10;

/// What is found in the input, in its order.
pub(crate) enum Piece<'a> {
    /// An element, balanced in its brackets; nothing else is known of it.
    Element(Element<'a>),
    /// Something that is no element of anything.
    Broken { place: Place, problem: String },
}

/// Where an element is, and its text.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) place: Place,
}

/// How the scan of a value ended.
enum Scan {
    Whole,
    TooLong,
    CutOff,
    /// A line ends inside a string, or a line of JSON lines ends too early.
    LineEnds,
}

struct Splitter<'v, R, E> {
    reader: R,
    chunk: Vec<u8>,
    buffer: Vec<u8>,
    /// What is before is done with.
    start: usize,
    at: usize,
    /// The place of `start`.
    place: Place,
    /// Whether the last document was on one line: then a value that a line leaves open ends with it.
    lines: bool,
    /// Whether the last document says that it is one page of several.
    more_pages: bool,
    visit: &'v mut dyn FnMut(Piece<'_>) -> Result<(), E>,
}

/// Why splitting ended early.
#[derive(Debug)]
pub(crate) enum Stopped<E> {
    /// The input cannot be read.
    Unreadable(std::io::Error),
    /// The visitor wants no more.
    Visitor(E),
}

/// Reads all of the input and shows its pieces.
pub(crate) fn split<R: Read, E>(
    reader: R,
    visit: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    Splitter {
        reader,
        chunk: vec![0; CHUNK],
        buffer: Vec::with_capacity(2 * CHUNK),
        start: 0,
        at: 0,
        place: Place::FIRST,
        lines: false,
        more_pages: false,
        visit,
    }
    .documents()
}

impl<R: Read, E> Splitter<'_, R, E> {
    fn documents(&mut self) -> Result<(), Stopped<E>> {
        while self.buffer.len() < 3 && self.fill()? {}
        if self.buffer.starts_with(b"\xEF\xBB\xBF") {
            self.at = 3;
            self.start = 3;
        } else if self.buffer.starts_with(b"\xFF\xFE") || self.buffer.starts_with(b"\xFE\xFF") {
            return self.broken("this is UTF-16, as `>` of Windows PowerShell writes it; write UTF-8 with `| Out-File -Encoding utf8`".to_owned());
        }
        let mut any = false;
        let mut last = self.here();
        while let Some(byte) = self.next_token()? {
            any = true;
            last = self.here();
            let line = last.line;
            self.more_pages = false;
            let intact = match byte {
                b'[' => self.list()?,
                b'{' => self.object()?,
                _ => {
                    let found = self.excerpt()?;
                    self.broken(format!("expected a JSON object or list, found `{found}`"))?;
                    false
                }
            };
            if intact {
                self.lines = self.here().line == line;
            } else if self.here().line == line || self.lines {
                // One line of JSON lines may be bad and the next good. Of a document over several lines nobody
                // can tell what the rest belongs to.
                // The scan may have ended on the first byte of the line after.
                let here = self.here();
                if here.line == line || here.column > 1 {
                    self.skip_line()?;
                }
            } else {
                return Ok(());
            }
        }
        if self.more_pages {
            // What is on the other pages must not count as closed.
            return self.tell(
                last,
                "this is one page of a list and more follow (`nextLink` or `skip_token`); fetch them too"
                    .to_owned(),
            );
        }
        if any { Ok(()) } else { self.broken("the input is empty".to_owned()) }
    }

    /// The elements of a list. False: it does not end as it should.
    fn list(&mut self) -> Result<bool, Stopped<E>> {
        let opened = self.here();
        self.at += 1;
        let mut wants_comma = false;
        let mut after_comma = false;
        loop {
            match self.next_token()? {
                None => {
                    self.broken(format!(
                        "the input ends inside the list that begins at {opened}: it is cut off"
                    ))?;
                    return Ok(false);
                }
                Some(b']') => {
                    if after_comma {
                        self.broken("a `,` is followed by no element".to_owned())?;
                    }
                    self.at += 1;
                    return Ok(true);
                }
                Some(b',') => {
                    if !wants_comma {
                        self.broken("a `,` without an element before it".to_owned())?;
                    }
                    self.at += 1;
                    (wants_comma, after_comma) = (false, true);
                }
                Some(b'}') => {
                    self.broken("expected an element or `]`, found `}`".to_owned())?;
                    return Ok(false);
                }
                Some(_) => {
                    if wants_comma {
                        self.broken("expected `,` or `]` after an element".to_owned())?;
                    }
                    if !self.element()? {
                        return Ok(false);
                    }
                    (wants_comma, after_comma) = (true, false);
                }
            }
        }
    }

    /// Shows the value that begins here. False: what follows it cannot be told.
    fn element(&mut self) -> Result<bool, Stopped<E>> {
        let place = self.place;
        let scan = self.value(true)?;
        self.show(&scan, place)
    }

    fn show(&mut self, scan: &Scan, place: Place) -> Result<bool, Stopped<E>> {
        match scan {
            Scan::Whole => {
                let bytes = self.buffer.get(self.start..self.at).unwrap_or_default();
                let shown = (self.visit)(Piece::Element(Element { bytes, place }));
                shown.map_err(Stopped::Visitor)?;
                self.let_go();
                Ok(true)
            }
            Scan::TooLong => {
                let megabytes = LONGEST_ELEMENT >> 20;
                self.tell(place, format!("this element is longer than {megabytes} MiB and not read"))?;
                self.let_go();
                Ok(true)
            }
            Scan::CutOff => {
                self.tell(place, "this element does not end: the input is cut off".to_owned())?;
                Ok(false)
            }
            Scan::LineEnds => {
                self.tell(place, "this element is broken off at the end of a line".to_owned())?;
                Ok(false)
            }
        }
    }

    /// A document that is an object: an element itself, unless it holds a list of them.
    fn object(&mut self) -> Result<bool, Stopped<E>> {
        self.let_go();
        let opened = self.place;
        let mut holds_list = false;
        let mut too_long = false;
        self.at += 1;
        loop {
            if holds_list {
                self.let_go();
            } else if self.at - self.start > LONGEST_ELEMENT {
                too_long = true;
                self.let_go();
            }
            // After the list each member stands alone, and so does what is kept.
            let keep = holds_list || !too_long;
            match self.next_kept(keep)? {
                Some(b'}') => {
                    self.at += 1;
                    if holds_list {
                        self.let_go();
                        return Ok(true);
                    }
                    return self.show(&if too_long { Scan::TooLong } else { Scan::Whole }, opened);
                }
                Some(b',') => self.at += 1,
                Some(b'"') => {
                    let from = self.at - self.start;
                    let scan = self.value(keep)?;
                    let key = if matches!(scan, Scan::Whole) && keep {
                        self.buffer.get(self.start + from..self.at).unwrap_or_default()
                    } else {
                        b""
                    };
                    let is_list = LISTS.iter().any(|k| key.eq_ignore_ascii_case(k));
                    let is_more = MORE_PAGES.iter().any(|k| key.eq_ignore_ascii_case(k));
                    if self.next_kept(keep)? == Some(b':') {
                        self.at += 1;
                    } else if matches!(scan, Scan::Whole) {
                        self.broken("expected `:` after a key".to_owned())?;
                        return Ok(false);
                    }
                    let value = match scan {
                        Scan::Whole | Scan::TooLong => self.next_kept(keep)?,
                        Scan::CutOff | Scan::LineEnds => return self.show(&scan, opened),
                    };
                    if is_list && value == Some(b'[') {
                        holds_list = true;
                        self.let_go();
                        if !self.list()? {
                            return Ok(false);
                        }
                        continue;
                    }
                    let from = self.at - self.start;
                    match self.value(keep)? {
                        Scan::Whole => {
                            let value = self.buffer.get(self.start + from..self.at).unwrap_or_default();
                            self.more_pages |= is_more && value.len() > 2 && value.starts_with(b"\"");
                        }
                        Scan::TooLong => too_long = true,
                        scan => return self.show(&scan, opened),
                    }
                }
                None => {
                    self.tell(opened, "this object does not end: the input is cut off".to_owned())?;
                    return Ok(false);
                }
                Some(_) => {
                    let found = self.excerpt()?;
                    self.broken(format!("expected a key in quotes or `}}`, found `{found}`"))?;
                    return Ok(false);
                }
            }
        }
    }

    /// Moves to the end of the value that begins here. What `start` points to is kept if wished and if it fits.
    fn value(&mut self, keep: bool) -> Result<Scan, Stopped<E>> {
        let mut keep = keep;
        let mut depth = 0_usize;
        let mut in_string = false;
        let mut escaped = false;
        let mut is_scalar = false;
        let mut line_ended = false;
        loop {
            if self.at >= self.buffer.len() {
                if self.at - self.start > LONGEST_ELEMENT {
                    keep = false;
                }
                if !keep {
                    self.let_go();
                }
                if !self.fill()? {
                    let whole = is_scalar && depth == 0;
                    return Ok(if whole { done(keep) } else { Scan::CutOff });
                }
            }
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if escaped {
                escaped = false;
                self.at += 1;
                continue;
            }
            if in_string {
                let Some(found) = memchr3(b'"', b'\\', b'\n', rest) else {
                    self.at = self.buffer.len();
                    continue;
                };
                match rest.get(found) {
                    Some(b'\\') => escaped = true,
                    Some(b'"') => {
                        in_string = false;
                        if depth == 0 {
                            self.at += found + 1;
                            return Ok(done(keep));
                        }
                    }
                    _ => {
                        self.at += found;
                        return Ok(Scan::LineEnds);
                    }
                }
                self.at += found + 1;
                continue;
            }
            let mut moved = 0;
            for byte in rest {
                let kind = KINDS.get(usize::from(*byte)).copied().unwrap_or(Kind::Other);
                if line_ended {
                    line_ended = false;
                    if *byte == b'{' {
                        self.at += moved;
                        return Ok(Scan::LineEnds);
                    }
                }
                match kind {
                    Kind::Other => {}
                    Kind::Quote => {
                        in_string = true;
                        moved += 1;
                        break;
                    }
                    Kind::Open => {
                        if is_scalar && depth == 0 {
                            self.at += moved;
                            return Ok(done(keep));
                        }
                        depth += 1;
                    }
                    Kind::Close => {
                        if depth == 0 {
                            self.at += moved;
                            return Ok(done(keep));
                        }
                        depth -= 1;
                        if depth == 0 {
                            self.at += moved + 1;
                            return Ok(done(keep));
                        }
                    }
                    Kind::Between => {
                        if depth == 0 {
                            self.at += moved;
                            return Ok(done(keep));
                        }
                        line_ended = self.lines && *byte == b'\n';
                    }
                }
                is_scalar |= depth == 0;
                moved += 1;
            }
            self.at += moved;
        }
    }

    /// The first byte that is not white space; what was before is let go.
    fn next_token(&mut self) -> Result<Option<u8>, Stopped<E>> {
        let next = self.next_kept(false)?;
        self.let_go();
        Ok(next)
    }

    fn next_kept(&mut self, keep: bool) -> Result<Option<u8>, Stopped<E>> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if let Some(skip) = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
                self.at += skip;
                return Ok(rest.get(skip).copied());
            }
            self.at = self.buffer.len();
            if !keep || self.at - self.start > LONGEST_ELEMENT {
                self.let_go();
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn skip_line(&mut self) -> Result<(), Stopped<E>> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            if let Some(end) = memchr(b'\n', rest) {
                self.at += end + 1;
                self.let_go();
                return Ok(());
            }
            self.at = self.buffer.len();
            self.let_go();
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Forgets what is before this point.
    fn let_go(&mut self) {
        self.place = self.here();
        self.start = self.at;
    }

    fn here(&self) -> Place {
        self.place.after(self.buffer.get(self.start..self.at).unwrap_or_default())
    }

    fn fill(&mut self) -> Result<bool, Stopped<E>> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.at -= self.start;
            self.start = 0;
        }
        let read = loop {
            match self.reader.read(&mut self.chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(Stopped::Unreadable)?,
            }
        };
        self.buffer.extend_from_slice(self.chunk.get(..read).unwrap_or_default());
        Ok(read > 0)
    }

    /// The next few characters of the line.
    fn excerpt(&mut self) -> Result<String, Stopped<E>> {
        while self.buffer.len() - self.at < EXCERPT && self.fill()? {}
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
        let start = line.get(..line.len().min(EXCERPT)).unwrap_or_default();
        Ok(String::from_utf8_lossy(start).escape_debug().collect())
    }

    fn broken(&mut self, problem: String) -> Result<(), Stopped<E>> {
        self.tell(self.here(), problem)
    }

    fn tell(&mut self, place: Place, problem: String) -> Result<(), Stopped<E>> {
        (self.visit)(Piece::Broken { place, problem }).map_err(Stopped::Visitor)
    }
}

const fn done(kept: bool) -> Scan {
    if kept { Scan::Whole } else { Scan::TooLong }
}

#[derive(Clone, Copy)]
enum Kind {
    Other,
    Quote,
    Open,
    Close,
    /// White space and commas, which end a number or word.
    Between,
}

#[expect(
    clippy::indexing_slicing,
    reason = "a table of 256 entries is indexed by bytes, when it is compiled"
)]
static KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    kinds[b'"' as usize] = Kind::Quote;
    kinds[b'{' as usize] = Kind::Open;
    kinds[b'[' as usize] = Kind::Open;
    kinds[b'}' as usize] = Kind::Close;
    kinds[b']' as usize] = Kind::Close;
    kinds[b',' as usize] = Kind::Between;
    kinds[b' ' as usize] = Kind::Between;
    kinds[b'\t' as usize] = Kind::Between;
    kinds[b'\r' as usize] = Kind::Between;
    kinds[b'\n' as usize] = Kind::Between;
    kinds
};

impl Place {
    /// The place after this text, which begins here.
    pub(crate) fn after(self, text: &[u8]) -> Self {
        let lines = memchr_iter(b'\n', text).count();
        let last = memchr::memrchr(b'\n', text).map_or(text, |end| text.get(end + 1..).unwrap_or_default());
        // Columns are counted in characters, as editors do.
        let columns = last.iter().filter(|b| **b & 0xC0 != 0x80).count();
        let from = if lines == 0 { self.column } else { 1 };
        Self { line: self.line + lines as u64, column: from + columns as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Gives a few bytes at a time, so that every place is once the end of what has been read.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn pieces(text: &[u8], at_a_time: usize) -> Vec<String> {
        let mut all = Vec::new();
        split::<_, ()>(Drip(text, at_a_time), &mut |piece| {
            all.push(match piece {
                Piece::Element(e) => format!("{} {}", e.place, String::from_utf8_lossy(e.bytes)),
                Piece::Broken { place, problem } => format!("{place} ! {problem}"),
            });
            Ok(())
        })
        .unwrap();
        all
    }

    fn problems(text: &str) -> usize {
        pieces(text.as_bytes(), 9).iter().filter(|p| p.contains(" ! ")).count()
    }

    #[test]
    fn elements_come_with_their_places() {
        let text = "\n[ {\"a\": \"]}\\\"\"} ,\n 12, \"ü\", [[]]]\n{\"x\": {}, \"VALUE\" : [ {} ], \"y\": 1}";
        assert_eq!(
            pieces(text.as_bytes(), 1000),
            ["2:3 {\"a\": \"]}\\\"\"}", "3:2 12", "3:6 \"ü\"", "3:11 [[]]", "4:23 {}"]
        );
        assert_eq!(
            pieces(b"{\"properties\": {\"value\": [1]}}", 1000),
            ["1:1 {\"properties\": {\"value\": [1]}}"]
        );
    }

    #[test]
    fn it_does_not_matter_where_reads_end() {
        let texts: [&[u8]; 8] = [
            b"\n[ {\"a\": \"]}\\\"\"} ,\n 12, \"x\", [[]]]\n{\"x\": {}, \"value\" : [ {} ], \"y\": 1}",
            b"\xEF\xBB\xBF{\"count\": 1, \"data\": [{\"id\": \"a\"}], \"skip_token\": \"more\"}",
            b"{\"id\": 1}\n{\"id\": {\"x\": [1\n{\"id\": 2}\n{\"id\": \"x\n{\"id\": 3}",
            b"[1 2,,3,]",
            b"[{]}",
            b"nonsense\n[1]",
            b"{\"a\" 1}",
            b"\xFF\xFE[\x00",
        ];
        for text in texts {
            let whole = pieces(text, 1 << 20);
            for at_a_time in 1..12 {
                assert_eq!(pieces(text, at_a_time), whole, "{}", String::from_utf8_lossy(text));
            }
        }
    }

    #[test]
    fn the_last_page_must_be_there() {
        assert_eq!(problems("{\"value\": [], \"nextLink\": \"https://x\"}"), 1);
        assert_eq!(problems("{\"nextLink\": \"https://x\", \"value\": []}"), 1);
        assert_eq!(
            problems("{\"data\": [], \"skip_token\": \"t\"}\n{\"data\": [], \"skip_token\": null}"),
            0
        );
        assert_eq!(problems("{\"value\": [], \"nextLink\": \"\"}"), 0);
    }

    #[test]
    fn damaged_text_ends_and_whole_text_is_split_as_it_is_parsed() {
        let list: Vec<Value> = (0..6)
            .map(|i| serde_json::json!({ "n": i, "t": "a\"]}\\", "l": [1.5e3, null, { "d": [true] }], "ü": "\n" }))
            .collect();
        let pretty = format!("{:#}", Value::Array(list.clone()));
        let parsed: Vec<Value> = {
            let mut all = Vec::new();
            split::<_, ()>(pretty.as_bytes(), &mut |piece| {
                if let Piece::Element(element) = piece {
                    all.push(serde_json::from_slice(element.bytes).unwrap());
                }
                Ok(())
            })
            .unwrap();
            all
        };
        assert_eq!(parsed, list);
        // xorshift, so that a failure repeats.
        let mut seed = 20_261_124_u64;
        let mut random = |limit: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % limit as u64).unwrap()
        };
        for _ in 0..3_000 {
            let mut text = pretty.clone().into_bytes();
            for _ in 0..=random(4) {
                let at = random(text.len());
                match random(3) {
                    0 => text[at] = b"{}[]\",:\\\n\0 x"[random(12)],
                    1 => text.truncate(at.max(1)),
                    _ => text.insert(at, b"{}[]\",:\\\n\0 x"[random(12)]),
                }
            }
            let whole = pieces(&text, 1 << 20);
            assert_eq!(pieces(&text, 1 + random(5)), whole, "{}", String::from_utf8_lossy(&text));
        }
    }
}
