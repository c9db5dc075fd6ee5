//! Deliberately broken variants, each of which an invariant has to catch.
//!
//! Each breaks what a port does, so that the use cases behave as if the thing that it is named after were missing.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// The sweep sees no due row.
    HiddenDueRows,
    /// Due rows are written five seconds after what they guard, if their writer still lives then.
    LateDueRows,
    /// Due rows are never removed.
    KeptDueRows,
    /// A second look is not noted.
    NoSecondLook,
    /// A policy that was turned off is gone as soon as the point was seen without it.
    NoSecondLookAfterOff,
    /// There are no leases: each looks free, and every change of one is taken. That it looks free alone does no harm:
    /// whoever writes more than a second after it took the lease renews it, which names the version that it took.
    NoLeases,
    /// A holder goes on although its lease was taken over.
    UncheckedLeases,
    /// The store takes every write, whatever version it names.
    IgnoredEtags,
    /// Whole NSGs are written without `If-Match`, from whatever was read.
    NoIfMatch,
    /// A rule that changes is removed before it is written anew: narrowed before it is added to.
    NarrowFirst,
    /// The clock is read once in ten minutes.
    SlowClock,
    /// Allow rules are never removed, and said to be.
    KeptAllows,
    /// Denies are never written, and said to be.
    NoDenies,
    /// A revocation's new end, and an extension's, is not stored with the grant.
    LostRevocations,
    /// What Azure tells of changes is not listened to.
    IgnoredEvents,
    /// The blob always has the generation that the tables have, so that old tables look like the present.
    IgnoredGeneration,
    /// The generation is raised in the blob five seconds before it is in the tables, if its writer still lives then.
    BlobFirst,
}

impl Mutant {
    /// Every broken variant.
    pub const ALL: [Mutant; 17] = [
        Mutant::HiddenDueRows,
        Mutant::LateDueRows,
        Mutant::KeptDueRows,
        Mutant::NoSecondLook,
        Mutant::NoSecondLookAfterOff,
        Mutant::NoLeases,
        Mutant::UncheckedLeases,
        Mutant::IgnoredEtags,
        Mutant::NoIfMatch,
        Mutant::NarrowFirst,
        Mutant::SlowClock,
        Mutant::KeptAllows,
        Mutant::NoDenies,
        Mutant::LostRevocations,
        Mutant::IgnoredEvents,
        Mutant::IgnoredGeneration,
        Mutant::BlobFirst,
    ];
}
