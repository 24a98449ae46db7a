use std::collections::BTreeSet;

use proptest::prelude::*;

use super::patterns::{Pattern, Patterns};
use super::*;
use crate::config::Secret;
use crate::random_cases::random_cases;

const SHA256_OF_PASS: &str = "d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1";

/// A few commands of a server.
fn catalog() -> Catalog {
    let names = vec!["auth", "get", "set", "flushall", "config", "config|get", "config|set", "info"];
    let of = |wanted: &[&str]| {
        names.iter().enumerate().filter(|(_, name)| wanted.contains(name)).map(|(n, _)| n).collect()
    };
    let categories = vec![
        ("read", of(&["get"])),
        ("write", of(&["set", "flushall"])),
        ("admin", of(&["flushall", "config|get", "config|set"])),
        ("dangerous", of(&["flushall", "config|get", "config|set", "info"])),
    ];
    let guarded = of(&["flushall", "config|get", "config|set"]);
    Catalog { names, categories, guarded, is_foreign: |name| name == "hset" }
}

fn parse(text: &str) -> Result<AclFile, AclError> {
    AclFile::parse(text.as_bytes(), &catalog(), None)
}

fn user(rules: &str) -> User {
    let file = parse(&format!("user alice {rules}")).unwrap();
    User::clone(file.user(b"alice").unwrap())
}

fn refused(rules: &str) -> Problem {
    parse(&format!("# comment\n\nuser alice {rules}"))
        .map_err(|error| {
            assert_eq!(error.line, 3);
            error.problem
        })
        .unwrap_err()
}

fn may_run(rules: &str) -> Vec<&'static str> {
    let (catalog, user) = (catalog(), user(rules));
    catalog.names.iter().enumerate().filter(|(n, _)| user.rights.may_run(*n)).map(|(_, name)| *name).collect()
}

const READS: KeyUse = KeyUse { reads: true, writes: false };
const WRITES: KeyUse = KeyUse { reads: false, writes: true };
const BOTH: KeyUse = KeyUse { reads: true, writes: true };
const TOUCHES: KeyUse = KeyUse { reads: false, writes: false };

#[test]
fn a_user_without_rules_is_off_and_may_do_nothing() {
    let user = user("");
    assert_eq!(user.line(), "user alice off resetchannels -@all");
    assert!(!user.rights.may_use(b"k", TOUCHES) && !user.rights.may_use_channel(b"c"));
    assert!(!user.rights.have_commands() && !user.is_open());
}

#[test]
fn rules_about_commands_apply_in_their_order() {
    assert_eq!(may_run("+@all -@dangerous +info"), ["auth", "get", "set", "config", "info"]);
    assert_eq!(may_run("+config|get"), ["config|get"]);
    assert_eq!(may_run("+config -config|set"), ["config", "config|get"]);
    assert_eq!(may_run("+get nocommands +SET"), ["set"]);
    assert_eq!(may_run("+get reset +@Read -hset"), ["get"]);
}

#[test]
fn a_category_adds_no_dangerous_command_unless_it_says_so_and_removes_all_of_its_commands() {
    assert_eq!(may_run("+@write"), ["set"]);
    assert_eq!(may_run("+@admin"), ["flushall", "config|get", "config|set"]);
    assert_eq!(may_run("+@write +flushall"), ["set", "flushall"]);
    assert!(!may_run("+@all -@write").contains(&"flushall"));
}

#[test]
fn keys_are_allowed_by_use_and_one_pattern_must_allow_all_of_it() {
    let rights = user("~app:* %R~app2:* %W~out %R~both:* %W~both:*").rights;
    for use_ in [TOUCHES, READS, WRITES, BOTH] {
        assert!(rights.may_use(b"app:", use_) && rights.may_use(b"app:1", use_));
        assert!(!rights.may_use(b"app", use_) && !rights.may_use(b"App:1", use_));
    }
    assert!(rights.may_use(b"app2:x", READS) && !rights.may_use(b"app2:x", WRITES));
    assert!(
        rights.may_use(b"out", WRITES) && !rights.may_use(b"out", READS) && rights.may_use(b"out", TOUCHES)
    );
    assert!(!rights.may_use(b"outer", WRITES));
    assert!(
        rights.may_use(b"both:", READS)
            && rights.may_use(b"both:", WRITES)
            && !rights.may_use(b"both:", BOTH)
    );
    assert!(
        rights.may_read_all_under(b"app:x")
            && rights.may_read_all_under(b"app2:")
            && !rights.may_read_all_under(b"app")
    );
    assert!(!rights.may_read_all_under(b"out"));
}

#[test]
fn a_client_subscribes_to_its_own_patterns_and_uses_the_channels_they_match() {
    let rights = user("&news:* &alerts").rights;
    assert!(
        rights.may_use_channel(b"news:1")
            && rights.may_use_channel(b"alerts")
            && !rights.may_use_channel(b"alert")
    );
    assert!(rights.may_use_channel_pattern(b"news:*") && !rights.may_use_channel_pattern(b"news:a*"));
    assert!(user("allchannels").rights.may_use_channel_pattern(b"*"));
}

#[test]
fn only_a_user_without_limits_needs_no_checks() {
    assert!(user("~* &* +@all").rights.are_unlimited());
    for limited in ["~* &* +@all -get", "~a &* +@all", "~* &a +@all", "%R~* &* +@all"] {
        assert!(!user(limited).rights.are_unlimited(), "{limited}");
    }
    assert!(user("%RW~* &* +@all").rights.are_unlimited());
}

#[test]
fn passwords_match_by_any_of_their_hashes() {
    let argon2 = hash_password(b"other", [7; 16]).unwrap();
    let user = user(&format!("on #{SHA256_OF_PASS} {argon2}"));
    let matches = |password: &[u8]| user.passwords.iter().any(|hash| hash.matches(password));
    assert!(matches(b"pass") && matches(b"other") && !matches(b"") && !matches(b"Pass"));
    assert!(!Password::decoy().matches(b""));
    assert_eq!(user.line(), format!("user alice on #{SHA256_OF_PASS} {argon2} resetchannels -@all"));
    assert_eq!(format!("{:?}", user.passwords[0]), "Password(hidden)");
    assert!(self::user(&format!("#{SHA256_OF_PASS} nopass")).passwords.is_empty());
    assert!(!self::user(&format!("nopass #{SHA256_OF_PASS}")).needs_no_password);
}

#[test]
fn what_is_not_supported_is_refused_with_its_line_and_never_repeats_a_password() {
    let costly = |params: &str| {
        format!("$argon2id$v=19${params}$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    };
    for (rules, problem) in [
        (">canary", Problem::PlainPassword),
        ("<canary", Problem::PlainPassword),
        ("!canary", Problem::RemovedHash),
        ("canary", Problem::UnknownRule(1)),
        ("on canary", Problem::UnknownRule(2)),
        ("#canary", Problem::Sha256),
        (&format!("#{}", "g".repeat(64)), Problem::Sha256),
        ("$canary", Problem::Argon2),
        ("$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA", Problem::Argon2),
        ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0", Problem::Argon2),
        (&costly("m=65537,t=2,p=1"), Problem::Argon2Cost),
        (&costly("m=19456,t=11,p=1"), Problem::Argon2Cost),
        (&costly("m=19456,t=2,p=5"), Problem::Argon2Cost),
        ("(~a +get)", Problem::Selector),
        ("~a*b", Problem::Glob("~a*b".into())),
        ("~a?", Problem::Glob("~a?".into())),
        ("&[ab]", Problem::Glob("&[ab]".into())),
        ("~* ~a", Problem::UselessPattern("~a".into())),
        ("%X~a", Problem::Permission("%X~a".into())),
        ("%R", Problem::Permission("%R".into())),
        ("+nosuch", Problem::UnknownCommand("+nosuch".into())),
        ("+config|nosuch", Problem::UnknownCommand("+config|nosuch".into())),
        ("-@nosuch", Problem::UnknownCategory("-@nosuch".into())),
    ] {
        assert_eq!(refused(rules), problem, "{rules}");
        assert!(!problem.to_string().contains("canary"), "{problem}");
    }
    assert!(parse("usr alice on").unwrap_err().to_string().starts_with("line 1: "));
    assert_eq!(parse("user a\nuser a").unwrap_err().problem, Problem::Duplicate("a".into()));
    assert_eq!(AclFile::parse(b"user a\nuser \xff", &catalog(), None).unwrap_err().line, 2);
}

#[test]
fn everything_is_bounded() {
    let many = |n: usize, rule: fn(usize) -> String| (0..n).map(rule).collect::<Vec<_>>().join(" ");
    assert_eq!(refused(&many(257, |n| format!("~{n}"))), Problem::TooManyPatterns);
    assert_eq!(refused(&many(17, |n| format!("#{n:064x}"))), Problem::TooManyPasswords);
    assert_eq!(refused(&many(1025, |_| "on".into())), Problem::TooManyRules);
    assert_eq!(refused(&format!("~{}", "x".repeat(1025))), Problem::PatternTooLong);
    assert_eq!(parse(&"#".repeat(MAX_FILE + 1)).unwrap_err().problem, Problem::FileTooLong);
    let users: String = (0..4097).map(|n| format!("user {n}\n")).collect();
    assert_eq!(parse(&users).unwrap_err().problem, Problem::TooManyUsers);
}

#[test]
fn the_default_user_is_powerless_unless_the_file_or_a_password_says_otherwise() {
    let secret = Secret::new(*b"secret").unwrap();
    assert_eq!(parse("user alice on").unwrap().default_user().line(), "user default off resetchannels -@all");
    assert!(parse("user default on nopass +@read").unwrap().default_user().is_open());
    let file = AclFile::parse(b"user alice on", &catalog(), Some(&secret)).unwrap();
    assert_eq!(file.default_user().line(), "user default on ~* &* +@all");
    assert!(file.default_user().passwords[0].matches(b"secret"));
    let twice = AclFile::parse(b"user default on", &catalog(), Some(&secret));
    assert_eq!(twice.unwrap_err().problem, Problem::DefaultTwice);
    assert_eq!(AclFile::of_default(None).default_user().line(), "user default on nopass ~* &* +@all");
}

/// Rules as people write them, right and wrong.
fn rule() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "ab", "abc", "b", "", "ü"]);
    let fixed = prop::sample::select(vec![
        "on",
        "off",
        "nopass",
        "resetpass",
        "allkeys",
        "resetkeys",
        "allchannels",
        "resetchannels",
        "reset",
        "+@all",
        "-@all",
        "+@write",
        "-@write",
        "-@dangerous",
        "+get",
        "-set",
        "+config|get",
        "+hset",
        "nocommands",
    ]);
    prop_oneof![
        4 => fixed.prop_map(str::to_owned),
        4 => ("(~|%R~|%W~|%RW~|&)", name, "\\*?").prop_map(|(kind, name, star)| format!("{kind}{name}{star}")),
        1 => "#[0-9a-f]{64}",
    ]
}

proptest! {
    #![proptest_config(random_cases(2_000))]

    #[test]
    fn patterns_match_as_if_each_were_tried(
        patterns in prop::collection::vec("[ab]{0,4}\\*?", 0..8),
        names in prop::collection::vec("[ab]{0,6}", 1..20),
    ) {
        let set: Patterns = patterns.iter().filter_map(|pattern| Pattern::parse(pattern)).collect();
        for name in &names {
            let matches = patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            });
            prop_assert_eq!(set.matches(name.as_bytes()), matches, "{:?} {}", patterns, name);
            let covers = patterns.iter().filter_map(|pattern| pattern.strip_suffix('*')).any(|prefix| name.starts_with(prefix));
            prop_assert_eq!(set.match_all_under(name.as_bytes()), covers);
        }
    }

    #[test]
    fn a_user_reads_its_own_line_back(rules in prop::collection::vec(rule(), 0..12)) {
        if let Ok(file) = parse(&format!("user alice {}", rules.join(" "))) {
            let user = file.user(b"alice").unwrap();
            let again = parse(&user.line()).unwrap_or_else(|error| panic!("{}: {error}", user.line()));
            prop_assert_eq!(again.user(b"alice").unwrap(), user);
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), rules in "(user [ab] )?[ -~]{0,40}") {
        let _ = AclFile::parse(&bytes, &catalog(), None);
        let _ = parse(&rules);
    }
}

#[test]
fn sets_of_commands_hold_what_was_inserted() {
    let numbers = [0, 63, 64, 200, CommandSet::CAPACITY - 1];
    let set: CommandSet = numbers.into_iter().collect();
    let held: BTreeSet<usize> = (0..1000).filter(|number| set.has(*number)).collect();
    assert_eq!(held, numbers.into_iter().collect());
}
