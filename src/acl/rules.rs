//! Applies rules to a user, in their order.

use super::catalog::{Catalog, CommandSet};
use super::error::Problem;
use super::password::{MAX_ARGON2_HASHES, MAX_PASSWORDS, Password};
use super::patterns::{Pattern, Patterns};
use super::rights::{KeyRights, KeyUse, Rights};
use super::user::User;

/// The most rules of a user.
pub(super) const MAX_RULES: usize = 1024;
/// The most patterns of keys of a user, and of channels.
pub(super) const MAX_PATTERNS: usize = 256;
/// The longest pattern in bytes.
pub(super) const MAX_PATTERN: usize = 1024;

/// A user being built.
pub(super) struct Rules<'c> {
    catalog: &'c Catalog,
    user: User,
}

impl<'c> Rules<'c> {
    pub(super) fn new(catalog: &'c Catalog, name: &str) -> Self {
        Rules { catalog, user: User::powerless(name) }
    }

    /// Applies all rules of a line, and returns the user.
    pub(super) fn apply_all(mut self, rules: &[&str]) -> Result<User, Problem> {
        if rules.len() > MAX_RULES {
            return Err(Problem::TooManyRules);
        }
        for (n, rule) in rules.iter().enumerate() {
            self.apply(rule, n + 1)?;
        }
        Ok(self.finish())
    }

    fn apply(&mut self, rule: &str, number: usize) -> Result<(), Problem> {
        let rights = &mut self.user.rights;
        match rule.to_ascii_lowercase().as_str() {
            "on" => self.user.is_on = true,
            "off" => self.user.is_on = false,
            "nopass" => {
                self.user.needs_no_password = true;
                self.user.passwords.clear();
            }
            "resetpass" => {
                self.user.needs_no_password = false;
                self.user.passwords.clear();
            }
            "allkeys" | "resetkeys" => {
                rights.all_keys = rule.eq_ignore_ascii_case("allkeys");
                rights.key_patterns.clear();
            }
            "allchannels" | "resetchannels" => {
                rights.all_channels = rule.eq_ignore_ascii_case("allchannels");
                rights.channel_patterns.clear();
            }
            "allcommands" => return self.command("+@all"),
            "nocommands" => return self.command("-@all"),
            "reset" => self.user = User::powerless(&self.user.name),
            // Redis writes these into its files. There are no selectors to clear, and payloads are always checked.
            "clearselectors" | "sanitize-payload" | "skip-sanitize-payload" => {}
            _ => return self.apply_prefixed(rule, number),
        }
        Ok(())
    }

    fn apply_prefixed(&mut self, rule: &str, number: usize) -> Result<(), Problem> {
        match rule.as_bytes().first() {
            Some(b'#') => self.password(Password::sha256(&rule[1..])?),
            Some(b'$') => self.password(Password::argon2(rule)?),
            Some(b'>' | b'<') => Err(Problem::PlainPassword),
            Some(b'!') => Err(Problem::RemovedHash),
            Some(b'(') => Err(Problem::Selector),
            Some(b'~' | b'%') => self.keys(rule),
            Some(b'&') => self.channels(rule),
            Some(b'+' | b'-') => self.command(&rule.to_ascii_lowercase()),
            _ => Err(Problem::UnknownRule(number)),
        }
    }

    fn password(&mut self, password: Password) -> Result<(), Problem> {
        let passwords = &mut self.user.passwords;
        self.user.needs_no_password = false;
        if !passwords.contains(&password) {
            passwords.push(password);
        }
        let slow = passwords.iter().filter(|password| password.is_slow()).count();
        if passwords.len() > MAX_PASSWORDS || slow > MAX_ARGON2_HASHES {
            return Err(Problem::TooManyPasswords);
        }
        Ok(())
    }

    fn keys(&mut self, rule: &str) -> Result<(), Problem> {
        let (key_use, pattern) = key_pattern(rule).ok_or_else(|| Problem::Permission(shown(rule)))?;
        check_pattern(rule, pattern)?;
        let rights = &mut self.user.rights;
        if rights.all_keys {
            return Err(Problem::UselessPattern(shown(rule)));
        }
        if pattern == "*" && key_use == (KeyUse { reads: true, writes: true }) {
            rights.all_keys = true;
            rights.key_patterns.clear();
            return Ok(());
        }
        let rule = match (key_use.reads, key_use.writes) {
            (true, true) => format!("~{pattern}"),
            (true, false) => format!("%R~{pattern}"),
            _ => format!("%W~{pattern}"),
        };
        add(&mut rights.key_patterns, rule)
    }

    fn channels(&mut self, rule: &str) -> Result<(), Problem> {
        let pattern = &rule[1..];
        check_pattern(rule, pattern)?;
        let rights = &mut self.user.rights;
        if rights.all_channels {
            return Err(Problem::UselessPattern(shown(rule)));
        }
        if pattern == "*" {
            rights.all_channels = true;
            rights.channel_patterns.clear();
            return Ok(());
        }
        add(&mut rights.channel_patterns, pattern.to_owned())
    }

    /// Applies `+` or `-` and a command, a subcommand or a category, in lower case.
    fn command(&mut self, rule: &str) -> Result<(), Problem> {
        let (adds, name) = (rule.starts_with('+'), &rule[1..]);
        let mut set = match name.strip_prefix('@') {
            Some(category) => {
                self.catalog.category(category).ok_or_else(|| Problem::UnknownCategory(shown(rule)))?
            }
            None => match self.catalog.command(name) {
                Some(set) => set,
                None if (self.catalog.is_foreign)(name) => CommandSet::default(),
                None => return Err(Problem::UnknownCommand(shown(rule))),
            },
        };
        if name.starts_with('@') && !["@all", "@admin", "@dangerous"].contains(&name) && adds {
            set.remove(&self.catalog.guarded);
        }
        let commands = &mut self.user.rights.commands;
        if adds {
            commands.add(&set);
        } else {
            commands.remove(&set);
        }
        if name == "@all" {
            self.user.command_rules.clear();
        }
        if rule != "-@all" {
            self.user.command_rules.push(rule.into());
        }
        Ok(())
    }

    fn finish(self) -> User {
        let Rules { catalog, mut user } = self;
        let rights = &mut user.rights;
        rights.all_commands = rights.commands.includes(&catalog.all());
        rights.keys = KeyRights::of(rights);
        rights.channels =
            rights.channel_patterns.iter().filter_map(|pattern| Pattern::parse(pattern)).collect();
        user
    }
}

impl KeyRights {
    fn of(rights: &Rights) -> Self {
        let patterns = |needed: KeyUse| -> Patterns {
            let all = rights.key_patterns.iter().filter_map(|rule| key_pattern(rule));
            let fitting = all.filter(|(allowed, _)| {
                (allowed.reads || !needed.reads) && (allowed.writes || !needed.writes)
            });
            fitting.filter_map(|(_, pattern)| Pattern::parse(pattern)).collect()
        };
        KeyRights {
            any: patterns(KeyUse { reads: false, writes: false }),
            read: patterns(KeyUse { reads: true, writes: false }),
            write: patterns(KeyUse { reads: false, writes: true }),
            both: patterns(KeyUse { reads: true, writes: true }),
        }
    }
}

/// The use and the pattern of a rule about keys: `~`, `%R~`, `%W~`, `%RW~`.
fn key_pattern(rule: &str) -> Option<(KeyUse, &str)> {
    let (permissions, pattern) = rule.split_once('~')?;
    let permissions = match permissions {
        "" => "RW",
        other => other.strip_prefix('%')?,
    };
    let mut key_use = KeyUse::default();
    for permission in permissions.chars() {
        match permission.to_ascii_uppercase() {
            'R' => key_use.reads = true,
            'W' => key_use.writes = true,
            _ => return None,
        }
    }
    (key_use != KeyUse::default()).then_some((key_use, pattern))
}

fn check_pattern(rule: &str, pattern: &str) -> Result<(), Problem> {
    if pattern.len() > MAX_PATTERN {
        return Err(Problem::PatternTooLong);
    }
    Pattern::parse(pattern).map(|_| ()).ok_or_else(|| Problem::Glob(shown(rule)))
}

fn add(patterns: &mut Vec<Box<str>>, pattern: String) -> Result<(), Problem> {
    if !patterns.iter().any(|other| **other == *pattern) {
        patterns.push(pattern.into());
    }
    if patterns.len() > MAX_PATTERNS { Err(Problem::TooManyPatterns) } else { Ok(()) }
}

/// The beginning of a rule, for an error.
fn shown(rule: &str) -> String {
    rule.chars().take(64).collect()
}
