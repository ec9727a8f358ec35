//! What exactly once rests on, piece by piece. A test takes each piece away and sees that the simulation notices.

/// A piece of the protocol without which rows are lost, doubled or out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safeguard {
    /// A job's transactional ids are always the same, so that a newer run ends what an older one does.
    Fencing,
    /// The progress record is in the transaction that it tells of.
    ProgressInside,
    /// What a sink was given up to the end of a checkpoint's epoch is in that checkpoint's interval, and nothing else.
    AlignedSnapshots,
    /// A view's checkpoint is chosen before those of its readers.
    ViewsFirst,
    /// An interval's first record is sent when all of the interval before are acknowledged.
    FlushedBefore,
    /// Progress is read to the partition's end as it is, committed or not.
    UncommittedEnd,
}

impl Safeguard {
    /// Whether it is in place: always, but for a test that says otherwise.
    #[cfg(not(test))]
    #[inline]
    pub(crate) const fn holds(self) -> bool {
        true
    }

    /// Whether it is in place: the environment of a test says which one is not.
    #[cfg(test)]
    pub(crate) fn holds(self) -> bool {
        static REMOVED: std::sync::OnceLock<Option<Safeguard>> = std::sync::OnceLock::new();
        let removed = REMOVED.get_or_init(|| {
            let name = std::env::var(Self::REMOVED).ok()?;
            Some(Self::ALL.into_iter().find(|safeguard| format!("{safeguard:?}") == name).expect("a safeguard's name"))
        });
        *removed != Some(self)
    }

    /// The variable that names the piece that a process runs without.
    #[cfg(test)]
    pub(crate) const REMOVED: &str = "RONDEL_SIMULATE_WITHOUT";

    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [
        Self::Fencing,
        Self::ProgressInside,
        Self::AlignedSnapshots,
        Self::ViewsFirst,
        Self::FlushedBefore,
        Self::UncommittedEnd,
    ];
}
