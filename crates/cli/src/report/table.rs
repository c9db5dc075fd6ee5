//! For people: what is exposed, then the counts.

use std::io::{self, Write};

use ajar_network::assessment::Internet;

use super::{Judged, Report, flow_text};
use crate::problems::Problems;
use crate::shown::{Paint, Sources, printable};

pub(crate) struct Table<W> {
    out: W,
    paint: Paint,
    groups: u64,
    exposed: u64,
}

impl<W: Write> Table<W> {
    pub(crate) const fn new(out: W, paint: Paint) -> Self {
        Self { out, paint, groups: 0, exposed: 0 }
    }
}

impl<W: Write> Report for Table<W> {
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn nsg(&mut self, judged: &Judged<'_>) -> io::Result<()> {
        self.groups += 1;
        if judged.exposures.is_empty() {
            return Ok(());
        }
        self.exposed += 1;
        write!(self.out, "{}", self.paint.bold(&printable(judged.title())))?;
        match &judged.id {
            Some(id) if !judged.name.is_empty() => writeln!(self.out, "  {}", printable(id))?,
            _ => writeln!(self.out)?,
        }
        for exposed in &judged.exposures {
            let reach = match exposed.internet {
                Internet::Everyone => self.paint.red("Internet"),
                Internet::Some => self.paint.yellow("some of the Internet"),
                Internet::None => "private".to_owned(),
            };
            let maybe = if exposed.certain { "" } else { "perhaps " };
            writeln!(
                self.out,
                "  {:<10} {maybe}{reach}: {}  by {}",
                flow_text(exposed.port, exposed.protocol),
                printable(&Sources::of(&exposed.sources).line()),
                printable(&exposed.rules.join(", ")),
            )?;
        }
        Ok(())
    }

    fn finish(&mut self, problems: &Problems) -> io::Result<()> {
        let groups = match self.groups {
            1 => "1 network security group".to_owned(),
            n => format!("{n} network security groups"),
        };
        let exposed = match self.exposed {
            0 => self.paint.green("none exposed"),
            n => self.paint.red(&format!("{n} exposed")),
        };
        write!(self.out, "{groups}, {exposed}")?;
        if problems.any() {
            let text = match problems.count {
                1 => "1 problem".to_owned(),
                n => format!("{n} problems"),
            };
            write!(self.out, ", {}", self.paint.yellow(&text))?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }
}
