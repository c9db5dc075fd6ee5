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
    buffer: Vec<u8>,
    /// What is before is done with.
    start: usize,
    at: usize,
    /// The place of `start`.
    place: Place,
    /// Whether the last document was on one line: then a value that a line leaves open ends with it.
    lines: bool,
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
        buffer: Vec::with_capacity(2 * CHUNK),
        start: 0,
        at: 0,
        place: Place::FIRST,
        lines: false,
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
        while let Some(byte) = self.next_token()? {
            any = true;
            let line = self.here().line;
            let intact = match byte {
                b'[' => self.list()?,
                b'{' => self.object()?,
                _ => {
                    let found = self.excerpt();
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
            let keep = !holds_list && !too_long;
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
                    let is_list =
                        [&b"\"value\""[..], b"\"data\""].iter().any(|k| key.eq_ignore_ascii_case(k));
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
                    match self.value(keep)? {
                        Scan::Whole => {}
                        Scan::TooLong => too_long = true,
                        scan => return self.show(&scan, opened),
                    }
                }
                None => {
                    self.tell(opened, "this object does not end: the input is cut off".to_owned())?;
                    return Ok(false);
                }
                Some(_) => {
                    let found = self.excerpt();
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
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let read = loop {
            match self.reader.read(self.buffer.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(filled + read.as_ref().map_or(0, |n| (*n).min(CHUNK)));
        read.map(|n| n > 0).map_err(Stopped::Unreadable)
    }

    fn excerpt(&self) -> String {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        String::from_utf8_lossy(rest.get(..rest.len().min(12)).unwrap_or_default()).escape_debug().collect()
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
