//! `audit`: wraps another strategy and audits its shadow tables.
//!
//! [`framework::audit`] describes what is proved. A guest whose shadow tables have a defect is killed.

use framework::audit::Audited;
use framework::fallible::boxed;
use framework::parameter::{Number, Parameter};
use framework::registry::{WRAPPERS, WrapperEntry};

static EVERY: Number = Number {
    name: "every",
    help: "operations from one audit to the next",
    default: 1,
    range: 1..=1_000_000_000,
};
static PARAMETERS: [Parameter; 1] = [Parameter::Number(&EVERY)];

#[linkme::distributed_slice(WRAPPERS)]
static AUDIT: WrapperEntry = WrapperEntry {
    name: "audit",
    help: "holds another strategy's shadow tables against the guest's",
    parameters: &PARAMETERS,
    of: "lguest",
    build: |_, values, of| Ok(boxed(Audited::new(of, values.number(&EVERY)))?),
};
