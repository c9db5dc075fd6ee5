//! Deliberately broken variants, each of which an invariant has to catch.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// The sweep sees no due row.
    HiddenDueRows,
    /// Every lease looks free.
    FreeLeases,
    /// The store takes every write, whatever version it names.
    IgnoredEtags,
    /// Whole NSGs are written without `If-Match`, from whatever was read.
    NoIfMatch,
    /// Allow rules are never removed, and said to be.
    KeptAllows,
    /// Denies are never written, and said to be.
    NoDenies,
    /// The marker is there although the tables were emptied.
    FalseMarker,
    /// Due rows are never removed.
    KeptDueRows,
    /// A second look is not noted.
    NoSecondLook,
    /// Reads of an NSG are answered as they were a minute before.
    StaleReads,
    /// A revocation's new end is not stored with the grant.
    LostRevocations,
}

impl Mutant {
    /// Every broken variant.
    pub const ALL: [Mutant; 11] = [
        Mutant::KeptDueRows,
        Mutant::NoSecondLook,
        Mutant::StaleReads,
        Mutant::LostRevocations,
        Mutant::HiddenDueRows,
        Mutant::IgnoredEtags,
        Mutant::KeptAllows,
        Mutant::NoDenies,
        Mutant::FreeLeases,
        Mutant::NoIfMatch,
        Mutant::FalseMarker,
    ];
}
