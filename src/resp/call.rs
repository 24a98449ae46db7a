//! Identifies the command that a connection called.

/// A command that was called: its index in the table, and that of its subcommand.
#[derive(Clone, Copy)]
pub(super) struct Call {
    command: u32,
    /// The subcommand's index plus 1; 0 for none.
    subcommand: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "the table is small")]
impl Call {
    /// No command yet: an index beyond any table.
    pub(super) const NONE: Call = Call { command: u32::MAX, subcommand: 0 };

    pub(super) fn of(command: usize) -> Call {
        Call { command: command as u32, subcommand: 0 }
    }

    pub(super) fn with_subcommand(self, subcommand: usize) -> Call {
        Call { subcommand: subcommand as u32 + 1, ..self }
    }

    /// The command's index in the table.
    pub(super) fn command(self) -> usize {
        self.command as usize
    }

    /// The subcommand's index among those of the command.
    pub(super) fn subcommand(self) -> Option<usize> {
        (self.subcommand as usize).checked_sub(1)
    }

    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.command) << 32 | u64::from(self.subcommand)
    }

    pub(super) fn from_bits(bits: u64) -> Call {
        Call { command: (bits >> 32) as u32, subcommand: bits as u32 }
    }
}
