//! That comparing a token tells nothing of its secret by the time it takes, counted in instructions
//! by callgrind: a clock would be noise, and a count is the same each time.

use std::process::Command;

use stemma_domain::value::PrincipalName;
use uuid::Uuid;

use super::*;

/// Which comparison a process of its own is to make.
const WHICH: &str = "STEMMA_TEST_COMPARED";

/// Compares a text with a token whose digest differs from that of the text in one byte.
fn compare(differs_at: Option<usize>) -> bool {
    let text = TokenText::new(TokenId::new(Uuid::from_u128(7)), [42; 32]);
    let digest = text.digest();
    let token = Token {
        id: text.id(),
        principal: PrincipalName::new("ada").unwrap(),
        role: Role::Reader,
        tenant: None,
        issued_at: Timestamp::from_micros(0),
        issued_by: "ops".to_owned(),
        expires_at: None,
        revoked_at: None,
        secret_digest: Some(match differs_at {
            Some(at) => digest.changed_at(at),
            None => digest,
        }),
    };
    // What is found out about the processor is found out once.
    assert!(!token.is(&TokenText::new(text.id(), [1; 32])));
    comparison_that_is_counted(&token, &text)
}

#[inline(never)]
fn comparison_that_is_counted(token: &Token, text: &TokenText) -> bool {
    token.is(text)
}

#[test]
fn a_digest_that_differs_anywhere_is_another() {
    let which = std::env::var(WHICH).unwrap_or_default();
    if let Ok(at) = which.parse() {
        assert!(!compare(Some(at)));
    } else {
        assert!(compare(None));
        assert!((0..32).all(|at| !compare(Some(at))));
    }
}

/// Instructions of the comparison with a digest that differs there.
fn instructions(at: usize) -> u64 {
    let this = std::env::current_exe().unwrap();
    let name = "state::timing::a_digest_that_differs_anywhere_is_another";
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*comparison_that_is_counted*")
        .arg(this)
        .args(["--exact", name, "--test-threads=1"])
        .env(WHICH, at.to_string())
        .output();
    let counted =
        counted.expect("valgrind is missing: apt-get install valgrind, or cargo xtask test");
    let told = String::from_utf8_lossy(&counted.stderr);
    assert!(counted.status.success(), "{told}");
    let count = told
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = count.unwrap_or_else(|| panic!("callgrind counted nothing:\n{told}"));
    count.trim().parse().unwrap()
}

#[test]
fn comparing_takes_as_many_instructions_wherever_a_digest_differs() {
    let [first, middle, last] = [0, 15, 31].map(instructions);
    // The secret is digested before it is compared, which takes hundreds of them.
    assert!(first > 500, "{first} instructions are no comparison");
    assert_eq!((first, first), (middle, last));
}
