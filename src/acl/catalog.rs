//! The commands that rules can name.

/// Words of a [`CommandSet`].
const WORDS: usize = 6;

/// A set of commands and subcommands, by their numbers in the [`Catalog`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandSet([u64; WORDS]);

impl CommandSet {
    /// The most commands and subcommands of a catalog.
    #[cfg(test)]
    pub(crate) const CAPACITY: usize = WORDS * 64;

    /// Whether the command with this number is in the set.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Adds the command with this number.
    ///
    /// # Panics
    /// If the number is not below [`CAPACITY`](Self::CAPACITY): a catalog never has so many commands.
    pub(crate) fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    pub(crate) fn add(&mut self, other: &CommandSet) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    pub(crate) fn remove(&mut self, other: &CommandSet) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
    }

    /// Whether every command of `other` is in this set.
    pub(crate) fn includes(&self, other: &CommandSet) -> bool {
        self.0.iter().zip(other.0).all(|(word, other)| other & !word == 0)
    }
}

impl FromIterator<usize> for CommandSet {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut set = CommandSet::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

/// The commands of a server, for rules that name them.
pub(crate) struct Catalog {
    /// The names in lower case; that of a subcommand is `parent|child`. The index is the command's number.
    pub(crate) names: Vec<&'static str>,
    pub(crate) categories: Vec<(&'static str, CommandSet)>,
    /// Commands that only `@all`, `@admin` and `@dangerous` add, not the other categories that they are in.
    pub(crate) guarded: CommandSet,
    /// Whether Redis has a command or subcommand of this name that this server does not execute. Rules may name it,
    /// without effect.
    pub(crate) is_foreign: fn(&str) -> bool,
}

impl Catalog {
    /// All commands.
    pub(crate) fn all(&self) -> CommandSet {
        (0..self.names.len()).collect()
    }

    /// The commands of a category, `all` included.
    pub(crate) fn category(&self, name: &str) -> Option<CommandSet> {
        if name == "all" {
            return Some(self.all());
        }
        self.categories.iter().find(|(category, _)| *category == name).map(|(_, set)| *set)
    }

    /// The command of this name with its subcommands, or the subcommand if the name is `parent|child`.
    pub(crate) fn command(&self, name: &str) -> Option<CommandSet> {
        let is_part = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('|'));
        let numbers = self.names.iter().enumerate();
        let set: CommandSet = numbers
            .filter(|(_, other)| **other == name || is_part(other))
            .map(|(number, _)| number)
            .collect();
        (set != CommandSet::default()).then_some(set)
    }
}
