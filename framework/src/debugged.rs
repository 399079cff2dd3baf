//! What a guest under a debugger has to stop at, and whether it has: the state behind [`debug`](crate::debug).

/// What has become of the last trap that was intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// There is none.
    None,
    /// The launcher must get to know of it.
    Reportable(u8),
    /// It has.
    Reported(u8),
    /// It is the guest's own.
    PassedOn(u8),
}

/// What a debugger has asked for, and where the guest stands.
#[derive(Debug)]
pub(crate) struct Debugged {
    /// A bit for each vector that is intercepted.
    pub(crate) vectors: u32,
    pub(crate) stop: Stop,
}

impl Debugged {
    /// No debugger is there.
    pub(crate) const fn not() -> Self {
        Self { vectors: 0, stop: Stop::None }
    }

    /// A trap has come; returns whether it stops the guest.
    pub(crate) const fn stops_at(&mut self, vector: u8) -> bool {
        let intercepted = vector < 32 && self.vectors & (1 << vector) != 0;
        if intercepted {
            self.stop = Stop::Reportable(vector);
        }
        intercepted
    }
}
