//! What is done wrong, in which method, and when.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use framework::parameter::{Number, Values, Word};

/// What can be done wrong.
pub static DOES: Word = Word {
    name: "does",
    help: "what is done wrong; `words` panics with words that panic",
    words: &["panic", "words", "nonsense", "leak", "hoard"],
};

/// After how many calls of the method.
pub static AFTER: Number =
    Number { name: "after", help: "calls of the method that go well", default: 0, range: 0..=1_000_000 };

/// One thing that is done wrong in one method.
pub struct Misdeed {
    does: &'static str,
    method: &'static str,
    left: Cell<u64>,
}

/// Words that cannot be written.
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words for it")
    }
}

impl Misdeed {
    /// The one that the values of [`DOES`], [`AFTER`] and the word of methods name.
    #[must_use]
    pub fn new(values: &Values, methods: &'static Word) -> Self {
        Self {
            does: values.word(&DOES),
            method: values.word(methods),
            left: Cell::new(values.number(&AFTER)),
        }
    }

    /// A method is called: does what is to be done wrong in it. Returns whether it is to answer nonsense.
    ///
    /// # Panics
    /// If that is what is to be done.
    pub fn commit(&self, method: &str) -> bool {
        if method != self.method {
            return false;
        }
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            return false;
        }
        match self.does {
            "panic" => panic!("rogue in {method}"),
            "words" => panic!("{Unspeakable}"),
            "leak" => {
                core::mem::forget(Box::new([0_u64; 64]));
                false
            }
            "hoard" => {
                // Until there is no more; then `Vec` panics. What it has by then stays.
                let mut all = Vec::new();
                loop {
                    all.push(Box::new([0_u8; 4000]));
                }
            }
            _ => true,
        }
    }
}
